"""Commands of webhooks that we send: subscriptions, deliveries, a receiver."""
