"""How a call out can fail. Each is a CallFailed, and each message says what to do about it."""

from __future__ import annotations


class CallFailed(Exception):
    """A call did not bring what it was made for; the subclass says why."""
