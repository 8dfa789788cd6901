"""The outbox for a monolith that runs on Django: an app with the table and its migration, and what writes to it.

`INSTALLED_APPS = [..., "offload.client.django"]`, then `manage.py migrate`. Raises ImportError where Django is missing.
"""

from __future__ import annotations

try:
    import django  # noqa: F401
except ModuleNotFoundError as error:
    if error.name != "django":
        raise
    raise ImportError(
        "offload.client.django needs the Python package 'django': install it, or use offload.client.outbox,"
        " which is the outbox for SQLAlchemy"
    ) from error
