"""Background jobs through the deployed app: killed workers, lanes, delays, trees, refusals."""

from __future__ import annotations

import json
import math
import os
import threading
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import date, timedelta
from decimal import Decimal
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any, Final, TypeVar

import pytest
from botocore.credentials import Credentials

from clinic.catalogue import CATALOGUE
from clinic.contracts.jobs import PATIENT_GROUPS, VISIT_IMPORT, WARD_REPORT, Days, Patients, VisitsFile
from clinic.ledger import Figures
from offload.cli.audit.jobs import JobAccount, draw_up
from offload.cli.jobs.service import jobs_of
from offload.client.job_calls import JobRefused, Signer, Unreachable
from offload.client.jobs import Handle, Jobs
from offload.contracts.jobs.job import Job, State
from offload.contracts.jobs.job_type import JobType, Priority
from tests.clinics import visits_file
from tests.copies import Copy, settled
from tests.killed_workers import workers_killed_all_along
from tests.local.ledger import ledger_of
from tests.patience import PATIENCE, until

T = TypeVar("T")

WHOLE: Final = os.environ.get("OFFLOAD_PROVE") == "whole"
VISITS: Final = 143
"""Of the file that is imported: 15 steps."""


@pytest.fixture
def visits(tmp_path: Path) -> Path:
    """A file of visits."""
    return visits_file(tmp_path, VISITS)


@pytest.fixture
def jobs(deployed: Copy) -> Iterator[Jobs]:
    """A client for the job service of the shared copy."""
    with jobs_of(deployed.deployment) as client:
        yield client


def started(job: Job) -> float:
    """When a job's first attempt began, seconds since the epoch."""
    return next(entry.at for entry in job.history if entry.state is State.RUNNING).timestamp()


def answered(call: Callable[[], T]) -> T:
    """What a call of the job service gives, however long that has no answer: a slow machine is late with some."""
    ends = time.monotonic() + PATIENCE
    while True:
        try:
            return call()
        except Unreachable:
            assert time.monotonic() < ends


@contextmanager
def the_account_watched(copy: Copy) -> Iterator[list[JobAccount]]:
    """Draws up the account again and again; gives the accounts so far."""
    stop, seen = threading.Event(), list[JobAccount]()
    client, table = copy.deployment.aws.dynamodb, copy.deployment.job_service.table

    def watch() -> None:
        while not stop.wait(2.0):
            seen.append(draw_up(client, table, CATALOGUE.job_types))

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield seen
    finally:
        stop.set()
        thread.join()


@pytest.mark.long
def test_every_job_of_mixed_types_ends_once_though_doubled_and_its_workers_killed(copy: Copy, visits: Path) -> None:
    count = 1_000 if WHOLE else 40
    types: list[JobType[Any, Any]] = []
    with jobs_of(copy.deployment) as jobs, the_account_watched(copy) as accounts:
        key = jobs.upload(visits)
        with workers_killed_all_along(copy.embedded, every=2.0, seed=4, most=math.inf if WHOLE else 20) as killed:
            handles: list[Handle[Any]] = []
            for number in range(count):
                wishes: list[tuple[JobType[Any, Any], Any]] = [
                    (VISIT_IMPORT, VisitsFile(file=key)),
                    # A parent that is killed is found after its own minutes, and its children's after that.
                    *([(PATIENT_GROUPS, Patients(file=key, shards=2))] if WHOLE else []),
                    *[(WARD_REPORT, Days(first=date(2010, 12, 1 + number % 28)))] * 9,
                ]
                job_type, wish = wishes[number % 10]
                submit = partial(jobs.submit, job_type, wish, idempotency_key=f"job {number}")
                handle = answered(submit)
                assert answered(submit).id == handle.id
                types.append(job_type)
                handles.append(handle)
            killing_ends = time.monotonic() + (120 if WHOLE else 8)
            until(lambda: time.monotonic() > killing_ends, "the killing to end")
        assert killed
        # A killed attempt is found within the type's timeout and a minute, and tried again.
        ended = [handle.wait(PATIENCE) for handle in handles]
        for job_type, job in zip(types, ended, strict=True):
            assert [entry.state.ended for entry in job.history].count(True) == 1
            # Killed as often as the retry policy goes is what it gives up on, and a parent on such a child.
            given_up = [job, *(jobs.get(child) for child in job.children)]
            assert job.state is State.SUCCEEDED or any(each.attempt >= job_type.retry.attempts for each in given_up), (
                job
            )
    account = json.loads(copy.offload("audit", "--json").stdout)
    assert account["jobs"]["adds_up"], account
    accepted = {line["type"]: (line["accepted"], line["ended"]) for line in account["jobs"]["lines"]}
    for job_type, number in Counter(types).items():
        assert accepted[job_type.name] == (number, number)
    # While we look a job may be between two states, and is there at the next look.
    assert len(accounts) > 5
    for before, after in pairwise(accounts):
        both = [one.type for one, two in zip(before.lines, after.lines, strict=True) if one.missing and two.missing]
        assert both == []
    # However many imports published the file, and however often they were killed, each visit counts once.
    assert any(job.state is State.SUCCEEDED for job in ended if job.type == VISIT_IMPORT.name)
    until(lambda: settled(copy.deployment), "the ledger")
    units = sum(1 + number % 5 for number in range(VISITS))
    assert ledger_of(copy.deployment) == Figures(units * Decimal("2.55"), units, VISITS)


def test_an_urgent_job_starts_before_the_queue_of_the_others(jobs: Jobs) -> None:
    days = [Days()] * (500 if WHOLE else 60)
    low = answered(lambda: jobs.submit_many(WARD_REPORT, days, priority=Priority.LOW))
    urgent = answered(lambda: jobs.submit(WARD_REPORT, Days(), priority=Priority.HIGH)).wait(PATIENCE)
    # On a slow machine many have started while the others were submitted.
    waited = [start for each in low if (start := started(each.wait(PATIENCE))) > urgent.created_at.timestamp()]
    later = sum(start > started(urgent) for start in waited)
    assert later > len(waited) // 2


def test_a_delayed_job_is_never_early_and_starts_by_itself(jobs: Jobs) -> None:
    submitted = time.time()
    job = jobs.submit(WARD_REPORT, Days(), delay=timedelta(seconds=5))
    assert job.status() is State.WAITING
    assert started(job.wait(PATIENCE)) - submitted >= 5


def test_a_cancelled_job_never_runs(jobs: Jobs) -> None:
    job = jobs.submit(WARD_REPORT, Days(), delay=timedelta(hours=1))
    assert job.cancel().state is State.CANCELLED
    with pytest.raises(JobRefused, match="ended"):
        jobs.cancel(job.id)


def test_a_job_gathers_what_its_children_found(jobs: Jobs, visits: Path) -> None:
    key = jobs.upload(visits)
    found = jobs.submit(PATIENT_GROUPS, Patients(file=key, shards=3)).result(PATIENCE)
    assert len(found.groups) == 3
    assert sum(found.groups.values()) == found.patients == VISITS


def test_each_function_works_with_its_own_role(deployed_with_iam: Copy, visits: Path) -> None:
    with jobs_of(deployed_with_iam.deployment) as jobs:
        assert jobs.submit(WARD_REPORT, Days()).result(PATIENCE).visits >= 0
        key = jobs.upload(visits)
        assert jobs.submit(PATIENT_GROUPS, Patients(file=key, shards=2)).result(PATIENCE).patients == VISITS
        assert jobs.submit(VISIT_IMPORT, VisitsFile(file=key)).result(PATIENCE).visits == VISITS


def test_an_unsigned_call_is_refused(deployed: Copy) -> None:
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(f"{deployed.deployment.job_service.endpoint}/jobs")  # noqa: S310 -- loopback
    assert refused.value.code == 403


def test_a_wrong_signature_and_a_signer_without_the_permission_are_told_what_it_needs(deployed_with_iam: Copy) -> None:
    deployment = deployed_with_iam.deployment
    iam, name = deployment.aws.iam, "nobody-in-particular"
    iam.create_user(UserName=name)
    key = iam.create_access_key(UserName=name)["AccessKey"]
    for secret in (key["SecretAccessKey"], "not the secret"):
        with jobs_of(deployment) as jobs:
            jobs._signer = Signer(Credentials(key["AccessKeyId"], secret), deployment.aws.session.region_name)
            with pytest.raises(JobRefused, match="execute-api:Invoke") as refused:
                jobs.submit(WARD_REPORT, Days())
        assert (refused.value.type, refused.value.status) == ("forbidden", 403)


@pytest.mark.parametrize(
    ("path", "body", "status", "slug"),
    [
        ("/jobs", b"{", 400, "bad-request"),
        ("/jobs", b'{"type": "no_such"}', 422, "unknown-type"),
        ("/jobs", b'{"type": "ward_report", "input": {"first": 1}}', 422, "bad-input"),
        ("/jobs", b'{"type": "ward_report", "delay": 1, "run_at": "2026-11-24T00:00:00Z"}', 422, "bad-time"),
        ("/jobs", b'{"type": "ward_report", "x": "' + b"x" * 400_000 + b'"}', 413, "body-too-large"),
        ("/jobs/job-of-another/cancel", b"", 404, "no-such-job"),
        ("/jobs/job-of-another/result", b"", 404, "no-such-job"),
        ("/jobs/job-of-another/answer", b'{"yes": true}', 404, "no-such-job"),
        ("/jobs/job-of-another/answer", b'{"yes": "perhaps"}', 400, "bad-request"),
        ("/schedules/visit_import/pause", b"", 404, "no-schedule"),
    ],
)
def test_what_is_refused_says_what_to_do(jobs: Jobs, path: str, body: bytes, status: int, slug: str) -> None:
    answer = call(jobs, "GET" if path.endswith("result") else "POST", path, body)
    problem = json.loads(answer.body)
    assert (answer.status, problem["type"]) == (status, f"urn:offload:problem:{slug}")
    assert problem["detail"]


def test_a_job_that_vanishes_is_named_by_the_audit(copy: Copy) -> None:
    with jobs_of(copy.deployment) as jobs:
        job = jobs.submit(WARD_REPORT, Days(), delay=timedelta(hours=1))
    table = copy.deployment.job_service.table
    key: Any = {"pk": {"S": f"job#{job.id}"}, "sk": {"S": "job"}}
    assert copy.offload("audit").returncode == 0
    copy.deployment.aws.dynamodb.delete_item(TableName=table, Key=key)
    told = copy.offload("audit", "--json")
    assert told.returncode == 1
    lines = json.loads(told.stdout)["jobs"]["lines"]
    assert {line["type"]: line["missing"] for line in lines}[WARD_REPORT.name] == 1


def call(jobs: Jobs, method: str, path: str, body: bytes) -> Any:
    """One signed request, whatever it says."""
    from offload.client.job_calls import Call

    return jobs._send(Call(method, path, content=body, headers={"Content-Type": "application/json"}))
