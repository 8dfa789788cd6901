"""The monolith's own table, and a second outbox beside the framework's."""

from __future__ import annotations

from django.db import models

from offload.client.django.models import OutboxRow, indexes


class Visit(models.Model):
    """One visit."""

    visit: models.CharField[str, str] = models.CharField(max_length=64, primary_key=True)


class AuditEvent(OutboxRow):
    """What is published to another bus."""

    class Meta:
        """A table of its own."""

        db_table = "audit_events"
        indexes = indexes("audit_events")
