"""How a run or a whole job ends: it waits for its next attempt, is held for a person, or has ended and is announced."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import Any, Final, Literal

from botocore.exceptions import ClientError

from offload.contracts.events.entry import Entry
from offload.contracts.jobs.events import JobFinished
from offload.contracts.jobs.job import LONGEST_DELAY_SECONDS, Job, State
from offload.contracts.jobs.job_type import JobType
from offload.runtime import aws, bus
from offload.runtime.jobs import items
from offload.runtime.jobs.items import Item, job_of, number, text
from offload.runtime.jobs.refusals import AlreadyEnded, Contended, LostLease, NotHeld, TooManyChildren
from offload.runtime.jobs.slots import Slots
from offload.runtime.jobs.table import LOOK_AHEAD, TRIES, UNCHANGED, WAKE_AGAIN, JobTable, condition_failed
from offload.runtime.text import stored

LONGEST_RESULT: Final = 128 * 1024
"""A result of more bytes goes to the bucket; an item of DynamoDB holds 400 kB (Constraints.html, read 2026-11-24)."""
PATIENCE: Final = timedelta(hours=4)
"""How long a job waits for a third party that is down, from its first attempt that met that: EventConsumer's too."""
_OF_A_RUN: Final = "lease_until, execution, suspended, question, answer_to"


class Ending:
    """The transitions away from running, and to an end; results that are too large for the table go to `bucket`."""

    def __init__(self, table: JobTable, slots: Slots, *, bucket: str, bus: str, chance: Callable[[], float]) -> None:
        self._table = table
        self._slots = slots
        self._bucket = bucket
        self._bus = bus
        self._chance = chance

    def end(
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
        now, job_id, key = self._table.now(), items.id_of(item), text(item, "key")
        kept = getattr(job_type.retention, state.value)
        values: dict[str, Any] = {
            ":state": {"S": state},
            ":now": number(now),
            ":again": number(now + WAKE_AGAIN),
            ":expires": {"N": str(math.ceil((now + kept).timestamp()))},
            ":history": items.history_with(item, self._entry(item, state, why or error or "")),
        }
        change = "SET #state = :state, changed_at = :now, due_at = :again, expires = :expires, history = :history"
        if result is not None:
            if len(result) > LONGEST_RESULT or not items.fits(item, result={"B": result}):
                place = f"results/{job_id}/result-{item['attempt']['N']}.json"
                aws.s3().put_object(Bucket=self._bucket, Key=place, Body=result, ContentType="application/json")
                values[":result"] = {"S": place}
                change += ", result_ref = :result"
            else:
                values[":result"] = {"B": result}
                change += ", #result = :result"
        if error is not None:
            values[":error"] = {"S": stored(error, items.LONGEST_WHY) or "failed"}
            change += ", #error = :error"
        change += f" REMOVE open_children, {_OF_A_RUN}"
        update = self._table.change(item, change, UNCHANGED, values)
        actions = [{"Update": update}, self._table.count(job_type.name, job_id, "ended")]
        actions += self._slots.free(job_type, item)
        if job_type.ordered:
            actions.append(self._table.delete(items.line_key(job_type.name, key, item, ordered=True)))
        reasons = self._table.transact(actions)
        if reasons:
            return False
        # What follows an end is done again by `settle` when a crash leaves it out.
        ended = {**item, "state": {"S": state}, "changed_at": number(now)}
        self.announce(job_type, {**ended, **({"error": values[":error"]} if error is not None else {})})
        return True

    def wait(
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
        now = self._table.now()
        values: dict[str, Any] = {
            ":state": {"S": State.WAITING},
            ":now": number(now),
            ":run_at": number(run_at),
            ":due": number(now + WAKE_AGAIN if still or run_at <= now else run_at),
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
        actions = [{"Update": self._table.change(item, change, UNCHANGED, values)}]
        actions += self._slots.free(job_type, item)
        if self._table.transact(actions):
            return False
        wait = run_at - now
        if not still and wait < LOOK_AHEAD:
            self._table.wake(item, max(timedelta(0), wait))
        self._slots.wake_next(job_type, item)
        return True

    def hold(self, job_type: JobType[Any, Any], item: Item, why: str) -> bool:
        """Keeps a running job for a person's decision; False when it is not as `item` has it."""
        now = self._table.now()
        values: dict[str, Any] = {
            ":state": {"S": State.HELD},
            ":now": number(now),
            ":far": number(items.FAR),
            ":history": items.history_with(item, self._entry(item, State.HELD, why)),
        }
        change = f"SET #state = :state, changed_at = :now, due_at = :far, history = :history REMOVE {_OF_A_RUN}"
        update = self._table.change(item, change, UNCHANGED, values)
        return not self._table.transact([{"Update": update}, *self._slots.free(job_type, item)])

    def retry_or_fail(
        self,
        job_type: JobType[Any, Any],
        item: Item,
        error: str,
        *,
        permanent: bool,
        retry_after: timedelta | None = None,
        outage: bool = False,
    ) -> bool:
        """Ends an attempt that failed: the job waits for its next one, or has failed; False as of `wait` and `end`.

        An `outage` of a third party counts as no failure, for the first hours of it (PATIENCE).
        """
        if outage:
            since = items.moment(item["outage_since"]) if "outage_since" in item else self._table.now()
            if self._table.now() - since < PATIENCE:
                planned = job_type.retry.wait_after(int(item["attempt"]["N"]), self._chance())
                run_at = self._next_try(max(planned, retry_after or planned))
                return self.wait(job_type, item, run_at, why=error, failed=False, outage_since=since)
        failures = int(item.get("failures", {"N": "0"})["N"]) + 1
        if permanent or failures >= job_type.retry.attempts:
            return self.end(job_type, item, State.FAILED, error=error)
        # Jobs that failed together do not come back together.
        wait = retry_after if retry_after is not None else job_type.retry.wait_after(failures, self._chance())
        return self.wait(job_type, item, self._next_try(wait), why=error)

    def cancel(self, job_id: str, *, why: str = "asked for") -> Job:
        """A job that does not run is cancelled now, a running one at its next checkpoint; its children likewise.

        Raises NoSuchJob, AlreadyEnded, UnknownType.
        """
        for _ in range(TRIES):
            item = self._table.item(job_id)
            state = State(item["state"]["S"])
            if state.ended:
                raise AlreadyEnded(f"job {job_id} has ended: {state}")
            self._cancel_children(item)
            if state is not State.RUNNING:
                if self.end(self._table.type_of(text(item, "type") or ""), item, State.CANCELLED, why=why):
                    return self._table.job(job_id)
                continue
            change = "SET cancel = :yes"
            values: dict[str, Any] = {":yes": {"BOOL": True}}
            if "suspended" in item:
                # No run of it will come to a checkpoint: the sweeper ends the execution.
                change += ", due_at = :now"
                values[":now"] = number(self._table.now())
            try:
                self._table.update(item, change, UNCHANGED, values)
            except LostLease:
                continue
            return self._table.job(job_id)
        raise Contended(f"job {job_id} changes too fast to be cancelled; ask again")

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
        item = self._table.item(job_id)
        if item["state"]["S"] != State.HELD:
            raise NotHeld(f"job {job_id} is {item['state']['S']}: only a held job waits for a decision")
        note = stored(f"decided: {decision}" + (f", {why}" if why else ""), items.LONGEST_WHY)
        if decision == "retry":
            taken = self.wait(job_type, item, self._table.now(), why=note)
        elif decision == "done":
            taken = self.end(job_type, item, State.SUCCEEDED, why=note, result=result or b"null")
        else:
            taken = self.end(job_type, item, State.FAILED, why=note, error=note)
        job = self._table.job(job_id)
        # A call whose answer was lost finds what it wrote itself.
        if not taken and all(entry.why != note for entry in job.history[len(item["history"]["L"]) :]):
            raise NotHeld(f"job {job_id} is {job.state}: somebody else decided at the same moment")
        return job

    def announce(self, job_type: JobType[Any, Any], item: Item) -> str | None:
        """Tells the bus, the parent and the line that a job has ended, and then notes that they know."""
        job = job_of(item)
        parent = text(item, "parent")
        if job.state is State.CANCELLED:
            # Its cancel did not see those that a run started since.
            self._cancel_children(item)
        if parent:
            self.release_parent(parent, [job.id])
        self._slots.wake_next(job_type, item)
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
            self._table.update(item, "REMOVE due_at, due_shard", UNCHANGED, {})
        except LostLease:
            return None
        return "announced"

    def release_parent(self, parent: str, children: Sequence[str]) -> None:
        """Takes ended children off their parent's list; the last one wakes it."""
        try:
            after = aws.dynamodb().update_item(
                TableName=self._table.name,
                Key=items.job_key(parent),
                UpdateExpression="DELETE open_children :ended",
                ConditionExpression="attribute_exists(pk)",
                ExpressionAttributeValues={":ended": {"SS": list(children)}},
                ReturnValues="ALL_NEW",
            )["Attributes"]
        except ClientError as error:
            if condition_failed(error):
                return
            raise
        if after["state"]["S"] == State.WAITING and "open_children" not in after:
            self._table.wake(after)

    def _cancel_children(self, item: Item) -> None:
        for child in [*self._table.child_items(item), *self._table.unnamed_child_items(item)]:
            if not State(child["state"]["S"]).ended:
                with contextlib.suppress(AlreadyEnded):
                    self.cancel(items.id_of(child), why="its parent was cancelled")

    def _next_try(self, wait: timedelta) -> datetime:
        """When a job is tried again: not before now, and within a year, as any job's delay."""
        return self._table.now() + min(max(wait, timedelta(0)), timedelta(seconds=LONGEST_DELAY_SECONDS))

    def _entry(self, item: Item, state: State, why: str) -> dict[str, Any]:
        """The change of a job's state that is about to be made, for its history."""
        return items.transition(self._table.now(), state, int(item["attempt"]["N"]), why)


def expired(job_type: JobType[Any, Any], item: Item, now: datetime) -> bool:
    """Whether a job that was never started is past the time that its type gives it for that."""
    if job_type.expires is None or item["attempt"]["N"] != "0":
        return False
    return now > items.moment(item.get("run_at", item["created_at"])) + job_type.expires
