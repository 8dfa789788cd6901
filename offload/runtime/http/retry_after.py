"""What a server asks for by `Retry-After`."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Final

# RFC 9110 section 10.2.3: a delay is digits alone. More than these are centuries.
_SECONDS: Final = re.compile(r"[0-9]+")
_MOST_DIGITS: Final = 9

_MONTHS: Final = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_MONTH: Final = f"(?P<month>{'|'.join(_MONTHS)})"
_TIME: Final = r"(?P<hour>\d{2}):(?P<minute>\d{2}):(?P<second>\d{2})"
_SHORT_DAY: Final = "(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun)"
_LONG_DAY: Final = "(?:Monday|Tuesday|Wednesday|Thursday|Friday|Saturday|Sunday)"
# RFC 9110 section 5.6.7: the form of today, and the two that a recipient has to take too. English whatever the locale.
_DATES: Final = tuple(
    re.compile(form, re.ASCII)
    for form in (
        rf"{_SHORT_DAY}, (?P<day>\d{{2}}) {_MONTH} (?P<year>\d{{4}}) {_TIME} GMT",
        rf"{_LONG_DAY}, (?P<day>\d{{2}})-{_MONTH}-(?P<year>\d{{2}}) {_TIME} GMT",
        rf"{_SHORT_DAY} {_MONTH} (?P<day>[ \d]\d) {_TIME} (?P<year>\d{{4}})",
    )
)


def wait_of(value: str, now: datetime, cap: timedelta) -> timedelta | None:
    """How long from `now` (aware) the header's `value` asks to wait, `cap` at most; None when it asks for nothing.

    It is a number of seconds or a date in one of HTTP's three forms (RFC 9110 sections 10.2.3 and 5.6.7). A past date,
    a negative number and nonsense ask for nothing.
    """
    text = value.strip(" \t")
    if _SECONDS.fullmatch(text) and text.isascii():
        digits = text.lstrip("0")
        return cap if len(digits) > _MOST_DIGITS else min(cap, timedelta(seconds=int(digits or "0")))
    moment = _date(text, now)
    if moment is None or moment < now:
        return None
    return min(cap, moment - now)


def _date(text: str, now: datetime) -> datetime | None:
    for form in _DATES:
        if match := form.fullmatch(text):
            year = int(match["year"])
            if len(match["year"]) == 2:
                # Section 5.6.7: what appears to be more than 50 years ahead is of the century before.
                last = now.year + 50
                year = last - (last - year) % 100
            try:
                return datetime(
                    year,
                    _MONTHS.index(match["month"]) + 1,
                    int(match["day"]),
                    int(match["hour"]),
                    int(match["minute"]),
                    # A leap second has no name in Python.
                    59 if match["second"] == "60" else int(match["second"]),
                    tzinfo=UTC,
                )
            except ValueError:
                return None
    return None
