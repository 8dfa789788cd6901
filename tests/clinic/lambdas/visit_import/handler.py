"""Publishes a file of visits as events, in steps that go on where they were when the function was killed."""

from __future__ import annotations

from functools import partial
from typing import Final

import msgspec

from clinic.contracts.jobs import VISIT_IMPORT, Imported, VisitsFile
from clinic.contracts.visits import VisitEnded
from offload.contracts.events.entry import Entry
from offload.runtime import aws, bus
from offload.runtime.jobs.durable import LongRun, long_job
from offload.runtime.jobs.run import Permanent
from offload.runtime.settings import Settings

AT_ONCE: Final = 10
"""Visits a step."""


class VisitImportSettings(Settings, frozen=True, kw_only=True):
    """Where events go, and where the file is."""

    offload_bus: str
    offload_jobs_bucket: str


settings = VisitImportSettings.from_environment()


class Read(msgspec.Struct, frozen=True):
    """The file's lines, each a visit's JSON."""

    lines: list[str]


class Published(msgspec.Struct, frozen=True):
    """How many events a step published."""

    events: int


@long_job(VISIT_IMPORT)
def handler(visits: VisitsFile, run: LongRun) -> Imported:
    """Reads the file, and publishes it ten visits a step."""
    lines = run.step("open", lambda: _read(visits.file), Read).lines
    published = 0
    for number, first in enumerate(range(0, len(lines), AT_ONCE), 1):
        part = lines[first : first + AT_ONCE]
        published += run.step(f"publish-{number}", partial(_publish, part), Published).events
        run.progress(published, len(lines), f"{published} visits published")
    return Imported(visits=len(lines), published=published)


def _read(file: str) -> Read:
    client = aws.s3()
    try:
        body = client.get_object(Bucket=settings.offload_jobs_bucket, Key=file)["Body"].read()
    except client.exceptions.NoSuchKey as error:
        raise Permanent(f"'{file}' is not in the jobs' bucket: upload it first") from error
    return Read(body.decode().splitlines())


def _publish(lines: list[str]) -> Published:
    events = [msgspec.json.decode(line, type=VisitEnded).event() for line in lines]
    bus.publish(settings.offload_bus, [Entry.of(event) for event in events])
    return Published(len(events))
