"""`offload events`: the event types there are, and publishing one event by hand."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated

import typer

from offload.cli.catalogue import catalogue
from offload.cli.deployment.failure import Failure
from offload.cli.deployment.options import EnvironmentOption, JsonOption, console, print_json

app = typer.Typer(help="Event types, and publishing one event by hand.")


@app.command()
def types(as_json: JsonOption = False) -> None:
    """List the event types that are published, with what they require."""
    from offload.cli.schemas.schemas import schema_of

    rows = [
        {
            "type": contract.TYPE,
            "version": contract.VERSION,
            "source": contract.SOURCE,
            "dataschema": contract.schema_uri(),
            "required": schema_of(contract)["required"],
            "description": schema_of(contract)["description"].splitlines()[0],
        }
        for contract in sorted(catalogue().event_types, key=lambda each: each.TYPE)
    ]
    if as_json:
        print_json(rows)
        return
    from rich import box
    from rich.table import Table

    table = Table("type", "version", "requires", "says that", box=box.SIMPLE_HEAD)
    for row in rows:
        table.add_row(row["type"], str(row["version"]), ", ".join(row["required"]), row["description"])
    console().print(table)


@app.command()
def publish(
    event_type: Annotated[str, typer.Argument(metavar="TYPE", help="The event's type, such as appointment.booked.")],
    data: Annotated[typer.FileBinaryRead, typer.Option(metavar="FILE|-", help="Its data as JSON; - reads stdin.")],
    environment: EnvironmentOption = "local",
    as_json: JsonOption = False,
) -> None:
    """Publish one event from its data, once it keeps its contract. The same data is the same event."""
    from offload.contracts.events.event import BrokenContract, Envelope, by_type

    contracts = by_type(catalogue().event_types)
    if event_type not in contracts:
        raise Failure(f"there is no event type '{event_type}': {', '.join(sorted(contracts))}")
    name = getattr(data, "name", "<stdin>")
    # Read as a consumer would read it: by the contract, in an envelope.
    envelope = Envelope(id="-", source="-", type=event_type, time=datetime.now(UTC), specversion="1.0")
    try:
        event = envelope.event(contracts, data.read()).data.event()
    except BrokenContract as error:
        raise Failure(f"{name}: not the data of {event_type}: {error}; see schemas/{event_type}.json") from error
    from offload.cli.deployment.resources import Deployment
    from offload.cli.events.journal import journal_of, published_with_other_data
    from offload.cli.events.publishing import publisher_of
    from offload.client.publisher import EventTooLarge, NotPublished

    deployment = Deployment.of(environment)
    journal = journal_of(deployment)
    try:
        conflict = bool(
            journal
            and journal.marks_table
            and published_with_other_data(journal.marks_table, [event], deployment.aws.dynamodb)
        )
        published = publisher_of(deployment).publish_many([event])
    except (BrokenContract, EventTooLarge, NotPublished) as error:
        raise Failure(f"{name}: {error}") from error
    if as_json:
        print_json(
            {
                "id": event.id,
                "type": event.type,
                "source": event.source,
                "claim_check": published.claim_checks > 0,
                "conflict": conflict,
            }
        )
        return
    console().print(f"published {event.id}", markup=False)
    if conflict:
        console().print(
            "It was published before with other data: consumers keep the first. A correction needs an id of its own",
            markup=False,
        )
