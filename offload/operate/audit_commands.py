"""`offload audit`: whether everything that was published is accounted for."""

from __future__ import annotations

import typer

from offload.operate import options


def show(*, environment: options.EnvironmentOption = "local", as_json: options.JsonOption = False) -> None:
    """Show published = done + waiting + dead by consumer and type, and the ids of what is missing (exit code 1)."""
    from rich.table import Table

    from offload.operate.audit import audit
    from offload.operate.resources import Deployment

    account = audit(Deployment.of(environment))
    if as_json:
        document = {
            "adds_up": account.adds_up,
            "unread": account.unread,
            "lines": [line._asdict() for line in account.lines],
            "missing": [missing._asdict() for missing in account.missing],
        }
        options.print_json(document)
    else:
        console = options.console()
        table = Table("consumer", "event type", title=f"Audit of {environment}")
        for heading in ("published", "done", "waiting", "dead", "missing"):
            table.add_column(heading, justify="right")
        for line in account.lines:
            figures = [f"{figure:,}" for figure in line[2:]]
            table.add_row(line.consumer, line.event_type, *figures, style="red" if line.missing else None)
        console.print(table)
        if account.unread:
            console.print(f"The journal has {account.unread:,} events to read yet; they count as published after that.")
        for missing in account.missing:
            console.print(f"missing: {missing.consumer} has not got {missing.event_type} {missing.event_id}")
        console.print("It adds up." if account.adds_up else "It does not add up: replay the missing from the archive.")
    if not account.adds_up:
        raise typer.Exit(1)
