"""A wish for a job, checked by the type's contract before it goes anywhere: to the service, or into the outbox."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Literal, TypedDict, TypeVar, Unpack
from uuid import uuid4

import msgspec
from msgspec import Raw, Struct

from offload.contracts.events.event import BrokenContract, Event
from offload.contracts.jobs.events import JobWanted
from offload.contracts.jobs.job import Submit
from offload.contracts.jobs.job_type import JobType, Priority

InputT = TypeVar("InputT", bound=Struct)
ResultT = TypeVar("ResultT", bound=Struct)


class Options(TypedDict, total=False):
    """What a submit may say besides the input. At most one of `delay` and `run_at`; numbers are seconds."""

    idempotency_key: str | None
    """The same key and content is the same job; made up when it is not given."""
    delay: timedelta | float | None
    run_at: datetime | None
    """Aware; at most a year ahead."""
    priority: Priority | str
    tags: Iterable[str]
    unique_for: timedelta | float | None
    """Overrides how long the type keeps jobs unique."""
    traceparent: str | None


def new_key() -> str:
    """An idempotency key that nothing else has."""
    return f"client-{uuid4().hex}"


def wish_of(job_type: JobType[InputT, Any], content: InputT, options: Options) -> Submit:
    """The wish, with an idempotency key in any case; raises BrokenContract with the type and the field."""
    run_at = options.get("run_at")
    if run_at is not None and run_at.tzinfo is None:
        raise BrokenContract(f"job type '{job_type.name}': run_at: has no time zone: say which")
    if run_at is not None and options.get("delay") is not None:
        raise BrokenContract(f"job type '{job_type.name}': delay and run_at: say one of the two")
    wish = Submit(
        type=job_type.name,
        input=encoded(job_type, content),
        idempotency_key=options.get("idempotency_key") or new_key(),
        delay=seconds(options.get("delay")),
        run_at=run_at,
        priority=_priority(job_type, options.get("priority", Priority.NORMAL)),
        tags=tuple(options.get("tags", ())),
        unique_for=seconds(options.get("unique_for")),
        traceparent=options.get("traceparent"),
    )
    try:
        # msgspec checks what it reads, not what a program constructs.
        msgspec.json.decode(msgspec.json.encode(wish), type=Submit)
    except msgspec.ValidationError as error:
        raise BrokenContract(f"job type '{job_type.name}': {_told(error)}") from error
    return wish


def encoded(job_type: JobType[Any, Any], content: Struct, what: Literal["input", "result"] = "input") -> Raw:
    """An input or a result as JSON, read back by the type's contract; raises BrokenContract."""
    contract = job_type.input if what == "input" else job_type.result
    named = f"job type '{job_type.name}': {what}"
    if not isinstance(content, contract):
        raise BrokenContract(f"{named}: is a {type(content).__name__}, and its contract is {contract.__name__}")
    try:
        text = msgspec.json.encode(content)
        msgspec.json.decode(text, type=contract)
    except msgspec.ValidationError as error:
        raise BrokenContract(f"{named}: {_told(error)}") from error
    except (AttributeError, OverflowError, RecursionError, TypeError, ValueError) as error:
        raise BrokenContract(f"{named}: has no JSON: {error}") from error
    return Raw(text)


def built(job_type: JobType[InputT, Any], fields: Mapping[str, Any]) -> InputT:
    """An input of these fields; raises BrokenContract for one that is missing or that the contract does not have."""
    try:
        return job_type.input(**fields)
    except TypeError as error:
        raise BrokenContract(f"job type '{job_type.name}': input: {error}") from error


def seconds(value: timedelta | float | None) -> float | None:
    """A span of time in seconds."""
    return value.total_seconds() if isinstance(value, timedelta) else value


def wanted(job_type: JobType[InputT, Any], content: InputT, **options: Unpack[Options]) -> Event[JobWanted]:
    """The event that asks for a job, for `outbox.add`: the job exists if the caller's transaction commits.

    A `delay` counts from now. The job's idempotency key is the event's source and id. Raises BrokenContract.
    """
    wish = wish_of(job_type, content, options)
    now = datetime.now(UTC)
    return JobWanted(
        wish=str(wish.idempotency_key),
        job_type=wish.type,
        input=wish.input,
        wanted_at=now,
        run_at=now + timedelta(seconds=wish.delay) if wish.delay else wish.run_at,
        priority=wish.priority,
        tags=wish.tags,
        unique_for=wish.unique_for,
    ).event(traceparent=wish.traceparent)


def _priority(job_type: JobType[Any, Any], priority: Priority | str) -> Priority:
    if priority not in job_type.lanes:
        lanes = ", ".join(str(lane) for lane in job_type.lanes)
        raise BrokenContract(f"job type '{job_type.name}': priority: '{priority}' is not one of its lanes: {lanes}")
    return Priority(priority)


def _told(error: msgspec.ValidationError) -> str:
    reason, separator, where = str(error).rpartition(" - at `$")
    return f"{where.strip('`.')}: {reason}" if separator else str(error)
