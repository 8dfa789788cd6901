"""What stacks are made of: the constructs and patterns, bundling, guardrails, and the typed environment."""
