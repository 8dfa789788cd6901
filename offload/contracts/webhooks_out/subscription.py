"""Subscriptions and deliveries as the API shows them, and how a subscription is asked for."""

from __future__ import annotations

from datetime import timedelta
from enum import StrEnum
from typing import Annotated, Any, Final

from msgspec import UNSET, Meta, Raw, Struct, UnsetType

from offload.contracts.events.event import Id, Moment
from offload.contracts.webhooks_out.tenants import NO_TENANT

RETRY_SCHEDULE: Final[tuple[timedelta, ...]] = (
    timedelta(seconds=5),
    timedelta(minutes=5),
    timedelta(minutes=30),
    timedelta(hours=2),
    timedelta(hours=5),
    timedelta(hours=10),
    timedelta(hours=14),
    timedelta(hours=20),
    timedelta(hours=24),
)
"""The wait after each attempt, before the next: what the Standard Webhooks specification advises to senders
(github.com/standard-webhooks/standard-webhooks, spec/standard-webhooks.md, read 2026-11-23). Ten attempts in three
days; an environment's file may have another."""

# Recommended is less than 20 kB (the same specification). What is larger is not read by most receivers' frameworks.
LONGEST_BODY: Final = 256 * 1024
KEPT_OF_ANSWER: Final = 1024  # bytes of a receiver's answer that an attempt keeps
MOST_HEADERS: Final = 20
LONGEST_RATE: Final = 1000
MOST_SECRETS: Final = 5

NO_RETRY_HEADER: Final = "webhook-retry"
"""The receiver's answer ends a delivery with `webhook-retry: no`, whatever its status is."""

Tag = Annotated[str, Meta(min_length=1, max_length=128)]
Tenant = Annotated[str, Meta(min_length=1, max_length=128, pattern=r"^[A-Za-z0-9_.:@-]+\Z")]
Pattern = Annotated[str, Meta(min_length=1, max_length=256)]
Url = Annotated[str, Meta(min_length=1, max_length=2048)]
HeaderName = Annotated[str, Meta(min_length=1, max_length=64, pattern=r"^[A-Za-z0-9-]+\Z")]
HeaderValue = Annotated[str, Meta(max_length=1024, pattern=r"^[ -~]*\Z")]
Rate = Annotated[int, Meta(ge=1, le=LONGEST_RATE)]


class SubscriptionState(StrEnum):
    """Whether a subscription's deliveries are sent. What is owed to a paused one waits."""

    ACTIVE = "active"
    PAUSED = "paused"


class DeliveryState(StrEnum):
    """Where a delivery is: it waits for its next attempt, or has one of its two ends."""

    WAITING = "waiting"
    DELIVERED = "delivered"
    GIVEN_UP = "given_up"


class Why(StrEnum):
    """Why a delivery was given up, or a subscription paused."""

    ATTEMPTS_EXHAUSTED = "attempts-exhausted"
    GONE = "gone"
    RECEIVER_SAID_NO = "receiver-said-no"
    EXPIRED = "expired"
    SUBSCRIPTION_DELETED = "subscription-deleted"
    BODY_TOO_LARGE = "body-too-large"
    PAYLOAD_ERASED = "payload-erased"
    ANOTHER_TENANTS = "another-tenants"
    FAILING = "failing"
    BY_REQUEST = "by-request"


class Wish(Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """What is asked for with a subscription.

    `url` is an HTTPS address, or the ARN of an SQS queue or an EventBridge bus. `tenant` is whose it is: it is told of
    that tenant's events and of everybody's; without one it is the operators', and is told of all tenants'. `types` are
    event types, prefixes (`order.*`) or `*`; `filter` narrows them by fields of the data. `secret` is brought along
    (`whsec_…`), or made. `rate` is deliveries a second. `ordered` lets the deliveries of one subject wait for those
    before them. `ed25519` signs with a key pair too (Standard Webhooks `v1a`).
    """

    url: Url
    types: Annotated[tuple[Pattern, ...], Meta(min_length=1, max_length=50)]
    tenant: Tenant = NO_TENANT
    filter: dict[str, Any] | None = None
    secret: Annotated[str, Meta(max_length=256)] | None = None
    headers: Annotated[dict[HeaderName, HeaderValue], Meta(max_length=MOST_HEADERS)] = {}
    rate: Rate | None = None
    ordered: bool = False
    ed25519: bool = False
    description: Annotated[str, Meta(max_length=1000)] = ""
    tags: Annotated[tuple[Tag, ...], Meta(max_length=20)] = ()


class Change(Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """What is changed of a subscription; what is left out stays."""

    url: Url | UnsetType = UNSET
    types: Annotated[tuple[Pattern, ...], Meta(min_length=1, max_length=50)] | UnsetType = UNSET
    filter: dict[str, Any] | UnsetType | None = UNSET
    headers: Annotated[dict[HeaderName, HeaderValue], Meta(max_length=MOST_HEADERS)] | UnsetType = UNSET
    rate: Rate | UnsetType | None = UNSET
    description: Annotated[str, Meta(max_length=1000)] | UnsetType = UNSET
    tags: Annotated[tuple[Tag, ...], Meta(max_length=20)] | UnsetType = UNSET


class Health(Struct, frozen=True, kw_only=True):
    """How an endpoint fares: `failure_rate` of its latest attempts, the newest counting most, from 0 to 1.

    `to_pause` is how far it is on the way to the pause, in percent. `parked_until` is when it is tried again.
    """

    failure_rate: float = 0.0
    failing_since: Moment | None = None
    to_pause: int = 0
    parked_until: Moment | None = None


class Subscription(Struct, frozen=True, kw_only=True):
    """A subscription as it stands. Secrets and headers' values are shown to nobody; `public_key` verifies `v1a`."""

    id: Id
    tenant: str
    url: str
    types: tuple[str, ...]
    state: SubscriptionState
    reason: Why | None = None
    filter: dict[str, Any] | None = None
    headers: tuple[str, ...] = ()
    rate: int | None = None
    ordered: bool = False
    public_key: str | None = None
    secrets: int = 1
    description: str = ""
    tags: tuple[str, ...] = ()
    created_at: Moment
    changed_at: Moment
    health: Health = Health()


class Created(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A new subscription. The secret is in this answer and in no other."""

    subscription: Subscription
    secret: str | None = None


class Rotated(Struct, frozen=True, kw_only=True):
    """The new secret, in this answer and in no other; until `old_until` deliveries are signed with the old ones too."""

    subscription: Subscription
    secret: str
    old_until: Moment


class Attempt(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One attempt: what came back within the limits, or `error`, why nothing did.

    `body` is the first KiB of the answer. `duration_ms` is from the first look-up of the name to the last byte read.
    """

    number: int
    at: Moment
    duration_ms: int
    status: int | None = None
    error: str = ""
    headers: dict[str, str] = {}
    body: str = ""
    url: str = ""

    @property
    def succeeded(self) -> bool:
        """Whether the receiver took it: 2xx, as the Standard Webhooks specification has it."""
        return self.status is not None and 200 <= self.status < 300


class Delivery(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One event that is owed to one subscription. `status` is of the latest answer; `next_at` of the next attempt."""

    id: Id
    subscription: Id
    tenant: str
    event: Id
    source: str
    type: str
    subject: str = ""
    state: DeliveryState
    reason: Why | None = None
    created_at: Moment
    changed_at: Moment
    attempts: int = 0
    status: int | None = None
    error: str = ""
    next_at: Moment | None = None
    sent_again: int = 0
    tries: tuple[Attempt, ...] | UnsetType = UNSET
    body: Raw | UnsetType = UNSET
