"""How a job comes into the table: once for its idempotency key, and once for its type's unique fields."""

from __future__ import annotations

import contextlib
import hashlib
import math
import uuid
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import msgspec
from botocore.exceptions import ClientError

from offload.contracts.jobs.job import LONGEST_DELAY_SECONDS, LONGEST_INPUT, Job, State, Submit
from offload.contracts.jobs.job_type import JobType, OnConflict, Unique
from offload.runtime import aws
from offload.runtime.jobs import items
from offload.runtime.jobs.ending import Ending
from offload.runtime.jobs.items import Item, job_of, number, text
from offload.runtime.jobs.refusals import (
    AlreadyEnded,
    BadInput,
    BadTime,
    Contended,
    IdempotencyConflict,
    InputTooLarge,
    NoSuchJob,
    NotEnded,
)
from offload.runtime.jobs.table import LOOK_AHEAD, TRIES, WAKE_AGAIN, JobTable, condition_failed

LONGEST_KEY: Final = 1024
"""Bytes of a job's key, which is part of a partition key: 2,048 bytes (Constraints.html, read 2026-11-29)."""
_LONGEST_TRACE: Final = 256
"""Characters of a traceparent; W3C Trace Context's has 55, and one of another version is not ours to read."""


@dataclass(frozen=True)
class Submitted:
    """What became of a submit: its job, and whether it was made by this call."""

    job: Job
    created: bool


class Submitting:
    """What asks for a job: a submit, and the retry of one that has ended."""

    def __init__(self, table: JobTable, ending: Ending) -> None:
        self._table = table
        self._ending = ending

    def submit(
        self, job_type: JobType[Any, Any], wish: Submit, *, parent: str | None = None, job_id: str | None = None
    ) -> Submitted:
        """Accepts a job, once for an idempotency key (or `job_id`) and once for the type's unique fields.

        Raises a JobRefused for what cannot be accepted; nothing is written then.
        """
        now = self._table.now()
        given = _checked(job_type, wish)
        run_at = _run_at(wish, now)
        url = self._table.registry.queue(job_type.name, wish.priority)
        by_key = f"{job_type.name}\0{wish.idempotency_key}"
        made = f"job-{_digest(by_key.encode())}" if wish.idempotency_key else f"job-{uuid.uuid4().hex}"
        job_id = job_id or made
        item = self._new_item(job_type, wish, given, job_id=job_id, now=now, run_at=run_at, parent=parent)
        # A submit may ask for it where the type does not.
        unique = job_type.unique or (Unique(within=timedelta(seconds=wish.unique_for)) if wish.unique_for else None)
        for _ in range(TRIES):
            actions: list[Any] = [
                {
                    "Put": {
                        "TableName": self._table.name,
                        "Item": item,
                        "ConditionExpression": "attribute_not_exists(pk)",
                        "ReturnValuesOnConditionCheckFailure": "ALL_OLD",
                    }
                },
                self._table.count(job_type.name, job_id, "accepted"),
            ]
            if unique:
                actions.append(self._take_unique(job_type, unique, wish, given, job_id, now))
            if job_type.ordered:
                actions.append(self._table.put(items.line_key(job_type.name, text(item, "key"), item, ordered=True)))
            reasons = self._table.transact(actions)
            if not reasons:
                if run_at - now < LOOK_AHEAD:
                    self._table.send_wake_up(url, job_id, 1, max(timedelta(0), run_at - now))
                return Submitted(job_of(item), created=True)
            if found := reasons[0].get("Item"):
                if text(found, "digest") != text(item, "digest"):
                    raise IdempotencyConflict(
                        "idempotency key: it was used with other content; take another key for another job"
                    )
                self._wake_if_queued(found)
                return Submitted(job_of(found), created=False)
            if holder := (reasons[2].get("Item") if unique else None):
                other = self._make_way(unique, holder, now, wish.retry_of)
                if other is not None:
                    return Submitted(other, created=False)
        raise Contended(f"job type '{job_type.name}': others submitted the same at the same moment; ask again")

    def retry(
        self,
        job_type: JobType[Any, Any],
        job_id: str,
        content: bytes | None = None,
        *,
        idempotency_key: str | None = None,
    ) -> Job:
        """A new job that names the old one, with its input or with `content`; raises NoSuchJob, NotEnded, BadInput."""
        item = self._table.item(job_id)
        old = job_of(item)
        if not old.state.ended:
            raise NotEnded(f"job {job_id} is {old.state}: only an ended job can be retried")
        wish = Submit(
            type=old.type,
            input=msgspec.Raw(content) if content is not None else old.input,
            priority=old.priority,
            tags=old.tags,
            traceparent=old.traceparent,
            retry_of=job_id,
            idempotency_key=idempotency_key,
            unique_for=float(item["unique_for"]["N"]) if "unique_for" in item else None,
        )
        return self.submit(job_type, wish).job

    def _new_item(
        self,
        job_type: JobType[Any, Any],
        wish: Submit,
        given: bytes,
        *,
        job_id: str,
        now: datetime,
        run_at: datetime,
        parent: str | None,
    ) -> dict[str, Any]:
        waits = run_at > now
        state = State.WAITING if waits else State.QUEUED
        key = getattr(msgspec.json.decode(given, type=job_type.input), job_type.key) if job_type.key else None
        at = _utc(wish.run_at) if wish.run_at is not None else None
        content = [wish.type, given, str(wish.priority), wish.tags, str(at), str(wish.delay)]
        trace = wish.traceparent if len(wish.traceparent or "") <= _LONGEST_TRACE else None
        optional = {"parent": parent, "retry_of": wish.retry_of, "traceparent": trace}
        return {
            **items.job_key(job_id),
            "type": {"S": job_type.name},
            "type_shard": items.type_shard(job_type.name, items.shard_of(job_id, items.TYPE_SHARDS)),
            "listed": {"S": f"{now.astimezone(UTC):%Y-%m-%dT%H:%M:%S.%f}#{job_id}"},
            "state": {"S": state},
            "attempt": {"N": "0"},
            "failures": {"N": "0"},
            "input": {"B": given},
            "digest": {"S": _digest(repr(content).encode())},
            "created_at": number(now),
            "changed_at": number(now),
            "priority": {"S": wish.priority},
            "tags": {"L": [{"S": tag} for tag in wish.tags]},
            "history": {"L": [items.transition(now, state, 0, "submitted")]},
            "due_shard": {"S": str(items.shard_of(job_id, items.DUE_SHARDS))},
            "due_at": number(run_at if waits else now + WAKE_AGAIN),
            **({"run_at": number(run_at)} if waits else {}),
            **({"key": {"S": str(key)}} if key is not None else {}),
            **({"unique_for": {"N": str(wish.unique_for)}} if wish.unique_for else {}),
            **{name: {"S": value} for name, value in optional.items() if value},
        }

    def _take_unique(
        self,
        job_type: JobType[Any, Any],
        unique: Unique,
        wish: Submit,
        given: bytes,
        job_id: str,
        now: datetime,
    ) -> dict[str, Any]:
        values = msgspec.to_builtins(msgspec.json.decode(given, type=job_type.input))
        chosen = {name: values[name] for name in unique.fields} if unique.fields else values
        within = timedelta(seconds=wish.unique_for) if wish.unique_for else unique.within
        until = number(now + within)
        return {
            "Put": {
                "TableName": self._table.name,
                "Item": {
                    **items.unique_key(job_type.name, _digest(msgspec.json.encode(chosen, order="deterministic"))),
                    "job": {"S": job_id},
                    "until": until,
                    "expires": {"N": str(math.ceil(float(until["N"])))},
                },
                "ConditionExpression": "attribute_not_exists(pk) OR #until <= :now",
                "ExpressionAttributeNames": {"#until": "until"},
                "ExpressionAttributeValues": {":now": number(now)},
                "ReturnValuesOnConditionCheckFailure": "ALL_OLD",
            }
        }

    def _make_way(self, unique: Unique | None, holder: Item, now: datetime, retry_of: str | None) -> Job | None:
        """The job that keeps a unique combination; None when it made way for another, as it does for its own retry."""
        try:
            other = self._table.job(holder["job"]["S"])
        except NoSuchJob:
            other = None
        if other and other.state is State.SUCCEEDED and other.id != retry_of:
            return other
        if other and not other.state.ended:
            if unique and unique.on_conflict is OnConflict.RETURN:
                return other
            with contextlib.suppress(AlreadyEnded):
                self._ending.cancel(other.id, why="replaced by a newer one")
        try:
            aws.dynamodb().update_item(
                TableName=self._table.name,
                Key={"pk": holder["pk"], "sk": holder["sk"]},
                UpdateExpression="SET #until = :now",
                ConditionExpression="job = :job",
                ExpressionAttributeNames={"#until": "until"},
                ExpressionAttributeValues={":now": number(now), ":job": holder["job"]},
            )
        except ClientError as error:
            # Another submit was faster: its job holds the combination now, and the next try meets it.
            if not condition_failed(error):
                raise
        return None

    def _wake_if_queued(self, item: Item) -> None:
        """A repeated submit may follow a crash between the first one's write and its wake-up."""
        if item["state"]["S"] == State.QUEUED and item["attempt"]["N"] == "0":
            self._table.wake(item)


def _checked(job_type: JobType[Any, Any], wish: Submit) -> bytes:
    """The input by the type's contract; raises BadInput, InputTooLarge."""
    given = bytes(wish.input)
    if len(given) > LONGEST_INPUT:
        raise InputTooLarge(
            f"input: {len(given)} bytes, the limit is {LONGEST_INPUT}: put it into the bucket and send its key"
        )
    try:
        content = msgspec.json.decode(given, type=job_type.input)
        checked = msgspec.json.encode(content)
    except (msgspec.MsgspecError, ValueError, TypeError, OverflowError, RecursionError) as error:
        raise BadInput(f"input of '{job_type.name}': {error}") from error
    if len(checked) > LONGEST_INPUT:
        raise InputTooLarge(f"input: {len(checked)} bytes with its defaults, the limit is {LONGEST_INPUT}")
    if job_type.key and len(str(getattr(content, job_type.key)).encode()) > LONGEST_KEY:
        raise BadInput(f"input of '{job_type.name}': {job_type.key}: a job's key has at most {LONGEST_KEY} bytes")
    return checked


def _run_at(wish: Submit, now: datetime) -> datetime:
    if wish.delay is not None and wish.run_at is not None:
        raise BadTime("delay, run_at: give one of them")
    if (wish.unique_for or 0) > LONGEST_DELAY_SECONDS:
        # A wish that came in an event has no bound of its own.
        raise BadTime("unique_for: more than a year")
    run_at = wish.run_at if wish.run_at is not None else now + timedelta(seconds=wish.delay or 0)
    if run_at - now > timedelta(seconds=LONGEST_DELAY_SECONDS):
        raise BadTime("run_at: more than a year ahead; submit the job again nearer to its time")
    return max(run_at, now)


def _utc(moment: datetime) -> datetime:
    """The moment in UTC; as it is where the calendar ends before that."""
    try:
        return moment.astimezone(UTC)
    except OverflowError:
        return moment


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:32]
