"""The shop's orders: one event an invoice, with its lines."""

from __future__ import annotations

from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Annotated, ClassVar, Final

from msgspec import Meta, Struct

from offload.contracts.events.audience import EVERYBODY, Audience
from offload.contracts.events.event import EventData, Id, Moment, check_moment, check_name

# Wider than any real price or quantity; what is beyond is a broken record, not an order.
_PRICE_BOUND: Final = Decimal(10) ** 9
_PRICE_DECIMALS: Final = 6
Quantity = Annotated[int, Meta(ge=-(10**9), le=10**9)]


class OrderLine(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One product of an invoice. `unit_price` is in GBP, exact.

    `invoiced_at` and `country` stand here only where they differ from the invoice's own.
    """

    product: Id
    quantity: Quantity
    unit_price: Decimal
    description: str | None = None
    invoiced_at: Moment | None = None
    country: Id | None = None

    def __post_init__(self) -> None:
        exponent = self.unit_price.as_tuple().exponent
        if not isinstance(exponent, int):
            raise ValueError("unit_price is not a number")
        # By the place of its first digit: arithmetic with an exponent of a million raises Overflow.
        if exponent < -_PRICE_DECIMALS or self.unit_price.adjusted() > _PRICE_BOUND.adjusted() - 1:
            raise ValueError(f"unit_price has more than {_PRICE_DECIMALS} decimals or is not below {_PRICE_BOUND}")
        check_name("product", self.product)
        check_name("country", self.country or "")
        check_moment("invoiced_at", self.invoiced_at)

    @property
    def amount(self) -> Decimal:
        """What the line adds to revenue, in GBP; negative on a cancellation."""
        return self.unit_price * self.quantity


class Invoice(EventData, frozen=True, kw_only=True, omit_defaults=True):
    """What placed and cancelled orders have in common. The shop's times have no zone; they are taken as UTC."""

    SOURCE: ClassVar[str] = "offload.shop"

    invoice: Id
    invoiced_at: Moment
    country: Id
    customer: str | None = None
    lines: Annotated[tuple[OrderLine, ...], Meta(min_length=1)]

    def __post_init__(self) -> None:
        check_name("invoice", self.invoice)
        check_name("country", self.country)
        check_moment("invoiced_at", self.invoiced_at)

    @property
    def key(self) -> str:
        """The invoice's number."""
        return self.invoice

    @property
    def subject(self) -> str:
        """The invoice's number."""
        return self.invoice

    @property
    def occurred_at(self) -> datetime:
        """When the invoice was made."""
        return self.invoiced_at

    def day_of(self, line: OrderLine) -> date:
        """The day that the line counts for."""
        return (line.invoiced_at or self.invoiced_at).astimezone(UTC).date()

    def country_of(self, line: OrderLine) -> str:
        """The country that the line counts for."""
        return line.country or self.country


class OrderPlaced(Invoice, frozen=True, kw_only=True):
    """A customer's order was invoiced."""

    TYPE: ClassVar[str] = "order.placed"
    AUDIENCE: ClassVar[Audience | None] = EVERYBODY


class OrderCancelled(Invoice, frozen=True, kw_only=True):
    """An invoice was cancelled, wholly or in part; its quantities are negative."""

    TYPE: ClassVar[str] = "order.cancelled"
    AUDIENCE: ClassVar[Audience | None] = EVERYBODY
