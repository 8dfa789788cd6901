"""What follows from one attempt: a decision without effects."""

from __future__ import annotations

import random
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Final

from msgspec import Struct

from offload.contracts.webhooks_out.subscription import NO_RETRY_HEADER, Attempt, Why
from offload.runtime.http.retry_after import wait_of

# A receiver that asks for more is asked again after this all the same.
LONGEST_RETRY_AFTER: Final = timedelta(hours=6)
# A tenth, so that what failed together does not come back together, and the published schedule still tells the truth.
_JITTER: Final = 0.1

GONE: Final = 410
# Whom the receiver asks to slow down: the whole endpoint waits, not this delivery alone.
_SLOW_DOWN: Final = frozenset({429, 503})


class Next(Struct, frozen=True, kw_only=True):
    """What becomes of a delivery after an attempt.

    Exactly one of `delivered`, `retry_at` and `given_up` is set. `pause` is why the whole subscription pauses;
    `endpoint_waits_until` is when the endpoint as a whole may be tried again.
    """

    delivered: bool = False
    retry_at: datetime | None = None
    given_up: Why | None = None
    pause: Why | None = None
    endpoint_waits_until: datetime | None = None

    @property
    def endpoint_is_well(self) -> bool:
        """Whether it was answered as by an endpoint that is well: taken, or refused for good, which is a decision."""
        return self.delivered or self.given_up is Why.RECEIVER_SAID_NO


def after(
    attempt: Attempt,
    *,
    now: datetime,
    schedule: Sequence[timedelta],
    expires_at: datetime,
    chance: float | None = None,
) -> Next:
    """What follows from an attempt that ended at `now`; `attempt.number` counts from 1.

    Permanent is a short list: 410, and an answer with `webhook-retry: no`. All else is tried again by the `schedule`,
    name resolution and refused addresses too, until it ends or the next attempt would come after `expires_at`.
    `chance`, from 0 to 1, replaces the random number of the jitter.
    """
    if attempt.succeeded:
        return Next(delivered=True)
    if attempt.status == GONE:
        return Next(given_up=Why.GONE, pause=Why.GONE)
    if attempt.headers.get(NO_RETRY_HEADER, "").strip().lower() == "no":
        return Next(given_up=Why.RECEIVER_SAID_NO)
    asked = wait_of(attempt.headers.get("retry-after", ""), now, LONGEST_RETRY_AFTER)
    waits = now + asked if asked and attempt.status in _SLOW_DOWN else None
    if attempt.number > len(schedule):
        return Next(given_up=Why.ATTEMPTS_EXHAUSTED, endpoint_waits_until=waits)
    luck = random.random() if chance is None else chance  # noqa: S311 -- jitter, not a secret
    wait = schedule[attempt.number - 1] * (1 - _JITTER + 2 * _JITTER * luck)
    retry_at = now + max(wait, asked or timedelta(0))
    if retry_at >= expires_at:
        return Next(given_up=Why.EXPIRED, endpoint_waits_until=waits)
    return Next(retry_at=retry_at, endpoint_waits_until=waits)
