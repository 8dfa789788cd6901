"""A rate that all concurrent invocations keep together: a token bucket in one item of a table.

The item holds the moment from which the next request is free. A request takes that moment, and moves it on by
`1 / per_second`, in one conditional update (the generic cell rate algorithm, ITU-T I.371, annex A, without a burst).
Then it waits for its moment. So any second, wherever it begins, has no more requests than the rate.

Clocks: a moment is taken and waited for by the worker's own clock. Where two workers' clocks differ by `skew` seconds,
a second can have the requests of `1 + skew` seconds, and being late adds `LATEST`: at most
`per_second * (1 + skew + LATEST) + 1`. With Amazon Time Sync, by which Lambda's hosts keep time, skew is well below a
millisecond (docs.aws.amazon.com/AWSEC2/latest/UserGuide/set-time.html, read 2026-11-27); 10 ms of it would be one
request in 100.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final

from botocore.exceptions import BotoCoreError, ClientError

from offload.runtime import aws
from offload.runtime.http.failures import RateLimited

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

# Seconds after its moment in which a request may still be sent; four requests more a second at 100.
LATEST: Final = 0.04
# When the table cannot be reached the rate is not known: what the queue tries again should not be at once.
_WAIT_WITHOUT_TABLE: Final = timedelta(seconds=5)
# The first try may guess wrong whether the bucket is in use; the next one knows. One more for what happens in between.
_TRIES: Final = 3


class Bucket:
    """The rate of one third party: `acquire` before each request."""

    def __init__(
        self,
        name: str,
        table: str,
        per_second: float,
        *,
        now: Callable[[], float] = time.time,
        sleep: Callable[[float], None] = time.sleep,
        dynamodb: Callable[[], DynamoDBClient] = aws.dynamodb,
    ) -> None:
        self._name = name
        self._table = table
        self._step = 1 / per_second
        self._now = now
        self._sleep = sleep
        self._dynamodb = dynamodb
        self._free = 0.0
        self._in_use = False

    def acquire(self, within: float) -> float:
        """Waits for the moment of a request, `within` seconds at most; returns the seconds that were waited.

        Raises RateLimited, with the wait, when that moment is later, or the table cannot be reached: without it nobody
        knows what the others send.
        """
        began = self._now()
        while True:
            moment = self._take(began + within)
            left = moment - self._now()
            if left > 0:
                self._sleep(left)
            now = self._now()
            # A worker that slept too long, or was frozen between two invocations, has missed its moment.
            if now <= moment + LATEST:
                return max(0.0, now - began)

    def _take(self, latest: float) -> float:
        """A moment that is ours: where others have taken all up to now, the next free one, else now."""
        now = self._now()
        # What was free last only grows, and is the best guess where it is later than now; else that of the last time.
        self._in_use = self._in_use or self._free >= now
        for _ in range(_TRIES):
            try:
                return self._update(now, latest)
            except ClientError as error:
                if error.response["Error"]["Code"] != "ConditionalCheckFailedException":
                    raise self._unreachable(error) from error
                item: Any = error.response.get("Item", {})
                free = self._free = float(item["free_at"]["N"]) if "free_at" in item else 0.0
                self._in_use = free >= now
                if free > max(now, latest):
                    raise self._used_up(free - now) from error
            except BotoCoreError as error:
                raise self._unreachable(error) from error
        raise self._used_up(self._step)

    def _update(self, now: float, latest: float) -> float:
        if self._in_use:
            update, condition = "SET free_at = free_at + :step", "free_at BETWEEN :now AND :latest"
            values = {":step": self._step, ":now": now, ":latest": max(now, latest)}
        else:
            update, condition = "SET free_at = :next", "attribute_not_exists(free_at) OR free_at < :now"
            values = {":next": now + self._step, ":now": now}
        answer = self._dynamodb().update_item(
            TableName=self._table,
            Key={"pk": {"S": f"rate#{self._name}"}},
            UpdateExpression=update,
            ConditionExpression=condition,
            ExpressionAttributeValues={name: {"N": repr(value)} for name, value in values.items()},
            ReturnValues="UPDATED_NEW",
            ReturnValuesOnConditionCheckFailure="ALL_OLD",
        )
        # Threads share a bucket: what they guess by may be another's, the moment may not.
        free = self._free = float(answer["Attributes"]["free_at"]["N"])
        return free - self._step

    def _used_up(self, seconds: float) -> RateLimited:
        return RateLimited(
            f"{self._name}: its rate is used up by other calls; the next may be made in {seconds:.1f} s",
            timedelta(seconds=seconds),
        )

    def _unreachable(self, error: Exception) -> RateLimited:
        return RateLimited(
            f"{self._name}: the table of its rate cannot be reached, and without it nothing is sent: {error}",
            _WAIT_WITHOUT_TABLE,
        )
