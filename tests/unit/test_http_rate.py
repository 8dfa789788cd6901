"""The rate that all invocations keep together, on a real table."""

from __future__ import annotations

import heapq
import itertools
import math
import random
import socket
import struct
import subprocess
import sys
import threading
from bisect import bisect_left
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pytest

from offload.runtime import aws
from offload.runtime.http.failures import RateLimited
from offload.runtime.http.rate import LATEST, Bucket, Slots
from tests.conftest import new_table

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

# Linux' number (asm-generic/socket.h): when the kernel got a datagram, whoever reads it how late.
SO_TIMESTAMPNS = 35


@pytest.fixture
def table(dynamodb: DynamoDBClient) -> str:
    return new_table(dynamodb, f"calls-{uuid4().hex[:8]}", sort_key=False)


class Clock:
    """A time that passes by sleeping alone."""

    def __init__(self, now: float = 1_000_000_000.0) -> None:
        self.now = now
        self.slept: list[float] = []

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds


def bucket(table: str, clock: Clock, per_second: float = 100, **options: Callable[[], DynamoDBClient]) -> Bucket:
    return Bucket("third", table, per_second, now=clock, sleep=clock.sleep, **options)


@pytest.mark.parametrize(
    ("per_second", "seconds", "count"),
    [
        (100, 2, 200),
        (10, 2, 20),
        (3, 2, 6),
        (1, 2, 2),
        (2.5, 2, 5),
        (0.5, 2, 1),
        (1 / 60, 60, 1),
        (0.7, 10, 7),
        (0.001, 1000, 1),
        (1000, 2, 2000),
    ],
)
def test_time_is_cut_into_the_shortest_windows_that_fit_a_rate(per_second: float, seconds: int, count: int) -> None:
    slots = Slots.of(per_second)
    assert (slots.seconds, slots.count) == (seconds, count)


@pytest.mark.parametrize("per_second", [0.3, 0.9, 1.1, 3.3, math.pi, 7.77, 99.99])
def test_no_window_has_more_slots_than_its_rate_allows(per_second: float) -> None:
    slots = Slots.of(per_second)
    assert slots.count / slots.seconds <= per_second
    assert slots.count / slots.seconds > 0.95 * per_second


@pytest.mark.parametrize("count", [1, 2, 3, 7, 10, 64, 100, 997])
@pytest.mark.parametrize("share", [0.0, 0.3, 0.9])
def test_each_number_of_a_window_is_another_moment_in_it(count: int, share: float) -> None:
    per_second = count / 2
    slots = Slots(2, count, Slots.of(per_second).stride if count > 1 else 1)
    first = int(count * share)
    moments = [slots.moment(7, first, number) for number in range(count)]
    found = [moment for moment in moments if moment is not None]
    assert len(set(found)) == len(found) == count - first
    assert min(found) >= slots.start(7) + first / per_second
    assert max(found) < slots.start(8)


def test_the_numbers_of_one_draw_lie_apart() -> None:
    slots = Slots.of(100)
    drawn = sorted(slots.moment(0, 0, number) or 0.0 for number in range(35, 40))
    assert min(later - earlier for earlier, later in itertools.pairwise(drawn)) > 0.15


def test_the_first_request_for_a_while_waits_for_nothing(table: str) -> None:
    clock = Clock(1_000_000_000.73)
    assert bucket(table, clock).acquire(within=0.02) <= 0.011
    assert clock.slept == [] or max(clock.slept) <= 0.011


def test_one_worker_keeps_the_rate_and_asks_seldom(table: str) -> None:
    clock = Clock()
    asked: list[str] = []
    real = aws.dynamodb()

    def counted() -> DynamoDBClient:
        asked.append("")
        return real

    one = bucket(table, clock, dynamodb=counted)
    moments = []
    for _ in range(1000):
        one.acquire(within=10)
        moments.append(clock.now)
    for index, moment in enumerate(moments):
        assert sum(moment <= other < moment + 1 for other in moments[index:]) <= 100
    assert moments[-1] - moments[0] < 10.1
    assert len(asked) <= 80


def test_a_moment_beyond_what_may_be_waited_is_an_error_with_the_wait(table: str) -> None:
    clock = Clock()
    slow = bucket(table, clock, per_second=0.1)
    slow.acquire(within=0)
    with pytest.raises(RateLimited, match=r"third: its rate is used up by other calls; .* in 10\.0 s") as limited:
        slow.acquire(within=5)
    assert limited.value.wait == timedelta(seconds=10)
    assert clock.slept == []
    slow.acquire(within=15)
    assert clock.slept == [pytest.approx(10)]


def test_a_worker_that_was_frozen_sends_nothing_late(table: str) -> None:
    clock = Clock()
    one = bucket(table, clock)
    for _ in range(300):
        one.acquire(within=10)
    clock.now += 0.5
    one.acquire(within=10)
    # A moment of this window's grid, reached now and not half a second ago.
    assert clock.now % 0.01 == pytest.approx(0, abs=LATEST) or clock.now % 0.01 == pytest.approx(0.01, abs=1e-6)
    before = clock.now
    clock.now += 3600
    one.acquire(within=10)
    assert clock.now - before >= 3600


def test_without_the_table_nothing_is_sent(table: str) -> None:
    with pytest.raises(RateLimited, match="the table of its rate cannot be reached, and without it nothing is sent"):
        bucket("no-such-table", Clock()).acquire(within=10)


def test_a_window_goes_from_the_table_by_itself(table: str, dynamodb: DynamoDBClient) -> None:
    clock = Clock()
    bucket(table, clock).acquire(within=10)
    [item] = dynamodb.scan(TableName=table)["Items"]
    assert item["pk"]["S"] == "rate#third#500000000"
    assert 0 < int(item["expires"]["N"]) - clock.now < 86400


class Simulated:
    """Workers that call one after the other, on one clock that goes from event to event; the table is a dictionary."""

    def __init__(self, workers: int, call_seconds: float, seconds: int, *, skew: float = 0.0) -> None:
        self.now = 1_000_000_000.68
        self.sent: list[float] = []
        self.asked = 0
        self._items: dict[str, dict[str, int]] = {}
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

    def update_item(self, **request: Any) -> Any:
        self.asked += 1
        values = request["ExpressionAttributeValues"]
        item = self._items.setdefault(request["Key"]["pk"]["S"], {"first": int(values[":first"]["N"]), "drawn": 0})
        item["drawn"] += int(values[":wanted"]["N"])
        return {"Attributes": {name: {"N": str(value)} for name, value in item.items()}}

    def _push(self, moment: float, go: threading.Semaphore) -> None:
        heapq.heappush(self._queue, (moment, next(self._number), go))

    def _work(self, go: threading.Semaphore, skew: float) -> None:
        def sleep(seconds: float) -> None:
            self._push(self.now + seconds, go)
            self._turn.release()
            go.acquire()

        go.acquire()
        client: Any = self
        one = Bucket("third", "t", 100, now=lambda: self.now + skew, sleep=sleep, dynamodb=lambda: client)
        while self.now < self._until:
            one.acquire(within=30)
            self.sent.append(self.now)
            sleep(self._call_seconds * self._random.uniform(0.5, 1.5))
        self._turn.release()

    def most(self) -> int:
        """Requests in the fullest second, wherever it begins."""
        moments = sorted(self.sent)
        return max(bisect_left(moments, moment + 1) - index for index, moment in enumerate(moments))

    def least(self, after: int) -> int:
        """Requests in the emptiest whole second, from some seconds on."""
        begin, end = math.ceil(self.sent[0]) + after, math.floor(self._until)
        return min(sum(second <= moment < second + 1 for moment in self.sent) for second in range(begin, end))


@pytest.mark.parametrize(
    ("workers", "call_seconds"), [(20, 0.02), (20, 0.05), (1, 0.001), (2, 0.002), (10, 0.02), (20, 0.1)]
)
def test_workers_that_could_do_twice_as_much_use_the_whole_rate_and_no_more(workers: int, call_seconds: float) -> None:
    simulated = Simulated(workers, call_seconds, 20)
    assert simulated.most() <= 105
    assert simulated.least(after=6) >= 95
    assert simulated.asked < len(simulated.sent) / 4


def test_clocks_that_differ_by_a_millisecond_do_not_matter() -> None:
    simulated = Simulated(20, 0.05, 20, skew=0.001)
    assert simulated.most() <= 105
    assert simulated.least(after=6) >= 95


@pytest.mark.parametrize("skew", [0.05, 0.5])
def test_clocks_that_differ_more_add_what_the_bound_says(skew: float) -> None:
    assert Simulated(20, 0.05, 20, skew=skew).most() <= math.ceil(100 * (1 + skew + LATEST))


def received(
    seconds: float, table: str, *, processes: int, threads: int, call_seconds: float
) -> tuple[list[float], int]:
    """When requests came while workers worked, and how often those asked DynamoDB."""
    came: list[float] = []
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sink:
        sink.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
        sink.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
        sink.bind(("127.0.0.1", 0))
        port = sink.getsockname()[1]

        def listen() -> None:
            while True:
                data, extra, _, _ = sink.recvmsg(16, 64)
                if data == b"over":
                    return
                whole, nanoseconds = struct.unpack("qq", extra[0][2][:16])
                came.append(whole + nanoseconds / 1e9)

        listener = threading.Thread(target=listen)
        listener.start()
        script = str(Path(__file__).with_name("rate_worker.py"))
        command = [sys.executable, script, table, "100", str(threads), str(seconds), str(call_seconds), str(port)]
        workers = [
            subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
            for _ in range(processes)
        ]
        asked = 0
        try:
            for worker in workers:
                assert worker.stdout is not None
                assert worker.stdout.readline() == "ready\n"
            for worker in workers:
                assert worker.stdin is not None
                worker.stdin.write("go\n")
                worker.stdin.flush()
            asked = sum(int(worker.communicate()[0]) for worker in workers)
        finally:
            for worker in workers:
                worker.kill()
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as out:
                out.sendto(b"over", ("127.0.0.1", port))
            listener.join()
    return sorted(came), asked


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="the kernel's own times of arrival are asked for as on Linux")
@pytest.mark.parametrize(
    ("processes", "threads", "call_seconds"),
    [(4, 5, 0.02), (4, 5, 0.05)],
    ids=["20 ms calls", "50 ms calls"],
)
def test_twenty_invocations_never_exceed_the_rate(
    table: str, processes: int, threads: int, call_seconds: float
) -> None:
    came, asked = received(10, table, processes=processes, threads=threads, call_seconds=call_seconds)
    most = max(sum(moment <= other < moment + 1 for other in came[index:]) for index, moment in enumerate(came))
    # In the first windows they find out what each can use.
    begin, end = math.ceil(came[0]) + 3, math.floor(came[0]) + 10
    full = [sum(second <= moment < second + 1 for moment in came) for second in range(begin, end)]
    print(f"most in any second {most}; in full seconds {full}; {len(came)} requests, {asked} calls of DynamoDB")
    # How much of the rate they use, and how often they ask for it, depends on the machine; with the clock of a
    # simulation it is above.
    assert came
    assert most <= 105
