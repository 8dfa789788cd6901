"""What clients say to the job service and how they read its answers; it does no input or output itself.

Each call is a generator: it yields a `Call` to be sent or a `Pause` to be slept, is given the answer, and returns its
result. `offload.client.signed_http` and `offload.client.async_jobs` drive the same generators.
"""

from __future__ import annotations

import os
import random
import re
import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from html import unescape
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias, TypeVar
from urllib.parse import quote, urlencode

import msgspec
from msgspec import Raw, Struct

from offload.client.job_wish import new_key
from offload.client.publisher import Retries
from offload.contracts.events.event import Id
from offload.contracts.jobs.job import BULK_LIMIT, Job, State, Submit
from offload.contracts.jobs.job import Answer as JobAnswer
from offload.contracts.jobs.job_type import JobType

if TYPE_CHECKING:
    from botocore.credentials import Credentials

T = TypeVar("T")
ResultT = TypeVar("ResultT", bound=Struct)

_OK: Final = 200
_CREATED: Final = 201
_SEE_OTHER: Final = 303
_CLIENT_ERRORS: Final = 400
_FORBIDDEN: Final = 403
_CONFLICT: Final = 409
_TOO_MANY_REQUESTS: Final = 429
_SERVER_ERRORS: Final = 500
# Lambda takes 6 MB in a request (gettingstarted-limits.html, read 2026-11-24), and API Gateway hands the body over in
# another JSON: half of it leaves room for the escapes.
_BULK_BYTES: Final = 3_000_000
_S3_ERROR_BYTES: Final = 10_000
# Refusals that are the service's fault and stay until somebody deploys.
_STAYS: Final = frozenset({"not-deployed"})
# Looks at a job that somebody waits for: soon at first, and then this often. Seconds.
_FIRST_LOOK: Final = 0.1
_LOOK_EVERY: Final = 2.0


class JobRefused(Exception):
    """The job service does not do what was asked, and nothing of it was done.

    `type` is the refusal's stable name (`bad-input`, `idempotency-conflict`, ...), `detail` says what to do.
    """

    def __init__(self, type_: str, title: str, detail: str = "", *, status: int = 0, repeats: int = 0) -> None:
        self.type = type_
        self.title = title
        self.detail = detail
        self.status = status
        """Of the HTTP answer; 0 when there was none."""
        self.repeats = repeats
        """How often the call had been sent before, without an answer."""
        super().__init__(f"{title}: {detail}" if detail and detail != title else title or detail)


class Unreachable(Exception):
    """The service gave no usable answer, however often it was asked.

    What was asked may have been done all the same: ask for a job or a subscription again under the same
    `idempotency_key`.
    """

    def __init__(self, message: str, *, idempotency_key: str | None = None) -> None:
        self.idempotency_key = idempotency_key
        super().__init__(message)


class SomeRefused(Exception):
    """Some jobs of a `submit_many` were refused; the others are accepted."""

    def __init__(self, accepted: Mapping[int, Any], refused: Mapping[int, JobRefused]) -> None:
        self.accepted = dict(accepted)
        """Handles by the input's place."""
        self.refused = dict(refused)
        """Refusals by the input's place."""
        at, first = next(iter(self.refused.items()))
        super().__init__(
            f"{len(self.refused)} of {len(self.accepted) + len(self.refused)} jobs were refused, number {at} "
            f"for: {first}; see .refused"
        )


class NotSucceeded(Exception):
    """A job has no result. `job` is the job as it was seen last."""

    def __init__(self, job: Job, message: str) -> None:
        self.job = job
        super().__init__(message)


class JobFailed(NotSucceeded):
    """The job has failed for good; the message has its error."""


class JobCancelled(NotSucceeded):
    """The job was cancelled."""


class TimedOut(NotSucceeded, TimeoutError):
    """The job had not ended in the time that the caller would wait; it goes on all the same."""


class Problem(Struct, frozen=True):
    """A refusal as it travels (RFC 9457), or API Gateway's own: `{"message": "Forbidden"}`."""

    type: str = "about:blank"
    title: str = ""
    detail: str = ""
    status: int = 0
    message: str = ""

    def refusal(self, repeats: int = 0) -> JobRefused:
        """The error for people; its type is the last part of the problem's."""
        name = self.type.rstrip("/").replace(":", "/").rpartition("/")[2]
        return JobRefused(name, self.title or name, self.detail, status=self.status, repeats=repeats)


class Page(Struct, frozen=True):
    """Jobs, newest first; `cursor` asks for the ones after them."""

    jobs: tuple[Job, ...]
    cursor: str | None = None


@dataclass(frozen=True)
class Call:
    """One request. `path` is below the service's endpoint; `url`, when given, is called as it stands and unsigned.

    A `content` that is a path is sent as the file's bytes. `done` are the statuses that say that it was done: a
    presigned URL of S3 answers 200, and anything else below 400 there or of the service is an error.
    """

    method: str
    path: str
    query: Mapping[str, str] = field(default_factory=dict)
    content: bytes | Path = b""
    headers: Mapping[str, str] = field(default_factory=dict)
    url: str = ""
    done: tuple[int, ...] = (_OK, _CREATED)

    @property
    def told(self) -> str:
        """The call for people: without a query, which may be signed."""
        return f"{self.method} {self.path or _without_query(self.url)}"

    def address(self, endpoint: str) -> str:
        """The whole URL."""
        if self.url:
            return self.url
        asked = f"?{urlencode(sorted(self.query.items()), quote_via=quote)}" if self.query else ""
        return f"{endpoint.rstrip('/')}{self.path}{asked}"


@dataclass(frozen=True)
class Answer:
    """The service's answer. `headers` have lower case names."""

    status: int
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True)
class NoAnswer:
    """The connection failed, before the request was sent or after."""

    why: str


@dataclass(frozen=True)
class Pause:
    """Seconds to sleep."""

    seconds: float


Steps: TypeAlias = Generator[Call | Pause, Answer | NoAnswer | None, T]


class Signer:
    """Signs requests by AWS Signature Version 4, as who `credentials` are."""

    def __init__(self, credentials: Credentials | None = None, region: str | None = None) -> None:
        """By default the credentials and the Region of the usual places; raises JobRefused when there are none."""
        import botocore.session

        session = botocore.session.get_session()
        found = credentials or session.get_credentials()
        if found is None:
            raise JobRefused("no-credentials", "there are no AWS credentials", "log in, or set AWS_PROFILE")
        self._credentials: Final = found
        self._region = region or os.environ.get("AWS_REGION") or session.get_config_variable("region")
        if not self._region:
            raise JobRefused("no-region", "there is no AWS Region", "set AWS_REGION, or give `region`")

    def signed(self, call: Call, url: str) -> dict[str, str]:
        """The call's headers with its signature."""
        from botocore.auth import SigV4Auth
        from botocore.awsrequest import AWSRequest

        body = call.content if isinstance(call.content, bytes) else b""
        request = AWSRequest(method=call.method, url=url, data=body, headers=dict(call.headers))
        SigV4Auth(self._credentials.get_frozen_credentials(), "execute-api", self._region).add_auth(request)
        return {name: str(value) for name, value in request.headers.items()}


@dataclass(frozen=True)
class Calls:
    """Every call, as steps to be driven."""

    retries: Retries
    clock: Callable[[], float] = time.monotonic
    jitter: Callable[[float, float], float] = random.uniform

    # -- asking for jobs

    def submit(self, wish: Submit) -> Steps[Accepted]:
        """Asks for one job; sent again under one key as long as there is no answer."""
        key = wish.idempotency_key or new_key()
        content = msgspec.json.encode(msgspec.structs.replace(wish, idempotency_key=None))
        try:
            answer = yield from self._ask(
                Call("POST", "/jobs", content=content, headers=_json({"Idempotency-Key": key}, wish.traceparent))
            )
        except Unreachable as error:
            raise Unreachable(f"{error} (idempotency key {key})", idempotency_key=key) from error
        return Accepted(_read(answer, Job), answer.status == _CREATED)

    def submit_many(self, wishes: Sequence[Submit]) -> Steps[dict[int, Accepted | JobRefused]]:
        """Asks for jobs, a thousand at a time; every wish has an idempotency key. What became of each, by its place."""
        became: dict[int, Accepted | JobRefused] = {}
        left = list(range(len(wishes)))
        ends = self.clock() + self.retries.deadline
        attempt = 1
        while left:
            busy: list[int] = []
            for portion in _portions(wishes, left):
                body = msgspec.json.encode({"jobs": [wishes[at] for at in portion]})
                answer = yield from self._ask(Call("POST", "/jobs/bulk", content=body, headers=_json()))
                outcomes = _read(answer, _Outcomes).jobs
                if len(outcomes) != len(portion):
                    raise Unreachable(f"the job service answered for {len(outcomes)} jobs of {len(portion)}")
                for at, outcome in zip(portion, outcomes, strict=True):
                    became[at] = outcome.became()
                    if outcome.may_pass():
                        busy.append(at)
            pause = self.retries.backoff(attempt, self.jitter)
            if busy and (attempt >= self.retries.attempts or self.clock() + pause >= ends):
                break
            if busy:
                yield Pause(pause)
            left, attempt = busy, attempt + 1
        return became

    # -- looking at jobs

    def get(self, job_id: str) -> Steps[Job]:
        """A job as it stands."""
        return _read((yield from self._ask(Call("GET", _path(job_id)))), Job)

    def page(
        self,
        *,
        job_type: str | None = None,
        state: State | str | None = None,
        since: datetime | None = None,
        tag: str | None = None,
        limit: int | None = None,
        cursor: str | None = None,
    ) -> Steps[Page]:
        """Jobs, newest first."""
        query = {
            "type": job_type,
            "state": str(state) if state else None,
            "since": since.isoformat() if since else None,
            "tag": tag,
            "limit": str(limit) if limit else None,
            "cursor": cursor,
        }
        asked = {name: value for name, value in query.items() if value is not None}
        return _read((yield from self._ask(Call("GET", "/jobs", query=asked))), Page)

    def wait(self, job_id: str, timeout: float | None) -> Steps[Job]:
        """The job once it has ended; raises TimedOut."""
        ends = None if timeout is None else self.clock() + timeout
        pause = _FIRST_LOOK
        while True:
            job = yield from self.get(job_id)
            if job.state.ended:
                return job
            left = None if ends is None else ends - self.clock()
            if left is not None and left <= 0:
                raise TimedOut(job, f"job {job_id} ({job.type}) is {job.state} after {timeout:g} s{_where(job)}")
            yield Pause(pause if left is None else min(pause, left))
            pause = min(_LOOK_EVERY, pause * 1.5)

    def result(self, job_type: JobType[Any, ResultT], job_id: str, timeout: float | None) -> Steps[ResultT]:
        """The job's result once it has ended; raises JobFailed, JobCancelled, TimedOut."""
        job = yield from self.wait(job_id, timeout)
        content = (yield from self.result_of(job)) if job.result is None else bytes(job.result)
        try:
            return msgspec.json.decode(content, type=job_type.result)
        except msgspec.MsgspecError as error:
            raise JobRefused("broken-result", f"the result of job {job_id} breaks its contract", str(error)) from error

    def result_of(self, job: Job) -> Steps[bytes]:
        """The JSON of an ended job's result; raises JobFailed, JobCancelled."""
        if job.state is State.CANCELLED:
            raise JobCancelled(job, f"job {job.id} ({job.type}) was cancelled")
        if job.state is State.FAILED:
            raise JobFailed(job, f"job {job.id} ({job.type}) failed in attempt {job.attempt}: {job.error}")
        if job.result is not None:
            return bytes(job.result)
        call = Call("GET", f"{_path(job.id)}/result", done=(_OK, _SEE_OTHER))
        answer = yield from self._ask(call)
        if answer.status == _SEE_OTHER:
            if not (place := answer.headers.get("location")):
                raise _not_done(call, answer)
            answer = yield from self._ask(Call("GET", "", url=place, done=(_OK,)))
        return answer.body

    # -- changing jobs

    def cancel(self, job_id: str) -> Steps[Job]:
        """Cancels a job; raises JobRefused when it has ended."""
        call = Call("POST", f"{_path(job_id)}/cancel", headers=_json())
        return (yield from self._once(call, job_id, lambda job: job.cancel_requested or job.state is State.CANCELLED))

    def retry(self, job_id: str, content: Raw | None, key: str) -> Steps[Job]:
        """A new job that names the old one, once for the key."""
        body = b"{}" if content is None else msgspec.json.encode({"input": content})
        call = Call("POST", f"{_path(job_id)}/retry", content=body, headers=_json({"Idempotency-Key": key}))
        return _read((yield from self._ask(call)), Job)

    def decide(
        self, job_id: str, decision: Literal["done", "retry", "fail"], result: Raw | None, why: str
    ) -> Steps[Job]:
        """What a person says of a held job."""
        body: dict[str, Any] = {"decision": decision, "why": why}
        if result is not None:
            body["result"] = result
        call = Call("POST", f"{_path(job_id)}/decide", content=msgspec.json.encode(body), headers=_json())
        return (yield from self._once(call, job_id, lambda job: job.state is not State.HELD))

    def answer(self, job_id: str, said: JobAnswer) -> Steps[Job]:
        """What a person says to a long job's question."""
        call = Call("POST", f"{_path(job_id)}/answer", content=msgspec.json.encode(said), headers=_json())
        return (yield from self._once(call, job_id, lambda job: job.question is None))

    # -- the service

    def document(self, method: Literal["GET", "POST"], path: str) -> Steps[Any]:
        """What the service says about itself: types, schedules."""
        return _read((yield from self._ask(Call(method, path, headers=_json() if method == "POST" else {}))), Any)

    def upload(self, file: Path) -> Steps[str]:
        """Puts a file into the jobs' bucket; its key, for a job's input."""
        size = file.stat().st_size
        body = msgspec.json.encode({"name": file.name})
        place = _read((yield from self._ask(Call("POST", "/uploads", content=body, headers=_json()))), _Upload)
        headers = {**place.headers, "Content-Length": str(size)}
        content = file if size else b""
        yield from self._ask(Call("PUT", "", url=place.url, content=content, headers=headers, done=(_OK,)))
        return place.key

    def _once(self, call: Call, job_id: str, done: Callable[[Job], bool]) -> Steps[Job]:
        """A change that is refused the second time: after a lost answer, the job says whether the first one did it."""
        try:
            return _read((yield from self._ask(call)), Job)
        except JobRefused as error:
            if not error.repeats or error.status != _CONFLICT:
                raise
            job = yield from self.get(job_id)
            if not done(job):
                raise
            return job

    def _ask(self, call: Call) -> Steps[Answer]:
        """The answer to a call, asked again when there is none or the service is in trouble."""
        got, attempts = yield from repeated(call, self.retries, self.clock, self.jitter, _may_pass)
        if isinstance(got, NoAnswer) or _may_pass(got):
            why = got.why if isinstance(got, NoAnswer) else f"{got.status}, {_refusal(got, 0)}"
            raise Unreachable(f"{_answerer(call)} has no answer to {call.told} after {attempts} attempts: {why}")
        if got.status in call.done:
            return got
        if got.status < _CLIENT_ERRORS:
            raise _not_done(call, got)
        raise _refused_by_s3(call, got, attempts - 1) if call.url else _refusal(got, attempts - 1)


def repeated(
    call: Call,
    retries: Retries,
    clock: Callable[[], float],
    jitter: Callable[[float, float], float],
    may_pass: Callable[[Answer], bool],
) -> Steps[tuple[Answer | NoAnswer, int]]:
    """Sends a call until it has an answer that does not pass; what came last, and how often the call was sent."""
    ends = clock() + retries.deadline
    attempt = 1
    while True:
        got = (yield call) or NoAnswer("")
        if isinstance(got, Answer) and not may_pass(got):
            return got, attempt
        pause = max(retries.backoff(attempt, jitter), _retry_after(got))
        if attempt >= retries.attempts or clock() + pause >= ends:
            return got, attempt
        yield Pause(pause)
        attempt += 1


@dataclass(frozen=True)
class Accepted:
    """A job, and whether this submit made it."""

    job: Job
    created: bool


class _Outcome(Struct, frozen=True):
    """What became of one job of a bulk submit."""

    status: int
    job: Job | None = None
    problem: Problem | None = None

    def may_pass(self) -> bool:
        return is_trouble(self.status) and (self.problem is None or self.problem.refusal().type not in _STAYS)

    def became(self) -> Accepted | JobRefused:
        if self.job is not None:
            return Accepted(self.job, self.status == _CREATED)
        return (self.problem or Problem(title="refused without a reason", status=self.status)).refusal()


class _Outcomes(Struct, frozen=True):
    jobs: tuple[_Outcome, ...]


class _Upload(Struct, frozen=True):
    """Where a file may be put, once."""

    key: Id
    url: str
    headers: dict[str, str] = {}


def _portions(wishes: Sequence[Submit], places: Sequence[int]) -> Iterator[list[int]]:
    """The places in portions that one request takes."""
    portion: list[int] = []
    size = 0
    for at in places:
        room = len(msgspec.json.encode(wishes[at])) + 1
        if portion and (len(portion) == BULK_LIMIT or size + room > _BULK_BYTES):
            yield portion
            portion, size = [], 0
        portion.append(at)
        size += room
    if portion:
        yield portion


def _path(job_id: str) -> str:
    return f"/jobs/{quote(job_id, safe='')}"


def _json(more: Mapping[str, str] | None = None, traceparent: str | None = None) -> dict[str, str]:
    traced = {"traceparent": traceparent} if traceparent else {}
    return {"Content-Type": "application/json", **(more or {}), **traced}


def is_trouble(status: int) -> bool:
    """Whether an answer of this status may pass: the service or the way to it is in trouble, not the call."""
    return status == _TOO_MANY_REQUESTS or status >= _SERVER_ERRORS


def _may_pass(answer: Answer) -> bool:
    return is_trouble(answer.status) and _refusal(answer, 0).type not in _STAYS


def _retry_after(got: Answer | NoAnswer) -> float:
    """The seconds that an answer asks to wait for; 0 when it does not."""
    said = got.headers.get("retry-after", "") if isinstance(got, Answer) else ""
    return float(said) if said.isdigit() else 0.0


def problem_of(answer: Answer) -> Problem:
    """What a refusal says; an empty one for a body that is no problem document."""
    try:
        return msgspec.json.decode(answer.body, type=Problem)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return Problem()


def _refusal(answer: Answer, repeats: int) -> JobRefused:
    problem = problem_of(answer)
    if problem.title or problem.detail:
        return msgspec.structs.replace(problem, status=answer.status).refusal(repeats)
    title = problem.message or f"HTTP status {answer.status}"
    if answer.status == _FORBIDDEN:
        detail = "the credentials need execute-api:Invoke on the job service's API, and a clock that is right"
        return JobRefused("forbidden", title, detail, status=answer.status, repeats=repeats)
    return JobRefused("refused", title, status=answer.status, repeats=repeats)


def _not_done(call: Call, answer: Answer) -> JobRefused:
    """The refusal of a status below 400 that does not say that the call was done: most often a redirect.

    It is not followed: a signature is for one host.
    """
    there = answer.headers.get("location", "")
    to = f", a redirect to {_without_query(there)}" if there else ""
    detail = (
        "nothing was stored or read: ask again, and see that the bucket is in the service's Region"
        if call.url
        else "that is no answer of the job service's: see that the endpoint is its own, with no proxy in between"
    )
    title = f"{_answerer(call)} answers {answer.status} to {call.told}{to}"
    return JobRefused("unexpected-status", title, detail, status=answer.status)


def _refused_by_s3(call: Call, answer: Answer, repeats: int) -> JobRefused:
    # Nothing else of S3's error: that repeats what was signed (AmazonS3/latest/API/ErrorResponses.html).
    code, message = (_element(answer.body, name) for name in ("Code", "Message"))
    said = ": ".join(part for part in (code, message) if part)
    title = f"S3 refuses {call.told}: {answer.status}{f', {said}' if said else ''}"
    detail = "a presigned URL is for 15 minutes: ask again" if answer.status == _FORBIDDEN else ""
    return JobRefused("refused-by-s3", title, detail, status=answer.status, repeats=repeats)


def _element(body: bytes, name: str) -> str:
    found = re.search(f"<{name}>([^<]{{1,300}})</{name}>", body[:_S3_ERROR_BYTES].decode(errors="replace"))
    return _printable(unescape(found[1])) if found else ""


def _answerer(call: Call) -> str:
    return "S3" if call.url else "the job service"


def _without_query(url: str) -> str:
    return _printable(url.partition("?")[0])


def _printable(text: str) -> str:
    return "".join(each if each.isprintable() else "?" for each in text)


def _read(answer: Answer, kind: type[T]) -> T:
    try:
        return msgspec.json.decode(answer.body, type=kind)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise Unreachable(f"what answers is not the job service, or another version of it: {error}") from error


def _where(job: Job) -> str:
    """What a job that has not ended is at, or waits for, as the end of a sentence; empty when that is not known."""
    if job.state is State.HELD:
        return ": a person has to decide on it"
    if job.question is not None:
        return f": it asks a person '{job.question.text}'"
    return f", in its step '{job.progress.step}'" if job.progress is not None and job.progress.step else ""
