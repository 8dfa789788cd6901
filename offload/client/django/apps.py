"""The app that Django installs."""

from __future__ import annotations

from django.apps import AppConfig


class OffloadConfig(AppConfig):
    """The app `offload`: the outbox's table is all that it has in a database."""

    name = "offload.client.django"
    label = "offload"
    verbose_name = "Offload"
    default_auto_field = "django.db.models.BigAutoField"
