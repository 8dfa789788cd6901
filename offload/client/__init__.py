"""What the monolith imports."""
