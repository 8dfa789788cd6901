"""Texts of others as they are stored: of an exception, a handler, a person."""

from __future__ import annotations

from typing import Final

_CUT: Final = "…"


def stored(text: str, most: int) -> str:
    """The text in at most `most` bytes of UTF-8 (at least 3); half of a surrogate pair is written as its escape."""
    content = text[: most + 1].encode(errors="backslashreplace")
    if len(content) <= most:
        return content.decode()
    return content[: most - len(_CUT.encode())].decode(errors="ignore") + _CUT


def message_of(error: BaseException) -> str:
    """What an exception says; one whose text cannot be read says that."""
    try:
        return str(error)
    except Exception as other:  # noqa: BLE001 -- its author's code, which may raise anything
        return f"its text cannot be read: {type(other).__name__}"


def said(error: BaseException) -> str:
    """An exception's class and message, as Python shows it."""
    return f"{type(error).__name__}: {message_of(error)}"
