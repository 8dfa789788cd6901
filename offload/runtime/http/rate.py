"""A rate that all concurrent invocations keep together, by numbers that they draw from one table.

Time is cut into windows (of a second, for ten a second or more), and a window into as many slots as requests are
allowed in it. A slot is a moment: the request of a slot is sent then, or a few milliseconds after, or never. So any
second, wherever it begins, has no more requests than a window has slots, whoever sends them. A worker draws several
numbers by one atomic `ADD`, as many as it could use lately; the numbers of one draw lie apart in the window, since one
worker sends one request after the other. What it cannot use in time lapses.

Clocks: a slot is a moment of the worker's own clock. Where two workers' clocks differ by `skew` seconds, a second can
have the requests of `1 + skew` seconds, and being late adds `LATEST`: at most `per_second * (1 + skew + LATEST) + 1`.
With Amazon Time Sync, by which Lambda's hosts keep time, skew is well below a millisecond
(docs.aws.amazon.com/AWSEC2/latest/UserGuide/set-time.html, read 2026-11-27); 10 ms of it would be one request in 100.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from threading import Lock
from typing import TYPE_CHECKING, Final

from botocore.exceptions import BotoCoreError, ClientError

from offload.runtime import aws
from offload.runtime.http.failures import RateLimited

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

# Seconds after a slot's moment in which its request may still be sent; four requests more a second at 100.
LATEST: Final = 0.03
# A window that a slow rate needs for a whole number of slots is at most so long, in seconds.
_LONGEST_WINDOW: Final = 60
# Windows are of no use once they are over; DynamoDB takes expired items away for nothing.
_KEPT_SECONDS: Final = 3600
_GOLDEN: Final = (math.sqrt(5) - 1) / 2
# When the table cannot be reached the rate is not known: what the queue tries again should not be at once.
_WAIT_WITHOUT_TABLE: Final = timedelta(seconds=5)


@dataclass(frozen=True)
class Slots:
    """How time is cut for a rate: windows of `seconds`, each with `count` slots; `stride` spreads the numbers."""

    seconds: int
    count: int
    stride: int

    @classmethod
    def of(cls, per_second: float) -> Slots:
        """The shortest windows, of whole seconds, that have a whole number of slots; else the least that is lost."""
        if per_second < 1 / _LONGEST_WINDOW:
            return cls(math.ceil(1 / per_second), 1, 1)
        best = max(
            range(1, _LONGEST_WINDOW + 1),
            # Rounded, as the division makes 2.9999999999999996 of 3: of equals the shortest.
            key=lambda seconds: (round(_whole(per_second * seconds) / (per_second * seconds), 6), -seconds),
        )
        count = _whole(per_second * best)
        return cls(best, count, _coprime(count))

    def start(self, window: int) -> float:
        """When a window begins, in seconds since the epoch."""
        return float(window * self.seconds)

    def window(self, moment: float) -> int:
        """The window that a moment is in."""
        return int(moment // self.seconds)

    def position(self, moment: float) -> int:
        """The first slot at or after a moment, in the moment's window; `count` when there is none."""
        return math.ceil((moment % self.seconds) * self.count / self.seconds)

    def moment(self, window: int, first: int, number: int) -> float | None:
        """The moment of the drawn `number` (from 0) in a window that is used from slot `first` on; None: none left."""
        usable = self.count - first
        if number >= usable:
            return None
        stride = self.stride if usable == self.count else _coprime(usable)
        return self.start(window) + (first + number * stride % usable) * self.seconds / self.count


def _whole(slots: float) -> int:
    return math.floor(slots + 1e-9)


def _coprime(count: int) -> int:
    """A step that visits every slot once, and goes far each time."""
    step = max(1, round(count * _GOLDEN))
    while math.gcd(step, count) != 1:
        step += 1
    return step


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
        self._slots = Slots.of(per_second)
        self._now = now
        self._sleep = sleep
        self._dynamodb = dynamodb
        self._own: list[float] = []
        self._full = -1
        # The window that was drawn for last, how many numbers, and how many were used since.
        self._window = -1
        self._drawn = self._used = 0
        self._lock = Lock()

    def acquire(self, within: float) -> float:
        """Waits for the moment of a request, `within` seconds at most; returns the seconds that were waited.

        Raises RateLimited, with the wait, when that moment is later, or the table cannot be reached: without it nobody
        knows what the others send.
        """
        began = self._now()
        while True:
            with self._lock:
                moment = self._next(began + within)
            left = moment - self._now()
            if left > 0:
                self._sleep(left)
            # Whoever slept too long, or was frozen between two invocations, has missed it.
            if self._now() <= moment + LATEST:
                self._used += 1
                return max(0.0, self._now() - began)

    def _next(self, latest: float) -> float:
        while True:
            self._forget()
            if self._own:
                moment = self._own[0]
                self._may_wait(moment, latest)
                return self._own.pop(0)
            window = max(self._slots.window(self._now()), self._full + 1)
            if self._slots.position(self._now()) >= self._slots.count:
                window = max(window, self._slots.window(self._now()) + 1)
            self._may_wait(self._slots.start(window), latest)
            self._own = self._draw(window)

    def _may_wait(self, moment: float, latest: float) -> None:
        wait = moment - self._now()
        if moment > latest and wait > 0:
            raise RateLimited(
                f"{self._name}: its rate is used up by other calls; the next may be made in {wait:.1f} s",
                timedelta(seconds=wait),
            )

    def _forget(self) -> None:
        oldest = self._now() - LATEST
        self._own = [moment for moment in self._own if moment >= oldest]

    def _draw(self, window: int) -> list[float]:
        """Moments in a window, by one call; none of it left is remembered."""
        wanted = self._wanted(window)
        start = self._slots.start(window)
        first = self._slots.position(self._now()) if self._now() > start else 0
        try:
            found = self._dynamodb().update_item(
                TableName=self._table,
                Key={"pk": {"S": f"rate#{self._name}#{window}"}},
                # Who is first in a window that has begun takes its slots from here on, and waits for none.
                UpdateExpression="SET #first = if_not_exists(#first, :first), #expires = :expires ADD #drawn :wanted",
                ExpressionAttributeNames={"#first": "first", "#expires": "expires", "#drawn": "drawn"},
                ExpressionAttributeValues={
                    ":first": {"N": str(first)},
                    ":expires": {"N": str(int(start) + self._slots.seconds + _KEPT_SECONDS)},
                    ":wanted": {"N": str(wanted)},
                },
                ReturnValues="ALL_NEW",
            )["Attributes"]
        except (BotoCoreError, ClientError) as error:
            raise RateLimited(
                f"{self._name}: the table of its rate cannot be reached, and without it nothing is sent: {error}",
                _WAIT_WITHOUT_TABLE,
            ) from error
        drawn, first = int(found["drawn"]["N"]), int(found["first"]["N"])
        if drawn >= self._slots.count - first:
            self._full = window
        numbers = range(drawn - wanted, drawn)
        moments = [self._slots.moment(window, first, number) for number in numbers]
        return sorted(moment for moment in moments if moment is not None)

    def _wanted(self, window: int) -> int:
        if window != self._window:
            # The first draw for a window: what was used of the last one. More would lapse, and others go without.
            wanted = self._used if window <= self._window + 1 else 1
            self._window, self._used, self._drawn = window, 0, 0
        else:
            # It was not enough: half as much again.
            wanted = self._drawn // 2
        wanted = min(max(wanted, 1), self._slots.count)
        self._drawn += wanted
        return wanted
