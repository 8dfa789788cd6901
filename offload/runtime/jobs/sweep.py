"""What a job's time asks for: lost wake-ups, leases that ran out, and what a crash between two writes left undone."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from offload.contracts.jobs.job import State
from offload.contracts.jobs.job_type import JobType
from offload.runtime import aws
from offload.runtime.jobs import executions, items
from offload.runtime.jobs.ending import Ending, expired
from offload.runtime.jobs.items import Item, number, text
from offload.runtime.jobs.refusals import LostLease, NoSuchJob
from offload.runtime.jobs.table import LOOK_AHEAD, UNCHANGED, WAKE_AGAIN, JobTable


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


class Sweep:
    """What the sweeper does with the jobs that are due, and how it counts them."""

    def __init__(self, table: JobTable, ending: Ending) -> None:
        self._table = table
        self._ending = ending

    def due(self, until: datetime) -> Iterator[Due]:
        """The open jobs that somebody must look at before `until`, and ended ones that nobody has been told of."""
        for shard in range(items.DUE_SHARDS):
            for item in self._table.query(
                IndexName="due",
                KeyConditionExpression="due_shard = :shard AND due_at <= :until",
                ExpressionAttributeValues={":shard": {"S": str(shard)}, ":until": number(until)},
            ):
                job_id = items.id_of(item)
                yield Due(job_id, item["type"]["S"], State(item["state"]["S"]), items.moment(item["due_at"]))

    def settle(self, job_type: JobType[Any, Any], job_id: str) -> str | None:
        """Does what a job's time asks for now, and says what it did; None when there was nothing to do."""
        now = self._table.now()
        try:
            item = self._table.item(job_id)
        except NoSuchJob:
            return None
        if "due_at" not in item:
            return None
        state, due_at = State(item["state"]["S"]), items.moment(item["due_at"])
        if state.ended:
            return self._ending.announce(job_type, item)
        if "cancel" in item and state is State.WAITING:
            # It gave up its turn for its children, and died before it cancelled them.
            self._ending.cancel(job_id)
            return "cancelled"
        if state in (State.QUEUED, State.WAITING) and expired(job_type, item, now):
            return "expired" if self._ending.end(job_type, item, State.CANCELLED, why="expired") else None
        if due_at > now:
            if state is State.WAITING and due_at - now < LOOK_AHEAD and not item.get("open_children"):
                self._table.wake(item, due_at - now)
                return "nudged ahead"
            return None
        if state is State.RUNNING:
            return self._lease_ended(job_type, item)
        if state is State.WAITING and "open_children" in item:
            still = item["open_children"]["SS"]
            ended = [child for child in still if self._ended(child)]
            if ended:
                self._ending.release_parent(job_id, ended)
                return "children gathered"
        try:
            self._table.update(
                item,
                "SET due_at = :again",
                f"{UNCHANGED} AND due_at = :due",
                {":again": number(now + WAKE_AGAIN), ":due": item["due_at"]},
            )
        except LostLease:
            return None
        if "open_children" in item:
            return None
        self._table.wake(item)
        return "nudged"

    def tallies(self, types: Sequence[str]) -> dict[str, Tally]:
        """The counters of some types, and their open jobs by state."""
        found = {name: Tally() for name in types}
        for name, tally in found.items():
            for shard in range(items.TALLY_SHARDS):
                key = items.tally_key(name, shard)
                item = aws.dynamodb().get_item(TableName=self._table.name, Key=key, ConsistentRead=True).get("Item", {})
                tally.accepted += int(item.get("accepted", {"N": "0"})["N"])
                tally.ended += int(item.get("ended", {"N": "0"})["N"])
        for due in self.due(items.FAR):
            if due.type in found and not due.state.ended:
                counts = found[due.type].open
                counts[due.state] = counts.get(due.state, 0) + 1
        return found

    def _lease_ended(self, job_type: JobType[Any, Any], item: Item) -> str | None:
        """A running job whose lease has run out: its worker died, or was stopped at its time limit."""
        why = "the lease ended: the worker died or ran out of time"
        if execution := text(item, "execution"):
            if self._execution_goes_on(item, execution):
                return "goes on"
            why = "its durable execution has ended without a result"
        if "cancel" in item:
            return "cancelled" if self._ending.end(job_type, item, State.CANCELLED, why=why) else None
        if job_type.repeatable:
            return "lease ended" if self._ending.retry_or_fail(job_type, item, why, permanent=False) else None
        return "held" if self._ending.hold(job_type, item, f"{why}; its outcome is unknown") else None

    def _execution_goes_on(self, item: Item, execution: str) -> bool:
        """Whether the engine still has the execution; one that waits and was cancelled is ended."""
        if not executions.goes_on(execution):
            return False
        if "cancel" in item and "suspended" in item:
            executions.stop(execution)
            return False
        with contextlib.suppress(LostLease):
            wait = executions.ASK_ENGINE_AGAIN if "suspended" in item else WAKE_AGAIN
            self._table.update(
                item,
                "SET lease_until = :again, due_at = :again",
                UNCHANGED,
                {":again": number(self._table.now() + wait)},
            )
        return True

    def _ended(self, job_id: str) -> bool:
        found = self._table.item_or_nothing(job_id)
        return not found or State(found["state"]["S"]).ended
