"""What AWS asks for: US dollars, us-east-1, on demand, without tax, by its price pages and lists of the dates given."""

from __future__ import annotations

from typing import Final

MILLION: Final = 1_000_000
HOURS: Final = 730
"""Hours of a month, as AWS's calculator counts them."""

LAMBDA_REQUESTS: Final = 0.20
"""A million requests (aws.amazon.com/lambda/pricing, price list of 2026-09-19)."""
LAMBDA_GB_SECOND: Final = 0.0000133334
"""A GB-second on arm64, first tier (the same)."""
LAMBDA_FREE_REQUESTS: Final = 1_000_000
"""Requests a month that an account has free (the same)."""
LAMBDA_FREE_GB_SECONDS: Final = 400_000
"""GB-seconds a month that an account has free (the same)."""
HTTP_API: Final = 1.00
"""A million requests (aws.amazon.com/api-gateway/pricing, 2024-07)."""
SQS: Final = 0.40
"""A million requests of a standard queue (aws.amazon.com/sqs/pricing, 2024-07)."""
SQS_FREE_REQUESTS: Final = 1_000_000
"""Requests a month that an account has free (the same)."""
SCHEDULER: Final = 1.00
"""A million invocations of EventBridge Scheduler (aws.amazon.com/eventbridge/pricing, 2026-03)."""
SCHEDULER_FREE: Final = 14_000_000
"""Invocations a month that an account has free (the same, 2024-10)."""
EVENTS: Final = 1.00
"""A million custom events of the classic bus (aws.amazon.com/eventbridge/pricing, 2024-07)."""
WRITE_UNITS: Final = 0.625
"""A million write units on demand (aws.amazon.com/dynamodb/pricing, price list of 2026-07-31)."""
READ_UNITS: Final = 0.125
"""A million read units on demand (the same)."""
LOGS_GB: Final = 0.50
"""A GB of logs taken in (aws.amazon.com/cloudwatch/pricing, 2024-07)."""
LOGS_FREE_GB: Final = 5
"""GB a month that an account has free (the same)."""
ALARM: Final = 0.10
"""A standard alarm, a month (the same)."""
SECRET: Final = 0.40
"""A secret in Secrets Manager, a month (aws.amazon.com/secrets-manager/pricing, 2024-07)."""
DURABLE_OPERATIONS: Final = 8.00
"""A million operations of durable functions (Lambda's price list of 2026-09-19)."""
SERVER: Final = 0.0168
"""An hour of t4g.small, 2 processors and 2 GB (price list of 2026-07-20)."""
VALKEY: Final = 0.0128
"""An hour of ElastiCache for Valkey on cache.t4g.micro, one node (price list of 2026-10-02)."""
