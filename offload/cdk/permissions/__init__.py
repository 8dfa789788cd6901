"""Whether every call of the functions is allowed, and every permission of theirs is used: docs/permissions.md."""
