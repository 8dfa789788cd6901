"""The shop's stock."""

from __future__ import annotations

from datetime import datetime
from typing import ClassVar, Final

from offload.contracts.events.audience import EVERYBODY, Audience
from offload.contracts.events.event import EventData, Id, Moment, check_moment, check_name, derived_key

# Wider than any real stock and all of its invoices; what is beyond cannot be compared and stored everywhere.
_MOST_UNITS: Final = 10**15


class StockLow(EventData, frozen=True, kw_only=True):
    """A product fell below its threshold.

    It names the event that made it fall, by source and id, and so it has one id however often it is published.
    """

    TYPE: ClassVar[str] = "stock.low"
    SOURCE: ClassVar[str] = "offload.shop"
    AUDIENCE: ClassVar[Audience | None] = EVERYBODY

    product: Id
    units: int
    low_below: int
    cause: Id
    caused_at: Moment
    cause_source: Id = "offload.shop"

    def __post_init__(self) -> None:
        for field in ("product", "cause", "cause_source"):
            check_name(field, getattr(self, field))
        for field in ("units", "low_below"):
            if abs(getattr(self, field)) > _MOST_UNITS:
                raise ValueError(f"{field} is not between {-_MOST_UNITS} and {_MOST_UNITS}")
        check_moment("caused_at", self.caused_at)

    @property
    def key(self) -> str:
        """The product and the event that made it fall."""
        return derived_key(self.product, self.cause_source, self.cause)

    @property
    def subject(self) -> str:
        """The product."""
        return self.product

    @property
    def occurred_at(self) -> datetime:
        """When the event that made it fall happened."""
        return self.caused_at
