"""`offload new`: what writes code."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeAlias

import typer

from offload.cli import terminal

if TYPE_CHECKING:
    from offload.cli.new.parts import App, Part

app = typer.Typer(no_args_is_help=True, help="Write a new app, or a part of one: an event, a consumer, a job.")

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
    from offload.cli.new import parts

    _write(lambda app: parts.event(app, event_type), dry_run=dry_run)


@app.command("consumer")
def new_consumer(
    name: Annotated[str, typer.Argument(help="Its folder in lambdas/, such as appointment_reminder.")],
    *,
    event_type: Annotated[str, typer.Option("--event", metavar="TYPE", help="The type of the events that it takes.")],
    stack: StackOption = None,
    dry_run: DryRunOption = False,
) -> None:
    """Write a consumer of an event type: its function, and its construct in a stack."""
    from offload.cli.new import parts

    _write(lambda app: parts.consumer(app, name, event_type, stack), dry_run=dry_run)


@app.command("job")
def new_job(
    name: Annotated[str, typer.Argument(help="The type's name and its folder in lambdas/, such as yearly_report.")],
    *,
    stack: StackOption = None,
    dry_run: DryRunOption = False,
) -> None:
    """Write a job type: its contract, its function, its construct, a test, and its place in the catalogue."""
    from offload.cli.new import parts

    _write(lambda app: parts.job(app, name, stack), dry_run=dry_run)


def _write(make: Callable[[App], Part], *, dry_run: bool) -> None:
    from offload.cli.new import parts
    from offload.project import PROJECT, Project

    app = parts.App.of(Project.at(PROJECT))
    part = make(app)
    if not dry_run:
        parts.write(part, app)
    for what, files in (("new", part.added), ("changed", part.changed)):
        for path in files:
            terminal.line(f"{what:8}{path.relative_to(app.project.root).as_posix()}")
    for each in part.todo:
        terminal.line(f"next    {each}")
