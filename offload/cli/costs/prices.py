"""What AWS asks for: US dollars, us-east-1, on demand, without tax, by its price pages and lists of the dates given.

The amounts that are free are apart, in names that begin with `FREE_`. They are those that every account has each month
for ever; what is free in an account's first twelve months only (HTTP API, S3) or for a trial (Secrets Manager) is not
counted anywhere. One account has them once, whatever else it runs.
"""

from __future__ import annotations

from typing import Final

MILLION: Final = 1_000_000
HOURS: Final = 730
"""Hours of a month, as AWS's calculator counts them."""

# Functions

LAMBDA_REQUESTS: Final = 0.20
"""A million requests (aws.amazon.com/lambda/pricing, price list of 2026-09-19)."""
LAMBDA_GB_SECOND: Final = 0.0000133334
"""A GB-second on arm64, first tier (the same)."""
LAMBDA_GB_SECOND_X86: Final = 0.0000166667
"""A GB-second on x86_64, first tier (the same)."""
LAMBDA_POLLER_HOUR: Final = 0.00925
"""An hour of one poller of a queue in provisioned mode (the same)."""
DURABLE_OPERATIONS: Final = 8.00
"""A million operations of durable functions (the same)."""
DURABLE_WRITTEN_GB: Final = 0.25
"""A GB that durable functions write (the same)."""
DURABLE_KEPT_GB: Final = 0.15
"""A GB of durable functions' history kept for a month (the same)."""

# Queues, events, APIs

SQS: Final = 0.40
"""A million requests of a standard queue, each started 64 KB one (aws.amazon.com/sqs/pricing, 2024-07)."""
SQS_FIFO: Final = 0.50
"""A million requests of a FIFO queue (the same)."""
SCHEDULER: Final = 1.00
"""A million invocations of EventBridge Scheduler (aws.amazon.com/eventbridge/pricing, 2026-03)."""
EVENTS: Final = 1.00
"""A million custom events of the classic bus (aws.amazon.com/eventbridge/pricing, 2024-07)."""
ARCHIVED_GB: Final = 0.10
"""A GB that goes into an archive of the bus (the same)."""
ARCHIVE_GB: Final = 0.023
"""A GB in an archive for a month (the same)."""
HTTP_API: Final = 1.00
"""A million requests (aws.amazon.com/api-gateway/pricing, 2024-07)."""
SNS: Final = 0.50
"""A million messages to a topic (aws.amazon.com/sns/pricing, 2024-07)."""

# Data

WRITE_UNITS: Final = 0.625
"""A million write units on demand (aws.amazon.com/dynamodb/pricing, price list of 2026-07-31)."""
READ_UNITS: Final = 0.125
"""A million read units on demand (the same)."""
TABLE_GB: Final = 0.25
"""A GB in a table for a month (aws.amazon.com/dynamodb/pricing, 2024-11)."""
PITR_GB: Final = 0.20
"""A GB of a table that can be restored to a point in time, a month (the same)."""
S3_GB: Final = 0.023
"""A GB in S3 Standard for a month (aws.amazon.com/s3/pricing, 2026-10-08)."""
SECRET: Final = 0.40
"""A secret in Secrets Manager, a month (aws.amazon.com/secrets-manager/pricing, 2024-07)."""
SECRET_CALLS: Final = 0.05
"""Ten thousand calls of Secrets Manager (the same)."""
KMS_KEY: Final = 1.00
"""A customer-managed key, a month (aws.amazon.com/kms/pricing, 2024-07)."""
KMS_REQUESTS: Final = 0.03
"""Ten thousand requests with a symmetric key (the same)."""
ADVANCED_PARAMETER: Final = 0.05
"""An advanced parameter of Systems Manager, a month; standard ones are free
(aws.amazon.com/systems-manager/pricing, 2024-07)."""

# Watching

LOGS_GB: Final = 0.50
"""A GB of logs taken in (aws.amazon.com/cloudwatch/pricing, 2024-07)."""
LOGS_KEPT_GB: Final = 0.03
"""A GB of logs kept for a month (the same)."""
ALARM: Final = 0.10
"""A standard alarm on one metric, a month (the same)."""
FAST_ALARM: Final = 0.30
"""An alarm of high resolution, with a period under a minute, on one metric, a month (the same)."""
COMPOSITE_ALARM: Final = 0.50
"""A composite alarm, a month (the same)."""
METRIC: Final = 0.30
"""A custom metric, a month, in proportion to the hours in which it gets values (the same)."""
DASHBOARD: Final = 3.00
"""A dashboard, a month (the same)."""
TRACES: Final = 5.00
"""A million traces that X-Ray records (aws.amazon.com/xray/pricing, 2024-07)."""

# What every account has free, each month and for ever (aws.amazon.com/free, "Always free", as notes of 2026 list it;
# read 2026-11-29). X-Ray's and Scheduler's are on their price pages, see above.

FREE_LAMBDA_REQUESTS: Final = 1_000_000
"""Requests of functions."""
FREE_LAMBDA_GB_SECONDS: Final = 400_000
"""GB-seconds of functions."""
FREE_SQS_REQUESTS: Final = 1_000_000
"""Requests of queues, standard and FIFO together."""
FREE_SCHEDULER: Final = 14_000_000
"""Invocations of EventBridge Scheduler."""
FREE_SNS: Final = 1_000_000
"""Messages to topics."""
FREE_TABLE_GB: Final = 25
"""GB in tables. What is read and written on demand is not free."""
FREE_KMS_REQUESTS: Final = 20_000
"""Requests with keys."""
FREE_LOGS_GB: Final = 5
"""GB of logs: taken in, kept and searched together; counted here against what is taken in."""
FREE_ALARMS: Final = 10
"""Standard alarms."""
FREE_METRICS: Final = 10
"""Custom metrics."""
FREE_DASHBOARDS: Final = 3
"""Dashboards."""
FREE_TRACES: Final = 100_000
"""Traces that X-Ray records."""

# For the comparison with servers

SERVER: Final = 0.0168
"""An hour of t4g.small, 2 processors and 2 GB (price list of 2026-07-20)."""
VALKEY: Final = 0.0128
"""An hour of ElastiCache for Valkey on cache.t4g.micro, one node (price list of 2026-10-02)."""
