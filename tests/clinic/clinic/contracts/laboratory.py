"""The laboratory, which signs its webhooks in a way of its own."""

from __future__ import annotations

from typing import Final

from offload.contracts.webhooks_in.providers import plain_hmac
from offload.contracts.webhooks_in.scheme import BodyField, Header, Timestamp

LABORATORY: Final = plain_hmac(
    "laboratory",
    title="Laboratory",
    header="X-Laboratory-Signature",
    prefix="sha256=",
    signed="{timestamp}.{body}",
    timestamp=Timestamp(header="X-Laboratory-Timestamp"),
    delivery_id=((Header("X-Laboratory-Delivery"),),),
    event_type=((BodyField(("type",)),),),
)
