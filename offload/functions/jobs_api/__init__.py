"""The job service's HTTP API."""
