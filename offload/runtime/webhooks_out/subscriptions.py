"""Subscriptions in their table: each twice, among all of them for planners, and with its endpoint's health.

Both are written in one transaction, together with a count of all changes, by which a planner knows that what it has
read is still so.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterable
from datetime import datetime, timedelta
from hashlib import sha256
from typing import Any, Final

import msgspec
from msgspec.structs import replace

from offload.contracts.webhooks_out.subscription import SubscriptionState, Why
from offload.runtime import aws
from offload.runtime.tables import batch_get, transact
from offload.runtime.webhooks_out import items
from offload.runtime.webhooks_out.health import EndpointHealth
from offload.runtime.webhooks_out.items import Record
from offload.runtime.webhooks_out.refusals import Contended, IdempotencyConflict, NoSuchSubscription

# What became of a deleted one's deliveries can be looked up for as long as those are kept; its name with them.
_TOMBSTONE: Final = timedelta(days=400)
_ATTEMPTS: Final = 5
_TABLE: Final = "table of subscriptions"

Subscriber = tuple[Record, EndpointHealth]


class Subscriptions:
    """The subscriptions of one table; `now` is the clock."""

    def __init__(self, table: str, now: Callable[[], datetime]) -> None:
        self.table = table
        self._now = now
        self._known: tuple[int, tuple[Record, ...]] = (-1, ())

    @staticmethod
    def new_id(idempotency_key: str | None) -> str:
        """An id; for the same key the same."""
        made = sha256(idempotency_key.encode()).hexdigest() if idempotency_key else uuid.uuid4().hex
        return f"sub_{made[:20]}"

    def add(self, record: Record) -> tuple[Record, bool]:
        """Keeps a new subscription; returns it and whether it is new.

        One of the same id and digest is returned as it is; raises IdempotencyConflict when the digest is another.
        """
        body = _encoded(record)
        put: dict[str, Any] = {
            "TableName": self.table,
            "Item": {**items.record_key(record.id), "record": body},
            "ConditionExpression": "attribute_not_exists(pk)",
            "ReturnValuesOnConditionCheckFailure": "ALL_OLD",
        }
        endpoint = {"TableName": self.table, "Item": {**items.endpoint_key(record.id), "record": body}}
        reasons = transact([{"Put": put}, {"Put": endpoint}, self._count()], table=_TABLE)
        if not reasons:
            return record, True
        there = items.record_of(reasons[0]["Item"])
        if there.digest != record.digest:
            raise IdempotencyConflict(
                "Idempotency-Key: it was used with other content; take another key for another subscription"
            )
        return there, False

    def get(self, subscription: str) -> Subscriber:
        """A subscription and its endpoint's health; raises NoSuchSubscription."""
        found = (
            aws.dynamodb()
            .get_item(TableName=self.table, Key=items.endpoint_key(subscription), ConsistentRead=True)
            .get("Item")
        )
        if found is None or "deleted" in found:
            raise _none(subscription)
        return items.record_of(found), items.health_of(found)

    def all(self) -> tuple[Record, ...]:
        """Every subscription as it is at this moment; read anew only when one has changed."""
        answer = aws.dynamodb().get_item(TableName=self.table, Key=items.VERSION_KEY, ConsistentRead=True)
        version = int(answer["Item"]["n"]["N"]) if "Item" in answer else 0
        if version != self._known[0]:
            self._known = (version, tuple(self._read()))
        return self._known[1]

    def change(self, subscription: str, change: Callable[[Record], Record]) -> Record:
        """Changes a subscription; `change` may be called again when others were faster. Raises NoSuchSubscription."""
        for _ in range(_ATTEMPTS):
            before, _health = self.get(subscription)
            after = change(before)
            if after == before:
                return before
            after = replace(after, revision=before.revision + 1, changed_at=self._now())
            if self._replace(before, after):
                return after
        raise Contended(f"others changed subscription '{subscription}' at the same moment, again and again; ask again")

    def set_state(self, subscription: str, state: SubscriptionState, why: Why | None) -> Record:
        """Pauses a subscription, or lets it go on."""
        return self.change(subscription, lambda record: replace(record, state=state, reason=why))

    def delete(self, subscription: str) -> None:
        """Forgets a subscription; what is owed to it is given up by its next sender. Raises NoSuchSubscription."""
        record, _ = self.get(subscription)
        expires = items.seconds(self._now() + _TOMBSTONE)
        # Nobody sends by it any more: what it held in secret goes at once.
        left = _encoded(replace(record, sealed=b""))
        bury = {
            "TableName": self.table,
            "Key": items.endpoint_key(subscription),
            "UpdateExpression": "SET deleted = :yes, expires = :expires, wake = :wake, wake_at = :now, #record = :left",
            "ConditionExpression": "attribute_exists(pk)",
            "ExpressionAttributeValues": {
                ":yes": {"BOOL": True},
                ":expires": expires,
                ":wake": items.wake_of(subscription),
                ":now": items.number(self._now()),
                ":left": left,
            },
            "ExpressionAttributeNames": {"#record": "record"},
        }
        forget = {"TableName": self.table, "Key": items.record_key(subscription)}
        remember = {
            "TableName": self.table,
            "Item": {**items.deleted_key(subscription), "record": left, "expires": expires},
        }
        actions = [{"Delete": forget}, {"Update": bury}, {"Put": remember}, self._count()]
        if transact(actions, table=_TABLE):
            raise _none(subscription)

    def healths(self, subscriptions: Iterable[str]) -> dict[str, tuple[EndpointHealth, bool]]:
        """Of each endpoint its health, and whether its subscription is active."""
        found = batch_get(
            self.table,
            [items.endpoint_key(each) for each in subscriptions],
            attributes="pk, health, #record",
            names={"#record": "record"},
        )
        pairs = ((items.record_of(item), items.health_of(item)) for item in found)
        return {record.id: (health, record.state is SubscriptionState.ACTIVE) for record, health in pairs}

    def deleted(self) -> tuple[Record, ...]:
        """Those that were deleted, as long as what became of their deliveries can be looked up."""
        return tuple(self._read(items.DELETED))

    def _read(self, among: str = items.SUBSCRIPTIONS) -> Iterable[Record]:
        pages = (
            aws.dynamodb()
            .get_paginator("query")
            .paginate(
                TableName=self.table,
                KeyConditionExpression="pk = :pk",
                ExpressionAttributeValues={":pk": {"S": among}},
                ConsistentRead=True,
            )
        )
        for page in pages:
            for item in page["Items"]:
                yield items.record_of(item)

    def _replace(self, before: Record, after: Record) -> bool:
        body = _encoded(after)
        values: dict[str, Any] = {":record": body, ":before": _encoded(before)}
        actions = [
            {
                "Update": {
                    "TableName": self.table,
                    "Key": key,
                    "UpdateExpression": "SET #record = :record",
                    "ConditionExpression": "#record = :before",
                    "ExpressionAttributeNames": {"#record": "record"},
                    "ExpressionAttributeValues": values,
                }
            }
            for key in (items.record_key(before.id), items.endpoint_key(before.id))
        ]
        return not transact([*actions, self._count()], table=_TABLE)

    def _count(self) -> dict[str, Any]:
        return {
            "Update": {
                "TableName": self.table,
                "Key": items.VERSION_KEY,
                "UpdateExpression": "ADD n :one",
                "ExpressionAttributeValues": {":one": {"N": "1"}},
            }
        }


def _none(subscription: str) -> NoSuchSubscription:
    return NoSuchSubscription(f"there is no subscription '{subscription}'")


def _encoded(record: Record) -> dict[str, Any]:
    return {"B": msgspec.json.encode(record)}
