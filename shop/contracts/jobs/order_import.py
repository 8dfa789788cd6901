"""The order import's job type."""

from __future__ import annotations

from datetime import timedelta
from typing import Final

from msgspec import Struct

from offload.contracts.events.event import Count
from offload.contracts.jobs.job_type import JobType, Retry


class OrdersFile(Struct, frozen=True, kw_only=True):
    """An orders file, plain or gzip: a key below `uploads/` of the jobs' bucket."""

    file: str


class Imported(Struct, frozen=True, kw_only=True):
    """What became of a file's rows. `rejects` is the CSV of rows that were not taken, with number and reason."""

    rows: Count
    invoices: Count
    published: Count
    rejected: Count
    rejects: str | None = None


ORDER_IMPORT: Final = JobType(
    name="order_import",
    input=OrdersFile,
    result=Imported,
    timeout=timedelta(days=1),
    memory_mb=512,
    retry=Retry(attempts=10),
    durable=True,
    steps=("open", "publish-*", "rest-*", "rejects"),
)
