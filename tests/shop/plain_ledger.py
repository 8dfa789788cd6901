"""The ledger by plain addition: what every other way of counting the same invoices must come to."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from shop.contracts.orders import Invoice, OrderCancelled
from shop.ledger import Figures, Ledger
from shop.orders import read_orders


def ledger_of_file(file: Path) -> Ledger:
    """What an orders file must come to. Raises what read_orders does."""
    return added_up(read_orders(file).invoices)


def added_up(invoices: Iterable[Invoice]) -> Ledger:
    """What the invoices must come to, each counted once; they are read once, and not kept."""
    total = Figures()
    days: dict[str, Figures] = {}
    countries: dict[str, Figures] = {}
    products: dict[str, Figures] = {}
    for invoice in invoices:
        cancelled = isinstance(invoice, OrderCancelled)
        seen: set[str] = set()
        for number, line in enumerate(invoice.lines):
            first, new = number == 0, line.product not in seen
            seen.add(line.product)
            moved = (line.unit_price * line.quantity, line.quantity)
            once = Figures(*moved, int(first and not cancelled), int(first and cancelled))
            product = Figures(*moved, int(new and not cancelled), int(new and cancelled))
            total = total.plus(once)
            day = (line.invoiced_at or invoice.invoiced_at).date().isoformat()
            country = line.country or invoice.country
            days[day] = days.get(day, Figures()).plus(once)
            countries[country] = countries.get(country, Figures()).plus(once)
            products[line.product] = products.get(line.product, Figures()).plus(product)
    return Ledger(total, days, countries, products)
