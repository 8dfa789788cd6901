"""What the framework's functions do in a call that finds nothing to do (`tests/unit/cli/test_idle_sweeps.py`)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from offload.contracts.catalogue import Catalogue
from offload.contracts.functions import own
from offload.contracts.idle import EVENTUAL_READ, READ, IdleCall, seconds_of
from offload.contracts.jobs.job_type import JobType
from offload.contracts.webhooks_in.shards import SHARDS
from offload.runtime.jobs.items import DUE_SHARDS, TALLY_SHARDS
from offload.runtime.webhooks_out.items import WAKE_SHARDS

LOOKS_AT_COUNTS_EVERY: Final = 5
"""Minutes between two looks of the jobs' sweeper at its counters while nothing is open."""
LOOKS_FOR_STRAYS_EVERY: Final = 10
"""Minutes between two looks of the deliveries' sweeper at every subscription."""


def idle_calls(app: Catalogue) -> Mapping[str, IdleCall]:
    """By the source of a function that a schedule calls, what its call does: the framework's and the app's."""
    return {
        own("job_sweeper"): _jobs(app.job_types),
        # A query of each shard of the index `wake`; every ten minutes the version of the subscriptions.
        own("delivery_sweeper"): IdleCall(
            read_units=WAKE_SHARDS * EVENTUAL_READ + READ / LOOKS_FOR_STRAYS_EVERY,
            seconds=seconds_of(WAKE_SHARDS + 1 / LOOKS_FOR_STRAYS_EVERY),
            log_bytes=300,
            fields=frozenset({"woken", "duration_ms", "late_subscriptions"}),
        ),
        # A query of each shard of the index `owed`.
        own("webhook_relay"): IdleCall(
            read_units=SHARDS * EVENTUAL_READ,
            seconds=seconds_of(SHARDS),
            log_bytes=300,
            fields=frozenset({"owed", "published", "troubles"}),
        ),
        **app.idle_calls,
    }


def _jobs(types: Mapping[str, JobType[Any, Any]]) -> IdleCall:
    """A look at each schedule and its note of the time, one at what is due, and now and then one at the counters."""
    schedules = sum(1 for each in types.values() if each.schedule)
    counters = len(types) * TALLY_SHARDS
    reads = (schedules + counters / LOOKS_AT_COUNTS_EVERY) * READ
    reads += DUE_SHARDS * (1 + 1 / LOOKS_AT_COUNTS_EVERY) * EVENTUAL_READ
    calls = 2 * schedules + DUE_SHARDS + (counters + DUE_SHARDS) / LOOKS_AT_COUNTS_EVERY
    return IdleCall(
        read_units=reads,
        write_units=schedules,
        seconds=seconds_of(calls),
        log_bytes=300,
        fields=frozenset({"counts"}),
    )
