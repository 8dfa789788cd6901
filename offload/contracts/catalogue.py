"""Every event type that is published, for schemas, the command line and the audit. A new contract is added here."""

from __future__ import annotations

from typing import Final

from offload.contracts.event import EventData
from offload.contracts.jobs.events import JobFinished, JobWanted
from offload.contracts.orders import OrderCancelled, OrderPlaced
from offload.contracts.stock import StockLow
from offload.contracts.subscriptions.events import SUBSCRIPTION_EVENTS
from offload.contracts.webhooks.github import RELEASES, PullRequestClosed

EVENT_TYPES: Final[tuple[type[EventData], ...]] = (
    OrderPlaced,
    OrderCancelled,
    StockLow,
    JobWanted,
    JobFinished,
    *SUBSCRIPTION_EVENTS,
    *RELEASES,
    PullRequestClosed,
)
