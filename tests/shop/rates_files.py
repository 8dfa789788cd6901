"""Files of the European Central Bank's rates, as recorded and as made."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date
from pathlib import Path
from typing import Final

# eurofxref-daily.xml as it was on Friday, 28 June 2024: form, order, quotes and figures as recorded in
# https://github.com/dialogplay/tool-directory (integrations/ecb_exchange_rate/README.md, read 2026-11-27).
DAILY: Final = Path(__file__).parent / "unit" / "data" / "eurofxref-daily.xml"


def daily_file(day: date, rates: Mapping[str, str] | None = None) -> bytes:
    """The recorded file with another day, and with other rates where some are given."""
    text = DAILY.read_text(encoding="utf-8").replace("2024-06-28", day.isoformat())
    if rates is None:
        return text.encode()
    begin, _, rest = text.partition("\t\t\t<Cube currency")
    end = rest[rest.index("\t\t</Cube>") :]
    return (
        begin + "".join(f"\t\t\t<Cube currency='{name}' rate='{rate}'/>\n" for name, rate in rates.items()) + end
    ).encode()


def history_file(days: Mapping[date, Mapping[str, str]]) -> bytes:
    """A file of several days, in the form of eurofxref-hist-90d.xml: on one line, double quotes, newest day first.

    The form is that of JavaMoney's reader (ECBRateReadingHandler in https://github.com/JavaMoney/jsr354-ri, read
    2026-11-27).
    """
    cubes = "".join(
        f'<Cube time="{day.isoformat()}">'
        + "".join(f'<Cube currency="{name}" rate="{rate}"/>' for name, rate in rates.items())
        + "</Cube>"
        for day, rates in sorted(days.items(), reverse=True)
    )
    return (
        '<?xml version="1.0" encoding="UTF-8"?><gesmes:Envelope xmlns:gesmes="http://www.gesmes.org/xml/2002-08-01" '
        'xmlns="http://www.ecb.int/vocabulary/2002-08-01/eurofxref"><gesmes:subject>Reference rates</gesmes:subject>'
        "<gesmes:Sender><gesmes:name>European Central Bank</gesmes:name></gesmes:Sender>"
        f"<Cube>{cubes}</Cube></gesmes:Envelope>"
    ).encode()
