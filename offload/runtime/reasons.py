"""Why a consumer gave up on a message, and why it will try again."""

from __future__ import annotations

from datetime import timedelta
from enum import StrEnum


class Reason(StrEnum):
    """The reason of a dead letter; its value is what the queue's message attribute `reason` says."""

    UNDECODABLE = "undecodable"
    """The message is not JSON, or not an event from the bus."""
    BROKEN_CONTRACT = "broken-contract"
    """The event does not keep its contract."""
    CLAIM_MISSING = "claim-missing"
    """The body that a claim check stands for does not exist, or is not what was stored."""
    CLAIM_FOREIGN = "claim-foreign"
    """The claim check names a store that is not this environment's."""
    REFUSED = "refused"
    """The handler raised `Refused`: no retry can help."""
    TOO_LARGE = "effect-too-large"
    """The effect of this one event does not fit a DynamoDB transaction."""
    RETRIES_EXHAUSTED = "retries-exhausted"
    """Every attempt failed; the detail names the last error."""


class Refused(Exception):
    """Raised by a handler for an event that no retry can help; it goes to the dead-letter queue at once.

    `reason` is what is searched for, the message says why and must not carry the payload.
    """

    def __init__(self, message: str, reason: Reason = Reason.REFUSED) -> None:
        super().__init__(message)
        self.reason = reason


class MayPass(Exception):
    """Something outside failed, which says nothing about the event: a third party is down, or a rate is used up.

    Where `may_pass`, the event is retried for as long as its consumer is patient, whatever its number of attempts; not
    before `wait`, where that is asked for.
    """

    may_pass: bool = True
    wait: timedelta | None = None


def passing(error: BaseException | None) -> MayPass | None:
    """The failure of something outside that an error is, or was raised from; None where it may not pass."""
    while error is not None:
        if isinstance(error, MayPass):
            return error if error.may_pass else None
        error = error.__cause__
    return None
