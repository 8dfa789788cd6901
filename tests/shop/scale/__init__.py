"""Orders by the hundred thousand through the deployed app, while its workers are killed: exact, or a failure.

`python -m tests.shop.scale` runs it; `run` says how it goes on where it was stopped.
"""
