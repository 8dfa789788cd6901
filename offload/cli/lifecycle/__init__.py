"""Commands of an environment's life on AWS: before a deploy, protection, the end."""
