"""Keeps a record of every event that the bus took."""
