"""The same task for Dramatiq: its own defaults, with results kept in Redis."""

from __future__ import annotations

import os
from typing import Any

import dramatiq  # type: ignore[import-not-found]  # in the peers' own environment
from dramatiq.brokers.redis import RedisBroker  # type: ignore[import-not-found]
from dramatiq.results import Results  # type: ignore[import-not-found]
from dramatiq.results.backends import RedisBackend  # type: ignore[import-not-found]

URL = os.environ["OFFLOAD_BENCH_REDIS"]

broker = RedisBroker(url=f"{URL}/0")
broker.add_middleware(Results(backend=RedisBackend(url=f"{URL}/1")))
dramatiq.set_broker(broker)
DATABASE = 1
"""Of Redis; nothing else is in it than results."""


@dramatiq.actor(store_results=True)  # type: ignore[untyped-decorator]
def nothing(number: int) -> int:
    """Gives the number back."""
    return number


def send(number: int) -> Any:
    """Submits one task; what it returns is waited for by `wait`."""
    return nothing.send(number)


def wait(sent: Any) -> int:
    """The task's result."""
    return int(sent.get_result(block=True, timeout=60_000))
