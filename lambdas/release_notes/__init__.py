"""Writes the shop's change log from GitHub's releases and merged pull requests."""
