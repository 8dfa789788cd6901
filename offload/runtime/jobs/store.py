"""The state of jobs: one item a job, and every change of it one conditional write on (state, attempt).

Nothing here trusts a message: a nudge says "look at job J", and the item says whether it may start. What a crash
between two writes leaves undone has its time in the item (`due_at`), and `settle` does it then.
"""

from __future__ import annotations

import contextlib
import hashlib
import heapq
import math
import random
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any, Final, Literal

import msgspec
from botocore.exceptions import ClientError

from offload.contracts.events.entry import Entry
from offload.contracts.events.event import FIRST_MOMENT, LAST_MOMENT
from offload.contracts.jobs.events import JobFinished
from offload.contracts.jobs.job import (
    LONGEST_DELAY_SECONDS,
    LONGEST_INPUT,
    Answer,
    Job,
    Progress,
    Question,
    State,
    Submit,
)
from offload.contracts.jobs.job_type import JobType, OnConflict, Priority, Unique
from offload.runtime import aws, bus
from offload.runtime.jobs import executions, items
from offload.runtime.jobs.items import Item, job_of, number, text
from offload.runtime.jobs.refusals import (
    AlreadyEnded,
    BadInput,
    BadTime,
    Contended,
    IdempotencyConflict,
    InputTooLarge,
    LostLease,
    NoSuchJob,
    NotAsking,
    NotEnded,
    NotHeld,
    TooManyChildren,
    UnknownType,
)
from offload.runtime.jobs.registry import Registry
from offload.runtime.settings import Settings
from offload.runtime.tables import FREE, transact
from offload.runtime.text import stored

NUDGE_AGAIN: Final = timedelta(seconds=60)
"""A queued job that has not started this long after its nudge gets another."""
LOOK_AHEAD: Final = timedelta(seconds=75)
"""How far ahead nudges are sent with a delay: longer than the minute between two sweeps."""
LONGEST_RESULT: Final = 128 * 1024
"""A result of more bytes goes to the bucket; an item of DynamoDB holds 400 kB (Constraints.html, read 2026-11-24)."""
LONGEST_KEY: Final = 1024
"""Bytes of a job's key, which is part of a partition key: 2,048 bytes (Constraints.html, read 2026-11-29)."""

PATIENCE: Final = timedelta(hours=4)
"""How long a job waits for a third party that is down, from its first attempt that met that: EventConsumer's too."""
ASK_ENGINE_AGAIN: Final = timedelta(minutes=5)
"""How long a long job that waits is left alone; a cancel of it is seen by the next sweep."""
# Of inputs and results in a page, or one job: Lambda answers with 6 MB at the most (gettingstarted-limits.html, read
# 2026-11-27), and a page has room for as much again of the rest of 200 jobs.
_PAGE_BYTES: Final = 2_500_000
_FAR: Final = datetime(9999, 1, 1, tzinfo=UTC)
_ATTEMPTS: Final = 8
_LINE_LOOK: Final = 10
_LONGEST_QUESTION: Final = 4000  # bytes
_LONGEST_TRACE: Final = 256
"""Characters of a traceparent; W3C Trace Context's has 55, and one of another version is not ours to read."""
_OF_A_RUN: Final = "lease_until, execution, suspended, question, answer_to"


@dataclass(frozen=True)
class Submitted:
    """What became of a submit: its job, and whether it was made by this call."""

    job: Job
    created: bool


@dataclass(frozen=True)
class Page:
    """Jobs, newest first; `cursor` asks for those after them, None at the end."""

    jobs: Sequence[Job]
    cursor: str | None


@dataclass(frozen=True)
class Lease:
    """The right of attempt number `attempt` to run `job` until `until`."""

    job: Job
    attempt: int
    until: datetime
    item: Item = field(repr=False, compare=False)
    """The job as it stood in the table when the attempt started."""


@dataclass(frozen=True)
class NotStarted:
    """Why an attempt may not start.

    One of `gone`, `ended`, `running`, `held`, `stale`, `children`, `early`, `expired`, `order` and `limit`.
    """

    reason: str


@dataclass(frozen=True)
class Due:
    """A job that somebody must look at, at `at`."""

    job_id: str
    type: str
    state: State
    at: datetime


@dataclass
class Tally:
    """What a type's counters and its open jobs say: `accepted` = `ended` + all of `open`, or something is lost."""

    accepted: int = 0
    ended: int = 0
    open: dict[State, int] = field(default_factory=dict)

    @property
    def missing(self) -> int:
        """How many jobs were accepted and are neither ended nor open; negative when there are too many."""
        return self.accepted - self.ended - sum(self.open.values())


class StoreSettings(Settings, frozen=True, kw_only=True):
    """What the JobService and BackgroundJob constructs put into a function's environment."""

    offload_jobs_table: str
    offload_jobs_bucket: str
    offload_jobs_path: str
    offload_bus: str


class JobStore:
    """Every change of a job's state."""

    def __init__(
        self,
        *,
        table: str,
        bucket: str,
        bus: str,
        registry: Registry,
        types: Mapping[str, JobType[Any, Any]],
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        chance: Callable[[], float] = random.random,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.table: Final = table
        self.bucket: Final = bucket
        self.registry: Final = registry
        self.now: Final = now
        self._bus = bus
        self._types = types
        self._chance = chance
        self._sleep = sleep

    @classmethod
    def from_environment(cls, types: Mapping[str, JobType[Any, Any]]) -> JobStore:
        """The store that the function's variables name, for jobs of these `types`; raises MissingSetting."""
        settings = StoreSettings.from_environment()
        return cls(
            table=settings.offload_jobs_table,
            bucket=settings.offload_jobs_bucket,
            bus=settings.offload_bus,
            registry=Registry(settings.offload_jobs_path),
            types=types,
        )

    # Asking for a job

    def submit(
        self, job_type: JobType[Any, Any], wish: Submit, *, parent: str | None = None, job_id: str | None = None
    ) -> Submitted:
        """Accepts a job, once for an idempotency key (or `job_id`) and once for the type's unique fields.

        Raises a JobRefused for what cannot be accepted; nothing is written then.
        """
        now = self.now()
        given = _checked(job_type, wish)
        run_at = _run_at(wish, now)
        url = self.registry.queue(job_type.name, wish.priority)
        by_key = f"{job_type.name}\0{wish.idempotency_key}"
        made = f"job-{_digest(by_key.encode())}" if wish.idempotency_key else f"job-{uuid.uuid4().hex}"
        job_id = job_id or made
        item = self._new_item(job_type, wish, given, job_id=job_id, now=now, run_at=run_at, parent=parent)
        # A submit may ask for it where the type does not.
        unique = job_type.unique or (Unique(within=timedelta(seconds=wish.unique_for)) if wish.unique_for else None)
        for _ in range(_ATTEMPTS):
            actions: list[Any] = [
                {
                    "Put": {
                        "TableName": self.table,
                        "Item": item,
                        "ConditionExpression": "attribute_not_exists(pk)",
                        "ReturnValuesOnConditionCheckFailure": "ALL_OLD",
                    }
                },
                self._count(job_type.name, job_id, "accepted"),
            ]
            if unique:
                actions.append(self._take_unique(job_type, unique, wish, given, job_id, now))
            if job_type.ordered:
                actions.append(self._put(items.line_key(job_type.name, text(item, "key"), item, ordered=True)))
            reasons = self._transact(actions)
            if not reasons:
                self._nudge(url, job_id, 1, max(timedelta(0), run_at - now)) if run_at - now < LOOK_AHEAD else None
                return Submitted(job_of(item), created=True)
            if found := reasons[0].get("Item"):
                if text(found, "digest") != text(item, "digest"):
                    raise IdempotencyConflict(
                        "idempotency key: it was used with other content; take another key for another job"
                    )
                self._nudge_if_queued(found)
                return Submitted(job_of(found), created=False)
            if holder := (reasons[2].get("Item") if unique else None):
                other = self._make_way(unique, holder, now, wish.retry_of)
                if other is not None:
                    return Submitted(other, created=False)
        raise Contended(f"job type '{job_type.name}': others submitted the same at the same moment; ask again")

    def get(self, job_id: str) -> Job:
        """A job as it stands; raises NoSuchJob."""
        return job_of(self._item(job_id))

    def page(
        self,
        *,
        types: Sequence[str],
        state: State | None = None,
        since: datetime | None = None,
        tag: str | None = None,
        limit: int = 50,
        cursor: str | None = None,
    ) -> Page:
        """Jobs of some types, newest first. Jobs added meanwhile neither shift nor repeat a page.

        A page of large jobs has fewer than `limit`: it has to fit into an answer, and goes on at its cursor. A job may
        be missing for about a second after its submit: the index follows the table.
        """
        # Without a filter no shard gives more than the whole page, and one to know that there is another; with one, any
        # number of jobs is looked through.
        at_once = None if state or tag else limit + 1
        shards = [
            self._listed(items.type_shard(name, shard), since, cursor, at_once)
            for name in types
            for shard in range(items.TYPE_SHARDS)
        ]
        found = heapq.merge(*shards, key=lambda item: item["listed"]["S"], reverse=True)
        jobs: list[Job] = []
        last, size = None, 0
        for item in found:
            if (state and item["state"]["S"] != state) or (tag and {"S": tag} not in item["tags"]["L"]):
                continue
            job = job_of(item)
            size += len(job.input) + len(job.result or b"")
            if len(jobs) == limit or (jobs and size > _PAGE_BYTES):
                return Page(jobs, last)
            jobs.append(job)
            last = item["listed"]["S"]
        return Page(jobs, None)

    def cancel(self, job_id: str, *, why: str = "asked for") -> Job:
        """A job that does not run is cancelled now, a running one at its next checkpoint; its children likewise.

        Raises NoSuchJob, AlreadyEnded, UnknownType.
        """
        for _ in range(_ATTEMPTS):
            item = self._item(job_id)
            state = State(item["state"]["S"])
            if state.ended:
                raise AlreadyEnded(f"job {job_id} has ended: {state}")
            self._cancel_children(item)
            if state is not State.RUNNING:
                if self._end(self.type_of(text(item, "type") or ""), item, State.CANCELLED, why=why):
                    return self.get(job_id)
                continue
            change = "SET cancel = :yes"
            values: dict[str, Any] = {":yes": {"BOOL": True}}
            if "suspended" in item:
                # No run of it will come to a checkpoint: the timekeeper ends the execution.
                change += ", due_at = :now"
                values[":now"] = number(self.now())
            try:
                self._update(item, change, "#state = :was AND attempt = :attempt", values)
            except LostLease:
                continue
            return self.get(job_id)
        raise Contended(f"job {job_id} changes too fast to be cancelled; ask again")

    def retry(
        self,
        job_type: JobType[Any, Any],
        job_id: str,
        content: bytes | None = None,
        *,
        idempotency_key: str | None = None,
    ) -> Job:
        """A new job that names the old one, with its input or with `content`; raises NoSuchJob, NotEnded, BadInput."""
        item = self._item(job_id)
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

    def decide(
        self,
        job_type: JobType[Any, Any],
        job_id: str,
        decision: Literal["done", "retry", "fail"],
        *,
        result: bytes | None = None,
        why: str = "",
    ) -> Job:
        """What a person says of a held job: its effect is done, is to be tried again, or failed for good.

        Raises NoSuchJob, NotHeld.
        """
        item = self._item(job_id)
        if item["state"]["S"] != State.HELD:
            raise NotHeld(f"job {job_id} is {item['state']['S']}: only a held job waits for a decision")
        note = stored(f"decided: {decision}" + (f", {why}" if why else ""), items.LONGEST_WHY)
        if decision == "retry":
            taken = self._wait(job_type, item, self.now(), why=note)
        elif decision == "done":
            taken = self._end(job_type, item, State.SUCCEEDED, why=note, result=result or b"null")
        else:
            taken = self._end(job_type, item, State.FAILED, why=note, error=note)
        job = self.get(job_id)
        # A call whose answer was lost finds what it wrote itself.
        if not taken and all(entry.why != note for entry in job.history[len(item["history"]["L"]) :]):
            raise NotHeld(f"job {job_id} is {job.state}: somebody else decided at the same moment")
        return job

    # Running a job

    def start(
        self, job_type: JobType[Any, Any], job_id: str, attempt: int, lease_until: datetime
    ) -> Lease | NotStarted:
        """Gives attempt number `attempt` the lease, if it is the job's next one, it is due, and its limits allow it."""
        now, slots = self.now(), job_type.concurrency is not None or job_type.key is not None
        token = uuid.uuid4().hex
        if not slots and job_type.expires is None:
            # The usual case in one call: the condition says all that may stand against it.
            known = {**items.job_key(job_id), "attempt": {"N": str(attempt - 1)}}
            try:
                after = aws.dynamodb().update_item(
                    **self._starting(known, attempt, lease_until, now, token), ReturnValues="ALL_NEW"
                )["Attributes"]
                return Lease(job_of(after), attempt, lease_until, after)
            except ClientError as error:
                if _code(error) != "ConditionalCheckFailedException":
                    raise
        try:
            item = self._item(job_id)
        except NoSuchJob:
            return NotStarted("gone")
        if text(item, "start") == token:
            # The answer to the first try was lost, and the client's second one met what the first had written.
            return Lease(job_of(item), attempt, lease_until, item)
        refused = self._not_startable(job_type, item, attempt)
        if refused or (not slots and job_type.expires is None):
            return refused or NotStarted("stale")
        key = text(item, "key")
        if job_type.ordered and (first := self._first_in_line(job_type.name, key)) and first != job_id:
            return NotStarted("order")
        start = self._starting(item, attempt, lease_until, now, token)
        refused = self._start_in_slot(job_type, item, start, self._slots(job_type, key))
        if refused:
            return refused
        history: Any = {"L": [*item["history"]["L"], *start["ExpressionAttributeValues"][":entries"]["L"]]}
        after = {**item, "state": {"S": State.RUNNING}, "attempt": {"N": str(attempt)}, "history": history}
        return Lease(job_of(after), attempt, lease_until, after)

    def renew(self, lease: Lease, *, progress: Progress | None = None, lease_until: datetime) -> bool:
        """Keeps the lease, and writes progress; True when somebody asked for the job to be cancelled.

        Raises LostLease.
        """
        values: dict[str, Any] = {":until": number(lease_until)}
        change = "SET lease_until = :until, due_at = :until"
        if progress is not None:
            values[":progress"] = {"B": msgspec.json.encode(_bounded(progress))}
            change += ", progress = :progress"
        after = self._update(lease.item, change, "#state = :was AND attempt = :attempt", values, returned="ALL_NEW")
        return "cancel" in after

    # Long jobs

    def resume(self, job_id: str, attempt: int, execution: str, lease_until: datetime) -> Lease:
        """Gives a running attempt's durable execution the lease for one invocation; one execution an attempt.

        Raises LostLease.
        """
        try:
            after = aws.dynamodb().update_item(
                TableName=self.table,
                Key=items.job_key(job_id),
                UpdateExpression="SET lease_until = :until, due_at = :until, execution = :execution REMOVE suspended",
                ConditionExpression=(
                    "#state = :running AND attempt = :attempt"
                    " AND (attribute_not_exists(execution) OR execution = :execution)"
                ),
                ExpressionAttributeNames={"#state": "state"},
                ExpressionAttributeValues={
                    ":until": number(lease_until),
                    ":execution": {"S": execution},
                    ":running": {"S": State.RUNNING},
                    ":attempt": {"N": str(attempt)},
                },
                ReturnValues="ALL_NEW",
            )["Attributes"]
        except ClientError as error:
            if _code(error) == "ConditionalCheckFailedException":
                raise LostLease(f"job {job_id}: attempt {attempt} is not the one that runs") from error
            raise
        return Lease(job_of(after), attempt, lease_until, after)

    def pause(self, lease: Lease) -> None:
        """Notes that the attempt's execution waits, and no process runs it; raises LostLease."""
        self._update(
            lease.item,
            "SET lease_until = :again, due_at = :again, suspended = :yes",
            "#state = :was AND attempt = :attempt",
            {":again": number(self.now() + ASK_ENGINE_AGAIN), ":yes": {"BOOL": True}},
        )

    def ask(self, lease: Lease, question: Question, callback: str) -> None:
        """Shows a question with the job; the execution waits for `callback`. Raises LostLease."""
        self._update(
            lease.item,
            "SET question = :question, answer_to = :callback",
            "#state = :was AND attempt = :attempt",
            {":question": {"B": msgspec.json.encode(_short(question))}, ":callback": {"S": callback}},
        )

    def asked(self, lease: Lease) -> None:
        """Takes the question away: it is answered, or nobody has in time. Raises LostLease."""
        self._update(lease.item, "REMOVE question, answer_to", "#state = :was AND attempt = :attempt", {})

    def answer(self, job_id: str, said: Answer) -> Job:
        """Gives a long job the answer it waits for, once; raises NoSuchJob, NotAsking."""
        item = self._item(job_id)
        callback = text(item, "answer_to")
        if callback is None or not executions.answer(callback, msgspec.json.encode(said)):
            raise NotAsking(f"job {job_id} is {item['state']['S']} and asks nothing: look at it again")
        return self.get(job_id)

    def succeed(self, job_type: JobType[Any, Any], lease: Lease, result: bytes) -> None:
        """Ends the job with its result, JSON; raises LostLease."""
        self._finish(job_type, lease, State.SUCCEEDED, result=result)

    def fail(
        self,
        job_type: JobType[Any, Any],
        lease: Lease,
        error: str,
        *,
        permanent: bool,
        retry_after: timedelta | None = None,
        outage: bool = False,
    ) -> None:
        """Ends the attempt: the job waits for its next one, or has failed; raises LostLease.

        An `outage` of a third party counts as no failure, for the first hours of it (PATIENCE).
        """
        if not self._retry_or_fail(
            job_type, lease.item, error, permanent=permanent, retry_after=retry_after, outage=outage
        ):
            raise LostLease(f"job {lease.job.id}: attempt {lease.attempt} has no lease any more")

    def cancelled(self, job_type: JobType[Any, Any], lease: Lease) -> None:
        """Ends the job that was asked to be cancelled and has seen it; raises LostLease."""
        self._finish(job_type, lease, State.CANCELLED, why="seen by the run")

    def suspend(self, job_type: JobType[Any, Any], lease: Lease, children: Sequence[str]) -> None:
        """Gives up the turn until the children have ended; raises LostLease.

        The children must be there: submit them before.
        """
        still = [child for child in children if not self.get(child).state.ended]
        if not self._wait(
            job_type, lease.item, self.now(), why=f"{len(still)} children", children=children, still=still, failed=False
        ):
            raise LostLease(f"job {lease.job.id}: attempt {lease.attempt} has no lease any more")
        # A child that ended between the look and the write found no waiting parent to tell.
        if still and all(self.get(child).state.ended for child in still):
            self._release_parent(lease.job.id, still)

    def children(self, job_id: str) -> list[Job]:
        """The jobs that a job waits or has waited for, in their order."""
        return [job_of(child) for child in self._children(self._item(job_id))]

    # Keeping time

    def due(self, until: datetime) -> Iterator[Due]:
        """The open jobs that somebody must look at before `until`, and ended ones that nobody has been told of."""
        for shard in range(items.DUE_SHARDS):
            for item in self._query(
                IndexName="due",
                KeyConditionExpression="due_shard = :shard AND due_at <= :until",
                ExpressionAttributeValues={":shard": {"S": str(shard)}, ":until": number(until)},
            ):
                job_id = item["pk"]["S"].removeprefix("job#")
                yield Due(job_id, item["type"]["S"], State(item["state"]["S"]), items.moment(item["due_at"]))

    def settle(self, job_type: JobType[Any, Any], job_id: str) -> str | None:
        """Does what a job's time asks for now, and says what it did; None when there was nothing to do."""
        now = self.now()
        try:
            item = self._item(job_id)
        except NoSuchJob:
            return None
        if "due_at" not in item:
            return None
        state, due_at = State(item["state"]["S"]), items.moment(item["due_at"])
        if state.ended:
            return self._announce(job_type, item)
        if "cancel" in item and state is State.WAITING:
            # It gave up its turn for its children, and died before it cancelled them.
            self.cancel(job_id)
            return "cancelled"
        if state in (State.QUEUED, State.WAITING) and _expired(job_type, item, now):
            return "expired" if self._end(job_type, item, State.CANCELLED, why="expired") else None
        if due_at > now:
            if state is State.WAITING and due_at - now < LOOK_AHEAD and not item.get("open_children"):
                self._nudge_item(item, due_at - now)
                return "nudged ahead"
            return None
        if state is State.RUNNING:
            return self._lease_ended(job_type, item)
        if state is State.WAITING and "open_children" in item:
            still = item["open_children"]["SS"]
            ended = [child for child in still if self._ended(child)]
            if ended:
                self._release_parent(job_id, ended)
                return "children gathered"
        try:
            self._update(
                item,
                "SET due_at = :again",
                "#state = :was AND attempt = :attempt AND due_at = :due",
                {":again": number(now + NUDGE_AGAIN), ":due": item["due_at"]},
            )
        except LostLease:
            return None
        if "open_children" in item:
            return None
        self._nudge_item(item)
        return "nudged"

    def tallies(self, types: Sequence[str]) -> dict[str, Tally]:
        """The counters of some types, and their open jobs by state."""
        found = {name: Tally() for name in types}
        for name, tally in found.items():
            for shard in range(items.TALLY_SHARDS):
                key = items.tally_key(name, shard)
                item = aws.dynamodb().get_item(TableName=self.table, Key=key, ConsistentRead=True).get("Item", {})
                tally.accepted += int(item.get("accepted", {"N": "0"})["N"])
                tally.ended += int(item.get("ended", {"N": "0"})["N"])
        for due in self.due(_FAR):
            if due.type in found and not due.state.ended:
                counts = found[due.type].open
                counts[due.state] = counts.get(due.state, 0) + 1
        return found

    # How it is done

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
            "due_at": number(run_at if waits else now + NUDGE_AGAIN),
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
                "TableName": self.table,
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
            other = self.get(holder["job"]["S"])
        except NoSuchJob:
            other = None
        if other and other.state is State.SUCCEEDED and other.id != retry_of:
            return other
        if other and not other.state.ended:
            if unique and unique.on_conflict is OnConflict.RETURN:
                return other
            with contextlib.suppress(AlreadyEnded):
                self.cancel(other.id, why="replaced by a newer one")
        try:
            aws.dynamodb().update_item(
                TableName=self.table,
                Key={"pk": holder["pk"], "sk": holder["sk"]},
                UpdateExpression="SET #until = :now",
                ConditionExpression="job = :job",
                ExpressionAttributeNames={"#until": "until"},
                ExpressionAttributeValues={":now": number(now), ":job": holder["job"]},
            )
        except ClientError as error:
            # Another submit was faster: its job holds the combination now, and the next try meets it.
            if _code(error) != "ConditionalCheckFailedException":
                raise
        return None

    def _not_startable(self, job_type: JobType[Any, Any], item: Item, attempt: int) -> NotStarted | None:
        state, now = State(item["state"]["S"]), self.now()
        if state.ended:
            self._leave_lines(job_type, item)
            return NotStarted("ended")
        if state in (State.RUNNING, State.HELD):
            return NotStarted(state.value)
        if int(item["attempt"]["N"]) != attempt - 1:
            return NotStarted("stale")
        if "open_children" in item:
            return NotStarted("children")
        if "run_at" in item and items.moment(item["run_at"]) > now:
            self._nudge_item(item, items.moment(item["run_at"]) - now)
            return NotStarted("early")
        if _expired(job_type, item, now):
            self._end(job_type, item, State.CANCELLED, why="expired")
            return NotStarted("expired")
        return None

    def _starting(self, item: Item, attempt: int, lease_until: datetime, now: datetime, token: str) -> dict[str, Any]:
        """The update that gives an attempt of a job that may start its lease; `token` says who wrote it."""
        return self._change(
            {**item, "state": {"S": State.QUEUED}},
            "SET #state = :state, attempt = :next, lease_until = :until, due_at = :until, changed_at = :now,"
            " #start = :token, history = list_append(history, :entries) REMOVE progress",
            "(#state = :was OR (#state = :waiting AND run_at <= :now AND attribute_not_exists(open_children)))"
            " AND attempt = :attempt",
            {
                ":state": {"S": State.RUNNING},
                ":waiting": {"S": State.WAITING},
                ":next": {"N": str(attempt)},
                ":until": number(lease_until),
                ":now": number(now),
                ":token": {"S": token},
                ":entries": {"L": [items.transition(now, State.RUNNING, attempt, "")]},
            },
        )

    def _slots(self, job_type: JobType[Any, Any], key: str | None) -> list[tuple[str | None, int]]:
        """The limits that a job runs under: (key or None for the whole type, how many)."""
        slots: list[tuple[str | None, int]] = []
        if job_type.concurrency is not None:
            slots.append((None, job_type.concurrency))
        if job_type.limit_per_key is not None and key is not None:
            slots.append((key, job_type.limit_per_key))
        return slots

    def _start_in_slot(
        self,
        job_type: JobType[Any, Any],
        item: Item,
        start: Mapping[str, Any],
        slots: Sequence[tuple[str | None, int]],
    ) -> NotStarted | None:
        job_id = item["pk"]["S"].removeprefix("job#")
        actions: list[Any] = [{"Update": dict(start)}]
        for key, limit in slots:
            actions.append(
                {
                    "Update": {
                        "TableName": self.table,
                        "Key": items.slot_key(job_type.name, key),
                        "UpdateExpression": "ADD holders :me",
                        "ConditionExpression": "attribute_not_exists(holders) OR size(holders) < :limit",
                        "ExpressionAttributeValues": {":me": {"SS": [job_id]}, ":limit": {"N": str(limit)}},
                    }
                }
            )
        if not job_type.ordered:
            for key, _ in slots:
                actions.append(self._delete(items.line_key(job_type.name, key, item)))
        for second in (False, True):
            reasons = self._transact(actions)
            if not reasons:
                return None
            if reasons[0].get("Code") == "ConditionalCheckFailed":
                return NotStarted("stale")
            full = [key for (key, _), why in zip(slots, reasons[1:], strict=False) if why.get("Code") not in FREE]
            # In line first, then once more: who freed a slot before that has not seen this job there.
            if not second and not job_type.ordered:
                for key in full or [key for key, _ in slots]:
                    place = items.line_key(job_type.name, key, item)
                    self._transact([self._put({**place, "job": {"S": job_id}})])
        return NotStarted("limit")

    def _first_in_line(self, job_type: str, key: str | None) -> str | None:
        answer = aws.dynamodb().query(
            TableName=self.table,
            KeyConditionExpression="pk = :pk",
            ExpressionAttributeValues={":pk": items.line_pk(job_type, key)},
            ConsistentRead=True,
            Limit=1,
        )
        return answer["Items"][0]["sk"]["S"].rpartition("#")[2] if answer["Items"] else None

    def _leave_lines(self, job_type: JobType[Any, Any], item: Item) -> None:
        """Takes an ended job out of the lines that it may stand in, and wakes who is next."""
        key = text(item, "key")
        for slot_key, _ in self._slots(job_type, key):
            place = items.line_key(job_type.name, slot_key, item, ordered=job_type.ordered)
            aws.dynamodb().delete_item(TableName=self.table, Key=place)
            self._wake(job_type, slot_key)

    def _wake(self, job_type: JobType[Any, Any], key: str | None) -> None:
        """Nudges the first startable job of a line."""
        answer = aws.dynamodb().query(
            TableName=self.table,
            KeyConditionExpression="pk = :pk",
            ExpressionAttributeValues={":pk": items.line_pk(job_type.name, key)},
            ConsistentRead=True,
            Limit=_LINE_LOOK,
        )
        for place in answer["Items"]:
            job_id = place["sk"]["S"].rpartition("#")[2]
            try:
                item = self._item(job_id)
            except NoSuchJob:
                item = {}
            state = State(item["state"]["S"]) if item else State.CANCELLED
            if state.ended:
                aws.dynamodb().delete_item(TableName=self.table, Key={"pk": place["pk"], "sk": place["sk"]})
                continue
            if state in (State.QUEUED, State.WAITING):
                self._nudge_item(item)
                return
            if job_type.ordered:
                return

    def _finish(
        self, job_type: JobType[Any, Any], lease: Lease, state: State, *, result: bytes | None = None, why: str = ""
    ) -> None:
        if not self._end(job_type, lease.item, state, why=why, result=result):
            raise LostLease(f"job {lease.job.id}: attempt {lease.attempt} has no lease any more")

    def _end(
        self,
        job_type: JobType[Any, Any],
        item: Item,
        state: State,
        *,
        why: str = "",
        result: bytes | None = None,
        error: str | None = None,
    ) -> bool:
        """Ends a job that is as `item` has it; False when it is not any more."""
        now, job_id, key = self.now(), item["pk"]["S"].removeprefix("job#"), text(item, "key")
        kept = getattr(job_type.retention, state.value)
        values: dict[str, Any] = {
            ":state": {"S": state},
            ":now": number(now),
            ":again": number(now + NUDGE_AGAIN),
            ":expires": {"N": str(math.ceil((now + kept).timestamp()))},
            ":history": items.history_with(item, self._entry(item, state, why or error or "")),
        }
        change = "SET #state = :state, changed_at = :now, due_at = :again, expires = :expires, history = :history"
        if result is not None:
            if len(result) > LONGEST_RESULT or not items.fits(item, result={"B": result}):
                place = f"results/{job_id}/result-{item['attempt']['N']}.json"
                aws.s3().put_object(Bucket=self.bucket, Key=place, Body=result, ContentType="application/json")
                values[":result"] = {"S": place}
                change += ", result_ref = :result"
            else:
                values[":result"] = {"B": result}
                change += ", #result = :result"
        if error is not None:
            values[":error"] = {"S": stored(error, items.LONGEST_WHY) or "failed"}
            change += ", #error = :error"
        change += f" REMOVE open_children, {_OF_A_RUN}"
        update = self._change(item, change, "#state = :was AND attempt = :attempt", values)
        actions = [{"Update": update}, self._count(job_type.name, job_id, "ended")]
        actions += self._free(job_type, item)
        if job_type.ordered:
            actions.append(self._delete(items.line_key(job_type.name, key, item, ordered=True)))
        reasons = self._transact(actions)
        if reasons:
            return False
        # What follows an end is done again by `settle` when a crash leaves it out.
        ended = {**item, "state": {"S": state}, "changed_at": number(now)}
        self._announce(job_type, {**ended, **({"error": values[":error"]} if error is not None else {})})
        return True

    def _announce(self, job_type: JobType[Any, Any], item: Item) -> str | None:
        """Tells the bus, the parent and the line that a job has ended, and then notes that they know."""
        job = job_of(item)
        parent = text(item, "parent")
        if job.state is State.CANCELLED:
            # Whoever cancelled it did not see those that a run started since.
            self._cancel_children(item)
        if parent:
            self._release_parent(parent, [job.id])
        for key, _ in self._slots(job_type, text(item, "key")):
            self._wake(job_type, key)
        fact = JobFinished(
            job=job.id,
            job_type=job.type,
            state=job.state,
            attempts=job.attempt,
            finished_at=job.changed_at,
            error=job.error,
            tags=job.tags,
        ).event(traceparent=job.traceparent)
        try:
            bus.publish(self._bus, [Entry(fact.id, fact.source, fact.type, fact.to_json())])
        except bus.NotPublished:
            return "job.finished was refused by the bus"
        try:
            self._update(item, "REMOVE due_at, due_shard", "#state = :was AND attempt = :attempt", {})
        except LostLease:
            return None
        return "announced"

    def _entry(self, item: Item, state: State, why: str) -> dict[str, Any]:
        """The change of a job's state that is about to be made, for its history."""
        return items.transition(self.now(), state, int(item["attempt"]["N"]), why)

    def _retry_or_fail(
        self,
        job_type: JobType[Any, Any],
        item: Item,
        error: str,
        *,
        permanent: bool,
        retry_after: timedelta | None = None,
        outage: bool = False,
    ) -> bool:
        if outage:
            since = items.moment(item["outage_since"]) if "outage_since" in item else self.now()
            if self.now() - since < PATIENCE:
                planned = job_type.retry.wait_after(int(item["attempt"]["N"]), self._chance())
                run_at = self._next_try(max(planned, retry_after or planned))
                return self._wait(job_type, item, run_at, why=error, failed=False, outage_since=since)
        failures = int(item.get("failures", {"N": "0"})["N"]) + 1
        if permanent or failures >= job_type.retry.attempts:
            return self._end(job_type, item, State.FAILED, error=error)
        # Jobs that failed together do not come back together.
        wait = retry_after if retry_after is not None else job_type.retry.wait_after(failures, self._chance())
        return self._wait(job_type, item, self._next_try(wait), why=error)

    def _next_try(self, wait: timedelta) -> datetime:
        """When a job is tried again: not before now, and within a year, as any job's delay."""
        return self.now() + min(max(wait, timedelta(0)), timedelta(seconds=LONGEST_DELAY_SECONDS))

    def _wait(
        self,
        job_type: JobType[Any, Any],
        item: Item,
        run_at: datetime,
        *,
        why: str,
        children: Sequence[str] = (),
        still: Sequence[str] = (),
        failed: bool = True,
        outage_since: datetime | None = None,
    ) -> bool:
        """Puts a job back to wait for its next attempt, or for its children; False when it is not as `item` has it."""
        now = self.now()
        values: dict[str, Any] = {
            ":state": {"S": State.WAITING},
            ":now": number(now),
            ":run_at": number(run_at),
            ":due": number(now + NUDGE_AGAIN if still or run_at <= now else run_at),
            ":history": items.history_with(item, self._entry(item, State.WAITING, why)),
            ":failed": {"N": "1" if failed else "0"},
        }
        change = "SET #state = :state, changed_at = :now, run_at = :run_at, due_at = :due, history = :history"
        if outage_since:
            values[":outage"] = number(outage_since)
            change += ", outage_since = :outage"
        if children:
            values[":children"] = {"L": [{"S": child} for child in children]}
            change += ", children = :children"
        if still:
            values[":still"] = {"SS": list(still)}
            change += ", open_children = :still"
            if not items.fits(item, children=values[":children"], open_children=values[":still"]):
                raise TooManyChildren(
                    f"{len(children)} children do not fit into the job's item beside an input of"
                    f" {len(bytes(item['input']['B']))} bytes: put the input into the bucket and send its key"
                )
        change += f" REMOVE {_OF_A_RUN} ADD failures :failed"
        actions = [{"Update": self._change(item, change, "#state = :was AND attempt = :attempt", values)}]
        actions += self._free(job_type, item)
        if self._transact(actions):
            return False
        wait = run_at - now
        if not still and wait < LOOK_AHEAD:
            self._nudge_item(item, max(timedelta(0), wait))
        for key, _ in self._slots(job_type, text(item, "key")):
            self._wake(job_type, key)
        return True

    def _lease_ended(self, job_type: JobType[Any, Any], item: Item) -> str | None:
        """A running job whose lease has run out: its worker died, or was stopped at its time limit."""
        why = "the lease ended: the worker died or ran out of time"
        if execution := text(item, "execution"):
            if self._execution_goes_on(item, execution):
                return "goes on"
            why = "its durable execution has ended without a result"
        if "cancel" in item:
            return "cancelled" if self._end(job_type, item, State.CANCELLED, why=why) else None
        if job_type.repeatable:
            return "lease ended" if self._retry_or_fail(job_type, item, why, permanent=False) else None
        now = self.now()
        values: dict[str, Any] = {
            ":state": {"S": State.HELD},
            ":now": number(now),
            ":far": number(_FAR),
            ":history": items.history_with(item, self._entry(item, State.HELD, f"{why}; its outcome is unknown")),
        }
        change = f"SET #state = :state, changed_at = :now, due_at = :far, history = :history REMOVE {_OF_A_RUN}"
        update = self._change(item, change, "#state = :was AND attempt = :attempt", values)
        return None if self._transact([{"Update": update}, *self._free(job_type, item)]) else "held"

    def _execution_goes_on(self, item: Item, execution: str) -> bool:
        """Whether the engine still has the execution; one that waits and was cancelled is ended."""
        if not executions.goes_on(execution):
            return False
        if "cancel" in item and "suspended" in item:
            executions.stop(execution)
            return False
        with contextlib.suppress(LostLease):
            self._update(
                item,
                "SET lease_until = :again, due_at = :again",
                "#state = :was AND attempt = :attempt",
                {":again": number(self.now() + (ASK_ENGINE_AGAIN if "suspended" in item else NUDGE_AGAIN))},
            )
        return True

    def _release_parent(self, parent: str, children: Sequence[str]) -> None:
        """Takes ended children off their parent's list; the last one nudges it."""
        try:
            after = aws.dynamodb().update_item(
                TableName=self.table,
                Key=items.job_key(parent),
                UpdateExpression="DELETE open_children :ended",
                ConditionExpression="attribute_exists(pk)",
                ExpressionAttributeValues={":ended": {"SS": list(children)}},
                ReturnValues="ALL_NEW",
            )["Attributes"]
        except ClientError as error:
            if _code(error) == "ConditionalCheckFailedException":
                return
            raise
        if after["state"]["S"] == State.WAITING and "open_children" not in after:
            self._nudge_item(after)

    def deals_with(self, job_type: JobType[Any, Any]) -> bool:
        """Whether this store can end jobs of the type, too."""
        return job_type.name in self._types

    def type_of(self, name: str) -> JobType[Any, Any]:
        """The type of this name; raises UnknownType for one that this store does not deal with."""
        if name not in self._types:
            raise UnknownType(f"type: '{name}' is not one of {', '.join(sorted(self._types))}")
        return self._types[name]

    def _free(self, job_type: JobType[Any, Any], item: Item) -> list[Any]:
        if item["state"]["S"] != State.RUNNING:
            return []
        job_id = item["pk"]["S"].removeprefix("job#")
        return [
            {
                "Update": {
                    "TableName": self.table,
                    "Key": items.slot_key(job_type.name, key),
                    "UpdateExpression": "DELETE holders :me",
                    "ExpressionAttributeValues": {":me": {"SS": [job_id]}},
                }
            }
            for key, _ in self._slots(job_type, text(item, "key"))
        ]

    def _count(self, job_type: str, job_id: str, what: str) -> dict[str, Any]:
        return {
            "Update": {
                "TableName": self.table,
                "Key": items.tally_key(job_type, items.shard_of(job_id, items.TALLY_SHARDS)),
                "UpdateExpression": "ADD #what :one",
                "ExpressionAttributeNames": {"#what": what},
                "ExpressionAttributeValues": {":one": {"N": "1"}},
            }
        }

    def _put(self, item: Mapping[str, Any]) -> dict[str, Any]:
        return {"Put": {"TableName": self.table, "Item": dict(item)}}

    def _delete(self, key: Mapping[str, Any]) -> dict[str, Any]:
        return {"Delete": {"TableName": self.table, "Key": dict(key)}}

    def _change(self, item: Item, change: str, condition: str, values: Mapping[str, Any]) -> dict[str, Any]:
        """An update of a job that is in `item`'s state and attempt."""
        used = {"#state": "state", "#result": "result", "#error": "error", "#start": "start"}
        return {
            "TableName": self.table,
            "Key": {"pk": item["pk"], "sk": item["sk"]},
            "UpdateExpression": change,
            "ConditionExpression": condition,
            "ExpressionAttributeNames": {
                name: attribute for name, attribute in used.items() if name in change or name in condition
            },
            "ExpressionAttributeValues": {**values, ":was": item["state"], ":attempt": item["attempt"]},
        }

    def _update(
        self, item: Item, change: str, condition: str, values: Mapping[str, Any], *, returned: str = "NONE"
    ) -> Item:
        try:
            answer = aws.dynamodb().update_item(
                **self._change(item, change, condition, values),
                ReturnValues=returned,  # type: ignore[arg-type]
            )
        except ClientError as error:
            if _code(error) == "ConditionalCheckFailedException":
                raise LostLease(f"{item['pk']['S']} has changed meanwhile") from error
            raise
        return answer.get("Attributes", {})

    def _transact(self, actions: Sequence[Any]) -> list[Any]:
        return transact(actions, table="jobs' table", sleep=self._sleep, chance=self._chance)

    def _item(self, job_id: str) -> dict[str, Any]:
        if found := self._item_or_nothing(job_id):
            return found
        raise NoSuchJob(f"there is no job {job_id}, or it is past its retention")

    def _item_or_nothing(self, job_id: str) -> dict[str, Any]:
        answer = aws.dynamodb().get_item(TableName=self.table, Key=items.job_key(job_id), ConsistentRead=True)
        return dict(answer.get("Item", {}))

    def _children(self, item: Item) -> list[dict[str, Any]]:
        ids = [child["S"] for child in item.get("children", {"L": []})["L"]]
        return [found for child in ids if (found := self._item_or_nothing(child))]

    def _children_unnamed(self, item: Item) -> list[dict[str, Any]]:
        """The jobs that an attempt has started and not written down in its job's item: it goes on, or it has died."""
        found = []
        known = {child["S"] for child in item.get("children", {"L": []})["L"]}
        parent = item["pk"]["S"].removeprefix("job#")
        for gather in count() if item["attempt"]["N"] != "0" else ():
            for index in count():
                name = items.child_id(parent, gather, index)
                if name in known:
                    continue
                child = self._item_or_nothing(name)
                if text(child, "parent") != parent:
                    break
                found.append(child)
            if index == 0:
                break
        return found

    def _cancel_children(self, item: Item) -> None:
        for child in [*self._children(item), *self._children_unnamed(item)]:
            if not State(child["state"]["S"]).ended:
                with contextlib.suppress(AlreadyEnded):
                    self.cancel(child["pk"]["S"].removeprefix("job#"), why="its parent was cancelled")

    def _ended(self, job_id: str) -> bool:
        found = self._item_or_nothing(job_id)
        return not found or State(found["state"]["S"]).ended

    def _listed(
        self, shard: dict[str, Any], since: datetime | None, cursor: str | None, at_once: int | None
    ) -> Iterator[dict[str, Any]]:
        # Years of fewer than four digits, and moments at the calendar's ends, have no place in the order of texts.
        since = min(max(since, FIRST_MOMENT), LAST_MOMENT) if since else None
        low = f"{since.astimezone(UTC):%Y-%m-%dT%H:%M:%S.%f}" if since else "0"
        high = cursor or "9999-12-31T23:59:59"
        # DynamoDB refuses a BETWEEN whose ends are the wrong way round: here it is an end of the list.
        if low > high:
            return
        for item in self._query(
            IndexName="types",
            KeyConditionExpression="type_shard = :shard AND listed BETWEEN :low AND :high",
            ExpressionAttributeValues={
                ":shard": shard,
                ":low": {"S": low},
                ":high": {"S": high},
            },
            ScanIndexForward=False,
            PaginationConfig={"PageSize": at_once},
        ):
            if item["listed"]["S"] != cursor:
                yield item

    def _query(self, **query: Any) -> Iterator[dict[str, Any]]:
        for page in aws.dynamodb().get_paginator("query").paginate(TableName=self.table, **query):
            yield from page["Items"]

    def _nudge_if_queued(self, item: Item) -> None:
        """A repeated submit may follow a crash between the first one's write and its nudge."""
        if item["state"]["S"] == State.QUEUED and item["attempt"]["N"] == "0":
            self._nudge_item(item)

    def _nudge_item(self, item: Item, wait: timedelta = timedelta(0)) -> None:
        if wait >= LOOK_AHEAD:
            return
        url = self.registry.queue(item["type"]["S"], Priority(item["priority"]["S"]))
        self._nudge(url, item["pk"]["S"].removeprefix("job#"), int(item["attempt"]["N"]) + 1, wait)

    def _nudge(self, url: str, job_id: str, attempt: int, wait: timedelta) -> None:
        body = msgspec.json.encode({"job": job_id, "attempt": attempt}).decode()
        aws.sqs().send_message(QueueUrl=url, MessageBody=body, DelaySeconds=math.ceil(wait.total_seconds()))


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


def _bounded(progress: Progress) -> Progress:
    """Progress as an item can hold it."""
    return msgspec.structs.replace(
        progress,
        message=stored(str(progress.message), items.LONGEST_WHY),
        step=None if progress.step is None else stored(progress.step, items.LONGEST_WHY),
    )


def _short(question: Question) -> Question:
    """A question as an item can hold it."""
    return msgspec.structs.replace(question, text=stored(question.text, _LONGEST_QUESTION))


def _expired(job_type: JobType[Any, Any], item: Item, now: datetime) -> bool:
    if job_type.expires is None or item["attempt"]["N"] != "0":
        return False
    return now > items.moment(item.get("run_at", item["created_at"])) + job_type.expires


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:32]


def _code(error: ClientError) -> str:
    return error.response.get("Error", {}).get("Code", "")
