"""How subscriptions, endpoints and deliveries stand in their table: keys and encoding."""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import Any, Final

import msgspec
from msgspec import Struct

from offload.contracts.webhooks_out.subscription import (
    Attempt,
    Delivery,
    DeliveryState,
    Health,
    Subscription,
    SubscriptionState,
    Why,
)
from offload.runtime.webhooks_out.health import EndpointHealth, to_pause

Item = Mapping[str, Any]

SUBSCRIPTIONS: Final = "subscriptions"
DELETED: Final = "subscriptions#deleted"
# Each turn of an endpoint writes its place in the index of those to be looked at, which is in order of time: on one
# partition key, prod's 50 senders would write more than it takes (docs/partitions.md has the sum).
WAKE_SHARDS: Final = 8
LISTED_INDEX: Final = "listed"
EVENTS_INDEX: Final = "events"
WAKE_INDEX: Final = "wake"

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


class Record(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A subscription as it is kept. `sealed` is a Holding; `revision` counts its changes."""

    id: str
    tenant: str
    url: str
    types: tuple[str, ...]
    state: SubscriptionState = SubscriptionState.ACTIVE
    reason: Why | None = None
    filter: dict[str, Any] | None = None
    header_names: tuple[str, ...] = ()
    rate: int | None = None
    ordered: bool = False
    public_key: str | None = None
    description: str = ""
    tags: tuple[str, ...] = ()
    created_at: datetime
    changed_at: datetime
    revision: int = 1
    digest: str = ""
    secrets: int = 1
    sealed: bytes = b""

    def shown(self, health: EndpointHealth, now: datetime, pause_after: timedelta) -> Subscription:
        """The subscription as the API shows it."""
        since = health.failing_since
        parked = health.parked_until if health.parked_until and health.parked_until > now else None
        return Subscription(
            id=self.id,
            tenant=self.tenant,
            url=self.url,
            types=self.types,
            state=self.state,
            reason=self.reason,
            filter=self.filter,
            headers=self.header_names,
            rate=self.rate,
            ordered=self.ordered,
            public_key=self.public_key,
            secrets=self.secrets,
            description=self.description,
            tags=self.tags,
            created_at=self.created_at,
            changed_at=self.changed_at,
            health=Health(
                failure_rate=health.failure_rate,
                failing_since=since,
                to_pause=to_pause(since, now, pause_after) if since else 0,
                parked_until=parked,
            ),
        )


class KeptSecret(Struct, frozen=True, kw_only=True):
    """One secret of a subscription; after `until` it signs no more, never when that is None."""

    value: bytes
    until: datetime | None = None

    def __repr__(self) -> str:
        return f"KeptSecret(until={self.until})"


class Holding(Struct, frozen=True, kw_only=True):
    """What a subscription holds in secret: the newest secret first, private keys of ed25519, values of own headers."""

    secrets: tuple[KeptSecret, ...]
    seeds: tuple[bytes, ...] = ()
    headers: dict[str, str] = {}

    def __repr__(self) -> str:
        return f"Holding({len(self.secrets)} secrets)"

    def active(self, now: datetime) -> tuple[bytes, ...]:
        """The secrets that sign at this moment."""
        return tuple(each.value for each in self.secrets if each.until is None or now < each.until)


class Entry(Struct, frozen=True, kw_only=True):
    """A delivery's place among those that wait: when it is due, and all that an attempt needs but the body."""

    delivery: str
    key: str
    due_at: datetime
    created_at: datetime
    expires_at: datetime
    event: str
    source: str
    type: str
    subject: str
    body_key: str
    attempts: int
    base: int
    """How many attempts there were when it was last asked for: the schedule counts from there."""


def milliseconds(moment: datetime) -> int:
    """A moment in milliseconds since 1970."""
    return (moment - _EPOCH) // timedelta(milliseconds=1)


def seconds(value: datetime) -> dict[str, str]:
    """A moment as the seconds at which DynamoDB lets an item expire."""
    return {"N": str(int(value.timestamp()))}


def moment(value: int | str) -> datetime:
    """The moment of so many milliseconds since 1970."""
    return _EPOCH + timedelta(milliseconds=int(value))


def number(value: datetime) -> dict[str, str]:
    """A moment as DynamoDB's number."""
    return {"N": str(milliseconds(value))}


def delivery_id(subscription: str, source: str, event: str) -> str:
    """The id of the one delivery of an event to a subscription."""
    return f"dlv_{_digest(subscription, source, event)}"


def body_key(source: str, event: str) -> str:
    """The partition of an event's body."""
    return f"body#{_digest(source, event)}"


def record_key(subscription: str) -> dict[str, Any]:
    """The key of a subscription among all of them."""
    return {"pk": {"S": SUBSCRIPTIONS}, "sk": {"S": subscription}}


def deleted_key(subscription: str) -> dict[str, Any]:
    """The key of a subscription among those that were deleted."""
    return {"pk": {"S": DELETED}, "sk": {"S": subscription}}


def recovery_key(replay: str) -> dict[str, Any]:
    """The key of what a replay is for."""
    return {"pk": {"S": f"recovery#{replay}"}, "sk": {"S": "recovery"}}


VERSION_KEY: Final[dict[str, Any]] = {"pk": {"S": "subscriptions#version"}, "sk": {"S": "version"}}
"""The key of the count of all changes of subscriptions."""


def endpoint_key(subscription: str) -> dict[str, Any]:
    """The key of a subscription's endpoint: its health, and who sends to it now."""
    return {"pk": {"S": f"endpoint#{subscription}"}, "sk": {"S": "endpoint"}}


def delivery_key(delivery: str) -> dict[str, Any]:
    """The key of a delivery."""
    return {"pk": {"S": f"delivery#{delivery}"}, "sk": {"S": "delivery"}}


def attempt_key(delivery: str, number_: int) -> dict[str, Any]:
    """The key of an attempt that was not the last."""
    return {"pk": {"S": f"delivery#{delivery}"}, "sk": {"S": f"attempt#{number_:06d}"}}


def wake_in(shard: int) -> dict[str, Any]:
    """A partition of the endpoints that are to be looked at."""
    return {"S": f"wake#{shard}"}


def wake_of(subscription: str) -> dict[str, Any]:
    """The partition that an endpoint lies in when it is to be looked at."""
    return wake_in(zlib.crc32(subscription.encode()) % WAKE_SHARDS)


def due_pk(subscription: str) -> dict[str, str]:
    """The partition of what waits for a subscription."""
    return {"S": f"due#{subscription}"}


def due_sk(at: datetime, delivery: str) -> str:
    """A place among what waits: by time."""
    return f"{milliseconds(at):015d}#{delivery}"


def entry_of(item: Item) -> Entry:
    """What waits, from its item."""
    return Entry(
        delivery=item["delivery"]["S"],
        key=item["sk"]["S"],
        due_at=moment(item["due_at"]["N"]),
        created_at=moment(item["created_at"]["N"]),
        expires_at=moment(item["expires_at"]["N"]),
        event=item["event"]["S"],
        source=item["source"]["S"],
        type=item["type"]["S"],
        subject=text(item, "subject"),
        body_key=item["body_key"]["S"],
        attempts=int(item["attempts"]["N"]),
        base=int(item["base"]["N"]),
    )


def entry_item(subscription: str, entry: Entry) -> dict[str, Any]:
    """The item of what waits."""
    return {
        "pk": due_pk(subscription),
        "sk": {"S": entry.key},
        "delivery": {"S": entry.delivery},
        "due_at": number(entry.due_at),
        "created_at": number(entry.created_at),
        "expires_at": number(entry.expires_at),
        "event": {"S": entry.event},
        "source": {"S": entry.source},
        "type": {"S": entry.type},
        "body_key": {"S": entry.body_key},
        "attempts": {"N": str(entry.attempts)},
        "base": {"N": str(entry.base)},
        **({"subject": {"S": entry.subject}} if entry.subject else {}),
    }


def delivery_of(item: Item) -> Delivery:
    """A delivery as the API shows it, without attempts and body."""
    return Delivery(
        id=item["pk"]["S"].removeprefix("delivery#"),
        subscription=item["subscription"]["S"],
        tenant=item["tenant"]["S"],
        event=item["event"]["S"],
        source=item["source"]["S"],
        type=item["type"]["S"],
        subject=text(item, "subject"),
        state=DeliveryState(item["state"]["S"]),
        reason=Why(item["reason"]["S"]) if "reason" in item else None,
        created_at=moment(item["created_at"]["N"]),
        changed_at=moment(item["changed_at"]["N"]),
        attempts=int(item["attempts"]["N"]),
        status=int(item["status"]["N"]) if "status" in item else None,
        error=text(item, "error"),
        next_at=moment(item["next_at"]["N"]) if "next_at" in item else None,
        sent_again=int(item["sent_again"]["N"]) if "sent_again" in item else 0,
    )


def attempt_of(item: Item, name: str = "attempt") -> Attempt:
    """An attempt from its bytes."""
    return msgspec.json.decode(item[name]["B"], type=Attempt)


def record_of(item: Item) -> Record:
    """A subscription from its bytes."""
    return msgspec.json.decode(item["record"]["B"], type=Record)


def health_of(item: Item) -> EndpointHealth:
    """An endpoint's health from its bytes; that of a new one where there is none yet."""
    return msgspec.json.decode(item["health"]["B"], type=EndpointHealth) if "health" in item else EndpointHealth()


def text(item: Item, name: str) -> str:
    """A text attribute, empty when it is not there."""
    return str(item.get(name, {}).get("S", ""))


def _digest(*parts: str) -> str:
    return sha256("\0".join(parts).encode()).hexdigest()[:32]
