"""The migrations of the app `offload`."""
