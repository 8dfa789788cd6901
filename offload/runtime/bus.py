"""Publishes a function's events, by botocore. Functions that bring no botocore have `runtime/webhooks_in/bus.py`."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from offload.contracts.events.entry import Entry, NotTaken, answered, requests
from offload.runtime import aws


class NotPublished(Exception):
    """The bus refused events. They may be published again, under the same ids."""


def put(bus: str, entries: Sequence[Entry]) -> list[NotTaken | None]:
    """Sends one request; of each entry why the bus did not take it, None when it did. Raises botocore's errors."""
    request: Any = [entry.request(bus) for entry in entries]
    return answered(aws.events().put_events(Entries=request), len(entries))


def publish(bus: str, entries: Iterable[Entry]) -> None:
    """Sends entries in their order, in as few requests as the bus takes.

    Raises NotPublished for the first request of which the bus refuses an entry, and botocore's errors.
    """
    for batch in requests(entries):
        refused = [why for why in put(bus, batch) if why]
        if refused:
            codes = ", ".join(sorted({why.code for why in refused}))
            raise NotPublished(f"the bus refused {len(refused)} events: {codes}")
