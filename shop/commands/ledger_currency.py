"""The ledger in another currency: which rates it takes, and what is to be said about them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from itertools import groupby
from typing import Any, Final

from offload.cli.deployment.failure import Failure
from offload.cli.deployment.resources import Deployment
from offload.runtime.events.sums import Sections
from shop.commands.ledger import CURRENCY
from shop.commands.rates import rates_table
from shop.ecb import BASE
from shop.ledger import converted
from shop.rates import STALE_AFTER, Rate, RatesTable, rounded

ROUNDING: Final = "each figure once, from the exact one, halves away from zero; so rows need not add up to the total"
_DIGITS: Final = Decimal("0.000001")


@dataclass(frozen=True)
class Conversion:
    """The ledger's sections in `currency`, and the rate of each of its days."""

    currency: str
    sections: Sections
    rates: Sequence[Rate]

    @property
    def of_the_day(self) -> bool:
        """Whether every day was converted at its own rate."""
        return all(rate.of_the_day for rate in self.rates)

    @property
    def stale(self) -> bool:
        """Whether a day was converted at a rate that is too far from it."""
        return any(rate.stale for rate in self.rates)

    def money(self, amount: Decimal) -> str:
        """An amount as it is shown: in the currency's smallest unit."""
        return f"{rounded(amount, self.currency):f}"

    def document(self) -> dict[str, Any]:
        """What converted the ledger, as JSON: days in a row that took the same rate are one entry."""
        return {
            "currency": self.currency,
            "converted": {
                "from": CURRENCY,
                "source": "European Central Bank, reference rates",
                "rounding": ROUNDING,
                "of_the_day": self.of_the_day,
                "stale": self.stale,
                "rates": [
                    {
                        "first": each[0].day.isoformat(),
                        "last": each[-1].day.isoformat(),
                        "days": len(each),
                        "rate_of": each[0].rate_day.isoformat(),
                        "rate": f"{each[0].rate:f}",
                        "of_the_day": all(rate.of_the_day for rate in each),
                        "stale": any(rate.stale for rate in each),
                    }
                    for each in self._runs()
                ],
            },
        }

    def lines(self) -> Iterator[str]:
        """What is to be read below the table: where the rates are from, and each that is not its day's."""
        if not self.rates:
            return
        yield f"{self.currency} at the European Central Bank's reference rates; rounded {ROUNDING}."
        own = [rate for rate in self.rates if rate.of_the_day]
        if own:
            lowest, highest = min(own, key=lambda rate: rate.rate), max(own, key=lambda rate: rate.rate)
            yield f"{_days(len(own))} at the rate of the day: {_shown(lowest.rate)} to {_shown(highest.rate)}"
        for each in self._runs():
            if each[0].of_the_day and each[-1].of_the_day:
                continue
            other = [rate for rate in each if not rate.of_the_day]
            when = f"{other[0].day}" if len(other) == 1 else f"{other[0].day} to {other[-1].day}"
            newer = ", which is newer: no older one is stored" if other[0].later else ""
            stale = "STALE, " if any(rate.stale for rate in other) else ""
            yield (
                f"{stale}not of the day: {_days(len(other))} ({when}) at {_shown(other[0].rate)}, "
                f"the rate of {other[0].rate_day}{newer}"
            )
        if self.stale:
            yield f"stale is what is newer than its day, or over {STALE_AFTER} working days older: offload rates import"

    def _runs(self) -> Iterator[list[Rate]]:
        for _, run in groupby(self.rates, key=lambda rate: rate.rate_day):
            yield list(run)


def conversion(deployment: Deployment, sections: Sections, currency: str) -> Conversion:
    """Converts the ledger's sections; raises Failure when a day has no rate at all, with what can be done."""
    return of_sections(rates_table(deployment), sections, currency)


def of_sections(table: RatesTable, sections: Sections, currency: str) -> Conversion:
    """The sections in another currency, at the table's rates; raises Failure like `conversion`."""
    days = {day: date.fromisoformat(day) for day in sections}
    found = table.for_days(days.values(), CURRENCY, currency)
    if len(found) < len(days):
        raise Failure(_none(table, currency))
    rates = {day: found[each].rate for day, each in days.items()}
    return Conversion(currency, converted(sections, rates), [rate for _, rate in sorted(found.items())])


def _none(table: RatesTable, currency: str) -> str:
    newest = table.newest()
    if newest is None:
        return "no exchange rates are stored: offload jobs submit exchange_rates --wait, or offload rates import FILE"
    known = ", ".join(sorted({BASE, *newest.rates} - {CURRENCY}))
    return f"no stored day has a rate from {CURRENCY} to {currency}; {newest.day} has {known}"


def _days(count: int) -> str:
    return "1 day" if count == 1 else f"{count:,} days"


def _shown(rate: Decimal) -> str:
    return f"{rate.quantize(_DIGITS):f}"
