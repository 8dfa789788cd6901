"""What a million short jobs cost on AWS, beside the smallest servers that would always be on for them.

By `offload/cli/costs/prices.py`, without free tiers.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from offload.cli.costs import prices

FULL_PROCESSOR_MB: Final = 1769
"""Memory with which a function has one whole processor (Lambda's configuration-memory.html, read 2026-11-23)."""
CALL_SECONDS: Final = 0.005
"""Assumed: how long a function waits for a call to AWS; DynamoDB promises single-digit milliseconds."""
POLLS: Final = 2
"""Requests of Lambda's own to the queue for a job: the receive and the delete of its message, one a batch."""


@dataclass(frozen=True)
class Measured:
    """One job: calls to AWS, write units, bytes of logs, and of the API's and its own function processor and memory."""

    submit_calls: float
    run_calls: float
    queue_calls: float
    write_units: float
    log_bytes: float
    submit_processor: float
    run_processor: float
    submit_mb: int
    run_mb: int


def per_million(job: Measured, *, works: float = 0.0) -> dict[str, float]:
    """Dollars for a million jobs by what they are for; each job works for `works` seconds, waiting included."""
    submit = _seconds(job.submit_calls, job.submit_processor, job.submit_mb)
    run = _seconds(job.run_calls, job.run_processor, job.run_mb) + works
    gb_seconds = (submit * job.submit_mb + run * job.run_mb) / 1024
    return {
        "DynamoDB, writes": job.write_units * prices.WRITE_UNITS,
        "Lambda, time": gb_seconds * prices.LAMBDA_GB_SECOND * prices.MILLION,
        "SQS": (job.queue_calls + POLLS) * prices.SQS,
        "HTTP API": prices.HTTP_API,
        "EventBridge, job.finished": prices.EVENTS,
        "logs": 2 * job.log_bytes * prices.MILLION / 1e9 * prices.LOGS_GB,
        "Lambda, requests": 2 * prices.LAMBDA_REQUESTS,
    }


def always_on() -> float:
    """Dollars a month of one small server with a worker, and one small broker."""
    return (prices.SERVER + prices.VALKEY) * prices.HOURS


def break_even(job: Measured, *, works: float) -> float:
    """Jobs a month from which the always-on worker is the cheaper one."""
    return prices.MILLION * always_on() / sum(per_million(job, works=works).values())


def _seconds(calls: float, processor: float, memory_mb: int) -> float:
    """How long an invocation takes: a function has as much of a processor as it has memory."""
    return calls * CALL_SECONDS + processor * max(1.0, FULL_PROCESSOR_MB / memory_mb)
