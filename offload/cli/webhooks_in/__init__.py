"""Commands of webhooks that third parties send us."""
