"""The table of deliveries: a webhook is safe once its item is there, and owed to the bus until the item says otherwise.

One item a delivery, under the key by which a second one is known; it holds the event, packed, until the bus has it. One
item a body whose sender signs no delivery id, with its variants. One item a refusal, for a week. One counter a source
and minute. `offload/cdk/constructs/webhook_entry.py` makes the table.
"""

from __future__ import annotations

import base64
import heapq
import os
import time
import zlib
from collections.abc import Iterator
from enum import StrEnum
from typing import Any, Final

from msgspec import Struct

from offload.contracts.events.entry import Entry
from offload.contracts.webhooks_in.received import MOST_VARIANTS, body_key
from offload.contracts.webhooks_in.shards import SHARDS, listed_in, owed_in, shard_of
from offload.runtime.lean_aws import AwsRefused, Service

# DynamoDB: 400 KB an item (Constraints.html, read 2026-11-23); the rest of a delivery takes some 2 KB.
MOST_PACKED: Final = 350 * 1024
REFUSALS_KEPT: Final = 7 * 24 * 3600  # seconds
_COUNTERS_KEPT: Final = 3600  # seconds
_DETAIL_LENGTH: Final = 300
_MOST_OTHER_IDS: Final = 20

Item = dict[str, Any]


class Kept(StrEnum):
    """What became of a delivery that was to be kept."""

    NEW = "accepted"
    DUPLICATE = "duplicate"


class Admission(StrEnum):
    """Whether a delivery whose sender signs no id is one of those of its body that may be kept."""

    ADMITTED = "admitted"
    KEPT_BEFORE = "kept-before"
    """It is kept already, under its body alone: by a version that did not tell topics and accounts apart."""
    TOO_MANY = "too-many"
    """Its body came under as many others as are taken."""


class Delivery(Struct, frozen=True, kw_only=True):
    """A verified webhook as the table has it; `received_at` in milliseconds since 1970, `expires` in seconds."""

    provider: str
    key: str
    endpoint: str
    delivery_id: str
    event_type: str
    account: str
    event_id: str
    type: str
    scheme: str
    key_id: str
    body_sha256: str
    bytes: int
    source: str
    received_at: int
    expires: int | None

    @property
    def keys(self) -> Item:
        """Where it is."""
        return delivery_keys(self.provider, self.key)


class Owed(Struct, frozen=True):
    """A delivery that the bus has not taken yet; `since` in milliseconds since 1970."""

    keys: Item
    since: int


def delivery_keys(provider: str, key: str) -> Item:
    """Where a delivery is."""
    return {"pk": {"S": f"delivery#{provider}#{key}"}, "sk": {"S": "delivery"}}


def pack(entry: Entry) -> bytes | None:
    """The event as an item holds it; None when it is too large for one."""
    packed = zlib.compress(entry.detail)
    return packed if len(packed) <= MOST_PACKED else None


class Deliveries:
    """The table `name`. Every call takes the seconds that it may last, and raises AwsRefused and AwsUnreachable."""

    def __init__(self, name: str, dynamodb: Service) -> None:
        self._name = name
        self._dynamodb = dynamodb

    def admit(self, delivery: Delivery, variant: str, *, within: float) -> Admission:
        """Counts a delivery whose sender signs no id among those of its body, of which there are MOST_VARIANTS.

        One that was counted before is admitted again. The count is in an item of the body's own, without a place in the
        indexes.
        """
        values: Item = {":variant": {"S": variant}, ":variants": {"SS": [variant]}, ":most": _number(MOST_VARIANTS)}
        update = "ADD variants :variants"
        if delivery.expires is not None:
            update += " SET expires = :expires"
            values[":expires"] = _number(delivery.expires)
        try:
            answer = self._call(
                "UpdateItem",
                {
                    "Key": delivery_keys(delivery.provider, body_key(delivery.body_sha256)),
                    "UpdateExpression": update,
                    "ConditionExpression": "attribute_not_exists(variants) OR contains(variants, :variant) "
                    "OR size(variants) < :most",
                    "ExpressionAttributeValues": values,
                    "ReturnValues": "ALL_OLD",
                },
                within,
            )
        except AwsRefused as refused:
            if refused.code != "ConditionalCheckFailedException":
                raise
            return Admission.TOO_MANY
        before = answer.get("Attributes", {})
        same = all(before.get(name, {}).get("S", "") == getattr(delivery, name) for name in ("endpoint", "event_type"))
        return Admission.KEPT_BEFORE if "receipt" in before and same else Admission.ADMITTED

    def keep(self, delivery: Delivery, packed: bytes, *, within: float) -> Kept:
        """Keeps a delivery, owed to the bus, unless it is there.

        It is one conditional write, so of two that come at the same moment one is new. A write whose answer was lost
        and that is tried again finds itself, by its receipt, and is new.
        """
        receipt = os.urandom(12).hex()
        shard = shard_of(delivery.key)
        item: Item = {
            **delivery.keys,
            "shown": {"S": listed_in(delivery.provider, shard)},
            "listed": {"S": f"{delivery.received_at:013d}#{delivery.key}"},
            "outcome": {"S": "accepted"},
            **{name: {"S": getattr(delivery, name)} for name in _TEXTS if getattr(delivery, name)},
            "bytes": _number(delivery.bytes),
            "received_at": _number(delivery.received_at),
            "receipt": {"S": receipt},
            "owed": {"S": owed_in(shard)},
            "owed_at": _number(delivery.received_at),
            "entry": {"B": base64.b64encode(packed).decode()},
        }
        if delivery.expires is not None:
            item["expires"] = _number(delivery.expires)
        try:
            self._call(
                "PutItem",
                {
                    "Item": item,
                    "ConditionExpression": "attribute_not_exists(pk)",
                    "ReturnValuesOnConditionCheckFailure": "ALL_OLD",
                },
                within,
            )
        except AwsRefused as refused:
            if refused.code != "ConditionalCheckFailedException":
                raise
            there = refused.document.get("Item", {}).get("receipt", {}).get("S")
            return Kept.NEW if there == receipt else Kept.DUPLICATE
        return Kept.NEW

    def published(self, keys: Item, *, at: int, within: float) -> None:
        """Notes that the bus has it, at so many milliseconds since 1970, and lets go of the event."""
        self._call(
            "UpdateItem",
            {
                "Key": keys,
                "UpdateExpression": "SET published_at = :at REMOVE owed, owed_at, #entry",
                "ConditionExpression": "attribute_exists(pk)",
                "ExpressionAttributeNames": {"#entry": "entry"},
                "ExpressionAttributeValues": {":at": _number(at)},
            },
            within,
        )

    def came_again(self, delivery: Delivery, *, at: int, within: float) -> None:
        """Counts another copy of a delivery, under which id it came as well, for a few ids."""
        until = time.monotonic() + within
        counted = {
            "Key": delivery.keys,
            "UpdateExpression": "ADD duplicates :one SET last_at = :at",
            "ConditionExpression": "attribute_exists(pk)",
            "ExpressionAttributeValues": {":one": _number(1), ":at": _number(at)},
        }
        named = {
            **counted,
            "UpdateExpression": "ADD duplicates :one, other_ids :ids SET last_at = :at",
            # Who replays a request could fill the item with ids.
            "ConditionExpression": "attribute_exists(pk) AND delivery_id <> :id "
            "AND (attribute_not_exists(other_ids) OR size(other_ids) < :most)",
            "ExpressionAttributeValues": {
                ":one": _number(1),
                ":at": _number(at),
                ":id": {"S": delivery.delivery_id},
                ":ids": {"SS": [delivery.delivery_id]},
                ":most": _number(_MOST_OTHER_IDS),
            },
        }
        try:
            self._call("UpdateItem", named, within)
        except AwsRefused as refused:
            if refused.code != "ConditionalCheckFailedException":
                raise
            self._call("UpdateItem", counted, until - time.monotonic())

    def refused(self, fields: dict[str, Any], *, at: int, within: float) -> None:
        """Keeps a refusal for a week, at so many milliseconds since 1970.

        `fields` are its provider, endpoint, reason, status, detail, source and after_rotation.
        """
        nonce = os.urandom(8).hex()
        item: Item = {
            "pk": {"S": f"refused#{fields['provider']}#{nonce}"},
            "sk": {"S": "refused"},
            "shown": {"S": listed_in(fields["provider"], shard_of(nonce))},
            "listed": {"S": f"{at:013d}#{nonce}"},
            "outcome": {"S": "refused"},
            **{
                name: {"S": str(fields[name])[:_DETAIL_LENGTH]}
                for name in ("provider", "endpoint", "reason", "detail", "source")
                if fields[name]
            },
            "status": _number(fields["status"]),
            "after_rotation": {"BOOL": fields["after_rotation"]},
            "received_at": _number(at),
            "expires": _number(at // 1000 + REFUSALS_KEPT),
        }
        self._call("PutItem", {"Item": item}, within)

    def count_refusal(self, source: str, minute: int, *, within: float) -> int:
        """Adds one to what a source was refused in a minute (since 1970); how often that makes."""
        answer = self._call(
            "UpdateItem",
            {
                "Key": {"pk": {"S": f"source#{source}"}, "sk": {"S": str(minute)}},
                "UpdateExpression": "ADD #count :one SET expires = :expires",
                "ExpressionAttributeNames": {"#count": "count"},
                "ExpressionAttributeValues": {":one": _number(1), ":expires": _number(minute * 60 + _COUNTERS_KEPT)},
                "ReturnValues": "UPDATED_NEW",
            },
            within,
        )
        return int(answer["Attributes"]["count"]["N"])

    def owed(self, *, before: int, within: float) -> Iterator[Owed]:
        """What is owed since before so many milliseconds since 1970, the oldest first over all shards."""
        until = time.monotonic() + within
        shards = [self._owed(shard, before, until) for shard in range(SHARDS)]
        yield from heapq.merge(*shards, key=lambda owed: owed.since)

    def _owed(self, shard: int, before: int, until: float) -> Iterator[Owed]:
        start: Item | None = None
        while True:
            request: dict[str, Any] = {
                "IndexName": "owed",
                "KeyConditionExpression": "owed = :owed AND owed_at < :before",
                "ExpressionAttributeValues": {":owed": {"S": owed_in(shard)}, ":before": _number(before)},
            }
            if start:
                request["ExclusiveStartKey"] = start
            page = self._call("Query", request, until - time.monotonic())
            for item in page.get("Items", ()):
                yield Owed({"pk": item["pk"], "sk": item["sk"]}, int(item["owed_at"]["N"]))
            start = page.get("LastEvaluatedKey")
            if not start:
                return

    def entry(self, keys: Item, *, within: float) -> Entry | None:
        """The event of a delivery that is owed; None when it is not any more."""
        answer = self._call("GetItem", {"Key": keys, "ConsistentRead": True}, within)
        packed = answer.get("Item", {}).get("entry", {}).get("B")
        return Entry.read(zlib.decompress(base64.b64decode(packed))) if packed else None

    def _call(self, action: str, request: dict[str, Any], within: float) -> dict[str, Any]:
        return self._dynamodb.call(action, {"TableName": self._name, **request}, within=within)


_TEXTS: Final = (
    "provider",
    "endpoint",
    "delivery_id",
    "event_type",
    "account",
    "event_id",
    "type",
    "scheme",
    "key_id",
    "body_sha256",
    "source",
)


def _number(value: int) -> Item:
    return {"N": str(value)}
