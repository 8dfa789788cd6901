"""`offload orders`: publishing orders files, and making them."""

from __future__ import annotations

import secrets
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from offload.cli.deployment.failure import Failure
from offload.cli.deployment.options import EnvironmentOption, JsonOption, console, print_json

if TYPE_CHECKING:
    from shop.commands.publishing import Outcome
    from shop.orders import Orders

app = typer.Typer(help="Orders files (CSV of the UCI Online Retail set): publish them as events, or make them.")

_BAD_ROWS_SHOWN = 20
_CONFLICTS_SHOWN = 5
_SEED_BITS = 31


@app.command()
def publish(
    file: Annotated[Path, typer.Argument(metavar="FILE.csv[.gz]", help="The orders file, plain or gzip.")],
    rate: Annotated[float | None, typer.Option(min=0.1, help="At most this many events a second.")] = None,
    duplicate: Annotated[float, typer.Option(min=0, max=1, help="Publish this share of the events twice.")] = 0.0,
    shuffle: Annotated[bool, typer.Option("--shuffle", help="Publish in random order.")] = False,
    poison: Annotated[float, typer.Option(min=0, max=1, help="Add this share of broken events.")] = 0.0,
    seed: Annotated[int | None, typer.Option(min=0, help="Repeat the random choices of an earlier time.")] = None,
    skip_bad: Annotated[bool, typer.Option("--skip-bad", help="Leave out invoices with a bad row and go on.")] = False,
    environment: EnvironmentOption = "local",
    as_json: JsonOption = False,
) -> None:
    """Publish an orders file: one event an invoice. Publishing a file again changes nothing."""
    orders = _read(file, skip_bad=skip_bad)
    # Two poisoned publications are two different sets of broken events, unless somebody wants the same again.
    chosen = secrets.randbits(_SEED_BITS) if seed is None else seed
    from rich.progress import Progress

    from offload.cli.deployment.resources import Deployment
    from shop.commands.publishing import Mix, publish

    deployment = Deployment.of(environment)
    mix = Mix(duplicate, shuffle, poison, chosen)
    count = len(orders.invoices)
    # On stderr, so that --json on stdout stays JSON.
    with Progress(console=console(stderr=True), transient=True, disable=not orders.invoices) as bar:
        task = bar.add_task("Publishing", total=count + round(duplicate * count) + round(poison * count))
        outcome = publish(
            deployment, orders.invoices, mix, rate=rate, progress=lambda number: bar.advance(task, number)
        )
    if as_json:
        print_json(_document(file, orders, outcome, chosen))
    else:
        _show(file, orders, outcome, chosen)


@app.command()
def generate(
    seed: Annotated[int, typer.Option(min=0, help="The same seed makes the same file.")],
    count: Annotated[int, typer.Option(min=1, max=1_000_000, help="How many invoices.")],
    out: Annotated[Path, typer.Option(metavar="FILE.csv[.gz]", help="Where to; gzip when the name ends with .gz.")],
    as_json: JsonOption = False,
) -> None:
    """Make an orders file that looks like a real one: several countries, cancellations, long invoices now and then."""
    from shop import orders

    try:
        rows = orders.write_orders(out, orders.generate(seed, count))
    except OSError as error:
        raise Failure(f"{out}: {error.strerror or error}") from error
    if as_json:
        print_json({"file": str(out), "seed": seed, "invoices": count, "rows": rows})
    else:
        console().print(f"{out}: {count:,} invoices in {rows:,} rows", markup=False)


def _read(file: Path, *, skip_bad: bool) -> Orders:
    from shop.orders import BadRows, UnreadableOrders, read_orders

    try:
        return read_orders(file, skip_bad=skip_bad)
    except BadRows as error:
        raise Failure(f"{error}. Nothing was published; --skip-bad leaves such invoices out and goes on") from error
    except UnreadableOrders as error:
        raise Failure(str(error)) from error


def _document(file: Path, orders: Orders, outcome: Outcome, seed: int) -> dict[str, object]:
    return {
        "file": str(file),
        "events": outcome.events,
        "placed": outcome.placed,
        "cancelled": outcome.cancelled,
        "duplicates": outcome.duplicates,
        "poison": [poison._asdict() for poison in outcome.poison],
        "conflicts": list(outcome.conflicts),
        "bad_invoices": list(orders.bad_invoices),
        "bad_rows": [
            {"row": bad.row, "column": bad.column, "reason": bad.reason, "invoice": bad.invoice}
            for bad in orders.bad_rows
        ],
        "seed": seed,
        "seconds": round(outcome.seconds, 3),
    }


def _show(file: Path, orders: Orders, outcome: Outcome, seed: int) -> None:
    screen = console()
    for bad in orders.bad_rows[:_BAD_ROWS_SHOWN]:
        screen.print(f"left out: {bad}", markup=False)
    if len(orders.bad_rows) > _BAD_ROWS_SHOWN:
        screen.print(f"left out: {len(orders.bad_rows) - _BAD_ROWS_SHOWN} bad rows more (--json lists them all)")
    speed = f"{outcome.events / outcome.seconds:,.0f} a second" if outcome.seconds else "at once"
    screen.print(
        f"{file.name}: published {outcome.events:,} events in {outcome.seconds:.1f} s ({speed}): "
        f"{outcome.placed:,} placed, {outcome.cancelled:,} cancelled",
        markup=False,
    )
    if orders.bad_rows:
        screen.print(f"{len(orders.bad_invoices):,} invoices left out for {len(orders.bad_rows):,} bad rows")
    if outcome.conflicts:
        shown = ", ".join(outcome.conflicts[:_CONFLICTS_SHOWN])
        more = (
            f" and {len(outcome.conflicts) - _CONFLICTS_SHOWN:,} more"
            if len(outcome.conflicts) > _CONFLICTS_SHOWN
            else ""
        )
        screen.print(
            f"{len(outcome.conflicts):,} of them were published before with other data, and consumers keep the first:"
            f" {shown}{more}. A correction needs an invoice number of its own",
            markup=False,
        )
    if outcome.duplicates or outcome.poison:
        screen.print(
            f"and with them {outcome.duplicates:,} duplicates and {len(outcome.poison):,} poison events (seed {seed})"
        )
