"""How a job stands in its table: keys, encoding, and the parts of its writes."""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final

import msgspec

from offload.contracts.jobs.job import Job, Progress, Question, State, Transition
from offload.contracts.jobs.job_type import Priority
from offload.runtime.text import stored

Item = Mapping[str, Any]

DUE_SHARDS: Final = 8
TALLY_SHARDS: Final = 8
# Each change of a job writes the whole job into the index by type, whose end, the newest jobs, is where all writes of a
# partition key meet: docs/partitions.md has the sum.
TYPE_SHARDS: Final = 8
LONGEST_WHY: Final = 1000
"""Bytes of the reason of one change, and of a job's error."""
LONGEST_HISTORY: Final = 100
"""Changes that are kept with a job: its first and its newest."""
LARGEST: Final = 400_000
"""Bytes of a job's item; DynamoDB takes 400 KB (Constraints.html, "Item size", read 2026-11-29)."""
FAR: Final = datetime(9999, 1, 1, tzinfo=UTC)
"""The due time of what waits for a person, so that no sweep looks at it."""
# An error with its change in the history, progress, a question, a lease.
_ROOM_TO_CHANGE: Final = 16_000
_RANK: Final = {Priority.HIGH: 0, Priority.NORMAL: 1, Priority.LOW: 2}


def job_key(job_id: str) -> dict[str, Any]:
    """The key of a job."""
    return {"pk": {"S": f"job#{job_id}"}, "sk": {"S": "job"}}


def id_of(item: Item) -> str:
    """The id of the job whose item this is."""
    job_id: str = item["pk"]["S"]
    return job_id.removeprefix("job#")


def child_id(parent: str, gather: int, index: int) -> str:
    """The id of a job's child: the same whichever attempt starts it."""
    return f"{parent}-{gather}-{index}"


def unique_key(job_type: str, values: str) -> dict[str, Any]:
    """The key of what says which job holds a combination of a type's unique fields."""
    return {"pk": {"S": f"unique#{job_type}#{values}"}, "sk": {"S": "unique"}}


def slot_key(job_type: str, key: str | None) -> dict[str, Any]:
    """The key of what says which jobs run, of a type or of one key of it."""
    return {"pk": {"S": f"slot#{_scope(job_type, key)}"}, "sk": {"S": "slot"}}


def line_pk(job_type: str, key: str | None) -> dict[str, Any]:
    """The partition of the jobs that wait for a slot."""
    return {"S": f"line#{_scope(job_type, key)}"}


def line_key(job_type: str, key: str | None, item: Item, *, ordered: bool = False) -> dict[str, Any]:
    """A job's place in the line: by priority, then by age; of ordered jobs by age alone."""
    rank = 0 if ordered else _RANK[Priority(item["priority"]["S"])]
    return {"pk": line_pk(job_type, key), "sk": {"S": f"{rank}#{item['listed']['S']}"}}


def tally_key(job_type: str, shard: int) -> dict[str, Any]:
    """The key of one part of a type's counters."""
    return {"pk": {"S": f"tally#{job_type}#{shard}"}, "sk": {"S": "tally"}}


def shard_of(job_id: str, shards: int) -> int:
    """The part that a job belongs to."""
    return zlib.crc32(job_id.encode()) % shards


def type_shard(job_type: str, shard: int) -> dict[str, Any]:
    """The partition of the index `types` that a shard of a type's jobs lies in."""
    return {"S": f"{job_type}#{shard}"}


def _scope(job_type: str, key: str | None) -> str:
    return job_type if key is None else f"{job_type}#{key}"


def number(moment: datetime) -> dict[str, str]:
    """A time as DynamoDB's number: seconds since the epoch, to the microsecond."""
    return {"N": f"{moment.timestamp():.6f}"}


def moment(value: Mapping[str, str]) -> datetime:
    """A time from its number."""
    return datetime.fromtimestamp(float(value["N"]), UTC)


def text(item: Item, name: str) -> str | None:
    """A string attribute, None when it is not there."""
    return item[name]["S"] if name in item else None


def transition(at: datetime, state: State, attempt: int, why: str) -> dict[str, Any]:
    """One entry of the history."""
    entry = {"at": number(at), "state": {"S": state.value}, "attempt": {"N": str(attempt)}}
    return {"M": {**entry, **({"why": {"S": stored(why, LONGEST_WHY)}} if why else {})}}


def history_with(item: Item, entry: Mapping[str, Any]) -> dict[str, Any]:
    """A job's history and one more change; of too many, or too large ones, the oldest after the first are left out."""
    changes: list[Any] = [*item["history"]["L"], entry]
    first, others = changes[0], changes[1:][1 - LONGEST_HISTORY :]
    room = LARGEST - _ROOM_TO_CHANGE - size_of({name: value for name, value in item.items() if name != "history"})
    while len(others) > 1 and size_of({"history": {"L": [first, *others]}}) > room:
        del others[0]
    return {"L": [first, *others]}


def fits(item: Item, **more: Mapping[str, Any]) -> bool:
    """Whether a job's item with these attributes leaves room for the changes that are still to come."""
    return size_of({**item, **more}) <= LARGEST - _ROOM_TO_CHANGE


def size_of(item: Item) -> int:
    """The bytes of an item, not too few (CapacityUnitCalculations.html, "Item sizes and formats", read 2026-11-29)."""
    return sum(len(name.encode()) + _size(value) for name, value in item.items())


def _size(value: Mapping[str, Any]) -> int:
    [(kind, content)] = value.items()
    match kind:
        case "S":
            return len(content.encode())
        case "N":
            return len(content) // 2 + 2
        case "B":
            return len(bytes(content))
        case "SS":
            return sum(len(each.encode()) for each in content)
        case "L":
            return 3 + sum(1 + _size(each) for each in content)
        case "M":
            return 3 + sum(1 + len(name.encode()) + _size(each) for name, each in content.items())
    return 1


def job_of(item: Item) -> Job:
    """The job as it is shown."""

    def when(name: str) -> datetime | None:
        return moment(item[name]) if name in item else None

    return Job(
        id=id_of(item),
        type=item["type"]["S"],
        state=State(item["state"]["S"]),
        attempt=int(item["attempt"]["N"]),
        input=msgspec.Raw(item["input"]["B"]),
        created_at=moment(item["created_at"]),
        changed_at=moment(item["changed_at"]),
        priority=Priority(item["priority"]["S"]),
        run_at=when("run_at"),
        progress=msgspec.json.decode(item["progress"]["B"], type=Progress) if "progress" in item else None,
        result_json=msgspec.Raw(item["result"]["B"]) if "result" in item else msgspec.UNSET,
        result_ref=text(item, "result_ref"),
        error=text(item, "error"),
        tags=tuple(tag["S"] for tag in item["tags"]["L"]),
        key=text(item, "key"),
        parent=text(item, "parent"),
        children=tuple(child["S"] for child in item["children"]["L"]) if "children" in item else (),
        retry_of=text(item, "retry_of"),
        traceparent=text(item, "traceparent"),
        cancel_requested="cancel" in item,
        lease_until=when("lease_until"),
        question=msgspec.json.decode(item["question"]["B"], type=Question) if "question" in item else None,
        history=tuple(
            Transition(
                at=moment(entry["M"]["at"]),
                state=State(entry["M"]["state"]["S"]),
                attempt=int(entry["M"]["attempt"]["N"]),
                why=text(entry["M"], "why") or "",
            )
            for entry in item["history"]["L"]
        ),
    )
