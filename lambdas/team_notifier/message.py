"""A group of events as one message of a Slack incoming webhook. Decisions only; nothing here acts."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator, Sequence
from typing import Any, Final

from .groups import Group
from .topics import Topic

# Slack's limits: text of a message (docs.slack.dev/changelog/2018-truncating-really-long-messages), text of a section,
# blocks of a message (docs.slack.dev/reference/block-kit/blocks); read 2026-11-27. Beyond some 13,000 characters of
# blocks it has also said msg_blocks_too_long (github.com/slackapi/bolt-js/issues/2509, read 2026-11-27).
TEXT_CHARACTERS: Final = 40_000
SECTION_CHARACTERS: Final = 3_000
MESSAGE_BLOCKS: Final = 50
BLOCKS_CHARACTERS: Final = 13_000

# As it is sent: ten such lines stay below all of the limits.
LINE_CHARACTERS: Final = 600
_ESCAPES: Final = {"&": "&amp;", "<": "&lt;", ">": "&gt;"}


def message_of(topic: Topic[Any], group: Group, *, bare: bool = False) -> dict[str, Any]:
    """The JSON that is posted. `bare` leaves out what events say: for when Slack refused a message as it was."""
    title = f"{topic.title}: {group.events:,}"
    notes = [f"more: {topic.look}"]
    if group.doubtful:
        which = "all" if group.doubtful >= group.events else f"{group.doubtful:,}"
        notes.insert(0, f"{which} of these may have been told before: Slack's answer was lost")
    lines = [] if bare else [f"• {escaped(line)}" for line in group.lines]
    left = group.events - len(lines)
    if lines and left:
        lines.append(f"… and {left:,} more")
    return {
        # What a notification shows, and who cannot show blocks.
        "text": escaped(f"{title}. {'' if bare or not group.lines else group.lines[0]}".strip()),
        "blocks": [
            _section(f"*{escaped(title)}*"),
            *(_section(text) for text in _packed(lines)),
            {"type": "context", "elements": [_text(escaped("; ".join(notes)))]},
        ],
    }


def escaped(text: str) -> str:
    """A stranger's text as one line in which nothing is a link, a mention or a channel; cut where it is too long.

    Slack takes & < > for control characters (docs.slack.dev/messaging/formatting-message-text, read 2026-11-27).
    """
    shown: list[str] = []
    room = LINE_CHARACTERS - 1
    for character in " ".join(_plain(text).split()):
        piece = _ESCAPES.get(character, character)
        room -= len(piece)
        if room < 0:
            return "".join(shown) + "…"
        shown.append(piece)
    return "".join(shown)


def _plain(text: str) -> str:
    """Controls are spaces; what turns the direction of writing, and what is invisible, is left out."""
    kinds = ((character, unicodedata.category(character)) for character in text)
    return "".join(
        " " if kind in ("Cc", "Zl", "Zp") else character for character, kind in kinds if kind not in ("Cf", "Cs")
    )


def _packed(lines: Sequence[str]) -> Iterator[str]:
    """The lines in as few texts as hold them."""
    text = ""
    for line in lines:
        if text and len(text) + 1 + len(line) > SECTION_CHARACTERS:
            yield text
            text = ""
        text = f"{text}\n{line}" if text else line
    if text:
        yield text


def _section(text: str) -> dict[str, Any]:
    return {"type": "section", "text": _text(text)}


def _text(text: str) -> dict[str, Any]:
    # Verbatim: Slack makes no links of addresses and names in it.
    return {"type": "mrkdwn", "text": text, "verbatim": True}
