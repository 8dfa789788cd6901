"""The sweeper's minute, on real tables and queues, by a clock that is set by hand."""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from functools import cached_property
from types import ModuleType
from typing import Any

import pytest
from msgspec import Struct

from offload.contracts.jobs.job import Job, State
from offload.contracts.jobs.job_type import JobType, Schedule
from offload.runtime import aws
from offload.runtime.jobs.ending import Ending
from offload.runtime.jobs.leases import Lease
from offload.runtime.jobs.run import Permanent, Run
from tests.unit.jobs.job_bench import Invocation, JobBench


class Nothing(Struct, frozen=True):
    """A test job's input and result."""


MAIL = JobType(name="mail", input=Nothing, result=Nothing, timeout=timedelta(seconds=90))
PAYMENT = JobType(name="payment", input=Nothing, result=Nothing, repeatable=False, expires=timedelta(minutes=10))
HOURLY = JobType(
    name="hourly",
    input=Nothing,
    result=Nothing,
    schedule=Schedule(cron="0 * * * *", timezone="Europe/London", input=Nothing()),
)


@pytest.fixture
def bench(aws_of_module: None, monkeypatch: pytest.MonkeyPatch) -> JobBench:
    """A job service with three types."""
    return JobBench(monkeypatch, MAIL, PAYMENT, HOURLY)


class Sweeper:
    """The function as Lambda loads it, on the bench's clock and types."""

    NAME = "offload.functions.job_sweeper.handler"

    def __init__(self, bench: JobBench, monkeypatch: pytest.MonkeyPatch) -> None:
        self._bench, self._monkeypatch = bench, monkeypatch

    @cached_property
    def module(self) -> ModuleType:
        """Loaded when first used."""
        sys.modules.pop(self.NAME, None)
        module = importlib.import_module(self.NAME)
        self._monkeypatch.setattr(module, "store", self._bench.store)
        self._monkeypatch.setattr(module, "JOB_TYPES", self._bench.types)
        return module

    def sweep(self, seconds: float = 60) -> dict[str, int]:
        """One invocation; how often it did what."""
        done: dict[str, int] = self.module.handler({}, Invocation(seconds))
        return done


@pytest.fixture
def sweeper(bench: JobBench, monkeypatch: pytest.MonkeyPatch) -> Iterator[Sweeper]:
    """The bench's sweeper."""
    yield Sweeper(bench, monkeypatch)
    sys.modules.pop(Sweeper.NAME, None)


def start(bench: JobBench, job_type: JobType[Any, Any], seconds: float = 60, attempt: int = 1) -> Job:
    """Submits a job and starts it as a worker does that is never heard of again."""
    job_id = bench.submit(job_type, Nothing())
    bench.nudges(job_type)
    lease = bench.store.start(job_type, job_id, attempt, bench.time + timedelta(seconds=seconds))
    assert isinstance(lease, Lease), lease
    return bench.store.get(job_id)


def test_a_job_whose_nudge_was_lost_is_nudged_again(bench: JobBench, sweeper: Sweeper) -> None:
    job_id = bench.submit(MAIL, Nothing())
    assert len(bench.nudges(MAIL)) == 1
    assert sweeper.sweep() == {}
    bench.pass_time(seconds=61)
    assert sweeper.sweep() == {"nudged": 1}
    assert [json.loads(body) for body in bench.nudges(MAIL)] == [{"job": job_id, "attempt": 1}]


def test_a_delayed_job_gets_its_nudge_in_the_minute_before_its_time(bench: JobBench, sweeper: Sweeper) -> None:
    bench.submit(MAIL, Nothing(), delay=600.0)

    def messages() -> tuple[int, int]:
        names: Any = ("ApproximateNumberOfMessages", "ApproximateNumberOfMessagesDelayed")
        found = bench.sqs.get_queue_attributes(QueueUrl=bench.queues["mail"], AttributeNames=names)["Attributes"]
        return int(found[names[0]]), int(found[names[1]])

    sent = []
    for _ in range(10):
        sweeper.sweep()
        sent.append(messages())
        bench.pass_time(minutes=1)
    assert sent == [(0, 0)] * 9 + [(0, 1)]


def test_a_job_whose_worker_died_is_found_within_its_timeout_and_a_minute(bench: JobBench, sweeper: Sweeper) -> None:
    # A sweep each minute, at 30 s past: the worker has 90 s and dies at once.
    bench.pass_time(seconds=30)
    begin = bench.time
    mail = start(bench, MAIL, seconds=91)
    payment = start(bench, PAYMENT, seconds=91)
    while bench.store.get(mail.id).state is State.RUNNING:
        assert bench.time - begin <= MAIL.timeout + timedelta(seconds=61)
        bench.pass_time(minutes=1)
        sweeper.sweep()
    found = bench.store.get(mail.id)
    assert (found.state, found.history[-1].why) == (
        State.WAITING,
        "the lease ended: the worker died or ran out of time",
    )
    # What must not happen twice waits for a person.
    assert bench.store.get(payment.id).state is State.HELD


def test_a_running_job_is_left_alone_until_its_lease_ends(bench: JobBench, sweeper: Sweeper) -> None:
    mail = start(bench, MAIL, seconds=50)
    assert sweeper.sweep() == {}
    bench.pass_time(seconds=49)
    assert sweeper.sweep() == {}
    assert bench.store.get(mail.id).state is State.RUNNING


def test_a_job_that_nobody_started_in_time_expires(bench: JobBench, sweeper: Sweeper) -> None:
    job_id = bench.submit(PAYMENT, Nothing())
    bench.pass_time(minutes=11)
    assert sweeper.sweep() == {"expired": 1}
    assert bench.store.get(job_id).state is State.CANCELLED


def test_sweeps_at_the_same_moment_do_what_one_does(bench: JobBench, sweeper: Sweeper) -> None:
    sweeper.sweep()
    queued, running = [bench.submit(MAIL, Nothing()) for _ in range(10)], [start(bench, MAIL) for _ in range(10)]
    bench.time = bench.time.replace(hour=13, minute=0, second=20)
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda _: sweeper.sweep(), range(4)))
    assert {bench.store.get(job_id).state for job_id in queued} == {State.QUEUED}
    for job in running:
        found = bench.store.get(job.id)
        assert [entry.state for entry in found.history] == [State.QUEUED, State.RUNNING, State.WAITING]
    (hourly,) = bench.store.page(types=["hourly"]).jobs
    assert "scheduled-for:2026-11-24T13:00:00Z" in hourly.tags
    ran: list[str] = []

    def work(_: Nothing, run: Run) -> Nothing:
        ran.append(run.id)
        return Nothing()

    bench.work(bench.handler(MAIL, work), bench.handler(HOURLY, work))
    assert sorted(ran) == sorted([*queued, hourly.id])


def test_the_schedules_of_the_hour_start_and_are_counted(
    bench: JobBench, sweeper: Sweeper, capsys: pytest.CaptureFixture[str]
) -> None:
    sweeper.sweep()
    bench.pass_time(hours=1)
    assert sweeper.sweep() == {"scheduled": 1}
    bench.pass_time(seconds=1)
    assert sweeper.sweep() == {}
    said = [json.loads(text) for text in capsys.readouterr().out.splitlines()]
    assert [(line["message"], line["counts"], line.get("missing"), line["request_id"]) for line in said] == [
        ("sweep", {}, None, "request-1"),
        ("sweep", {"scheduled": 1}, {}, "request-1"),
        ("sweep", {}, {}, "request-1"),
    ]


def counted(capsys: pytest.CaptureFixture[str]) -> int | None:
    """What the last sweep's line says of missing jobs; None where it has no such field."""
    line = json.loads(capsys.readouterr().out.splitlines()[-1])
    found: int | None = line.get("missing_jobs")
    return found


def test_the_count_of_missing_jobs_is_said_while_jobs_are_open_and_once_when_all_have_ended(
    bench: JobBench, sweeper: Sweeper, capsys: pytest.CaptureFixture[str]
) -> None:
    sweeper.sweep()
    assert counted(capsys) is None, "a metric with a value costs by the hour"
    job_id = bench.submit(MAIL, Nothing())
    bench.pass_time(minutes=5)
    sweeper.sweep()
    assert counted(capsys) == 0
    bench.store.cancel(job_id)
    sweeper.sweep()
    assert counted(capsys) == 0, "the alarm goes by the least of five minutes"
    sweeper.sweep()
    assert counted(capsys) is None


def test_a_missing_job_is_counted_within_five_idle_minutes_and_then_each_minute(
    bench: JobBench, sweeper: Sweeper, capsys: pytest.CaptureFixture[str]
) -> None:
    sweeper.sweep()
    job_id = bench.submit(MAIL, Nothing())
    aws.dynamodb().delete_item(TableName=bench.name, Key={"pk": {"S": f"job#{job_id}"}, "sk": {"S": "job"}})
    said = []
    for _ in range(7):
        bench.pass_time(minutes=1)
        sweeper.sweep()
        said.append(counted(capsys))
    assert said == [None, None, None, None, 1, 1, 1]


def test_one_jobs_trouble_is_not_the_others_and_is_told(
    bench: JobBench, sweeper: Sweeper, capsys: pytest.CaptureFixture[str]
) -> None:
    strange, payment, mail = (
        bench.submit(HOURLY, Nothing()),
        bench.submit(PAYMENT, Nothing()),
        bench.submit(MAIL, Nothing()),
    )
    bench.nudges(MAIL)
    bench.types.pop("hourly")
    bench.sqs.delete_queue(QueueUrl=bench.queues["payment"])
    bench.pass_time(seconds=61)
    with pytest.raises(sweeper.module.SweepIncomplete, match="2 jobs or schedules"):
        sweeper.sweep()
    assert [json.loads(body)["job"] for body in bench.nudges(MAIL)] == [mail]
    said = {line.get("job_id"): line for line in map(json.loads, capsys.readouterr().out.splitlines())}
    assert said[strange]["outcome"] == "unknown type: put it back into the catalogue"
    assert "QueueDoesNotExist" in said[payment]["exception"] or "NonExistentQueue" in said[payment]["exception"]


def test_jobs_of_a_type_that_was_taken_down_wait_and_are_counted(bench: JobBench, sweeper: Sweeper) -> None:
    sweeper.sweep()
    job_id = bench.submit(MAIL, Nothing())
    for name in ("mail", "hourly"):
        aws.ssm().delete_parameter(Name=f"/{bench.name}/{name}")
    bench.pass_time(hours=1)
    assert sweeper.sweep() == {"not deployed": 1, "schedules not deployed": 1}
    assert bench.store.get(job_id).state is State.QUEUED
    bench.deploy(MAIL)
    bench.pass_time(minutes=2)
    assert sweeper.sweep()["nudged"] == 1


def test_what_is_not_reached_in_time_is_left_for_the_next_minute(bench: JobBench, sweeper: Sweeper) -> None:
    bench.submit(MAIL, Nothing())
    bench.pass_time(seconds=61)
    assert sweeper.sweep(seconds=5) == {"left for the next minute": 1}
    assert sweeper.sweep() == {"nudged": 1}


def test_an_end_that_nobody_was_told_of_is_told(
    bench: JobBench, sweeper: Sweeper, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    handler = bench.handler(MAIL, lambda *_: Nothing())
    job_id = bench.submit(MAIL, Nothing())
    with monkeypatch.context() as patch:
        patch.setattr(Ending, "announce", killed)
        with pytest.raises(KeyboardInterrupt):
            bench.run(handler, job_id)
    assert bench.store.get(job_id).state is State.SUCCEEDED
    bench.pass_time(seconds=61)
    assert sweeper.sweep() == {"announced": 1}
    assert sweeper.sweep() == {}


def test_a_handler_that_fails_for_good_is_not_looked_at_again(bench: JobBench, sweeper: Sweeper) -> None:
    def work(*_: Any) -> Nothing:
        raise Permanent("no")

    bench.run(bench.handler(MAIL, work), bench.submit(MAIL, Nothing()))
    bench.pass_time(minutes=10)
    assert sweeper.sweep() == {}


def test_a_job_that_expires_in_a_line_leaves_it_and_the_next_one_is_nudged(
    aws_of_module: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    alone = JobType(name="print", input=Nothing, result=Nothing, concurrency=1, expires=timedelta(minutes=10))
    bench = JobBench(monkeypatch, alone)
    start(bench, alone, seconds=3600)
    waiting = []
    for _ in range(2):
        waiting.append(bench.submit(alone, Nothing()))
        assert not isinstance(bench.store.start(alone, waiting[-1], 1, bench.time + timedelta(minutes=1)), Lease)
        bench.pass_time(minutes=6)
    bench.nudges(alone)
    done = Sweeper(bench, monkeypatch).sweep()
    assert done["expired"] == 1
    assert [bench.store.get(job).state for job in waiting] == [State.CANCELLED, State.QUEUED]
    assert {json.loads(body)["job"] for body in bench.nudges(alone)} == {waiting[1]}
    line = [item for item in bench.items() if waiting[0] in item["sk"]["S"] and item["sk"]["S"] != "job"]
    assert line == []
