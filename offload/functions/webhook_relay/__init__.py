"""Publishes the webhooks that were kept while the bus did not take them."""
