"""Background jobs: their state, and how a function runs one."""
