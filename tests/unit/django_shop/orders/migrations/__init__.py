"""The migrations of the app `orders`."""
