"""The events, jobs and webhooks of the shop, as types."""
