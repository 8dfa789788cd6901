"""What the bus is told of subscriptions whose endpoints fail."""

from __future__ import annotations

from datetime import datetime
from typing import ClassVar

from offload.contracts.events.audience import Audience, tenant_in
from offload.contracts.events.event import EventData, Id, Moment


class _SubscriptionEvent(EventData, frozen=True, kw_only=True):
    SOURCE: ClassVar[str] = "offload.subscriptions"
    TYPE: ClassVar[str] = ""
    AUDIENCE: ClassVar[Audience | None] = tenant_in("tenant")

    subscription: Id
    tenant: str
    url: str
    failing_since: Moment

    @property
    def subject(self) -> str:
        """The subscription."""
        return self.subscription


class SubscriptionFailing(_SubscriptionEvent, frozen=True, kw_only=True):
    """An endpoint fails and is on its way to the pause: told at 50, 70 and 90 percent of it, each once."""

    TYPE: ClassVar[str] = "subscription.failing"

    percent: int
    pauses_at: Moment
    noticed_at: Moment

    @property
    def key(self) -> str:
        """The subscription, since when it fails, and how far it is."""
        return f"{self.subscription}:{self.failing_since.isoformat()}:{self.percent}"

    @property
    def occurred_at(self) -> datetime:
        """When it was noticed."""
        return self.noticed_at


class SubscriptionPaused(_SubscriptionEvent, frozen=True, kw_only=True):
    """A subscription is paused, since its endpoint failed for long (`failing`) or said that it is gone (`gone`)."""

    TYPE: ClassVar[str] = "subscription.paused"

    reason: str
    paused_at: Moment

    @property
    def key(self) -> str:
        """The subscription, and since when it is paused."""
        return f"{self.subscription}:{self.paused_at.isoformat()}"

    @property
    def occurred_at(self) -> datetime:
        """When it was paused."""
        return self.paused_at


class SubscriptionRecovered(_SubscriptionEvent, frozen=True, kw_only=True):
    """An endpoint that had been failing or paused takes deliveries again."""

    TYPE: ClassVar[str] = "subscription.recovered"

    recovered_at: Moment

    @property
    def key(self) -> str:
        """The subscription, and since when it had been failing."""
        return f"{self.subscription}:{self.failing_since.isoformat()}"

    @property
    def occurred_at(self) -> datetime:
        """When it recovered."""
        return self.recovered_at


SUBSCRIPTION_EVENTS: tuple[type[EventData], ...] = (SubscriptionFailing, SubscriptionPaused, SubscriptionRecovered)
