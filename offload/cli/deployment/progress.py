"""What a command that takes a while shows: one line a step, with its seconds."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator

from offload.cli.terminal.screen import Screen


class Steps:
    """Shows steps one after the other; on a terminal with a spinner, elsewhere as plain lines."""

    def __init__(self, console: Screen) -> None:
        self.console = console

    @contextlib.contextmanager
    def step(self, title: str) -> Iterator[list[str]]:
        """Shows `title` while the body runs, then how long it took and what the body put into the yielded list."""
        notes: list[str] = []
        began = time.monotonic()
        if self.console.is_terminal:
            with self.console.status(f"{title} …"):
                yield notes
        else:
            # Said at once: somebody may be looking at a log that stands still.
            self.console.print(f"{title} …", highlight=False, soft_wrap=True)
            yield notes
        seconds = f"{time.monotonic() - began:5.1f} s"
        remark = f" ({', '.join(notes)})" if notes else ""
        self.console.print(f"{seconds}  {title}{remark}", highlight=False, soft_wrap=True, markup=False)

    def say(self, text: str) -> None:
        """A line between steps."""
        self.console.print(text, highlight=False, soft_wrap=True)


SILENT = Steps(Screen(quiet=True))
"""Shows nothing, for tests and for commands that print JSON."""
