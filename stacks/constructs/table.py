"""A DynamoDB table with our defaults."""

from __future__ import annotations

from aws_cdk import RemovalPolicy
from aws_cdk import aws_dynamodb as dynamodb
from aws_cdk import aws_iam as iam
from constructs import Construct

from stacks.environment import Environment


class Table(Construct):
    """On demand, keys `pk` and `sk` (`sk` only where asked for), kept and restorable as the environment says."""

    def __init__(self, scope: Construct, construct_id: str, *, sort_key: bool = True) -> None:
        super().__init__(scope, construct_id)
        data = Environment.of(self).data
        self.table = dynamodb.Table(
            self,
            "Table",
            partition_key=dynamodb.Attribute(name="pk", type=dynamodb.AttributeType.STRING),
            sort_key=dynamodb.Attribute(name="sk", type=dynamodb.AttributeType.STRING) if sort_key else None,
            billing_mode=dynamodb.BillingMode.PAY_PER_REQUEST,
            point_in_time_recovery_specification=dynamodb.PointInTimeRecoverySpecification(
                point_in_time_recovery_enabled=data.point_in_time_recovery
            ),
            removal_policy=RemovalPolicy.RETAIN if data.keep else RemovalPolicy.DESTROY,
            deletion_protection=data.keep,
        )

    def grant(self, grantee: iam.IGrantable, *actions: str) -> iam.Grant:
        """Allows the actions (without their `dynamodb:`) on this table alone; no index, no stream."""
        return iam.Grant.add_to_principal(
            grantee=grantee, actions=[f"dynamodb:{action}" for action in actions], resource_arns=[self.table.table_arn]
        )
