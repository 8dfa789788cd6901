"""Webhooks: how third parties sign what they send us, as data."""
