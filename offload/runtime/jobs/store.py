"""The state of jobs: one item a job, and every change of it one conditional write on (state, attempt).

Nothing here trusts a message: a wake-up says "look at job J", and the item says whether it may start. What a crash
between two writes leaves undone has its time in the item (`due_at`), and `settle` does it then.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any, Final

from offload.contracts.jobs.job_type import JobType
from offload.runtime.jobs.ending import Ending
from offload.runtime.jobs.leases import Leases
from offload.runtime.jobs.listing import Listing
from offload.runtime.jobs.registry import Registry
from offload.runtime.jobs.slots import Slots
from offload.runtime.jobs.submitting import Submitting
from offload.runtime.jobs.sweep import Sweep
from offload.runtime.jobs.table import JobTable, StoreSettings


class JobStore:
    """Every change of a job's state: what callers use of the modules of the transitions, in one place."""

    def __init__(
        self,
        *,
        table: str,
        bucket: str,
        bus: str,
        registry: Registry,
        types: Mapping[str, JobType[Any, Any]],
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        chance: Callable[[], float] = random.random,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.table: Final = table
        self.bucket: Final = bucket
        self.registry: Final = registry
        self.now: Final = now

        self._table = jobs = JobTable(table, registry=registry, types=types, now=now, sleep=sleep)
        slots = Slots(jobs)
        ending = Ending(jobs, slots, bucket=bucket, bus=bus, chance=chance)
        submitting = Submitting(jobs, ending)
        leases = Leases(jobs, slots, ending)
        sweep = Sweep(jobs, ending)

        # Each of these is the method of the module that does it: its signature and docstring are there, and only there.

        # Looking at jobs and types
        self.get: Final = jobs.job
        self.children: Final = jobs.children
        self.page: Final = Listing(jobs).page
        self.type_of: Final = jobs.type_of
        self.deals_with: Final = jobs.deals_with

        # Asking for a job, and what people say of one
        self.submit: Final = submitting.submit
        self.retry: Final = submitting.retry
        self.cancel: Final = ending.cancel
        self.decide: Final = ending.decide
        self.answer: Final = leases.answer

        # Running a job
        self.start: Final = leases.start
        self.renew: Final = leases.renew
        self.succeed: Final = leases.succeed
        self.fail: Final = leases.fail
        self.cancelled: Final = leases.cancelled
        self.suspend: Final = leases.suspend

        # Running a long job
        self.resume: Final = leases.resume
        self.pause: Final = leases.pause
        self.ask: Final = leases.ask
        self.asked: Final = leases.asked

        # Keeping time
        self.due: Final = sweep.due
        self.settle: Final = sweep.settle
        self.tallies: Final = sweep.tallies

    @classmethod
    def from_environment(cls, types: Mapping[str, JobType[Any, Any]]) -> JobStore:
        """The store that the function's variables name, for jobs of these `types`; raises MissingSetting."""
        settings = StoreSettings.from_environment()
        return cls(
            table=settings.offload_jobs_table,
            bucket=settings.offload_jobs_bucket,
            bus=settings.offload_bus,
            registry=Registry(settings.offload_jobs_path),
            types=types,
        )
