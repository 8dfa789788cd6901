"""Begins the durable executions of long jobs."""
