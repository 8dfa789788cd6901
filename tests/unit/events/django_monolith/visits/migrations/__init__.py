"""The migrations of the app `visits`."""
