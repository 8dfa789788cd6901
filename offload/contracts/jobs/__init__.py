"""Job types: what a unit of background work takes, gives, and may cost."""
