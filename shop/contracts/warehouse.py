"""The warehouse, which signs its webhooks and keeps no standard: how any such provider is described."""

from __future__ import annotations

from typing import Final

from offload.contracts.webhooks_in.providers import plain_hmac
from offload.contracts.webhooks_in.scheme import BodyField, Header, Timestamp

WAREHOUSE: Final = plain_hmac(
    "warehouse",
    title="Warehouse",
    header="X-Warehouse-Signature",
    prefix="sha256=",
    signed="{timestamp}.{body}",
    timestamp=Timestamp(header="X-Warehouse-Timestamp"),
    delivery_id=((Header("X-Warehouse-Delivery"),),),
    event_type=((BodyField(("type",)),),),
)
