"""Background jobs from asyncio: what `offload.client.jobs` has, to be awaited."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Generic, Literal, Self, TypeVar, Unpack

import httpx
from msgspec import Struct

from offload.client import connection
from offload.client.job_calls import Answer, Call, Calls, JobRefused, NoAnswer, Page, Pause, Signer, SomeRefused, Steps
from offload.client.job_wish import Options, built, encoded, new_key, seconds, wish_of
from offload.client.publisher import Retries
from offload.client.signed_http import TIMEOUT, without_values
from offload.contracts.jobs.job import Answer as JobAnswer
from offload.contracts.jobs.job import Job, Progress, State
from offload.contracts.jobs.job_type import JobType

if TYPE_CHECKING:
    import ssl

    from botocore.credentials import Credentials

InputT = TypeVar("InputT", bound=Struct)
ResultT = TypeVar("ResultT", bound=Struct)
T = TypeVar("T")

_CHUNK: Final = 1024 * 1024


class AsyncJobs:
    """The job service of one environment, for one event loop: `async with AsyncJobs(endpoint) as jobs`.

    Arguments, results and errors are those of `offload.client.jobs.Jobs`.
    """

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
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        clock: Callable[[], float] = time.monotonic,
        jitter: Callable[[float, float], float] = random.uniform,
    ) -> None:
        self._endpoint = endpoint
        self._signer = Signer(credentials, region)
        self._calls = Calls(retries or Retries(), clock, jitter)
        self._sleep = sleep
        self._http = httpx.AsyncClient(verify=verify, trust_env=trust_env, timeout=timeout)

    @classmethod
    def from_environment(cls, *, retries: Retries | None = None, timeout: httpx.Timeout = TIMEOUT) -> Self:
        """The job service that OFFLOAD_JOBS_URL names; raises NotConnected, and JobRefused without credentials."""
        return cls(connection.jobs_url(), retries=retries, timeout=timeout)

    async def submit(
        self, job_type: JobType[InputT, ResultT], content: InputT, **options: Unpack[Options]
    ) -> AsyncHandle[ResultT]:
        """Asks for a job, once."""
        accepted = await self.run(self._calls.submit(wish_of(job_type, content, options)))
        return AsyncHandle(self, job_type, accepted.job.id, created=accepted.created)

    async def submit_many(
        self,
        job_type: JobType[InputT, ResultT],
        contents: Iterable[InputT],
        *,
        key: Callable[[InputT], str] | None = None,
        **options: Unpack[Options],
    ) -> list[AsyncHandle[ResultT]]:
        """Asks for a job for each of the contents; raises SomeRefused."""
        wishes = [
            wish_of(job_type, content, {**options, "idempotency_key": key(content) if key else None})
            for content in contents
        ]
        became = await self.run(self._calls.submit_many(wishes))
        handles: dict[int, AsyncHandle[ResultT]] = {}
        refused: dict[int, JobRefused] = {}
        for at, what in sorted(became.items()):
            if isinstance(what, JobRefused):
                refused[at] = what
            else:
                handles[at] = AsyncHandle(self, job_type, what.job.id, created=what.created)
        if refused:
            raise SomeRefused(handles, refused)
        return list(handles.values())

    def bind(self, job_type: JobType[InputT, ResultT], **options: Unpack[Options]) -> AsyncBound[InputT, ResultT]:
        """A job type that can be asked for like a Celery task: `await jobs.bind(REPORT).delay(first=…)`."""
        return AsyncBound(self, job_type, options)

    def handle(self, job_type: JobType[Any, ResultT], job_id: str) -> AsyncHandle[ResultT]:
        """The handle of a job whose id was kept."""
        return AsyncHandle(self, job_type, job_id)

    async def get(self, job_id: str) -> Job:
        """A job as it stands."""
        return await self.run(self._calls.get(job_id))

    async def page(
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
        return await self.run(
            self._calls.page(job_type=job_type, state=state, since=since, tag=tag, limit=limit, cursor=cursor)
        )

    async def cancel(self, job_id: str) -> Job:
        """Cancels a job."""
        return await self.run(self._calls.cancel(job_id))

    async def retry(
        self, job_type: JobType[InputT, Any], job_id: str, content: InputT | None = None, *, key: str | None = None
    ) -> Job:
        """A new job with the input of an ended one, or with `content`."""
        given = None if content is None else encoded(job_type, content)
        return await self.run(self._calls.retry(job_id, given, key or new_key()))

    async def decide(
        self,
        job_type: JobType[Any, ResultT],
        job_id: str,
        decision: Literal["done", "retry", "fail"],
        *,
        result: ResultT | None = None,
        why: str = "",
    ) -> Job:
        """Says what became of a held job's effect."""
        given = None if result is None else encoded(job_type, result, what="result")
        return await self.run(self._calls.decide(job_id, decision, given, why))

    async def answer(self, job_id: str, *, yes: bool, by: str = "", note: str = "") -> Job:
        """Answers a long job's question; raises JobRefused when it asks none."""
        return await self.run(self._calls.answer(job_id, JobAnswer(yes=yes, by=by, note=note)))

    async def wait(self, job_id: str, timeout: timedelta | float | None = None) -> Job:
        """The job once it has ended; raises TimedOut after `timeout` seconds."""
        return await self.run(self._calls.wait(job_id, seconds(timeout)))

    async def upload(self, file: Path) -> str:
        """Puts a file into the jobs' bucket; returns its key, for a job's input. Raises OSError."""
        return await self.run(self._calls.upload(file))

    async def close(self) -> None:
        """Closes the connections."""
        await self._http.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def run(self, steps: Steps[T]) -> T:
        """Drives a call's steps to their end."""
        given: Answer | NoAnswer | None = None
        while True:
            try:
                step = steps.send(given)
            except StopIteration as end:
                value: T = end.value
                return value
            if isinstance(step, Pause):
                await self._sleep(step.seconds)
                given = None
            else:
                given = await self._send(step)

    async def _send(self, call: Call) -> Answer | NoAnswer:
        url = call.address(self._endpoint)
        headers = dict(call.headers) if call.url else self._signer.signed(call, url)
        content = call.content if isinstance(call.content, bytes) else _chunks(call.content)
        try:
            answer = await self._http.request(call.method, url, content=content, headers=headers)
        except httpx.TransportError as error:
            return NoAnswer(without_values(error, headers))
        return Answer(answer.status_code, dict(answer.headers), answer.content)


class AsyncHandle(Generic[ResultT]):
    """One job, of a known type."""

    def __init__(self, jobs: AsyncJobs, job_type: JobType[Any, ResultT], job_id: str, *, created: bool = False) -> None:
        self._jobs = jobs
        self.job_type: Final = job_type
        self.id: Final = job_id
        self.created: Final = created
        """Whether the submit that returned this made the job; False when it was there before."""

    def __repr__(self) -> str:
        return f"AsyncHandle({self.job_type.name!r}, {self.id!r})"

    async def job(self) -> Job:
        """The job as it stands, with its history."""
        return await self._jobs.get(self.id)

    async def status(self) -> State:
        """Where the job is."""
        return (await self.job()).state

    async def progress(self) -> Progress | None:
        """How far the run is, when it has said so."""
        return (await self.job()).progress

    async def wait(self, timeout: timedelta | float | None = None) -> Job:
        """The job once it has ended, however it did; raises TimedOut after `timeout` seconds."""
        return await self._jobs.wait(self.id, timeout)

    async def result(self, timeout: timedelta | float | None = None) -> ResultT:
        """The result, by the type's contract, once the job has ended; raises JobFailed, JobCancelled, TimedOut."""
        return await self._jobs.run(self._jobs._calls.result(self.job_type, self.id, seconds(timeout)))

    async def cancel(self) -> Job:
        """Cancels the job; raises JobRefused (`already-ended`)."""
        return await self._jobs.cancel(self.id)


@dataclass(frozen=True)
class AsyncBound(Generic[InputT, ResultT]):
    """A job type with the service that runs it, and the options that its submits have."""

    jobs: AsyncJobs
    job_type: JobType[InputT, ResultT]
    options: Options

    async def delay(self, **fields: Any) -> AsyncHandle[ResultT]:
        """Asks for a job whose input has these fields."""
        return await self.jobs.submit(self.job_type, built(self.job_type, fields), **self.options)


async def _chunks(file: Path) -> AsyncIterator[bytes]:
    with await asyncio.to_thread(file.open, "rb") as stream:
        while chunk := await asyncio.to_thread(stream.read, _CHUNK):
            yield chunk
