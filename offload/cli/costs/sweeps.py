"""What a call of each function that a schedule calls does when it finds nothing to do.

`tests/unit/test_idle_sweeps.py` runs the functions and holds these figures to what they do.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from msgspec import Struct

from offload.cli.catalogue import catalogue
from offload.contracts.functions import own
from offload.contracts.webhooks_in.shards import SHARDS
from offload.runtime.jobs.items import DUE_SHARDS, TALLY_SHARDS
from offload.runtime.webhooks_out.items import WAKE_SHARDS

# DynamoDB: a strongly consistent read of nothing, or of up to 4 KB, is a unit, an eventually consistent one half; a
# write of up to 1 KB is a unit (read-write-operations.html, read 2026-11-23).
_READ: Final = 1.0
_EVENTUAL_READ: Final = 0.5

LAMBDA_LOG_BYTES: Final = 380
"""What Lambda itself logs of a call at most: START, END and REPORT, with request id and version."""
LOG_EVENT_BYTES: Final = 26
"""What CloudWatch Logs counts on top of each line (API_PutLogEvents.html, read 2026-11-23)."""
LOG_LINES: Final = 4
"""Lines of an idle call: ours, and Lambda's three."""

LOOKS_AT_COUNTS_EVERY: Final = 5
"""Minutes between two looks of the jobs' sweeper at its counters while nothing is open."""
LOOKS_FOR_STRAYS_EVERY: Final = 10
"""Minutes between two looks of the deliveries' sweeper at every subscription."""


COMMON_FIELDS: Final = frozenset({"timestamp", "level", "location", "message", "service", "request_id"})
"""What every line of a function has."""


class Sweep(Struct, frozen=True, kw_only=True):
    """An idle call, on the average of an hour.

    `read_units` and `write_units` are DynamoDB's. `seconds` is what is billed of the function, at the most: its calls
    of AWS one after the other at 10 ms each (DynamoDB answers in single-digit milliseconds, by AWS's own page), and
    50 ms of its own. `log_bytes` is its own line at the most; `fields` are what that line has, beside COMMON_FIELDS.
    """

    read_units: float
    write_units: float = 0
    seconds: float
    log_bytes: int
    fields: frozenset[str]

    @property
    def logged(self) -> int:
        """Bytes of logs that a call is billed for, Lambda's own lines included."""
        return self.log_bytes + LAMBDA_LOG_BYTES + LOG_LINES * LOG_EVENT_BYTES


def _seconds(calls: float) -> float:
    return 0.05 + 0.01 * calls


def _jobs() -> Sweep:
    """A look at each schedule and its note of the time, one at what is due, and now and then one at the counters."""
    types = catalogue().job_types
    schedules = sum(1 for each in types.values() if each.schedule)
    counters = len(types) * TALLY_SHARDS
    reads = (schedules + counters / LOOKS_AT_COUNTS_EVERY) * _READ
    reads += DUE_SHARDS * (1 + 1 / LOOKS_AT_COUNTS_EVERY) * _EVENTUAL_READ
    calls = 2 * schedules + DUE_SHARDS + (counters + DUE_SHARDS) / LOOKS_AT_COUNTS_EVERY
    return Sweep(
        read_units=reads,
        write_units=schedules,
        seconds=_seconds(calls),
        log_bytes=300,
        fields=frozenset({"counts"}),
    )


SWEEPS: Final[Mapping[str, Sweep]] = MappingProxyType(
    {
        own("job_sweeper"): _jobs(),
        # A query of each shard of the index `wake`; every ten minutes the version of the subscriptions.
        own("delivery_sweeper"): Sweep(
            read_units=WAKE_SHARDS * _EVENTUAL_READ + _READ / LOOKS_FOR_STRAYS_EVERY,
            seconds=_seconds(WAKE_SHARDS + 1 / LOOKS_FOR_STRAYS_EVERY),
            log_bytes=300,
            fields=frozenset({"woken", "duration_ms", "late_subscriptions"}),
        ),
        # A query of each shard of the index `owed`.
        own("webhook_relay"): Sweep(
            read_units=SHARDS * _EVENTUAL_READ,
            seconds=_seconds(SHARDS),
            log_bytes=300,
            fields=frozenset({"owed", "published", "troubles"}),
        ),
        # An item a topic.
        "team_notifier": Sweep(
            read_units=3 * _READ,
            seconds=_seconds(3),
            log_bytes=300,
            fields=frozenset({"events"}),
        ),
    }
)
"""By the function's source, as PythonFunction takes it."""
