"""`offload ledger`: the sales ledger, to the penny."""

from __future__ import annotations

from decimal import Decimal
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import typer

from offload.cli.deployment.options import EnvironmentOption, JsonOption, console, print_json
from shop.money import money

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from rich.table import Table

    from offload.cli.deployment.resources import Deployment
    from offload.runtime.events.sums import Sections
    from shop.commands.ledger_currency import Conversion
    from shop.ledger import Figures, Ledger

app = typer.Typer(help="The sales ledger: revenue, units, orders and cancellations.")

LEDGER = "Ledger"
"""The construct of the ledger's table."""

CURRENCY = "GBP"
"""What the ledger is kept in."""

_DEFAULT_ROWS = 25


class By(StrEnum):
    """What the ledger is broken down by."""

    DAY = "day"
    COUNTRY = "country"
    PRODUCT = "product"


@app.callback()
def _group() -> None:
    """Keeps `show` a command of its own while it is the only one."""


@app.command()
def show(
    by: Annotated[By, typer.Option(help="What the table breaks the figures down by.")] = By.COUNTRY,
    rows: Annotated[int, typer.Option(min=1, help="Show this many rows of the table.")] = _DEFAULT_ROWS,
    currency: Annotated[
        str, typer.Option(metavar="CODE", help="Show revenue in this currency, by the rates that are stored.")
    ] = CURRENCY,
    environment: EnvironmentOption = "local",
    as_json: JsonOption = False,
) -> None:
    """Show the ledger: days in their order, countries and products by revenue. JSON has every breakdown, whole."""
    from offload.cli.deployment.resources import Deployment
    from shop.commands.ledger_currency import conversion

    deployment = Deployment.of(environment)
    sections = _sections_of(deployment)
    exchange = None
    if currency.upper() != CURRENCY:
        exchange = conversion(deployment, sections, currency.upper())
        sections = exchange.sections
    ledger = _ledger_of(sections)
    if as_json:
        print_json(document_of(ledger, exchange))
        return
    console().print(table_of(ledger, by, rows, exchange))
    if exchange:
        for line in exchange.lines():
            console().print(line, markup=False, soft_wrap=True)


def ledger_of(deployment: Deployment) -> Ledger:
    """Reads the deployment's ledger."""
    return _ledger_of(_sections_of(deployment))


def document_of(ledger: Ledger, exchange: Conversion | None = None) -> dict[str, Any]:
    """The ledger as JSON: money as strings, everything in the table's order; what converted it, where something did."""
    show = exchange.money if exchange else money
    return {
        **_figures(ledger.total, show),
        **(exchange.document() if exchange else {}),
        "by_country": _breakdown(_sorted(ledger, By.COUNTRY), show),
        "by_day": _breakdown(_sorted(ledger, By.DAY), show),
        "by_product": _breakdown(_sorted(ledger, By.PRODUCT), show),
    }


def table_of(ledger: Ledger, by: By, rows: int, exchange: Conversion | None = None) -> Table:
    """The ledger as a table of at most `rows` rows, with the totals below."""
    from rich import box
    from rich.table import Table

    show = exchange.money if exchange else money
    table = Table(box=box.SIMPLE_HEAD, show_footer=True)
    entries = list(_sorted(ledger, by).items())
    table.add_column(by.value, footer="total")
    total = ledger.total
    for heading, footer in (
        (f"revenue {exchange.currency if exchange else CURRENCY}", f"{Decimal(show(total.revenue)):,f}"),
        ("units", f"{total.units:,}"),
        ("orders", f"{total.orders:,}"),
        ("cancellations", f"{total.cancellations:,}"),
    ):
        table.add_column(heading, footer=footer, justify="right")
    for name, figures in entries[:rows]:
        table.add_row(name, *_cells(figures, show))
    if len(entries) > rows:
        table.add_row(f"… {len(entries) - rows:,} more: --rows")
    return table


def _sections_of(deployment: Deployment) -> Sections:
    from offload.cli.deployment.failure import Failure
    from offload.runtime.events import sums

    try:
        return sums.read(deployment.aws.dynamodb, deployment.table(LEDGER))
    except sums.TornRead as error:
        raise Failure(f"the ledger changes too fast to be read: {error}; try again") from error


def _ledger_of(sections: Sections) -> Ledger:
    from shop import ledger

    return ledger.ledger_of(sections)


def _sorted(ledger: Ledger, by: By) -> dict[str, Figures]:
    if by is By.DAY:
        return dict(sorted(ledger.by_day.items()))
    breakdown = ledger.by_country if by is By.COUNTRY else ledger.by_product
    return dict(sorted(breakdown.items(), key=lambda entry: (-entry[1].revenue, entry[0])))


def _breakdown(entries: Mapping[str, Figures], show: Callable[[Decimal], str]) -> dict[str, dict[str, object]]:
    return {name: _figures(figures, show) for name, figures in entries.items()}


def _figures(figures: Figures, show: Callable[[Decimal], str]) -> dict[str, object]:
    return {
        "revenue": show(figures.revenue),
        "units": figures.units,
        "orders": figures.orders,
        "cancellations": figures.cancellations,
    }


def _cells(figures: Figures, show: Callable[[Decimal], str]) -> tuple[str, ...]:
    return (
        f"{Decimal(show(figures.revenue)):,f}",
        f"{figures.units:,}",
        f"{figures.orders:,}",
        f"{figures.cancellations:,}",
    )
