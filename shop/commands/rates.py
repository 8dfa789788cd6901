"""`offload rates`: the exchange rates that are stored."""

from __future__ import annotations

import re
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from offload.cli import terminal
from offload.cli.deployment.options import EnvironmentOption, JsonOption, console, print_json

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from offload.cli.deployment.resources import Deployment
    from shop.ecb import DayRates
    from shop.rates import RatesTable, Stored

app = typer.Typer(help="Exchange rates: the European Central Bank's reference rates, by day.")

RATES = "Rates/Days"
"""The construct of the rates' table."""

# All days since 1999, some 7,000 at 1.3 KB, are in one of the bank's files.
_LONGEST_FILE = 64 * 1024 * 1024

DayOption = Annotated[str | None, typer.Option(metavar="DAY", help="A day, as 2010-12-01.")]


@app.command()
def show(
    day: Annotated[str | None, typer.Option(help="The rates of this day, else of the newest before. [newest]")] = None,
    environment: EnvironmentOption = "local",
    as_json: JsonOption = False,
) -> None:
    """Show a day's rates: what one euro is in each currency; which days there are; whether the newest is stale."""
    from datetime import UTC, datetime

    from offload.cli.deployment.failure import Failure
    from offload.cli.deployment.resources import Deployment

    table = rates_table(Deployment.of(environment))
    wanted = None if day is None else _day(day, "--day")
    found = table.newest() if wanted is None else table.not_after(wanted)
    if found is None:
        oldest = table.oldest()
        raise Failure(
            f"no rates of {day} or before are stored; the oldest are those of {oldest.day}"
            if oldest
            else "no exchange rates are stored: offload jobs submit exchange_rates --wait, or offload rates import FILE"
        )
    document = document_of(table, found, wanted, datetime.now(UTC))
    if as_json:
        print_json(document)
        return
    screen = console()
    flag = f", STALE: {document['working_days_behind']} working days behind" if document["stale"] else ""
    screen.print(f"1 EUR on {found.day}{flag}", markup=False)
    for currency, rate in document["rates"].items():
        screen.print(f"  {currency} {rate:>12}", markup=False)
    screen.print(f"stored: {document['oldest']} to {document['newest']}", markup=False)
    for other in document["differing"]:
        screen.print(f"differing, not used: {other['day']} from {other['source']}: {other['reason']}", markup=False)


@app.command("import")
def import_(
    file: Annotated[Path, typer.Argument(help="One of the bank's XML files: daily, of 90 days, or all since 1999.")],
    first: DayOption = None,
    last: DayOption = None,
    replace: Annotated[
        bool, typer.Option("--replace", help="Let the file's rates take the place of others that are stored.")
    ] = False,
    environment: EnvironmentOption = "local",
    as_json: JsonOption = False,
) -> None:
    """Store the days of a file, from --first to --last; a day that is stored with other rates stays as it is."""
    from datetime import UTC, datetime

    from offload.cli.deployment.failure import Failure
    from offload.cli.deployment.resources import Deployment

    since, until = (_day(text, option) if text else None for text, option in ((first, "--first"), (last, "--last")))
    try:
        content = file.read_bytes()
    except OSError as error:
        raise Failure(f"{file}: {error.strerror}") from error
    days = days_in(content, str(file), since, until, datetime.now(UTC))
    table = rates_table(Deployment.of(environment))
    stored = table.keep(days, source=f"file {file.name}", at=datetime.now(UTC), replace=replace)
    if as_json:
        print_json({name: [day.isoformat() for day in found] for name, found in stored._asdict().items()})
        return
    for line in lines_of(stored, replaced=replace):
        terminal.line(line)


def rates_table(deployment: Deployment) -> RatesTable:
    """The deployment's rates."""
    from shop.rates import RatesTable

    return RatesTable(deployment.table(RATES), deployment.aws.dynamodb)


def days_in(content: bytes, name: str, first: date | None, last: date | None, now: datetime) -> list[DayRates]:
    """The days of a file in a period; raises Failure for a file that is none of the bank's, or has no such day."""
    from offload.cli.deployment.failure import Failure
    from shop.ecb import BadRates, read_rates, today

    try:
        found = read_rates(content, longest=_LONGEST_FILE)
    except BadRates as error:
        raise Failure(f"{name} is not a file of the bank's rates: {error}") from error
    if found[-1].day > today(now):
        raise Failure(f"{name} has rates of {found[-1].day}, which is in the future")
    days = [each for each in found if (first or each.day) <= each.day <= (last or each.day)]
    if not days:
        raise Failure(f"{name} has {found[0].day} to {found[-1].day}, and none of the days that were asked for")
    return days


def document_of(table: RatesTable, found: DayRates, wanted: date | None, now: datetime) -> dict[str, Any]:
    """A day's rates as JSON. `stale`: far behind the day that was asked for, else behind what should be there now."""
    from shop.ecb import days_behind, working_days
    from shop.rates import STALE_AFTER

    behind = days_behind(found.day, now) if wanted is None else len(list(working_days(found.day, wanted)))
    oldest, newest = table.oldest(), table.newest()
    return {
        "base": "EUR",
        "day": found.day.isoformat(),
        "of_the_day": wanted is None or not behind,
        "working_days_behind": behind,
        "stale": behind > STALE_AFTER,
        "rates": {currency: f"{units:f}" for currency, units in sorted(found.rates.items())},
        "oldest": oldest.day.isoformat() if oldest else None,
        "newest": newest.day.isoformat() if newest else None,
        "differing": [
            {
                "day": each.rates.day.isoformat(),
                "source": each.source,
                "came_at": each.came_at,
                "reason": each.reason,
                "rates": {currency: f"{units:f}" for currency, units in sorted(each.rates.rates.items())},
            }
            for each in table.differing()
        ],
    }


def lines_of(stored: Stored, *, replaced: bool) -> list[str]:
    """What an import did, for people."""
    lines = [f"{_days(stored.added)} added, {_days(stored.same)} there before"]
    if stored.differing:
        what = (
            "replaced; what was there is kept beside"
            if replaced
            else "with other rates than are stored, which stay: --replace"
        )
        shown = ", ".join(day.isoformat() for day in stored.differing[:10])
        more = ", …" if len(stored.differing) > 10 else ""
        lines.append(f"{_days(stored.differing)} {what} ({shown}{more})")
    return lines


def _days(days: Sequence[date]) -> str:
    return "1 day" if len(days) == 1 else f"{len(days):,} days"


def _day(text: str, option: str) -> date:
    from offload.cli.deployment.failure import Failure

    try:
        if re.fullmatch(r"\d{4}-\d{2}-\d{2}", text):
            return date.fromisoformat(text)
    except ValueError:
        pass
    raise Failure(f"{option} is a day, as 2010-12-01, not '{text}'")
