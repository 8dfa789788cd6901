"""Whether rates that were fetched can be true. Decisions only; nothing here acts."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, timedelta
from decimal import Decimal
from typing import Final

from shop.ecb import DayRates, working_days

# No currency of the bank's has halved or doubled within a month; a shifted decimal point is a factor of ten.
_NEAR: Final = timedelta(days=31)
_JUMP: Final = Decimal(2)


class Implausible(Exception):
    """The rates are of the right form and cannot be true; `str()` says why."""


def check(days: Sequence[DayRates], newest: DayRates | None, today: date) -> None:
    """Raises Implausible for days (sorted) that cannot be, given today's date and the newest day that is stored."""
    last = days[-1]
    if last.day > today:
        raise Implausible(f"rates of {last.day}, and it is {today}")
    if newest is None:
        return
    if last.day < newest.day:
        raise Implausible(f"rates of {last.day} at the newest, and those of {newest.day} are stored")
    if last.day - newest.day > _NEAR:
        return
    for currency, rate in last.rates.items():
        before = newest.rates.get(currency)
        if before is not None and not before / _JUMP <= rate <= before * _JUMP:
            raise Implausible(
                f"1 EUR is {rate:f} {currency} on {last.day}, after {before:f} on {newest.day}: "
                "if it is true, `offload rates import` takes it"
            )


def has_gap(newest: DayRates | None, day: date) -> bool:
    """Whether a working day is missing between what is stored and this day: then the history is worth a call."""
    return newest is None or any(working_days(newest.day, day - timedelta(days=1)))
