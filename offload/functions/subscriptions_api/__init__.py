"""The API of subscriptions and deliveries."""
