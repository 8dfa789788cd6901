"""What a third party receives: the body of a webhook, as the Standard Webhooks specification advises."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Final

import msgspec
from msgspec import UNSET, Raw, Struct, UnsetType

from offload.contracts.events.event import Event

TEST_TYPE: Final = "webhook.test"
"""The type of the event that a test sends when it is not asked for another."""


class Message(Struct, frozen=True, kw_only=True):
    """The body: the event's type, when it happened, and its data; `(source, id)` names the event."""

    type: str
    timestamp: datetime
    id: str
    source: str
    subject: str | UnsetType = UNSET
    data: Raw


def message_of(event: Event[Any]) -> bytes:
    """The body that tells of an event."""
    return msgspec.json.encode(
        Message(
            type=event.type,
            timestamp=event.time,
            id=event.id,
            source=event.source,
            subject=event.subject,
            data=Raw(msgspec.json.encode(event.data)),
        )
    )
