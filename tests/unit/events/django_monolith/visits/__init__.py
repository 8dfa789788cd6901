"""The monolith's app."""
