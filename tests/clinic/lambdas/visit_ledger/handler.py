"""Adds every visit to the ledger, once, however often its event arrives."""

from __future__ import annotations

from collections.abc import Sequence

from clinic.contracts.visits import Visit, VisitCancelled, VisitEnded
from clinic.ledger import sums_of
from offload.contracts.events.event import Event
from offload.runtime.events.consumer import Effect, transactional_consumer
from offload.runtime.events.sums import Posting
from offload.runtime.settings import Settings


class VisitLedgerSettings(Settings, frozen=True, kw_only=True):
    """The table that the ledger is in."""

    ledger_table: str


settings = VisitLedgerSettings.from_environment()


@transactional_consumer(VisitEnded, VisitCancelled)
def handler(events: Sequence[Event[Visit]]) -> Effect:
    """One posting for the whole batch."""
    return Effect(postings=(Posting(settings.ledger_table, [event.key for event in events], sums_of(events)),))
