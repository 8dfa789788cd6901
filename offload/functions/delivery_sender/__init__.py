"""Sends what subscriptions are owed."""
