"""The HTTP API of subscriptions and deliveries: every route with what it takes, answers and refuses.

The gateway, the function and the OpenAPI document are made from this one table. A new route is an entry here, and a
function of the entry's name in `offload/functions/subscriptions_api`; `make schemas` writes the document.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Final

from msgspec import UNSET, Meta, Raw, Struct, UnsetType

from offload.contracts.events.audience import Whose
from offload.contracts.events.event import Id, Moment
from offload.contracts.http_api import Route
from offload.contracts.webhooks_out.subscription import (
    Attempt,
    Change,
    Created,
    Delivery,
    DeliveryState,
    Rotated,
    Subscription,
    SubscriptionState,
    Tenant,
    Wish,
)

MOST_LISTED: Final = 200
LONGEST_OVERLAP_HOURS: Final = 720
_CURSOR: Final = r"^[A-Za-z0-9_#-]{1,200}\Z"

Cursor = Annotated[str, Meta(pattern=_CURSOR)]
Limit = Annotated[int, Meta(ge=1, le=MOST_LISTED)]


# What routes take


class SubscriptionFilters(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which subscriptions are listed: of a tenant, in a state, or those that an event type goes to."""

    tenant: Tenant | UnsetType = UNSET
    state: SubscriptionState | UnsetType = UNSET
    type: Annotated[str, Meta(max_length=256)] | UnsetType = UNSET
    limit: Limit = 50
    cursor: Cursor | UnsetType = UNSET


class DeliveryFilters(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which deliveries are listed. `status` is that of the latest answer; times are of when the event was owed."""

    subscription: Id | UnsetType = UNSET
    event: Id | UnsetType = UNSET
    tenant: Tenant | UnsetType = UNSET
    type: Annotated[str, Meta(max_length=256)] | UnsetType = UNSET
    state: DeliveryState | UnsetType = UNSET
    status: Annotated[int, Meta(ge=100, le=599)] | UnsetType = UNSET
    since: Moment | UnsetType = UNSET
    until: Moment | UnsetType = UNSET
    limit: Limit = 50
    cursor: Cursor | UnsetType = UNSET


class Rotation(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """For how long the old secret signs beside the new one, which is made unless it is brought along."""

    overlap_hours: Annotated[int, Meta(ge=0, le=LONGEST_OVERLAP_HOURS)] = 24
    secret: Annotated[str, Meta(max_length=256)] | None = None


class Trial(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The wish to send a test: with a type, its example of the catalogue."""

    type: Annotated[str, Meta(max_length=256)] | None = None


# What they answer


class Subscriptions(Struct, frozen=True):
    """Subscriptions by their ids; `cursor` asks for those after them, null at the end."""

    subscriptions: Sequence[Subscription]
    cursor: str | None


class Deliveries(Struct, frozen=True):
    """Deliveries, newest first; `cursor` asks for those after them, null at the end."""

    deliveries: Sequence[Delivery]
    cursor: str | None


class Tried(Struct, frozen=True):
    """What came back of a test, and what was sent."""

    attempt: Attempt
    body: Raw


class Resealed(Struct, frozen=True):
    """Whether it was sealed under an older key until now."""

    resealed: bool


class EventType(Struct, frozen=True, kw_only=True):
    """What can be subscribed to: `schema` is the JSON Schema of the data, `example` a whole body.

    `audience` is who may be told: every subscription, those of the tenant that the data names, or those without one.
    """

    type: str
    description: str
    audience: Whose
    schema: dict[str, Any]
    example: Raw


class EventTypes(Struct, frozen=True):
    """Every type."""

    event_types: Sequence[EventType]


_WISHED: Final = ("bad-url", "bad-types", "bad-filter", "bad-header", "contended")
_ONE: Final = ("no-such-subscription", "contended")

ROUTES: Final[Mapping[str, Route]] = {
    "create": Route(
        method="POST",
        path="/subscriptions",
        summary="A new subscription. Its secret is in this answer and in no other.",
        body=Wish,
        answers={201: Created, 200: Created},
        keyed=True,
        located=True,
        refusals=(*_WISHED, "bad-secret", "idempotency-conflict"),
    ),
    "page": Route(
        method="GET",
        path="/subscriptions",
        summary="Subscriptions.",
        query=SubscriptionFilters,
        answers={200: Subscriptions},
    ),
    "show": Route(
        method="GET",
        path="/subscriptions/{id}",
        summary="A subscription as it stands, with its endpoint's health.",
        answers={200: Subscription},
        refusals=("no-such-subscription",),
    ),
    "change": Route(
        method="PATCH",
        path="/subscriptions/{id}",
        summary="Changes what the body names.",
        body=Change,
        answers={200: Subscription},
        refusals=(*_WISHED, "no-such-subscription", "secret-lost"),
    ),
    "delete": Route(
        method="DELETE",
        path="/subscriptions/{id}",
        summary="Deletes a subscription; what is owed to it is given up, each with that reason.",
        answers={204: None},
        refusals=_ONE,
    ),
    "pause": Route(
        method="POST",
        path="/subscriptions/{id}/pause",
        summary="Pauses a subscription: what is owed to it waits.",
        answers={200: Subscription},
        refusals=_ONE,
    ),
    "resume": Route(
        method="POST",
        path="/subscriptions/{id}/resume",
        summary="Lets a subscription go on: what waits is sent at its rate, the oldest first.",
        answers={200: Subscription},
        refusals=_ONE,
    ),
    "rotate": Route(
        method="POST",
        path="/subscriptions/{id}/rotate",
        summary="A new secret. The old one signs beside it for a while.",
        body=Rotation,
        answers={200: Rotated},
        refusals=(*_ONE, "bad-secret", "too-many-secrets", "secret-lost"),
    ),
    "reseal": Route(
        method="POST",
        path="/subscriptions/{id}/reseal",
        summary="Seals what it holds in secret under the current key of the environment.",
        answers={200: Resealed},
        refusals=(*_ONE, "secret-lost"),
    ),
    "test": Route(
        method="POST",
        path="/subscriptions/{id}/test",
        summary="Sends a test event now, once, and returns what came back.",
        body=Trial,
        answers={200: Tried},
        refusals=("no-such-subscription", "bad-types", "secret-lost"),
    ),
    "event_types": Route(
        method="GET",
        path="/event-types",
        summary="What can be subscribed to, with the JSON Schema of the data and an example.",
        answers={200: EventTypes},
    ),
    "deliveries": Route(
        method="GET",
        path="/deliveries",
        summary="Deliveries, newest first. Those added meanwhile neither shift nor repeat a page.",
        query=DeliveryFilters,
        answers={200: Deliveries},
        refusals=("no-such-subscription",),
    ),
    "delivery": Route(
        method="GET",
        path="/deliveries/{id}",
        summary="A delivery with every attempt, and what was sent as far as it is kept.",
        answers={200: Delivery},
        refusals=("no-such-delivery",),
    ),
    "resend": Route(
        method="POST",
        path="/deliveries/{id}/resend",
        summary="Sends a delivery that has ended once more, under the same id; the schedule begins anew.",
        answers={200: Delivery},
        refusals=("no-such-delivery", "no-such-subscription", "still-waiting", "payload-gone"),
    ),
    "erase": Route(
        method="POST",
        path="/deliveries/{id}/erase",
        summary="Erases what was sent of the delivery's event, to whomever, and what came back. The records stay.",
        answers={200: Delivery},
        refusals=("no-such-delivery",),
    ),
}
