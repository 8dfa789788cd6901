"""`offload dead-letters`: what consumers gave up on, why, and sending it through again."""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, TypeAlias

import typer

from offload.cli import terminal
from offload.cli.deployment.failure import Failure
from offload.cli.deployment.options import EnvironmentOption, JsonOption, console, print_json

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

    from offload.cli.events.dead_letters import DeadLetter, DeadLetters, Listing, Wanted

app = typer.Typer(help="What consumers gave up on: list it with its reasons, look at it, send it through again.")

ConsumerOption: TypeAlias = Annotated[str | None, typer.Option(help="Of this consumer only, such as Reminders.")]
ReasonOption: TypeAlias = Annotated[str | None, typer.Option(help="With this reason only, such as broken-contract.")]

TypeOption: TypeAlias = Annotated[
    str | None, typer.Option("--type", help="Of events of this type only, such as appointment.booked.")
]
TextOption: TypeAlias = Annotated[str | None, typer.Option(help="Whose error has this text in it, whatever its case.")]
_MOMENT = ["%Y-%m-%dT%H:%M:%SZ", "%Y-%m-%dT%H:%M:%S", "%Y-%m-%d"]
SinceOption: TypeAlias = Annotated[
    datetime | None, typer.Option(formats=_MOMENT, help="Given up on at this time (UTC) or later.")
]
UntilOption: TypeAlias = Annotated[
    datetime | None, typer.Option(formats=_MOMENT, help="Given up on at this time (UTC) or earlier.")
]
IdOption: TypeAlias = Annotated[str | None, typer.Option("--id", help="This one only: its id, or its event's.")]

_DEFAULT_LIMIT = 1_000
_ALL = 1_000_000
_SHOWN = 50


@app.command("list")
def list_(
    consumer: ConsumerOption = None,
    reason: ReasonOption = None,
    event_type: TypeOption = None,
    text: TextOption = None,
    since: SinceOption = None,
    until: UntilOption = None,
    limit: Annotated[int, typer.Option(min=1, help="Look at this many of a queue at most.")] = _DEFAULT_LIMIT,
    environment: EnvironmentOption = "local",
    as_json: JsonOption = False,
) -> None:
    """List dead letters with their reasons. The queues stay as they are."""
    wanted = _wanted(consumer, reason, event_type, text, since, until, None)
    listing = _dead_letters(environment).listing(wanted, limit=limit)
    if as_json:
        counts = Counter(letter.reason for letter in listing.letters)
        print_json(
            {
                "count": len(listing.letters),
                "complete": listing.complete,
                "by_reason": dict(sorted(counts.items())),
                "dead_letters": [letter.summary() for letter in listing.letters],
            }
        )
        return
    _show_listing(listing, limit)


@app.command()
def show(
    id_: Annotated[str, typer.Argument(metavar="ID", help="The dead letter's id, or its event's.")],
    environment: EnvironmentOption = "local",
    as_json: JsonOption = False,
) -> None:
    """Show dead letters whole: the reason, and the message as the consumer got it."""
    from offload.cli.events.dead_letters import Wanted

    letters = _found(_dead_letters(environment), Wanted(id=id_), environment)
    if as_json:
        print_json([{**letter.summary(), "body": letter.body} for letter in letters])
        return
    for letter in letters:
        _show(letter)


@app.command()
def redrive(
    consumer: ConsumerOption = None,
    reason: ReasonOption = None,
    event_type: TypeOption = None,
    text: TextOption = None,
    since: SinceOption = None,
    until: UntilOption = None,
    id_: IdOption = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Count, and send nothing.")] = False,
    environment: EnvironmentOption = "local",
    as_json: JsonOption = False,
) -> None:
    """Send dead letters through again, to the consumer that gave up on them; nothing is done twice."""
    wanted = _wanted(consumer, reason, event_type, text, since, until, id_)
    dead_letters = _dead_letters(environment)
    found = _found(dead_letters, wanted, environment)
    if dry_run:
        _report("redriven", found, (), as_json=as_json, dry_run=True)
        return
    with _progress("Redriving", len(found)) as progress:
        handled = dead_letters.redrive(wanted, progress=progress)
    _report("redriven", handled.letters, handled.stayed, as_json=as_json)


@app.command()
def drop(
    because: Annotated[str, typer.Option(help="Why nobody needs them; kept with the record of each.")],
    consumer: ConsumerOption = None,
    reason: ReasonOption = None,
    event_type: TypeOption = None,
    text: TextOption = None,
    since: SinceOption = None,
    until: UntilOption = None,
    id_: IdOption = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Count, and drop nothing.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    environment: EnvironmentOption = "local",
    as_json: JsonOption = False,
) -> None:
    """Delete dead letters that nobody needs, for good. Each is recorded, and the audit counts it as dropped."""
    from datetime import UTC, datetime

    wanted = _wanted(consumer, reason, event_type, text, since, until, id_)
    if wanted.is_all:
        raise Failure("drop needs to know which: --consumer, --reason, --type, --text, --since, --until or --id")
    if not because.strip():
        raise Failure("--because: say why nobody needs them")
    dead_letters, dynamodb = _dead_letters(environment), _dynamodb(environment)
    found = _found(dead_letters, wanted, environment)
    if dry_run:
        _report("dropped", found, (), as_json=as_json, dry_run=True)
        return
    if found and not yes:
        _ask(found, environment)
    with _progress("Dropping", len(found)) as progress:
        handled = dead_letters.drop(wanted, because, dynamodb=dynamodb, now=datetime.now(UTC), progress=progress)
    _report("dropped", handled.letters, handled.stayed, as_json=as_json)


def _wanted(
    consumer: str | None,
    reason: str | None,
    event_type: str | None,
    text: str | None,
    since: datetime | None,
    until: datetime | None,
    id_: str | None,
) -> Wanted:
    from datetime import UTC

    from offload.cli.events.dead_letters import Wanted

    bounds = (bound.replace(tzinfo=UTC) if bound else None for bound in (since, until))
    return Wanted(consumer, reason, id_, event_type, text, *bounds)


def _found(dead_letters: DeadLetters, wanted: Wanted, environment: str) -> tuple[DeadLetter, ...]:
    letters = dead_letters.listing(wanted, limit=_ALL).letters
    if wanted.id and not letters:
        raise Failure(f"there is no dead letter '{wanted.id}' in environment {environment}: offload dead-letters list")
    return letters


def _ask(letters: Sequence[DeadLetter], environment: str) -> None:
    """Says how many letters would be dropped, and ends the command unless the answer is yes."""
    console(stderr=True).print(f"{len(letters):,} dead letters of {environment}: {_counts(letters)}", markup=False)
    if not sys.stdin.isatty():
        raise Failure("nothing was dropped: --yes drops them without a question")
    terminal.confirm("Drop them for good?")


@contextmanager
def _progress(title: str, count: int) -> Iterator[Callable[[int], None]]:
    """A bar on stderr, so that what stands on stdout stays the answer."""
    from rich.progress import Progress

    with Progress(console=console(stderr=True), transient=True, disable=not count) as bar:
        task = bar.add_task(title, total=count)
        yield lambda number: bar.advance(task, number)


def _report(
    done: str,
    letters: Sequence[DeadLetter],
    stayed: Sequence[DeadLetter],
    *,
    as_json: bool,
    dry_run: bool = False,
) -> None:
    if as_json:
        print_json(
            {
                "dry_run": dry_run,
                "count": len(letters),
                "refused": len(stayed),
                "by_consumer": dict(Counter(letter.consumer for letter in letters)),
                "by_reason": dict(Counter(letter.reason for letter in letters)),
                "dead_letters": [
                    {**letter.summary(), "outcome": outcome}
                    for outcome, of in (("found" if dry_run else done, letters), ("refused", stayed))
                    for letter in of
                ],
            }
        )
    else:
        verb = f"would be {done}" if dry_run else done
        counts = f": {_counts(letters)}" if letters else ""
        console().print(f"{len(letters):,} dead letters {verb}{counts}", markup=False)
        for letter in stayed:
            console().print(f"refused, and still there: {letter.consumer} {letter.id}", markup=False)
    if stayed:
        raise Failure(f"{len(stayed)} dead letters were refused by SQS and stayed where they are: try again")


def _counts(letters: Sequence[DeadLetter]) -> str:
    counts = Counter((letter.consumer, letter.reason) for letter in letters)
    return ", ".join(f"{consumer} {count:,} {reason}" for (consumer, reason), count in sorted(counts.items()))


def _dynamodb(environment: str) -> DynamoDBClient:
    from offload.cli.deployment.resources import Deployment

    return Deployment.of(environment).aws.dynamodb


def _dead_letters(environment: str) -> DeadLetters:
    from offload.cli.deployment.resources import Deployment
    from offload.cli.events.dead_letters import DeadLetters

    deployment = Deployment.of(environment)
    return DeadLetters(deployment.aws.sqs, deployment.consumers())


def _show_listing(listing: Listing, limit: int) -> None:
    screen = console()
    if not listing.letters:
        screen.print("no dead letters")
        return
    # Two lines a letter and no table: ids and details are long, and are there to be copied whole.
    for letter in listing.letters[:_SHOWN]:
        columns = (letter.consumer, letter.reason, letter.event_id or "(no event id)", letter.failed_at)
        screen.print("  ".join((*columns, f"id {letter.id}")), markup=False, soft_wrap=True)
        if letter.detail:
            screen.print(f"    {letter.detail}", markup=False, soft_wrap=True, style="dim")
    if len(listing.letters) > _SHOWN:
        screen.print(f"and {len(listing.letters) - _SHOWN} more: --consumer, --reason, or --json for all of them")
    counts = Counter((letter.consumer, letter.reason) for letter in listing.letters)
    for (consumer, reason), count in sorted(counts.items()):
        screen.print(f"{consumer}: {count} {reason}")
    if not listing.complete:
        screen.print(f"A queue holds more than the {limit} that were looked at: --limit looks at more")


def _show(letter: DeadLetter) -> None:
    screen = console()
    for name, value in letter.summary().items():
        if value:
            screen.print(f"{name:<12}", str(value), markup=False)
    screen.print()
    try:
        screen.json(json.loads(letter.body))
    except ValueError:
        screen.print(letter.body, soft_wrap=True)
    screen.print()
