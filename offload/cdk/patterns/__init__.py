"""A whole use case."""
