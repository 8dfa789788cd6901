"""What our stores do with DynamoDB: writes that are all or nothing beside those of others, and reads of many items."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from offload.contracts.backoff import Uniform, full_jitter
from offload.runtime import aws
from offload.runtime.refusals import Contended

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

Item = Mapping[str, Any]

FREE: Final = (None, "None")
"""What a cancelled transaction says of an action that was not in the way."""

_ATTEMPTS: Final = 8
_FIRST_PAUSE: Final = 0.01  # seconds
_LONGEST_PAUSE: Final = 0.2  # seconds: at most 0.75 in all
# DynamoDB BatchGetItem: 100 keys a call (Constraints.html, read 2026-11-23).
_BATCH_GET_KEYS: Final = 100


def transact(
    actions: Sequence[Any],
    *,
    table: str,
    sleep: Callable[[float], None] = time.sleep,
    uniform: Uniform = random.uniform,
) -> list[Any]:
    """Writes all or nothing; the reasons, action by action, when a condition failed, nothing when it is done.

    Between tries it pauses, with full jitter: two that met once do not meet again. Raises Contended, naming the `table`
    (for people), when transactions of others were in the way each time.
    """
    client = aws.dynamodb()
    for attempt in range(_ATTEMPTS):
        if attempt:
            sleep(full_jitter(attempt, base=_FIRST_PAUSE, cap=_LONGEST_PAUSE, uniform=uniform))
        try:
            client.transact_write_items(TransactItems=list(actions))
        except client.exceptions.TransactionCanceledException as cancelled:
            reasons: list[Any] = cancelled.response["CancellationReasons"]
            if any(why.get("Code") == "ConditionalCheckFailed" for why in reasons):
                return reasons
            if all(why.get("Code") in (*FREE, "TransactionConflict", "ThrottlingError") for why in reasons):
                continue
            raise
        return []
    raise Contended(f"the {table} is busy with the same items; ask again")


def batch_get(
    table: str,
    keys: Iterable[Item],
    *,
    attributes: str | None = None,
    names: Mapping[str, str] | None = None,
    client: DynamoDBClient | None = None,
) -> Iterator[Item]:
    """The items that there are of these keys, as they are at this moment, in no order.

    `attributes` is a projection expression, whose aliases are `names`; without it the items are whole. `client` is the
    function's own unless another is given.
    """
    options: dict[str, Any] = {"ConsistentRead": True}
    options |= {"ProjectionExpression": attributes} if attributes else {}
    options |= {"ExpressionAttributeNames": names} if names else {}
    left = list(keys)
    while left:
        wanted: Any = {table: {**options, "Keys": left[:_BATCH_GET_KEYS]}}
        answer = (client or aws.dynamodb()).batch_get_item(RequestItems=wanted)
        yield from answer["Responses"].get(table, [])
        # What was throttled is asked for again.
        unread: Any = answer["UnprocessedKeys"]
        left = [*(unread[table]["Keys"] if unread else []), *left[_BATCH_GET_KEYS:]]
