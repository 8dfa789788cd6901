"""Sends many deliveries again."""
