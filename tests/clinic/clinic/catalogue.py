"""What the clinic has."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Final

from clinic.contracts.jobs import PATIENT_GROUPS, PATIENTS_SHARD, VISIT_IMPORT, WARD_REPORT
from clinic.contracts.supplies import SupplyLow
from clinic.contracts.visits import VisitCancelled, VisitEnded, VisitLine
from clinic.providers import PROVIDERS
from offload.contracts.catalogue import Catalogue

_AT: Final = datetime(2026, 3, 2, 8, 26, tzinfo=UTC)

CATALOGUE: Final = Catalogue(
    __name__,
    events=(VisitEnded, VisitCancelled, SupplyLow),
    jobs=(WARD_REPORT, VISIT_IMPORT, PATIENT_GROUPS, PATIENTS_SHARD),
    outward=(
        VisitEnded(
            visit="536365",
            ended_at=_AT,
            ward="Eyes",
            patient="17850",
            lines=(VisitLine(item="85123A", quantity=6, unit_price=Decimal("2.55")),),
        ),
        VisitCancelled(
            visit="C536379",
            ended_at=_AT + timedelta(hours=1),
            ward="Eyes",
            patient="14527",
            lines=(VisitLine(item="D", quantity=-1, unit_price=Decimal("27.50")),),
        ),
        SupplyLow(item="85123A", units=94, low_below=100, cause="visit.ended:536365", caused_at=_AT),
    ),
    providers=PROVIDERS,
)
