"""The outbox's table as a model of Django's; the columns are those of `offload.client.outbox.Outbox.table`."""

from __future__ import annotations

from django.db import models

from offload.client.django.fields import UtcMomentField
from offload.client.outbox_rows import (
    DEFAULT_TABLE,
    INDEXES,
    KEY_LENGTH,
    LEASE_LENGTH,
    NAME_LENGTH,
    STATE_LENGTH,
    index_name,
)


def indexes(table: str) -> list[models.Index]:
    """The indexes of an outbox's table of that name, for the `Meta` of its model.

    Django takes names of indexes of up to 30 characters: the table's has at most 21.
    """
    return [models.Index(fields=columns, name=index_name(table, end)) for end, columns in INDEXES.items()]


class OutboxRow(models.Model):
    """An outbox's columns. A subclass is a table of its own, and its `Meta` has the `indexes` of that table's name."""

    # Insertion order. A number may become visible after a higher one: no reader may keep a high-water mark.
    id: models.BigAutoField[int, int] = models.BigAutoField(primary_key=True)
    event_id: models.CharField[str, str] = models.CharField(max_length=NAME_LENGTH)
    event_type: models.CharField[str, str] = models.CharField(max_length=NAME_LENGTH)
    ordering_key: models.CharField[str, str] = models.CharField(max_length=KEY_LENGTH)
    event: models.TextField[str, str] = models.TextField()
    state: models.CharField[str, str] = models.CharField(max_length=STATE_LENGTH)
    written_at = UtcMomentField()
    published_at = UtcMomentField(null=True)
    attempts: models.IntegerField[int, int] = models.IntegerField(default=0)
    refusals: models.IntegerField[int, int] = models.IntegerField(default=0)
    retry_at = UtcMomentField(null=True)
    reason: models.TextField[str | None, str | None] = models.TextField(null=True)
    lease: models.CharField[str | None, str | None] = models.CharField(max_length=LEASE_LENGTH, null=True)
    leased_until = UtcMomentField(null=True)

    class Meta:
        """A base."""

        abstract = True


class OutboxEvent(OutboxRow):
    """The table that the relay reads by default."""

    class Meta:
        """The table of `offload.client.outbox.Outbox()`."""

        db_table = DEFAULT_TABLE
        indexes = indexes(DEFAULT_TABLE)
