"""Visits: one event a visit, with what was done."""

from __future__ import annotations

from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Annotated, ClassVar, Final

from msgspec import Meta, Struct

from offload.contracts.events.audience import EVERYBODY, Audience
from offload.contracts.events.event import EventData, Id, Moment, check_moment, check_name

_PRICE_BOUND: Final = Decimal(10) ** 9
_PRICE_DECIMALS: Final = 6
Quantity = Annotated[int, Meta(ge=-(10**9), le=10**9)]


class VisitLine(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A treatment, or a thing that was used. `unit_price` is exact; `used_at` stands here only where it is known."""

    item: Id
    quantity: Quantity
    unit_price: Decimal
    description: str | None = None
    used_at: Moment | None = None

    def __post_init__(self) -> None:
        exponent = self.unit_price.as_tuple().exponent
        if not isinstance(exponent, int):
            raise ValueError("unit_price is not a number")
        # By the place of its first digit: arithmetic with an exponent of a million raises Overflow.
        if exponent < -_PRICE_DECIMALS or self.unit_price.adjusted() > _PRICE_BOUND.adjusted() - 1:
            raise ValueError(f"unit_price has more than {_PRICE_DECIMALS} decimals or is not below {_PRICE_BOUND}")
        check_name("item", self.item)
        check_moment("used_at", self.used_at)


class Visit(EventData, frozen=True, kw_only=True, omit_defaults=True):
    """What ended and cancelled visits have in common."""

    SOURCE: ClassVar[str] = "offload.clinic"

    visit: Id
    ended_at: Moment
    ward: Id
    patient: str | None = None
    lines: Annotated[tuple[VisitLine, ...], Meta(min_length=1)]

    def __post_init__(self) -> None:
        check_name("visit", self.visit)
        check_name("ward", self.ward)
        check_moment("ended_at", self.ended_at)

    @property
    def key(self) -> str:
        """The visit's number."""
        return self.visit

    @property
    def subject(self) -> str:
        """The visit's number."""
        return self.visit

    @property
    def occurred_at(self) -> datetime:
        """When the visit ended."""
        return self.ended_at

    @property
    def day(self) -> date:
        """The day that the visit counts for."""
        return self.ended_at.astimezone(UTC).date()


class VisitEnded(Visit, frozen=True, kw_only=True):
    """A patient was treated."""

    TYPE: ClassVar[str] = "visit.ended"
    AUDIENCE: ClassVar[Audience | None] = EVERYBODY


class VisitCancelled(Visit, frozen=True, kw_only=True):
    """A visit is not charged, wholly or in part; its quantities are negative."""

    TYPE: ClassVar[str] = "visit.cancelled"
    AUDIENCE: ClassVar[Audience | None] = EVERYBODY
