"""The job service's HTTP API, behind API Gateway's IAM authorizer (payload format 2.0).

Its routes are those of `offload.contracts.jobs.api`: the gateway has chosen one, and here is a function for each. A
routing library would be imported at every cold start for them.
"""

from __future__ import annotations

import base64
import re
import time
import uuid
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final

import msgspec
from botocore.exceptions import BotoCoreError, ClientError
from msgspec import UNSET, UnsetType

from offload.contracts.jobs.api import (
    IDEMPOTENCY_KEY,
    ROUTES,
    Bulk,
    Decision,
    Elsewhere,
    Filters,
    JobTypes,
    JobTypeShown,
    Listed,
    Outcome,
    Outcomes,
    Problem,
    Retried,
    Route,
    Schedules,
    Upload,
    UploadPlace,
)
from offload.contracts.jobs.catalogue import JOB_TYPES
from offload.contracts.jobs.job import Job, State, Submit
from offload.contracts.jobs.job_type import JobType
from offload.runtime import aws
from offload.runtime.jobs import schedules
from offload.runtime.jobs.refusals import (
    BadInput,
    BadRequest,
    BodyTooLarge,
    JobRefused,
    NoSchedule,
    NoSuchPath,
    NotEnded,
    Unavailable,
    UnknownType,
    UnsupportedMediaType,
    WrongMethod,
)
from offload.runtime.jobs.store import JobStore
from offload.runtime.log import Logger

from .problems import CONTENT_TYPE, problem_of

if TYPE_CHECKING:
    from aws_lambda_powertools.utilities.typing import LambdaContext

_PRESIGNED_SECONDS: Final = 900
_TRACEPARENT: Final = re.compile(r"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}.{0,200}")

store = JobStore.from_environment()
log = Logger(service="jobs_api")


class Request:
    """One request."""

    def __init__(self, event: dict[str, Any]) -> None:
        http = event["requestContext"]["http"]
        self.method: str = http["method"]
        self.path: str = _text(event["rawPath"])
        self.route: str = event.get("routeKey") or ""
        """The method and path pattern that the gateway chose, `$default` when it knows none."""
        self.names = [_text(value) for value in (event.get("pathParameters") or {}).values()]
        self.query = {name: _text(value) for name, value in (event.get("queryStringParameters") or {}).items()}
        self.headers: dict[str, str] = {name.lower(): value for name, value in (event.get("headers") or {}).items()}
        self.wanted: Any = None
        """The body, or the query, as its route reads it."""
        self._event = event

    def body(self, limit: int) -> bytes:
        """The body's bytes; raises BodyTooLarge, UnsupportedMediaType."""
        text: str = self._event.get("body") or ""
        # What is no UTF-8 is refused by who reads it.
        content = base64.b64decode(text) if self._event.get("isBase64Encoded") else text.encode(errors="surrogatepass")
        if len(content) > limit:
            raise BodyTooLarge(
                f"{len(content)} bytes, the limit is {limit}: send what is large by POST /uploads and name its key"
            )
        kind = self.headers.get("content-type", "application/json").partition(";")[0].strip().lower()
        if content and kind != "application/json" and not kind.endswith("+json"):
            raise UnsupportedMediaType(f"Content-Type: '{kind}': send JSON, and 'Content-Type: application/json'")
        return content

    def read(self, route: Route) -> None:
        """Reads what the route takes; raises BadRequest naming the field."""
        try:
            if route.body is not None:
                self.wanted = msgspec.json.decode(self.body(route.longest_body) or b"{}", type=route.body)
            if route.query is not None:
                self.wanted = msgspec.convert(_numbered(self.query), route.query)
        except (msgspec.MsgspecError, UnicodeError, RecursionError) as error:
            raise BadRequest(f"{'query' if route.query else 'body'}: {error}") from error

    @property
    def idempotency_key(self) -> str | None:
        """The Idempotency-Key header; raises BadRequest when it cannot be one."""
        key = self.headers.get("idempotency-key")
        if key is not None and not re.fullmatch(IDEMPOTENCY_KEY, key):
            raise BadRequest("Idempotency-Key: 1 to 256 printable characters of ASCII")
        return key


class Answer(msgspec.Struct, frozen=True):
    """A status, and what the body says."""

    status: int
    body: Any
    headers: dict[str, str] = {}


def submit(request: Request) -> Answer:
    """POST /jobs."""
    wish: Submit = request.wanted
    job, created = _submit(_with_key(wish, request))
    return Answer(201 if created else 200, job, {"location": f"/jobs/{job.id}"})


def submit_bulk(request: Request) -> Answer:
    """POST /jobs/bulk: each job is answered on its own."""
    bulk: Bulk = request.wanted
    outcomes = []
    for wish in bulk.jobs:
        try:
            job, created = _submit(wish)
            # A thousand results of jobs that were there already would not fit into an answer.
            outcomes.append(Outcome(201 if created else 200, msgspec.structs.replace(job, result_json=UNSET)))
        except JobRefused as refused:
            problem = problem_of(refused)
            outcomes.append(Outcome(problem.status, problem=problem))
        except (BotoCoreError, ClientError):
            log.exception("bulk")
            outcomes.append(Outcome(Unavailable.status, problem=problem_of(_trouble("bulk"))))
    return Answer(200, Outcomes(outcomes))


def page(request: Request) -> Answer:
    """GET /jobs."""
    wanted: Filters = request.wanted
    found = store.page(
        types=list(JOB_TYPES) if wanted.type is UNSET else [_type(wanted.type).name],
        state=wanted.state or None,
        since=wanted.since or None,
        tag=wanted.tag or None,
        limit=wanted.limit,
        cursor=wanted.cursor or None,
    )
    return Answer(200, Listed(found.jobs, found.cursor))


def show(_request: Request, job_id: str) -> Answer:
    """GET /jobs/{id}."""
    return Answer(200, store.get(job_id))


def cancel(_request: Request, job_id: str) -> Answer:
    """POST /jobs/{id}/cancel."""
    return Answer(200, store.cancel(job_id))


def retry(request: Request, job_id: str) -> Answer:
    """POST /jobs/{id}/retry: a new job."""
    wanted: Retried = request.wanted
    content = None if isinstance(wanted.input, UnsetType) else bytes(wanted.input)
    old = store.get(job_id)
    job = store.retry(_type(old.type), job_id, content, idempotency_key=request.idempotency_key)
    return Answer(201, job, {"location": f"/jobs/{job.id}"})


def decide(request: Request, job_id: str) -> Answer:
    """POST /jobs/{id}/decide."""
    wanted: Decision = request.wanted
    job_type = _type(store.get(job_id).type)
    result = None
    if wanted.result is not UNSET:
        try:
            result = msgspec.json.encode(msgspec.json.decode(wanted.result, type=job_type.result))
        except (msgspec.MsgspecError, UnicodeError, RecursionError) as error:
            raise BadInput(f"result of '{job_type.name}': {error}") from error
    return Answer(200, store.decide(job_type, job_id, wanted.decision, result=result, why=wanted.why))


def answer(request: Request, job_id: str) -> Answer:
    """POST /jobs/{id}/answer."""
    return Answer(200, store.answer(job_id, request.wanted))


def result(_request: Request, job_id: str) -> Answer:
    """GET /jobs/{id}/result: the JSON itself, or where a large one is."""
    job = store.get(job_id)
    if job.state is not State.SUCCEEDED:
        raise NotEnded(f"job {job_id} is {job.state}: it has no result")
    if job.result_ref is None:
        return Answer(200, job.result if job.result is not None else msgspec.Raw(b"null"))
    place = {"Bucket": store.bucket, "Key": job.result_ref}
    url = aws.s3().generate_presigned_url("get_object", Params=place, ExpiresIn=_PRESIGNED_SECONDS)
    return Answer(303, Elsewhere(url), {"location": url})


def job_types(_request: Request) -> Answer:
    """GET /job-types: what can be submitted, with the JSON Schemas of input and result."""
    return Answer(200, JobTypes([_described(each) for each in JOB_TYPES.values()]))


def list_schedules(_request: Request) -> Answer:
    """GET /schedules."""
    return Answer(200, Schedules([schedules.state(store, each) for each in JOB_TYPES.values() if each.schedule]))


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
    wanted: Upload = request.wanted
    plain = re.sub(r"[^A-Za-z0-9._-]", "_", wanted.name)[-100:] or "file"
    key = f"uploads/{uuid.uuid4().hex}/{plain}"
    place = {"Bucket": store.bucket, "Key": key}
    url = aws.s3().generate_presigned_url("put_object", Params=place, ExpiresIn=_PRESIGNED_SECONDS)
    return Answer(201, UploadPlace(key, url))


_CALLS: Final[tuple[Callable[..., Answer], ...]] = (
    submit,
    submit_bulk,
    page,
    show,
    cancel,
    retry,
    decide,
    answer,
    result,
    job_types,
    list_schedules,
    pause,
    resume,
    upload,
)
_NAMED: Final = {call.__name__: call for call in _CALLS}
# By what the gateway calls a route. One without a function here fails at once, at the import.
_ROUTES: Final = {f"{route.method} {route.path}": (route, _NAMED[name]) for name, route in ROUTES.items()}


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
        if request.route not in _ROUTES:
            return _lost(request)
        route, call = _ROUTES[request.route]
        request.read(route)
        return call(request, *request.names)
    except JobRefused as refused:
        return _refused(refused)
    except (BotoCoreError, ClientError):
        log.exception("request", request_id=request_id)
        return _refused(_trouble(request_id))


def _refused(refused: JobRefused) -> Answer:
    problem = problem_of(refused)
    return Answer(problem.status, problem, {"retry-after": "1"} if problem.status == Unavailable.status else {})


def _lost(request: Request) -> Answer:
    """Of a request that the gateway knows no route for: its path does not take its method, or there is none."""
    allowed = sorted(
        {route.method for route in ROUTES.values() if re.fullmatch(re.sub(r"{\w+}", "[^/]+", route.path), request.path)}
    )
    if not allowed:
        return _refused(NoSuchPath(f"{request.path}: schemas/jobs/openapi.json has all paths"))
    answer = _refused(WrongMethod(f"{request.method} {request.path}: it takes {', '.join(allowed)}"))
    return msgspec.structs.replace(answer, headers={"allow": ", ".join(allowed)})


def _trouble(request_id: str) -> Unavailable:
    return Unavailable(f"send it again, under the same Idempotency-Key; the log has it as {request_id}")


def _text(value: str) -> str:
    """What can be encoded: a path or a query may carry bytes that are no UTF-8."""
    return value.encode(errors="replace").decode()


def _numbered(query: Mapping[str, str]) -> dict[str, Any]:
    """The query with its one number as one."""
    limit = query.get("limit", "")
    return {**query, "limit": int(limit)} if re.fullmatch("[0-9]{1,9}", limit) else dict(query)


def _with_key(wish: Submit, request: Request) -> Submit:
    changes: dict[str, Any] = {}
    if request.idempotency_key:
        changes["idempotency_key"] = request.idempotency_key
    # One that is none is left out, as W3C Trace Context says.
    if wish.traceparent is None and _TRACEPARENT.fullmatch(traceparent := request.headers.get("traceparent", "")):
        changes["traceparent"] = traceparent
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
        having = ", ".join(each.name for each in JOB_TYPES.values() if each.schedule)
        raise NoSchedule(f"job type '{name}' has no schedule; {having} has")
    return job_type


def _described(job_type: JobType[Any, Any]) -> JobTypeShown:
    return JobTypeShown(
        name=job_type.name,
        version=job_type.version,
        timeout_seconds=job_type.timeout.total_seconds(),
        attempts=job_type.retry.attempts,
        lanes=list(job_type.lanes),
        durable=job_type.durable,
        repeatable=job_type.repeatable,
        scheduled=job_type.schedule is not None,
        input=msgspec.json.schema(job_type.input),
        result=msgspec.json.schema(job_type.result),
    )
