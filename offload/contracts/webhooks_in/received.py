"""What a third party's webhook becomes: an event on the bus, `webhook.received.PROVIDER.TYPE`.

A consumer of one kind of webhook has a contract of its own, which only names the type:

    class Published(WebhookReceived, frozen=True, kw_only=True):
        TYPE: ClassVar[str] = received_type("github", "release.published")
"""

from __future__ import annotations

import re
from datetime import datetime
from hashlib import sha256
from typing import ClassVar, Final, TypeVar

import msgspec
from msgspec import UNSET, Raw, UnsetType

from offload.contracts.events.event import BrokenContract, EventData, Id, Moment

PREFIX: Final = "webhook.received"
UNKNOWN: Final = "unknown"
# EventBridge: 128 characters of a detail-type (API_PutEventsRequestEntry, read 2026-11-27).
LONGEST_TYPE: Final = 128
_NOT_IN_TYPES: Final = re.compile(r"[^A-Za-z0-9_-]+")
# An event's id has 256 characters at most; a longer delivery id is told by its hash.
_LONGEST_KEY: Final = 150
# Of SHA-256 in hex: nobody finds other names with the same.
_VARIANT_LENGTH: Final = 32

MOST_VARIANTS: Final = 20
"""Of one body whose sender signs no delivery id, how many topics, accounts and endpoints are taken: an event each.

None of the three is signed: this bounds what a replayer of one request gains by changing them."""

_BodyT = TypeVar("_BodyT")


class WebhookReceived(EventData, frozen=True, kw_only=True):
    """A webhook whose signature held.

    `payload` is the body's JSON as received, or the JSON in the field `payload` of a form; any other body is `text`, as
    received. `event_type`, `account` (the store, the workspace) and `delivery_id` are as the sender wrote them; where
    they are not `..._signed`, anyone who has one signed request can change them, and the `endpoint` too. `key_id` names
    the secret by which the signature held.
    """

    TYPE: ClassVar[str] = PREFIX
    SOURCE: ClassVar[str] = "offload.webhooks"

    provider: Id
    endpoint: str = ""
    event_type: str = ""
    event_type_signed: bool = False
    account: str = ""
    account_signed: bool = False
    delivery_id: Id
    delivery_id_signed: bool
    scheme: Id
    key_id: Id
    body_sha256: Id
    received_at: Moment
    signed_at: Moment | None = None
    content_type: str = ""
    payload: Raw | UnsetType = UNSET
    text: str | UnsetType = UNSET

    @property
    def key(self) -> str:
        """Provider and delivery."""
        identified = is_identified(self.delivery_id, self.body_sha256, signed=self.delivery_id_signed)
        variant = variant_of(self.endpoint, self.event_type, self.account)
        return f"{self.provider}:{id_key(self.delivery_id) if identified else body_key(self.body_sha256, variant)}"

    @property
    def subject(self) -> str:
        """The delivery, as the sender calls it."""
        return self.delivery_id

    @property
    def occurred_at(self) -> datetime:
        """When the sender signed it, where it signs a time; else when it came."""
        return self.signed_at or self.received_at

    def read(self, kind: type[_BodyT]) -> _BodyT:
        """The body's JSON as `kind`; raises BrokenContract naming the field."""
        content: bytes | str | Raw = self.text if isinstance(self.payload, UnsetType) else self.payload  # type: ignore[assignment]
        if isinstance(content, UnsetType):
            raise BrokenContract("payload: missing")
        try:
            return msgspec.json.decode(content, type=kind)
        except (msgspec.MsgspecError, UnicodeError, RecursionError) as error:
            raise BrokenContract(f"payload: {error}") from error


def received_type(provider: str, event_type: str | None) -> str:
    """The event's type for what a sender calls `event_type`: what is no letter, digit, `_` or `-` becomes a full stop.

    Of a type that the bus could not carry, and of none, it is `webhook.received.PROVIDER.unknown`; the event's data
    has it as the sender wrote it.
    """
    plain = _NOT_IN_TYPES.sub(".", event_type or "").strip(".")
    name = f"{PREFIX}.{provider}.{plain or UNKNOWN}"
    return name if len(name) <= LONGEST_TYPE else f"{PREFIX}.{provider}.{UNKNOWN}"


def is_identified(delivery_id: str, body_sha256: str, *, signed: bool) -> bool:
    """Whether a delivery is known by its id: the sender signs one, which its body's hash is not.

    A delivery id that is not signed can be changed by anyone who has the body and its signature. Such a delivery is
    known by its body, so that no other id brings its event again, and no other body takes its id.
    """
    return signed and delivery_id != body_sha256


def id_key(delivery_id: str) -> str:
    """By what a second delivery is known whose sender signs its id."""
    return delivery_id if len(delivery_id) <= _LONGEST_KEY else f"id-{sha256(delivery_id.encode()).hexdigest()}"


def body_key(body_sha256: str, variant: str = "") -> str:
    """By what a second delivery is known whose sender signs no id: its body, and which `variant_of` it.

    Without a variant it is what all deliveries of this body have in common.
    """
    return f"sha256-{body_sha256}-{variant}" if variant else f"sha256-{body_sha256}"


def variant_of(endpoint: str, event_type: str, account: str) -> str:
    """What tells apart the deliveries of one body: to two endpoints, of two topics, of two accounts."""
    return sha256("\0".join((endpoint, event_type, account)).encode()).hexdigest()[:_VARIANT_LENGTH]


def event_id(provider: str, key: str) -> str:
    """The event's id."""
    return f"{PREFIX}:{provider}:{key}"
