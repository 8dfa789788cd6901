"""`offload subscriptions`: third parties that are told of events."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any, TypeAlias

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

if TYPE_CHECKING:
    from offload.cli.webhooks_out.api import Senders, SubscriptionsApi
    from offload.contracts.webhooks_out.subscription import Subscription

app = typer.Typer(help="Third parties that are told of events: their endpoints, what they want, how they fare.")

IdArgument: TypeAlias = Annotated[
    str, typer.Argument(metavar="ID", help="The subscription: `offload subscriptions list` has the ids.")
]
SecretOption: TypeAlias = Annotated[
    str | None, typer.Option(metavar="WHSEC", help="Their secret, whsec_…; on a shared machine --secret-stdin.")
]
SecretStdinOption: TypeAlias = Annotated[
    bool, typer.Option("--secret-stdin", help="Read their secret from stdin, where no list of processes shows it.")
]
HeaderOption: TypeAlias = Annotated[
    list[str] | None, typer.Option(metavar="NAME: VALUE", help="A header of their own; several times for several.")
]
TagOption: TypeAlias = Annotated[list[str] | None, typer.Option(help="A tag; several times for several.")]
RateOption: TypeAlias = Annotated[int | None, typer.Option(min=1, help="At most so many deliveries a second.")]

_TYPE_HELP = "An event type, a prefix such as order.*, or * for all; several times for several."
_FILTER_HELP = 'Only events whose data match, such as {"country": ["France"]}.'
_STATES = ("active", "paused")
_ONCE = "It is not shown again."


@app.command()
def create(
    url: Annotated[str, typer.Option(help="Where to: https://…, or the ARN of an SQS queue or an event bus.")],
    types: Annotated[list[str], typer.Option("--type", help=_TYPE_HELP)],
    *,
    tenant: Annotated[str | None, typer.Option(help="Whose it is. Without one it is told of all tenants'.")] = None,
    filter_: Annotated[str | None, typer.Option("--filter", metavar="JSON", help=_FILTER_HELP)] = None,
    secret: SecretOption = None,
    secret_stdin: SecretStdinOption = False,
    header: HeaderOption = None,
    rate: RateOption = None,
    ordered: Annotated[
        bool, typer.Option("--ordered", help="Deliveries of one subject wait for those before.")
    ] = False,
    ed25519: Annotated[bool, typer.Option("--ed25519", help="Sign with a key pair too (v1a).")] = False,
    description: Annotated[str | None, typer.Option(help="For people.")] = None,
    tag: TagOption = None,
    stack: StackOption = None,
    environment: EnvironmentOption = "local",
    as_json: JsonOption = False,
) -> None:
    """Subscribe an endpoint to event types; prints its id and, this once, its secret."""
    from offload.cli.webhooks_out import api as asked
    from offload.contracts.webhooks_out.subscription import Wish

    wish = asked.checked(
        Wish,
        {
            "url": url,
            "types": types,
            "tenant": tenant,
            "filter": None if filter_ is None else asked.filter_of(filter_),
            "secret": _secret(secret, from_stdin=secret_stdin),
            "headers": asked.headers_of(header),
            "rate": rate,
            "ordered": ordered,
            "ed25519": ed25519,
            "description": description,
            "tags": tag,
        },
    )
    with _api(environment, stack=stack) as api:
        created = api.create(wish)
    if as_json:
        document = asked.document_of(created.subscription)
        print_json({**document, "secret": created.secret})
        return
    screen = console()
    screen.print(created.subscription.id, markup=False)
    if created.subscription.public_key:
        screen.print(f"public key {created.subscription.public_key}", markup=False, soft_wrap=True)
    if created.secret:
        screen.print(f"secret {created.secret}", markup=False, soft_wrap=True)
        screen.print(f"Hand it to the receiver. {_ONCE}")


@app.command("list")
def list_(
    tenant: Annotated[str | None, typer.Option(help="Of this tenant only.")] = None,
    state: Annotated[str | None, typer.Option(help="active or paused.")] = None,
    event_type: Annotated[str | None, typer.Option("--type", help="Those that this event type goes to.")] = None,
    environment: EnvironmentOption = "local",
    as_json: JsonOption = False,
) -> None:
    """List the subscriptions of all stacks, and how their endpoints fare."""
    from offload.cli.webhooks_out import api as asked
    from offload.contracts.webhooks_out.api import SubscriptionFilters

    if state is not None and state not in _STATES:
        raise Failure(f"--state {state}: is none of {', '.join(_STATES)}")
    wanted = asked.checked(SubscriptionFilters, {"tenant": tenant, "state": state, "type": event_type})
    with senders_in(environment) as senders:
        found = senders.subscriptions(wanted)
    if as_json:
        print_json({"subscriptions": [{**asked.document_of(each), "stack": stack} for stack, each in found]})
        return
    if not found:
        console().print("no subscriptions")
        return
    rows = [
        (each.id, each.tenant, ", ".join(each.types), asked.health_of(each), each.url, ", ".join(each.tags))
        for _, each in found
    ]
    headings = ("id", "tenant", "types", "health", "url", "tags")
    stacks = [stack for stack, _ in found] if senders.several else None
    print_columns([headings, *rows], [None, *(_style(each) for _, each in found)], stacks=stacks)


@app.command()
def show(id_: IdArgument, environment: EnvironmentOption = "local", as_json: JsonOption = False) -> None:
    """Show a subscription whole. Secrets and the values of own headers are shown to nobody."""
    with _api(environment, subscription=id_) as api:
        found = api.subscription(id_)
    _show(found, as_json=as_json)


@app.command()
def change(
    id_: IdArgument,
    *,
    url: Annotated[str | None, typer.Option(help="Where to, from now on, also for what waits.")] = None,
    types: Annotated[list[str] | None, typer.Option("--type", help=_TYPE_HELP)] = None,
    filter_: Annotated[str | None, typer.Option("--filter", metavar="JSON", help=_FILTER_HELP)] = None,
    no_filter: Annotated[bool, typer.Option("--no-filter", help="Take the filter away.")] = False,
    header: HeaderOption = None,
    no_headers: Annotated[bool, typer.Option("--no-headers", help="Take all own headers away.")] = False,
    rate: RateOption = None,
    no_rate: Annotated[bool, typer.Option("--no-rate", help="Take the limit away.")] = False,
    description: Annotated[str | None, typer.Option(help="For people.")] = None,
    tag: TagOption = None,
    environment: EnvironmentOption = "local",
    as_json: JsonOption = False,
) -> None:
    """Change what is given: all types, all own headers and all tags together, anew."""
    from offload.cli.webhooks_out import api as asked
    from offload.contracts.webhooks_out.subscription import Change

    fields: dict[str, Any] = {
        "url": url,
        "types": types or None,
        "filter": None if filter_ is None else asked.filter_of(filter_),
        "headers": asked.headers_of(header) or None,
        "rate": rate,
        "description": description,
        "tags": tag or None,
    }
    gone: dict[str, tuple[bool, Any]] = {
        "filter": (no_filter, None),
        "headers": (no_headers, {}),
        "rate": (no_rate, None),
    }
    for name, (wished, _) in gone.items():
        if wished and fields[name] is not None:
            raise Failure(f"the {name} cannot be set and taken away at once")
    wanted = {name: value for name, value in fields.items() if value is not None}
    wanted |= {name: empty for name, (wished, empty) in gone.items() if wished}
    if not wanted:
        raise Failure("nothing to change: `offload subscriptions change --help` lists what can be")
    with _api(environment, subscription=id_) as api:
        # Not `checked`: what is taken away is null, which says something here.
        found = api.change(id_, _change(Change, wanted))
    _show(found, as_json=as_json)


@app.command()
def pause(id_: IdArgument, environment: EnvironmentOption = "local", as_json: JsonOption = False) -> None:
    """Pause a subscription: what is owed to it waits, and is sent once it is resumed, the oldest first."""
    with _api(environment, subscription=id_) as api:
        _said(api.pause(id_), f"what is owed to it waits: offload subscriptions resume {id_}", as_json=as_json)


@app.command()
def resume(id_: IdArgument, environment: EnvironmentOption = "local", as_json: JsonOption = False) -> None:
    """Let a subscription go on: what waits is sent at its rate, the oldest first."""
    with _api(environment, subscription=id_) as api:
        _said(api.resume(id_), "what waits is sent, the oldest first", as_json=as_json)


@app.command("test")
def try_(
    id_: IdArgument,
    event_type: Annotated[
        str | None, typer.Option("--type", help="Send this type's example, in place of a test's own.")
    ] = None,
    environment: EnvironmentOption = "local",
    as_json: JsonOption = False,
) -> None:
    """Send a test event now, once, and show what came back; exit code 1 when that is not 2xx."""
    from offload.cli.webhooks_out import api as asked

    with _api(environment, subscription=id_) as api:
        tried = api.test(id_, event_type)
    attempt = tried.attempt
    if as_json:
        print_json(asked.document_of(tried))
    else:
        screen = console()
        came = f"{attempt.status}" if attempt.status is not None else attempt.error
        screen.print(f"{came} in {attempt.duration_ms:,} ms from {attempt.url}", markup=False, soft_wrap=True)
        if attempt.status is not None and attempt.error:
            screen.print(attempt.error, markup=False, soft_wrap=True)
        if attempt.body:
            for line in attempt.body.splitlines():
                screen.print(f"  | {line}", soft_wrap=True)
    if not attempt.succeeded:
        raise typer.Exit(1)


@app.command()
def rotate(
    id_: IdArgument,
    *,
    overlap: Annotated[
        str, typer.Option(help="How long the old secret signs beside the new one: 24h, 7d, 0h.")
    ] = "24h",
    secret: SecretOption = None,
    secret_stdin: SecretStdinOption = False,
    environment: EnvironmentOption = "local",
    as_json: JsonOption = False,
) -> None:
    """Give a subscription a new secret, shown this once; the old one signs beside it for the overlap."""
    from offload.cli.webhooks_out import api as asked
    from offload.contracts.webhooks_out.api import Rotation

    brought = _secret(secret, from_stdin=secret_stdin)
    wanted = asked.checked(Rotation, {"overlap_hours": asked.overlap_hours(overlap), "secret": brought})
    with _api(environment, subscription=id_) as api:
        done = api.rotate(id_, wanted)
    if as_json:
        print_json({"id": id_, "secret": done.secret, "old_until": utc(done.old_until)})
        return
    screen = console()
    if brought is None:
        screen.print(f"secret {done.secret}", markup=False, soft_wrap=True)
    screen.print(f"The old one signs too until {utc(done.old_until)}. {_ONCE if brought is None else ''}".rstrip())


@app.command("rotate-sealing-key")
def rotate_sealing_key(
    stack: StackOption = None, environment: EnvironmentOption = "local", as_json: JsonOption = False
) -> None:
    """Change the key that a sender's secrets are sealed with in the table; exit code 1 when one could not be opened."""
    from dataclasses import asdict

    from offload.cli.deployment.progress import SILENT, Steps
    from offload.cli.deployment.resources import Deployment
    from offload.cli.webhooks_out.api import subscriptions_api
    from offload.cli.webhooks_out.sealing_key import rotate_sealing_key as rotate_key

    deployment = Deployment.of(environment)
    with subscriptions_api(deployment, stack) as api:
        done = rotate_key(deployment, api, SILENT if as_json else Steps(console()), stack=stack)
    if as_json:
        print_json(asdict(done))
    for each in () if as_json else done.lost:
        console().print(
            f"{each}: no key opens its secret: offload subscriptions rotate {each} --overlap 0h",
            markup=False,
            soft_wrap=True,
        )
    if done.lost:
        raise typer.Exit(1)


@app.command()
def delete(
    id_: IdArgument,
    *,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    environment: EnvironmentOption = "local",
) -> None:
    """Delete a subscription: what is still owed to it is given up, each with that reason."""
    with _api(environment, subscription=id_) as api:
        found = api.subscription(id_)
        if not yes:
            terminal.confirm(f"Delete {id_} of {found.tenant} to {found.url}, and give up what it is owed?")
        api.delete(id_)
    console().print(f"{id_} is deleted; what was owed to it is given up", markup=False)


@app.command("event-types")
def event_types(environment: EnvironmentOption = "local", as_json: JsonOption = False) -> None:
    """List what can be subscribed to; with --json also each type's schema and an example."""
    from offload.cli.webhooks_out import api as asked

    with senders_in(environment) as senders:
        found = senders.event_types()
    if as_json:
        print_json(asked.document_of(found))
        return
    print_columns(
        [("type", "for", "says that"), *((each.type, each.audience, each.description) for each in found.event_types)]
    )


# -- the API, and what is typed


@contextmanager
def senders_in(environment: str) -> Iterator[Senders]:
    """The APIs of all senders of an environment."""
    from offload.cli.deployment.resources import Deployment
    from offload.cli.webhooks_out.api import senders_of

    with senders_of(Deployment.of(environment)) as senders:
        yield senders


@contextmanager
def _api(environment: str, *, stack: str | None = None, subscription: str | None = None) -> Iterator[SubscriptionsApi]:
    """The API of a stack's sender, or of the one that has the subscription."""
    from offload.cli.deployment.resources import Deployment
    from offload.cli.webhooks_out.api import subscriptions_api

    if subscription is not None:
        with senders_in(environment) as senders:
            yield senders.of_subscription(subscription)
        return
    with subscriptions_api(Deployment.of(environment), stack) as api:
        yield api


def _secret(typed: str | None, *, from_stdin: bool) -> str | None:
    if not from_stdin:
        return typed
    if typed is not None:
        raise Failure("--secret and --secret-stdin: give one of the two")
    read = sys.stdin.readline().strip()
    if not read:
        raise Failure("--secret-stdin: stdin is empty")
    return read


def _change(kind: type[Any], wanted: dict[str, Any]) -> Any:
    import msgspec

    try:
        return msgspec.convert(wanted, kind)
    except msgspec.ValidationError as error:
        raise Failure(str(error)) from error


# -- printing


def _show(found: Subscription, *, as_json: bool) -> None:
    from offload.cli.webhooks_out import api as asked

    if as_json:
        print_json(asked.document_of(found))
        return
    import json

    print_facts(
        {
            "id": found.id,
            "tenant": found.tenant,
            "url": found.url,
            "types": ", ".join(found.types),
            "filter": json.dumps(found.filter, ensure_ascii=False) if found.filter is not None else "",
            "health": asked.health_of(found),
            "failures": f"{found.health.failure_rate:.0%} of the latest attempts" if found.health.failure_rate else "",
            "rate": f"{found.rate} a second" if found.rate else "",
            "ordered": "by subject" if found.ordered else "",
            "headers": ", ".join(found.headers),
            "secrets": f"{found.secrets} sign" if found.secrets > 1 else "one signs",
            "public key": found.public_key,
            "description": found.description,
            "tags": ", ".join(found.tags),
            "created": utc(found.created_at),
            "changed": utc(found.changed_at) if found.changed_at != found.created_at else "",
        }
    )


def _said(found: Subscription, more: str, *, as_json: bool) -> None:
    if as_json:
        _show(found, as_json=True)
    else:
        console().print(f"{found.id} is {found.state}: {more}", markup=False, soft_wrap=True)


def _style(found: Subscription) -> str | None:
    if found.state.value == "paused":
        return "red"
    return "yellow" if found.health.failing_since or found.health.parked_until else None
