"""What a function's author is told when a bundle cannot be made."""

from __future__ import annotations

import re
from typing import Final

from offload.cdk.refusal import Unusable
from offload.contracts.visible import visible

# RFC 3986, 3.2.1: what stands before the last @ of an authority. A token may stand there alone. And a query's values.
# An apostrophe is a character of URLs (section 2.2); what ends with the word ends what was quoted.
_USER: Final = re.compile(r"(?<=://)[^/\s\"?#]*@")
_QUERY: Final = re.compile(r"(?<=://)[^\s?]*\?(?:[^\s'\"#]|'(?!\s|\Z))+")
_VALUE: Final = re.compile(r"(?<==)[^&]+")
# What uv 0.13.9 says when no answer comes, and when the answer is no package (tests try a closed port, 401, 503 and
# UV_OFFLINE).
_UNREACHABLE: Final = re.compile(
    r"error sending request|dns error|failed to lookup address|tcp connect|connection (refused|reset|closed)|timed out"
    r"|network was disabled|failed to fetch|could not connect|invalid peer certificate"
    r"|HTTP status (client|server) error",
    re.IGNORECASE,
)
_REFUSED: Final = re.compile(r"\b(401 Unauthorized|403 Forbidden)\b", re.IGNORECASE)


class BundlingError(Unusable):
    """A folder cannot become a bundle; the message is one line with the folder, the file and the remedy.

    Whatever is put into it, the line has no credentials of a URL and no control characters.
    """

    def __init__(self, message: str) -> None:
        super().__init__(visible(redacted(message)))


def redacted(text: str) -> str:
    """A text without the credentials of the URLs in it: user, password or token, and the values of queries."""
    return _QUERY.sub(_without_values, _USER.sub("***@", text))


def _without_values(url: re.Match[str]) -> str:
    place, _, query = url[0].partition("?")
    return f"{place}?{_VALUE.sub('***', query)}"


def one_line(output: str) -> str:
    """The drawn and wrapped message of uv as one line of text."""
    words = [word for word in output.split() if word.isascii()]
    return " ".join(words)


def why_no_answer(said: str) -> str | None:
    """What to do where the package index, and not a version, is what uv complains of; None for anything else."""
    if _REFUSED.search(said):
        return "the package index refuses: look at the credentials that uv has for it (UV_INDEX_URL, keyring, netrc)"
    if _UNREACHABLE.search(said):
        return "the package index does not answer: look at the network, the proxy and UV_INDEX_URL, and try again"
    return None
