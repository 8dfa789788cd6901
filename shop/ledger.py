"""The sales ledger: what invoices add to it, and how it is read."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import date, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, NamedTuple

from offload.contracts.events.event import Event
from offload.runtime.events import sums
from shop.contracts.orders import Invoice, OrderCancelled

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

_COUNTRY = "country#"
_PRODUCT = "product#"


class Figures(NamedTuple):
    """Revenue, in GBP and exact unless it was converted, and units, less cancellations; and invoices of either kind."""

    revenue: Decimal = Decimal(0)
    units: int = 0
    orders: int = 0
    cancellations: int = 0

    def plus(self, other: Figures) -> Figures:
        """The figures of both together."""
        return Figures(
            self.revenue + other.revenue,
            self.units + other.units,
            self.orders + other.orders,
            self.cancellations + other.cancellations,
        )


class Ledger(NamedTuple):
    """The ledger as it was read: the whole, and by day (ISO), country and product (its stock code).

    A product's orders and cancellations are the invoices that it is on.
    """

    total: Figures
    by_day: dict[str, Figures]
    by_country: dict[str, Figures]
    by_product: dict[str, Figures]


def sums_of(events: Iterable[Event[Invoice]]) -> sums.Sections:
    """What the invoices add to the ledger: a section a day, in it a row a country and a row a product."""
    sections: sums.Sections = {}
    for event in events:
        invoice = event.data
        placed = 0 if isinstance(invoice, OrderCancelled) else 1
        counted: set[str] = set()
        days: dict[datetime | None, str] = {}
        for position, line in enumerate(invoice.lines):
            if line.invoiced_at not in days:
                days[line.invoiced_at] = invoice.day_of(line).isoformat()
            rows = sections.setdefault(days[line.invoiced_at], {})
            # The invoice counts once, where its first line stands, and once for each of its products.
            first, again = position == 0, line.product in counted
            counted.add(line.product)
            amounts = (line.amount, line.quantity)
            sums.add(rows, _COUNTRY + invoice.country_of(line), [*amounts, *_count(placed, counts=first)])
            sums.add(rows, _PRODUCT + line.product, [*amounts, *_count(placed, counts=not again)])
    return sections


def read_ledger(table: str, client: DynamoDBClient, *, first: date | None = None, last: date | None = None) -> Ledger:
    """Reads the ledger, exactly as it stands; raises `sums.TornRead` when it changes too fast to be read.

    With `first` or `last`, the days from the one to the other alone, both included: its countries and products are
    those of these days, and an invoice counts on the day of its first line.
    """
    return ledger_of(sums.read(client, table, first=_iso(first), last=_iso(last)))


def ledger_of(sections: sums.Sections) -> Ledger:
    """The ledger that consists of these sections, as `sums_of` makes them."""
    total = Figures()
    by_day: dict[str, Figures] = {}
    by_country: dict[str, Figures] = {}
    by_product: dict[str, Figures] = {}
    for day, rows in sections.items():
        for key, (revenue, units, orders, cancellations) in rows.items():
            figures = Figures(Decimal(revenue), int(units), int(orders), int(cancellations))
            kind, _, name = key.partition("#")
            if kind == "product":
                by_product[name] = by_product.get(name, Figures()).plus(figures)
                continue
            by_country[name] = by_country.get(name, Figures()).plus(figures)
            by_day[day] = by_day.get(day, Figures()).plus(figures)
            total = total.plus(figures)
    return Ledger(total, by_day, by_country, by_product)


def converted(sections: sums.Sections, rates: Mapping[str, Decimal]) -> sums.Sections:
    """The sections with each day's revenue times the day's rate (by ISO day): to 28 digits, not to money."""
    return {
        day: {key: [Decimal(revenue) * rates[day], *others] for key, (revenue, *others) in rows.items()}
        for day, rows in sections.items()
    }


def _count(placed: int, *, counts: bool) -> tuple[int, int]:
    return (placed, 1 - placed) if counts else (0, 0)


def _iso(day: date | None) -> str | None:
    return None if day is None else day.isoformat()
