"""The app's package: its contracts, its domain, its commands, and its catalogue. Replace it with your own."""
