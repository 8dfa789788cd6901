"""The transactional outbox on Django's connections: the table of `offload.client.outbox`, and the same relay.

with transaction.atomic():
    order.save()
    outbox.add(AppointmentBooked(...).event())
"""

from __future__ import annotations

from typing import Any, Final

from django.db import connections, router
from django.db.transaction import TransactionManagementError, get_autocommit

from offload.client.django.models import OutboxEvent, OutboxRow
from offload.client.outbox_rows import new_rows
from offload.contracts.events.event import Event


class Outbox:
    """Writing to the outbox table of one model. What operators ask of it is `offload outbox`."""

    def __init__(self, model: type[OutboxRow] = OutboxEvent) -> None:
        self.model: Final = model

    def add(self, *events: Event[Any], key: str | None = None, using: str | None = None) -> None:
        """Writes events in the transaction under way: published after its commit, or not at all.

        Events of one `key` are published in the order they were added; by default the key is the event's subject.
        `using` is the alias of the database that the fact is written to, by default the one that the routers name for
        the model. Raises TransactionManagementError where no transaction is under way on it, and BrokenContract with
        the event's id and the field, before anything is written.
        """
        alias = using if using is not None else router.db_for_write(self.model)
        if get_autocommit(alias):
            raise TransactionManagementError(_no_transaction(alias))
        rows = [self.model(**row) for row in new_rows(events, key)]
        self.model._base_manager.using(alias).bulk_create(rows)


def _no_transaction(alias: str) -> str:
    """What to do about a missing transaction; there may be one, on another database."""
    others = [each.alias for each in connections.all(initialized_only=True) if each.in_atomic_block]
    elsewhere = f"; the transaction under way is on '{others[0]}': say using='{others[0]}'" if others else ""
    return (
        f"outbox.add needs the transaction that writes the fact, and none is under way on the database '{alias}'"
        f"{elsewhere or f': call it within `with transaction.atomic(using={alias!r}):`'}"
    )
