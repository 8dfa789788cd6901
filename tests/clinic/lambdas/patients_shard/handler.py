"""The patients of one shard of a file."""

from __future__ import annotations

import zlib

from clinic.contracts.jobs import PATIENTS_SHARD, PatientsShard, ShardTable
from offload.runtime import aws
from offload.runtime.jobs.run import Permanent, Run, job
from offload.runtime.settings import Settings


class PatientsShardSettings(Settings, frozen=True, kw_only=True):
    """The bucket that the file is in."""

    offload_jobs_bucket: str


settings = PatientsShardSettings.from_environment()


@job(PATIENTS_SHARD)
def handler(wanted: PatientsShard, run: Run) -> ShardTable:
    """Reads the whole file and keeps the shard's lines."""
    if wanted.shard >= wanted.shards:
        raise Permanent(f"shard {wanted.shard} of {wanted.shards}: shards count from 0")
    client = aws.s3()
    try:
        body = client.get_object(Bucket=settings.offload_jobs_bucket, Key=wanted.file)["Body"].read()
    except client.exceptions.NoSuchKey as error:
        raise Permanent(f"'{wanted.file}' is not in the jobs' bucket") from error
    lines = {line for line in run.each(body.splitlines()) if zlib.crc32(line) % wanted.shards == wanted.shard}
    table = run.put("patients.csv", b"\n".join(sorted(lines)), "text/csv; charset=utf-8")
    return ShardTable(patients=len(lines), table=table)
