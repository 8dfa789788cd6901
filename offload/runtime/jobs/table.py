"""The table of jobs: its reads and conditional writes, and the wake-ups that are sent for what it says.

Nothing here decides what becomes of a job: that is in the modules of the transitions.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from itertools import count
from typing import Any, Final, Literal

import msgspec
from botocore.exceptions import ClientError

from offload.contracts.jobs.job import Job
from offload.contracts.jobs.job_type import JobType, Priority
from offload.runtime import aws
from offload.runtime.jobs import items
from offload.runtime.jobs.items import Item, job_of, text
from offload.runtime.jobs.refusals import LostLease, NoSuchJob, UnknownType
from offload.runtime.jobs.registry import Registry
from offload.runtime.settings import Settings
from offload.runtime.tables import transact

WAKE_AGAIN: Final = timedelta(seconds=60)
"""A queued job that has not started this long after its wake-up gets another."""
LOOK_AHEAD: Final = timedelta(seconds=75)
"""How far ahead wake-ups are sent with a delay: longer than the minute between two sweeps."""
UNCHANGED: Final = "#state = :was AND attempt = :attempt"
"""The condition of most changes: the job has the state and the attempt that it was read with."""
TRIES: Final = 8
"""How often a change is tried while others change the same job."""


class StoreSettings(Settings, frozen=True, kw_only=True):
    """What the JobService and BackgroundJob constructs put into a function's environment."""

    offload_jobs_table: str
    offload_jobs_bucket: str
    offload_jobs_path: str
    offload_bus: str


class JobTable:
    """The table `name`, with the queues of the types in `registry`; it deals with jobs of `types`."""

    def __init__(
        self,
        name: str,
        *,
        registry: Registry,
        types: Mapping[str, JobType[Any, Any]],
        now: Callable[[], datetime],
        sleep: Callable[[float], None],
    ) -> None:
        self.name: Final = name
        self.registry: Final = registry
        self.now: Final = now
        self._types = types
        self._sleep = sleep

    def item(self, job_id: str) -> dict[str, Any]:
        """A job's item as it stands; raises NoSuchJob."""
        if found := self.item_or_nothing(job_id):
            return found
        raise NoSuchJob(f"there is no job {job_id}, or it is past its retention")

    def item_or_nothing(self, job_id: str) -> dict[str, Any]:
        """A job's item as it stands, an empty one when there is none."""
        answer = aws.dynamodb().get_item(TableName=self.name, Key=items.job_key(job_id), ConsistentRead=True)
        return dict(answer.get("Item", {}))

    def job(self, job_id: str) -> Job:
        """A job as it stands; raises NoSuchJob."""
        return job_of(self.item(job_id))

    def children(self, job_id: str) -> list[Job]:
        """The jobs that a job waits or has waited for, in their order."""
        return [job_of(child) for child in self.child_items(self.item(job_id))]

    def child_items(self, item: Item) -> list[dict[str, Any]]:
        """The items of the jobs that a job's own item names as its children, in their order."""
        ids = [child["S"] for child in item.get("children", {"L": []})["L"]]
        return [found for child in ids if (found := self.item_or_nothing(child))]

    def unnamed_child_items(self, item: Item) -> list[dict[str, Any]]:
        """The jobs that an attempt has started and not written down in its job's item: it goes on, or it has died."""
        found = []
        known = {child["S"] for child in item.get("children", {"L": []})["L"]}
        parent = items.id_of(item)
        for gather in count() if item["attempt"]["N"] != "0" else ():
            for index in count():
                name = items.child_id(parent, gather, index)
                if name in known:
                    continue
                child = self.item_or_nothing(name)
                if text(child, "parent") != parent:
                    break
                found.append(child)
            if index == 0:
                break
        return found

    def query(self, **query: Any) -> Iterator[dict[str, Any]]:
        """The items that a query finds, page after page."""
        for page in aws.dynamodb().get_paginator("query").paginate(TableName=self.name, **query):
            yield from page["Items"]

    def change(self, item: Item, change: str, condition: str, values: Mapping[str, Any]) -> dict[str, Any]:
        """The parameters of an update of the job `item`; `condition` may name its state :was and its attempt :attempt.

        `change` and `condition` write the reserved words state, result, error and start with a #.
        """
        used = {"#state": "state", "#result": "result", "#error": "error", "#start": "start"}
        return {
            "TableName": self.name,
            "Key": {"pk": item["pk"], "sk": item["sk"]},
            "UpdateExpression": change,
            "ConditionExpression": condition,
            "ExpressionAttributeNames": {
                name: attribute for name, attribute in used.items() if name in change or name in condition
            },
            "ExpressionAttributeValues": {**values, ":was": item["state"], ":attempt": item["attempt"]},
        }

    def update(
        self, item: Item, change: str, condition: str, values: Mapping[str, Any], *, returned: str = "NONE"
    ) -> Item:
        """Updates a job; what `returned` asks for of it (ReturnValues). Raises LostLease when the condition fails."""
        try:
            answer = aws.dynamodb().update_item(
                **self.change(item, change, condition, values),
                ReturnValues=returned,  # type: ignore[arg-type]
            )
        except ClientError as error:
            if condition_failed(error):
                raise LostLease(f"{item['pk']['S']} has changed meanwhile") from error
            raise
        return answer.get("Attributes", {})

    def transact(self, actions: Sequence[Any]) -> list[Any]:
        """Writes all or nothing; action by action why not, nothing when it is done. Raises Contended."""
        return transact(actions, table="jobs' table", sleep=self._sleep)

    def put(self, item: Mapping[str, Any]) -> dict[str, Any]:
        """The action of a transaction that writes an item."""
        return {"Put": {"TableName": self.name, "Item": dict(item)}}

    def delete(self, key: Mapping[str, Any]) -> dict[str, Any]:
        """The action of a transaction that deletes the item of this key."""
        return {"Delete": {"TableName": self.name, "Key": dict(key)}}

    def count(self, job_type: str, job_id: str, what: Literal["accepted", "ended"]) -> dict[str, Any]:
        """The action of a transaction that counts a job in one of its type's counters."""
        return {
            "Update": {
                "TableName": self.name,
                "Key": items.tally_key(job_type, items.shard_of(job_id, items.TALLY_SHARDS)),
                "UpdateExpression": "ADD #what :one",
                "ExpressionAttributeNames": {"#what": what},
                "ExpressionAttributeValues": {":one": {"N": "1"}},
            }
        }

    def wake(self, item: Item, wait: timedelta = timedelta(0)) -> None:
        """Sends a wake-up for a job's next attempt, to be seen after `wait`; for a later time the sweeper sends it.

        Raises NotDeployed, NoSuchLane.
        """
        if wait >= LOOK_AHEAD:
            return
        url = self.registry.queue(item["type"]["S"], Priority(item["priority"]["S"]))
        self.send_wake_up(url, items.id_of(item), int(item["attempt"]["N"]) + 1, wait)

    def send_wake_up(self, url: str, job_id: str, attempt: int, wait: timedelta) -> None:
        """Sends a wake-up for one attempt of a job to its lane's queue, to be seen after `wait`."""
        body = msgspec.json.encode({"job": job_id, "attempt": attempt}).decode()
        aws.sqs().send_message(QueueUrl=url, MessageBody=body, DelaySeconds=math.ceil(wait.total_seconds()))

    def deals_with(self, job_type: JobType[Any, Any]) -> bool:
        """Whether this store can end jobs of the type, too."""
        return job_type.name in self._types

    def type_of(self, name: str) -> JobType[Any, Any]:
        """The type of this name; raises UnknownType for one that this store does not deal with."""
        if name not in self._types:
            raise UnknownType(f"type: '{name}' is not one of {', '.join(sorted(self._types))}")
        return self._types[name]


def condition_failed(error: ClientError) -> bool:
    """Whether DynamoDB refused a write since its condition does not hold."""
    return error.response.get("Error", {}).get("Code") == "ConditionalCheckFailedException"
