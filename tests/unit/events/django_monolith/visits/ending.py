"""What the monolith does: treats patients, and says so in the same transaction."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal

from django.db import transaction

from clinic.contracts.visits import VisitEnded, VisitLine
from offload.client.django.outbox import Outbox
from offload.contracts.events.event import Event
from tests.unit.events.django_monolith.visits.models import AuditEvent, Visit

outbox = Outbox()
audit = Outbox(AuditEvent)


def ended(visit: str) -> Event[VisitEnded]:
    """The event of a visit."""
    line = VisitLine(item="85123A", quantity=6, unit_price=Decimal("2.55"), description="THÉ 😀")
    moment = datetime(2010, 12, 1, tzinfo=UTC)
    return VisitEnded(visit=visit, ended_at=moment, ward="United Kingdom", lines=(line,)).event()


def treat(*visits: str, key: str | None = None, using: str | None = None) -> None:
    """Treats patients, each visit in a transaction of its own."""
    for visit in visits:
        with transaction.atomic(using=using):
            Visit.objects.using(using).create(visit=visit)
            outbox.add(ended(visit), key=key, using=using)
