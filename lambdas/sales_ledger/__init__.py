"""Adds every invoice to the sales ledger."""
