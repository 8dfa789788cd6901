"""A row of the outbox, whichever library writes it: what it holds of an event, and what has become of it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from enum import StrEnum
from hashlib import sha256
from typing import Any, Final, TypedDict

from msgspec import UnsetType

from offload.contracts.events.entry import Entry
from offload.contracts.events.event import Event

DEFAULT_TABLE: Final = "outbox_events"
"""The table's name where the team gives none."""

# Lengths of columns, in characters.
NAME_LENGTH: Final = 256
KEY_LENGTH: Final = 255
STATE_LENGTH: Final = 9
LEASE_LENGTH: Final = 32

INDEXES: Final[Mapping[str, tuple[str, ...]]] = {
    "by_state": ("state", "id"),
    "by_key": ("ordering_key", "state", "id"),
}
"""The columns of each index, by the end of its name."""


class State(StrEnum):
    """What has become of a row."""

    WAITING = "waiting"
    """To be published."""
    HELD = "held"
    """The bus refused it for good: a person decides. Later rows of its key wait behind it."""
    PUBLISHED = "published"
    DISCARDED = "discarded"
    """A person decided that it is not to be published."""


OPEN: Final = (State.WAITING, State.HELD)
"""The states in which a row is in the way of later rows of its key."""


class NewRow(TypedDict):
    """The columns of a row that has just been added; every other one is empty, or zero."""

    event_id: str
    event_type: str
    ordering_key: str
    event: str
    state: State
    written_at: datetime


def index_name(table: str, end: str) -> str:
    """The name of a table's index; `end` is one of INDEXES."""
    return f"{table}_{end}"


def new_rows(events: Iterable[Event[Any]], key: str | None) -> list[NewRow]:
    """The rows that say of events that they are to be published, in the order given.

    `key` orders them among each other; None takes the subject of each. Raises BrokenContract with the event's id and
    the field.
    """
    now = datetime.now(UTC)
    return [_new_row(event, key, now) for event in events]


def _new_row(event: Event[Any], key: str | None, now: datetime) -> NewRow:
    entry = Entry.of(event)
    return {
        "event_id": entry.id,
        "event_type": entry.type,
        "ordering_key": _ordering_key(event, key),
        "event": entry.detail.decode(),
        "state": State.WAITING,
        "written_at": now,
    }


def _ordering_key(event: Event[Any], key: str | None) -> str:
    chosen = key if key is not None else event.id if isinstance(event.subject, UnsetType) else event.subject
    # PostgreSQL's text has no NUL, an index's key has a longest length. Equal keys stay equal: that is all it is for.
    if len(chosen) > KEY_LENGTH or "\0" in chosen:
        return "sha256:" + sha256(chosen.encode()).hexdigest()
    return chosen
