"""Every job type that can be submitted, for the service, schemas and the command line. A new type is added here."""

from __future__ import annotations

from typing import Any, Final

from offload.contracts.jobs.deliveries import DELIVERY_BATCH
from offload.contracts.jobs.job_type import JobType
from offload.contracts.jobs.shop import (
    CUSTOMER_SEGMENTS,
    CUSTOMERS_SHARD,
    EXCHANGE_RATES,
    ORDER_IMPORT,
    SALES_REPORT,
)

JOB_TYPES: Final[dict[str, JobType[Any, Any]]] = {
    job_type.name: job_type
    for job_type in (
        SALES_REPORT,
        ORDER_IMPORT,
        CUSTOMER_SEGMENTS,
        CUSTOMERS_SHARD,
        EXCHANGE_RATES,
        DELIVERY_BATCH,
    )
}
