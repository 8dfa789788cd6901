"""How a process of its own learns that it is to end."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from queue import SimpleQueue
from types import FrameType

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


@contextmanager
def set_by_signals(stop: threading.Event) -> Iterator[None]:
    """Within it, SIGINT and SIGTERM set `stop`; afterwards they do what they did before. In the main thread only.

    A handler may run while its own thread is inside `stop.wait()` and holds the event's lock, so it may not set the
    event itself: it would wait for ever. A SimpleQueue takes an item at any moment ("SimpleQueue.put" in
    docs.python.org/3/library/queue.html, read 2026-11-29).
    """
    asked: SimpleQueue[bool] = SimpleQueue()

    def set_when_asked() -> None:
        if asked.get():
            stop.set()

    def end(_signal: int, _frame: FrameType | None) -> None:
        asked.put(True)

    listener = threading.Thread(target=set_when_asked, name="signals", daemon=True)
    listener.start()
    before = {number: signal.signal(number, end) for number in _SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        asked.put(False)
