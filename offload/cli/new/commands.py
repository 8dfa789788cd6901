"""`offload new`: what writes code."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from offload.cli import terminal

app = typer.Typer(no_args_is_help=True, help="Write a new app.")


@app.callback()
def new() -> None:
    """Write a new app."""


@app.command("app")
def new_app(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="The folder to make; its name is the app's.")],
    *,
    requirement: Annotated[
        str | None, typer.Option(help="The framework, as requirements.txt has it; else the one that runs this.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say which files it would write, and write none.")] = False,
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
