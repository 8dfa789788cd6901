"""A period's sales as a page with charts and a table."""
