"""Puts every customer of an orders file into a segment: by shards, gathered, scored against each other."""

from __future__ import annotations

from collections import Counter

from offload.runtime import aws
from offload.runtime.jobs.run import Permanent, Run, job
from offload.runtime.settings import Settings
from shop.contracts.jobs.customer_segments import (
    CUSTOMER_SEGMENTS,
    CUSTOMERS_SHARD,
    Customers,
    CustomersShard,
    Segments,
)
from shop.customers import Segment, read_customers, score, write_segments
from shop.uploads import NoSuchUpload, check_upload


class CustomerSegmentsSettings(Settings, frozen=True, kw_only=True):
    """The bucket that the shards' tables are in."""

    offload_jobs_bucket: str


settings = CustomerSegmentsSettings.from_environment()


@job(CUSTOMER_SEGMENTS)
def handler(wanted: Customers, run: Run) -> Segments:
    """One job a shard; what they found makes one table."""
    try:
        check_upload(aws.s3(), settings.offload_jobs_bucket, wanted.file)
    except NoSuchUpload as error:
        raise Permanent(str(error)) from error
    inputs = [CustomersShard(file=wanted.file, shard=shard, shards=wanted.shards) for shard in range(wanted.shards)]
    shards = run.gather(CUSTOMERS_SHARD, inputs)
    scored = score(customer for shard in run.each(shards) for customer in read_customers(_read(shard.table)))
    found = Counter(entry.segment for entry in scored)
    table = run.put("segments.csv", write_segments(scored), "text/csv; charset=utf-8")
    return Segments(customers=len(scored), segments={segment.value: found[segment] for segment in Segment}, table=table)


def _read(key: str) -> bytes:
    return aws.s3().get_object(Bucket=settings.offload_jobs_bucket, Key=key)["Body"].read()
