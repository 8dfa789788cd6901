"""Deliveries by what people look for."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final

from msgspec import UnsetType

from offload.contracts.webhooks_out.api import DeliveryFilters
from offload.contracts.webhooks_out.subscription import Delivery
from offload.runtime import aws
from offload.runtime.webhooks_out import items
from offload.runtime.webhooks_out.deliveries import Deliveries
from offload.runtime.webhooks_out.refusals import NoSuchDelivery
from offload.runtime.webhooks_out.subscriptions import Subscriptions

# A call looks at no more than so many deliveries; its cursor then goes on from there.
_LOOKED_AT: Final = 2000
_PAGE: Final = 200


def page(
    deliveries: Deliveries, subscriptions: Subscriptions, wanted: DeliveryFilters
) -> tuple[Sequence[Delivery], str | None]:
    """The deliveries that were asked for, newest first, and the cursor after them; None at the end.

    A page may have fewer than asked for, or none, and still have a cursor: so much has been looked through.
    """
    if not isinstance(wanted.event, UnsetType):
        return _of_event(deliveries, wanted), None
    names = (
        [wanted.subscription]
        if not isinstance(wanted.subscription, UnsetType)
        else [
            record.id
            for record in (*subscriptions.all(), *subscriptions.deleted())
            if isinstance(wanted.tenant, UnsetType) or record.tenant == wanted.tenant
        ]
    )
    streams = {name: _newest(deliveries.table, name, wanted) for name in names}
    heads = {name: item for name, stream in streams.items() if (item := next(stream, None)) is not None}
    found: list[Delivery] = []
    last = ""
    for _ in range(_LOOKED_AT):
        if not heads or len(found) == wanted.limit:
            break
        name = max(heads, key=lambda each: heads[each]["listed"]["S"])
        item = heads.pop(name)
        last = item["listed"]["S"]
        if (following := next(streams[name], None)) is not None:
            heads[name] = following
        if fits(delivery := items.delivery_of(item), wanted):
            found.append(delivery)
    return found, last if heads else None


def every(table: str, subscription: str, wanted: DeliveryFilters) -> Iterator[Delivery]:
    """Every delivery of a subscription that fits, newest first."""
    for item in _newest(table, subscription, wanted):
        if fits(delivery := items.delivery_of(item), wanted):
            yield delivery


def fits(delivery: Delivery, wanted: DeliveryFilters) -> bool:
    """Whether a delivery is one of those that were asked for, its time left aside."""
    return all(
        isinstance(value, UnsetType) or value == getattr(delivery, name)
        for name in ("subscription", "event", "tenant", "type", "state", "status")
        for value in (getattr(wanted, name),)
    )


def _of_event(deliveries: Deliveries, wanted: DeliveryFilters) -> list[Delivery]:
    answer = aws.dynamodb().query(
        TableName=deliveries.table,
        IndexName=items.EVENTS_INDEX,
        KeyConditionExpression="event = :event",
        ExpressionAttributeValues={":event": {"S": str(wanted.event)}},
        ScanIndexForward=False,
        Limit=wanted.limit,
    )
    found = []
    for item in answer["Items"]:
        try:
            delivery = items.delivery_of(deliveries.item(item["pk"]["S"].removeprefix("delivery#")))
        except NoSuchDelivery:
            continue
        if fits(delivery, wanted):
            found.append(delivery)
    return found


def _newest(table: str, subscription: str, wanted: DeliveryFilters) -> Iterator[items.Item]:
    condition = "subscription = :subscription"
    values: dict[str, Any] = {":subscription": {"S": subscription}}
    low = "0" if isinstance(wanted.since, UnsetType) else f"{items.milliseconds(wanted.since):015d}#"
    high = "~" if isinstance(wanted.until, UnsetType) else f"{items.milliseconds(wanted.until):015d}#~"
    after = None if isinstance(wanted.cursor, UnsetType) else wanted.cursor
    if after is not None:
        high = min(high, after)
    if low > high:
        return
    condition += " AND listed BETWEEN :low AND :high"
    values |= {":low": {"S": low}, ":high": {"S": high}}
    pages = (
        aws.dynamodb()
        .get_paginator("query")
        .paginate(
            TableName=table,
            IndexName=items.LISTED_INDEX,
            KeyConditionExpression=condition,
            ExpressionAttributeValues=values,
            ScanIndexForward=False,
            PaginationConfig={"PageSize": _PAGE},
        )
    )
    for page_ in pages:
        for item in page_["Items"]:
            # BETWEEN takes both ends in, and the cursor's own was shown.
            if item["listed"]["S"] != after:
                yield item
