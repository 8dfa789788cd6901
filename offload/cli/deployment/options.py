"""What commands share: the options that they take, and how they print columns and facts."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, TypeAlias

import typer

from offload.cli.deployment.failure import Failure
from offload.cli.terminal import console as console
from offload.cli.terminal import print_json as print_json
from offload.cli.terminal import visible

EnvironmentOption: TypeAlias = Annotated[
    str, typer.Option("--environment", "-e", help="The environment: local, or one that is deployed to AWS.")
]
StackOption: TypeAlias = Annotated[
    str | None,
    typer.Option(metavar="NAME", help="The stack that is meant, where several have one: `offload status` lists them."),
]
JsonOption: TypeAlias = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]

_STDIN = "-"


def print_columns(
    rows: Sequence[Sequence[str]], styles: Sequence[str | None] = (), *, stacks: Sequence[str] | None = None
) -> None:
    """Prints rows in columns as wide as they need: ids are there to be copied whole, on a pipe too.

    The first row has the headings. `stacks` is one more column, where it has to be said whose each row is.
    """
    screen = console()
    if stacks is not None:
        rows = [(*row, stack) for row, stack in zip(rows, ("stack", *stacks), strict=True)]
    # Before the widths are measured: an escape is longer than what it stands for.
    shown = [[visible(cell) for cell in row] for row in rows]
    widths = [max(len(cell) for cell in column) for column in zip(*shown, strict=True)]
    for number, row in enumerate(shown):
        line = "  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip()
        screen.print(line, markup=False, soft_wrap=True, style=styles[number] if styles else None)


def print_facts(facts: dict[str, object]) -> None:
    """Prints names with their values, a line each; what is None or empty is left out."""
    screen = console()
    width = max(len(name) for name in facts) + 2
    for name, value in facts.items():
        if value not in (None, "", ()):
            screen.print(f"{name:<{width}}{value}", markup=False, soft_wrap=True)


def utc(moment: datetime | None) -> str:
    """A moment for people, to the second; empty for None."""
    return f"{moment.astimezone(UTC):%Y-%m-%d %H:%M:%SZ}" if moment else ""


def read_text(file: str, option: str) -> str:
    """The text of a file that an option names, or of stdin (`-`); raises Failure when there is none."""
    try:
        return read_bytes(file, option).decode()
    except UnicodeDecodeError:
        raise Failure(f"{option}: {file} is not UTF-8 text") from None


def read_bytes(file: str, option: str) -> bytes:
    """The content of a file that an option names, or of stdin (`-`); raises Failure when it cannot be read."""
    if file == _STDIN:
        return sys.stdin.buffer.read()
    try:
        return Path(file).read_bytes()
    except OSError as error:
        raise Failure(f"{option}: {file}: {error.strerror or error}") from error
