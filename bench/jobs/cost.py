"""What a million short jobs cost on AWS, beside the smallest servers that would always be on for them.

Prices in US dollars, us-east-1, on demand, without free tiers and tax, from AWS's price pages and lists as they stood
on the dates given.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

MILLION: Final = 1_000_000
HOURS: Final = 730
"""Hours of a month, as AWS's calculator counts them."""

LAMBDA_REQUESTS: Final = 0.20
"""A million requests (aws.amazon.com/lambda/pricing, price list of 2026-09-19)."""
LAMBDA_GB_SECOND: Final = 0.0000133334
"""A GB-second on arm64, first tier (the same)."""
FULL_PROCESSOR_MB: Final = 1769
"""Memory with which a function has one whole processor (Lambda's configuration-memory.html, read 2026-11-23)."""
HTTP_API: Final = 1.00
"""A million requests (aws.amazon.com/api-gateway/pricing, 2024-07)."""
SQS: Final = 0.40
"""A million requests of a standard queue (aws.amazon.com/sqs/pricing, 2024-07)."""
EVENTS: Final = 1.00
"""A million custom events of the classic bus (aws.amazon.com/eventbridge/pricing, 2024-07)."""
WRITE_UNITS: Final = 0.625
"""A million write units on demand (aws.amazon.com/dynamodb/pricing, price list of 2026-07-31)."""
LOGS_GB: Final = 0.50
"""A GB of logs taken in (aws.amazon.com/cloudwatch/pricing, 2024-07)."""
DURABLE_OPERATIONS: Final = 8.00
"""A million operations of durable functions (Lambda's price list of 2026-09-19)."""
SERVER: Final = 0.0168
"""An hour of t4g.small, 2 processors and 2 GB (price list of 2026-07-20)."""
VALKEY: Final = 0.0128
"""An hour of ElastiCache for Valkey on cache.t4g.micro, one node (price list of 2026-10-02)."""

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
        "DynamoDB, writes": job.write_units * WRITE_UNITS,
        "Lambda, time": gb_seconds * LAMBDA_GB_SECOND * MILLION,
        "SQS": (job.queue_calls + POLLS) * SQS,
        "HTTP API": HTTP_API,
        "EventBridge, job.finished": EVENTS,
        "logs": 2 * job.log_bytes * MILLION / 1e9 * LOGS_GB,
        "Lambda, requests": 2 * LAMBDA_REQUESTS,
    }


def always_on() -> float:
    """Dollars a month of one small server with a worker, and one small broker."""
    return (SERVER + VALKEY) * HOURS


def break_even(job: Measured, *, works: float) -> float:
    """Jobs a month from which the always-on worker is the cheaper one."""
    return MILLION * always_on() / sum(per_million(job, works=works).values())


def _seconds(calls: float, processor: float, memory_mb: int) -> float:
    """How long an invocation takes: a function has as much of a processor as it has memory."""
    return calls * CALL_SECONDS + processor * max(1.0, FULL_PROCESSOR_MB / memory_mb)
