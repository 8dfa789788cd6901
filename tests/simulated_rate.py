"""Workers that keep a rate together, on a clock that goes from event to event."""

from __future__ import annotations

import heapq
import itertools
import math
import random
import threading
from bisect import bisect_left
from collections.abc import Callable
from typing import Any, Protocol

from botocore.exceptions import ClientError

from offload.runtime.http.rate import Bucket

PER_SECOND = 100
"""The rate that they keep."""


class Limiter(Protocol):
    """What is asked before each request."""

    def acquire(self, within: float) -> float:
        """Waits for the moment of a request, `within` seconds at most; returns the seconds that were waited."""


class Worker:
    """One worker: its clock, and the table as it sees it, which takes its time for each answer."""

    def __init__(self, simulated: Simulated, skew: float, sleep: Callable[[float], None]) -> None:
        self._simulated = simulated
        self._skew = skew
        self.sleep = sleep

    def now(self) -> float:
        """The time by the worker's own clock."""
        return self._simulated.now + self._skew

    def update_item(self, **request: Any) -> Any:
        """As DynamoDB answers it, as far as a limiter asks."""
        self._simulated.asked += 1
        self.sleep(self._simulated.table_seconds / 2)
        try:
            return self._simulated.update(request)
        finally:
            self.sleep(self._simulated.table_seconds / 2)


def token_bucket(worker: Worker) -> Limiter:
    """The limiter that functions have."""
    client: Any = worker
    return Bucket("third", "t", PER_SECOND, now=worker.now, sleep=worker.sleep, dynamodb=lambda: client)


def take(items: dict[str, dict[str, float]], request: Any) -> Any:
    """What the table does for a token."""
    values = {name: float(value["N"]) for name, value in request["ExpressionAttributeValues"].items()}
    item = items.setdefault(request["Key"]["pk"]["S"], {})
    free, now = item.get("free"), values[":now"]
    if ":next" in values:
        holds, after = free is None or free < now, values[":next"]
    else:
        holds, after = free is not None and now <= free <= values[":latest"], (free or 0.0) + values[":step"]
    if not holds:
        response: Any = {"Error": {"Code": "ConditionalCheckFailedException", "Message": ""}}
        if free is not None:
            response["Item"] = {"free_at": {"N": repr(free)}}
        raise ClientError(response, "UpdateItem")
    item["free"] = after
    return {"Attributes": {"free_at": {"N": repr(after)}}}


class Simulated:
    """Workers that call one after the other; the table is a dictionary, and answers after `table_seconds`."""

    def __init__(
        self,
        workers: int,
        call_seconds: float,
        seconds: int,
        *,
        skew: float = 0.0,
        limiter: Callable[[Worker], Limiter] = token_bucket,
        update: Callable[[dict[str, dict[str, float]], Any], Any] = take,
        table_seconds: float = 0.0,
    ) -> None:
        self.now = 1_000_000_000.68
        self.sent: list[float] = []
        self.asked = 0
        self.table_seconds = table_seconds
        self._limiter, self._update = limiter, update
        self._items: dict[str, dict[str, float]] = {}
        self._until = self.now + seconds
        self._queue: list[tuple[float, int, threading.Semaphore]] = []
        self._number = itertools.count()
        self._turn = threading.Semaphore(0)
        self._random = random.Random(1)
        self._call_seconds = call_seconds
        for number in range(workers):
            go = threading.Semaphore(0)
            threading.Thread(target=self._work, args=(go, skew * number / workers), daemon=True).start()
            self._push(self.now + number / 1000, go)
        while self._queue:
            self.now, _, go = heapq.heappop(self._queue)
            go.release()
            self._turn.acquire()

    def update(self, request: Any) -> Any:
        """The table's answer."""
        return self._update(self._items, request)

    def _push(self, moment: float, go: threading.Semaphore) -> None:
        heapq.heappush(self._queue, (moment, next(self._number), go))

    def _work(self, go: threading.Semaphore, skew: float) -> None:
        def sleep(seconds: float) -> None:
            self._push(self.now + seconds, go)
            self._turn.release()
            go.acquire()

        go.acquire()
        one = self._limiter(Worker(self, skew, sleep))
        while self.now < self._until:
            one.acquire(within=30)
            self.sent.append(self.now)
            sleep(self._call_seconds * self._random.uniform(0.5, 1.5))
        self._turn.release()

    def most(self) -> int:
        """Requests in the fullest second, wherever it begins."""
        moments = sorted(self.sent)
        return max(bisect_left(moments, moment + 1) - index for index, moment in enumerate(moments))

    def in_seconds(self, after: int) -> list[int]:
        """Requests in each whole second, from some seconds on."""
        begin, end = math.ceil(self.sent[0]) + after, math.floor(self._until)
        return [sum(second <= moment < second + 1 for moment in self.sent) for second in range(begin, end)]

    def least(self, after: int) -> int:
        """Requests in the emptiest whole second, from some seconds on."""
        return min(self.in_seconds(after))
