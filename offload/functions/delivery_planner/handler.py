"""Owes an event to every subscription that wants it, and wakes their senders."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
from msgspec import UnsetType

from offload.contracts.events.event import Event
from offload.contracts.webhooks_out.filters import matches, type_matches
from offload.contracts.webhooks_out.message import message_of
from offload.contracts.webhooks_out.tenants import is_told
from offload.runtime.catalogue import catalogue
from offload.runtime.events.consumer import Arrival, Effect, consumer_of_arrivals
from offload.runtime.log import Logger
from offload.runtime.webhooks_out.deliveries import Payload
from offload.runtime.webhooks_out.deployed import SendingSettings, utc_now
from offload.runtime.webhooks_out.items import Record
from offload.runtime.webhooks_out.recoveries import Recoveries, is_owed

settings = SendingSettings.from_environment()
subscriptions, deliveries, tokens = settings.subscriptions, settings.deliveries, settings.tokens
recoveries = Recoveries(settings.offload_subscriptions_table, utc_now)
log = Logger(service="delivery_planner")


class Unplanned(Exception):
    """Subscriptions that could not be asked whether they want an event; the others have it."""


@consumer_of_arrivals(*catalogue().outward_types)
def handler(arrivals: Sequence[Arrival]) -> Effect:
    """Plans, which it may do again and again; so it also does for a replayed event what was not done at first."""
    records = subscriptions.all()
    owing: dict[str, None] = {}
    unplanned: list[str] = []
    for arrival in arrivals:
        wanting, failed = _wanting(arrival.event, records)
        unplanned += failed
        if arrival.replay:
            recovery = recoveries.of(arrival.replay)
            wanting = [record for record in wanting if is_owed(record, arrival.event.type, arrival.at, recovery)]
        for subscription in deliveries.plan(_payload(arrival.event), wanting):
            owing[subscription] = None
    healths = subscriptions.healths(owing)
    now = utc_now()
    # What waits for a paused or parked endpoint costs no invocation: the sweeper knows when to look.
    tokens.send_all(
        {
            name: health
            for name, (health, active) in healths.items()
            if active and not (health.parked_until and health.parked_until > now)
        }
    )
    if unplanned:
        # The event is retried, and becomes a dead letter with this reason, while every other subscriber has it.
        raise Unplanned(f"the filter of {', '.join(sorted(set(unplanned)))} cannot be applied: the log has the error")
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


def _wanting(event: Event[Any], records: Sequence[Record]) -> tuple[list[Record], list[str]]:
    """The subscriptions that want the event and may be told, and the ids of those whose filter failed on it."""
    of_type = [
        record for record in records if type_matches(record.types, event.type) and is_told(record.tenant, event.data)
    ]
    if not any(record.filter for record in of_type):
        return of_type, []
    data = msgspec.to_builtins(event.data)
    wanting: list[Record] = []
    failed: list[str] = []
    for record in of_type:
        try:
            if record.filter is None or matches(record.filter, data):
                wanting.append(record)
        except Exception:  # one subscriber's filter fails for that subscriber alone
            log.exception("filter failed", subscription=record.id, event_id=event.id, event_type=event.type)
            failed.append(record.id)
    return wanting, failed
