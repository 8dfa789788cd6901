"""The kind of column that Django has not got."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from django.db import models
from django.db.backends.base.base import BaseDatabaseWrapper


class UtcMomentField(models.DateTimeField):  # type: ignore[type-arg]  # takes none when it runs
    """A moment, aware in Python, kept as UTC without a zone: the column that the relay reads and writes.

    Django's own has a zone in PostgreSQL, and in the others is in the zone of the connection's settings.
    """

    def get_internal_type(self) -> str:
        """Not DateTimeField: Django would convert what it reads by its own settings."""
        return "UtcMomentField"

    def db_type(self, connection: BaseDatabaseWrapper) -> str:
        """The column's type; MySQL's own default would drop the fraction of the second."""
        return {"postgresql": "timestamp", "mysql": "datetime(6)"}.get(connection.vendor, "datetime")

    def get_db_prep_value(self, value: Any, connection: BaseDatabaseWrapper, prepared: bool = False) -> Any:
        """To the database; SQLite keeps text, which is compared as text: always with the fraction."""
        moment = value if prepared else self.get_prep_value(value)
        if not isinstance(moment, datetime):
            return moment
        utc = moment.astimezone(UTC).replace(tzinfo=None)
        return utc.isoformat(" ", "microseconds") if connection.vendor == "sqlite" else utc

    def from_db_value(self, value: datetime | str | None, *_: Any) -> datetime | None:
        """From the database: aware, in UTC."""
        moment = datetime.fromisoformat(value) if isinstance(value, str) else value
        return None if moment is None else moment.replace(tzinfo=UTC)
