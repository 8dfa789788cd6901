"""Names and values of HTTP's headers: one grammar for what accepts them and what sends them.

RFC 9110, sections 5.1, 5.5 and 5.6.2 (read 2026-11-29). Bytes above ASCII, which section 5.5 keeps for what is old, are
in none of ours.
"""

from __future__ import annotations

import re
from typing import Final

_NAME: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_VALUE: Final = re.compile(r"(?:[!-~](?:[ \t!-~]*[!-~])?)?")


def is_field_name(text: str) -> bool:
    """Whether it can be a header's name: a token."""
    return _NAME.fullmatch(text) is not None


def is_field_value(text: str) -> bool:
    """Whether it can be a header's value: visible ASCII, with blanks and tabs only between. The empty one can be."""
    return _VALUE.fullmatch(text) is not None
