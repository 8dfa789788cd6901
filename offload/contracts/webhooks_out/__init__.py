"""Subscriptions: third parties that are told of events, and the deliveries that are owed to them."""
