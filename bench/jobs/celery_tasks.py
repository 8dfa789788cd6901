"""The same task for Celery: its own defaults, with results kept in Redis.

`OFFLOAD_BENCH_LATE=1` acknowledges a task after it ran, so that a worker's death loses none; Celery's default does not.
"""

from __future__ import annotations

import os
from typing import Any

from celery import Celery  # type: ignore[import-not-found]  # in the peers' own environment

URL = os.environ["OFFLOAD_BENCH_REDIS"]
LATE = os.environ.get("OFFLOAD_BENCH_LATE") == "1"

app = Celery("bench", broker=f"{URL}/0", backend=f"{URL}/1")
app.conf.update(task_acks_late=LATE, task_reject_on_worker_lost=LATE, broker_connection_retry_on_startup=True)
DATABASE = 1
"""Of Redis; nothing else is in it than results."""


@app.task(name="nothing")  # type: ignore[untyped-decorator]
def nothing(number: int) -> int:
    """Gives the number back."""
    return number


def send(number: int) -> Any:
    """Submits one task; what it returns is waited for by `wait`."""
    return nothing.delay(number)


def wait(sent: Any) -> int:
    """The task's result."""
    return int(sent.get(timeout=60))
