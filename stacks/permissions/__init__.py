"""Whether every call that functions make is allowed, and every permission that they have is used: docs/permissions.md."""
