"""Commands of events: types, dead letters, the outbox."""
