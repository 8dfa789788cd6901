"""Keeps the units on hand of every product and says when they are low."""
