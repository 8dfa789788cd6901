"""Adds every invoice to the sales ledger, once, however often its event arrives."""

from __future__ import annotations

from collections.abc import Sequence

from offload.contracts.events.event import Event
from offload.runtime.events.consumer import Effect, transactional_consumer
from offload.runtime.events.sums import Posting
from offload.runtime.settings import Settings
from shop.contracts.orders import Invoice, OrderCancelled, OrderPlaced
from shop.ledger import sums_of


class SalesLedgerSettings(Settings, frozen=True, kw_only=True):
    """The table that the ledger is in."""

    ledger_table: str


settings = SalesLedgerSettings.from_environment()


@transactional_consumer(OrderPlaced, OrderCancelled)
def handler(events: Sequence[Event[Invoice]]) -> Effect:
    """One posting for the whole batch."""
    return Effect(postings=(Posting(settings.ledger_table, [event.key for event in events], sums_of(events)),))
