"""The events about jobs: that one has ended, and that one is wanted."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, ClassVar

from msgspec import Meta, Raw

from offload.contracts.events.audience import OPERATORS, Audience
from offload.contracts.events.event import EventData, Id, Moment
from offload.contracts.jobs.job import State, Tag
from offload.contracts.jobs.job_type import Priority


class JobFinished(EventData, frozen=True, kw_only=True, omit_defaults=True):
    """A job has succeeded, failed or been cancelled."""

    TYPE: ClassVar[str] = "job.finished"
    SOURCE: ClassVar[str] = "offload.jobs"
    # A job names no tenant, and its error and tags may say anything.
    AUDIENCE: ClassVar[Audience | None] = OPERATORS

    job: Id
    job_type: str
    state: State
    attempts: int
    finished_at: Moment
    error: str | None = None
    tags: tuple[str, ...] = ()

    @property
    def key(self) -> str:
        """The job's id: it ends once."""
        return self.job

    @property
    def subject(self) -> str:
        """The job's id."""
        return self.job

    @property
    def occurred_at(self) -> datetime:
        """When it ended."""
        return self.finished_at


class JobWanted(EventData, frozen=True, kw_only=True, omit_defaults=True):
    """Somebody who cannot wait for an answer asks for a job: a transaction, through its outbox.

    Lost it cannot be, and told twice it is one job: the job's idempotency key is the event's source and id.
    """

    TYPE: ClassVar[str] = "job.wanted"
    SOURCE: ClassVar[str] = "offload.client"

    wish: Id
    job_type: str
    input: Raw
    wanted_at: Moment
    run_at: Moment | None = None
    priority: Priority = Priority.NORMAL
    tags: Annotated[tuple[Tag, ...], Meta(max_length=20)] = ()
    unique_for: Annotated[float, Meta(gt=0)] | None = None

    @property
    def key(self) -> str:
        """What makes the wish the same wish."""
        return self.wish

    @property
    def subject(self) -> str:
        """The wish: wishes have no order among them."""
        return self.wish

    @property
    def occurred_at(self) -> datetime:
        """When it was asked for."""
        return self.wanted_at
