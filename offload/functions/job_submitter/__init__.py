"""Submits the jobs that transactions asked for."""
