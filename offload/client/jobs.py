"""Background jobs from the monolith: submit them, wait for them, take their results.

    jobs = Jobs("https://….execute-api.eu-west-1.amazonaws.com")
    handle = jobs.submit(REPORT, Period(first=date(2010, 12, 1)))
    report = handle.result(timeout=60)
    report = jobs.bind(REPORT)
    report.delay(first=date(2010, 12, 1))

`offload.client.async_jobs` has the same for asyncio.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Generic, Literal, Self, TypeVar, Unpack

from msgspec import Struct

from offload.client import connection
from offload.client.job_calls import (
    Calls,
    JobCancelled,
    JobFailed,
    JobRefused,
    NotSucceeded,
    Page,
    Signer,
    SomeRefused,
    TimedOut,
    Unreachable,
)
from offload.client.job_wish import Options, built, encoded, new_key, seconds, wanted, wish_of
from offload.client.publisher import Retries
from offload.client.signed_http import TIMEOUT, SignedHttp
from offload.contracts.jobs.job import Answer as JobAnswer
from offload.contracts.jobs.job import Job, Progress, State
from offload.contracts.jobs.job_type import JobType

if TYPE_CHECKING:
    import ssl

    import httpx
    from botocore.credentials import Credentials

__all__ = [
    "TIMEOUT",
    "Bound",
    "Handle",
    "JobCancelled",
    "JobFailed",
    "JobRefused",
    "Jobs",
    "NotSucceeded",
    "Options",
    "Page",
    "Retries",
    "SomeRefused",
    "TimedOut",
    "Unreachable",
    "wanted",
]

InputT = TypeVar("InputT", bound=Struct)
ResultT = TypeVar("ResultT", bound=Struct)
T = TypeVar("T")


class Jobs(SignedHttp):
    """The job service of one environment. Threads may share one; a forked process gets connections of its own."""

    def __init__(
        self,
        endpoint: str,
        *,
        credentials: Credentials | None = None,
        region: str | None = None,
        retries: Retries | None = None,
        verify: ssl.SSLContext | bool = True,
        trust_env: bool = True,
        timeout: httpx.Timeout = TIMEOUT,
        sleep: Callable[[float], None] = time.sleep,
        clock: Callable[[], float] = time.monotonic,
        jitter: Callable[[float, float], float] = random.uniform,
    ) -> None:
        """`endpoint` is the API's URL; `credentials` are botocore's, by default those of the usual places.

        `trust_env` lets the environment's proxies and certificates count. Raises JobRefused without credentials.
        """
        super().__init__(
            endpoint, Signer(credentials, region), verify=verify, trust_env=trust_env, timeout=timeout, sleep=sleep
        )
        self._calls = Calls(retries or Retries(), clock, jitter)

    @classmethod
    def from_environment(cls, *, retries: Retries | None = None, timeout: httpx.Timeout = TIMEOUT) -> Self:
        """The job service that OFFLOAD_JOBS_URL names; raises NotConnected, and JobRefused without credentials."""
        return cls(connection.jobs_url(), retries=retries, timeout=timeout)

    # -- asking for jobs

    def submit(
        self, job_type: JobType[InputT, ResultT], content: InputT, **options: Unpack[Options]
    ) -> Handle[ResultT]:
        """Asks for a job, once: what is sent again after a lost answer is the same job, by its idempotency key.

        Raises BrokenContract before anything is sent, JobRefused, Unreachable.
        """
        accepted = self.run(self._calls.submit(wish_of(job_type, content, options)))
        return Handle(self, job_type, accepted.job.id, created=accepted.created)

    def submit_many(
        self,
        job_type: JobType[InputT, ResultT],
        contents: Iterable[InputT],
        *,
        key: Callable[[InputT], str] | None = None,
        **options: Unpack[Options],
    ) -> list[Handle[ResultT]]:
        """Asks for a job for each of the contents, a thousand in a request; `key` makes the idempotency key of one.

        Raises BrokenContract before anything is sent, SomeRefused with the handles of those that were accepted.
        """
        wishes = [
            wish_of(job_type, content, {**options, "idempotency_key": key(content) if key else None})
            for content in contents
        ]
        became = self.run(self._calls.submit_many(wishes))
        handles: dict[int, Handle[ResultT]] = {}
        refused: dict[int, JobRefused] = {}
        for at, what in sorted(became.items()):
            if isinstance(what, JobRefused):
                refused[at] = what
            else:
                handles[at] = Handle(self, job_type, what.job.id, created=what.created)
        if refused:
            raise SomeRefused(handles, refused)
        return list(handles.values())

    def bind(self, job_type: JobType[InputT, ResultT], **options: Unpack[Options]) -> Bound[InputT, ResultT]:
        """A job type that can be asked for like a Celery task: `jobs.bind(REPORT).delay(first=…)`."""
        return Bound(self, job_type, options)

    # -- jobs that are there

    def handle(self, job_type: JobType[Any, ResultT], job_id: str) -> Handle[ResultT]:
        """The handle of a job whose id was kept."""
        return Handle(self, job_type, job_id)

    def get(self, job_id: str) -> Job:
        """A job as it stands; raises JobRefused (`no-such-job`)."""
        return self.run(self._calls.get(job_id))

    def page(
        self,
        *,
        job_type: str | None = None,
        state: State | str | None = None,
        since: datetime | None = None,
        tag: str | None = None,
        limit: int | None = None,
        cursor: str | None = None,
    ) -> Page:
        """Jobs, newest first."""
        return self.run(
            self._calls.page(job_type=job_type, state=state, since=since, tag=tag, limit=limit, cursor=cursor)
        )

    def cancel(self, job_id: str) -> Job:
        """Cancels a job: one that does not run never will, a running one ends at its next checkpoint."""
        return self.run(self._calls.cancel(job_id))

    def retry(
        self, job_type: JobType[InputT, Any], job_id: str, content: InputT | None = None, *, key: str | None = None
    ) -> Job:
        """A new job with the input of an ended one, or with `content`; it names the old one (`retry_of`)."""
        given = None if content is None else encoded(job_type, content)
        return self.run(self._calls.retry(job_id, given, key or new_key()))

    def decide(
        self,
        job_type: JobType[Any, ResultT],
        job_id: str,
        decision: Literal["done", "retry", "fail"],
        *,
        result: ResultT | None = None,
        why: str = "",
    ) -> Job:
        """Says of a held job that its effect is done (with its result), is to be tried again, or failed for good."""
        given = None if result is None else encoded(job_type, result, what="result")
        return self.run(self._calls.decide(job_id, decision, given, why))

    def answer(self, job_id: str, *, yes: bool, by: str = "", note: str = "") -> Job:
        """Answers a long job's question; raises JobRefused when it asks none."""
        return self.run(self._calls.answer(job_id, JobAnswer(yes=yes, by=by, note=note)))

    def result_json(self, job: Job) -> bytes:
        """The JSON of an ended job's result, from wherever it is; raises JobFailed, JobCancelled."""
        return self.run(self._calls.result_of(job))

    def wait(self, job_id: str, timeout: timedelta | float | None = None) -> Job:
        """The job once it has ended; raises TimedOut after `timeout` seconds."""
        return self.run(self._calls.wait(job_id, seconds(timeout)))

    # -- the service

    def types(self) -> Any:
        """The job types that the service knows, as it says it."""
        return self.run(self._calls.document("GET", "/job-types"))

    def schedules(self) -> Any:
        """The schedules with their next fire times, as the service says it."""
        return self.run(self._calls.document("GET", "/schedules"))

    def pause(self, job_type: str) -> Any:
        """Stops a type's schedule from firing."""
        return self.run(self._calls.document("POST", f"/schedules/{job_type}/pause"))

    def resume(self, job_type: str) -> Any:
        """Lets a type's schedule fire again."""
        return self.run(self._calls.document("POST", f"/schedules/{job_type}/resume"))

    def upload(self, file: Path) -> str:
        """Puts a file into the jobs' bucket; returns its key, for a job's input. Raises OSError."""
        return self.run(self._calls.upload(file))


class Handle(Generic[ResultT]):
    """One job, of a known type."""

    def __init__(self, jobs: Jobs, job_type: JobType[Any, ResultT], job_id: str, *, created: bool = False) -> None:
        self._jobs = jobs
        self.job_type: Final = job_type
        self.id: Final = job_id
        self.created: Final = created
        """Whether the submit that returned this made the job; False when it was there before."""

    def __repr__(self) -> str:
        return f"Handle({self.job_type.name!r}, {self.id!r})"

    def job(self) -> Job:
        """The job as it stands, with its history."""
        return self._jobs.get(self.id)

    def status(self) -> State:
        """Where the job is."""
        return self.job().state

    def progress(self) -> Progress | None:
        """How far the run is, when it has said so."""
        return self.job().progress

    def wait(self, timeout: timedelta | float | None = None) -> Job:
        """The job once it has ended, however it did; raises TimedOut after `timeout` seconds."""
        return self._jobs.wait(self.id, timeout)

    def result(self, timeout: timedelta | float | None = None) -> ResultT:
        """The result, by the type's contract, once the job has ended; raises JobFailed, JobCancelled, TimedOut.

        A held job has not ended: without a timeout this waits for a person.
        """
        return self._jobs.run(self._jobs._calls.result(self.job_type, self.id, seconds(timeout)))

    def cancel(self) -> Job:
        """Cancels the job; raises JobRefused (`already-ended`)."""
        return self._jobs.cancel(self.id)


@dataclass(frozen=True)
class Bound(Generic[InputT, ResultT]):
    """A job type with the service that runs it, and the options that its submits have."""

    jobs: Jobs
    job_type: JobType[InputT, ResultT]
    options: Options

    def delay(self, **fields: Any) -> Handle[ResultT]:
        """Asks for a job whose input has these fields; raises as `Jobs.submit` does."""
        return self.jobs.submit(self.job_type, built(self.job_type, fields), **self.options)
