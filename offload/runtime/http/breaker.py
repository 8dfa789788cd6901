"""A circuit breaker whose state all concurrent invocations share.

Closed is no item in the table; while all is well nothing is written, and it is looked at once in a while. Failures are
counted in memory. Whoever has counted enough writes until when it is open; then one call, elected by a conditional
write, is the probe that closes it or opens it again. When the table cannot be reached, everything is let through: a
breaker must not become the outage. Why not Powertools' own: docs/adr/0016-circuit-breaker.md.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final
from uuid import uuid4

from botocore.exceptions import BotoCoreError, ClientError

from offload.runtime import aws
from offload.runtime.http.failures import CircuitOpen
from offload.runtime.log import Logger

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

# Seconds in which failures are counted, and how old what is known of the table may be.
WINDOW_SECONDS: Final = 30.0
LOOK_SECONDS: Final = 10.0
# While another's probe is out: its answer is a matter of a second or two.
_LOOK_AGAIN_SECONDS: Final = 2.0
# A probe whose function was killed is given up after this.
_PROBE_SECONDS: Final = 60.0
_KEPT_SECONDS: Final = 3600
# Of the calls in the window this share has to have failed: five of ten thousand are no outage.
_SHARE: Final = 0.5
_MOST_COUNTED: Final = 1000


@dataclass(frozen=True)
class Permit:
    """The leave to make one attempt; `probe` is the token of the one that is to find out whether it is well again."""

    probe: str | None = None


@dataclass(frozen=True)
class _Known:
    """What the table said: open until then, and the probe that is out until then (seconds since the epoch)."""

    until: float = 0.0
    probe_until: float = 0.0
    is_open: bool = False


_CLOSED: Final = _Known()


class Breaker:
    """The breaker of one third party: `enter` an attempt, then `succeeded`, `failed` or `left` with its permit."""

    def __init__(
        self,
        name: str,
        table: str,
        *,
        failures: int = 5,
        open_seconds: float = 30.0,
        now: Callable[[], float] = time.time,
        dynamodb: Callable[[], DynamoDBClient] = aws.dynamodb,
        log: Logger | None = None,
    ) -> None:
        self._name = name
        self._table = table
        self._failures = failures
        self._open_seconds = open_seconds
        self._now = now
        self._dynamodb = dynamodb
        self._log = log or Logger(service=name)
        self._ended: deque[tuple[float, bool]] = deque(maxlen=_MOST_COUNTED)
        self._known = _CLOSED
        self._look_at = 0.0

    def enter(self) -> Permit:
        """The leave for one attempt; raises CircuitOpen while there is none."""
        if self._now() >= self._look_at:
            self._look()
        known, now = self._known, self._now()
        if not known.is_open:
            return Permit()
        if now < known.until:
            raise self._refusal(known.until)
        if now < known.probe_until:
            raise self._refusal(known.probe_until)
        return self._elect(now)

    def succeeded(self, permit: Permit) -> None:
        """The third party answered; after a probe the breaker is closed."""
        self._ended.append((self._now(), True))
        if permit.probe is not None and self._end_probe(permit.probe, close=True):
            self._ended.clear()
            self._learn(_CLOSED, LOOK_SECONDS)
            self._log.info("circuit closed", third_party=self._name)

    def failed(self, permit: Permit) -> None:
        """The third party did not answer, or with a failure of its own; too often, and the breaker opens."""
        now = self._now()
        self._ended.append((now, False))
        if permit.probe is not None:
            if self._end_probe(permit.probe, close=False):
                self._learn(_Known(until=now + self._open_seconds, is_open=True), self._open_seconds)
                self._log.warning("circuit stays open", third_party=self._name, until=_shown(now + self._open_seconds))
            return
        while self._ended and self._ended[0][0] < now - WINDOW_SECONDS:
            self._ended.popleft()
        failed = sum(not well for _, well in self._ended)
        if failed >= self._failures and failed >= _SHARE * len(self._ended):
            self._open(now, failed)

    def left(self, permit: Permit) -> None:
        """The attempt came to nothing that tells of the third party: another may be the probe."""
        if permit.probe is not None and self._end_probe(permit.probe, close=None):
            self._look_at = 0.0

    def _look(self) -> None:
        try:
            known = _known_of(self._dynamodb(), self._table, self._name)
        except (BotoCoreError, ClientError) as error:
            self._fail_open(error)
            return
        self._learn(known, LOOK_SECONDS)

    def _learn(self, known: _Known, for_seconds: float) -> None:
        now = self._now()
        self._known = known
        if known.is_open and now >= known.until:
            # It is the probe's turn, or a probe's answer is awaited.
            for_seconds = min(for_seconds, _LOOK_AGAIN_SECONDS)
        elif known.is_open:
            for_seconds = min(for_seconds, known.until - now)
        self._look_at = now + for_seconds

    def _open(self, now: float, failed: int) -> None:
        until = now + self._open_seconds
        self._ended.clear()
        try:
            self._dynamodb().update_item(
                TableName=self._table,
                Key=_key_of(self._name),
                UpdateExpression="SET #until = :until, #expires = :expires",
                # Who counts the same failures as others does not open it a second time, nor over their probe.
                ConditionExpression="attribute_not_exists(pk)",
                ExpressionAttributeNames={"#until": "until", "#expires": "expires"},
                ExpressionAttributeValues={":until": _number(until), ":expires": _expiry(until)},
            )
        except self._dynamodb().exceptions.ConditionalCheckFailedException:
            self._look_at = 0.0
            return
        except (BotoCoreError, ClientError) as error:
            self._fail_open(error)
            return
        self._learn(_Known(until=until, is_open=True), self._open_seconds)
        self._log.warning("circuit opened", third_party=self._name, failures=failed, until=_shown(until))

    def _elect(self, now: float) -> Permit:
        token = uuid4().hex
        try:
            self._dynamodb().update_item(
                TableName=self._table,
                Key=_key_of(self._name),
                UpdateExpression="SET #probe = :probe, #probe_until = :probe_until, #expires = :expires",
                ConditionExpression=(
                    "attribute_exists(pk) AND #until <= :now"
                    " AND (attribute_not_exists(#probe_until) OR #probe_until <= :now)"
                ),
                ExpressionAttributeNames={
                    "#probe": "probe",
                    "#probe_until": "probe_until",
                    "#until": "until",
                    "#expires": "expires",
                },
                ExpressionAttributeValues={
                    ":probe": {"S": token},
                    ":probe_until": _number(now + _PROBE_SECONDS),
                    ":now": _number(now),
                    ":expires": _expiry(now),
                },
                ReturnValuesOnConditionCheckFailure="ALL_OLD",
            )
        except self._dynamodb().exceptions.ConditionalCheckFailedException as error:
            response: Any = error.response
            self._learn(_read(response.get("Item")), _LOOK_AGAIN_SECONDS)
            if not self._known.is_open:
                return Permit()
            raise self._refusal(max(self._known.until, self._known.probe_until)) from error
        except (BotoCoreError, ClientError) as error:
            self._fail_open(error)
            return Permit()
        self._learn(_Known(until=now, probe_until=now + _PROBE_SECONDS, is_open=True), _LOOK_AGAIN_SECONDS)
        return Permit(token)

    def _end_probe(self, token: str, *, close: bool | None) -> bool:
        """Writes what the probe found; False when it was no longer the probe, or the table cannot be reached."""
        request: dict[str, Any] = {
            "TableName": self._table,
            "Key": _key_of(self._name),
            "ConditionExpression": "#probe = :probe",
            "ExpressionAttributeNames": {"#probe": "probe"},
            "ExpressionAttributeValues": {":probe": {"S": token}},
        }
        try:
            if close:
                self._dynamodb().delete_item(**request)
                return True
            request["UpdateExpression"] = "REMOVE #probe, #probe_until"
            request["ExpressionAttributeNames"]["#probe_until"] = "probe_until"
            if close is False:
                until = self._now() + self._open_seconds
                request["UpdateExpression"] += " SET #until = :until, #expires = :expires"
                request["ExpressionAttributeNames"] |= {"#until": "until", "#expires": "expires"}
                request["ExpressionAttributeValues"] |= {":until": _number(until), ":expires": _expiry(until)}
            self._dynamodb().update_item(**request)
        except self._dynamodb().exceptions.ConditionalCheckFailedException:
            self._look_at = 0.0
            return False
        except (BotoCoreError, ClientError) as error:
            self._fail_open(error)
            return False
        return True

    def _fail_open(self, error: Exception) -> None:
        self._known = _CLOSED
        self._look_at = self._now() + LOOK_SECONDS
        self._log.warning(
            "the circuit breaker's table cannot be reached, calls are let through", third_party=self._name, error=error
        )

    def _refusal(self, until: float) -> CircuitOpen:
        moment = datetime.fromtimestamp(until, UTC)
        return CircuitOpen(
            f"{self._name} has failed too often lately; nothing is sent to it until {_shown(until)}", moment
        )


def open_until(dynamodb: DynamoDBClient, table: str, name: str) -> datetime | None:
    """Until when nothing is sent to a third party, or its probe is awaited; None while its circuit is closed."""
    known = _known_of(dynamodb, table, name)
    return datetime.fromtimestamp(max(known.until, known.probe_until), UTC) if known.is_open else None


def _known_of(dynamodb: DynamoDBClient, table: str, name: str) -> _Known:
    return _read(dynamodb.get_item(TableName=table, Key=_key_of(name)).get("Item"))


def _key_of(name: str) -> dict[str, Any]:
    return {"pk": {"S": f"breaker#{name}"}}


def _read(item: Any) -> _Known:
    if not item:
        return _CLOSED
    probe_until = item.get("probe_until")
    return _Known(float(item["until"]["N"]), float(probe_until["N"]) if probe_until else 0.0, is_open=True)


def _number(value: float) -> dict[str, Any]:
    return {"N": f"{value:.3f}"}


def _expiry(moment: float) -> dict[str, Any]:
    # An item that nobody calls for any more goes by itself; while it is called for, it is written again before.
    return {"N": str(int(moment) + _KEPT_SECONDS)}


def _shown(moment: float) -> str:
    return datetime.fromtimestamp(moment, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
