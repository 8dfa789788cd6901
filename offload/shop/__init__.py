"""What the reference shop's functions and commands share. Replace it with your own domain."""
