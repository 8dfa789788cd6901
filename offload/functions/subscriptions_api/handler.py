"""The HTTP API of subscriptions and deliveries: a function for each route of `offload.contracts.webhooks_out.api`."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any, Final

import msgspec
from msgspec import Raw, UnsetType
from msgspec.structs import replace

from offload.contracts.events.audience import OPERATORS
from offload.contracts.events.event import Event
from offload.contracts.webhooks_out.api import (
    ROUTES,
    Deliveries,
    DeliveryFilters,
    EventType,
    EventTypes,
    Resealed,
    Rotation,
    SubscriptionFilters,
    Subscriptions,
    Trial,
    Tried,
)
from offload.contracts.webhooks_out.filters import type_matches
from offload.contracts.webhooks_out.message import TEST_TYPE, Message, message_of
from offload.contracts.webhooks_out.subscription import Delivery, SubscriptionState, Wish
from offload.contracts.webhooks_out.tenants import example_for, may_be_told
from offload.runtime.catalogue import catalogue
from offload.runtime.http.guard import Guard
from offload.runtime.http_api import Answer, HttpApi, Request
from offload.runtime.lean_aws import services
from offload.runtime.log import Logger
from offload.runtime.webhooks_out import listing
from offload.runtime.webhooks_out.deployed import SendingSettings, utc_now
from offload.runtime.webhooks_out.items import Entry, Record, delivery_id, delivery_of
from offload.runtime.webhooks_out.refusals import BadTypes
from offload.runtime.webhooks_out.signing import signed_headers
from offload.runtime.webhooks_out.subscribing import Subscribing
from offload.runtime.webhooks_out.transport import Transport
from offload.runtime.webhooks_out.vault import Vault


class ApiSettings(SendingSettings, frozen=True, kw_only=True):
    """And what the API alone is given."""

    offload_sending_destinations: str
    offload_sealing_secret: str


log = Logger(service="subscriptions_api")
settings = ApiSettings.from_environment()
policy = settings.policy
OUTWARD: Final = catalogue().outward_examples
guard = Guard.from_environment()
store, owed, tokens = settings.subscriptions, settings.deliveries, settings.tokens
subscribing = Subscribing(
    store,
    Vault.of_secret(settings.offload_sealing_secret, services()[2]),
    guard,
    policy,
    utc_now,
    outward=OUTWARD,
    destinations=[each for each in settings.offload_sending_destinations.split(",") if each],
)
transport = Transport(guard, timeout=policy.timeout, connect=timedelta(seconds=policy.connect_seconds), now=utc_now)
# One loop for the life of the worker, to which the connections of the pool belong.
loop = asyncio.new_event_loop()


def create(request: Request) -> Answer:
    """POST /subscriptions."""
    wish: Wish = request.wanted
    created, new = subscribing.create(wish, request.idempotency_key)
    return Answer(201 if new else 200, created, {"location": f"/subscriptions/{created.subscription.id}"})


def page(request: Request) -> Answer:
    """GET /subscriptions."""
    wanted: SubscriptionFilters = request.wanted
    found = [
        record
        for record in sorted(store.all(), key=lambda record: record.id)
        if (isinstance(wanted.tenant, UnsetType) or record.tenant == wanted.tenant)
        and (isinstance(wanted.state, UnsetType) or record.state is wanted.state)
        and (isinstance(wanted.type, UnsetType) or _is_told_of(record, wanted.type))
        and (isinstance(wanted.cursor, UnsetType) or record.id > wanted.cursor)
    ]
    shown, more = found[: wanted.limit], len(found) > wanted.limit
    healths = store.healths(record.id for record in shown)
    now = utc_now()
    return Answer(
        200,
        Subscriptions(
            [
                record.shown(healths[record.id][0], now, policy.pause_after)
                for record in shown
                # One that was deleted since is not there any more.
                if record.id in healths
            ],
            shown[-1].id if more else None,
        ),
    )


def show(_request: Request, subscription: str) -> Answer:
    """GET /subscriptions/{id}."""
    return Answer(200, subscribing.show(subscription))


def change(request: Request, subscription: str) -> Answer:
    """PATCH /subscriptions/{id}."""
    return Answer(200, subscribing.change(subscription, request.wanted))


def delete(_request: Request, subscription: str) -> Answer:
    """DELETE /subscriptions/{id}."""
    subscribing.delete(subscription)
    tokens.send(subscription, proven=False)
    return Answer(204, None)


def pause(_request: Request, subscription: str) -> Answer:
    """POST /subscriptions/{id}/pause."""
    return Answer(200, subscribing.pause(subscription))


def resume(_request: Request, subscription: str) -> Answer:
    """POST /subscriptions/{id}/resume."""
    shown = subscribing.resume(subscription)
    tokens.send(subscription, proven=False)
    return Answer(200, shown)


def rotate(request: Request, subscription: str) -> Answer:
    """POST /subscriptions/{id}/rotate."""
    wanted: Rotation = request.wanted
    return Answer(200, subscribing.rotate(subscription, timedelta(hours=wanted.overlap_hours), wanted.secret))


def reseal(_request: Request, subscription: str) -> Answer:
    """POST /subscriptions/{id}/reseal."""
    return Answer(200, Resealed(subscribing.reseal(subscription)))


def test(request: Request, subscription: str) -> Answer:
    """POST /subscriptions/{id}/test: once, in the open, and nothing of it is kept."""
    wanted: Trial = request.wanted
    if wanted.type is not None and wanted.type not in OUTWARD:
        raise BadTypes(f"type: '{wanted.type}' is none of {', '.join(sorted(OUTWARD))}")
    record, holding = subscribing.holding(subscription)
    if wanted.type is not None and not may_be_told(record.tenant, type(OUTWARD[wanted.type])):
        raise BadTypes(
            f"type: '{wanted.type}' is for operators alone, and subscription '{subscription}' is of tenant "
            f"'{record.tenant}', which is never told of it"
        )
    now = utc_now()
    name = f"test-{now.isoformat(timespec='milliseconds')}"
    body = _example(wanted.type, name, now, record.tenant)
    entry = Entry(
        delivery=delivery_id(subscription, "offload.subscriptions", name),
        key="",
        due_at=now,
        created_at=now,
        expires_at=now,
        event=name,
        source="offload.subscriptions",
        type=wanted.type or TEST_TYPE,
        subject="",
        body_key="",
        attempts=0,
        base=0,
    )
    signed = signed_headers(entry.delivery, body, now=now, secrets=holding.active(now), seeds=holding.seeds)
    attempt = loop.run_until_complete(transport.attempt(record.url, entry, body, {**holding.headers, **signed}))
    return Answer(200, Tried(attempt, Raw(body)))


def event_types(_request: Request) -> Answer:
    """GET /event-types."""
    return Answer(200, EventTypes([_described(name) for name in sorted(OUTWARD)]))


def deliveries(request: Request) -> Answer:
    """GET /deliveries."""
    wanted: DeliveryFilters = request.wanted
    found, cursor = listing.page(owed, store, wanted)
    return Answer(200, Deliveries(found, cursor))


def delivery(_request: Request, name: str) -> Answer:
    """GET /deliveries/{id}."""
    return Answer(200, _whole(name))


def resend(_request: Request, name: str) -> Answer:
    """POST /deliveries/{id}/resend."""
    record, _ = store.get(owed.item(name)["subscription"]["S"])
    owed.send_again(name, ordered=record.ordered)
    if record.state is SubscriptionState.ACTIVE:
        tokens.send(record.id, proven=False)
    return Answer(200, delivery_of(owed.item(name)))


def erase(_request: Request, name: str) -> Answer:
    """POST /deliveries/{id}/erase."""
    owed.erase(name)
    return Answer(200, _whole(name))


def _whole(name: str) -> Delivery:
    item = owed.item(name)
    body = owed.bodies([item["body_key"]["S"]]).get(item["body_key"]["S"])
    whole = replace(delivery_of(item), tries=owed.tries(name))
    return replace(whole, body=Raw(body)) if body is not None else whole


def _example(name: str | None, event_id: str, now: datetime, tenant: str) -> bytes:
    if name is None:
        said = Raw(msgspec.json.encode({"message": "Hello from Offload: this endpoint will be told of events."}))
        return msgspec.json.encode(
            Message(type=TEST_TYPE, timestamp=now, id=event_id, source="offload.subscriptions", data=said)
        )
    event: Event[Any] = replace(example_for(tenant, OUTWARD[name]).event(), id=event_id, time=now)
    return message_of(event)


def _is_told_of(record: Record, event_type: str) -> bool:
    """Whether events of a type go to a subscription, as far as its types and its tenant decide."""
    example = OUTWARD.get(event_type)
    return type_matches(record.types, event_type) and (example is None or may_be_told(record.tenant, type(example)))


def _described(name: str) -> EventType:
    example = OUTWARD[name]
    contract = type(example)
    schema: Mapping[str, Any] = msgspec.json.schema(contract)
    return EventType(
        type=name,
        audience=(contract.AUDIENCE or OPERATORS).whose,
        description=(contract.__doc__ or "").strip().partition("\n")[0],
        schema=dict(schema),
        example=Raw(message_of(example.event())),
    )


_CALLS: Final = (
    create,
    page,
    show,
    change,
    delete,
    pause,
    resume,
    rotate,
    reseal,
    test,
    event_types,
    deliveries,
    delivery,
    resend,
    erase,
)

handler = HttpApi(ROUTES, _CALLS, log=log, document="schemas/subscriptions/openapi.json")
