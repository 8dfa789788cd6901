"""Where the shop's change log stands: one Markdown page a month in a bucket."""

from __future__ import annotations

import re
from typing import Final

PREFIX: Final = "change-log/"
_KEY: Final = re.compile(rf"{PREFIX}(\d{{4}}-\d{{2}})\.md")


def page_key(month: str) -> str:
    """The key of a month's page (`2026-11`)."""
    return f"{PREFIX}{month}.md"


def month_of(key: str) -> str | None:
    """The month whose page has this key; None of any other key."""
    found = _KEY.fullmatch(key)
    return found[1] if found else None
