"""A rate that all concurrent invocations keep together, by numbers that they draw from one table.

Time is cut into windows (of two seconds, for most rates), and a window into as many slots as requests are
allowed in it. A slot is a moment: the request of a slot is sent then, or a few milliseconds after, or never. So any
second, wherever it begins, has no more requests than slots, of all workers together. A worker draws several
numbers by one atomic `ADD`, as many as it could use lately; the numbers of one draw lie apart in the window, since one
worker sends one request after the other. What it cannot use in time lapses.

Clocks: a slot is a moment of the worker's own clock. Where two workers' clocks differ by `skew` seconds, a second can
have the requests of `1 + skew` seconds, and being late adds `LATEST`: at most `per_second * (1 + skew + LATEST)`.
With Amazon Time Sync, by which Lambda's hosts keep time, skew is well below a millisecond
(docs.aws.amazon.com/AWSEC2/latest/UserGuide/set-time.html, read 2026-11-27); 10 ms of it would be one request in 100.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from functools import lru_cache
from threading import Lock
from typing import TYPE_CHECKING, Final

from botocore.exceptions import BotoCoreError, ClientError

from offload.runtime import aws
from offload.runtime.http.failures import RateLimited

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

# Seconds after a slot's moment in which its request may still be sent; four requests more a second at 100.
LATEST: Final = 0.04
# Between two windows a worker's slots can lie close, and one of them lapses: in windows of 1 s 6% of 100 a second did.
_SHORTEST_WINDOW: Final = 2
# A window that a slow rate needs for a whole number of slots is at most so long, in seconds.
_LONGEST_WINDOW: Final = 60
# Windows are of no use once they are over; DynamoDB takes expired items away for nothing.
_KEPT_SECONDS: Final = 3600
# Of the requests that a worker could make back to back it is given slots for this share: they lie unevenly apart, and a
# slot that it is not ready for lapses. So workers together reach the whole rate where they could make twice as many
# requests; where they can hardly make them, they reach half of it (docs/integrations.md, "The rate").
_APART: Final = 0.7
# So late in a window, or with so much of it drawn, the next one is drawn from.
_LATE_SHARE: Final = 0.9
_BUSY_SHARE: Final = 0.95
# Who has so much of a window has it alone.
_ALL_SHARE: Final = 0.9
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
            range(_SHORTEST_WINDOW, _LONGEST_WINDOW + 1),
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


@lru_cache(maxsize=256)
def _coprime(count: int) -> int:
    """A step that visits every slot once, and leaves any few in a row far apart: the nearest to the golden ratio.

    Near is not by size: 127/200 is close to it, and its 11th step comes back next to the start. The fewer large terms
    a step's continued fraction has, the wider apart are its multiples (the three-distance theorem).
    """
    return min(
        (step for step in range(1, count + 1) if math.gcd(step, count) == 1),
        key=lambda step: (max(_terms(step, count)), abs(step - count * _GOLDEN)),
    )


def _terms(step: int, count: int) -> list[int]:
    """The terms of the continued fraction of step/count."""
    terms = []
    while step:
        terms.append(count // step)
        count, step = step, count % step
    return terms


@dataclass
class _Pace:
    """How soon after one request a worker is ready for the next, by the smoothed mean and deviation (RFC 6298)."""

    mean: float | None = None
    deviation: float = 0.0

    def add(self, seconds: float, window: int) -> None:
        if seconds > window:
            # Work has ended and begun again, maybe in another invocation: what was is no measure.
            self.mean = None
        elif self.mean is None:
            self.mean, self.deviation = seconds, seconds / 4
        else:
            self.deviation += (abs(seconds - self.mean) - self.deviation) / 4
            self.mean += (seconds - self.mean) / 4

    def requests(self, window: int) -> float:
        """How many of a worker's slots in a window it would be ready for, where they lie some way apart."""
        if self.mean is None:
            return 0.0
        return _APART * window / max(self.mean + self.deviation, 1e-6)


@dataclass(frozen=True)
class _Drawn:
    """What a draw found of its window: all numbers drawn so far, of so many that are usable, from slot `first` on."""

    window: int
    count: int
    usable: int
    first: int

    @property
    def full(self) -> bool:
        return self.count >= self.usable


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
        self._drawn = _Drawn(-1, 0, 1, 0)
        self._full = -1
        self._pace = _Pace()
        self._returned: float | None = None
        # No more is drawn for a window: of a rate that others want too, what was got last time.
        self._limit = float(self._slots.count)
        self._lock = Lock()

    def acquire(self, within: float) -> float:
        """Waits for the moment of a request, `within` seconds at most; returns the seconds that were waited.

        Raises RateLimited, with the wait, when that moment is later, or the table cannot be reached: without it nobody
        knows what the others send.
        """
        began = self._now()
        with self._lock:
            if self._returned is not None:
                self._pace.add(began - self._returned, self._slots.seconds)
        while True:
            with self._lock:
                moment = self._next(began + within)
            left = moment - self._now()
            if left > 0:
                self._sleep(left)
            self._returned = self._now()
            # A worker that slept too long, or was frozen between two invocations, has missed it.
            if self._returned <= moment + LATEST:
                return max(0.0, self._returned - began)

    def _next(self, latest: float) -> float:
        while True:
            oldest = self._now() - LATEST
            self._own = [moment for moment in self._own if moment >= oldest]
            if self._own:
                self._may_wait(self._own[0], latest)
                moment = self._own.pop(0)
                if not self._own:
                    self._look_ahead(moment)
                return moment
            window = self._choose()
            self._may_wait(self._slots.start(window), latest)
            self._own = self._fill(window)

    def _may_wait(self, moment: float, latest: float) -> None:
        wait = moment - self._now()
        if moment > latest and wait > 0:
            raise RateLimited(
                f"{self._name}: its rate is used up by other calls; the next may be made in {wait:.1f} s",
                timedelta(seconds=wait),
            )

    def _choose(self) -> int:
        """The first window in which there may be a number for us."""
        now = self._now()
        here = self._slots.window(now)
        seen = self._drawn
        if self._passed(here) >= _LATE_SHARE or (seen.window == here and seen.count > seen.usable * _BUSY_SHARE):
            here += 1
        return max(here, self._full + 1)

    def _passed(self, window: int) -> float:
        """The share of a window's slots that lie behind us."""
        now = self._now()
        if now <= self._slots.start(window):
            return 0.0
        first = self._drawn.first if self._drawn.window == window else self._slots.position(now)
        return (self._slots.position(now) - first) / max(1, self._slots.count - first)

    def _look_ahead(self, last: float) -> None:
        """Draws for the next window while there is time: who draws in it finds its first numbers behind."""
        window = self._slots.window(last) + 1
        if window > self._full and self._pace.requests(self._slots.seconds) >= 1:
            self._own = self._fill(window)

    def _fill(self, window: int) -> list[float]:
        """Moments in a window, as many as we could use, if there are so many."""
        wanted = max(1, int(min(self._pace.requests(self._slots.seconds), self._limit)))
        passed = self._passed(window)
        # One draw takes a tenth of a window at most, so that workers that come together all get some.
        batch = min(max(1, math.ceil(wanted / (1 - passed))), max(1, self._slots.count // 10))
        own: list[float] = []
        while True:
            own += self._draw(window, batch)
            if self._drawn.full or len(own) >= wanted or passed:
                break
        if self._drawn.full and len(own) < _ALL_SHARE * self._drawn.usable:
            self._limit = max(float(batch), float(len(own)))
        else:
            self._limit = min(float(self._slots.count), self._limit * 1.5)
        return sorted(own)

    def _draw(self, window: int, wanted: int) -> list[float]:
        """Moments in a window, by one call; fewer than `wanted` when they are used up or lie behind."""
        now, start = self._now(), self._slots.start(window)
        try:
            found = self._dynamodb().update_item(
                TableName=self._table,
                Key={"pk": {"S": f"rate#{self._name}#{window}"}},
                # Who is first in a window that has begun takes its slots from here on, and waits for none.
                UpdateExpression="SET #first = if_not_exists(#first, :first), #expires = :expires ADD #drawn :wanted",
                ExpressionAttributeNames={"#first": "first", "#expires": "expires", "#drawn": "drawn"},
                ExpressionAttributeValues={
                    ":first": {"N": str(self._slots.position(now) if now > start else 0)},
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
        first = int(found["first"]["N"])
        self._drawn = _Drawn(window, int(found["drawn"]["N"]), self._slots.count - first, first)
        if self._drawn.full:
            self._full = max(self._full, window)
        numbers = range(self._drawn.count - wanted, self._drawn.count)
        moments = [self._slots.moment(window, first, number) for number in numbers]
        oldest = self._now() - LATEST
        return [moment for moment in moments if moment is not None and moment >= oldest]
