"""What the shop has. A new event type, job type or group of commands is added here; a provider in `providers.py`."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Final

from offload.contracts.catalogue import Catalogue
from offload.contracts.idle import READ, IdleCall, seconds_of
from shop.contracts.github import RELEASES, PullRequestClosed
from shop.contracts.jobs.customer_segments import CUSTOMER_SEGMENTS, CUSTOMERS_SHARD
from shop.contracts.jobs.exchange_rates import EXCHANGE_RATES
from shop.contracts.jobs.order_import import ORDER_IMPORT
from shop.contracts.jobs.sales_report import SALES_REPORT
from shop.contracts.orders import OrderCancelled, OrderLine, OrderPlaced
from shop.contracts.stock import StockLow
from shop.providers import PROVIDERS

_AT: Final = datetime(2010, 12, 1, 8, 26, tzinfo=UTC)

CATALOGUE: Final = Catalogue(
    __name__,
    events=(OrderPlaced, OrderCancelled, StockLow, *RELEASES, PullRequestClosed),
    jobs=(SALES_REPORT, ORDER_IMPORT, CUSTOMER_SEGMENTS, CUSTOMERS_SHARD, EXCHANGE_RATES),
    outward=(
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
    ),
    providers=PROVIDERS,
    commands={
        "orders": "shop.commands.orders",
        "ledger": "shop.commands.ledger",
        "change-log": "shop.commands.change_log",
        "rates": "shop.commands.rates",
    },
    demo="shop.commands.demo:first_day",
    # An item a topic.
    idle_calls={
        "team_notifier": IdleCall(
            read_units=3 * READ, seconds=seconds_of(3), log_bytes=300, fields=frozenset({"events"})
        ),
    },
)
