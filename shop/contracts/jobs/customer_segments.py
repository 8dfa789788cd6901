"""The job types that segment customers: the one that scores them, and the shards that it starts."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated, Final

from msgspec import Meta, Struct

from offload.contracts.events.event import Count
from offload.contracts.jobs.job_type import JobType


class Customers(Struct, frozen=True, kw_only=True):
    """An orders file to segment the customers of; `shards` is how many jobs share the work."""

    file: str
    shards: Annotated[int, Meta(ge=1, le=100)] = 8


class Segments(Struct, frozen=True, kw_only=True):
    """How many customers there are in each segment; `table` is the CSV of all of them, in S3."""

    customers: Count
    segments: dict[str, int]
    table: str


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


CUSTOMER_SEGMENTS: Final = JobType(
    name="customer_segments",
    input=Customers,
    result=Segments,
    timeout=timedelta(minutes=5),
    memory_mb=512,
    starts=(CUSTOMERS_SHARD,),
)
