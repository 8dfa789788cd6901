"""What an environment costs: AWS's prices in one place, and the bill of a month in which nothing arrives."""
