"""The jobs' clients, blocking and asyncio, against a job service that misbehaves."""

from __future__ import annotations

import asyncio
import os
import ssl
import subprocess
import sys
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any, cast

import httpx
import msgspec
import pytest
from sqlalchemy import create_engine, select
from sqlalchemy.orm import Session

from clinic.contracts.jobs import PATIENTS_SHARD, WARD_REPORT, Days, PatientsShard, Report
from offload.client.async_jobs import AsyncJobs
from offload.client.jobs import JobCancelled, JobFailed, JobRefused, Jobs, SomeRefused, TimedOut, Unreachable, wanted
from offload.client.outbox import Outbox
from offload.client.publisher import Retries
from offload.contracts.events.entry import Entry
from offload.contracts.events.event import BrokenContract
from offload.contracts.jobs.job import Job, Progress, Question, State, Submit
from tests import misbehaving_server as misbehaving
from tests.misbehaving_server import MisbehavingServer
from tests.patience import PATIENCE
from tests.unit.jobs.job_server import CREDENTIALS, REGION, Fault, JobServer, Refused, at_work, serving_jobs

DECEMBER = Days(first=date(2010, 12, 1), last=date(2010, 12, 31))
REPORT = Report(fees="748957.02", units=342228, visits=1400, cancellations=159, page="results/1/p", table="t")
REPORT_JSON = msgspec.json.encode(REPORT)
# Read once: it takes longer than most tests.
CERTIFICATES = ssl.create_default_context()
LOST = Fault(reset=True)
"""The job is accepted, and the answer is not heard."""
DROPPED = Fault(reset=True, take=False)
BUSY = Fault(status=503, take=False)
THROTTLED = Fault(status=429, take=False, headers=(("Retry-After", "3"),))
MUMBLED = Fault(status=503)
"""The job is accepted, and what stands between says otherwise."""


@dataclass
class Time:
    """A clock that moves only by sleeping."""

    now: float = 0.0
    pauses: list[float] = field(default_factory=list)

    def sleep(self, seconds: float) -> None:
        self.pauses.append(seconds)
        self.now += seconds

    async def sleep_async(self, seconds: float) -> None:
        self.sleep(seconds)

    def jitter(self, low: float, high: float) -> float:
        return high


@pytest.fixture
def server() -> Iterator[JobServer]:
    with serving_jobs() as server:
        yield server


@pytest.fixture
def time() -> Time:
    return Time()


class Blocking:
    """The asyncio client, called as the blocking one: each test runs on both."""

    def __init__(self, jobs: AsyncJobs, loop: asyncio.AbstractEventLoop) -> None:
        self._inner, self._loop = jobs, loop

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._inner, name)
        return self._blocking(value) if callable(value) else value

    def _blocking(self, call: Callable[..., Any]) -> Callable[..., Any]:
        def called(*arguments: Any, **options: Any) -> Any:
            made = call(*arguments, **options)
            found = self._loop.run_until_complete(cast(Awaitable[Any], made)) if asyncio.iscoroutine(made) else made
            return self._wrapped(found)

        return called

    def _wrapped(self, found: Any) -> Any:
        if isinstance(found, list):
            return [self._wrapped(each) for each in found]
        ours = type(found).__module__ == "offload.client.async_jobs"
        return Blocking(found, self._loop) if ours else found


@pytest.fixture(params=["blocking", "asyncio"])
def jobs(request: pytest.FixtureRequest, server: JobServer, time: Time) -> Iterator[Jobs]:
    settings: dict[str, Any] = {
        "credentials": CREDENTIALS,
        "region": REGION,
        "clock": lambda: time.now,
        "jitter": time.jitter,
        # Long for a stall of a busy machine, short for the one test that waits for it.
        "timeout": httpx.Timeout(3.0),
        "verify": CERTIFICATES,
    }
    if request.param == "blocking":
        with Jobs(server.url, sleep=time.sleep, **settings) as jobs:
            yield jobs
        return
    loop = asyncio.new_event_loop()
    inner = AsyncJobs(server.url, sleep=time.sleep_async, **settings)
    yield cast(Jobs, Blocking(inner, loop))
    loop.run_until_complete(inner.close())
    loop.close()


# -- submitting once


def test_a_submit_arrives_with_its_contract_options_and_a_signature(jobs: Jobs, server: JobServer) -> None:
    handle = jobs.submit(
        WARD_REPORT,
        DECEMBER,
        idempotency_key="december",
        delay=timedelta(minutes=1),
        priority="high",
        tags=["month"],
        traceparent="00-1-2-01",
    )

    (body,) = server.posts("/jobs")
    assert msgspec.json.decode(body) == {
        "type": "ward_report",
        "input": {"first": "2010-12-01", "last": "2010-12-31"},
        "delay": 60.0,
        "priority": "high",
        "tags": ["month"],
        "traceparent": "00-1-2-01",
    }
    assert (handle.id, handle.created, handle.status()) == ("job-december", True, State.WAITING)


@pytest.mark.parametrize(
    "faults",
    [
        pytest.param([LOST], id="answer lost"),
        pytest.param([DROPPED, LOST, BUSY, MUMBLED, THROTTLED], id="everything in turn"),
        pytest.param([Fault(slow=3.2)], id="answer too late"),
        pytest.param([Fault(status=502, body=b"<html>")], id="a proxy's error after it was accepted"),
    ],
)
def test_a_submit_is_one_job_whatever_becomes_of_its_answers(
    jobs: Jobs, server: JobServer, faults: list[Fault]
) -> None:
    server.faults = list(faults)

    handle = jobs.submit(WARD_REPORT, DECEMBER)

    assert len(server.posts("/jobs")) == len(faults) + 1
    assert list(server.jobs) == [handle.id]
    assert len({headers["idempotency-key"] for _, _, headers, _ in server.requests}) == 1


def test_two_submits_are_two_jobs_and_two_with_one_key_are_one(jobs: Jobs, server: JobServer) -> None:
    assert jobs.submit(WARD_REPORT, DECEMBER).id != jobs.submit(WARD_REPORT, DECEMBER).id
    first = jobs.submit(WARD_REPORT, DECEMBER, idempotency_key="one")
    second = jobs.submit(WARD_REPORT, DECEMBER, idempotency_key="one")
    assert (first.id, first.created) == (second.id, not second.created)
    assert len(server.jobs) == 3


def test_a_server_that_is_not_there_is_given_up_on_with_the_key_that_makes_it_safe_to_go_on(
    jobs: Jobs, server: JobServer, time: Time
) -> None:
    server.faults = [LOST] * 20

    with pytest.raises(Unreachable) as gone:
        jobs.submit(WARD_REPORT, DECEMBER)

    assert len(server.posts("/jobs")) == Retries().attempts
    assert time.pauses == [0.1, 0.2, 0.4, 0.8, 1.6]
    assert gone.value.idempotency_key
    server.faults = []
    again = jobs.submit(WARD_REPORT, DECEMBER, idempotency_key=gone.value.idempotency_key)
    assert list(server.jobs) == [again.id]
    assert not again.created


def test_a_pause_that_the_service_asks_for_is_kept(jobs: Jobs, server: JobServer, time: Time) -> None:
    server.faults = [THROTTLED]
    jobs.submit(WARD_REPORT, DECEMBER)
    assert time.pauses == [3.0]


def test_retries_end_before_their_deadline(jobs: Jobs, server: JobServer, time: Time) -> None:
    server.faults = [Fault(status=503, take=False, headers=(("Retry-After", "40"),))]
    with pytest.raises(Unreachable, match="503, Service Unavailable"):
        jobs.submit(WARD_REPORT, DECEMBER)
    assert time.pauses == []


def test_a_refusal_says_what_is_wrong_and_is_not_tried_again(jobs: Jobs, server: JobServer) -> None:
    jobs.submit(WARD_REPORT, DECEMBER, idempotency_key="one")
    with pytest.raises(JobRefused) as refused:
        jobs.submit(WARD_REPORT, Days(), idempotency_key="one")
    found = refused.value
    assert (found.type, found.status) == ("idempotency-conflict", 409)
    assert (found.title, found.detail) == ("Idempotency-Conflict", "take another key for another job")
    assert len(server.posts("/jobs")) == 2


def test_a_type_that_is_not_deployed_is_told_at_once(jobs: Jobs, server: JobServer) -> None:
    server.refuse[b"{}"] = Refused(503, "not-deployed", "deploy its BackgroundJob")
    with pytest.raises(JobRefused, match="deploy its BackgroundJob"):
        jobs.submit(WARD_REPORT, Days())
    assert len(server.posts("/jobs")) == 1


def test_wrong_credentials_are_told_with_what_they_need(server: JobServer) -> None:
    with (
        Jobs(server.url, credentials=CREDENTIALS, region="us-east-1") as jobs,
        pytest.raises(JobRefused, match="Forbidden: the credentials need execute-api:Invoke") as refused,
    ):
        jobs.submit(WARD_REPORT, DECEMBER)
    assert refused.value.type == "forbidden"


def test_credentials_that_no_header_can_have_are_told_by_the_header_s_name(
    jobs: Jobs, server: JobServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    # As a token that was pasted into a variable, with the line's end.
    monkeypatch.setattr(CREDENTIALS, "token", "s3cret-token\n")
    with pytest.raises(Unreachable) as failed:
        jobs.submit(WARD_REPORT, DECEMBER)
    assert "the header X-Amz-Security-Token has a value that HTTP does not take" in str(failed.value)
    assert "s3cret" not in str(failed.value)


def test_an_answer_that_is_no_job_is_not_taken_for_one(jobs: Jobs, server: JobServer) -> None:
    server.faults = [Fault(status=200, body=b"<html>welcome</html>")]
    with pytest.raises(Unreachable, match="not the job service"):
        jobs.submit(WARD_REPORT, DECEMBER)


@pytest.mark.parametrize(
    ("content", "options", "told"),
    [
        (Days(first=cast(date, "soon")), {}, "input: first: "),
        (cast(Days, REPORT), {}, "input: is a Report, and its contract is Days"),
        (Days(), {"run_at": datetime(2026, 11, 24)}, "run_at: has no time zone"),  # noqa: DTZ001
        (Days(), {"run_at": datetime.now(UTC), "delay": 1}, "delay and run_at: say one"),
        (Days(), {"delay": timedelta(days=400)}, "delay: "),
        (Days(), {"priority": "urgent"}, "'urgent' is not one of its lanes: high, normal, low"),
        (Days(), {"tags": [""]}, "tags"),
    ],
)
def test_what_breaks_the_contract_is_refused_before_anything_is_sent(
    jobs: Jobs, server: JobServer, content: Days, options: dict[str, Any], told: str
) -> None:
    with pytest.raises(BrokenContract, match=told):
        jobs.submit(WARD_REPORT, content, **options)
    assert server.requests == []


def test_a_bound_type_is_called_like_a_celery_task(jobs: Jobs, server: JobServer) -> None:
    report = jobs.bind(WARD_REPORT, tags=("clinic",))
    handle = report.delay(first=date(2010, 12, 1))
    assert server.jobs[handle.id].tags == ("clinic",)
    assert bytes(server.jobs[handle.id].input) == b'{"first":"2010-12-01"}'
    with pytest.raises(BrokenContract, match=r"job type 'ward_report': input: .*'until'"):
        report.delay(until=date(2010, 12, 1))


# -- many


def test_many_jobs_go_a_thousand_to_a_request_and_lost_answers_double_none(jobs: Jobs, server: JobServer) -> None:
    contents = [PatientsShard(file="uploads/a.csv", shard=number, shards=2300) for number in range(2300)]
    server.faults = [LOST, Fault(), MUMBLED]

    handles = jobs.submit_many(PATIENTS_SHARD, contents, key=lambda each: f"shard-{each.shard}")

    sent = [len(msgspec.json.decode(body)["jobs"]) for body in server.posts("/jobs/bulk")]
    assert sent == [1000, 1000, 1000, 1000, 300]
    assert [handle.id for handle in handles] == [f"job-shard-{number}" for number in range(2300)]
    assert len(server.jobs) == 2300


def test_large_inputs_are_split_by_their_bytes(jobs: Jobs, server: JobServer) -> None:
    contents = [PatientsShard(file="x" * 200_000, shard=number, shards=40) for number in range(40)]
    assert len(jobs.submit_many(PATIENTS_SHARD, contents)) == 40
    assert max(len(body) for body in server.posts("/jobs/bulk")) < 3_100_000


def test_of_many_jobs_those_in_trouble_are_sent_again_and_refused_ones_are_named(
    jobs: Jobs, server: JobServer, time: Time
) -> None:
    contents = [Days(first=date(2010, 12, day)) for day in (1, 2, 3)]
    server.refuse[msgspec.json.encode(contents[0])] = Refused(422, "bad-input", "first: no")
    server.refuse[msgspec.json.encode(contents[1])] = Refused(503, "contended", "ask again")

    def recover(seconds: float) -> None:
        server.refuse.pop(msgspec.json.encode(contents[1]), None)

    time.sleep = recover  # type: ignore[method-assign]
    if isinstance(jobs, Jobs):
        jobs._sleep = recover
    with pytest.raises(SomeRefused, match="1 of 3 jobs were refused, number 0 for: Bad-Input: first: no") as some:
        jobs.submit_many(WARD_REPORT, contents)

    assert sorted(some.value.accepted) == [1, 2]
    assert some.value.refused[0].type == "bad-input"
    assert [len(msgspec.json.decode(body)["jobs"]) for body in server.posts("/jobs/bulk")] == [3, 1]
    assert len(server.jobs) == 2


# -- waiting and results


def test_a_result_is_waited_for_and_typed(jobs: Jobs, server: JobServer, time: Time) -> None:
    handle = jobs.submit(WARD_REPORT, DECEMBER)
    job = server.jobs[handle.id]
    ended = msgspec.structs.replace(job, state=State.SUCCEEDED, attempt=1, result_json=msgspec.Raw(REPORT_JSON))
    server.looks[handle.id] = [job, at_work(job, 3, 10, "days"), at_work(job, 9, 10), ended]

    assert handle.result(timeout=PATIENCE) == REPORT
    assert time.pauses == pytest.approx([0.1, 0.15, 0.225])


def test_progress_shows_while_it_runs(jobs: Jobs, server: JobServer) -> None:
    handle = jobs.submit(WARD_REPORT, DECEMBER)
    assert handle.progress() is None
    server.jobs[handle.id] = at_work(server.jobs[handle.id], 3, 10, "days")
    progress = handle.progress()
    assert progress is not None
    assert (progress.done, progress.total, progress.message) == (3, 10, "days")
    assert handle.status() is State.RUNNING


def test_a_large_result_is_fetched_from_where_it_is_without_a_second_signature(jobs: Jobs, server: JobServer) -> None:
    handle = jobs.submit(WARD_REPORT, DECEMBER)
    server.end(handle.id, State.SUCCEEDED)
    server.files[f"results/{handle.id}.json"] = REPORT_JSON
    assert handle.result() == REPORT


def test_a_failed_and_a_cancelled_job_have_no_result(jobs: Jobs, server: JobServer) -> None:
    failed, cancelled = jobs.submit(WARD_REPORT, DECEMBER), jobs.submit(WARD_REPORT, DECEMBER)
    server.end(failed.id, State.FAILED, error="NoLedger: it is gone")
    cancelled.cancel()
    with pytest.raises(JobFailed, match=r"failed in attempt 1: NoLedger: it is gone"):
        failed.result()
    with pytest.raises(JobCancelled):
        cancelled.result()
    assert failed.wait().state is State.FAILED


def test_waiting_ends_after_its_time_and_says_where_the_job_is(jobs: Jobs, server: JobServer, time: Time) -> None:
    handle = jobs.submit(WARD_REPORT, DECEMBER)
    with pytest.raises(TimedOut, match=r"is queued after 5 s") as late:
        handle.wait(timeout=timedelta(seconds=5))
    assert late.value.job.state is State.QUEUED
    assert time.now == pytest.approx(5.0)
    server.end(handle.id, State.HELD)
    with pytest.raises(TimeoutError, match="is held after 0 s: a person has to decide"):
        handle.result(0)
    job = server.jobs[handle.id]
    at_step = msgspec.structs.replace(job, state=State.RUNNING, progress=Progress(step="publish-5"))
    asking = msgspec.structs.replace(at_step, question=Question(text="File is large. Go on?", until=job.created_at))
    server.looks[handle.id] = [at_step, asking]
    with pytest.raises(TimeoutError, match=r"is running after 0 s, in its step 'publish-5'"):
        handle.wait(0)
    with pytest.raises(TimeoutError, match=r"is running after 0 s: it asks a person 'File is large\. Go on\?'"):
        handle.wait(0)


def test_a_wait_survives_a_service_in_trouble(jobs: Jobs, server: JobServer) -> None:
    handle = jobs.submit(WARD_REPORT, DECEMBER)
    server.end(handle.id, State.SUCCEEDED, result=REPORT_JSON)
    server.faults = [LOST, BUSY, THROTTLED]
    assert handle.result() == REPORT


def test_a_result_that_breaks_its_contract_is_not_passed_on(jobs: Jobs, server: JobServer) -> None:
    handle = jobs.submit(WARD_REPORT, DECEMBER)
    server.end(handle.id, State.SUCCEEDED, result=b'{"fees":"1"}')
    with pytest.raises(JobRefused, match=r"breaks its contract: .*units"):
        handle.result()


# -- changing


def test_a_cancel_whose_answer_was_lost_is_not_an_error(jobs: Jobs, server: JobServer) -> None:
    handle = jobs.submit(WARD_REPORT, DECEMBER)
    server.faults = [LOST]
    assert handle.cancel().state is State.CANCELLED
    with pytest.raises(JobRefused, match="has ended"):
        handle.cancel()


def test_a_cancel_that_came_too_late_is_refused_even_after_a_lost_answer(jobs: Jobs, server: JobServer) -> None:
    handle = jobs.submit(WARD_REPORT, DECEMBER)
    server.end(handle.id, State.SUCCEEDED, result=REPORT_JSON)
    server.faults = [LOST]
    with pytest.raises(JobRefused, match="has ended"):
        handle.cancel()


def test_a_retry_whose_answer_was_lost_is_one_new_job(jobs: Jobs, server: JobServer) -> None:
    old = jobs.submit(WARD_REPORT, DECEMBER)
    server.end(old.id, State.FAILED, error="broken")
    server.faults = [LOST, MUMBLED]
    new = jobs.retry(WARD_REPORT, old.id, Days())
    assert (new.retry_of, bytes(new.input)) == (old.id, b"{}")
    assert sorted(server.jobs) == sorted([old.id, new.id])


def test_a_held_job_is_decided_once(jobs: Jobs, server: JobServer) -> None:
    handle = jobs.submit(WARD_REPORT, DECEMBER)
    server.end(handle.id, State.HELD)
    server.faults = [LOST]
    decided = jobs.decide(WARD_REPORT, handle.id, "done", result=REPORT, why="the bank says so")
    assert decided.state is State.SUCCEEDED
    assert handle.result() == REPORT
    with pytest.raises(JobRefused, match="is not held"):
        jobs.decide(WARD_REPORT, handle.id, "fail")


def test_a_listing_is_paged_by_cursors_that_need_escapes(jobs: Jobs, server: JobServer) -> None:
    made = [jobs.submit(WARD_REPORT, DECEMBER, tags=["é &+%"]).id for _ in range(5)]
    found: list[Job] = []
    cursor = None
    while True:
        page = jobs.page(job_type="ward_report", tag="é &+%", limit=2, cursor=cursor)
        found += page.jobs
        cursor = page.cursor
        if cursor is None:
            break
    assert [job.id for job in found] == made[::-1]


def test_a_file_is_put_where_the_service_says(jobs: Jobs, server: JobServer, tmp_path: Path) -> None:
    file = tmp_path / "visits é.csv"
    file.write_bytes(b"Visit No\n" * 300_000)
    server.faults = [Fault(), LOST]
    key = jobs.upload(file)
    assert list(server.files) == [key.replace(" ", "%20").replace("é", "%C3%A9")]
    assert next(iter(server.files.values())) == file.read_bytes()


# -- what is no success: a presigned URL is done at 200, and the service at 200 or 201

ELSEWHERE = "https://bucket.s3.eu-west-1.amazonaws.com/there?X-Amz-Signature=a-secret"
NOT_DONE = {
    "a redirect to the bucket's Region": misbehaving.RedirectTo(ELSEWHERE, status=307),
    "a permanent redirect": misbehaving.RedirectTo(ELSEWHERE, status=301),
    "a redirect without a place": misbehaving.Answer(307),
    "not modified": misbehaving.Answer(304),
    "accepted": misbehaving.Answer(202, body=REPORT_JSON),
    "no content": misbehaving.Answer(204),
    "a part that nobody asked for": misbehaving.Answer(206, body=REPORT_JSON),
}


@pytest.fixture(scope="module")
def s3() -> Iterator[MisbehavingServer]:
    with MisbehavingServer() as server:
        yield server


@pytest.fixture
def large_result(jobs: Jobs, server: JobServer) -> str:
    """A job whose result is a file of the bucket."""
    handle = jobs.submit(WARD_REPORT, DECEMBER)
    server.end(handle.id, State.SUCCEEDED)
    return handle.id


@pytest.mark.parametrize("answer", NOT_DONE.values(), ids=NOT_DONE)
def test_a_file_that_s3_does_not_answer_with_200_is_not_taken_for_stored(
    jobs: Jobs, server: JobServer, s3: MisbehavingServer, tmp_path: Path, answer: misbehaving.Answer
) -> None:
    server.storage = s3.url("put")
    s3.script("put", then=answer)
    (tmp_path / "visits.csv").write_bytes(b"Visit No\n")
    with pytest.raises(JobRefused, match=f"S3 answers {answer.status} to PUT http") as refused:
        jobs.upload(tmp_path / "visits.csv")
    assert (refused.value.type, refused.value.status) == ("unexpected-status", answer.status)
    assert ("a redirect to https://bucket.s3.eu-west-1.amazonaws.com/there" in str(refused.value)) == (
        isinstance(answer, misbehaving.RedirectTo)
    )
    assert "Signature" not in str(refused.value)


@pytest.mark.parametrize("answer", NOT_DONE.values(), ids=NOT_DONE)
def test_a_result_that_s3_does_not_answer_with_200_is_not_read(
    jobs: Jobs, server: JobServer, s3: MisbehavingServer, large_result: str, answer: misbehaving.Answer
) -> None:
    server.storage = s3.url("get")
    s3.script("get", then=answer)
    with pytest.raises(JobRefused, match=f"S3 answers {answer.status} to GET http") as refused:
        jobs.handle(WARD_REPORT, large_result).result(timeout=PATIENCE)
    assert "Signature" not in str(refused.value)


def test_a_result_at_s3_is_read_after_a_stumble(
    jobs: Jobs, server: JobServer, s3: MisbehavingServer, large_result: str
) -> None:
    server.storage = s3.url("stumbles")
    s3.script("stumbles", [misbehaving.Answer(503), misbehaving.ResetIn()], then=misbehaving.Answer(body=REPORT_JSON))
    assert jobs.handle(WARD_REPORT, large_result).result(timeout=PATIENCE) == REPORT


def test_what_s3_refuses_is_told_in_its_words_and_without_what_was_signed(
    jobs: Jobs, server: JobServer, s3: MisbehavingServer, large_result: str
) -> None:
    server.storage = s3.url("expired")
    body = (
        b"<Error><Code>AccessDenied</Code><Message>Request has \x1bexpired</Message>"
        b"<AWSAccessKeyId>AKIDSECRET</AWSAccessKeyId></Error>"
    )
    s3.script("expired", then=misbehaving.Answer(403, body=body))
    with pytest.raises(JobRefused, match=r"403, AccessDenied: Request has \?expired: .* ask again") as refused:
        jobs.handle(WARD_REPORT, large_result).result(timeout=PATIENCE)
    assert not any(each in str(refused.value) for each in ("AKIDSECRET", "execute-api", "Signature"))


@pytest.mark.parametrize("status", [202, 206, 301, 302, 303, 307, 308])
def test_a_redirect_before_the_service_is_no_answer_of_its_own(jobs: Jobs, server: JobServer, status: int) -> None:
    to = (("Location", "https://login.example/?next=%2F"),)
    handle = jobs.submit(WARD_REPORT, DECEMBER)
    job = msgspec.json.encode(server.jobs[handle.id])
    calls: list[Callable[[], object]] = [
        lambda: jobs.submit(WARD_REPORT, DECEMBER),
        lambda: jobs.get(handle.id),
        lambda: jobs.cancel(handle.id),
    ]
    for call in calls:
        server.faults = [Fault(status=status, take=False, body=job, headers=to)]
        with pytest.raises(JobRefused, match=f"the job service answers {status} to ") as refused:
            call()
        assert "a redirect to https://login.example/" in str(refused.value)


# -- the process around it


def test_a_forked_process_has_connections_of_its_own(server: JobServer) -> None:
    with Jobs(server.url, credentials=CREDENTIALS, region=REGION) as jobs:
        jobs.submit(WARD_REPORT, DECEMBER)
        before = jobs._client()
        child = os.fork()
        if child == 0:
            code = 0 if jobs._client() is not before and jobs.submit(WARD_REPORT, DECEMBER).created else 1
            os._exit(code)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        jobs.submit(WARD_REPORT, DECEMBER)
    assert len(server.jobs) == 3


def test_asking_for_a_job_in_a_transaction_loads_neither_http_nor_aws() -> None:
    code = (
        "import sys; from offload.client.job_wish import wanted;"
        "print(sorted({'httpx', 'boto3', 'botocore', 'sqlalchemy'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


# -- through the outbox


def test_a_job_is_wanted_if_and_only_if_the_transaction_commits() -> None:
    engine, outbox = create_engine("sqlite://"), Outbox()
    outbox.create_all(engine)
    for commits in (True, False):
        with Session(engine) as session:
            outbox.add(session, wanted(WARD_REPORT, DECEMBER, idempotency_key=f"commits-{commits}"))
            session.commit() if commits else session.rollback()
    with engine.connect() as connection:
        (text,) = connection.scalars(select(outbox.rows.c.event))
    found = msgspec.json.decode(text)
    assert found["id"] == "job.wanted:commits-True"
    assert found["data"]["input"] == {"first": "2010-12-01", "last": "2010-12-31"}


def test_a_wish_counts_its_delay_from_when_it_was_made_and_breaks_where_it_is_made() -> None:
    event = wanted(WARD_REPORT, DECEMBER, delay=60, traceparent="00-1-2-01")
    assert event.data.run_at == event.data.wanted_at + timedelta(minutes=1)
    assert event.traceparent == "00-1-2-01"
    assert Entry.of(event).type == "job.wanted"
    with pytest.raises(BrokenContract, match="input: first"):
        wanted(WARD_REPORT, Days(first=cast(date, 3)))


def test_the_wish_of_the_service_has_every_option_of_the_client() -> None:
    options = {"idempotency_key", "delay", "run_at", "priority", "tags", "unique_for", "traceparent"}
    assert set(Submit.__struct_fields__) == options | {"type", "input", "retry_of"}
