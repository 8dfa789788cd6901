"""`offload dead-letters`: what consumers gave up on, why, and sending it through again."""

from __future__ import annotations

import json
from collections import Counter
from typing import TYPE_CHECKING, Annotated, TypeAlias

import typer

from offload.operate.failure import Failure
from offload.operate.options import EnvironmentOption, JsonOption, console, print_json

if TYPE_CHECKING:
    from offload.operate.dead_letters import DeadLetter, DeadLetters, Listing

app = typer.Typer(help="What consumers gave up on: list it with its reasons, look at it, send it through again.")

ConsumerOption: TypeAlias = Annotated[str | None, typer.Option(help="Of this consumer only, such as SalesLedger.")]
ReasonOption: TypeAlias = Annotated[str | None, typer.Option(help="With this reason only, such as broken-contract.")]

_DEFAULT_LIMIT = 1_000
_SHOWN = 50


@app.command("list")
def list_(
    consumer: ConsumerOption = None,
    reason: ReasonOption = None,
    limit: Annotated[int, typer.Option(min=1, help="Look at this many of a queue at most.")] = _DEFAULT_LIMIT,
    environment: EnvironmentOption = "local",
    as_json: JsonOption = False,
) -> None:
    """List dead letters with their reasons. The queues stay as they are."""
    from offload.operate.dead_letters import Wanted

    listing = _dead_letters(environment).listing(Wanted(consumer, reason), limit=limit)
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
    from offload.operate.dead_letters import Wanted

    listing = _dead_letters(environment).listing(Wanted(id=id_), limit=1_000_000)
    if not listing.letters:
        raise Failure(f"there is no dead letter '{id_}' in environment {environment}: offload dead-letters list")
    if as_json:
        print_json([{**letter.summary(), "body": letter.body} for letter in listing.letters])
        return
    for letter in listing.letters:
        _show(letter)


@app.command()
def redrive(
    consumer: ConsumerOption = None,
    reason: ReasonOption = None,
    id_: Annotated[str | None, typer.Option("--id", help="This one only: its id, or its event's.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Count, and send nothing.")] = False,
    environment: EnvironmentOption = "local",
    as_json: JsonOption = False,
) -> None:
    """Send dead letters through again, to the consumer that gave up on them; nothing is done twice."""
    from offload.operate.dead_letters import Wanted

    dead_letters, wanted = _dead_letters(environment), Wanted(consumer, reason, id_)
    if dry_run:
        letters = dead_letters.listing(wanted, limit=1_000_000).letters
        by_consumer = dict(Counter(letter.consumer for letter in letters))
        by_reason, refused = dict(Counter(letter.reason for letter in letters)), 0
    else:
        redriven = dead_letters.redrive(wanted)
        by_consumer, by_reason, refused = redriven.by_consumer, redriven.by_reason, redriven.refused
    count = sum(by_consumer.values())
    if id_ and not count and not refused:
        raise Failure(f"there is no dead letter '{id_}' in environment {environment}: offload dead-letters list")
    if as_json:
        print_json(
            {"dry_run": dry_run, "count": count, "refused": refused, "by_consumer": by_consumer, "by_reason": by_reason}
        )
    else:
        verb = "would be sent" if dry_run else "sent"
        of_each = ", ".join(f"{name} {number}" for name, number in sorted(by_consumer.items()))
        console().print(f"{count} dead letters {verb} through again{f': {of_each}' if of_each else ''}")
    if refused:
        raise Failure(f"{refused} dead letters were refused by the consumer's queue and stayed where they are")


def _dead_letters(environment: str) -> DeadLetters:
    from offload.operate.dead_letters import DeadLetters
    from offload.operate.resources import Deployment

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
    try:
        body = json.dumps(json.loads(letter.body), indent=2, ensure_ascii=False)
    except ValueError:
        body = letter.body
    screen.print(f"\n{body}\n", markup=False, soft_wrap=True)
