"""What is deployed: one module a stack."""
