"""The record of dead letters that were dropped: one item each in their consumer's inbox table, for the audit.

An item is there before its letter is deleted, so a drop that is cut off is repeated and never forgotten. The items of a
table are one partition, `dropped`; their sort key is the hash of the event's key, which may be longer than one.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from hashlib import sha256
from typing import TYPE_CHECKING, Any, Final, NamedTuple

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

_PARTITION: Final = "dropped"


class Dropped(NamedTuple):
    """One event that an operator gave up for good.

    `key` is the key of its inbox entry, or the letter's own id where the event has no name; `reason` and `detail` are
    the dead letter's, `because` is what the operator said, `at` when (ISO 8601).
    """

    key: str
    event_type: str
    reason: str
    detail: str
    because: str
    at: str


def record(client: DynamoDBClient, table: str, dropped: Dropped) -> None:
    """Records a drop; the same event again, from another copy of its letter, changes nothing."""
    try:
        client.put_item(
            TableName=table,
            Item={
                "pk": {"S": _PARTITION},
                "sk": {"S": sha256(dropped.key.encode(errors="backslashreplace")).hexdigest()},
                **{name: {"S": _stored(value)} for name, value in dropped._asdict().items() if value},
            },
            ConditionExpression="attribute_not_exists(pk)",
        )
    except client.exceptions.ConditionalCheckFailedException:
        return


def dropped_of(client: DynamoDBClient, table: str) -> Iterator[Dropped]:
    """Everything that was dropped for the consumer of this table."""
    pages = client.get_paginator("query").paginate(
        TableName=table,
        KeyConditionExpression="pk = :dropped",
        ExpressionAttributeValues={":dropped": {"S": _PARTITION}},
        ConsistentRead=True,
    )
    for page in pages:
        for item in page["Items"]:
            values: dict[str, Any] = {name: item.get(name, {}).get("S", "") for name in Dropped._fields}
            yield Dropped(**values)


def now_text(now: datetime) -> str:
    """A moment as it is stored."""
    return now.strftime("%Y-%m-%dT%H:%M:%SZ")


def _stored(text: str) -> str:
    # Half of a surrogate pair has no UTF-8.
    return text.encode(errors="backslashreplace").decode()
