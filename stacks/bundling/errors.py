"""What a function's author is told when a bundle cannot be made."""

from __future__ import annotations


class BundlingError(Exception):
    """A folder cannot become a bundle; the message is one line with the folder, the file and the mend."""


def one_line(output: str) -> str:
    """The drawn and wrapped message of uv as one line of text."""
    words = [word for word in output.split() if word.isascii()]
    return " ".join(words)
