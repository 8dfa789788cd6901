"""Webhooks out: what a subscription is owed, when it is sent, and what becomes of it."""
