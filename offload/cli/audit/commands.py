"""`offload audit`: whether everything that was published or accepted is accounted for."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from offload.cli.deployment import options

if TYPE_CHECKING:
    from offload.cli.audit.deliveries import DeliveryAccount
    from offload.cli.audit.jobs import JobAccount
    from offload.cli.terminal.screen import Screen


def show(*, environment: options.EnvironmentOption = "local", as_json: options.JsonOption = False) -> None:
    """Show published = done + waiting + dead + dropped of events, accepted = ended + open of jobs; exit 1 for a gap.

    A webhook that was stored over five minutes ago and is not on the bus is missing too, and so is a delivery to a
    subscriber that waits and that nobody will attempt.
    """
    from rich.table import Table

    from offload.cli.audit.events import audit
    from offload.cli.deployment.resources import Deployment

    account = audit(Deployment.of(environment))
    if as_json:
        document = {
            "adds_up": account.adds_up,
            "unread": account.unread,
            "lines": [line._asdict() for line in account.lines],
            "missing": [missing._asdict() for missing in account.missing],
            "conflicts": [conflict._asdict() for conflict in account.conflicts],
            "unidentified": [letter.summary() for letter in account.unidentified],
        }
        if account.jobs is not None:
            document["jobs"] = {
                "adds_up": account.jobs.adds_up,
                "lines": [line._asdict() for line in account.jobs.lines],
                "odd": [odd._asdict() for odd in account.jobs.odd],
            }
        if account.deliveries is not None:
            document["deliveries"] = {
                "adds_up": account.deliveries.adds_up,
                "lines": [line._asdict() for line in account.deliveries.lines],
                "odd": [odd._asdict() for odd in account.deliveries.odd],
            }
        document["webhooks_owed"] = [{**each._asdict(), "since": each.since.isoformat()} for each in account.webhooks]
        options.print_json(document)
    else:
        console = options.console()
        table = Table("consumer", "event type", title=f"Audit of {environment}")
        headings = ["published", "done", "waiting", "dead", "missing"]
        if any(line.dropped for line in account.lines):
            headings.append("dropped")
        for heading in headings:
            table.add_column(heading, justify="right")
        for line in account.lines:
            figures = [f"{figure:,}" for figure in line[2 : 2 + len(headings)]]
            table.add_row(line.consumer, line.event_type, *figures, style="red" if line.missing else None)
        console.print(table)
        if account.unread:
            console.print(f"The journal has {account.unread:,} events to read yet; they count as published after that.")
        for missing in account.missing:
            console.print(
                f"missing: {missing.consumer} has not got {missing.event_type} {missing.event_id}", markup=False
            )
        for conflict in account.conflicts:
            console.print(
                f"conflict: {conflict.consumer} has had {conflict.repeats:,} {conflict.event_type} under the id of an"
                f" event that it had done, with other data: offload logs {conflict.consumer}",
                markup=False,
            )
        for letter in account.unidentified:
            console.print(
                f"unidentified: {letter.consumer} gave up on an event whose name cannot be looked up:"
                f" offload dead-letters show {letter.id}",
                markup=False,
            )
        if account.jobs is not None:
            _show_jobs(account.jobs, console)
        if account.deliveries is not None and account.deliveries.lines:
            _show_deliveries(account.deliveries, console)
        for webhook in account.webhooks:
            which = f"{webhook.provider} in {webhook.stack}, {webhook.key}"
            what = f"owed: a webhook of {which}, stored at {webhook.since:%Y-%m-%d %H:%M:%SZ}"
            console.print(f"{what} and not on the bus: offload logs webhook_relay", markup=False)
        if account.adds_up:
            console.print("It adds up.")
        elif not account.events_add_up:
            console.print("It does not add up: replay the missing from the archive.")
        elif account.webhooks:
            console.print("It does not add up: webhooks are stored, and the relay does not bring them to the bus.")
        elif account.deliveries is not None and not account.deliveries.adds_up:
            console.print("It does not add up: deliveries are owed, and nobody will attempt them.")
        else:
            console.print("It does not add up: accepted jobs are neither ended nor looked at in time.")
    if not account.adds_up:
        raise typer.Exit(1)


def _show_jobs(jobs: JobAccount, console: Screen) -> None:
    from rich import box
    from rich.table import Table

    # Without lines it fits a pipe's 80 columns with the types' names whole.
    table = Table("job type", title="Jobs", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for heading in ("accepted", "ended", "waiting", "queued", "running", "held", "missing"):
        table.add_column(heading, justify="right")
    for line in jobs.lines:
        table.add_row(line.type, *(f"{figure:,}" for figure in line[1:]), style="red" if line.missing else None)
    console.print(table)
    for odd in jobs.odd:
        console.print(f"{odd.what}: {odd.type} {odd.job}: {odd.why}", markup=False)


def _show_deliveries(deliveries: DeliveryAccount, console: Screen) -> None:
    from rich import box
    from rich.table import Table

    table = Table("subscription", "tenant", title="Deliveries", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for heading in ("owed", "delivered", "waiting", "given up"):
        table.add_column(heading, justify="right")
    table.add_column("")
    several = len({line.stack for line in deliveries.lines}) > 1
    if several:
        table.add_column("stack")
    troubled = {odd.subscription for odd in deliveries.odd}
    for line in deliveries.lines:
        reasons = ", ".join(f"{count:,} {reason}" for reason, count in line.given_up.items())
        figures = (line.owed, line.delivered, line.waiting, sum(line.given_up.values()))
        style = "red" if line.subscription in troubled else None
        cells = (line.subscription, line.tenant, *(f"{figure:,}" for figure in figures), reasons)
        table.add_row(*cells, *((line.stack,) if several else ()), style=style)
    console.print(table)
    for odd in deliveries.odd:
        console.print(f"{odd.what}: {odd.delivery} to {odd.subscription}: {odd.why}", markup=False)
