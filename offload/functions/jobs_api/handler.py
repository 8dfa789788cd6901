"""The job service's HTTP API: a function for each route of `offload.contracts.jobs.api`."""

from __future__ import annotations

import re
import uuid
from typing import Any, Final

import msgspec
from botocore.exceptions import BotoCoreError, ClientError
from msgspec import UNSET, UnsetType

from offload.contracts.jobs.api import (
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
    Retried,
    Schedules,
    Upload,
    UploadPlace,
)
from offload.contracts.jobs.job import Job, State, Submit
from offload.contracts.jobs.job_type import JobType
from offload.runtime import aws
from offload.runtime.catalogue import catalogue
from offload.runtime.http_api import Answer, HttpApi, Request, problem_of, trouble
from offload.runtime.jobs import schedules
from offload.runtime.jobs.refusals import BadInput, JobRefused, NoSchedule, NotEnded
from offload.runtime.jobs.store import JobStore
from offload.runtime.log import Logger
from offload.runtime.refusals import Unavailable

_PRESIGNED_SECONDS: Final = 900

JOB_TYPES: Final = catalogue().job_types
store = JobStore.from_environment(JOB_TYPES)
log = Logger(service="jobs_api")


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
            outcomes.append(Outcome(Unavailable.status, problem=problem_of(trouble("bulk"))))
    return Answer(200, Outcomes(outcomes))


def page(request: Request) -> Answer:
    """GET /jobs."""
    wanted: Filters = request.wanted
    found = store.page(
        types=list(JOB_TYPES) if wanted.type is UNSET else [store.type_of(wanted.type).name],
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
    job = store.retry(store.type_of(old.type), job_id, content, idempotency_key=request.idempotency_key)
    return Answer(201, job, {"location": f"/jobs/{job.id}"})


def decide(request: Request, job_id: str) -> Answer:
    """POST /jobs/{id}/decide."""
    wanted: Decision = request.wanted
    job_type = store.type_of(store.get(job_id).type)
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


_CALLS: Final = (
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
handler = HttpApi(
    ROUTES,
    _CALLS,
    log=log,
    document="schemas/jobs/openapi.json",
    larger=": send what is large by POST /uploads and name its key",
)


def _with_key(wish: Submit, request: Request) -> Submit:
    changes: dict[str, Any] = {}
    if request.idempotency_key:
        changes["idempotency_key"] = request.idempotency_key
    if wish.traceparent is None and request.traceparent:
        changes["traceparent"] = request.traceparent
    return msgspec.structs.replace(wish, **changes)


def _submit(wish: Submit) -> tuple[Job, bool]:
    done = store.submit(store.type_of(wish.type), wish)
    return done.job, done.created


def _scheduled(name: str) -> JobType[Any, Any]:
    job_type = store.type_of(name)
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
