"""Imports a file of orders, of any size, as order events."""
