"""Retry-After, in each form that a server may send, and in forms that it may not."""

# ruff: noqa: RUF001

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from offload.runtime.http.retry_after import wait_of

NOW = datetime(1994, 11, 6, 8, 49, 7, tzinfo=UTC)
DAY = timedelta(days=1)


def test_a_year_of_two_digits_is_of_the_next_century_at_the_turn_of_it() -> None:
    eve = datetime(1999, 12, 31, 23, 59, 50, tzinfo=UTC)
    assert wait_of("Saturday, 01-Jan-00 00:00:00 GMT", eve, DAY) == timedelta(seconds=10)


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("0", 0),
        ("1", 1),
        ("120", 120),
        (" 120\t", 120),
        ("0000000000000000120", 120),
        ("86400", 86400),
        ("86401", 86400),
        ("9" * 5000, 86400),
        ("Sun, 06 Nov 1994 08:49:37 GMT", 30),
        ("Sunday, 06-Nov-94 08:49:37 GMT", 30),
        ("Sun Nov  6 08:49:37 1994", 30),
        ("Sun Nov 06 08:49:37 1994", 30),
        ("Sun, 06 Nov 1994 08:49:07 GMT", 0),
        ("Sun, 06 Nov 1994 08:49:60 GMT", 52),
        ("Tue, 08 Nov 1994 08:49:37 GMT", 86400),
        ("Saturday, 06-Nov-44 08:49:37 GMT", 86400),
        ("Sun, 06 Nov 1994 08:49:06 GMT", None),
        ("Sunday, 06-Nov-93 08:49:37 GMT", None),
        ("Monday, 06-Nov-45 08:49:37 GMT", None),
        ("Thu, 01 Jan 1970 00:00:00 GMT", None),
        ("", None),
        (" ", None),
        ("-1", None),
        ("+1", None),
        ("1.5", None),
        ("1e3", None),
        ("0x10", None),
        ("1,2", None),
        ("1 2", None),
        ("١", None),
        ("soon", None),
        ("Sun, 06 Nov 1994 08:49:37", None),
        ("Sun, 06 Nov 1994 08:49:37 CET", None),
        ("Sun, 06 Nov 1994 08:49:37 +0000", None),
        ("Son, 06 Nov 1994 08:49:37 GMT", None),
        ("Sun, 31 Feb 1995 08:49:37 GMT", None),
        ("Sun, 06 Nov 1994 24:49:37 GMT", None),
        ("Sun, 06 Nov 1994 08:49:61 GMT", None),
        ("Sun, 06 Nov 0000 08:49:37 GMT", None),
        ("1994-11-06T08:49:37Z", None),
    ],
)
def test_what_a_value_asks_for(value: str, seconds: int | None) -> None:
    assert wait_of(value, NOW, DAY) == (None if seconds is None else timedelta(seconds=seconds))
