"""What the monolith does: places orders, and says so in the same transaction."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal

from django.db import transaction

from offload.client.django.outbox import Outbox
from offload.contracts.events.event import Event
from shop.contracts.orders import OrderLine, OrderPlaced
from tests.unit.django_shop.orders.models import AuditEvent, Order

outbox = Outbox()
audit = Outbox(AuditEvent)


def placed(invoice: str) -> Event[OrderPlaced]:
    """The event of an order."""
    line = OrderLine(product="85123A", quantity=6, unit_price=Decimal("2.55"), description="THÉ 😀")
    moment = datetime(2010, 12, 1, tzinfo=UTC)
    return OrderPlaced(invoice=invoice, invoiced_at=moment, country="United Kingdom", lines=(line,)).event()


def place(*invoices: str, key: str | None = None, using: str | None = None) -> None:
    """Places orders, each in a transaction of its own."""
    for invoice in invoices:
        with transaction.atomic(using=using):
            Order.objects.using(using).create(invoice=invoice)
            outbox.add(placed(invoice), key=key, using=using)
