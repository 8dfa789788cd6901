"""A monolith on Django, with one app, `visits`. To import it is to set Django up, once in a process."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import django
from django.conf import settings
from django.db import connections
from sqlalchemy.engine import make_url

settings.configure(
    INSTALLED_APPS=["offload.client.django", "tests.unit.events.django_monolith.visits"],
    DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}},
    # Not UTC, which is what the relay reads.
    TIME_ZONE="Asia/Tokyo",
    USE_TZ=True,
)
django.setup()


@contextmanager
def databases(**urls: str) -> Iterator[None]:
    """Django on other databases, by alias; the URLs are SQLAlchemy's, and `default` is among them."""
    before = connections.settings
    connections.settings = connections.configure_settings({alias: _described(url) for alias, url in urls.items()})
    _forget()
    try:
        yield
    finally:
        _forget()
        connections.settings = before


def _forget() -> None:
    """Closes this thread's connections; the next ones are of the settings at that time."""
    for each in connections.all(initialized_only=True):
        each.close()
        del connections[each.alias]


def _described(url: str) -> dict[str, Any]:
    parts = make_url(url)
    if parts.get_backend_name() == "sqlite":
        return {"ENGINE": "django.db.backends.sqlite3", "NAME": parts.database, "OPTIONS": {"timeout": 30}}
    return {
        "ENGINE": "django.db.backends.postgresql",
        "NAME": parts.database,
        "USER": parts.username or "",
        "PASSWORD": parts.password or "",
        "HOST": parts.host or parts.query.get("host", ""),
        "PORT": parts.port or parts.query.get("port", ""),
    }
