"""The job service's HTTP API, behind API Gateway's IAM authorizer (payload format 2.0).

Routes are a table of a few lines: a routing library would be imported at every cold start for them.
"""

from __future__ import annotations

import base64
import re
import time
import uuid
from collections.abc import Callable
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final, Literal

import msgspec
from aws_lambda_powertools import Logger
from botocore.exceptions import BotoCoreError, ClientError
from msgspec import UNSET, UnsetType

from offload.contracts.jobs.catalogue import JOB_TYPES
from offload.contracts.jobs.job import BULK_LIMIT, LONGEST_INPUT, Job, State, Submit
from offload.contracts.jobs.job_type import JobType
from offload.runtime import aws
from offload.runtime.jobs import schedules
from offload.runtime.jobs.refusals import JobRefused, NotEnded, UnknownType
from offload.runtime.jobs.store import JobStore

from .problems import CONTENT_TYPE, Problem, Refusal, problem_of

if TYPE_CHECKING:
    from aws_lambda_powertools.utilities.typing import LambdaContext

# A submit is its input and a little around it; Lambda takes 6 MB (gettingstarted-limits.html, read 2026-11-24), and
# API Gateway hands the body over in another JSON.
LONGEST_BODY: Final = LONGEST_INPUT + 16 * 1024
LONGEST_BULK: Final = 4_000_000
MOST_LISTED: Final = 200
_PRESIGNED_SECONDS: Final = 900
_BROKEN_KEY: Final = "The Idempotency-Key header has 1 to 256 printable characters"

store = JobStore.from_environment()
log = Logger(service="jobs_api")


class Request:
    """One request, decoded."""

    def __init__(self, event: dict[str, Any]) -> None:
        http = event["requestContext"]["http"]
        self.method: str = http["method"]
        self.path: str = event["rawPath"]
        self.query: dict[str, str] = event.get("queryStringParameters") or {}
        self.headers: dict[str, str] = {name.lower(): value for name, value in (event.get("headers") or {}).items()}
        self._event = event

    def body(self, limit: int = LONGEST_BODY) -> bytes:
        """The body's bytes; raises Refusal (413) when there are more than `limit`."""
        text: str = self._event.get("body") or ""
        content = base64.b64decode(text) if self._event.get("isBase64Encoded") else text.encode()
        if len(content) > limit:
            raise Refusal(
                "body-too-large",
                "The body is too large",
                413,
                f"{len(content)} bytes, the limit is {limit}: send what is large by POST /uploads and name its key",
            )
        return content

    def read(self, kind: Any, limit: int = LONGEST_BODY) -> Any:
        """The body by a contract; raises Refusal (400) naming the field."""
        try:
            return msgspec.json.decode(self.body(limit) or b"{}", type=kind)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            raise Refusal("bad-request", "The body is not what this call takes", 400, str(error)) from error

    @property
    def idempotency_key(self) -> str | None:
        """The Idempotency-Key header; raises Refusal when it cannot be one."""
        key = self.headers.get("idempotency-key")
        if key is not None and not (1 <= len(key) <= 256 and key.isprintable()):
            raise Refusal("bad-request", _BROKEN_KEY, 400)
        return key


class Bulk(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Many submits in one call."""

    jobs: list[Submit]


class Outcome(msgspec.Struct, frozen=True, omit_defaults=True):
    """What became of one submit of many."""

    status: int
    job: Job | None = None
    problem: Problem | None = None


class Retried(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a retry changes."""

    input: msgspec.Raw | UnsetType = UNSET


class Decision(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a person says of a held job."""

    decision: Literal["done", "retry", "fail"]
    why: str = ""
    result: msgspec.Raw | UnsetType = UNSET


class Upload(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The wish to put a file where jobs can read it."""

    name: str


class Answer(msgspec.Struct, frozen=True):
    """A status, and what the body says."""

    status: int
    body: Any
    headers: dict[str, str] = {}


def submit(request: Request) -> Answer:
    """POST /jobs."""
    wish = request.read(Submit)
    job, created = _submit(_with_key(wish, request))
    return Answer(201 if created else 200, job, {"location": f"/jobs/{job.id}"})


def submit_bulk(request: Request) -> Answer:
    """POST /jobs/bulk: each job is answered on its own."""
    bulk = request.read(Bulk, LONGEST_BULK)
    if not 1 <= len(bulk.jobs) <= BULK_LIMIT:
        raise Refusal("bad-request", "A bulk has 1 to 1,000 jobs", 400, f"jobs: {len(bulk.jobs)}")
    outcomes = []
    for wish in bulk.jobs:
        try:
            job, created = _submit(wish)
            outcomes.append(Outcome(201 if created else 200, job))
        except JobRefused as refused:
            problem = problem_of(refused)
            outcomes.append(Outcome(problem.status, problem=problem))
        except (BotoCoreError, ClientError):
            log.exception("bulk")
            outcomes.append(Outcome(503, problem=_trouble("bulk")))
    return Answer(200, {"jobs": outcomes})


def page(request: Request) -> Answer:
    """GET /jobs."""
    query = request.query
    if unknown := set(query) - {"type", "state", "since", "tag", "limit", "cursor"}:
        raise Refusal("bad-request", "There is no such filter", 400, f"query: {min(unknown)}")
    types = [_type(query["type"]).name] if "type" in query else list(JOB_TYPES)
    found = store.page(
        types=types,
        state=_query(query, "state", State),
        since=_query(query, "since", datetime),
        tag=query.get("tag"),
        limit=_query(query, "limit", int, least=1, most=MOST_LISTED) or 50,
        cursor=_cursor(query),
    )
    return Answer(200, {"jobs": found.jobs, "cursor": found.cursor})


def show(_request: Request, job_id: str) -> Answer:
    """GET /jobs/{id}."""
    return Answer(200, store.get(job_id))


def cancel(_request: Request, job_id: str) -> Answer:
    """POST /jobs/{id}/cancel."""
    return Answer(200, store.cancel(job_id))


def retry(request: Request, job_id: str) -> Answer:
    """POST /jobs/{id}/retry: a new job."""
    wanted = request.read(Retried)
    content = None if isinstance(wanted.input, UnsetType) else bytes(wanted.input)
    old = store.get(job_id)
    job = store.retry(_type(old.type), job_id, content, idempotency_key=request.idempotency_key)
    return Answer(201, job, {"location": f"/jobs/{job.id}"})


def decide(request: Request, job_id: str) -> Answer:
    """POST /jobs/{id}/decide."""
    wanted = request.read(Decision)
    job_type = _type(store.get(job_id).type)
    result = None if isinstance(wanted.result, UnsetType) else bytes(wanted.result)
    if result is not None:
        try:
            msgspec.json.decode(result, type=job_type.result)
        except msgspec.MsgspecError as error:
            raise Refusal("bad-request", "The result is not what the type gives", 400, f"result: {error}") from error
    return Answer(200, store.decide(job_type, job_id, wanted.decision, result=result, why=wanted.why))


def result(_request: Request, job_id: str) -> Answer:
    """GET /jobs/{id}/result: the JSON itself, or where a large one is."""
    job = store.get(job_id)
    if job.state is not State.SUCCEEDED:
        raise NotEnded(f"job {job_id} is {job.state}: it has no result")
    if job.result_ref is None:
        return Answer(200, job.result if job.result is not None else msgspec.Raw(b"null"))
    place = {"Bucket": store.bucket, "Key": job.result_ref}
    url = aws.s3().generate_presigned_url("get_object", Params=place, ExpiresIn=_PRESIGNED_SECONDS)
    return Answer(303, {"url": url}, {"location": url})


def job_types(_request: Request) -> Answer:
    """GET /job-types: what can be submitted, with the JSON Schemas of input and result."""
    return Answer(200, {"job_types": [_described(each) for each in JOB_TYPES.values()]})


def list_schedules(_request: Request) -> Answer:
    """GET /schedules."""
    return Answer(200, {"schedules": [schedules.state(store, each) for each in JOB_TYPES.values() if each.schedule]})


def pause(_request: Request, name: str) -> Answer:
    """POST /schedules/{type}/pause."""
    job_type = _scheduled(name)
    schedules.pause(store, name)
    return Answer(200, schedules.state(store, job_type))


def resume(_request: Request, name: str) -> Answer:
    """POST /schedules/{type}/resume."""
    job_type = _scheduled(name)
    schedules.resume(store, name)
    return Answer(200, schedules.state(store, job_type))


def upload(request: Request) -> Answer:
    """POST /uploads: where to PUT a file, and the key to name it by in a job's input."""
    wanted = request.read(Upload)
    plain = re.sub(r"[^A-Za-z0-9._-]", "_", wanted.name)[-100:] or "file"
    key = f"uploads/{uuid.uuid4().hex}/{plain}"
    place = {"Bucket": store.bucket, "Key": key}
    url = aws.s3().generate_presigned_url("put_object", Params=place, ExpiresIn=_PRESIGNED_SECONDS)
    return Answer(201, {"key": key, "url": url, "headers": {}})


_ROUTES: Final[tuple[tuple[str, re.Pattern[str], Callable[..., Answer]], ...]] = tuple(
    (method, re.compile(pattern), call)
    for method, pattern, call in (
        ("POST", r"/jobs", submit),
        ("GET", r"/jobs", page),
        ("POST", r"/jobs/bulk", submit_bulk),
        ("GET", r"/jobs/([^/]+)", show),
        ("POST", r"/jobs/([^/]+)/cancel", cancel),
        ("POST", r"/jobs/([^/]+)/retry", retry),
        ("POST", r"/jobs/([^/]+)/decide", decide),
        ("GET", r"/jobs/([^/]+)/result", result),
        ("GET", r"/job-types", job_types),
        ("GET", r"/schedules", list_schedules),
        ("POST", r"/schedules/([^/]+)/pause", pause),
        ("POST", r"/schedules/([^/]+)/resume", resume),
        ("POST", r"/uploads", upload),
    )
)


def handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
    """Answers one request; what goes wrong is a problem document."""
    began = time.perf_counter()
    request = Request(event)
    answer = _answer(request, context.aws_request_id)
    log.info(
        "request",
        method=request.method,
        path=request.path,
        status=answer.status,
        problem=answer.body.type if isinstance(answer.body, Problem) else "",
        duration_ms=round((time.perf_counter() - began) * 1000, 1),
        request_id=context.aws_request_id,
    )
    kind = CONTENT_TYPE if isinstance(answer.body, Problem) else "application/json"
    return {
        "statusCode": answer.status,
        "headers": {"content-type": kind, **answer.headers},
        "body": msgspec.json.encode(answer.body).decode(),
    }


def _answer(request: Request, request_id: str) -> Answer:
    try:
        return _route(request)
    except Refusal as refusal:
        return Answer(refusal.problem.status, refusal.problem)
    except JobRefused as refused:
        problem = problem_of(refused)
        return Answer(problem.status, problem, {"retry-after": "1"} if problem.status == 503 else {})
    except (BotoCoreError, ClientError):
        log.exception("request", request_id=request_id)
        return Answer(503, _trouble(request_id), {"retry-after": "1"})


def _route(request: Request) -> Answer:
    method_known = False
    for method, pattern, call in _ROUTES:
        if found := pattern.fullmatch(request.path):
            if method == request.method:
                return call(request, *found.groups())
            method_known = True
    if method_known:
        raise Refusal("wrong-method", "This path does not take that method", 405, request.method)
    raise Refusal("no-such-path", "There is no such path", 404, "see the OpenAPI document")


def _trouble(request_id: str) -> Problem:
    return Problem(
        "urn:offload:problem:unavailable",
        "The service could not reach its store",
        503,
        f"send it again, under the same Idempotency-Key; the log has it as {request_id}",
    )


def _with_key(wish: Submit, request: Request) -> Submit:
    changes: dict[str, Any] = {}
    if request.idempotency_key:
        changes["idempotency_key"] = request.idempotency_key
    if "traceparent" in request.headers and wish.traceparent is None:
        changes["traceparent"] = request.headers["traceparent"]
    return msgspec.structs.replace(wish, **changes)


def _submit(wish: Submit) -> tuple[Job, bool]:
    done = store.submit(_type(wish.type), wish)
    return done.job, done.created


def _type(name: str) -> JobType[Any, Any]:
    if name not in JOB_TYPES:
        raise UnknownType(f"type: '{name}' is not one of {', '.join(sorted(JOB_TYPES))}")
    return JOB_TYPES[name]


def _scheduled(name: str) -> JobType[Any, Any]:
    job_type = _type(name)
    if job_type.schedule is None:
        raise Refusal("no-schedule", "The job type has no schedule", 404, name)
    return job_type


def _query(query: dict[str, str], name: str, kind: Any, *, least: int = 0, most: int = 0) -> Any:
    if name not in query:
        return None
    wrong = ""
    try:
        value = msgspec.convert(query[name], kind, strict=False)
    except msgspec.ValidationError as error:
        wrong = str(error)
    else:
        if isinstance(value, datetime) and value.tzinfo is None:
            wrong = "a time has a zone: 2026-11-24T00:00:00Z"
        if isinstance(value, int) and not least <= value <= most:
            wrong = f"{least} to {most}"
    if wrong:
        raise Refusal("bad-request", "A filter has a value that it cannot have", 400, f"{name}: {wrong}")
    return value


def _cursor(query: dict[str, str]) -> str | None:
    cursor = query.get("cursor")
    if cursor is not None and not re.fullmatch(r"\d{4}-\d\d-\d\dT[\d:.]+#[\w.:-]+", cursor):
        raise Refusal("bad-request", "The cursor is not one that a page gave", 400, "cursor")
    return cursor


def _described(job_type: JobType[Any, Any]) -> dict[str, Any]:
    return {
        "name": job_type.name,
        "version": job_type.version,
        "timeout_seconds": job_type.timeout.total_seconds(),
        "attempts": job_type.retry.attempts,
        "lanes": list(job_type.lanes),
        "durable": job_type.durable,
        "repeatable": job_type.repeatable,
        "scheduled": job_type.schedule is not None,
        "input": msgspec.json.schema(job_type.input),
        "result": msgspec.json.schema(job_type.result),
    }
