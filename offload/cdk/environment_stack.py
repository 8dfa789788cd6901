"""A stack of one environment."""

from __future__ import annotations

import aws_cdk
from constructs import Construct

from offload.cdk.environment import Environment


class EnvironmentStack(aws_cdk.Stack):
    """A stack in the account and Region of the environment above it, protected against deletion where data is kept.

    Where the environment's file names both, the CDK's command line refuses credentials of any other. Without them the
    stack is deployed to whatever the shell has.
    """

    def __init__(self, scope: Construct, construct_id: str) -> None:
        environment = Environment.of(scope)
        aws = environment.aws
        super().__init__(
            scope,
            construct_id,
            env=aws_cdk.Environment(account=aws.account, region=aws.region),
            termination_protection=environment.data.keep,
            # By it the command line tells the stacks of `dev` from those of `dev-2`.
            tags={"environment": environment.name},
        )
