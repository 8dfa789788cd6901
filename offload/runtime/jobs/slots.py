"""The limits that jobs run under: slots that running jobs hold, and the lines of those that wait for one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from offload.contracts.jobs.job import State
from offload.contracts.jobs.job_type import JobType
from offload.runtime import aws
from offload.runtime.jobs import items
from offload.runtime.jobs.items import Item, text
from offload.runtime.jobs.refusals import NoSuchJob
from offload.runtime.jobs.table import JobTable
from offload.runtime.tables import FREE

_LINE_LOOK: Final = 10
"""How many of a line are looked at for one that may start."""


@dataclass(frozen=True)
class NotStarted:
    """Why an attempt may not start.

    One of `gone`, `ended`, `running`, `held`, `stale`, `children`, `early`, `expired`, `order` and `limit`.
    """

    reason: str


class Slots:
    """Who may start next of a type, or of one key of it."""

    def __init__(self, table: JobTable) -> None:
        self._table = table

    def first_in_line(self, job_type: str, key: str | None) -> str | None:
        """The id of the job that is next in a line; None when the line is empty."""
        places = self._line(job_type, key, most=1)
        return _job_in(places[0]) if places else None

    def start_in_slot(self, job_type: JobType[Any, Any], item: Item, start: Mapping[str, Any]) -> NotStarted | None:
        """Takes a slot of each limit of a job with the update `start` of it; None when that is done.

        A job that finds no free slot stands in line from then on.
        """
        slots = self._limits(job_type, text(item, "key"))
        job_id = items.id_of(item)
        actions: list[Any] = [{"Update": dict(start)}]
        for key, limit in slots:
            actions.append(
                {
                    "Update": {
                        "TableName": self._table.name,
                        "Key": items.slot_key(job_type.name, key),
                        "UpdateExpression": "ADD holders :me",
                        "ConditionExpression": "attribute_not_exists(holders) OR size(holders) < :limit",
                        "ExpressionAttributeValues": {":me": {"SS": [job_id]}, ":limit": {"N": str(limit)}},
                    }
                }
            )
        if not job_type.ordered:
            for key, _ in slots:
                actions.append(self._table.delete(items.line_key(job_type.name, key, item)))
        for second in (False, True):
            reasons = self._table.transact(actions)
            if not reasons:
                return None
            if reasons[0].get("Code") == "ConditionalCheckFailed":
                return NotStarted("stale")
            full = [key for (key, _), why in zip(slots, reasons[1:], strict=False) if why.get("Code") not in FREE]
            # In line first, then once more: who freed a slot before that has not seen this job there.
            if not second and not job_type.ordered:
                for key in full or [key for key, _ in slots]:
                    place = items.line_key(job_type.name, key, item)
                    self._table.transact([self._table.put({**place, "job": {"S": job_id}})])
        return NotStarted("limit")

    def free(self, job_type: JobType[Any, Any], item: Item) -> list[Any]:
        """The actions of a transaction that give back the slots of a job, if it runs."""
        if item["state"]["S"] != State.RUNNING:
            return []
        job_id = items.id_of(item)
        return [
            {
                "Update": {
                    "TableName": self._table.name,
                    "Key": items.slot_key(job_type.name, key),
                    "UpdateExpression": "DELETE holders :me",
                    "ExpressionAttributeValues": {":me": {"SS": [job_id]}},
                }
            }
            for key, _ in self._limits(job_type, text(item, "key"))
        ]

    def leave_lines(self, job_type: JobType[Any, Any], item: Item) -> None:
        """Takes an ended job out of the lines that it may stand in, and wakes who is next."""
        for key, _ in self._limits(job_type, text(item, "key")):
            place = items.line_key(job_type.name, key, item, ordered=job_type.ordered)
            aws.dynamodb().delete_item(TableName=self._table.name, Key=place)
            self._wake_first(job_type, key)

    def wake_next(self, job_type: JobType[Any, Any], item: Item) -> None:
        """Wakes who is next in each line that a job that runs no more leaves a slot to."""
        for key, _ in self._limits(job_type, text(item, "key")):
            self._wake_first(job_type, key)

    def _wake_first(self, job_type: JobType[Any, Any], key: str | None) -> None:
        """Wakes the first job of a line that may start."""
        for place in self._line(job_type.name, key, most=_LINE_LOOK):
            try:
                item = self._table.item(_job_in(place))
            except NoSuchJob:
                item = {}
            state = State(item["state"]["S"]) if item else State.CANCELLED
            if state.ended:
                aws.dynamodb().delete_item(TableName=self._table.name, Key={"pk": place["pk"], "sk": place["sk"]})
                continue
            if state in (State.QUEUED, State.WAITING):
                self._table.wake(item)
                return
            if job_type.ordered:
                return

    def _line(self, job_type: str, key: str | None, *, most: int) -> Sequence[Item]:
        """The first places of a line, at most so many."""
        answer = aws.dynamodb().query(
            TableName=self._table.name,
            KeyConditionExpression="pk = :pk",
            ExpressionAttributeValues={":pk": items.line_pk(job_type, key)},
            ConsistentRead=True,
            Limit=most,
        )
        return answer["Items"]

    def _limits(self, job_type: JobType[Any, Any], key: str | None) -> list[tuple[str | None, int]]:
        """The limits that a job runs under: (key or None for the whole type, how many)."""
        slots: list[tuple[str | None, int]] = []
        if job_type.concurrency is not None:
            slots.append((None, job_type.concurrency))
        if job_type.limit_per_key is not None and key is not None:
            slots.append((key, job_type.limit_per_key))
        return slots


def _job_in(place: Item) -> str:
    """The id of the job that stands there."""
    return str(place["sk"]["S"]).rpartition("#")[2]
