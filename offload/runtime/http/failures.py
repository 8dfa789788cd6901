"""How a call out can fail. Each is a CallFailed, and each message says what to do about it."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Final

from offload.runtime.reasons import MayPass

if TYPE_CHECKING:
    from offload.runtime.http.client import Answer


_PASSING: Final = frozenset({408, 425, 429})
"""What a client is to try again (RFC 9110 15.5.9, RFC 8470 5.2, RFC 6585 4); a 5xx says that the server failed."""
_SERVER_ERRORS: Final = range(500, 600)


class CallFailed(MayPass):
    """A call did not bring what it was made for; the subclass says why, `may_pass` whether another time may differ."""

    may_pass = False


class NotAnswered(CallFailed):
    """There was no whole answer: no connection, a time-out, a broken or nonsensical response.

    With `unknown_outcome` the request, or a part of it, was sent, and the third party may have acted on it.
    """

    may_pass = True

    def __init__(self, message: str, *, unknown_outcome: bool) -> None:
        self.unknown_outcome = unknown_outcome
        sent = "it may have been acted on" if unknown_outcome else "nothing was sent"
        super().__init__(f"{message} ({sent})")


class Unsuccessful(CallFailed):
    """The third party answered with a `status` that is no success; `wait` is what it asks for, where it does."""

    def __init__(self, message: str, answer: Answer, wait: timedelta | None = None) -> None:
        self.status = answer.status
        self.may_pass = answer.status in _PASSING or answer.status in _SERVER_ERRORS
        self.answer = answer
        self.wait = wait
        super().__init__(message)


class RateLimited(CallFailed):
    """It may be called again after `wait`, and not before: by our own rate, or by its 429 (then with the `answer`)."""

    may_pass = True
    wait: timedelta

    def __init__(self, message: str, wait: timedelta, answer: Answer | None = None) -> None:
        self.wait = wait
        self.answer = answer
        super().__init__(message)


class TooLarge(CallFailed):
    """The response's headers or body are longer than what is read."""


class CircuitOpen(CallFailed):
    """The third party has failed too often lately; nothing is sent to it until `until` (UTC)."""

    may_pass = True

    def __init__(self, message: str, until: datetime) -> None:
        self.until = until
        super().__init__(message)


class OutOfTime(CallFailed):
    """There was no time for a first attempt; nothing was sent."""

    may_pass = True


class CredentialsMissing(CallFailed):
    """Nobody has put the third party's credentials into its secret yet."""

    may_pass = True
