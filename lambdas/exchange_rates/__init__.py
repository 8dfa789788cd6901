"""Fetches the European Central Bank's reference rates and stores them by day."""
