"""Recency, frequency and monetary value of customers, and their segments: the rule is docs/customer-segments.md."""

from __future__ import annotations

import csv
import io
import zlib
from bisect import bisect_left
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import date
from decimal import Decimal
from enum import StrEnum
from pathlib import Path
from typing import Final, NamedTuple

from shop.money import money
from shop.orders import CANCELLED, BadRow, BadRows, Row

SCORES: Final = 5
_COLUMNS: Final = ("customer", "recency_days", "frequency", "monetary_gbp")
_SEGMENT_COLUMNS: Final = (*_COLUMNS, "recency_score", "frequency_score", "monetary_score", "segment")


class Segment(StrEnum):
    """A group of customers to be addressed alike."""

    CHAMPIONS = "champions"
    LOYAL = "loyal"
    POTENTIAL_LOYALISTS = "potential loyalists"
    NEW = "new"
    PROMISING = "promising"
    NEED_ATTENTION = "need attention"
    ABOUT_TO_SLEEP = "about to sleep"
    AT_RISK = "at risk"
    CANNOT_LOSE = "cannot lose"
    HIBERNATING = "hibernating"
    CANCELLED_ONLY = "cancelled only"


# By recency score, from 1 to 5; in it by the mean of the scores of frequency and monetary value, from 1 to 5.
_SEGMENTS: Final = (
    (Segment.HIBERNATING, Segment.HIBERNATING, Segment.AT_RISK, Segment.AT_RISK, Segment.CANNOT_LOSE),
    (Segment.HIBERNATING, Segment.HIBERNATING, Segment.AT_RISK, Segment.AT_RISK, Segment.CANNOT_LOSE),
    (Segment.ABOUT_TO_SLEEP, Segment.ABOUT_TO_SLEEP, Segment.NEED_ATTENTION, Segment.LOYAL, Segment.LOYAL),
    (Segment.PROMISING, Segment.POTENTIAL_LOYALISTS, Segment.POTENTIAL_LOYALISTS, Segment.LOYAL, Segment.LOYAL),
    (Segment.NEW, Segment.POTENTIAL_LOYALISTS, Segment.POTENTIAL_LOYALISTS, Segment.CHAMPIONS, Segment.CHAMPIONS),
)


class Customer(NamedTuple):
    """What a customer bought.

    - `recency`: days from their last placed invoice to the file's last day; None for who only cancelled.
    - `frequency`: placed invoices.
    - `monetary`: GBP, exact, less cancellations.
    """

    number: str
    recency: int | None
    frequency: int
    monetary: Decimal


class Scored(NamedTuple):
    """A customer's scores, 1 (worst) to 5, among all customers, and the segment that follows from them."""

    customer: Customer
    recency: int
    frequency: int
    monetary: int
    segment: Segment


def shard_of(customer: str, shards: int) -> int:
    """The shard, from 0, that a customer's number falls on: the same on every machine."""
    return zlib.crc32(customer.encode()) % shards


def customers_of(rows: Iterable[Row | BadRow], name: str, *, shard: int = 0, shards: int = 1) -> list[Customer]:
    """The customers of one shard, by their numbers, from all rows of an orders file that errors call `name`.

    Rows without a customer count for nothing but the file's last day. Rows are looked at one by one: memory grows with
    the shard's customers and their invoices. Raises BadRows at the first row that is no order line, since figures of
    the rest would look right and be wrong.
    """
    last_day = date.min
    found: dict[str, _Purchases] = {}
    elsewhere: set[str] = set()
    for row in rows:
        if isinstance(row, BadRow):
            raise BadRows(Path(name), [row])
        day = row.invoiced_at.date()
        if day > last_day:
            last_day = day
        if row.customer is None or row.customer in elsewhere:
            continue
        purchases = found.get(row.customer)
        if purchases is None:
            if shard_of(row.customer, shards) != shard:
                elsewhere.add(row.customer)
                continue
            purchases = found[row.customer] = _Purchases()
        purchases.monetary += row.unit_price * row.quantity
        if not row.invoice.startswith(CANCELLED):
            purchases.placed.add(row.invoice)
            purchases.last_placed = max(purchases.last_placed or day, day)
    return [purchases.customer(number, last_day) for number, purchases in sorted(found.items())]


@dataclass(slots=True)
class _Purchases:
    last_placed: date | None = None
    placed: set[str] = field(default_factory=set)
    monetary: Decimal = Decimal(0)

    def customer(self, number: str, last_day: date) -> Customer:
        recency = None if self.last_placed is None else (last_day - self.last_placed).days
        return Customer(number, recency, len(self.placed), self.monetary)


def score(customers: Iterable[Customer]) -> list[Scored]:
    """Scores customers against each other and names their segments, in the order of their numbers.

    A score is 1 + the fifths of all customers that are worse: equal customers score alike, whatever their order.
    """
    everyone = sorted(customers, key=lambda customer: customer.number)
    # Negative, so that more is better, as with the others; who never bought is last of all.
    recency = _Scale([_freshness(customer) for customer in everyone])
    frequency = _Scale([Decimal(customer.frequency) for customer in everyone])
    monetary = _Scale([customer.monetary for customer in everyone])
    return [
        _scored(
            customer,
            recency.score(_freshness(customer)),
            frequency.score(Decimal(customer.frequency)),
            monetary.score(customer.monetary),
        )
        for customer in everyone
    ]


class _Scale:
    def __init__(self, values: Sequence[Decimal]) -> None:
        self._values = sorted(values)

    def score(self, value: Decimal) -> int:
        return 1 + SCORES * bisect_left(self._values, value) // len(self._values)


def _freshness(customer: Customer) -> Decimal:
    return Decimal("-Infinity") if customer.recency is None else Decimal(-customer.recency)


def _scored(customer: Customer, recency: int, frequency: int, monetary: int) -> Scored:
    value = (frequency + monetary + 1) // 2
    segment = Segment.CANCELLED_ONLY if customer.frequency == 0 else _SEGMENTS[recency - 1][value - 1]
    return Scored(customer, recency, frequency, monetary, segment)


def write_customers(customers: Iterable[Customer]) -> bytes:
    """Customers as CSV, for `read_customers`."""
    return _csv(_COLUMNS, (_cells(customer) for customer in customers))


def read_customers(table: bytes) -> list[Customer]:
    """Reads what `write_customers` wrote."""
    rows = csv.reader(io.StringIO(table.decode(), newline=""))
    next(rows)
    return [
        Customer(number, int(recency) if recency else None, int(frequency), Decimal(monetary))
        for number, recency, frequency, monetary in rows
    ]


def write_segments(scored: Iterable[Scored]) -> bytes:
    """Customers with their scores and segments as CSV."""
    return _csv(
        _SEGMENT_COLUMNS,
        (
            (*_cells(entry.customer), entry.recency, entry.frequency, entry.monetary, entry.segment.value)
            for entry in scored
        ),
    )


def _cells(customer: Customer) -> tuple[object, ...]:
    recency = "" if customer.recency is None else customer.recency
    return (customer.number, recency, customer.frequency, money(customer.monetary))


def _csv(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> bytes:
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(rows)
    return text.getvalue().encode()
