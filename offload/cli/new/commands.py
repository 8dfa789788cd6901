"""`offload new`: what writes code."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeAlias

import typer

from offload.cli import terminal

if TYPE_CHECKING:
    from offload.cli.new.parts import App, Part

app = typer.Typer(no_args_is_help=True, help="Write a new app, or a part of one.")

DryRunOption: TypeAlias = Annotated[
    bool, typer.Option("--dry-run", help="Say which files it would write, and write none.")
]
StackOption: TypeAlias = Annotated[
    str | None,
    typer.Option("--stack", metavar="NAME", help="The module in stacks/ that it goes into, if several."),
]


@app.callback()
def new() -> None:
    """Write a new app, or a part of one."""


@app.command("app")
def new_app(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="The folder to make; its name is the app's.")],
    *,
    requirement: Annotated[
        str | None, typer.Option(help="The framework, as requirements.txt has it; else the one that runs this.")
    ] = None,
    dry_run: DryRunOption = False,
) -> None:
    """Write an app that works: one event with a consumer, one job, tests; `make up` and `make test` run it."""
    from offload.cli.new import app as new

    folder = folder.resolve()
    contents = new.files(folder, requirement)
    if dry_run:
        for path in contents:
            terminal.line(path.relative_to(folder.parent).as_posix())
        return
    lock = new.write(contents, folder)
    terminal.line(f"{len(contents) + 1} files are in {folder}, {lock.relative_to(folder)} among them. Next:")
    terminal.block(f"  cd {folder}\n  make up      start an embedded AWS here and deploy the app to it\n  make test")


@app.command("event")
def new_event(
    event_type: Annotated[str, typer.Argument(metavar="TYPE", help="The event's type, such as appointment.booked.")],
    *,
    dry_run: DryRunOption = False,
) -> None:
    """Write an event type: its contract, a test of it, and its place in the catalogue."""
    from offload.cli.new import kinds

    _write(lambda app: kinds.event(app, event_type), dry_run=dry_run)


@app.command("consumer")
def new_consumer(
    name: Annotated[str, typer.Argument(help="Its folder in lambdas/, such as appointment_reminder.")],
    *,
    event_type: Annotated[str, typer.Option("--event", metavar="TYPE", help="The type of the events that it takes.")],
    stack: StackOption = None,
    dry_run: DryRunOption = False,
) -> None:
    """Write a consumer of an event type: its function, and its construct in a stack."""
    from offload.cli.new import kinds

    _write(lambda app: kinds.consumer(app, name, event_type, stack), dry_run=dry_run)


@app.command("job")
def new_job(
    name: Annotated[str, typer.Argument(help="The type's name and its folder in lambdas/, such as yearly_report.")],
    *,
    stack: StackOption = None,
    dry_run: DryRunOption = False,
) -> None:
    """Write a job type: its contract, its function, its construct, a test, and its place in the catalogue."""
    from offload.cli.new import kinds

    _write(lambda app: kinds.job(app, name, stack), dry_run=dry_run)


@app.command("webhook")
def new_webhook(
    name: Annotated[str, typer.Argument(help="The provider, such as github, or parcel-service.")],
    *,
    stack: StackOption = None,
    dry_run: DryRunOption = False,
) -> None:
    """Write a provider of webhooks: how it signs, and its receiver in a stack."""
    from offload.cli.new import kinds

    _write(lambda app: kinds.webhook(app, name, stack), dry_run=dry_run)


@app.command("integration")
def new_integration(
    name: Annotated[str, typer.Argument(help="The third party, and its folder in lambdas/, such as parcel_service.")],
    *,
    event_type: Annotated[str, typer.Option("--event", metavar="TYPE", help="The type of the events to call it for.")],
    stack: StackOption = None,
    dry_run: DryRunOption = False,
) -> None:
    """Write a call of a third party for each event of a type: its function, and its constructs in a stack."""
    from offload.cli.new import kinds

    _write(lambda app: kinds.integration(app, name, event_type, stack), dry_run=dry_run)


@app.command("table")
def new_table(
    name: Annotated[str, typer.Argument(help="What it holds, such as appointments.")],
    *,
    function: Annotated[str, typer.Option("--function", metavar="NAME", help="The folder in lambdas/ that uses it.")],
    dry_run: DryRunOption = False,
) -> None:
    """Write a table that a function may read and write: its construct, its grant, and how items are kept."""
    from offload.cli.new import kinds

    _write(lambda app: kinds.table(app, name, function), dry_run=dry_run)


def remove(
    name: Annotated[
        str, typer.Argument(help="A folder in lambdas/, an event type, a provider of webhooks, or a table.")
    ],
    *,
    kind: Annotated[
        str | None, typer.Option(help="What it is, where several have the name: function, event, provider or table.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what it would remove, and change nothing.")] = False,
) -> None:
    """Remove a part of the app: what `offload new` wrote of it; says what data stays, and where."""
    from offload.cli.new import removal

    _write(lambda app: removal.remove(app, name, kind), dry_run=dry_run)


def _write(make: Callable[[App], Part], *, dry_run: bool) -> None:
    from offload.cli.new.parts import App
    from offload.project import PROJECT, Project

    app = App.of(Project.at(PROJECT))
    part = make(app)
    if not dry_run:
        part.write()
    for what, files in (("new", part.added), ("changed", part.changed), ("removed", part.removed)):
        for path in sorted(files):
            terminal.line(f"{what:8}{app.shown(path)}")
    for each in part.todo:
        terminal.line(f"next    {each}")
