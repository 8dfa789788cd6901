"""The shop's stock."""

from __future__ import annotations

from datetime import datetime
from typing import ClassVar

from offload.contracts.event import EventData, Id, Moment


class StockLow(EventData, frozen=True, kw_only=True):
    """A product fell below its threshold.

    It names the event that made it fall, and so it has one id however often it is told.
    """

    TYPE: ClassVar[str] = "stock.low"
    SOURCE: ClassVar[str] = "offload.shop"

    product: Id
    units: int
    low_below: int
    cause: Id
    caused_at: Moment

    @property
    def key(self) -> str:
        """The product and the event that made it fall."""
        return f"{self.product}:{self.cause}"

    @property
    def subject(self) -> str:
        """The product."""
        return self.product

    @property
    def occurred_at(self) -> datetime:
        """When the event that made it fall happened."""
        return self.caused_at
