"""The report as one HTML page that needs nothing else: no script, no font, no picture from anywhere."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from html import escape
from typing import Final

from shop.contracts.jobs.sales_report import Period
from shop.ledger import Figures, Ledger
from shop.money import money

from .charts import MINUS, Bar, columns, strip
from .style import STYLE
from .table import best_first

# Beyond, bars of a day are too thin to be pointed at: the chart shows months then, the table days all the same.
_DAYS_IN_CHART: Final = 100
# The page is to be read; all of them are in the CSV. The rest stands in one row, so that every table adds up.
_ROWS: Final = 40
_HEADINGS: Final = ("Revenue", "Units", "Orders", "Cancellations")
_POLICY: Final = "default-src 'none'; style-src 'unsafe-inline'"


def page_of(ledger: Ledger, period: Period, read_at: datetime) -> str:
    """The page of `ledger`, which is that of `period`, read at `read_at`. Money is exact, rows add up."""
    days = {date.fromisoformat(day): figures for day, figures in sorted(ledger.by_day.items())}
    title = f"Sales, {_span(period, days)}"
    body = [_tiles(ledger.total)]
    if days:
        body.append(_by_day(days))
        body.append(_by_name("Country", "countries", ledger.by_country, ledger.total, shares_orders=False))
        body.append(_by_name("Product", "products", ledger.by_product, ledger.total, shares_orders=True))
    else:
        body.append('<section><p class="note">The ledger has no sales in this period.</p></section>')
    return f"""<!DOCTYPE html>
<html lang="en-GB">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta http-equiv="Content-Security-Policy" content="{escape(_POLICY)}">
<title>{escape(title)}</title>
<style>{STYLE}</style>
</head>
<body>
<header>
<h1>{escape(title)}</h1>
<p class="note">Revenue in GBP and units, both less cancellations. The ledger as it stood on {_moment(read_at)}.</p>
</header>
<main>
{"".join(body)}
</main>
</body>
</html>
"""


def _span(period: Period, days: Iterable[date]) -> str:
    known = list(days)
    first = period.first or (known[0] if known else None)
    last = period.last or (known[-1] if known else None)
    if first is None and last is None:
        return "all days"
    if first is None:
        return f"until {long_date(last)}" if last else "all days"
    if last is None:
        return f"from {long_date(first)}"
    return long_date(first) if first == last else f"{long_date(first)} to {long_date(last)}"


def _tiles(total: Figures) -> str:
    values = (pounds(total.revenue), whole(total.units), whole(total.orders), whole(total.cancellations))
    tiles = "".join(
        f"<div><dt>{heading}</dt><dd>{value}</dd></div>" for heading, value in zip(_HEADINGS, values, strict=True)
    )
    return f'<dl class="tiles">{tiles}</dl>'


def _by_day(days: dict[date, Figures]) -> str:
    best = max(days, key=lambda day: (days[day].revenue, -day.toordinal()))
    sentence = f"The best day was {_weekday(best)}, with {pounds(days[best].revenue)}."
    first, last = min(days), max(days)
    if (last - first).days < _DAYS_IN_CHART:
        unit = "day"
        bars = [
            Bar(
                days.get(day, Figures()).revenue,
                (f"{day.day}", f"{day:%b}") if index == 0 or day.day == 1 else (f"{day.day}",),
                f"{_weekday(day)}: {pounds(days.get(day, Figures()).revenue)}",
            )
            for index, day in enumerate(_each_day(first, last))
        ]
    else:
        unit = "month"
        bars = list(_months(days))
    rows = "".join(_row(f'<th scope="row">{_weekday(day)}</th>', days[day]) for day in sorted(days))
    foot = _row('<th scope="row">Total</th>', _sum(days.values()))
    table = _table("Figures by day", ("Day", *_HEADINGS), rows, foot)
    chart = columns(bars, f"Revenue by {unit}. {sentence}")
    return f"""<section aria-labelledby="days">
<h2 id="days">Days</h2>
<p class="note">{sentence} {len(days):,} {"day" if len(days) == 1 else "days"} with sales.</p>
<figure class="wide" tabindex="0" role="group" aria-label="Revenue by {unit}">
{chart}
<figcaption>Revenue by {unit}</figcaption></figure>
<details><summary>Figures of each day</summary>{table}</details>
</section>
"""


def _months(days: dict[date, Figures]) -> Iterator[Bar]:
    revenue: dict[date, Decimal] = {}
    for day in _each_day(min(days), max(days)):
        month = day.replace(day=1)
        revenue[month] = revenue.get(month, Decimal(0)) + days.get(day, Figures()).revenue
    for index, (month, amount) in enumerate(revenue.items()):
        label = (f"{month:%b}", f"{month.year}") if index == 0 or month.month == 1 else (f"{month:%b}",)
        yield Bar(amount, label, f"{month:%B} {month.year}: {pounds(amount)}")


def _by_name(column: str, many: str, breakdown: dict[str, Figures], total: Figures, *, shares_orders: bool) -> str:
    # An invoice with two products is an order of both: the counts of several products are no sum of orders.
    entries = best_first(breakdown)
    shown, rest = entries[:_ROWS], entries[_ROWS:]
    revenues = [figures.revenue for _, figures in shown]
    lowest, highest = min([Decimal(0), *revenues]), max([Decimal(0), *revenues])
    rows = [
        _row(f'<th scope="row">{escape(name)}</th>', figures, f"<td>{strip(figures.revenue, lowest, highest)}</td>")
        for name, figures in shown
    ]
    note = f"{len(entries):,} {many if len(entries) > 1 else column.lower()}, by revenue."
    if rest:
        others = _sum(figures for _, figures in rest)
        heading = f'<th scope="row" class="rest">{len(rest):,} {"others" if len(rest) > 1 else "other"}</th>'
        rows.append(_row(heading, others, "<td></td>", counts=not shares_orders))
        note = f"The first {_ROWS} of {note} All of them are in the report's CSV."
    if shares_orders:
        note += f" Orders and cancellations are the invoices that a {column.lower()} is on."
    foot = _row('<th scope="row">Total</th>', total, "<td></td>", counts=not shares_orders)
    headings = (column, '<span class="unseen">Revenue as a bar</span>', *_HEADINGS)
    return f"""<section aria-labelledby="{many}">
<h2 id="{many}">{many.capitalize()}</h2>
<p class="note">{note}</p>
{_table(f"Figures by {column.lower()}", headings, "".join(rows), foot)}
</section>
"""


def _sum(entries: Iterable[Figures]) -> Figures:
    together = Figures()
    for figures in entries:
        together = together.plus(figures)
    return together


def _table(caption: str, headings: Sequence[str], rows: str, foot: str) -> str:
    head = "".join(f'<th scope="col">{heading}</th>' for heading in headings)
    return (
        f'<div class="wide" tabindex="0" role="group" aria-label="{caption}"><table><caption class="unseen">{caption}'
        f"</caption><thead><tr>{head}</tr></thead><tbody>{rows}</tbody>"
        f"{f'<tfoot>{foot}</tfoot>' if foot else ''}</table></div>"
    )


def _row(heading: str, figures: Figures, extra: str = "", *, counts: bool = True) -> str:
    cells = [pounds(figures.revenue), whole(figures.units)]
    cells += [whole(figures.orders), whole(figures.cancellations)] if counts else ["", ""]
    return f"<tr>{heading}{extra}{''.join(f'<td>{cell}</td>' for cell in cells)}</tr>"


def pounds(amount: Decimal) -> str:
    """An exact amount for readers: `£58,635.56`; with a minus sign before the `£`."""
    return f"{MINUS if amount < 0 else ''}£{Decimal(money(abs(amount))):,f}"


def whole(number: int) -> str:
    """A number for readers: `26,814`."""
    return f"{number:,}".replace("-", MINUS)


def long_date(day: date) -> str:
    """`1 December 2010`."""
    return f"{day.day} {day:%B} {day.year}"


def _weekday(day: date) -> str:
    return f"{day:%A}, {long_date(day)}"


def _moment(moment: datetime) -> str:
    there = moment.astimezone(UTC)
    return f'<time datetime="{there:%Y-%m-%dT%H:%M:%SZ}">{long_date(there.date())} at {there:%H:%M} UTC</time>'


def _each_day(first: date, last: date) -> Iterator[date]:
    for offset in range((last - first).days + 1):
        yield first + timedelta(days=offset)
