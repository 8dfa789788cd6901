"""What a call of a function that a schedule calls does when it finds nothing to do, for the bill of an idle month.

Tests run the functions and hold these figures to what they do.
"""

from __future__ import annotations

from typing import Final

from msgspec import Struct

# DynamoDB: a strongly consistent read of nothing, or of up to 4 KB, is a unit, an eventually consistent one half; a
# write of up to 1 KB is a unit (read-write-operations.html, read 2026-11-23).
READ: Final = 1.0
"""Units of a strongly consistent read of nothing."""
EVENTUAL_READ: Final = 0.5
"""Units of an eventually consistent read of nothing."""

LAMBDA_LOG_BYTES: Final = 380
"""What Lambda itself logs of a call at most: START, END and REPORT, with request id and version."""
LOG_EVENT_BYTES: Final = 26
"""What CloudWatch Logs counts on top of each line (API_PutLogEvents.html, read 2026-11-23)."""
LOG_LINES: Final = 4
"""Lines of an idle call: ours, and Lambda's three."""

COMMON_FIELDS: Final = frozenset({"timestamp", "level", "location", "message", "service", "request_id"})
"""What every line of a function has."""


class IdleCall(Struct, frozen=True, kw_only=True):
    """An idle call, on the average of an hour.

    `read_units` and `write_units` are DynamoDB's. `seconds` is what is billed of the function, at the most. `log_bytes`
    is its own line at the most; `fields` are what that line has, beside COMMON_FIELDS.
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


def seconds_of(calls: float) -> float:
    """What is billed at the most: calls of AWS one after the other at 10 ms each, and 50 ms of the function's own.

    DynamoDB answers in single-digit milliseconds, by AWS's own page.
    """
    return 0.05 + 0.01 * calls
