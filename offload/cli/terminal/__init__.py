r"""The one place through which the command line prints: tables, lines, errors, JSON, questions.

Endpoints' answers, descriptions, errors of jobs and log lines are written by strangers. Nothing of theirs reaches the
terminal with a control character in it: `visible` turns those into escapes, `--json` has them as `\uXXXX`. Nothing
else of offload.cli writes to stdout or stderr; a test reads the sources for that. What libraries write there
(tracebacks, warnings, wrong usage) goes through `guarded`.
"""

from __future__ import annotations

import io
import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TextIO

from offload.contracts.visible import visible, visible_block, visible_json

if TYPE_CHECKING:
    from offload.cli.terminal.screen import Screen

__all__ = [
    "ask",
    "block",
    "confirm",
    "console",
    "guarded",
    "line",
    "print_json",
    "print_json_line",
    "stop_writing",
    "visible",
]


def line(text: str, *, stderr: bool = False) -> None:
    """Prints one line, at once, also for who reads it through a pipe."""
    _write(f"{visible(text)}\n", stderr=stderr)


def block(text: str, *, stderr: bool = False) -> None:
    """Prints a text that has line breaks of its own, such as a traceback or a page; ends it with one."""
    _write(visible_block(text if text.endswith("\n") else f"{text}\n"), stderr=stderr)


def print_json(value: Any) -> None:
    """Prints a value as JSON on stdout; with characters, not escapes, save those that steer a terminal."""
    _write(visible_json(json.dumps(value, indent=2, ensure_ascii=False)) + "\n")


def print_json_line(value: Any) -> None:
    """Prints a value as one line of JSON on stdout, at once."""
    _write(visible_json(json.dumps(value, ensure_ascii=False)) + "\n")


def console(*, stderr: bool = False) -> Screen:
    """The console for results, on stdout, or for progress. Lines are cut to its width on a terminal only."""
    from offload.cli.terminal.screen import Screen

    stream = _beneath(stderr=stderr)
    return Screen(file=stream, soft_wrap=not stream.isatty(), highlight=False)


def ask(question: str) -> str:
    """Asks for a line on stderr, so that stdout stays the answer; ends the command when nothing comes."""
    import typer

    return str(typer.prompt(visible(question), err=True))


def confirm(question: str) -> None:
    """Asks yes or no on stderr, and ends the command unless the answer is yes."""
    import typer

    typer.confirm(visible(question), abort=True, err=True)


@contextmanager
def guarded() -> Iterator[None]:
    """While it lasts, what anything writes to `sys.stdout` and `sys.stderr` is made visible too, styles included.

    `console` writes beneath it, for the styles there are our own.
    """
    streams = {name: getattr(sys, name) for name in ("stdout", "stderr")}
    guards = {name: _Guard(stream) for name, stream in streams.items()}
    try:
        for name, guard in guards.items():
            setattr(sys, name, guard)
        yield
    finally:
        for name, stream in streams.items():
            # Typer puts another in its place when the reader of a pipe has gone.
            if getattr(sys, name) is guards[name]:
                setattr(sys, name, stream)


def stop_writing() -> None:
    """Lets stdout end in nothing, once its reader has gone: what is in the buffer would fail again when Python ends."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


class _Guard(io.TextIOBase):
    """A text stream whose texts reach the stream beneath without control characters.

    It has no `buffer`: there is no way around it in bytes. It says that it is no terminal: nobody styles for it.
    """

    def __init__(self, beneath: TextIO) -> None:
        self.beneath = beneath

    @property
    def encoding(self) -> str:  # type: ignore[override]
        return self.beneath.encoding

    @property
    def errors(self) -> str | None:  # type: ignore[override]
        return self.beneath.errors

    def writable(self) -> bool:
        return True

    def isatty(self) -> bool:
        return False

    def fileno(self) -> int:
        return self.beneath.fileno()

    def write(self, text: str, /) -> int:
        self.beneath.write(visible_block(text))
        return len(text)

    def flush(self) -> None:
        self.beneath.flush()


def _beneath(*, stderr: bool) -> TextIO:
    stream: TextIO | _Guard = sys.stderr if stderr else sys.stdout
    return stream.beneath if isinstance(stream, _Guard) else stream


def _write(text: str, *, stderr: bool = False) -> None:
    stream = _beneath(stderr=stderr)
    stream.write(text)
    stream.flush()
