"""The shop's job types."""

from __future__ import annotations

from datetime import date, timedelta
from typing import Annotated, Final

from msgspec import Meta, Struct

from offload.contracts.jobs.job_type import JobType, Priority, Retry, Schedule

Count = Annotated[int, Meta(ge=0)]


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


class Customers(Struct, frozen=True, kw_only=True):
    """An orders file to segment the customers of; `shards` is how many jobs share the work."""

    file: str
    shards: Annotated[int, Meta(ge=1, le=100)] = 8


class Segments(Struct, frozen=True, kw_only=True):
    """How many customers there are in each segment; `table` is the CSV of all of them, in S3."""

    customers: Count
    segments: dict[str, int]
    table: str


CUSTOMER_SEGMENTS: Final = JobType(
    name="customer_segments", input=Customers, result=Segments, timeout=timedelta(minutes=5), memory_mb=512
)


class CustomersShard(Struct, frozen=True, kw_only=True):
    """The customers whose number falls on `shard` of `shards`."""

    file: str
    shard: Count
    shards: int


class ShardTable(Struct, frozen=True, kw_only=True):
    """A shard's customers: a CSV in S3 with recency, frequency and monetary value of each."""

    customers: Count
    table: str


CUSTOMERS_SHARD: Final = JobType(
    name="customers_shard",
    input=CustomersShard,
    result=ShardTable,
    timeout=timedelta(minutes=5),
    memory_mb=512,
    concurrency=4,
)


class RatesWanted(Struct, frozen=True, kw_only=True):
    """The newest reference rates; with `history`, the last 90 days, whether or not one of them is missing."""

    history: bool = False


class RatesKept(Struct, frozen=True, kw_only=True):
    """What a look at the European Central Bank's rates brought.

    `newest` is the newest day that is stored now, and `working_days_behind` how many of the bank's working days have
    been published since; `added` days are new, `differing` days came with other rates than are stored for them.
    """

    newest: date
    working_days_behind: Count
    added: Count
    differing: Count


EXCHANGE_RATES: Final = JobType(
    name="exchange_rates",
    input=RatesWanted,
    result=RatesKept,
    timeout=timedelta(minutes=1),
    # The bank is usually done by 16:00; of a day that is late, or of a bank that does not answer, the last try is two
    # hours later.
    retry=Retry(attempts=8, first_wait=timedelta(minutes=5), longest_wait=timedelta(minutes=20)),
    concurrency=1,
    schedule=Schedule(cron="15 16 * * 1-5", timezone="Europe/Berlin", input=RatesWanted()),
)
