"""The library around the functions."""
