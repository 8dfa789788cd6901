"""Owes an event to every subscription that wants it, and wakes their senders."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import msgspec
from msgspec import UnsetType

from offload.contracts.event import Event
from offload.contracts.subscriptions.catalogue import OUTWARD_TYPES
from offload.contracts.subscriptions.filters import matches, type_matches
from offload.contracts.subscriptions.message import message_of
from offload.contracts.subscriptions.policy import Policy
from offload.runtime.consumer import Arrival, Effect, consumer_of_arrivals
from offload.runtime.sending.deliveries import Deliveries, Payload
from offload.runtime.sending.items import Record
from offload.runtime.sending.recoveries import Recoveries, is_owed
from offload.runtime.sending.subscriptions import Subscriptions
from offload.runtime.sending.tokens import QueueTokens
from offload.runtime.settings import Settings


class PlannerSettings(Settings, frozen=True, kw_only=True):
    """What the WebhookSender pattern puts into the function's environment."""

    offload_subscriptions_table: str
    offload_sending: str
    offload_sender_queue_url: str
    offload_sender_trouble_queue_url: str


settings = PlannerSettings.from_environment()


def _now() -> datetime:
    return datetime.now(UTC)


subscriptions = Subscriptions(settings.offload_subscriptions_table, _now)
deliveries = Deliveries(
    settings.offload_subscriptions_table, msgspec.json.decode(settings.offload_sending, type=Policy), _now
)
recoveries = Recoveries(settings.offload_subscriptions_table, _now)
tokens = QueueTokens(settings.offload_sender_queue_url, settings.offload_sender_trouble_queue_url)


@consumer_of_arrivals(*OUTWARD_TYPES)
def handler(arrivals: Sequence[Arrival]) -> Effect:
    """Plans, which it may do again and again; so it also does for a replayed event what was not done at first."""
    records = subscriptions.all()
    owing: dict[str, None] = {}
    for arrival in arrivals:
        wanting = _wanting(arrival.event, records)
        if arrival.replay:
            recovery = recoveries.of(arrival.replay)
            wanting = [record for record in wanting if is_owed(record, arrival.event.type, arrival.at, recovery)]
        for subscription in deliveries.plan(_payload(arrival.event), wanting):
            owing[subscription] = None
    healths = subscriptions.healths(owing)
    now = _now()
    # What waits for a paused or parked endpoint costs no invocation: the timekeeper knows when to look.
    tokens.send_all(
        {
            name: health
            for name, (health, active) in healths.items()
            if active and not (health.parked_until and health.parked_until > now)
        }
    )
    return Effect()


def _payload(event: Event[Any]) -> Payload:
    return Payload(
        event=event.id,
        source=event.source,
        type=event.type,
        subject="" if isinstance(event.subject, UnsetType) else event.subject,
        time=event.time,
        body=message_of(event),
    )


def _wanting(event: Event[Any], records: Sequence[Record]) -> list[Record]:
    of_type = [record for record in records if type_matches(record.types, event.type)]
    if not any(record.filter for record in of_type):
        return of_type
    data = msgspec.to_builtins(event.data)
    return [record for record in of_type if record.filter is None or matches(record.filter, data)]
