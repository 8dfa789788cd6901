"""Tells the bus of subscriptions whose endpoints fail, are paused, or are well again."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from offload.contracts.events.entry import Entry
from offload.contracts.events.event import Event
from offload.contracts.webhooks_out.events import SubscriptionFailing, SubscriptionPaused, SubscriptionRecovered
from offload.contracts.webhooks_out.policy import Policy
from offload.runtime import bus
from offload.runtime.webhooks_out.health import Signal
from offload.runtime.webhooks_out.items import Record


class BusSignals:
    """Publishes signals on the bus `name`. Their ids follow from what they say: told again they are the same events."""

    def __init__(self, name: str) -> None:
        self._name = name

    def publish(self, record: Record, signals: Sequence[Signal], policy: Policy) -> None:
        """Publishes an event for each signal. Raises NotPublished, and botocore's errors."""
        bus.publish(self._name, [Entry.of(event_of(record, signal, policy)) for signal in signals])


def event_of(record: Record, signal: Signal, policy: Policy) -> Event[Any]:
    """The event that a signal becomes."""
    endpoint: dict[str, Any] = {
        "subscription": record.id,
        "tenant": record.tenant,
        "url": record.url,
        "failing_since": signal.failing_since,
    }
    if signal.kind == "failing":
        pauses_at = signal.failing_since + policy.pause_after
        return SubscriptionFailing(
            **endpoint, percent=signal.percent, pauses_at=pauses_at, noticed_at=signal.at
        ).event()
    if signal.kind == "paused":
        return SubscriptionPaused(**endpoint, reason=str(record.reason or "failing"), paused_at=signal.at).event()
    return SubscriptionRecovered(**endpoint, recovered_at=signal.at).event()
