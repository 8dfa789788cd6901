"""The function that begins long jobs, on real tables and queues: limits, a Lambda that refuses, nonsense."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

import pytest
from msgspec import Struct

from offload.contracts.jobs.job import State
from offload.contracts.jobs.job_type import JobType, Retry
from offload.runtime.jobs.starter import Starter
from tests.unit.embedded.lambda_api import answered_by, refusal
from tests.unit.jobs.job_bench import JobBench

VERSION = "arn:aws:lambda:eu-west-1:123456789012:function:long:7"


class Nothing(Struct, frozen=True):
    """A test job's input and result."""


LONG = JobType(
    name="long",
    input=Nothing,
    result=Nothing,
    durable=True,
    steps=("one",),
    concurrency=1,
    retry=Retry(attempts=2, first_wait=timedelta(seconds=30)),
)


class Started:
    """A long type's starter, and the executions that Lambda was asked to begin."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.bench = JobBench(monkeypatch, LONG)
        self.begun: list[tuple[str, Any]] = []
        self.refuses = False
        monkeypatch.setenv("OFFLOAD_JOB", LONG.name)
        monkeypatch.setenv("OFFLOAD_FUNCTION", VERSION)
        answered_by(monkeypatch, {"Invoke": self._invoke})
        self.handler = Starter(self.bench.new_store())

    def _invoke(self, asked: dict[str, Any]) -> None:
        assert (asked["FunctionName"], asked["InvocationType"]) == (VERSION, "Event")
        if self.refuses:
            raise refusal("Invoke", "TooManyRequestsException", 429)
        self.begun.append((asked["DurableExecutionName"], json.loads(asked["Payload"])))

    def take(self, job_id: str, attempt: int = 1) -> State:
        """Hands one nudge over; the job's state after it."""
        assert self.bench.invoke(self.handler, json.dumps({"job": job_id, "attempt": attempt})) == {
            "batchItemFailures": []
        }
        return self.bench.store.get(job_id).state


@pytest.fixture
def started(aws_of_module: None, monkeypatch: pytest.MonkeyPatch) -> Started:
    return Started(monkeypatch)


def test_a_job_s_execution_begins_once_under_its_name_however_often_its_nudge_comes(started: Started) -> None:
    job_id = started.bench.submit(LONG, Nothing())
    assert [started.take(job_id) for _ in range(3)] == [State.RUNNING] * 3
    assert started.begun == [(job_id, {"job": job_id, "attempt": 1})]


def test_a_job_over_the_limit_waits_in_line_and_begins_when_a_slot_is_free(started: Started) -> None:
    first, second = (started.bench.submit(LONG, Nothing()) for _ in range(2))
    assert (started.take(first), started.take(second)) == (State.RUNNING, State.QUEUED)
    started.bench.nudges(LONG)
    started.bench.pass_time(hours=1)
    # Its execution has never made a call: the lease is over.
    assert started.bench.store.settle(LONG, first) == "lease ended"
    [nudge] = started.bench.nudges(LONG)
    assert json.loads(nudge) == {"job": second, "attempt": 1}
    assert started.take(second) == State.RUNNING
    assert [name for name, _ in started.begun] == [first, second]


def test_a_job_whose_execution_lambda_refuses_is_tried_again_gives_its_slot_up_and_fails_in_the_end(
    started: Started,
) -> None:
    first, second = (started.bench.submit(LONG, Nothing()) for _ in range(2))
    started.take(first)
    started.take(second)
    started.bench.store.cancel(first)
    started.bench.nudges(LONG)
    started.bench.pass_time(hours=1)
    started.bench.store.settle(LONG, first)
    started.refuses = True
    assert started.take(second) is State.WAITING
    started.bench.pass_time(minutes=1)
    assert started.take(second, attempt=2) is State.FAILED
    error = started.bench.store.get(second).error
    assert error
    assert error.startswith("its execution did not begin: ")
    assert "TooManyRequestsException" in error
    started.refuses = False
    third = started.bench.submit(LONG, Nothing())
    assert started.take(third) is State.RUNNING


def test_an_early_nudge_is_sent_again_for_the_job_s_time(started: Started) -> None:
    job_id = started.bench.submit(LONG, Nothing(), delay=60.0)
    assert started.take(job_id) is State.WAITING
    delayed: Any = "ApproximateNumberOfMessagesDelayed"
    queue = started.bench.queues[LONG.name]
    found = started.bench.sqs.get_queue_attributes(QueueUrl=queue, AttributeNames=[delayed])["Attributes"]
    assert int(found[delayed]) >= 1


def test_nonsense_is_a_dead_letter_with_its_reason(started: Started) -> None:
    assert started.bench.invoke(started.handler, "nonsense") == {"batchItemFailures": []}
    [letter] = started.bench.dead_letters()
    assert letter["body"] == "nonsense"
    assert letter["reason"]
