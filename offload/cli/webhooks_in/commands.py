"""`offload webhooks`: what third parties send, with which secrets, and what became of it."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime, timedelta
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
    print_json,
    read_bytes,
    read_text,
)

if TYPE_CHECKING:
    from offload.cli.deployment.resources import Deployment
    from offload.cli.webhooks_in.received import Came, Comparison, Overview

app = typer.Typer(help="Webhooks of third parties: what came, what was refused and why, their secrets, a test.")

ProviderArgument: TypeAlias = Annotated[
    str, typer.Argument(metavar="PROVIDER", help="Its name: `offload webhooks providers` lists them.")
]

_SHOWN = 20
# offload/runtime/webhooks_in/secret_cache.py: how long functions use what they have read.
_RETIRED = "is retired: warm functions forget it within 30 s, or 15 minutes while Secrets Manager does not answer"


@app.command()
def providers(environment: EnvironmentOption = "local", as_json: JsonOption = False) -> None:
    """Show each provider's URL, its active secrets (never their values), and what came in the last 24 hours."""
    from offload.cli.webhooks_in.received import overviews

    deployment = _deployment(environment)
    found = overviews(deployment)
    if as_json:
        print_json({"providers": [_overview_document(each) for each in found]})
        return
    if not found:
        console().print("no providers: a WebhookReceiver in a stack makes one")
    stacks = Counter(each.provider.name for each in found)
    for each in found:
        _show_overview(each, say_stack=_several(deployment), ambiguous=stacks[each.provider.name] > 1)


@app.command()
def recent(
    provider: Annotated[str | None, typer.Option(help="Of this provider only.")] = None,
    outcome: Annotated[
        str | None, typer.Option(help="accepted, refused, duplicate, owed, or a reason such as bad-signature.")
    ] = None,
    since: Annotated[str, typer.Option(help="How far back to look: 10m, 2h, 30d.")] = "7d",
    limit: Annotated[int, typer.Option(min=1, help="At most this many.")] = _SHOWN,
    stack: StackOption = None,
    environment: EnvironmentOption = "local",
    as_json: JsonOption = False,
) -> None:
    """List what came, over all stacks and providers, newest first. Answers 429 and 5xx are in the receiver's log."""
    from offload.cli.deployment.logs import duration
    from offload.cli.webhooks_in import received as webhooks
    from offload.runtime.webhooks_in.refusals import REFUSALS

    reasons = {refusal.slug for refusal in REFUSALS}
    outcomes = ["accepted", "refused", "duplicate", "owed"]
    if outcome is not None and outcome not in {*outcomes, *reasons}:
        raise Failure(
            f"--outcome {outcome}: is none of {', '.join(outcomes)}, nor a reason: {', '.join(sorted(reasons))}"
        )
    begin = datetime.now(UTC) - duration(since)
    deployment = _deployment(environment)
    found = webhooks.recent(deployment, provider=provider, outcome=outcome, since=begin, limit=limit, stack=stack)
    if as_json:
        print_json({"count": len(found), "webhooks": [each.document() for each in found]})
    elif found:
        headings = ("at (UTC)", "provider", "type", "outcome", "id", "source")
        styles = {"refused": "red"}
        print_columns(
            [headings, *(_cells(each) for each in found)],
            [None, *(styles.get(each.outcome) for each in found)],
            stacks=[each.stack for each in found] if _several(deployment) else None,
        )
        if len(found) == limit:
            console().print("and maybe older ones: --limit")
    else:
        console().print(f"nothing of that kind in the last {since}: --since looks further back")


@app.command()
def show(
    id_: Annotated[
        str, typer.Argument(metavar="ID", help="The sender's delivery id, the event's id, or a refusal's id.")
    ],
    stack: StackOption = None,
    environment: EnvironmentOption = "local",
    as_json: JsonOption = False,
) -> None:
    """Show one delivery or refusal whole."""
    from offload.cli.webhooks_in.received import find

    deployment = _deployment(environment)
    document = find(deployment, id_, stack=stack)
    if as_json:
        print_json(document)
        return
    screen = console()
    event = document.pop("event", None)
    if not _several(deployment):
        del document["stack"]
    for name, value in document.items():
        text = str(value).lower() if isinstance(value, bool) else value
        screen.print(f"{name:<16}{text}", markup=False, soft_wrap=True)
    if event is not None:
        screen.print()
        screen.json(event)
        screen.print()


@app.command()
def rotate(
    provider: ProviderArgument,
    overlap: Annotated[
        str | None, typer.Option(help="How long the old secrets count beside the new one: 10m, 24h, 30d. [24h]")
    ] = None,
    revoke: Annotated[
        bool, typer.Option("--revoke", help="Retire the old ones at once: one of them has leaked.")
    ] = False,
    secret_file: Annotated[
        str | None, typer.Option(metavar="FILE|-", help="The secret that the sender shows, in a file or on stdin.")
    ] = None,
    stack: StackOption = None,
    environment: EnvironmentOption = "local",
    as_json: JsonOption = False,
) -> None:
    """Set a new secret: one that is made and shown once, or the sender's; the old ones count on for the overlap."""
    from offload.cli.webhooks_in import secrets as webhook_secrets

    kept = _overlap(overlap, revoke=revoke)
    given = None if secret_file is None else read_text(secret_file, "--secret-file").rstrip("\r\n")
    deployment = _deployment(environment)
    done = webhook_secrets.rotate(deployment, provider, overlap=kept, given=given, revoke=revoke, stack=stack)
    old = [{"key_id": key_id, "until": _time(until)} for key_id, until in done.old]
    if as_json:
        made = {} if done.made is None else {"secret": done.made}
        of_all = {"provider": provider, "stack": done.stack, "key_id": done.key_id}
        print_json({**of_all, **made, "old": old, "revoked": revoke})
        return
    screen = console()
    whose = f"{provider} in {done.stack}" if _several(deployment) else provider
    screen.print(f"{whose}: {done.key_id} is the newest secret, from now on", markup=False)
    for each in old:
        end = _RETIRED if revoke else f"counts until {each['until']}"
        screen.print(f"{whose}: {each['key_id']} {end}", markup=False)
    if done.made is not None:
        screen.print("Put this into the sender's settings; it is not shown again:")
        terminal.line(str(done.made))


@app.command("test")
def send(
    provider: ProviderArgument,
    event: Annotated[
        str | None,
        typer.Option(metavar="TYPE", help="The event's type as the sender calls it, such as release.published."),
    ] = None,
    payload: Annotated[
        str | None, typer.Option(metavar="FILE|-", help="The body, sent as it stands. Without it, a new one each time.")
    ] = None,
    endpoint: Annotated[str, typer.Option(help="The endpoint behind the provider in the path.")] = "",
    stack: StackOption = None,
    environment: EnvironmentOption = "local",
    as_json: JsonOption = False,
) -> None:
    """Sign and send a webhook as the provider would; exit code 1 when it is not answered 2xx."""
    from offload.cli.webhooks_in import try_endpoint as webhook_sending

    body = None if payload is None else read_bytes(payload, "--payload")
    done = webhook_sending.send(
        _deployment(environment), provider, event=event, payload=body, endpoint=endpoint, stack=stack
    )
    if as_json:
        print_json(vars(done))
    else:
        screen = console()
        screen.print(
            f"{done.status} {done.outcome} in {done.milliseconds:g} ms: {done.bytes} bytes to {done.url}, signed with "
            f"{done.key_id}",
            markup=False,
        )
        if done.event_id:
            screen.print(f"event {done.event_id}", markup=False, soft_wrap=True)
        if not done.taken:
            said = ": ".join(each for each in (done.reason, done.detail) if each)
            screen.print(said or "the answer says no reason", markup=False, soft_wrap=True)
    if not done.taken:
        raise typer.Exit(1)


@app.command()
def missing(
    provider: ProviderArgument,
    deliveries: Annotated[
        str,
        typer.Option(metavar="FILE|-", help="The sender's list: JSON as its API gives it (also JSON lines), or ids."),
    ],
    endpoint: Annotated[
        str | None, typer.Option(help='The endpoint that the list\'s hook sends to, "" for none: others do not count.')
    ] = None,
    stack: StackOption = None,
    environment: EnvironmentOption = "local",
    as_json: JsonOption = False,
) -> None:
    """Compare a sender's list of deliveries with what we have; exit code 1 when one is missing."""
    from offload.cli.webhooks_in import received as webhooks

    listed = webhooks.read_listed(read_text(deliveries, "--deliveries"))
    deployment = _deployment(environment)
    found = webhooks.missing(deployment, provider, listed, endpoint=endpoint, stack=stack)
    how = webhooks.provider_of(deployment, provider).sent_again
    if as_json:
        document = {"listed": found.listed, "have": found.listed - len(found.missing)}
        print_json({**document, "missing": [each.document() for each in found.missing], "send_again": how})
    else:
        _show_missing(found, how)
    if found.missing:
        raise typer.Exit(1)


# -- reading what is typed


def _deployment(environment: str) -> Deployment:
    from offload.cli.deployment.resources import Deployment

    return Deployment.of(environment)


def _several(deployment: Deployment) -> bool:
    """Whether more than one stack has an ingress, so that it has to be said which is meant."""
    return len(deployment.webhook_entries) > 1


def _overlap(text: str | None, *, revoke: bool) -> timedelta:
    from offload.cli.deployment.logs import duration

    if text == "0":
        text = "0s"
    if revoke and text is not None and duration(text):
        raise Failure(f"--revoke retires the old secrets at once, --overlap {text} keeps them: give one of the two")
    return duration("0s" if revoke else text or "24h")


# -- printing


def _overview_document(each: Overview) -> dict[str, Any]:
    day = each.last_day
    return {
        "name": each.provider.name,
        "stack": each.stack,
        "title": each.provider.title,
        "url": each.url,
        "schemes": [scheme.name for scheme in each.provider.schemes],
        "secrets": [
            {"key_id": secret.key_id, "since": _time(secret.since), "until": _time(secret.until)}
            for secret in each.secrets
        ],
        "troubles": list(each.troubles),
        "last_24h": {
            "accepted": day.accepted,
            "duplicates": day.duplicates,
            "refused": dict(day.refused),
            "complete": day.complete,
        },
        "owed": each.owed,
    }


def _show_overview(each: Overview, *, say_stack: bool, ambiguous: bool) -> None:
    """`ambiguous` is a provider that several stacks have."""
    screen = console()
    schemes = ", ".join(scheme.name for scheme in each.provider.schemes)
    where = f" in {each.stack}" if say_stack else ""
    screen.print(f"{each.provider.title} ({schemes}){where}", markup=False, style="bold")
    screen.print(f"  POST {each.url}", markup=False, soft_wrap=True)
    for secret in each.secrets:
        since = f" since {_time(secret.since)}" if secret.since else ""
        until = f", until {_time(secret.until)}" if secret.until else ""
        screen.print(f"  secret {secret.key_id}{since}{until}", markup=False, soft_wrap=True)
    if not each.secrets and not each.troubles:
        how = f"offload webhooks rotate {each.provider.name}" + (f" --stack {each.stack}" if ambiguous else "")
        screen.print(f"  no active secret: {how}", markup=False, style="yellow", soft_wrap=True)
    for trouble in each.troubles:
        screen.print(f"  {trouble}", markup=False, style="red", soft_wrap=True)
    day = each.last_day
    refused = ", ".join(f"{count:,} {reason}" for reason, count in day.refused.items())
    total = f"{sum(day.refused.values()):,} refused" + (f" ({refused})" if refused else "")
    least = "" if day.complete else "at least "
    came = f"{least}{day.accepted:,} accepted, {day.duplicates:,} duplicates, {total}"
    screen.print(f"  24 h: {came}; {each.owed:,} owed to the bus", markup=False, soft_wrap=True)


def _cells(each: Came) -> tuple[str, ...]:
    outcome = each.reason or each.outcome
    if each.owed:
        outcome += ", owed"
    if each.duplicates:
        outcome += f" +{each.duplicates}"
    place = f"{each.provider}/{each.endpoint}" if each.endpoint else each.provider
    at = f"{each.at:%Y-%m-%d %H:%M:%S.%f}"[:-3]
    return (at, place, each.event_type, outcome, each.event_id or each.id, each.source)


def _show_missing(found: Comparison, how: str) -> None:
    screen = console()
    if not found.missing:
        screen.print(f"none of the {found.listed} deliveries is missing")
        return
    rows = [
        (
            each.delivery_id,
            _time(each.delivered_at) or "",
            each.event,
            f"answered {each.answered}" if each.answered else "",
            each.listed_id,
        )
        for each in found.missing
    ]
    print_columns([("missing", "delivered at", "event", "", "id in the list"), *rows])
    screen.print(f"{len(found.missing)} of {found.listed} deliveries are missing")
    if how:
        screen.print(f"To have them sent again: {how}", markup=False, soft_wrap=True)


def _time(moment: datetime | None) -> str | None:
    return f"{moment.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}" if moment else None
