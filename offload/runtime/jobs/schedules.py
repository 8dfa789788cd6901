"""When scheduled jobs start: fire times in a time zone, overlap and catch-up, and the state of each schedule.

A cron with a fixed minute and hour is a time on the zone's clock. One that the clock skips in spring fires at the first
moment after the gap; one that comes twice in autumn fires once, the first time. A cron whose minute or hour begins
with `*` is a rate: it goes by elapsed time, so it fires in both of the doubled hours, and not in the skipped one. These
are Debian cron's rules, as cronsim keeps them (https://github.com/cuu508/cronsim, read 2026-11-24).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from itertools import count, islice
from typing import Any, Final, NamedTuple
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import msgspec

# zoneinfo reads the zones from it where the system has none: Amazon Linux. Imported so that bundles bring it.
import tzdata  # type: ignore[import-untyped] # noqa: F401
from botocore.exceptions import ClientError
from cronsim import CronSim, CronSimError

from offload.contracts.jobs.api import ScheduleState
from offload.contracts.jobs.job import Submit
from offload.contracts.jobs.job_type import CatchUp, JobType, Overlap, Schedule, rate_of
from offload.runtime import aws
from offload.runtime.jobs.items import moment, number
from offload.runtime.jobs.refusals import IdempotencyConflict, NoSuchJob, NotDeployed
from offload.runtime.jobs.store import JobStore

ON_TIME: Final = timedelta(minutes=3)
"""A fire time that is older when it is seen was missed by an outage; the sweeper looks each minute."""
FIRES_AT_ONCE: Final = 100
"""How many fire times one look deals with; after a long outage the next looks go on where it stopped."""
LONGEST_QUEUE: Final = 100
"""How many fire times may wait for the run before them; more are left out."""

_FIELDS: Final = 5
_SHOWN: Final = 5
# The midnight from which rates count: any would do that stays.
_RATES_BEGIN: Final = datetime(2000, 1, 1)  # noqa: DTZ001 -- it is given the schedule's zone


class BadSchedule(ValueError):
    """A schedule that never fires: its cron or its time zone is none; the message says which."""


class Fired(NamedTuple):
    """What one look at a schedule did: jobs started, fire times left out by the overlap policy, and now waiting."""

    started: int = 0
    skipped: int = 0
    waiting: int = 0


def fire_times(schedule: Schedule[Any], after: datetime) -> Iterator[datetime]:
    """The schedule's fire times after a moment, in UTC, rising, without an end; raises BadSchedule."""
    try:
        zone = ZoneInfo(schedule.timezone)
    except (ZoneInfoNotFoundError, ValueError) as error:
        raise BadSchedule(f"time zone '{schedule.timezone}': use an IANA name, as Europe/London") from error
    if period := rate_of(schedule.cron):
        begin = _RATES_BEGIN.replace(tzinfo=zone).astimezone(UTC)
        return (begin + period * number for number in count((after - begin) // period + 1))
    if len(schedule.cron.split()) != _FIELDS:
        raise BadSchedule(f"cron '{schedule.cron}': five fields: minute, hour, day of month, month, day of week")
    try:
        times = CronSim(schedule.cron, after.astimezone(zone))
    except CronSimError as error:
        raise BadSchedule(f"cron '{schedule.cron}': {error}") from error
    # From within the second of two equal hours cronsim begins anew in the first: such times are over.
    return (time for time in (local.astimezone(UTC) for local in times) if time > after)


def due_fires(schedule: Schedule[Any], looked_until: datetime, now: datetime) -> list[datetime]:
    """Which fire times after `looked_until`, up to `now`, ask for a job, the oldest first.

    Those on time all do. Of those that an outage has delayed: none, the last (unless a later one is on time and takes
    its place), or all, within the schedule's window.
    """
    passed = []
    for time in fire_times(schedule, max(looked_until, now - max(schedule.window, ON_TIME))):
        if time > now:
            break
        passed.append(time)
    on_time = [time for time in passed if now - time <= ON_TIME]
    if schedule.catch_up is CatchUp.NONE:
        return on_time
    within = [time for time in passed if now - time <= max(schedule.window, ON_TIME)]
    return within if schedule.catch_up is CatchUp.ALL else on_time or within[-1:]


def next_fires(schedule: Schedule[Any], now: datetime, shown: int = _SHOWN) -> tuple[datetime, ...]:
    """The next `shown` fire times, in UTC; raises BadSchedule."""
    return tuple(islice(fire_times(schedule, now), shown))


def fire(store: JobStore, job_type: JobType[Any, Any]) -> Fired:
    """Submits the jobs that the type's schedule asks for by now, as its overlap policy allows.

    A fire time is its job's idempotency key, and is noted as dealt with after the submit: two that look at once, or one
    that dies in between, make one job. A schedule begins when it is first looked at, and rests while its type is not
    deployed or it is paused. Raises BadSchedule, JobRefused.
    """
    schedule = job_type.schedule
    if schedule is None:
        return Fired()
    now, item = store.now(), _item(store, job_type.name)
    if "paused" in item:
        return Fired()
    if "looked_until" not in item:
        if _deployed(store, job_type.name):
            _look(store, job_type.name, None, now)
        return Fired()
    looked = moment(item["looked_until"])
    waiting, last_job = _waiting(item), item.get("last_job", {}).get("S")
    due = due_fires(schedule, looked, now)
    if len(due) > FIRES_AT_ONCE:
        due = due[:FIRES_AT_ONCE]
        now = due[-1]
    queue, started, skipped = [*waiting, *due], 0, 0
    while queue:
        if schedule.overlap is not Overlap.ALLOW and _open(store, last_job):
            if schedule.overlap is Overlap.QUEUE:
                break
            skipped += 1
        else:
            last_job, created = _submit(store, job_type, schedule, queue[0], last_job)
            started += created
        queue.pop(0)
    skipped += len(queue[LONGEST_QUEUE:])
    del queue[LONGEST_QUEUE:]
    if now > looked:
        _look(store, job_type.name, looked, now, queue, last_job)
    return Fired(started, skipped, len(queue))


def state(store: JobStore, job_type: JobType[Any, Any]) -> ScheduleState:
    """A schedule as it stands, with its next five fire times; raises LookupError for a type without a schedule."""
    schedule = job_type.schedule
    if schedule is None:
        raise LookupError(f"job type '{job_type.name}' has no schedule")
    item = _item(store, job_type.name)
    return ScheduleState(
        type=job_type.name,
        cron=schedule.cron,
        timezone=schedule.timezone,
        paused="paused" in item,
        looked_until=moment(item["looked_until"]) if "looked_until" in item else None,
        next_fires=next_fires(schedule, store.now()),
        waiting=tuple(_waiting(item)),
        last_job=item.get("last_job", {}).get("S"),
    )


def pause(store: JobStore, job_type: str) -> None:
    """The schedule starts nothing until it is resumed; paused twice it is paused."""
    _set(store, job_type, "SET paused = :yes", {":yes": {"BOOL": True}})


def resume(store: JobStore, job_type: str) -> None:
    """A paused schedule goes on from now: what it left out meanwhile is not caught up on. Does nothing to another."""
    _set(
        store,
        job_type,
        "SET looked_until = :now REMOVE paused",
        {":now": number(store.now())},
        "attribute_exists(paused)",
    )


def _submit(
    store: JobStore, job_type: JobType[Any, Any], schedule: Schedule[Any], time: datetime, last_job: str | None
) -> tuple[str | None, bool]:
    """The id of a fire time's job, and whether this call made it."""
    wish = Submit(
        type=job_type.name,
        input=msgspec.Raw(msgspec.json.encode(schedule.input)),
        idempotency_key=f"schedule:{job_type.name}:{time.isoformat()}",
        tags=(f"schedule:{job_type.name}", f"scheduled-for:{time:%Y-%m-%dT%H:%M:%SZ}"),
    )
    try:
        submitted = store.submit(job_type, wish)
    except IdempotencyConflict:
        # It was started with the input that the schedule had then; a deploy has changed it since.
        return last_job, False
    return submitted.job.id, submitted.created


def _deployed(store: JobStore, job_type: str) -> bool:
    try:
        store.registry.place(job_type)
    except NotDeployed:
        return False
    return True


def _open(store: JobStore, job_id: str | None) -> bool:
    """Whether the job that was started last has not ended yet; a held one has not."""
    if job_id is None:
        return False
    try:
        return not store.get(job_id).state.ended
    except NoSuchJob:
        return False


def _waiting(item: dict[str, Any]) -> list[datetime]:
    return [moment(time) for time in item.get("waiting", {}).get("L", [])]


def _key(job_type: str) -> dict[str, Any]:
    return {"pk": {"S": f"schedule#{job_type}"}, "sk": {"S": "schedule"}}


def _item(store: JobStore, job_type: str) -> dict[str, Any]:
    answer = aws.dynamodb().get_item(TableName=store.table, Key=_key(job_type), ConsistentRead=True)
    return dict(answer.get("Item", {}))


def _look(
    store: JobStore,
    job_type: str,
    before: datetime | None,
    now: datetime,
    waiting: Sequence[datetime] = (),
    last_job: str | None = None,
) -> None:
    """Notes up to when fire times are dealt with, unless another did, or the schedule was paused, meanwhile."""
    values: dict[str, Any] = {":now": number(now), ":waiting": {"L": [number(time) for time in waiting]}}
    change = "SET looked_until = :now, waiting = :waiting"
    condition = "attribute_not_exists(looked_until)"
    if last_job is not None:
        values[":job"] = {"S": last_job}
        change += ", last_job = :job"
    if before is not None:
        values[":before"] = number(before)
        condition = "looked_until = :before"
    _set(store, job_type, change, values, f"{condition} AND attribute_not_exists(paused)")


def _set(store: JobStore, job_type: str, change: str, values: dict[str, Any], condition: str | None = None) -> None:
    """Changes a schedule's item, if the condition holds."""
    conditional: dict[str, Any] = {"ConditionExpression": condition} if condition else {}
    try:
        aws.dynamodb().update_item(
            TableName=store.table,
            Key=_key(job_type),
            UpdateExpression=change,
            ExpressionAttributeValues=values,
            **conditional,
        )
    except ClientError as error:
        if error.response.get("Error", {}).get("Code") != "ConditionalCheckFailedException":
            raise
