"""The clinic's supplies."""

from __future__ import annotations

from datetime import datetime
from typing import ClassVar, Final

from offload.contracts.events.audience import EVERYBODY, Audience
from offload.contracts.events.event import EventData, Id, Moment, check_moment, check_name, derived_key

_MOST_UNITS: Final = 10**15


class SupplyLow(EventData, frozen=True, kw_only=True):
    """An item fell below its threshold, by the event that is named by its source and id."""

    TYPE: ClassVar[str] = "supply.low"
    SOURCE: ClassVar[str] = "offload.clinic"
    AUDIENCE: ClassVar[Audience | None] = EVERYBODY

    item: Id
    units: int
    low_below: int
    cause: Id
    caused_at: Moment
    cause_source: Id = "offload.clinic"

    def __post_init__(self) -> None:
        for field in ("item", "cause", "cause_source"):
            check_name(field, getattr(self, field))
        for field in ("units", "low_below"):
            if abs(getattr(self, field)) > _MOST_UNITS:
                raise ValueError(f"{field} is not between {-_MOST_UNITS} and {_MOST_UNITS}")
        check_moment("caused_at", self.caused_at)

    @property
    def key(self) -> str:
        """The item and the event that made it fall."""
        return derived_key(self.item, self.cause_source, self.cause)

    @property
    def subject(self) -> str:
        """The item."""
        return self.item

    @property
    def occurred_at(self) -> datetime:
        """When the event that made it fall happened."""
        return self.caused_at
