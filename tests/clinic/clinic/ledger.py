"""The ledger: what visits add to it, and how it is read."""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal
from typing import TYPE_CHECKING, NamedTuple

from clinic.contracts.visits import Visit, VisitCancelled
from offload.contracts.events.event import Event
from offload.runtime.events import sums

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient


class Figures(NamedTuple):
    """What was charged, less cancellations, and how many visits of either kind."""

    fees: Decimal = Decimal(0)
    units: int = 0
    visits: int = 0
    cancellations: int = 0


def sums_of(events: Iterable[Event[Visit]]) -> sums.Sections:
    """What the visits add to the ledger: a section a day, in it a row a ward."""
    sections: sums.Sections = {}
    for event in events:
        visit, rows = event.data, sections.setdefault(event.data.day.isoformat(), {})
        ended = 0 if isinstance(visit, VisitCancelled) else 1
        fees = sum((line.unit_price * line.quantity for line in visit.lines), Decimal(0))
        units = sum(line.quantity for line in visit.lines)
        sums.add(rows, visit.ward, [fees, units, ended, 1 - ended])
    return sections


def read_ledger(table: str, client: DynamoDBClient, *, first: str | None = None, last: str | None = None) -> Figures:
    """The total of some days (ISO), or of all; raises `sums.TornRead` when it changes too fast to be read."""
    fees, units, visits, cancellations = Decimal(0), 0, 0, 0
    for rows in sums.read(client, table, first=first, last=last).values():
        for amounts in rows.values():
            fees, units = fees + Decimal(amounts[0]), units + int(amounts[1])
            visits, cancellations = visits + int(amounts[2]), cancellations + int(amounts[3])
    return Figures(fees, units, visits, cancellations)
