"""Offload: the serverless side of a monolith, on AWS Lambda.

`contracts` are events, jobs and webhooks as types; `client` is what the monolith imports; `cdk` is what stacks are made
of; `runtime` is what functions share; `functions` are the framework's own; `cli` is the `offload` command.
"""
