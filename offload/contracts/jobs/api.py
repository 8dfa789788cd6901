"""The job service's HTTP API: every route with what it takes, answers and refuses.

The gateway, the function and the OpenAPI document are made from this one table. A new route is an entry here, and a
function of the entry's name in `offload/functions/jobs_api`; `make schemas` writes the document.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Annotated, Any, Final, Literal

from msgspec import UNSET, Meta, Raw, Struct, UnsetType, field

from offload.contracts.events.event import Moment
from offload.contracts.http_api import Problem, Route
from offload.contracts.jobs.job import BULK_LIMIT, LONGEST_INPUT, Answer, Job, State, Submit, Tag

# A submit is its input and a little around it; Lambda takes 6 MB (gettingstarted-limits.html, read 2026-11-24), and
# API Gateway hands the body over in another JSON.
LONGEST_BODY: Final = LONGEST_INPUT + 16 * 1024
LONGEST_BULK: Final = 4_000_000
MOST_LISTED: Final = 200
Cursor = Annotated[str, Meta(max_length=512, pattern=r"^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9:.]{8,15}#[A-Za-z0-9_.:-]+\Z")]


# What routes take


class Filters(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which jobs are listed. A time has a zone; a cursor is one that a page gave."""

    type: str | UnsetType = UNSET
    state: State | UnsetType = UNSET
    since: Moment | UnsetType = UNSET
    tag: Tag | UnsetType = UNSET
    limit: Annotated[int, Meta(ge=1, le=MOST_LISTED)] = 50
    cursor: Cursor | UnsetType = UNSET


class Bulk(Struct, frozen=True, forbid_unknown_fields=True):
    """Many submits in one call."""

    jobs: Annotated[list[Submit], Meta(min_length=1, max_length=BULK_LIMIT)]


class Retried(Struct, frozen=True, forbid_unknown_fields=True):
    """What a retry changes: without `input` the new job has the old one's."""

    input: Raw | UnsetType = UNSET


class Decision(Struct, frozen=True, forbid_unknown_fields=True):
    """What a person says of a held job; with `done` also the type's result."""

    decision: Literal["done", "retry", "fail"]
    why: Annotated[str, Meta(max_length=1000)] = ""
    result: Raw | UnsetType = UNSET


class Upload(Struct, frozen=True, forbid_unknown_fields=True):
    """The wish to put a file where jobs can read it."""

    name: str


# What they answer


class Outcome(Struct, frozen=True, omit_defaults=True):
    """What became of one submit of many: the job, or the problem."""

    status: int
    job: Job | UnsetType = UNSET
    problem: Problem | UnsetType = UNSET


class Outcomes(Struct, frozen=True):
    """What became of each submit, in their order."""

    jobs: Sequence[Outcome]


class Listed(Struct, frozen=True):
    """Jobs, newest first; `cursor` asks for those after them, null at the end."""

    jobs: Sequence[Job]
    cursor: str | None


class Elsewhere(Struct, frozen=True):
    """Where a large result is, for 15 minutes."""

    url: str


class JobTypeShown(Struct, frozen=True, kw_only=True):
    """What can be submitted; `input` and `result` are JSON Schemas."""

    name: str
    version: int
    timeout_seconds: float
    attempts: int
    lanes: Sequence[str]
    durable: bool
    repeatable: bool
    scheduled: bool
    input: dict[str, Any]
    result: dict[str, Any]


class JobTypes(Struct, frozen=True):
    """Every type."""

    job_types: Sequence[JobTypeShown]


class ScheduleState(Struct, frozen=True, kw_only=True):
    """A type's schedule as it stands.

    Up to `looked_until` its fire times are dealt with, but for those in `waiting`, which wait for the run before them
    to end (`Overlap.QUEUE`). `last_job` is the id of the job that it started last. Times are in UTC.
    """

    type: str
    cron: str
    timezone: str
    paused: bool
    looked_until: datetime | None
    next_fires: tuple[datetime, ...]
    waiting: tuple[datetime, ...] = ()
    last_job: str | None = None


class Schedules(Struct, frozen=True):
    """Every schedule."""

    schedules: Sequence[ScheduleState]


class UploadPlace(Struct, frozen=True):
    """Where to PUT a file, with which headers, for 15 minutes; a job's input names it by `key`."""

    key: str
    url: str
    headers: dict[str, str] = field(default_factory=dict)


_SUBMITTING: Final = ("unknown-type", "bad-input", "input-too-large", "no-such-lane", "not-deployed", "contended")

ROUTES: Final[Mapping[str, Route]] = {
    "submit": Route(
        method="POST",
        path="/jobs",
        longest_body=LONGEST_BODY,
        summary="Asks for a job. 201 is a new one; 200 is the one that was there, by its key or its unique fields.",
        body=Submit,
        answers={201: Job, 200: Job},
        keyed=True,
        located=True,
        refusals=(*_SUBMITTING, "bad-time", "idempotency-conflict"),
    ),
    "submit_bulk": Route(
        method="POST",
        path="/jobs/bulk",
        summary="Asks for up to 1,000 jobs. Each is answered on its own, as `POST /jobs` would.",
        body=Bulk,
        longest_body=LONGEST_BULK,
        answers={200: Outcomes},
    ),
    "page": Route(
        method="GET",
        path="/jobs",
        summary="Jobs, newest first. Those added meanwhile neither shift nor repeat a page.",
        query=Filters,
        answers={200: Listed},
        refusals=("unknown-type",),
    ),
    "show": Route(
        method="GET",
        path="/jobs/{id}",
        summary="A job as it stands.",
        answers={200: Job},
        refusals=("no-such-job",),
    ),
    "cancel": Route(
        method="POST",
        path="/jobs/{id}/cancel",
        summary="Cancels a job: one that does not run now, a running one at its next checkpoint.",
        answers={200: Job},
        refusals=("no-such-job", "already-ended", "unknown-type", "contended"),
    ),
    "retry": Route(
        method="POST",
        path="/jobs/{id}/retry",
        summary="A new job that names the old one, with its input or another.",
        body=Retried,
        longest_body=LONGEST_BODY,
        answers={201: Job},
        keyed=True,
        located=True,
        refusals=(*_SUBMITTING, "no-such-job", "not-ended", "idempotency-conflict"),
    ),
    "decide": Route(
        method="POST",
        path="/jobs/{id}/decide",
        summary="Says what became of a held job, whose effect nobody knows: it is done, to be tried again, or failed.",
        body=Decision,
        longest_body=LONGEST_BODY,
        answers={200: Job},
        refusals=("no-such-job", "not-held", "unknown-type", "bad-input", "input-too-large", "contended"),
    ),
    "answer": Route(
        method="POST",
        path="/jobs/{id}/answer",
        summary="Answers what a long job asks.",
        body=Answer,
        longest_body=LONGEST_BODY,
        answers={200: Job},
        refusals=("no-such-job", "not-asking"),
    ),
    "result": Route(
        method="GET",
        path="/jobs/{id}/result",
        summary="An ended job's result; a large one is a redirect to S3.",
        answers={200: Raw, 303: Elsewhere},
        located=True,
        refusals=("no-such-job", "not-ended"),
    ),
    "job_types": Route(
        method="GET",
        path="/job-types",
        summary="What can be submitted, with the JSON Schemas of input and result.",
        answers={200: JobTypes},
    ),
    "list_schedules": Route(
        method="GET",
        path="/schedules",
        summary="Every schedule, with its next fire times.",
        answers={200: Schedules},
    ),
    "pause": Route(
        method="POST",
        path="/schedules/{type}/pause",
        summary="A schedule starts nothing until it is resumed.",
        answers={200: ScheduleState},
        refusals=("unknown-type", "no-schedule"),
    ),
    "resume": Route(
        method="POST",
        path="/schedules/{type}/resume",
        summary="A paused schedule goes on from now.",
        answers={200: ScheduleState},
        refusals=("unknown-type", "no-schedule"),
    ),
    "upload": Route(
        method="POST",
        path="/uploads",
        summary="Where to put a file for a job's input.",
        body=Upload,
        longest_body=LONGEST_BODY,
        answers={201: UploadPlace},
    ),
}
