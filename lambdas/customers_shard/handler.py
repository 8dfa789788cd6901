"""Recency, frequency and monetary value of the customers that fall on one shard of an orders file."""

from __future__ import annotations

from offload.runtime import aws
from offload.runtime.jobs.run import Permanent, Run, job
from offload.runtime.settings import Settings
from shop.contracts.jobs.customer_segments import CUSTOMERS_SHARD, CustomersShard, ShardTable
from shop.customers import customers_of, write_customers
from shop.orders import BadRows, UnreadableOrders, read_rows
from shop.uploads import NoSuchUpload, open_upload


class CustomersShardSettings(Settings, frozen=True, kw_only=True):
    """The bucket that the orders file is in."""

    offload_jobs_bucket: str


settings = CustomersShardSettings.from_environment()


@job(CUSTOMERS_SHARD)
def handler(wanted: CustomersShard, run: Run) -> ShardTable:
    """Streams the whole file and keeps the shard's customers."""
    if wanted.shard >= wanted.shards:
        raise Permanent(f"shard {wanted.shard} of {wanted.shards}: shards count from 0")
    try:
        rows = run.each(read_rows(open_upload(aws.s3(), settings.offload_jobs_bucket, wanted.file), wanted.file))
        customers = customers_of(rows, wanted.file, shard=wanted.shard, shards=wanted.shards)
    except (NoSuchUpload, UnreadableOrders, BadRows) as error:
        raise Permanent(str(error)) from error
    table = run.put("customers.csv", write_customers(customers), "text/csv; charset=utf-8")
    return ShardTable(customers=len(customers), table=table)
