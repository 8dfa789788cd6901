"""Deliveries in their table: planned once for an event and a subscription, taken by one sender at a time, recorded.

What waits for a subscription lies in a partition of its own, by the time at which it is due. A *sender* holds the
endpoint's lease while it works on that partition, so order, rate and the number of attempts at once need nobody's
agreement. Its record of an attempt is one transaction, conditional on the attempts that there were before it.
"""

from __future__ import annotations

import heapq
import uuid
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime, timedelta
from itertools import islice
from typing import Any, Final

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from offload.contracts.webhooks_out.policy import Policy
from offload.contracts.webhooks_out.subscription import (
    LONGEST_BODY,
    Attempt,
    DeliveryState,
    Why,
)
from offload.runtime import aws
from offload.runtime.tables import batch_get, transact
from offload.runtime.webhooks_out import items
from offload.runtime.webhooks_out.health import EndpointHealth, Signal
from offload.runtime.webhooks_out.items import Entry, Record
from offload.runtime.webhooks_out.refusals import NoSuchDelivery, PayloadGone, StillWaiting
from offload.runtime.webhooks_out.retries import Next

LEASE: Final = timedelta(seconds=30)
"""How long a sender may be silent before another takes its place: an attempt and what is written after it."""

# DynamoDB: 100 actions a transaction (Constraints.html, read 2026-11-23); two a new delivery.
_PLANNED_AT_ONCE: Final = 50
_TABLE: Final = "table of deliveries"
_ATTEMPTS: Final = 8
# Of an ordered subscription, how much of what waits is looked through for subjects that nothing blocks.
_LOOKED_THROUGH: Final = 1000


class Payload(Struct, frozen=True, kw_only=True):
    """What is sent of one event: `body`, byte for byte, and what the event is called."""

    event: str
    source: str
    type: str
    subject: str
    time: datetime
    body: bytes


class Lease(Struct, kw_only=True):
    """The right of one sender to work on a subscription; `id` is in the endpoint's item while it lasts."""

    id: str
    record: Record
    health: EndpointHealth
    free_at: datetime | None
    """When the rate allows the next delivery; None when it sets no limit."""
    token_at: datetime | None
    """For when a token is on its way that wakes the next sender."""
    signals: tuple[Signal, ...]
    """What the owner is still to be told."""
    deleted: bool = False
    leaves: bool = False
    """Whether what is left to send is for a sender of the other lane."""


class Outcome(Struct, frozen=True, kw_only=True):
    """What became of one entry. Without an attempt it was given up: expired, erased, its subscription gone."""

    entry: Entry
    attempt: Attempt | None
    next: Next


class Deliveries:
    """The deliveries of one table; `now` is the clock."""

    def __init__(self, table: str, policy: Policy, now: Callable[[], datetime]) -> None:
        self.table = table
        self.policy = policy
        self._now = now

    # Planning

    def plan(self, payload: Payload, wanted: Sequence[Record]) -> list[str]:
        """Owes the event to these subscriptions, each once however often this is called.

        Returns the subscriptions for which something may wait. A body that is too large is a delivery given up.
        """
        if not wanted:
            return []
        now = self._now()
        fits = len(payload.body) <= LONGEST_BODY
        if fits:
            self._keep_body(payload, now)
        left = list(wanted)
        while left:
            batch, left = left[:_PLANNED_AT_ONCE], left[_PLANNED_AT_ONCE:]
            while batch:
                groups = [self._new(payload, record, now, fits=fits) for record in batch]
                reasons = transact([action for group in groups for action in group], table=_TABLE)
                # The first of a group is the one with a condition: those that are there already are left out.
                codes = [why.get("Code") for why in reasons[:: len(groups[0])]]
                batch = [one for one, code in zip(batch, codes, strict=False) if code != "ConditionalCheckFailed"]
        return [record.id for record in wanted] if fits else []

    def _keep_body(self, payload: Payload, now: datetime) -> None:
        try:
            aws.dynamodb().put_item(
                TableName=self.table,
                Item={
                    **_body_key(items.body_key(payload.source, payload.event)),
                    "body": {"B": payload.body},
                    "expires": items.seconds(now + self.policy.payload_kept),
                },
                ConditionExpression="attribute_not_exists(pk)",
            )
        except aws.dynamodb().exceptions.ConditionalCheckFailedException:
            # The first copy stays: every attempt at every endpoint has the same bytes.
            return

    def _new(self, payload: Payload, record: Record, now: datetime, *, fits: bool) -> list[dict[str, Any]]:
        delivery = items.delivery_id(record.id, payload.source, payload.event)
        body_key = items.body_key(payload.source, payload.event)
        # The order of an ordered subscription is that of the events' own times.
        place = payload.time if record.ordered else now
        entry = Entry(
            delivery=delivery,
            key=items.due_sk(place, delivery),
            due_at=now,
            created_at=now,
            expires_at=now + self.policy.expires,
            event=payload.event,
            source=payload.source,
            type=payload.type,
            subject=payload.subject,
            body_key=body_key,
            attempts=0,
            base=0,
        )
        item: dict[str, Any] = {
            **items.delivery_key(delivery),
            "subscription": {"S": record.id},
            "tenant": {"S": record.tenant},
            "event": {"S": payload.event},
            "source": {"S": payload.source},
            "type": {"S": payload.type},
            "state": {"S": DeliveryState.WAITING},
            "created_at": items.number(now),
            "changed_at": items.number(now),
            "listed": {"S": items.due_sk(now, delivery)},
            "attempts": {"N": "0"},
            "body_key": {"S": body_key},
            "next_at": items.number(now),
            **({"subject": {"S": payload.subject}} if payload.subject else {}),
        }
        if not fits:
            del item["next_at"]
            item |= {
                "state": {"S": DeliveryState.GIVEN_UP},
                "reason": {"S": Why.BODY_TOO_LARGE},
                "error": {"S": f"{len(payload.body)} bytes, the limit is {LONGEST_BODY}"},
                "expires": items.seconds(now + self.policy.record_kept),
            }
        return [
            {"Put": {"TableName": self.table, "Item": item, "ConditionExpression": "attribute_not_exists(pk)"}},
            *([{"Put": {"TableName": self.table, "Item": items.entry_item(record.id, entry)}}] if fits else []),
        ]

    # The lease

    def take(self, subscription: str) -> Lease | None:
        """The lease of a subscription's endpoint; None when another has it, who is told to look again, or none is."""
        client = aws.dynamodb()
        key: Any = items.endpoint_key(subscription)
        for _ in range(_ATTEMPTS):
            now = self._now()
            lease = uuid.uuid4().hex
            try:
                answer = client.update_item(
                    TableName=self.table,
                    Key=key,
                    UpdateExpression="SET lease = :lease, lease_until = :until, wake = :wake, wake_at = :until "
                    "REMOVE again",
                    ConditionExpression="attribute_exists(#record) AND "
                    "(attribute_not_exists(lease) OR lease_until < :now)",
                    ExpressionAttributeNames={"#record": "record"},
                    ExpressionAttributeValues={
                        ":lease": {"S": lease},
                        ":until": items.number(now + LEASE),
                        ":now": items.number(now),
                        ":wake": items.wake_of(subscription),
                    },
                    ReturnValues="ALL_NEW",
                )
                return _lease(lease, answer["Attributes"])
            except client.exceptions.ConditionalCheckFailedException:
                pass
            try:
                client.update_item(
                    TableName=self.table,
                    Key=key,
                    UpdateExpression="SET again = :yes",
                    ConditionExpression="lease_until >= :now",
                    ExpressionAttributeValues={":yes": {"BOOL": True}, ":now": items.number(now)},
                )
            except client.exceptions.ConditionalCheckFailedException:
                # It was let go between the two, or there is no such endpoint.
                if "Item" not in client.get_item(TableName=self.table, Key=key, ConsistentRead=True):
                    return None
                continue
            return None
        return None

    def renew(self, lease: Lease) -> bool:
        """Keeps a lease for another while; False when it is lost."""
        until = items.number(self._now() + LEASE)
        return self._update_lease(lease, "SET lease_until = :until, wake_at = :until", {":until": until})

    def look_again(self, lease: Lease) -> bool:
        """Whether something came for this subscription since the lease was taken, or since this was last asked."""
        return self._update_lease(lease, "REMOVE again", {}, condition="attribute_exists(again)")

    def release(self, lease: Lease, *, wake_at: datetime | None) -> bool:
        """Lets an endpoint go, to be looked at again at `wake_at`.

        False when something came meanwhile, or the lease is lost: then nothing is written.
        """
        values: dict[str, Any] = {":health": {"B": msgspec.json.encode(lease.health)}}
        sets, removes = ["health = :health"], ["lease", "lease_until"]
        optional: dict[str, Any] = {
            "free_at": items.number(lease.free_at) if lease.free_at else None,
            "token_at": items.number(lease.token_at) if lease.token_at else None,
            "signals": {"B": msgspec.json.encode(lease.signals)} if lease.signals else None,
            "wake": items.wake_of(lease.record.id) if wake_at else None,
            "wake_at": items.number(wake_at) if wake_at else None,
        }
        for name, value in optional.items():
            if value is None:
                removes.append(name)
            else:
                sets.append(f"{name} = :{name}")
                values[f":{name}"] = value
        expression = f"SET {', '.join(sets)} REMOVE {', '.join(removes)}"
        return self._update_lease(lease, expression, values, condition="attribute_not_exists(again)")

    def _update_lease(self, lease: Lease, expression: str, values: dict[str, Any], *, condition: str = "") -> bool:
        client = aws.dynamodb()
        try:
            client.update_item(
                TableName=self.table,
                Key=items.endpoint_key(lease.record.id),
                UpdateExpression=expression,
                ConditionExpression="lease = :lease" + (f" AND {condition}" if condition else ""),
                ExpressionAttributeValues={":lease": {"S": lease.id}, **values},
            )
        except client.exceptions.ConditionalCheckFailedException:
            return False
        return True

    def to_wake(self, limit: int) -> list[tuple[str, EndpointHealth]]:
        """The subscriptions to look at by now, longest due first, and how their endpoints fare."""
        now = items.number(self._now())
        shards = [self._to_wake(items.wake_in(shard), now, limit) for shard in range(items.WAKE_SHARDS)]
        longest = heapq.merge(*shards, key=lambda item: int(item["wake_at"]["N"]))
        return [(item["pk"]["S"].removeprefix("endpoint#"), items.health_of(item)) for item in islice(longest, limit)]

    def _to_wake(self, shard: dict[str, Any], now: dict[str, str], limit: int) -> list[Any]:
        pages = (
            aws.dynamodb()
            .get_paginator("query")
            .paginate(
                TableName=self.table,
                IndexName=items.WAKE_INDEX,
                KeyConditionExpression="wake = :wake AND wake_at <= :now",
                ExpressionAttributeValues={":wake": shard, ":now": now},
                PaginationConfig={"MaxItems": limit, "PageSize": limit},
            )
        )
        return [item for page in pages for item in page["Items"]]

    # What waits

    def due(self, record: Record, limit: int) -> list[Entry]:
        """At most `limit` deliveries to attempt now, the oldest first; of an ordered subscription one a subject."""
        if record.ordered:
            return self._heads(record.id, limit)[0]
        bound = f"{items.milliseconds(self._now()):015d}~"
        # More than are taken, so that those that are due for longest are among them whatever they waited for.
        page = self._waiting(record.id, before=bound, limit=limit * 4)
        return sorted(page, key=lambda entry: (entry.created_at, entry.key))[:limit]

    def oldest(self, subscription: str) -> Entry | None:
        """What has waited for longest, due or not: what a paused endpoint is probed with."""
        return min(self._waiting(subscription, limit=100), key=lambda entry: entry.created_at, default=None)

    def next_due(self, record: Record) -> datetime | None:
        """When the next of what waits is due, None when nothing waits."""
        if record.ordered:
            return self._heads(record.id, _LOOKED_THROUGH)[1]
        first = self._waiting(record.id, limit=1)
        return first[0].due_at if first else None

    def waiting(self, subscription: str) -> int:
        """How many deliveries wait for a subscription."""
        pages = (
            aws.dynamodb()
            .get_paginator("query")
            .paginate(
                TableName=self.table,
                KeyConditionExpression="pk = :pk",
                ExpressionAttributeValues={":pk": items.due_pk(subscription)},
                Select="COUNT",
                ConsistentRead=True,
            )
        )
        return sum(page["Count"] for page in pages)

    def everything_waiting(self, subscription: str, limit: int) -> list[Entry]:
        """At most `limit` of what waits, due or not."""
        return self._waiting(subscription, limit=limit)

    def _waiting(self, subscription: str, *, limit: int, before: str | None = None) -> list[Entry]:
        condition, values = "pk = :pk", {":pk": items.due_pk(subscription)}
        if before is not None:
            condition += " AND sk <= :before"
            values[":before"] = {"S": before}
        answer = aws.dynamodb().query(
            TableName=self.table,
            KeyConditionExpression=condition,
            ExpressionAttributeValues=values,
            Limit=limit,
            ConsistentRead=True,
        )
        return [items.entry_of(item) for item in answer["Items"]]

    def _heads(self, subscription: str, limit: int) -> tuple[list[Entry], datetime | None]:
        """The first of each subject, as far as they are due; and when the next one is."""
        now = self._now()
        seen: set[str] = set()
        heads: list[Entry] = []
        next_due: datetime | None = None
        for entry in self._waiting(subscription, limit=_LOOKED_THROUGH):
            if entry.subject in seen:
                continue
            seen.add(entry.subject)
            next_due = entry.due_at if next_due is None else min(next_due, entry.due_at)
            if entry.due_at <= now and len(heads) < limit:
                heads.append(entry)
        return heads, next_due

    def bodies(self, keys: Iterable[str]) -> dict[str, bytes]:
        """The bodies by key; one that is past its time or was erased is not among them."""
        wanted = [_body_key(key) for key in dict.fromkeys(keys)]
        return {item["pk"]["S"]: item["body"]["B"] for item in batch_get(self.table, wanted) if "body" in item}

    def kept(self, keys: Iterable[str]) -> set[str]:
        """Those of the bodies' keys whose body is kept, neither past its time nor erased."""
        wanted = [_body_key(key) for key in dict.fromkeys(keys)]
        found = batch_get(self.table, wanted, attributes="pk, erased")
        return {item["pk"]["S"] for item in found if "erased" not in item}

    def there(self, deliveries: Iterable[str]) -> set[str]:
        """Those of the deliveries that exist."""
        wanted = [items.delivery_key(each) for each in dict.fromkeys(deliveries)]
        found = batch_get(self.table, wanted, attributes="pk")
        return {item["pk"]["S"].removeprefix("delivery#") for item in found}

    # What became of it

    def record(self, subscription: Record, outcomes: Sequence[Outcome]) -> list[Outcome]:
        """Writes what became of entries; returns those that were written.

        An entry whose delivery is not as it was when the attempt began (another sender was faster) is dropped.
        """
        left = list(outcomes)
        while left:
            grouped = [self._recorded(subscription, outcome) for outcome in left]
            reasons = transact([action for group in grouped for action in group], table=_TABLE)
            if not reasons:
                break
            at, kept = 0, []
            for outcome, group in zip(left, grouped, strict=True):
                if reasons[at].get("Code") == "ConditionalCheckFailed":
                    self._drop(subscription.id, outcome.entry)
                else:
                    kept.append(outcome)
                at += len(group)
            left = kept
        return left

    def _recorded(self, subscription: Record, outcome: Outcome) -> list[dict[str, Any]]:
        entry, attempt, then = outcome.entry, outcome.attempt, outcome.next
        now = self._now()
        attempts = entry.attempts + (1 if attempt else 0)
        ended = then.retry_at is None
        state = DeliveryState.DELIVERED if then.delivered else DeliveryState.GIVEN_UP
        sets: dict[str, Any] = {
            "state": {"S": DeliveryState.WAITING if not ended else state},
            "changed_at": items.number(now),
            "attempts": {"N": str(attempts)},
        }
        removes = ["next_at"] if ended else []
        if then.retry_at is not None:
            sets["next_at"] = items.number(then.retry_at)
        if then.given_up is not None:
            sets["reason"] = {"S": then.given_up}
        if ended:
            sets["expires"] = items.seconds(now + self.policy.record_kept)
        if attempt is not None:
            sets |= {"status": {"N": str(attempt.status)}} if attempt.status is not None else {}
            sets |= {"error": {"S": attempt.error}} if attempt.error else {}
            removes += ["status"] if attempt.status is None else []
            removes += [] if attempt.error else ["error"]
            if ended:
                sets["last"] = {"B": msgspec.json.encode(attempt)}
        actions: list[dict[str, Any]] = [
            {
                "Update": {
                    "TableName": self.table,
                    "Key": items.delivery_key(entry.delivery),
                    **_update(sets, removes),
                    "ConditionExpression": "#state = :waiting AND #attempts = :before",
                }
            },
            self._without(subscription.id, entry),
        ]
        values = actions[0]["Update"]["ExpressionAttributeValues"]
        values |= {":waiting": {"S": DeliveryState.WAITING}, ":before": {"N": str(entry.attempts)}}
        if then.retry_at is not None and attempt is not None:
            again = replace(entry, due_at=then.retry_at, attempts=attempts)
            if not subscription.ordered:
                again = replace(again, key=items.due_sk(then.retry_at, entry.delivery))
            item = items.entry_item(subscription.id, again)
            if again.key == entry.key:
                actions[1] = {"Put": {"TableName": self.table, "Item": item}}
            else:
                actions.append({"Put": {"TableName": self.table, "Item": item}})
            actions.append({"Put": {"TableName": self.table, "Item": self._attempt_item(entry.delivery, attempt, now)}})
        return actions

    def _attempt_item(self, delivery: str, attempt: Attempt, now: datetime) -> dict[str, Any]:
        # It outlasts its delivery's record, which is kept from its end on, by nothing.
        expires = now + self.policy.expires + self.policy.record_kept
        return {
            **items.attempt_key(delivery, attempt.number),
            "attempt": {"B": msgspec.json.encode(attempt)},
            "expires": items.seconds(expires),
        }

    def _without(self, subscription: str, entry: Entry) -> dict[str, Any]:
        key = {"pk": items.due_pk(subscription), "sk": {"S": entry.key}}
        return {"Delete": {"TableName": self.table, "Key": key}}

    def _drop(self, subscription: str, entry: Entry) -> None:
        client = aws.dynamodb()
        found = client.get_item(TableName=self.table, Key=items.delivery_key(entry.delivery), ConsistentRead=True)
        item = found.get("Item")
        if item and item["state"]["S"] == DeliveryState.WAITING and int(item["attempts"]["N"]) == entry.attempts:
            return
        try:
            client.delete_item(
                TableName=self.table,
                Key={"pk": items.due_pk(subscription), "sk": {"S": entry.key}},
                ConditionExpression="attempts = :before",
                ExpressionAttributeValues={":before": {"N": str(entry.attempts)}},
            )
        except client.exceptions.ConditionalCheckFailedException:
            return

    # Sending again, and forgetting

    def send_again(self, delivery: str, *, ordered: bool) -> None:
        """Owes an ended delivery once more; raises NoSuchDelivery, StillWaiting, PayloadGone."""
        client = aws.dynamodb()
        item = self.item(delivery)
        if item["state"]["S"] == DeliveryState.WAITING:
            raise StillWaiting(f"delivery '{delivery}' waits for its next attempt")
        now = self._now()
        attempts = int(item["attempts"]["N"])
        body_key = item["body_key"]["S"]
        try:
            client.update_item(
                TableName=self.table,
                Key=_body_key(body_key),
                UpdateExpression="SET expires = :expires",
                ConditionExpression="attribute_exists(body)",
                ExpressionAttributeValues={":expires": items.seconds(now + self.policy.payload_kept)},
            )
        except client.exceptions.ConditionalCheckFailedException as error:
            raise PayloadGone(
                f"delivery '{delivery}': its body is kept for {self.policy.payload_days} days, or was erased"
            ) from error
        entry = Entry(
            delivery=delivery,
            key=items.due_sk(items.moment(item["created_at"]["N"]) if ordered else now, delivery),
            due_at=now,
            created_at=items.moment(item["created_at"]["N"]),
            expires_at=now + self.policy.expires,
            event=item["event"]["S"],
            source=item["source"]["S"],
            type=item["type"]["S"],
            subject=items.text(item, "subject"),
            body_key=body_key,
            attempts=attempts,
            base=attempts,
        )
        sets = {
            "state": {"S": DeliveryState.WAITING},
            "changed_at": items.number(now),
            "next_at": items.number(now),
            "sent_again": {"N": str(int(item.get("sent_again", {}).get("N", "0")) + 1)},
        }
        update = {
            "TableName": self.table,
            "Key": items.delivery_key(delivery),
            **_update(sets, ["reason", "expires", "last"]),
            "ConditionExpression": "#state = :before AND #attempts = :attempts",
        }
        update["ExpressionAttributeNames"]["#attempts"] = "attempts"
        update["ExpressionAttributeValues"] |= {":before": item["state"], ":attempts": item["attempts"]}
        actions: list[dict[str, Any]] = [
            {"Update": update},
            {"Put": {"TableName": self.table, "Item": items.entry_item(item["subscription"]["S"], entry)}},
        ]
        if "last" in item:
            last = items.attempt_of(item, "last")
            actions.append({"Put": {"TableName": self.table, "Item": self._attempt_item(delivery, last, now)}})
        if transact(actions, table=_TABLE):
            raise StillWaiting(f"delivery '{delivery}' was sent again at the same moment")

    def erase(self, delivery: str) -> None:
        """Erases what was sent of the delivery's event, to whomever, and what came back; the records stay.

        What still waits of it is given up. Raises NoSuchDelivery.
        """
        client = aws.dynamodb()
        item = self.item(delivery)
        expires = items.seconds(self._now() + self.policy.record_kept)
        # The key stays taken: the event, published again, must not bring the body back.
        client.put_item(
            TableName=self.table,
            Item={**_body_key(item["body_key"]["S"]), "erased": {"BOOL": True}, "expires": expires},
        )
        answer = client.query(
            TableName=self.table,
            IndexName=items.EVENTS_INDEX,
            KeyConditionExpression="event = :event",
            ExpressionAttributeValues={":event": item["event"]},
        )
        for each in answer["Items"]:
            self._erase_answers(each["pk"]["S"].removeprefix("delivery#"))

    def _erase_answers(self, delivery: str) -> None:
        client = aws.dynamodb()
        for item in self._items(delivery):
            name = "last" if item["sk"]["S"] == "delivery" else "attempt"
            if name not in item:
                continue
            attempt = replace(items.attempt_of(item, name), body="", headers={})
            client.update_item(
                TableName=self.table,
                Key={"pk": item["pk"], "sk": item["sk"]},
                UpdateExpression="SET #name = :attempt",
                ConditionExpression="#name = :before",
                ExpressionAttributeNames={"#name": name},
                ExpressionAttributeValues={":attempt": {"B": msgspec.json.encode(attempt)}, ":before": item[name]},
            )

    def item(self, delivery: str) -> items.Item:
        """A delivery's item; raises NoSuchDelivery."""
        found = (
            aws.dynamodb()
            .get_item(TableName=self.table, Key=items.delivery_key(delivery), ConsistentRead=True)
            .get("Item")
        )
        if found is None:
            raise NoSuchDelivery(f"there is no delivery '{delivery}'")
        return found

    def tries(self, delivery: str) -> tuple[Attempt, ...]:
        """Every attempt, the first one first."""
        found = []
        for item in self._items(delivery):
            name = "last" if item["sk"]["S"] == "delivery" else "attempt"
            if name in item:
                found.append(items.attempt_of(item, name))
        return tuple(sorted(found, key=lambda attempt: attempt.number))

    def _items(self, delivery: str) -> list[items.Item]:
        pages = (
            aws.dynamodb()
            .get_paginator("query")
            .paginate(
                TableName=self.table,
                KeyConditionExpression="pk = :pk",
                ExpressionAttributeValues={":pk": items.delivery_key(delivery)["pk"]},
                ConsistentRead=True,
            )
        )
        return [item for page in pages for item in page["Items"]]


def _lease(lease: str, item: items.Item) -> Lease:
    signals = msgspec.json.decode(item["signals"]["B"], type=tuple[Signal, ...]) if "signals" in item else ()
    return Lease(
        id=lease,
        record=items.record_of(item),
        health=items.health_of(item),
        free_at=items.moment(item["free_at"]["N"]) if "free_at" in item else None,
        token_at=items.moment(item["token_at"]["N"]) if "token_at" in item else None,
        signals=signals,
        deleted="deleted" in item,
    )


def _body_key(key: str) -> dict[str, Any]:
    return {"pk": {"S": key}, "sk": {"S": "body"}}


def _update(sets: dict[str, Any], removes: Sequence[str]) -> dict[str, Any]:
    """An update expression; every name is aliased, since several are reserved words."""
    names = {f"#{name}": name for name in (*sets, *removes)}
    text = "SET " + ", ".join(f"#{name} = :{name}" for name in sets)
    if removes:
        text += " REMOVE " + ", ".join(f"#{name}" for name in removes)
    return {
        "UpdateExpression": text,
        "ExpressionAttributeNames": names,
        "ExpressionAttributeValues": {f":{name}": value for name, value in sets.items()},
    }
