"""What of an invocation is known to whatever runs in it: how long it may still run, and the trace it belongs to."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Protocol


class Timed(Protocol):
    """What Lambda's context says of time."""

    def get_remaining_time_in_millis(self) -> int:
        """Milliseconds until the function is killed."""
        ...


_remaining: ContextVar[Callable[[], int] | None] = ContextVar("remaining", default=None)
_traceparent: ContextVar[str | None] = ContextVar("traceparent", default=None)


@contextmanager
def running(context: Timed) -> Iterator[None]:
    """Within it, `remaining_ms` is that of Lambda's `context`."""
    token = _remaining.set(lambda: context.get_remaining_time_in_millis())
    try:
        yield
    finally:
        _remaining.reset(token)


@contextmanager
def traced(traceparent: str | None) -> Iterator[None]:
    """Within it, `traceparent` (W3C Trace Context) is that of the event or job that is worked on."""
    token = _traceparent.set(traceparent)
    try:
        yield
    finally:
        _traceparent.reset(token)


def remaining_ms() -> int | None:
    """Milliseconds that the function has left; None where nobody said."""
    remaining = _remaining.get()
    return None if remaining is None else remaining()


def traceparent() -> str | None:
    """The trace of what is worked on; None where it has none."""
    return _traceparent.get()
