"""The units on hand, and which invoice made a product fall below its threshold. Decisions only; nothing here acts."""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Mapping
from typing import Final, NamedTuple

from offload.contracts.events.event import Event
from shop.contracts.orders import Invoice
from shop.contracts.stock import StockLow

# Products share items, so that the longest invoice still fits a transaction of 100 actions with its batch's marks.
SHELVES: Final = 48


class Change(NamedTuple):
    """The levels after some invoices, and the events that they caused, by the key of the invoice's event."""

    levels: dict[str, int]
    low: dict[str, list[Event[StockLow]]]


def shelf_of(product: str) -> int:
    """The item that a product's level is kept in."""
    return zlib.crc32(product.encode()) % SHELVES


def apply(events: Iterable[Event[Invoice]], levels: Mapping[str, int], *, opening: int, low_below: int) -> Change:
    """Takes the invoices' units from the levels, in the order given.

    `levels` are units on hand by product; a product not in it has `opening` units. One `stock.low` is caused each time
    that a product's level passes from at least `low_below` to less.
    """
    after = dict(levels)
    low: dict[str, list[Event[StockLow]]] = {}
    for event in events:
        units: dict[str, int] = {}
        for line in event.data.lines:
            units[line.product] = units.get(line.product, 0) + line.quantity
        for product, taken in units.items():
            before = after.get(product, opening)
            after[product] = before - taken
            if after[product] < low_below <= before:
                fact = StockLow(
                    product=product,
                    units=after[product],
                    low_below=low_below,
                    cause=event.id,
                    cause_source=event.source,
                    caused_at=event.time,
                )
                traceparent = event.traceparent or None
                low.setdefault(event.key, []).append(fact.event(traceparent=traceparent))
    return Change(after, low)
