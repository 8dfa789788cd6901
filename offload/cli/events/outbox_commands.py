"""`offload outbox`: the monolith's outbox, published from and looked at."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Annotated, TypeAlias

import typer

from offload.cli import terminal
from offload.cli.deployment.failure import Failure
from offload.cli.deployment.options import EnvironmentOption, JsonOption, console, print_json

if TYPE_CHECKING:
    from sqlalchemy import Engine

app = typer.Typer(help="The monolith's outbox: publish what it holds, show how it stands, decide on held events.")

DatabaseOption: TypeAlias = Annotated[
    str,
    typer.Option(
        "--database-url",
        envvar="OFFLOAD_DATABASE_URL",
        help="The monolith's database, as an SQLAlchemy URL. In the variable it stays out of the process list.",
    ),
]
TableOption: TypeAlias = Annotated[str, typer.Option(help="The outbox's table.")]
SchemaOption: TypeAlias = Annotated[str | None, typer.Option(help="The database schema of the table.")]
_TABLE = "outbox_events"
_LEASE_SECONDS = 60.0


@app.command()
def relay(
    database_url: DatabaseOption,
    table: TableOption = _TABLE,
    schema: SchemaOption = None,
    batch: Annotated[int, typer.Option(min=1, help="Rows a pass.")] = 100,
    idle: Annotated[float, typer.Option(min=0.01, help="Seconds between looks at an empty outbox.")] = 1.0,
    environment: EnvironmentOption = "local",
) -> None:
    """Publish what the outbox holds to the environment's bus, until Ctrl-C or SIGTERM. Several may run at once."""
    from sqlalchemy.exc import SQLAlchemyError

    from offload.cli.deployment.resources import Deployment
    from offload.client import relay as relays
    from offload.client.outbox import Outbox
    from offload.client.publisher import ClaimStore, Publisher, Retries

    engine = _engine(database_url)
    deployment = Deployment.of(environment)
    publisher = Publisher(
        deployment.bus,
        events=deployment.aws.events,
        claims=ClaimStore(deployment.bucket("Claims"), s3=deployment.aws.s3),
        retries=Retries(deadline=10.0),
    )
    relays.log_json()
    try:
        relays.run_until_signalled(
            relays.Relay(
                engine,
                publisher,
                outbox=Outbox(table, schema=schema),
                batch=batch,
                idle=timedelta(seconds=idle),
                lease=timedelta(seconds=_LEASE_SECONDS),
            )
        )
    except (relays.RelayStopped, SQLAlchemyError, ValueError) as error:
        raise Failure(f"the relay ended: {relays.one_line(error)}") from error


@app.command()
def status(
    database_url: DatabaseOption,
    table: TableOption = _TABLE,
    schema: SchemaOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show how many events wait, are held or are published, and the held ones with their reasons."""
    from rich.table import Table
    from sqlalchemy.exc import SQLAlchemyError

    from offload.client import relay as relays
    from offload.client.outbox import Outbox

    engine, outbox = _engine(database_url), Outbox(table, schema=schema)
    try:
        found, held = outbox.status(engine), outbox.held(engine)
    except SQLAlchemyError as error:
        raise Failure(f"the outbox '{table}' cannot be read: {relays.one_line(error)}") from error
    age = (datetime.now(UTC) - found.oldest_waiting).total_seconds() if found.oldest_waiting else None
    if as_json:
        print_json(
            {
                "waiting": found.waiting,
                "held": found.held,
                "published": found.published,
                "discarded": found.discarded,
                "oldest_waiting_seconds": None if age is None else round(age, 1),
                "held_events": [
                    {
                        "row": row.row,
                        "event_id": row.event_id,
                        "type": row.type,
                        "key": row.key,
                        "written_at": row.written_at.isoformat(),
                        "reason": row.reason,
                        "behind": row.behind,
                    }
                    for row in held
                ],
            }
        )
        return
    out = console()
    waits = "" if age is None else f", the oldest for {age:.0f} s"
    out.print(
        f"{found.waiting} waiting{waits}; {found.held} held; {found.published} published; {found.discarded} discarded"
    )
    if held:
        listing = Table("row", "event", "key", "behind it", "reason", box=None)
        for row in held:
            listing.add_row(str(row.row), row.event_id, row.key, str(row.behind), row.reason)
        out.print(listing)
        out.print("`offload outbox retry ROW...` publishes held events after all, `discard ROW...` gives them up.")


@app.command()
def retry(
    database_url: DatabaseOption,
    rows: Annotated[list[int] | None, typer.Argument(metavar="[ROW]...", help="The held rows.")] = None,
    every: Annotated[bool, typer.Option("--all", help="Every held row.")] = False,
    table: TableOption = _TABLE,
    schema: SchemaOption = None,
) -> None:
    """Let held events be published after all, once what refused them is fixed."""
    if bool(rows) == every:
        raise Failure("name the held rows to retry, or say --all: `offload outbox status` lists them")
    from offload.client.outbox import Outbox

    count = _decided(
        database_url, table, lambda engine: Outbox(table, schema=schema).retry(engine, None if every else rows)
    )
    _said(count, rows, "will be published again")


@app.command()
def discard(
    database_url: DatabaseOption,
    rows: Annotated[list[int], typer.Argument(metavar="ROW...", help="The held rows.")],
    table: TableOption = _TABLE,
    schema: SchemaOption = None,
) -> None:
    """Give held events up: they are never published, and what waits behind them goes on."""
    from offload.client.outbox import Outbox

    count = _decided(database_url, table, lambda engine: Outbox(table, schema=schema).discard(engine, rows))
    _said(count, rows, "are discarded")


def _decided(database_url: str, table: str, decide: Callable[[Engine], int]) -> int:
    from sqlalchemy.exc import SQLAlchemyError

    from offload.client.relay import one_line

    try:
        return decide(_engine(database_url))
    except SQLAlchemyError as error:
        raise Failure(f"the outbox '{table}' cannot be written: {one_line(error)}") from error


def _said(count: int, rows: list[int] | None, what: str) -> None:
    if rows and count < len(set(rows)):
        raise Failure(f"{count} of {len(set(rows))} rows {what}; the others are not held: see `offload outbox status`")
    terminal.line(f"{count} held events {what}")


def _engine(database_url: str) -> Engine:
    from offload.client.relay import connect

    try:
        return connect(database_url)
    except ValueError as error:
        raise Failure(str(error)) from error
