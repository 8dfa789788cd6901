"""Submits the jobs that transactions asked for, each once, however often its event arrives."""

from __future__ import annotations

from typing import Final

from msgspec import UnsetType

from offload.contracts.events.event import Event
from offload.contracts.jobs.events import JobWanted
from offload.contracts.jobs.job import Submit
from offload.runtime.catalogue import catalogue
from offload.runtime.events.consumer import consumer
from offload.runtime.jobs.refusals import Contended, JobRefused, NotDeployed
from offload.runtime.jobs.store import JobStore
from offload.runtime.reasons import Refused

JOB_TYPES: Final = catalogue().job_types
store = JobStore.from_environment(JOB_TYPES)


@consumer(JobWanted)
def handler(event: Event[JobWanted]) -> None:
    """Submits under the event's key: a job that is there already is the same job."""
    wanted = event.data
    job_type = JOB_TYPES.get(wanted.job_type)
    if job_type is None:
        raise Refused(f"there is no job type '{wanted.job_type}'")
    wish = Submit(
        type=wanted.job_type,
        input=wanted.input,
        idempotency_key=event.key,
        run_at=wanted.run_at,
        priority=wanted.priority,
        tags=wanted.tags,
        unique_for=wanted.unique_for,
        traceparent=None if isinstance(event.traceparent, UnsetType) else event.traceparent,
    )
    try:
        store.submit(job_type, wish)
    except (NotDeployed, Contended):
        # A deploy or a moment later it may pass: the retries see to it.
        raise
    except JobRefused as error:
        raise Refused(str(error)) from error
