"""Which calls to AWS the functions make while the tests run them: docs/permissions.md."""
