"""The clinic's job types: one of the clock, one that starts others, one that is durable."""

from __future__ import annotations

from datetime import date, timedelta
from typing import Annotated, Final

from msgspec import Meta, Struct

from offload.contracts.events.event import Count
from offload.contracts.jobs.job_type import JobType, Priority, Retry, Schedule


class Days(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Days from `first` to `last`, both included; without them, all that there are."""

    first: date | None = None
    last: date | None = None


class Report(Struct, frozen=True, kw_only=True):
    """What the wards did in some days; `page` and `table` are files in S3."""

    fees: str
    units: int
    visits: Count
    cancellations: Count
    page: str
    table: str


WARD_REPORT: Final = JobType(
    name="ward_report",
    input=Days,
    result=Report,
    timeout=timedelta(minutes=1),
    memory_mb=512,
    lanes=(Priority.HIGH, Priority.NORMAL, Priority.LOW),
    schedule=Schedule(cron="0 2 * * *", timezone="Europe/London", input=Days()),
)


class Patients(Struct, frozen=True, kw_only=True):
    """A file with a patient a line; `shards` is how many jobs share the work."""

    file: str
    shards: Annotated[int, Meta(ge=1, le=100)] = 8


class Groups(Struct, frozen=True, kw_only=True):
    """How many patients there are in each group; `table` is a file in S3."""

    patients: Count
    groups: dict[str, int]
    table: str


class PatientsShard(Struct, frozen=True, kw_only=True):
    """The lines of a file whose number falls on `shard` of `shards`."""

    file: str
    shard: Count
    shards: int


class ShardTable(Struct, frozen=True, kw_only=True):
    """A shard's patients, in a file in S3."""

    patients: Count
    table: str


PATIENTS_SHARD: Final = JobType(
    name="patients_shard",
    input=PatientsShard,
    result=ShardTable,
    timeout=timedelta(minutes=5),
    memory_mb=512,
    concurrency=4,
)


PATIENT_GROUPS: Final = JobType(
    name="patient_groups",
    input=Patients,
    result=Groups,
    timeout=timedelta(minutes=5),
    memory_mb=512,
    starts=(PATIENTS_SHARD,),
)


class VisitsFile(Struct, frozen=True, kw_only=True):
    """A file with a visit a line: a key below `uploads/` of the jobs' bucket."""

    file: str


class Imported(Struct, frozen=True, kw_only=True):
    """How many visits a file had, and how many of them were published."""

    visits: Count
    published: Count


VISIT_IMPORT: Final = JobType(
    name="visit_import",
    input=VisitsFile,
    result=Imported,
    timeout=timedelta(days=1),
    memory_mb=512,
    retry=Retry(attempts=10),
    durable=True,
    steps=("open", "publish-*"),
)
