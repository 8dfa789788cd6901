"""Accepted = ended + open, for each job type; which jobs are forgotten, and which are overdue.

`accepted` and `ended` are tallies that are written in the transactions of submit and end. An open job is in the index
`due` with the time at which somebody must look at it: one that is in the table and not in the index would never end.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from offload.contracts.jobs.job import State
from offload.runtime.jobs import items
from offload.runtime.tables import batch_get

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

OVERDUE: Final = timedelta(minutes=5)
"""The sweeper looks each minute: a job that nobody has looked at for this long after its time is overdue."""

_OPEN: Final = (State.WAITING, State.QUEUED, State.RUNNING, State.HELD)
_SHOWN: Final = 100


class JobLine(NamedTuple):
    """One type's account; `missing` is what was accepted and is neither ended nor open."""

    type: str
    accepted: int
    ended: int
    waiting: int
    queued: int
    running: int
    held: int
    missing: int


class OddJob(NamedTuple):
    """A job that does not add up: `forgotten` (open, and nobody will look), `gone` (others name it) or `overdue`."""

    type: str
    job: str
    what: str
    why: str


class JobAccount(NamedTuple):
    """The account of an environment's jobs."""

    lines: tuple[JobLine, ...]
    odd: tuple[OddJob, ...]

    @property
    def adds_up(self) -> bool:
        """Whether every accepted job has ended or will be looked at in time."""
        return not self.odd and not any(line.missing for line in self.lines)


def draw_up(client: DynamoDBClient, table: str, types: Collection[str], *, now: datetime | None = None) -> JobAccount:
    """The account as it stands; a job on its way from one state to the next may be missing until the next look."""
    moment = now or datetime.now(UTC)
    # In this order a job that ends while we read is counted twice rather than not at all.
    accepted = {name: _tally(client, table, name, "accepted") for name in types}
    found = list(_due(client, table))
    ended = {name: _tally(client, table, name, "ended") for name in types}
    states = Counter((item["type"]["S"], State(item["state"]["S"])) for item in found)
    known = {item["pk"]["S"] for item in found}
    lines: list[JobLine] = []
    odd = [_overdue(item, moment) for item in found if moment - items.moment(item["due_at"]) > OVERDUE]
    for name in types:
        waiting, queued, running, held = (states[name, state] for state in _OPEN)
        missing = max(0, accepted[name] - ended[name] - waiting - queued - running - held)
        lines.append(JobLine(name, accepted[name], ended[name], waiting, queued, running, held, missing))
        if missing:
            odd += list(_forgotten(client, table, name, known))
            odd += list(_gone(client, table, name))
    return JobAccount(tuple(lines), tuple(odd[:_SHOWN]))


def _tally(client: DynamoDBClient, table: str, job_type: str, what: str) -> int:
    keys = [items.tally_key(job_type, shard) for shard in range(items.TALLY_SHARDS)]
    return sum(int(item[what]["N"]) for item in batch_get(table, keys, client=client) if what in item)


def _due(client: DynamoDBClient, table: str) -> Iterator[Mapping[str, Any]]:
    """Every job that the index `due` has: the open ones, and ended ones of which the bus has not been told."""
    for shard in range(items.DUE_SHARDS):
        pages = client.get_paginator("query").paginate(
            TableName=table,
            IndexName="due",
            KeyConditionExpression="due_shard = :shard",
            ExpressionAttributeValues={":shard": {"S": str(shard)}},
        )
        for page in pages:
            yield from page["Items"]


def _overdue(item: Mapping[str, Any], now: datetime) -> OddJob:
    late = int((now - items.moment(item["due_at"])).total_seconds() // 60)
    why = f"{item['state']['S']}, and nobody has looked at it for {late} minutes: offload logs job_sweeper"
    return OddJob(item["type"]["S"], item["pk"]["S"].removeprefix("job#"), "overdue", why)


def _forgotten(client: DynamoDBClient, table: str, job_type: str, known: set[str]) -> Iterator[OddJob]:
    """Open jobs that the index `due` does not have. Reads all jobs of the type."""
    for item in _of_type(client, table, job_type):
        state = State(item["state"]["S"])
        if not state.ended and "due_at" not in item and item["pk"]["S"] not in known:
            yield OddJob(job_type, item["pk"]["S"].removeprefix("job#"), "forgotten", f"{state}, without a due time")


def _of_type(client: DynamoDBClient, table: str, job_type: str) -> Iterator[Mapping[str, Any]]:
    for shard in range(items.TYPE_SHARDS):
        pages = client.get_paginator("query").paginate(
            TableName=table,
            IndexName="types",
            KeyConditionExpression="type_shard = :shard",
            ExpressionAttributeValues={":shard": items.type_shard(job_type, shard)},
        )
        for page in pages:
            yield from page["Items"]


def _gone(client: DynamoDBClient, table: str, job_type: str) -> Iterator[OddJob]:
    """Jobs that a slot of the type still holds, and that are not in the table."""
    answer = client.get_item(TableName=table, Key=items.slot_key(job_type, None), ConsistentRead=True)
    for job_id in answer.get("Item", {}).get("holders", {}).get("SS", ()):
        found = client.get_item(TableName=table, Key=items.job_key(job_id), ConsistentRead=True)
        if "Item" not in found:
            yield OddJob(job_type, job_id, "gone", "it holds a slot, and its item is not in the table")
