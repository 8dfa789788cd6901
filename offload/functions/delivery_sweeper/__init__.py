"""Wakes the senders of what is due."""
