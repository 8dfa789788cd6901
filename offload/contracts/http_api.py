"""What our HTTP APIs have in common: how a route is described, and how a refusal travels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, Literal

from msgspec import Struct

PROBLEM: Final = "urn:offload:problem:"
"""What each problem's `type` begins with; its stable name follows."""
IDEMPOTENCY_KEY: Final = r"^[!-~]([ -~]{0,254}[!-~])?\Z"
"""What the header Idempotency-Key may be: 1 to 256 printable characters of ASCII, as RFC 9110 (5.5) wants headers."""
LONGEST_BODY: Final = 64 * 1024


class Problem(Struct, frozen=True):
    """What is wrong, and what to do: problem details of RFC 9457. `type` stays the same for ever."""

    type: str
    title: str
    status: int
    detail: str = ""


class Route(Struct, frozen=True, kw_only=True):
    """One method of one path.

    Names in braces in a path are parameters (`{id}`). `body` and `query` are what they are read by; `keyed` routes take
    the headers Idempotency-Key and traceparent. `answers` are the bodies by status; one of 201 or 303 has a Location
    where `located`. `refusals` are the names of problems that only some routes give: which a body, a query and a key
    can give follow from those.
    """

    method: Literal["GET", "POST", "PATCH", "DELETE"]
    path: str
    summary: str
    answers: Mapping[int, Any]
    body: Any = None
    longest_body: int = LONGEST_BODY
    query: Any = None
    keyed: bool = False
    located: bool = False
    refusals: Sequence[str] = ()
