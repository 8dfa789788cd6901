"""`offload deliveries`: what third parties are owed, every attempt at it, and the ways back."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any, TypeAlias

import msgspec
import typer

from offload.cli import terminal
from offload.cli.deployment.failure import Failure
from offload.cli.deployment.options import (
    EnvironmentOption,
    JsonOption,
    StackOption,
    console,
    print_columns,
    print_facts,
    print_json,
    utc,
)
from offload.cli.jobs.commands import service_in, watched
from offload.cli.webhooks_out.subscription_commands import senders_in

if TYPE_CHECKING:
    from offload.cli.deployment.resources import Deployment
    from offload.cli.webhooks_out.api import SubscriptionsApi
    from offload.client.jobs import Jobs
    from offload.contracts.jobs.job_type import JobType
    from offload.contracts.webhooks_out.recovery import Recovered, Recovery
    from offload.contracts.webhooks_out.subscription import Attempt, Delivery

app = typer.Typer(help="What third parties are owed: every delivery with its attempts, and the ways back.")

IdArgument: TypeAlias = Annotated[
    str, typer.Argument(metavar="ID", help="The delivery, which is its webhook-id: `offload deliveries list`.")
]

_SHOWN = 20
_STATES = ("waiting", "delivered", "given_up")


@app.command("list")
def list_(
    subscription: Annotated[str | None, typer.Option(metavar="ID", help="Of this subscription only.")] = None,
    event: Annotated[str | None, typer.Option(metavar="ID", help="Of this event only.")] = None,
    tenant: Annotated[str | None, typer.Option(help="Of this tenant's subscriptions only.")] = None,
    event_type: Annotated[str | None, typer.Option("--type", help="Of this event type only.")] = None,
    state: Annotated[str | None, typer.Option(help="waiting, delivered or given_up.")] = None,
    status: Annotated[
        int | None, typer.Option(min=100, max=599, help="Whose latest answer had this HTTP status.")
    ] = None,
    since: Annotated[str | None, typer.Option(help="Owed since: 90s, 10m, 2h, 1d, or a time with its zone.")] = None,
    until: Annotated[str | None, typer.Option(help="Owed until, likewise.")] = None,
    limit: Annotated[int, typer.Option(min=1, help="At most this many.")] = _SHOWN,
    environment: EnvironmentOption = "local",
    as_json: JsonOption = False,
) -> None:
    """List deliveries of all stacks, newest first."""
    from offload.cli.jobs import service as jobs
    from offload.cli.webhooks_out import api as asked
    from offload.contracts.webhooks_out.api import DeliveryFilters

    if state is not None and state not in _STATES:
        raise Failure(f"--state {state}: is none of {', '.join(_STATES)}")
    wanted = asked.checked(
        DeliveryFilters,
        {
            "subscription": subscription,
            "event": event,
            "tenant": tenant,
            "type": event_type,
            "state": state,
            "status": status,
            "since": None if since is None else jobs.since(since),
            "until": None if until is None else jobs.since(until, "--until"),
        },
    )
    with senders_in(environment) as senders:
        found, more = senders.deliveries(wanted, limit)
    if as_json:
        documents = [{**asked.document_of(each), "stack": stack} for stack, each in found]
        print_json({"count": len(found), "more": more, "deliveries": documents})
        return
    if not found:
        console().print("no deliveries")
        return
    headings = ("id", "owed at (UTC)", "type", "event", "subscription", "state", "tries", "")
    styles = {"given_up": "red", "delivered": "green"}
    print_columns(
        [headings, *(_cells(each) for _, each in found)],
        [None, *(styles.get(each.state.value) for _, each in found)],
        stacks=[stack for stack, _ in found] if senders.several else None,
    )
    if more:
        console().print("and maybe older ones: --limit, --since")


@app.command()
def show(id_: IdArgument, environment: EnvironmentOption = "local", as_json: JsonOption = False) -> None:
    """Show a delivery whole: what was sent, every attempt with what came back, and when the next one is."""
    with _api(environment, id_) as api:
        found = api.delivery(id_)
    _show(found, as_json=as_json)


@app.command()
def resend(id_: IdArgument, environment: EnvironmentOption = "local", as_json: JsonOption = False) -> None:
    """Send a delivery that has ended once more, under the same id; the schedule begins anew."""
    from offload.cli.webhooks_out import api as asked

    with _api(environment, id_) as api:
        found = api.resend(id_)
    if as_json:
        print_json(asked.document_of(found))
    else:
        console().print(f"{found.id} waits for its attempt number {found.attempts + 1}", markup=False)


@app.command()
def erase(id_: IdArgument, environment: EnvironmentOption = "local", as_json: JsonOption = False) -> None:
    """Erase what was sent of the delivery's event, to whomever, and what came back; the records stay."""
    with senders_in(environment) as senders:
        found = senders.erase(id_)
    if as_json:
        _show(found, as_json=True)
    else:
        console().print(f"what was sent of event {found.event}, and what came back, is erased", markup=False)


@app.command()
def recover(
    *,
    failed: Annotated[bool, typer.Option("--failed", help="What was given up: it is sent again.")] = False,
    missing: Annotated[
        bool,
        typer.Option("--missing", help="What should exist and does not: events of the archive without a delivery."),
    ] = False,
    since: Annotated[
        str,
        typer.Option(help="Given up, or taken by the bus, since: 90s, 10m, 2h, 1d, or a time with its zone."),
    ],
    until: Annotated[str | None, typer.Option(help="Until, likewise. [now]")] = None,
    subscription: Annotated[str | None, typer.Option(metavar="ID", help="Of this subscription only.")] = None,
    tenant: Annotated[str | None, typer.Option(help="Of this tenant's subscriptions only.")] = None,
    event_type: Annotated[str | None, typer.Option("--type", help="Of this event type only.")] = None,
    before_creation: Annotated[
        bool,
        typer.Option("--before-creation", help="With --missing: also events from before --subscription was there."),
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Count, and do nothing.")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask after the count.")] = False,
    stack: StackOption = None,
    environment: EnvironmentOption = "local",
    as_json: JsonOption = False,
) -> None:
    """Count deliveries that can be brought back, ask, and have a background job bring them back."""
    from msgspec.structs import replace

    from offload.cli.deployment.resources import Deployment
    from offload.cli.jobs import service as asked
    from offload.cli.webhooks_out import api as subscriptions
    from offload.contracts.webhooks_out.recovery import Recovery

    if failed == missing:
        raise Failure("give one of --failed and --missing")
    if before_creation and not (missing and subscription):
        raise Failure("--before-creation is about one subscription's missing deliveries: --missing --subscription ID")
    wanted = subscriptions.checked(
        Recovery,
        {
            "action": "failed" if failed else "missing",
            "since": asked.since(since),
            # Of the count and of what follows it the same.
            "until": datetime.now(UTC) if until is None else asked.since(until, "--until"),
            "subscription": subscription,
            "tenant": tenant,
            "type": event_type,
            "before_creation": before_creation,
            "dry_run": True,
        },
    )
    document: dict[str, Any] = {}
    deployment = Deployment.of(environment)
    recovery = _recovery(deployment, subscription, stack)
    with service_in(deployment) as jobs:
        counted = _ran(jobs, recovery, wanted, document)
        if not as_json:
            _show_count(wanted, counted)
        if not dry_run and counted.found + counted.at_most:
            if not yes:
                terminal.confirm("Bring them back?")
            # The count's own period: another end would bring back what was not counted.
            same = replace(wanted, dry_run=False, until=counted.until or wanted.until)
            recovered = _ran(jobs, recovery, same, document)
            if not as_json:
                _show_recovered(wanted, recovered)
    if as_json:
        print_json(document)


# -- the services


@contextmanager
def _api(environment: str, delivery: str) -> Iterator[SubscriptionsApi]:
    """The API of the sender that has the delivery."""
    with senders_in(environment) as senders:
        yield senders.of_delivery(delivery)


def _recovery(deployment: Deployment, subscription: str | None, stack: str | None) -> JobType[Recovery, Recovered]:
    """The job type by which a sender's deliveries are brought back: that of the stack, or of the subscription."""
    from offload.cli.jobs import service as asked
    from offload.cli.webhooks_out.api import senders_of

    if stack is None and subscription is not None and len(deployment.senders()) > 1:
        with senders_of(deployment) as senders:
            stack = senders.stack_of(subscription)
    sender = deployment.sender_of(stack)
    if sender.recovery is None:
        raise Failure(f"{sender.stack} has a sender without the job that brings deliveries back: deploy it again")
    return asked.job_type_of(sender.recovery)


def _ran(jobs: Jobs, recovery: JobType[Recovery, Recovered], wanted: Recovery, document: dict[str, Any]) -> Recovered:
    """The result of the job that does it, which is also put into the document; its progress is drawn on stderr."""
    from offload.cli.webhooks_out import api as subscriptions
    from offload.client.jobs import NotSucceeded
    from offload.contracts.webhooks_out.recovery import Recovered

    handle = jobs.submit(recovery, wanted)
    job = watched(jobs, handle.id)
    try:
        result = msgspec.json.decode(jobs.result_json(job), type=Recovered)
    except NotSucceeded as error:
        raise Failure(str(error)) from error
    document["counted" if wanted.dry_run else "recovered"] = {
        "job": handle.id,
        **subscriptions.document_of(result),
    }
    return result


# -- printing


def _show_count(wanted: Recovery, counted: Recovered) -> None:
    screen = console()
    what = "given up" if wanted.action.value == "failed" else "missing"
    whose = f" of {_many(counted.subscriptions, 'subscription')}" if counted.found else ""
    screen.print(f"{what}: {_many(counted.found)}{whose}")
    if counted.gone:
        screen.print(f"and {counted.gone:,} that cannot be sent again: what was sent is not kept any more")
    if counted.at_most:
        screen.print(f"and at most {counted.at_most:,} more, by filter or tenant: only a replay can tell")
    if counted.until is not None:
        screen.print(f"of events until {utc(counted.until)}: later ones may not be in the archive yet")


def _show_recovered(wanted: Recovery, recovered: Recovered) -> None:
    screen = console()
    if wanted.action.value == "failed":
        screen.print(f"sent again: {_many(recovered.done)}")
        return
    screen.print(f"owed now: {_many(recovered.done)}")
    if (left := recovered.found - recovered.done) > 0:
        how = "offload dead-letters list, or once more in a while"
        screen.print(f"still missing: {'at least ' if recovered.at_most else ''}{left:,}: {how}")


def _many(count: int, what: str = "delivery") -> str:
    several = {"delivery": "deliveries"}.get(what, f"{what}s")
    return f"{count:,} {what if count == 1 else several}"


def _cells(each: Delivery) -> tuple[str, ...]:
    at = f"{each.created_at.astimezone(UTC):%Y-%m-%d %H:%M:%S}"
    return (each.id, at, each.type, each.event, each.subscription, _state(each), str(each.attempts), _says(each))


def _state(each: Delivery) -> str:
    name = each.state.value.replace("_", " ")
    return f"{name}: {each.reason}" if each.reason else name


def _times(count: int) -> str:
    return {0: "", 1: "once"}.get(count, f"{count} times")


def _says(each: Delivery) -> str:
    answer = str(each.status) if each.status is not None else each.error
    following = f"next {utc(each.next_at)}" if each.next_at else ""
    return ", ".join(part for part in (answer, following) if part)


def _show(found: Delivery, *, as_json: bool) -> None:
    from msgspec import UnsetType

    from offload.cli.webhooks_out import api as asked

    if as_json:
        print_json(asked.document_of(found))
        return
    print_facts(
        {
            "id": found.id,
            "state": _state(found),
            "event": f"{found.event} of {found.source}",
            "type": found.type,
            "subject": found.subject,
            "subscription": f"{found.subscription} of {found.tenant}",
            "owed since": utc(found.created_at),
            "changed": utc(found.changed_at),
            "attempts": str(found.attempts),
            "sent again": _times(found.sent_again),
            "next attempt": utc(found.next_at),
            "error": found.error if not found.attempts else "",
        }
    )
    screen = console()
    for each in () if isinstance(found.tries, UnsetType) else found.tries:
        _show_attempt(each)
    if isinstance(found.body, UnsetType):
        screen.print()
        screen.print("what was sent is not kept any more, or was erased")
    else:
        screen.print()
        screen.json(json.loads(bytes(found.body)))


def _show_attempt(each: Attempt) -> None:
    screen = console()
    at = f"{each.at.astimezone(UTC):%Y-%m-%d %H:%M:%S.%f}"[:-3]
    came = ", ".join(part for part in ("" if each.status is None else str(each.status), each.error) if part)
    style = None if each.succeeded else "red"
    screen.print()
    screen.print(
        f"attempt {each.number}  {at}Z  {each.duration_ms:,} ms  {came}",
        markup=False,
        soft_wrap=True,
        style=style,
    )
    for name, value in each.headers.items():
        screen.print(f"  {name}: {value}", markup=False, soft_wrap=True)
    for line in each.body.splitlines():
        screen.print(f"  | {line}", markup=False, soft_wrap=True)
