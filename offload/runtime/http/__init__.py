"""Calls out: an HTTP client for handlers, and the guard that every connection to a third party goes through."""
