"""What becomes of a wish for a job that came through the outbox, on real tables and queues."""

from __future__ import annotations

import importlib
import json
import sys
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import msgspec
import pytest

from clinic.contracts.jobs import VISIT_IMPORT, WARD_REPORT, Days, VisitsFile
from offload.client.jobs import wanted
from offload.contracts.events.event import Event
from offload.contracts.jobs.events import JobWanted
from offload.contracts.jobs.job import Job, State
from offload.contracts.jobs.job_type import OnConflict, Unique
from offload.runtime import aws
from tests.conftest import new_table
from tests.patience import queue_without_redelivery
from tests.unit.jobs.job_bench import JobBench


class Context:
    """What a handler asks of Lambda's context."""

    aws_request_id = "request-1"


class Submitter:
    """The function with its queue and marks, and a job service that has ward_report deployed."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.bench = JobBench(monkeypatch, WARD_REPORT)
        # Wishes are made on the real clock.
        self.bench.time = datetime.now(UTC)
        queue = queue_without_redelivery(aws.sqs(), f"submitter-{uuid4().hex[:12]}")
        variables = {
            "OFFLOAD_CONSUMER": "JobSubmitter",
            "OFFLOAD_QUEUE_URL": queue,
            "OFFLOAD_MARKS_TABLE": new_table(aws.dynamodb(), f"marks-{uuid4().hex[:12]}"),
            "OFFLOAD_CLAIMS_BUCKET": self.bench.name,
            "OFFLOAD_ATTEMPTS": "5",
        }
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        # Settings are read at import: once a test.
        monkeypatch.delitem(sys.modules, "offload.functions.job_submitter.handler", raising=False)
        self.handler = importlib.import_module("offload.functions.job_submitter.handler").handler

    def take(self, *events: Event[JobWanted], attempt: int = 1) -> int:
        """Hands events over as the queue does; how many are to come again."""
        records = []
        for number, event in enumerate(events):
            detail = json.loads(event.to_json())
            body = {"id": f"bus-{number}", "source": event.source, "detail-type": event.type, "detail": detail}
            attributes = {"ApproximateReceiveCount": str(attempt), "SentTimestamp": "1790000000000"}
            records.append(
                {"messageId": str(number), "receiptHandle": "r", "body": json.dumps(body), "attributes": attributes}
            )
        return len(self.handler({"Records": records}, Context())["batchItemFailures"])

    def jobs(self) -> list[Job]:
        """The jobs that there are."""
        return list(self.bench.store.page(types=["ward_report"]).jobs)


@pytest.fixture
def submitter(aws_environment: None, monkeypatch: pytest.MonkeyPatch) -> Submitter:
    return Submitter(monkeypatch)


def test_a_wish_becomes_one_job_however_often_it_is_told(submitter: Submitter) -> None:
    wish = wanted(WARD_REPORT, Days(), priority="high", tags=["month"], traceparent="00-1-2-01")
    assert submitter.take(wish, wish) == 0
    assert submitter.take(wish, attempt=2) == 0
    (job,) = submitter.jobs()
    assert (job.state, job.priority, job.tags, job.traceparent) == (State.QUEUED, "high", ("month",), "00-1-2-01")
    assert len(submitter.bench.nudges(WARD_REPORT)) == 1


def test_a_wish_for_later_waits_for_its_time(submitter: Submitter) -> None:
    wish = wanted(WARD_REPORT, Days(), delay=timedelta(days=300))
    submitter.take(wish)
    (job,) = submitter.jobs()
    assert job.state is State.WAITING
    assert job.run_at == wish.data.run_at


def test_a_wish_that_no_retry_can_help_is_a_dead_letter_that_says_why(submitter: Submitter) -> None:
    wish = wanted(WARD_REPORT, Days())
    broken = msgspec.structs.replace(wish.data, input=msgspec.Raw(b'{"first":"soon"}'), wish="broken").event()
    unknown = msgspec.structs.replace(wish.data, job_type="wards", wish="unknown").event()
    assert submitter.take(wish, broken, unknown) == 0
    letters = {letter["event_id"]: letter for letter in submitter.bench.dead_letters()}
    assert letters.keys() == {"job.wanted:broken", "job.wanted:unknown"}
    assert "Invalid RFC3339 encoded date" in letters["job.wanted:broken"]["detail"]
    assert letters["job.wanted:unknown"]["detail"] == "there is no job type 'wards'"
    assert {letter["reason"] for letter in letters.values()} == {"refused"}
    assert len(submitter.jobs()) == 1


def test_a_wish_for_a_type_that_is_not_deployed_yet_is_tried_again(submitter: Submitter) -> None:
    wish: Any = wanted(VISIT_IMPORT, VisitsFile(file="uploads/a.csv"))
    assert submitter.take(wish) == 1
    submitter.bench.deploy(VISIT_IMPORT)
    submitter.bench.pass_time(minutes=2)
    assert submitter.take(wish, attempt=2) == 0


def test_a_wish_for_a_type_whose_newest_job_counts_replaces_the_one_that_waits(
    submitter: Submitter, monkeypatch: pytest.MonkeyPatch
) -> None:
    newest = replace(
        WARD_REPORT, concurrency=1, unique=Unique(within=timedelta(hours=1), on_conflict=OnConflict.REPLACE)
    )
    module = sys.modules["offload.functions.job_submitter.handler"]
    monkeypatch.setattr(module, "JOB_TYPES", {"ward_report": newest})
    monkeypatch.setattr(module, "store", submitter.bench.new_store({"ward_report": newest}))
    assert submitter.take(wanted(WARD_REPORT, Days())) == 0
    assert submitter.take(wanted(WARD_REPORT, Days())) == 0
    replaced, newer = sorted(submitter.jobs(), key=lambda job: job.state is State.QUEUED)
    assert (replaced.state, newer.state) == (State.CANCELLED, State.QUEUED)


def test_the_one_that_waits_is_replaced_in_its_line_too(submitter: Submitter, monkeypatch: pytest.MonkeyPatch) -> None:
    newest = replace(
        WARD_REPORT,
        key="first",
        ordered=True,
        unique=Unique(within=timedelta(hours=1), on_conflict=OnConflict.REPLACE),
    )
    module = sys.modules["offload.functions.job_submitter.handler"]
    monkeypatch.setattr(module, "JOB_TYPES", {"ward_report": newest})
    monkeypatch.setattr(module, "store", submitter.bench.new_store({"ward_report": newest}))
    assert submitter.take(wanted(WARD_REPORT, Days())) == 0
    assert submitter.take(wanted(WARD_REPORT, Days())) == 0
    [line] = submitter.bench.items("line#")
    waits = next(job for job in submitter.jobs() if job.state is State.QUEUED)
    assert line["sk"]["S"].endswith(waits.id)
