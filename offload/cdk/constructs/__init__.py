"""One AWS thing with our defaults."""
