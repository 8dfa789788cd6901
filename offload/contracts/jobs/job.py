"""A job as the service shows it, and how it is asked for."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Annotated, Final

from msgspec import UNSET, Meta, Raw, Struct, UnsetType, field

from offload.contracts.events.event import Id, Moment
from offload.contracts.jobs.job_type import Priority

# A year ahead is as far as a job may be put off.
LONGEST_DELAY_SECONDS: Final = 366 * 24 * 3600
# The body of a submit, in bytes. Lambda takes 6 MB, DynamoDB items are 400 kB: larger input travels as a reference.
LONGEST_INPUT: Final = 256 * 1024
BULK_LIMIT: Final = 1000

Tag = Annotated[str, Meta(min_length=1, max_length=128)]


class State(StrEnum):
    """Where a job is. `waiting`, `queued`, `running` and `held` are open; the others are its end."""

    WAITING = "waiting"
    QUEUED = "queued"
    RUNNING = "running"
    HELD = "held"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def ended(self) -> bool:
        """Whether nothing more will happen to the job."""
        return self in (State.SUCCEEDED, State.FAILED, State.CANCELLED)


class Transition(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One change of a job's state. `why` is for people: `due`, `lease ended`, an attempt's error."""

    at: Moment
    state: State
    attempt: int
    why: str = ""


class Progress(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """How far a run is. `finish_at` is estimated from its rate so far; `step` is where a long job is."""

    done: int = 0
    total: int | None = None
    message: str = ""
    finish_at: datetime | None = None
    step: str | None = None


class Question(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a long job asks a person, and until when it waits for the answer."""

    text: str
    until: Moment


class Answer(Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """What a person says to a long job's question."""

    yes: bool
    by: Annotated[str, Meta(max_length=128)] = ""
    note: Annotated[str, Meta(max_length=1000)] = ""


class Job(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A job as it stands. `input` and `result` are JSON by the type's contract; `result_ref` stands for a large one."""

    id: Id
    type: str
    state: State
    attempt: int
    input: Raw
    created_at: Moment
    changed_at: Moment
    priority: Priority = Priority.NORMAL
    run_at: datetime | None = None
    progress: Progress | None = None
    # Of None and Raw msgspec reads neither.
    result_json: Raw | UnsetType = field(name="result", default=UNSET)
    result_ref: str | None = None
    error: str | None = None
    tags: tuple[str, ...] = ()
    key: str | None = None
    parent: str | None = None
    children: tuple[str, ...] = ()
    retry_of: str | None = None
    traceparent: str | None = None
    cancel_requested: bool = False
    lease_until: datetime | None = None
    question: Question | None = None
    history: tuple[Transition, ...] = ()

    @property
    def result(self) -> Raw | None:
        """The result as JSON; None when there is none, or a large one under `result_ref`."""
        return None if isinstance(self.result_json, UnsetType) else self.result_json


class Submit(Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """One wish for a job. At most one of `delay` (seconds) and `run_at`.

    `idempotency_key`: the same key and content is the same job; other content under the key is a conflict.
    `unique_for` (seconds, at most a year) overrides how long the type keeps jobs unique; where the type keeps none, the
    same input is one job for so long.
    """

    type: str
    input: Raw = field(default_factory=lambda: Raw(b"{}"))
    idempotency_key: Id | None = None
    delay: Annotated[float, Meta(ge=0, le=LONGEST_DELAY_SECONDS)] | None = None
    run_at: Moment | None = None
    priority: Priority = Priority.NORMAL
    tags: Annotated[tuple[Tag, ...], Meta(max_length=20)] = ()
    unique_for: Annotated[float, Meta(gt=0, le=LONGEST_DELAY_SECONDS)] | None = None
    traceparent: str | None = None
    retry_of: Id | None = None
