"""The events that the team has not been told of, an item a topic: collected, claimed for a message, and told.

    pk            the topic: `stock.low`
    open          count, first lines and time of what came since the last message was made
    sending       the same of the message that is being sent, with how many of it may have been told before
    token         whose message it is; it is there from before the request until its outcome is known
    next_at       milliseconds: nothing is sent before
    failures, bare  how often in a row it was not told; whether to leave out what events say

What comes is added in the transaction that marks its event as done, so it counts once. A message is claimed before it
is sent, so two senders never send at once; and it is taken off when Slack has said that it took it, so a crash anywhere
in between sends the group again and loses none of it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, Final, NamedTuple
from uuid import uuid4

from botocore.exceptions import ClientError

from offload.contracts.backoff import full_jitter

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

LINES: Final = 10
"""How many of a group's events are told with a line of their own."""
KEPT_CHARACTERS: Final = 500
"""How much of a line is kept."""
BETWEEN_MESSAGES: Final = 60.0
"""Seconds between two messages of a topic, at least."""
HOLD: Final = 120.0
"""Seconds for which a claim keeps others away when its outcome is never written: a call's longest and a minute."""
LONGEST_WAIT: Final = 900.0
"""Seconds until the next try, at most, unless Slack itself asks for more."""

_TRIES: Final = 5
_FIRST_PAUSE: Final = 0.04  # seconds
_LONGEST_PAUSE: Final = 0.32  # seconds
_LOST: Final = frozenset({"ConditionalCheckFailedException", "TransactionConflictException"})


class Group(NamedTuple):
    """Events of a topic that are told together: how many, the first lines, since when (milliseconds).

    `doubtful` of them may have been told before.
    """

    events: int = 0
    lines: tuple[str, ...] = ()
    since: int = 0
    doubtful: int = 0

    def plus(self, later: Group) -> Group:
        """Both together."""
        return Group(
            self.events + later.events,
            (*self.lines, *later.lines)[:LINES],
            min((each.since for each in (self, later) if each.events), default=0),
            self.doubtful + later.doubtful,
        )


class Claim(NamedTuple):
    """The right to send one message."""

    topic: str
    token: str
    group: Group
    failures: int
    bare: bool


class Groups:
    """The table. `clock` gives seconds since 1970."""

    def __init__(self, table: str, client: DynamoDBClient, *, clock: Callable[[], float] = time.time) -> None:
        self._table, self._client, self._clock = table, client, clock

    def additions(self, lines: Mapping[str, Iterable[str]]) -> list[dict[str, Any]]:
        """The actions that add events to their topics, for the transaction that marks them as done."""
        now = str(self._now())
        actions = []
        for topic, came in lines.items():
            new = [line[:KEPT_CHARACTERS] for line in came]
            # Two at once may keep a few more lines than are told.
            room = LINES - len(self._item(topic).get("open_lines", {}).get("L", ()))
            kept = [{"S": line} for line in new[: max(0, room)]]
            actions.append(
                {
                    "Update": {
                        "TableName": self._table,
                        "Key": {"pk": {"S": topic}},
                        "UpdateExpression": "SET open_lines = list_append(if_not_exists(open_lines, :none), :lines), "
                        "open_since = if_not_exists(open_since, :now) ADD open_count :count, version :one",
                        "ExpressionAttributeValues": {
                            ":none": {"L": []},
                            ":lines": {"L": kept},
                            ":now": {"N": now},
                            ":count": {"N": str(len(new))},
                            ":one": {"N": "1"},
                        },
                    }
                }
            )
        return actions

    def waiting(self, topic: str) -> Group:
        """What the team has not been told of."""
        item = self._item(topic)
        return _group(item, "sending").plus(_group(item, "open"))

    def due(self, topic: str) -> bool:
        """Whether there is something to tell now."""
        return self._due(self._item(topic))

    def claim(self, topic: str) -> Claim | None:
        """The right to tell all that waits, None when nothing does, or it is not time, or others were faster."""
        for _ in range(_TRIES):
            item = self._item(topic)
            if not self._due(item):
                return None
            before, came = _group(item, "sending"), _group(item, "open")
            if "token" in item:
                # Nobody wrote what became of that message.
                before = before._replace(doubtful=before.events)
            claim = Claim(topic, uuid4().hex, before.plus(came), _number(item, "failures"), "bare" in item)
            if self._take(claim, _number(item, "version")):
                return claim
        return None

    def told(self, claim: Claim) -> None:
        """The team has been told of the group."""
        self._end(
            claim,
            "SET next_at = :next REMOVE sending_count, sending_lines, sending_since, doubtful, #token, failures, bare",
            BETWEEN_MESSAGES,
        )

    def not_told(
        self, claim: Claim, *, again_after: float | None = None, counts: bool = True, bare: bool = False
    ) -> float:
        """The team has not been told: again later. Returns in how many seconds.

        `again_after` is the wait where it is known, `counts` False where it was no failure; the waits after failures
        double. With `bare`, the next message leaves out what events say.
        """
        wait = _wait(claim.failures) if again_after is None else max(BETWEEN_MESSAGES, again_after)
        failed = ", failures = :failures" if counts else ""
        self._end(
            claim,
            f"SET next_at = :next{failed}{', bare = :bare' if bare else ''} REMOVE #token",
            wait,
            **({":failures": {"N": str(claim.failures + 1)}} if counts else {}),
            **({":bare": {"BOOL": True}} if bare else {}),
        )
        return wait

    def unknown(self, claim: Claim) -> float:
        """The team may have been told: it is told again, with that said. Returns in how many seconds."""
        wait = _wait(claim.failures)
        # The token stays: it is what says so.
        self._end(
            claim, "SET next_at = :next, failures = :failures", wait, **{":failures": {"N": str(claim.failures + 1)}}
        )
        return wait

    # -- items

    def _due(self, item: Mapping[str, Any]) -> bool:
        there = _number(item, "open_count") + _number(item, "sending_count")
        return there > 0 and _number(item, "next_at") <= self._now()

    def _item(self, topic: str) -> Mapping[str, Any]:
        key: Any = {"pk": {"S": topic}}
        return self._client.get_item(TableName=self._table, Key=key, ConsistentRead=True).get("Item", {})

    def _take(self, claim: Claim, version: int) -> bool:
        group = claim.group
        try:
            self._client.update_item(
                TableName=self._table,
                Key={"pk": {"S": claim.topic}},
                UpdateExpression="SET sending_count = :count, sending_lines = :lines, sending_since = :since, "
                "doubtful = :doubtful, #token = :token, next_at = :next "
                "REMOVE open_count, open_lines, open_since ADD version :one",
                ConditionExpression="version = :version",
                ExpressionAttributeNames={"#token": "token"},
                ExpressionAttributeValues={
                    ":count": {"N": str(group.events)},
                    ":lines": {"L": [{"S": line} for line in group.lines]},
                    ":since": {"N": str(group.since)},
                    ":doubtful": {"N": str(group.doubtful)},
                    ":token": {"S": claim.token},
                    ":next": {"N": str(self._now(HOLD))},
                    ":version": {"N": str(version)},
                    ":one": {"N": "1"},
                },
            )
        except ClientError as error:
            if error.response["Error"]["Code"] not in _LOST:
                raise
            return False
        return True

    def _end(self, claim: Claim, change: str, wait: float, **values: Any) -> None:
        """Writes what became of a claim's message, unless another has claimed it since."""
        for attempt in range(1, _TRIES + 1):
            try:
                self._client.update_item(
                    TableName=self._table,
                    Key={"pk": {"S": claim.topic}},
                    UpdateExpression=f"{change} ADD version :one",
                    ConditionExpression="#token = :token",
                    ExpressionAttributeNames={"#token": "token"},
                    ExpressionAttributeValues={
                        ":token": {"S": claim.token},
                        ":next": {"N": str(self._now(wait))},
                        ":one": {"N": "1"},
                        **values,
                    },
                )
            except ClientError as error:
                code = error.response["Error"]["Code"]
                if code == "ConditionalCheckFailedException":
                    return
                if code not in _LOST or attempt == _TRIES:
                    raise
                time.sleep(full_jitter(attempt, base=_FIRST_PAUSE, cap=_LONGEST_PAUSE))
                continue
            return

    def _now(self, plus: float = 0.0) -> int:
        return int((self._clock() + plus) * 1000)


def _wait(failures: int) -> float:
    """Seconds after so many failures in a row before this one: a minute, doubling."""
    return min(LONGEST_WAIT, BETWEEN_MESSAGES * float(1 << min(failures, 10)))


def _number(item: Mapping[str, Any], name: str) -> int:
    return int(item[name]["N"]) if name in item else 0


def _group(item: Mapping[str, Any], kind: str) -> Group:
    lines = tuple(line["S"] for line in item.get(f"{kind}_lines", {}).get("L", ()))
    doubtful = _number(item, "doubtful") if kind == "sending" else 0
    return Group(_number(item, f"{kind}_count"), lines, _number(item, f"{kind}_since"), doubtful)
