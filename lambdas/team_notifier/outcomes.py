"""What becomes of a message by how its call ended. Decisions only; nothing here acts.

A POST to an incoming webhook is not idempotent, and there is no key that makes it so. Where the outcome is unknown the
group is told again: an alert that comes twice, and says so, is better than one that does not come.
"""

from __future__ import annotations

from datetime import datetime
from typing import Final, Literal, NamedTuple

from offload.runtime.http.failures import (
    CallFailed,
    CircuitOpen,
    NotAnswered,
    OutOfTime,
    RateLimited,
    TooLarge,
    Unsuccessful,
)

from .groups import BETWEEN_MESSAGES, LONGEST_WAIT

_BAD_REQUEST: Final = 400
_SERVER_ERRORS: Final = 500
_DETAIL_CHARACTERS: Final = 100

Name = Literal["told", "not-answered", "unknown", "refused", "rate-limited", "circuit-open", "out-of-time"]


class Outcome(NamedTuple):
    """How it ended.

    Of a message that was not told: it is sent again after `again_after` seconds, None for by how often it failed in a
    row; `counts` is whether this was a failure; with `bare` the next message leaves out what events say.
    """

    name: Name
    detail: str = ""
    again_after: float | None = None
    counts: bool = True
    bare: bool = False


def outcome_of(error: CallFailed | None, *, bare: bool, now: datetime) -> Outcome:
    """What it means that a call ended with this error, None for an answer that is a success.

    `bare` says that the message left out what events say.
    """
    match error:
        case None:
            return Outcome("told")
        case RateLimited():
            return Outcome("rate-limited", str(error), error.wait.total_seconds(), counts=False)
        case CircuitOpen():
            return Outcome("circuit-open", str(error), (error.until - now).total_seconds(), counts=False)
        case OutOfTime():
            return Outcome("out-of-time", str(error), BETWEEN_MESSAGES, counts=False)
        case NotAnswered():
            return Outcome("unknown" if error.unknown_outcome else "not-answered", str(error))
        case TooLarge():
            return Outcome("unknown", str(error))
        case Unsuccessful():
            return _unsuccessful(error, bare=bare)
        case _:
            # The guard's: what is in the secret is no address to call.
            return Outcome("refused", str(error), LONGEST_WAIT)


def _unsuccessful(error: Unsuccessful, *, bare: bool) -> Outcome:
    said = error.answer.body[:_DETAIL_CHARACTERS].decode(errors="replace")
    detail = f"status {error.status}: {said}"
    if error.status >= _SERVER_ERRORS:
        # It may have posted it before it failed.
        return Outcome("unknown", detail)
    if error.status == _BAD_REQUEST and not bare:
        return Outcome("refused", detail, BETWEEN_MESSAGES, bare=True)
    # The hook is gone, or was never one.
    return Outcome("refused", detail, LONGEST_WAIT)
