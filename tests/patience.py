"""How long tests wait for what must come: long enough for a machine that is many times slower than usual."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from mypy_boto3_sqs import SQSClient

PATIENCE: Final = 4 * 3600.0
"""Seconds. Reached only by what never comes: no test takes it for a measure of anything."""


def queue_without_redelivery(sqs: SQSClient, name: str) -> str:
    """Makes a queue that gives each message once, however slow the test; by default it is redelivered after 30 s."""
    return sqs.create_queue(QueueName=name, Attributes={"VisibilityTimeout": "43200"})["QueueUrl"]


def until(condition: Callable[[], bool], what: str, *, shortest: float = 0.1, longest: float = 1.0) -> None:
    """Waits for a condition; fails with what was waited for.

    Looks cost what is looked at its time: between them are `shortest` seconds at first, and up to `longest` of a long
    wait.
    """
    began = time.monotonic()
    while not condition():
        waited = time.monotonic() - began
        assert waited < PATIENCE, f"waited {PATIENCE:.0f} s for {what}"
        time.sleep(min(longest, max(shortest, waited / 10)))
