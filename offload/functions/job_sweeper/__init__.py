"""Looks each minute at the jobs whose time has come."""
