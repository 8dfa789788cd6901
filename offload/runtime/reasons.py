"""Why a consumer gave up on a message, and why it will try again."""

from __future__ import annotations

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
