"""What third parties can be told: every event type that leaves the house, with an example. A new one is added here.

Who may be told of it, its contract declares (`AUDIENCE`).
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any, Final

from offload.contracts.event import EventData
from offload.contracts.jobs.events import JobFinished
from offload.contracts.jobs.job import State
from offload.contracts.orders import OrderCancelled, OrderLine, OrderPlaced
from offload.contracts.stock import StockLow
from offload.contracts.subscriptions.events import SubscriptionFailing, SubscriptionPaused, SubscriptionRecovered
from offload.contracts.subscriptions.tenants import NO_TENANT

TEST_TYPE: Final = "webhook.test"
"""The type of the event that a test sends when it is not asked for another."""

_AT: Final = datetime(2010, 12, 1, 8, 26, tzinfo=UTC)
_ENDPOINT: Final[dict[str, Any]] = {
    "subscription": "sub_3f6c2c9a41e04d1f9b7e",
    "tenant": NO_TENANT,
    "url": "https://shop.example/webhooks",
    "failing_since": _AT,
}

_EXAMPLES: Final[tuple[EventData, ...]] = (
    OrderPlaced(
        invoice="536365",
        invoiced_at=_AT,
        country="United Kingdom",
        customer="17850",
        lines=(OrderLine(product="85123A", quantity=6, unit_price=Decimal("2.55")),),
    ),
    OrderCancelled(
        invoice="C536379",
        invoiced_at=_AT + timedelta(hours=1),
        country="United Kingdom",
        customer="14527",
        lines=(OrderLine(product="D", quantity=-1, unit_price=Decimal("27.50")),),
    ),
    StockLow(product="85123A", units=94, low_below=100, cause="order.placed:536365", caused_at=_AT),
    JobFinished(job="job-5f1c", job_type="sales_report", state=State.SUCCEEDED, attempts=1, finished_at=_AT),
    SubscriptionFailing(**_ENDPOINT, percent=50, pauses_at=_AT + timedelta(days=5), noticed_at=_AT),
    SubscriptionPaused(**_ENDPOINT, reason="failing", paused_at=_AT + timedelta(days=5)),
    SubscriptionRecovered(**_ENDPOINT, recovered_at=_AT + timedelta(days=6)),
)

OUTWARD: Final[Mapping[str, EventData]] = {example.TYPE: example for example in _EXAMPLES}
"""An example of each type, by its name."""

OUTWARD_TYPES: Final[tuple[type[EventData], ...]] = tuple(type(example) for example in _EXAMPLES)
"""The contracts of what leaves the house."""
