"""The European Central Bank's reference rates: how its files are read, and on which days it publishes.

The bank publishes around 16:00 CET on every working day but TARGET's closing days
(https://www.ecb.europa.eu/stats/policy_and_exchange_rates/euro_reference_exchange_rates, read 2026-11-27).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from functools import lru_cache
from typing import Final, NamedTuple, NoReturn
from xml.parsers import expat
from zoneinfo import ZoneInfo

# zoneinfo reads the zones from it where the system has none: Amazon Linux. Imported so that bundles bring it.
import tzdata  # type: ignore[import-untyped] # noqa: F401

FIRST_DAY: Final = date(1999, 1, 4)
"""The first day that has reference rates."""
BASE: Final = "EUR"
"""The currency that a rate is for one unit of."""

ZONE: Final = ZoneInfo("Europe/Berlin")
_PUBLISHED_AT: Final = time(16, 0)

_GESMES: Final = "http://www.gesmes.org/xml/2002-08-01"
_RATES: Final = "http://www.ecb.int/vocabulary/2002-08-01/eurofxref"
_ENVELOPE: Final = f"{_GESMES} Envelope"
_SENDER: Final = f"{_GESMES} Sender"
_CUBE: Final = f"{_RATES} Cube"
# What may stand where, with the names of its attributes.
_FORM: Final[Mapping[tuple[str, ...], Mapping[str, frozenset[str]]]] = {
    (): {_ENVELOPE: frozenset()},
    (_ENVELOPE,): {f"{_GESMES} subject": frozenset(), _SENDER: frozenset(), _CUBE: frozenset()},
    (_ENVELOPE, _SENDER): {f"{_GESMES} name": frozenset()},
    (_ENVELOPE, _CUBE): {_CUBE: frozenset({"time"})},
    (_ENVELOPE, _CUBE, _CUBE): {_CUBE: frozenset({"currency", "rate"})},
}
_DAY_DEPTH: Final = 3
_DAY: Final = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_CURRENCY: Final = re.compile(r"[A-Z]{3}")
# The bank gives up to six digits; the longest number it ever gave is ten thousands of rupiah and two decimals.
_RATE: Final = re.compile(r"[0-9]{1,9}(\.[0-9]{1,10})?")
_SHOWN: Final = 40
_WEEKEND: Final = 5


class BadRates(Exception):
    """A file that is not one of the bank's; `str()` says what is wrong, and on which line."""


class DayRates(NamedTuple):
    """A day's rates: how many units of each currency (ISO 4217) one euro is."""

    day: date
    rates: Mapping[str, Decimal]

    def cross(self, source: str, target: str) -> Decimal | None:
        """How many units of `target` one unit of `source` is, to 28 digits; None where the day lacks one of them."""
        units = [Decimal(1) if each == BASE else self.rates.get(each) for each in (source, target)]
        if units[0] is None or units[1] is None:
            return None
        return units[1] / units[0]


def read_rates(content: bytes, *, longest: int) -> list[DayRates]:
    """Reads one of the bank's XML files, daily or historical: its days, the oldest first.

    Strictly: a document of more than `longest` bytes, with a document type (and so with entities), of another form or
    namespace, with text among the rates, a day or currency twice, a day that is none or at a weekend, or a rate that
    is no positive decimal raises BadRates.
    """
    if len(content) > longest:
        raise BadRates(f"it has {len(content):,} bytes, {longest:,} at most were expected")
    return _Reader().read(content)


class _Reader:
    """One document on its way through the parser."""

    def __init__(self) -> None:
        self._path: tuple[str, ...] = ()
        self._days: dict[date, dict[str, Decimal]] = {}
        self._day = FIRST_DAY
        self._parser = expat.ParserCreate(namespace_separator=" ")
        self._parser.buffer_text = True
        self._parser.StartDoctypeDeclHandler = self._doctype
        self._parser.StartElementHandler = self._start
        self._parser.EndElementHandler = self._end
        self._parser.CharacterDataHandler = self._text

    def read(self, content: bytes) -> list[DayRates]:
        try:
            self._parser.Parse(content, True)
        except expat.ExpatError as error:
            raise BadRates(f"not XML: {error}") from error
        if not self._days:
            raise BadRates("it has no day with rates")
        return [DayRates(day, rates) for day, rates in sorted(self._days.items())]

    def _refuse(self, why: str) -> NoReturn:
        raise BadRates(f"line {self._parser.CurrentLineNumber}: {why}")

    def _doctype(self, *_: object) -> None:
        self._refuse("it declares a document type, and the bank's files do not: is it a web page?")

    def _start(self, name: str, attributes: dict[str, str]) -> None:
        allowed = _FORM.get(self._path, {}).get(name)
        if allowed is None:
            self._refuse(f"'{_shown(name.rpartition(' ')[2])}' does not belong there")
        if allowed != attributes.keys():
            self._refuse(f"its attributes are {_names(attributes)}, not {_names(allowed)}")
        self._path = (*self._path, name)
        if "time" in attributes:
            self._begin_day(attributes["time"])
        elif "currency" in attributes:
            self._add(attributes["currency"], attributes["rate"])

    def _end(self, _name: str) -> None:
        if len(self._path) == _DAY_DEPTH and self._path[-1] == _CUBE and not self._days[self._day]:
            self._refuse(f"{self._day} has no rates")
        self._path = self._path[:-1]

    def _text(self, text: str) -> None:
        if _CUBE in self._path and text.strip():
            self._refuse(f"text among the rates: '{_shown(text.strip())}'")

    def _begin_day(self, text: str) -> None:
        try:
            day = date.fromisoformat(text) if _DAY.fullmatch(text) else None
        except ValueError:
            day = None
        if day is None:
            self._refuse(f"time: '{_shown(text)}' is no day")
        if day < FIRST_DAY or day.weekday() >= _WEEKEND:
            self._refuse(f"time: {day} is at a weekend, or before {FIRST_DAY}: there are no rates of it")
        if day in self._days:
            self._refuse(f"time: {day} is there twice")
        self._day = day
        self._days[day] = {}

    def _add(self, currency: str, text: str) -> None:
        if not _CURRENCY.fullmatch(currency) or currency == BASE:
            self._refuse(f"currency: '{_shown(currency)}' is no code of three letters for a currency beside {BASE}")
        if currency in self._days[self._day]:
            self._refuse(f"currency: {currency} is there twice on {self._day}")
        rate = Decimal(text) if _RATE.fullmatch(text) else Decimal(0)
        if not rate:
            self._refuse(f"rate: '{_shown(text)}' of {currency} is no positive decimal")
        self._days[self._day][currency] = rate


def is_working_day(day: date) -> bool:
    """Whether the bank publishes on this day: TARGET's calendar as it has been since 2002."""
    if day.weekday() >= _WEEKEND or (day.month, day.day) in ((1, 1), (5, 1), (12, 25), (12, 26)):
        return False
    return (day - _easter(day.year)).days not in (-2, 1)  # Good Friday, Easter Monday


def last_working_day(day: date) -> date:
    """The last working day up to this one."""
    while not is_working_day(day):
        day -= timedelta(days=1)
    return day


def last_published(now: datetime) -> date:
    """The last day whose rates the bank should have published by now."""
    there = now.astimezone(ZONE)
    today = there.date()
    return last_working_day(today if there.time() >= _PUBLISHED_AT else today - timedelta(days=1))


def working_days(after: date, until: date) -> Iterator[date]:
    """The bank's working days after one day, up to another."""
    day = after
    while day < until:
        day += timedelta(days=1)
        if is_working_day(day):
            yield day


def days_behind(day: date, now: datetime) -> int:
    """How many days the bank should have published by now that are newer than this one."""
    return sum(1 for _ in working_days(day, last_published(now)))


def today(now: datetime | None = None) -> date:
    """The day it is at the bank."""
    return (now or datetime.now(UTC)).astimezone(ZONE).date()


@lru_cache(maxsize=64)
def _easter(year: int) -> date:
    """Easter Sunday of the Gregorian calendar (J. Meeus, Astronomical Algorithms, 2nd edition, chapter 8)."""
    a, (b, c) = year % 19, divmod(year, 100)
    (d, e), f = divmod(b, 4), (b + 8) // 25
    g = (b - f + 1) // 3
    h = (19 * a + b - d - g + 15) % 30
    i, k = divmod(c, 4)
    m = (32 + 2 * e + 2 * i - h - k) % 7
    n = (a + 11 * h + 22 * m) // 451
    month, day = divmod(h + m - 7 * n + 114, 31)
    return date(year, month, day + 1)


def _shown(text: str) -> str:
    return text[:_SHOWN]


def _names(names: Iterable[str]) -> str:
    return " and ".join(sorted(names)) or "nothing"
