"""Keeps a record of every event that the bus took: its marks and tally are what the audit adds up."""

from __future__ import annotations

from collections.abc import Sequence

from offload.contracts.events.event import Event, EventData
from offload.runtime.events.consumer import Effect, transactional_consumer


@transactional_consumer()
def handler(events: Sequence[Event[EventData]]) -> Effect:  # noqa: ARG001 -- the marks are all that is to be written
    """Nothing beyond the marks."""
    return Effect()
