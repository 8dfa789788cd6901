"""Webhooks: whether a request is what its sender signed."""
