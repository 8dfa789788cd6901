"""A shard of the customers of an orders file."""
