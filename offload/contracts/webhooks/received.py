"""What a third party's webhook becomes: an event on the bus, `webhook.received.PROVIDER.TYPE`.

A consumer of one kind of webhook has a contract of its own, which only names the type:

    class ReleasePublished(WebhookReceived, frozen=True, kw_only=True):
        TYPE: ClassVar[str] = received_type("github", "release.published")
"""

from __future__ import annotations

import re
from datetime import datetime
from hashlib import sha256
from typing import ClassVar, Final, TypeVar

import msgspec
from msgspec import UNSET, Raw, UnsetType

from offload.contracts.event import BrokenContract, EventData, Id, Moment

PREFIX: Final = "webhook.received"
UNKNOWN: Final = "unknown"
# EventBridge: 128 characters of a detail-type (API_PutEventsRequestEntry, read 2026-11-27).
LONGEST_TYPE: Final = 128
_NOT_IN_TYPES: Final = re.compile(r"[^A-Za-z0-9_-]+")
# An event's id has 256 characters at most; a longer delivery id is told by its hash.
_LONGEST_KEY: Final = 150

_BodyT = TypeVar("_BodyT")


class WebhookReceived(EventData, frozen=True, kw_only=True):
    """A webhook whose signature held.

    `payload` is the body's JSON as received, or the JSON in the field `payload` of a form; any other body is `text`, as
    received. `event_type` and `delivery_id` are as the sender wrote them; where they are not `..._signed`, whoever has
    one signed request can change them. `key_id` names the secret by which the signature held.
    """

    TYPE: ClassVar[str] = PREFIX
    SOURCE: ClassVar[str] = "offload.webhooks"

    provider: Id
    endpoint: str = ""
    event_type: str = ""
    event_type_signed: bool = False
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
        return f"{self.provider}:{delivery_key(self.delivery_id, self.body_sha256, signed=self.delivery_id_signed)}"

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


def delivery_key(delivery_id: str, body_sha256: str, *, signed: bool) -> str:
    """By what a second delivery is known.

    A delivery id that is not signed can be changed by whoever has the body and its signature: then the body alone is
    the key, so that no other id brings its event again, and no other body takes its id.
    """
    if not signed:
        return f"sha256-{body_sha256}"
    return delivery_id if len(delivery_id) <= _LONGEST_KEY else f"id-{sha256(delivery_id.encode()).hexdigest()}"


def event_id(provider: str, key: str) -> str:
    """The event's id."""
    return f"{PREFIX}:{provider}:{key}"
