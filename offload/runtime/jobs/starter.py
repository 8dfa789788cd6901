"""How a long job starts: the function on its type's queues begins a durable execution, and waits for nothing."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final

import msgspec
from botocore.exceptions import BotoCoreError, ClientError

from offload.runtime.jobs import executions
from offload.runtime.jobs.run import AttemptHandler, JobSettings, Outcome
from offload.runtime.settings import Settings

if TYPE_CHECKING:
    from offload.runtime.jobs.leases import Lease
    from offload.runtime.jobs.store import JobStore

UNTIL_IT_RUNS: Final = timedelta(minutes=2)
"""How long a started attempt may take to its first call: after that it counts as lost, and is tried again."""


class StarterSettings(Settings, frozen=True, kw_only=True):
    """What the BackgroundJob pattern puts into the starter's environment besides."""

    offload_function: str


class Starter(AttemptHandler[Any, Any]):
    """The Lambda handler for a durable type's queues: limits, order and expiry hold here, as for every job."""

    def __init__(self, store: JobStore) -> None:
        super().__init__(store.type_of(JobSettings.from_environment().offload_job), store)
        self._function = StarterSettings.from_environment().offload_function

    def lease_time(self, remaining: timedelta) -> timedelta:
        """The time until the execution's first call takes the lease over."""
        return remaining + UNTIL_IT_RUNS

    def attempt(self, lease: Lease) -> Outcome:
        """Begins the execution of an attempt; raises LostLease."""
        job = lease.job
        if job.cancel_requested:
            self.write(lease, lambda: self.store.cancelled(self.type, lease))
            return Outcome("cancelled", "before-it-ran")
        payload = msgspec.json.encode({"job": job.id, "attempt": lease.attempt})
        try:
            executions.begin(self._function, job.id, lease.attempt, payload)
        except (BotoCoreError, ClientError) as error:
            # Should it have begun all the same, it finds that another attempt has the job.
            return self.failed(lease, f"its execution did not begin: {error}", permanent=False, error=error)
        return Outcome("started")
