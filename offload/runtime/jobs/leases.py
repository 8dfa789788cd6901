"""An attempt's lease: how it starts, is kept, and ends; a long job's may pass through many invocations."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final

import msgspec
from botocore.exceptions import ClientError

from offload.contracts.jobs.job import Answer, Job, Progress, Question, State
from offload.contracts.jobs.job_type import JobType
from offload.runtime import aws
from offload.runtime.jobs import executions, items
from offload.runtime.jobs.ending import Ending, expired
from offload.runtime.jobs.items import Item, job_of, number, text
from offload.runtime.jobs.refusals import LostLease, NoSuchJob, NotAsking
from offload.runtime.jobs.slots import NotStarted, Slots
from offload.runtime.jobs.table import UNCHANGED, JobTable, condition_failed
from offload.runtime.text import stored

_LONGEST_QUESTION: Final = 4000  # bytes


@dataclass(frozen=True)
class Lease:
    """The right of attempt number `attempt` to run `job` until `until`."""

    job: Job
    attempt: int
    until: datetime
    item: Item = field(repr=False, compare=False)
    """The job as it stood in the table when the attempt started."""


class Leases:
    """What a worker does with a job: it starts an attempt, keeps its lease, and says how the attempt ended."""

    def __init__(self, table: JobTable, slots: Slots, ending: Ending) -> None:
        self._table = table
        self._slots = slots
        self._ending = ending

    def start(
        self, job_type: JobType[Any, Any], job_id: str, attempt: int, lease_until: datetime
    ) -> Lease | NotStarted:
        """Gives attempt number `attempt` the lease, if it is the job's next one, it is due, and its limits allow it."""
        now, slots = self._table.now(), job_type.concurrency is not None or job_type.key is not None
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
                if not condition_failed(error):
                    raise
        try:
            item = self._table.item(job_id)
        except NoSuchJob:
            return NotStarted("gone")
        if text(item, "start") == token:
            # The answer to the first try was lost, and the client's second one met what the first had written.
            return Lease(job_of(item), attempt, lease_until, item)
        refused = self._not_startable(job_type, item, attempt)
        if refused or (not slots and job_type.expires is None):
            return refused or NotStarted("stale")
        key = text(item, "key")
        if job_type.ordered and (first := self._slots.first_in_line(job_type.name, key)) and first != job_id:
            return NotStarted("order")
        start = self._starting(item, attempt, lease_until, now, token)
        refused = self._slots.start_in_slot(job_type, item, start)
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
        after = self._table.update(lease.item, change, UNCHANGED, values, returned="ALL_NEW")
        return "cancel" in after

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
        if not self._ending.retry_or_fail(
            job_type, lease.item, error, permanent=permanent, retry_after=retry_after, outage=outage
        ):
            raise _lost(lease)

    def cancelled(self, job_type: JobType[Any, Any], lease: Lease) -> None:
        """Ends the job that was asked to be cancelled and has seen it; raises LostLease."""
        self._finish(job_type, lease, State.CANCELLED, why="seen by the run")

    def suspend(self, job_type: JobType[Any, Any], lease: Lease, children: Sequence[str]) -> None:
        """Gives up the turn until the children have ended; raises LostLease.

        The children must be there: submit them before.
        """
        still = [child for child in children if not self._table.job(child).state.ended]
        if not self._ending.wait(
            job_type,
            lease.item,
            self._table.now(),
            why=f"{len(still)} children",
            children=children,
            still=still,
            failed=False,
        ):
            raise _lost(lease)
        # A child that ended between the look and the write found no waiting parent to tell.
        if still and all(self._table.job(child).state.ended for child in still):
            self._ending.release_parent(lease.job.id, still)

    def resume(self, job_id: str, attempt: int, execution: str, lease_until: datetime) -> Lease:
        """Gives a running attempt's durable execution the lease for one invocation; one execution an attempt.

        Raises LostLease.
        """
        try:
            after = aws.dynamodb().update_item(
                TableName=self._table.name,
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
            if condition_failed(error):
                raise LostLease(f"job {job_id}: attempt {attempt} is not the one that runs") from error
            raise
        return Lease(job_of(after), attempt, lease_until, after)

    def pause(self, lease: Lease) -> None:
        """Notes that the attempt's execution waits, and no process runs it; raises LostLease."""
        self._table.update(
            lease.item,
            "SET lease_until = :again, due_at = :again, suspended = :yes",
            UNCHANGED,
            {":again": number(self._table.now() + executions.ASK_ENGINE_AGAIN), ":yes": {"BOOL": True}},
        )

    def ask(self, lease: Lease, question: Question, callback: str) -> None:
        """Shows a question with the job; the execution waits for `callback`. Raises LostLease."""
        self._table.update(
            lease.item,
            "SET question = :question, answer_to = :callback",
            UNCHANGED,
            {":question": {"B": msgspec.json.encode(_short(question))}, ":callback": {"S": callback}},
        )

    def asked(self, lease: Lease) -> None:
        """Takes the question away: it is answered, or nobody has in time. Raises LostLease."""
        self._table.update(lease.item, "REMOVE question, answer_to", UNCHANGED, {})

    def answer(self, job_id: str, said: Answer) -> Job:
        """Gives a long job the answer it waits for, once; raises NoSuchJob, NotAsking."""
        item = self._table.item(job_id)
        callback = text(item, "answer_to")
        if callback is None or not executions.answer(callback, msgspec.json.encode(said)):
            raise NotAsking(f"job {job_id} is {item['state']['S']} and asks nothing: look at it again")
        return self._table.job(job_id)

    def _starting(self, item: Item, attempt: int, lease_until: datetime, now: datetime, token: str) -> dict[str, Any]:
        """The update that gives an attempt of a job that may start its lease; `token` says who wrote it."""
        return self._table.change(
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

    def _not_startable(self, job_type: JobType[Any, Any], item: Item, attempt: int) -> NotStarted | None:
        state, now = State(item["state"]["S"]), self._table.now()
        if state.ended:
            self._slots.leave_lines(job_type, item)
            return NotStarted("ended")
        if state in (State.RUNNING, State.HELD):
            return NotStarted(state.value)
        if int(item["attempt"]["N"]) != attempt - 1:
            return NotStarted("stale")
        if "open_children" in item:
            return NotStarted("children")
        if "run_at" in item and items.moment(item["run_at"]) > now:
            self._table.wake(item, items.moment(item["run_at"]) - now)
            return NotStarted("early")
        if expired(job_type, item, now):
            self._ending.end(job_type, item, State.CANCELLED, why="expired")
            return NotStarted("expired")
        return None

    def _finish(
        self, job_type: JobType[Any, Any], lease: Lease, state: State, *, result: bytes | None = None, why: str = ""
    ) -> None:
        if not self._ending.end(job_type, lease.item, state, why=why, result=result):
            raise _lost(lease)


def _lost(lease: Lease) -> LostLease:
    return LostLease(f"job {lease.job.id}: attempt {lease.attempt} has no lease any more")


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
