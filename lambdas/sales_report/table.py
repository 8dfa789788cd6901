"""The report as CSV: exact amounts, every day, country and product."""

from __future__ import annotations

import csv
import io
from typing import Final

from shop.ledger import Figures, Ledger
from shop.money import money

_COLUMNS: Final = ("by", "name", "revenue_gbp", "units", "orders", "cancellations")
# A spreadsheet takes a cell that begins so for a formula and runs it (OWASP, CSV Injection, read 2026-11-24).
_FORMULA: Final = ("=", "+", "-", "@", "\t", "\r")


def table_of(ledger: Ledger) -> bytes:
    """A row for the total, then one each day, country and product.

    Days are in their order, the others by revenue. A name that a spreadsheet would run as a formula gets `'` before it.
    """
    text = io.StringIO(newline="")
    # The line end of RFC 4180: with another, some Pythons leave a name with half of it unquoted.
    writer = csv.writer(text, lineterminator="\r\n")
    writer.writerow(_COLUMNS)
    writer.writerow(_row("total", "", ledger.total))
    writer.writerows(_row("day", day, figures) for day, figures in sorted(ledger.by_day.items()))
    for by, breakdown in (("country", ledger.by_country), ("product", ledger.by_product)):
        writer.writerows(_row(by, name, figures) for name, figures in best_first(breakdown))
    return text.getvalue().encode()


def best_first(breakdown: dict[str, Figures]) -> list[tuple[str, Figures]]:
    """By revenue, the greatest first; equals by name."""
    return sorted(breakdown.items(), key=lambda entry: (-entry[1].revenue, entry[0]))


def _row(by: str, name: str, figures: Figures) -> tuple[object, ...]:
    safe = f"'{name}" if name.startswith(_FORMULA) else name
    return (by, safe, money(figures.revenue), figures.units, figures.orders, figures.cancellations)
