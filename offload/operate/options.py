"""What commands share: the options that they take, and how they print."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Annotated, Any, TypeAlias

import typer

if TYPE_CHECKING:
    from rich.console import Console

EnvironmentOption: TypeAlias = Annotated[
    str, typer.Option("--environment", "-e", help="The environment: local, or one that is deployed to AWS.")
]
JsonOption: TypeAlias = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]


def console() -> Console:
    """The console for results, on stdout; lines are cut to its width on a terminal only."""
    from rich.console import Console

    return Console(soft_wrap=not sys.stdout.isatty(), highlight=False)


def print_json(value: Any) -> None:
    """Prints a value as JSON on stdout; with characters, not escapes."""
    sys.stdout.write(json.dumps(value, indent=2, ensure_ascii=False) + "\n")
