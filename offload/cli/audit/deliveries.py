"""Owed = delivered + waiting + given up, for each subscription; and which deliveries nobody will attempt.

A waiting delivery has a place in its subscription's partition of what is due; who sends reads that and nothing else. So
one without a place would wait for ever, and a place without a waiting delivery is in the way. What is due is attempted
by whoever holds the endpoint's lease, or once its time to wake has come: with neither, nobody comes. Whether an event
has a delivery at all, `offload deliveries recover --missing --dry-run` says.

Every record that is kept is read.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from offload.contracts.webhooks_out.subscription import Delivery, DeliveryState, SubscriptionState
from offload.runtime.tables import batch_get
from offload.runtime.webhooks_out import items
from offload.runtime.webhooks_out.items import Entry, Record

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

OVERDUE: Final = timedelta(minutes=5)
"""The sweeper looks each minute: what nobody has attempted for this long after it was due is overdue."""

_SHOWN: Final = 100


class DeliveryLine(NamedTuple):
    """One subscription's account; `given_up` by reason. A deleted one is there while something is owed to it."""

    subscription: str
    tenant: str
    owed: int
    delivered: int
    waiting: int
    given_up: Mapping[str, int]
    stack: str = ""


class OddDelivery(NamedTuple):
    """What does not add up: `forgotten` (waits, without a place), `stray` (a place, and nothing waits), `overdue`."""

    subscription: str
    delivery: str
    what: str
    why: str
    stack: str = ""


class DeliveryAccount(NamedTuple):
    """The account of an environment's deliveries."""

    lines: tuple[DeliveryLine, ...]
    odd: tuple[OddDelivery, ...]

    @property
    def adds_up(self) -> bool:
        """Whether every delivery has ended, or will be attempted in time."""
        return not self.odd


def draw_up(client: DynamoDBClient, table: str, *, stack: str = "", now: datetime | None = None) -> DeliveryAccount:
    """The account of a sender's table, which is `stack`'s, as it stands.

    A delivery on its way from one state to the next may be odd until the next look.
    """
    moment = now or datetime.now(UTC)
    lines: list[DeliveryLine] = []
    odd: list[OddDelivery] = []
    for name in _subscriptions(client, table):
        books = _Books(client, table, name)
        lines.append(books.line()._replace(stack=stack))
        odd += [each._replace(stack=stack) for each in (*books.forgotten(), *books.stray(), *books.overdue(moment))]
    return DeliveryAccount(tuple(lines), tuple(odd[:_SHOWN]))


class _Books:
    """What the table has of one subscription."""

    def __init__(self, client: DynamoDBClient, table: str, subscription: str) -> None:
        self._client = client
        self._table = table
        self._subscription = subscription
        # In this order one that ends while we read looks forgotten, which a second look at it settles.
        self._deliveries = {each.id: each for each in self._listed()}
        self._places = self._read_places()
        self._endpoint = _get(client, table, items.endpoint_key(subscription))

    def line(self) -> DeliveryLine:
        states = Counter(each.state for each in self._deliveries.values())
        reasons = Counter(str(each.reason) for each in self._deliveries.values() if each.reason)
        record = self._record()
        return DeliveryLine(
            self._subscription,
            record.tenant if record else "",
            len(self._deliveries),
            states[DeliveryState.DELIVERED],
            states[DeliveryState.WAITING],
            dict(sorted(reasons.items())),
        )

    def forgotten(self) -> Iterator[OddDelivery]:
        waiting = {each.id for each in self._deliveries.values() if each.state is DeliveryState.WAITING}
        suspected = self._still_waiting(waiting - {place.delivery for place in self._places})
        if not suspected:
            return
        for name in sorted(suspected - {place.delivery for place in self._read_places()}):
            yield OddDelivery(self._subscription, name, "forgotten", "it waits, and has no place among what is due")

    def stray(self) -> Iterator[OddDelivery]:
        known = {each.id for each in self._deliveries.values() if each.state is DeliveryState.WAITING}
        suspected = {place.delivery: place for place in self._places if place.delivery not in known}
        waiting = self._still_waiting(suspected)
        for name, place in suspected.items():
            key = {"pk": items.due_pk(self._subscription), "sk": {"S": place.key}}
            if name not in waiting and _get(self._client, self._table, key):
                yield OddDelivery(self._subscription, name, "stray", "it has a place among what is due, and has ended")

    def overdue(self, now: datetime) -> Iterator[OddDelivery]:
        record = self._record()
        if record is None or record.state is not SubscriptionState.ACTIVE or self._will_be_looked_at(now):
            return
        for place in self._first_of_each(record):
            late = now - place.due_at
            if late > OVERDUE:
                minutes = late // timedelta(minutes=1)
                why = f"due for {minutes} minutes, and nobody comes: offload logs delivery_sweeper"
                yield OddDelivery(self._subscription, place.delivery, "overdue", why)

    def _will_be_looked_at(self, now: datetime) -> bool:
        if "lease_until" in self._endpoint and items.moment(self._endpoint["lease_until"]["N"]) > now:
            return True
        return "wake_at" in self._endpoint and items.moment(self._endpoint["wake_at"]["N"]) > now - OVERDUE

    def _first_of_each(self, record: Record) -> Iterator[Entry]:
        """What may be attempted: of an ordered subscription the first of each subject."""
        seen: set[str] = set()
        for place in self._places:
            if not record.ordered or place.subject not in seen:
                yield place
            seen.add(place.subject)

    def _record(self) -> Record | None:
        return items.record_of(self._endpoint) if "record" in self._endpoint else None

    def _listed(self) -> Iterator[Delivery]:
        pages = self._client.get_paginator("query").paginate(
            TableName=self._table,
            IndexName=items.LISTED_INDEX,
            KeyConditionExpression="subscription = :subscription",
            ExpressionAttributeValues={":subscription": {"S": self._subscription}},
        )
        for page in pages:
            yield from map(items.delivery_of, page["Items"])

    def _read_places(self) -> list[Entry]:
        pages = self._client.get_paginator("query").paginate(
            TableName=self._table,
            KeyConditionExpression="pk = :pk",
            ExpressionAttributeValues={":pk": items.due_pk(self._subscription)},
            ConsistentRead=True,
        )
        return [items.entry_of(item) for page in pages for item in page["Items"]]

    def _still_waiting(self, deliveries: Iterable[str]) -> set[str]:
        keys = [items.delivery_key(each) for each in deliveries]
        return {
            item["pk"]["S"].removeprefix("delivery#")
            for item in batch_get(self._table, keys, client=self._client)
            if item["state"]["S"] == DeliveryState.WAITING
        }


def _subscriptions(client: DynamoDBClient, table: str) -> list[str]:
    """All there are, and those that were deleted and still have to be looked at."""
    found: dict[str, None] = {}
    pages = client.get_paginator("query").paginate(
        TableName=table,
        KeyConditionExpression="pk = :pk",
        ExpressionAttributeValues={":pk": {"S": items.SUBSCRIPTIONS}},
        ConsistentRead=True,
    )
    for page in pages:
        found |= dict.fromkeys(item["sk"]["S"] for item in page["Items"])
    for shard in range(items.WAKE_SHARDS):
        woken = client.get_paginator("query").paginate(
            TableName=table,
            IndexName=items.WAKE_INDEX,
            KeyConditionExpression="wake = :wake",
            ExpressionAttributeValues={":wake": items.wake_in(shard)},
        )
        for page in woken:
            found |= dict.fromkeys(item["pk"]["S"].removeprefix("endpoint#") for item in page["Items"])
    return list(found)


def _get(client: DynamoDBClient, table: str, key: dict[str, Any]) -> Mapping[str, Any]:
    return client.get_item(TableName=table, Key=key, ConsistentRead=True).get("Item", {})
