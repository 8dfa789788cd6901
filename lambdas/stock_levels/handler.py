"""Keeps the units on hand of every product, and publishes `stock.low` when one falls below its threshold."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from offload.contracts.events.event import Event
from offload.runtime import aws
from offload.runtime.events.consumer import Effect, transactional_consumer
from offload.runtime.settings import Settings
from shop.contracts.orders import Invoice, OrderCancelled, OrderPlaced

from .levels import apply, shelf_of


class StockLevelsSettings(Settings, frozen=True, kw_only=True):
    """The table of levels; the units that a product has before its first invoice; below how many it is low."""

    stock_table: str
    stock_opening_units: int
    stock_low_below: int


settings = StockLevelsSettings.from_environment()


class ShelvesUnread(Exception):
    """DynamoDB was throttling; the batch is tried again."""


@transactional_consumer(OrderPlaced, OrderCancelled)
def handler(events: Sequence[Event[Invoice]]) -> Effect:
    """Takes the units of the whole batch, on condition that nobody changed these shelves since they were read."""
    shelves = sorted({shelf_of(line.product) for event in events for line in event.data.lines})
    items = _read(shelves)
    levels = {product: int(units["N"]) for item in items.values() for product, units in item["levels"]["M"].items()}
    change = apply(events, levels, opening=settings.stock_opening_units, low_below=settings.stock_low_below)
    actions = []
    for shelf in shelves:
        on_shelf = {product: units for product, units in change.levels.items() if shelf_of(product) == shelf}
        version = int(items[shelf]["version"]["N"]) if shelf in items else 0
        actions.append(_put(shelf, on_shelf, version))
    return Effect(actions=actions, publications=change.low)


def _read(shelves: Iterable[int]) -> dict[int, dict[str, Any]]:
    keys: list[Any] = [{"pk": {"S": f"shelf#{shelf}"}} for shelf in shelves]
    answer = aws.dynamodb().batch_get_item(RequestItems={settings.stock_table: {"Keys": keys, "ConsistentRead": True}})
    if answer["UnprocessedKeys"]:
        raise ShelvesUnread("DynamoDB left shelves unread: it is throttling")
    found = answer["Responses"].get(settings.stock_table, [])
    return {int(item["pk"]["S"].removeprefix("shelf#")): dict(item) for item in found}


def _put(shelf: int, levels: dict[str, int], version: int) -> dict[str, Any]:
    return {
        "Put": {
            "TableName": settings.stock_table,
            "Item": {
                "pk": {"S": f"shelf#{shelf}"},
                "version": {"N": str(version + 1)},
                "levels": {"M": {product: {"N": str(units)} for product, units in sorted(levels.items())}},
            },
            "ConditionExpression": "version = :version" if version else "attribute_not_exists(pk)",
            **({"ExpressionAttributeValues": {":version": {"N": str(version)}}} if version else {}),
        }
    }
