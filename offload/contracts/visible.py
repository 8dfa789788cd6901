"""Texts of strangers as a terminal may show them: no character of them can steer it, or hide what the line says.

A terminal takes ESC and the C1 controls as the beginning of a command (ECMA-48, 5th edition, sections 5.2 to 5.6;
read 2026-11-29): OSC 8 hides a link behind other words, OSC 52 writes to the clipboard. Format characters turn a line
around (bidirectional overrides, Unicode Standard Annex 9) or cannot be seen at all (tags, zero width). Half of a
surrogate pair cannot be encoded.
"""

from __future__ import annotations

import re
from typing import Final

# The general categories Cc, Cf, Cs, Zl and Zp of Unicode 16 with the code points reserved among them. Written out, for
# a walk over all of Unicode takes a tenth of a second; a test compares it with Python's own tables.
_UNSEEN: Final = (
    "\\x00-\\x1f\\x7f-\\x9f\\u00ad\\u0600-\\u0605\\u061c\\u06dd\\u070f\\u0890\\u0891\\u08e2\\u180e"
    "\\u200b-\\u200f\\u2028-\\u202e\\u2060-\\u206f\\ud800-\\udfff\\ufeff\\ufff0-\\ufffb"
    "\\U000110bd\\U000110cd\\U00013430-\\U0001343f\\U0001bca0-\\U0001bca3\\U0001d173-\\U0001d17a"
    "\\U000e0000-\\U000e00ff"
)
_IN_LINE: Final = re.compile(f"[{_UNSEEN}]")
_IN_BLOCK: Final = re.compile(f"(?![\\n\\t])[{_UNSEEN}]")
_IN_JSON: Final = re.compile(f"(?!\\n)[{_UNSEEN}]")
_NAMED: Final = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}


def visible(text: str) -> str:
    r"""A text as one line: control and format characters as escapes (`\n`, `\x1b`, `\u202e`), the rest as it is."""
    return _IN_LINE.sub(_escaped, text)


def visible_block(text: str) -> str:
    """A text that keeps its line breaks (LF) and tabs; everything else as `visible`."""
    return _IN_BLOCK.sub(_escaped, text)


def visible_json(text: str) -> str:
    r"""JSON whose strings hold no control or format character as such, but `\uXXXX`: the same document for a parser.

    `text` is JSON as `json.dumps` writes it: outside of strings it has no such character but line breaks.
    """
    return _IN_JSON.sub(_escaped_in_json, text)


def _escaped(found: re.Match[str]) -> str:
    character = found[0]
    if character in _NAMED:
        return _NAMED[character]
    point = ord(character)
    return f"\\x{point:02x}" if point < 0x100 else f"\\u{point:04x}" if point < 0x10000 else f"\\U{point:08x}"


def _escaped_in_json(found: re.Match[str]) -> str:
    units = found[0].encode("utf-16-be", "surrogatepass")
    return "".join(f"\\u{units[at]:02x}{units[at + 1]:02x}" for at in range(0, len(units), 2))
