"""What protects an environment that keeps data against deletion by mistake, besides its templates.

Stacks are protected by the CDK, as the app says. Tables are not by their template: CloudFormation could not take them
along when their creation is rolled back, and a first deploy that fails would leave them behind. They are protected
here, once they are there for good.
"""

from __future__ import annotations

from offload.cli.deployment.aws import Aws
from offload.cli.deployment.resources import Deployment

_TABLES = ("AWS::DynamoDB::Table", "AWS::DynamoDB::GlobalTable")
FAILED_CREATION = "ROLLBACK_COMPLETE"
"""A stack whose first deploy failed: all that it had made is deleted again (CloudFormation's stack status codes)."""


def protect_tables(deployment: Deployment) -> list[str]:
    """Protects the tables that stay when their stack goes; returns the names of those that were not protected yet."""
    dynamodb = deployment.aws.dynamodb
    stacks = {stack.name: stack for stack in deployment.stacks}
    changed = []
    for table in deployment.every(*_TABLES):
        found = dynamodb.describe_table(TableName=table.physical_id)["Table"]
        if stacks[table.stack].retains(table.logical_id) and not found.get("DeletionProtectionEnabled"):
            dynamodb.update_table(TableName=table.physical_id, DeletionProtectionEnabled=True)
            changed.append(table.physical_id)
    return changed


def release_failed(aws: Aws) -> list[str]:
    """Takes termination protection from stacks whose first deploy failed; returns their names.

    Nothing is in them, and the CDK's command line deletes such a stack before it makes it again, which the protection
    that it gave the stack itself would refuse. Every other stack stays as it is.
    """
    released = []
    for page in aws.cloudformation.get_paginator("describe_stacks").paginate():
        for stack in page["Stacks"]:
            tags = {tag["Key"]: tag["Value"] for tag in stack.get("Tags", ())}
            if (
                tags.get("environment") == aws.environment
                and stack["StackStatus"] == FAILED_CREATION
                and stack.get("EnableTerminationProtection")
            ):
                aws.cloudformation.update_termination_protection(
                    StackName=stack["StackName"], EnableTerminationProtection=False
                )
                released.append(stack["StackName"])
    return released
