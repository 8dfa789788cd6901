"""Keeps the units on hand of every item, and publishes `supply.low` when one falls below its threshold."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from clinic.contracts.supplies import SupplyLow
from clinic.contracts.visits import Visit, VisitCancelled, VisitEnded
from offload.contracts.events.event import Event
from offload.runtime import aws
from offload.runtime.events.consumer import Effect, transactional_consumer
from offload.runtime.settings import Settings

OPENING_UNITS: Final = 1000
LOW_BELOW: Final = 100


class SupplyLevelsSettings(Settings, frozen=True, kw_only=True):
    """The table of levels."""

    supply_table: str


settings = SupplyLevelsSettings.from_environment()


class LevelsUnread(Exception):
    """DynamoDB was throttling; the batch is tried again."""


@transactional_consumer(VisitEnded, VisitCancelled)
def handler(events: Sequence[Event[Visit]]) -> Effect:
    """Takes the units of the whole batch, on condition that nobody changed the levels since they were read."""
    before, version = _read()
    levels = dict(before)
    low: dict[str, list[Event[SupplyLow]]] = {}
    for event in events:
        for line in event.data.lines:
            units = levels.get(line.item, OPENING_UNITS)
            levels[line.item] = units - line.quantity
            if levels[line.item] < LOW_BELOW <= units:
                fact = SupplyLow(
                    item=line.item,
                    units=levels[line.item],
                    low_below=LOW_BELOW,
                    cause=event.id,
                    cause_source=event.source,
                    caused_at=event.time,
                )
                low.setdefault(event.key, []).append(fact.event(traceparent=event.traceparent or None))
    return Effect(actions=[_put(levels, version)], publications=low)


def _read() -> tuple[dict[str, int], int]:
    keys: Any = {settings.supply_table: {"Keys": [{"pk": {"S": "levels"}}], "ConsistentRead": True}}
    answer = aws.dynamodb().batch_get_item(RequestItems=keys)
    if answer["UnprocessedKeys"]:
        raise LevelsUnread("DynamoDB left the levels unread: it is throttling")
    found: Any = answer["Responses"].get(settings.supply_table, [])
    if not found:
        return {}, 0
    return {item: int(units["N"]) for item, units in found[0]["levels"]["M"].items()}, int(found[0]["version"]["N"])


def _put(levels: dict[str, int], version: int) -> dict[str, Any]:
    return {
        "Put": {
            "TableName": settings.supply_table,
            "Item": {
                "pk": {"S": "levels"},
                "version": {"N": str(version + 1)},
                "levels": {"M": {item: {"N": str(units)} for item, units in sorted(levels.items())}},
            },
            "ConditionExpression": "version = :version" if version else "attribute_not_exists(pk)",
            **({"ExpressionAttributeValues": {":version": {"N": str(version)}}} if version else {}),
        }
    }
