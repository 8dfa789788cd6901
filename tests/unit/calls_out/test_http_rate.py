"""The rate that all invocations keep together, on a real table."""

from __future__ import annotations

import itertools
import math
import socket
import struct
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pytest

from offload.runtime import aws
from offload.runtime.http.failures import RateLimited
from offload.runtime.http.rate import LATEST, Bucket
from tests.conftest import new_table
from tests.simulated_rate import Simulated, take

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


def bucket(table: str, clock: Clock, per_second: float = 100, **options: Any) -> Bucket:
    return Bucket("third", table, per_second, **{"now": clock, "sleep": clock.sleep, **options})


def test_the_first_request_for_a_while_waits_for_nothing(table: str) -> None:
    clock = Clock(1_000_000_000.73)
    assert bucket(table, clock).acquire(within=0.02) <= 0.011
    assert clock.slept == [] or max(clock.slept) <= 0.011


def test_one_worker_keeps_the_rate_by_one_call_a_request(table: str) -> None:
    clock = Clock()
    asked: list[str] = []
    real = aws.dynamodb()

    def counted() -> DynamoDBClient:
        asked.append("")
        return real

    one = bucket(table, clock, dynamodb=counted)
    moments = []
    for _ in range(300):
        one.acquire(within=10)
        moments.append(clock.now)
    assert min(later - earlier for earlier, later in itertools.pairwise(moments)) > 0.0099
    assert moments[-1] - moments[0] == pytest.approx(2.99)
    assert len(asked) == 300


def test_two_workers_take_turns_and_each_looks_once_more_at_the_most(table: str) -> None:
    clock = Clock()
    two = [bucket(table, clock), bucket(table, clock)]
    moments = []
    for number in range(100):
        two[number % 2].acquire(within=10)
        moments.append(clock.now)
    assert len(set(moments)) == 100
    assert moments[-1] - moments[0] == pytest.approx(0.99)


def test_threads_that_share_a_bucket_never_have_one_moment_twice() -> None:
    items: dict[str, dict[str, float]] = {}
    slept: list[float] = []
    lock = threading.Lock()
    # In fractions of two a sum is exact, however many there are.
    shared = Bucket("third", "t", 128, now=lambda: 1024.0, sleep=slept.append, dynamodb=lambda: client)

    class Table:
        def update_item(self, **request: Any) -> Any:
            with lock:
                return take(items, request)

    client: Any = Table()
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(lambda _: shared.acquire(within=1000), range(4000)))
    finally:
        sys.setswitchinterval(before)
    # The first request waits for nothing.
    assert sorted(slept) == [number / 128 for number in range(1, 4000)]


def test_what_was_not_used_is_not_made_up_for(table: str) -> None:
    clock = Clock()
    one = bucket(table, clock)
    one.acquire(within=10)
    clock.now += 60
    began = clock.now
    for _ in range(11):
        one.acquire(within=10)
    assert clock.now - began == pytest.approx(0.1)


def test_an_item_that_somebody_deleted_is_made_again(table: str, dynamodb: DynamoDBClient) -> None:
    clock = Clock()
    one = bucket(table, clock)
    one.acquire(within=10)
    dynamodb.delete_item(TableName=table, Key={"pk": {"S": "rate#third"}})
    assert one.acquire(within=10) == 0


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


def test_a_worker_that_was_frozen_while_it_waited_takes_another_moment(table: str) -> None:
    clock = Clock()
    for _ in range(50):
        bucket(table, clock, per_second=1, now=lambda: 1_000_000_000.0, sleep=lambda _: None).acquire(within=100)
    frozen = bucket(table, clock, per_second=1, sleep=lambda seconds: clock.sleep(seconds + (60 if seconds > 1 else 0)))
    frozen.acquire(within=1000)
    # Its moment was 50 s after the beginning; it woke 60 s late, and all were free by then.
    assert clock.now == pytest.approx(1_000_000_110.0)
    [item] = aws.dynamodb().scan(TableName=table)["Items"]
    assert float(item["free_at"]["N"]) == pytest.approx(1_000_000_111.0)


def test_without_the_table_nothing_is_sent(table: str) -> None:
    with pytest.raises(RateLimited, match="the table of its rate cannot be reached, and without it nothing is sent"):
        bucket("no-such-table", Clock()).acquire(within=10)


@pytest.mark.parametrize(
    ("workers", "call_seconds"), [(20, 0.02), (20, 0.05), (1, 0.001), (2, 0.002), (20, 0.15), (50, 0.2)]
)
def test_workers_that_could_do_more_use_the_whole_rate_and_no_more(workers: int, call_seconds: float) -> None:
    simulated = Simulated(workers, call_seconds, 8, table_seconds=0.005)
    assert simulated.most() <= 105
    assert simulated.least(after=1) >= 99
    assert simulated.asked <= len(simulated.sent) * 1.1


def test_workers_that_cannot_use_the_rate_are_not_held_up() -> None:
    simulated = Simulated(5, 0.1, 8)
    assert simulated.least(after=1) >= 40
    assert simulated.asked <= len(simulated.sent) * 2


def test_clocks_that_differ_by_a_millisecond_do_not_matter() -> None:
    simulated = Simulated(20, 0.05, 8, skew=0.001)
    assert simulated.most() <= 105
    assert simulated.least(after=1) >= 95


@pytest.mark.parametrize("skew", [0.05, 0.5])
def test_clocks_that_differ_more_add_what_the_bound_says(skew: float) -> None:
    assert Simulated(20, 0.05, 8, skew=skew).most() <= math.ceil(100 * (1 + skew + LATEST)) + 1


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
    begin, end = math.ceil(came[0]) + 3, math.floor(came[0]) + 10
    full = [sum(second <= moment < second + 1 for moment in came) for second in range(begin, end)]
    print(f"most in any second {most}; in full seconds {full}; {len(came)} requests, {asked} calls of DynamoDB")
    # How much of the rate they use depends on the machine; with the clock of a simulation it is above.
    assert came
    assert most <= 105
