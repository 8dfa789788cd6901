"""The sales report's job type."""

from __future__ import annotations

from datetime import date, timedelta
from typing import Final

from msgspec import Struct

from offload.contracts.events.event import Count
from offload.contracts.jobs.job_type import JobType, Priority, Schedule


class Period(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Days from `first` to `last`, both included; without them, all that the ledger has."""

    first: date | None = None
    last: date | None = None


class Report(Struct, frozen=True, kw_only=True):
    """A period's figures; money in GBP as strings. `page` and `table` are the report's HTML and CSV, in S3."""

    revenue: str
    units: int
    orders: Count
    cancellations: Count
    page: str
    table: str


SALES_REPORT: Final = JobType(
    name="sales_report",
    input=Period,
    result=Report,
    timeout=timedelta(minutes=1),
    memory_mb=512,
    lanes=(Priority.HIGH, Priority.NORMAL, Priority.LOW),
    schedule=Schedule(cron="0 2 * * *", timezone="Europe/London", input=Period()),
)
