"""Reading what a bundle is made of: what cannot be read or named is one line with the file and what to do."""

from __future__ import annotations

import codecs
from pathlib import Path
from typing import Final

from offload.cdk.bundling.errors import BundlingError

# The 32-bit ones first: the 16-bit one of the same order begins like it.
_MARKS: Final = (
    (codecs.BOM_UTF32_LE, "UTF-32"),
    (codecs.BOM_UTF32_BE, "UTF-32"),
    (codecs.BOM_UTF16_LE, "UTF-16"),
    (codecs.BOM_UTF16_BE, "UTF-16"),
)
_AS_UTF8: Final = "save it as UTF-8 without a byte order mark"


def content_of(path: Path, shown: str) -> bytes:
    """The bytes of a file, which errors call `shown`; raises BundlingError when it cannot be read."""
    refuse_unreadable(path, shown)
    try:
        return path.read_bytes()
    except OSError as error:
        raise BundlingError(f"{shown}: cannot be read ({error.strerror or error}): correct it, or delete it") from error


def text_of(path: Path, shown: str) -> str:
    """The text of a file in UTF-8; raises BundlingError for any other, or one with a byte order mark."""
    content = content_of(path, shown)
    refuse_utf16(content, shown)
    if content.startswith(codecs.BOM_UTF8):
        raise BundlingError(f"{shown}: begins with a byte order mark: {_AS_UTF8}")
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise BundlingError(f"{shown}:{line}: is not UTF-8: {_AS_UTF8}") from error


def refuse_utf16(content: bytes, shown: str) -> None:
    """Raises BundlingError for a file that begins as UTF-16 or UTF-32 does."""
    for mark, name in _MARKS:
        if content.startswith(mark):
            raise BundlingError(f"{shown}: is {name}, as some editors and shells write it: {_AS_UTF8}")


def refuse_unreadable(path: Path, shown: str) -> None:
    """Raises BundlingError for a link that leads nowhere, and for what is neither a file nor there."""
    if path.is_symlink() and not path.exists():
        raise BundlingError(f"{shown}: is a link to {path.readlink()}, which is not there: correct it, or delete it")
    if not path.is_file():
        raise BundlingError(f"{shown}: is no file: a bundle holds files alone; delete it")


def refuse_name(relative: str) -> None:
    """Raises BundlingError for a path that is not UTF-8, which the archive of a bundle could not name."""
    try:
        relative.encode()
    except UnicodeEncodeError:
        raise BundlingError(f"{relative}: its name is not UTF-8: give it another") from None
