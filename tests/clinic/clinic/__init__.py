"""A clinic: the app that the framework's tests use. It has one part of each kind, and nothing else needs it."""
