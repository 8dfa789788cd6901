"""A month's page: Markdown in which a stranger's text is text, whatever it holds."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator
from typing import Final
from urllib.parse import quote, urlsplit

from .changes import Entry

_MONTHS: Final = (
    *("January", "February", "March", "April", "May", "June", "July"),
    *("August", "September", "October", "November", "December"),
)
_BODY_LINES: Final = 40
_HTML: Final = {"&": "&amp;", "<": "&lt;", ">": "&gt;"}
_INLINE: Final = re.compile(r"[\\`*_\[\]~|$]")
# What would begin a heading, a list, a rule, a table or an underline (CommonMark 0.31.2, "Leaf blocks").
_BLOCK: Final = re.compile(r"^([#+\-=:]|\d+(?=[.)]))")
_BULLET: Final = re.compile(r"^[*+-]\s+")
_HEADING: Final = re.compile(r"^#{1,6}\s+")
_COMMENT: Final = re.compile(r"<!--.*?-->", re.DOTALL)
# Renderers make links of bare addresses and mentions of names, even of escaped ones (GFM, "Autolinks (extension)"): a
# word joiner, which nobody sees, keeps them from it.
_JOINER: Final = "\u2060"
_BARE: Final = re.compile(r"@|:(?=//)|www(?=\.)", re.IGNORECASE)
_URL_CHARACTERS: Final = ":/?#@!$&'*+,;=%~"


def page_of(month: str, entries: Iterable[Entry]) -> str:
    """The page of a month (`2026-11`), its entries in the order given."""
    lines = [f"# Change log: {_MONTHS[int(month[5:]) - 1]} {month[:4]}"]
    day = ""
    for entry in entries:
        if day != (day := entry.at.date().isoformat()):
            lines += [*([""] if lines[-1] else []), f"## {day}", ""]
        lines += _lines(entry)
    if not day:
        lines += ["", "Nothing."]
    return "\n".join(lines).rstrip("\n") + "\n"


def plain(text: str) -> str:
    """A stranger's text as Markdown that shows it: one line, no markup, no HTML, no link, no mention."""
    shown = "".join(_shown(character) for character in text)
    line = " ".join(shown.split())
    line = _INLINE.sub(r"\\\g<0>", line)
    line = "".join(_HTML.get(character, character) for character in line)
    return _BARE.sub(lambda found: found[0] + _JOINER, line)


def link(text: str, url: str) -> str:
    """A link with this Markdown to the URL, or the Markdown alone when it is no address of a web page."""
    try:
        parts = urlsplit(url)
        good = parts.scheme in ("http", "https") and bool(parts.hostname)
    except ValueError:
        good = False
    if not good or not text:
        return text
    return f"[{text}]({quote(url.strip(), safe=_URL_CHARACTERS).replace('&', '&amp;')})"


def _lines(entry: Entry) -> Iterator[str]:
    name = plain(f"{entry.repository} {entry.name}")
    title = plain(entry.title)
    said = link(f"{name}: {title}" if title else name, entry.url)
    by = plain(entry.by)
    yield f"- {entry.at:%H:%M} **{entry.kind}** {said}{f' by {by}' if by else ''}"
    body = list(_body(entry.body))
    if body:
        yield ""
        yield from (f"  > {line}".rstrip() for line in body)
        yield ""


def _body(text: str) -> Iterator[str]:
    """A release's notes: their bullets and headings are kept, as ours; each other line is a paragraph of its own."""
    lines = [line.strip() for line in _COMMENT.sub("", text).splitlines()]
    lines = [line for line in lines if plain(line)]
    bullet_before = True
    for number, line in enumerate(lines):
        if number == _BODY_LINES:
            yield from ("", "…")
            return
        bullet = bool(_BULLET.match(line))
        if number and not (bullet and bullet_before):
            yield ""
        bullet_before = bullet
        heading = not bullet and bool(_HEADING.match(line))
        words = _BULLET.sub("", line) if bullet else _HEADING.sub("", line) if heading else line
        shown = _start(plain(words))
        yield f"- {shown}" if bullet else f"**{shown}**" if heading and shown else shown


def _start(line: str) -> str:
    """A line that begins no block."""
    return _BLOCK.sub(lambda found: f"{found[0]}\\" if found[0].isdigit() else f"\\{found[0]}", line)


def _shown(character: str) -> str:
    """Controls are spaces; what turns the direction of writing, and what is invisible, is left out."""
    category = unicodedata.category(character)
    if category in ("Cc", "Zl", "Zp"):
        return " "
    return "" if category in ("Cf", "Cs") and character != "\u200d" else character  # which joins emoji
