"""What the clinic's functions and its monolith tell each other."""
