"""Function workers that are killed while they work."""

from __future__ import annotations

import math
import os
import random
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

from offload.cli.local.process import EmbeddedAws

_LOOKS_EVERY: Final = 0.1  # seconds


@contextmanager
def workers_killed_all_along(
    embedded: EmbeddedAws, *, every: float, seed: int, most: float = math.inf
) -> Iterator[list[int]]:
    """Kills one of the function workers with SIGKILL again and again, `every` so many seconds in the mean.

    Gives the process ids that were hit, as a list that grows, up to `most`: where everything takes long, an event
    would otherwise lose its worker at each of its attempts.
    """
    chance = random.Random(seed)
    with _killing(embedded, lambda stop: stop.wait(chance.uniform(0.5 * every, 1.5 * every)), chance, most) as killed:
        yield killed


@contextmanager
def workers_killed_as_work_is_done(
    embedded: EmbeddedAws, done: Callable[[], int], *, every: int, seed: int
) -> Iterator[list[int]]:
    """The same, the first as soon as there is one, then one for `every` so many that are `done`, in the mean.

    On a slow machine it takes no work's place.
    """
    chance = random.Random(seed)
    due = 0.0

    def wait(stop: threading.Event) -> bool:
        nonlocal due
        while done() < due or not embedded.workers():
            if stop.wait(_LOOKS_EVERY):
                return True
        due = done() + chance.uniform(0.5 * every, 1.5 * every)
        return False

    with _killing(embedded, wait, chance) as killed:
        yield killed


@contextmanager
def _killing(
    embedded: EmbeddedAws, wait: Callable[[threading.Event], bool], chance: random.Random, most: float = math.inf
) -> Iterator[list[int]]:
    """Kills one whenever `wait` ends, until that says that it was told to stop, or `most` are killed."""
    stop, killed = threading.Event(), list[int]()

    def kill() -> None:
        while len(killed) < most and not wait(stop):
            workers = embedded.workers()
            if workers:
                victim = chance.choice(workers)
                try:
                    os.kill(victim, signal.SIGKILL)
                    killed.append(victim)
                except ProcessLookupError:
                    continue

    thread = threading.Thread(target=kill)
    thread.start()
    try:
        yield killed
    finally:
        stop.set()
        thread.join()
