"""Takes the webhooks of all providers: checks who is there, keeps what came, publishes it."""
