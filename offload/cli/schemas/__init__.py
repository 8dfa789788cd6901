"""What make schemas writes from the contracts: JSON Schemas, OpenAPI documents, steps of long jobs."""
