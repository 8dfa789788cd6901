"""What replays are for: who plans deliveries of events that a replay brings again looks it up by the replay's name.

A subscription is owed what the bus took since it was there. An event that comes for the first time is owed to every
subscription that wants it, for they were there before it. A replayed one may be older than they are.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Final

import msgspec
from msgspec import Struct

from offload.contracts.webhooks_out.recovery import Recovery
from offload.runtime import aws
from offload.runtime.webhooks_out import items
from offload.runtime.webhooks_out.items import Record

# Longer than a replay takes and its events wait.
_KEPT: Final = timedelta(days=15)


class Kept(Struct, frozen=True, kw_only=True):
    """What a replay is for, and what was counted before it began."""

    recovery: Recovery
    found: int
    at_most: int
    subscriptions: int


class Recoveries:
    """The replays of one table; `now` is the clock."""

    def __init__(self, table: str, now: Callable[[], datetime]) -> None:
        self._table = table
        self._now = now
        self._known: dict[str, Recovery | None] = {}

    def keep(self, replay: str, kept: Kept) -> None:
        """Keeps what a replay is for."""
        expires = items.seconds(self._now() + _KEPT)
        aws.dynamodb().put_item(
            TableName=self._table,
            Item={
                **items.recovery_key(replay),
                "kept": {"B": msgspec.json.encode(kept)},
                "expires": expires,
            },
        )

    def kept(self, replay: str) -> Kept | None:
        """What was kept of a replay, None when nothing was."""
        found = aws.dynamodb().get_item(TableName=self._table, Key=items.recovery_key(replay), ConsistentRead=True)
        return msgspec.json.decode(found["Item"]["kept"]["B"], type=Kept) if "Item" in found else None

    def of(self, replay: str) -> Recovery | None:
        """What a replay is for; None for one that somebody started by hand. Each is read once."""
        if replay not in self._known:
            kept = self.kept(replay)
            self._known[replay] = kept.recovery if kept else None
        return self._known[replay]


def is_owed(record: Record, event_type: str, taken_at: datetime, recovery: Recovery | None) -> bool:
    """Whether an event of the past that a subscription wants is owed to it, as far as this recovery goes."""
    if recovery is not None and not concerns(recovery, record, event_type):
        return False
    # The bus's own times are whole seconds.
    return taken_at >= record.created_at.replace(microsecond=0) or (recovery is not None and recovery.before_creation)


def concerns(recovery: Recovery, record: Record, event_type: str | None = None) -> bool:
    """Whether a recovery is about a subscription, and about an event type of it."""
    return (
        recovery.subscription in (None, record.id)
        and recovery.tenant in (None, record.tenant)
        and (event_type is None or recovery.type in (None, event_type))
    )
