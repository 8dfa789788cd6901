"""The event that says that a job has ended."""

from __future__ import annotations

from datetime import datetime
from typing import ClassVar

from offload.contracts.event import EventData, Id, Moment
from offload.contracts.jobs.job import State


class JobFinished(EventData, frozen=True, kw_only=True, omit_defaults=True):
    """A job has succeeded, failed or been cancelled."""

    TYPE: ClassVar[str] = "job.finished"
    SOURCE: ClassVar[str] = "offload.jobs"

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
