"""A DynamoDB table with our defaults."""

from __future__ import annotations

from collections.abc import Sequence

from aws_cdk import aws_dynamodb as dynamodb
from aws_cdk import aws_iam as iam
from constructs import Construct

from offload.cdk.constructs.acknowledge import acknowledge
from offload.cdk.constructs.encryption import encrypt
from offload.cdk.environment import Environment

_STRING = dynamodb.AttributeType.STRING


class Table(dynamodb.Table):
    """On demand, keys `pk` and (unless `sort_key` is False) `sk`, kept and restorable as the environment says.

    Items expire at the time, in seconds since the epoch, of their attribute `time_to_live`.
    """

    def __init__(
        self, scope: Construct, construct_id: str, *, sort_key: bool = True, time_to_live: str | None = None
    ) -> None:
        data = Environment.of(scope).data
        super().__init__(
            scope,
            construct_id,
            partition_key=dynamodb.Attribute(name="pk", type=_STRING),
            sort_key=dynamodb.Attribute(name="sk", type=_STRING) if sort_key else None,
            time_to_live_attribute=time_to_live,
            billing_mode=dynamodb.BillingMode.PAY_PER_REQUEST,
            point_in_time_recovery_specification=dynamodb.PointInTimeRecoverySpecification(
                point_in_time_recovery_enabled=data.point_in_time_recovery
            ),
        )
        encrypt(self)
        if not data.point_in_time_recovery:
            acknowledge(
                self,
                "AwsSolutions::AwsSolutions-DDB3",
                "The environment's data is disposable: point_in_time_recovery is off in its file.",
            )

    def allow(self, grantee: iam.IGrantable, *actions: str) -> iam.Grant:
        """Allows the actions (without their `dynamodb:`) on this table alone."""
        return self.grant(grantee, *(f"dynamodb:{action}" for action in actions))

    def allow_exactly(self, grantee: iam.IGrantable, *actions: str) -> None:
        """Allows the actions on the table's own items alone, where `allow` would name `index/*` for its indexes."""
        self._allow(grantee, actions, [self.table_arn])

    def allow_query(self, grantee: iam.IGrantable, *indexes: str) -> None:
        """Allows to query these indexes."""
        self._allow(grantee, ("Query",), [f"{self.table_arn}/index/{name}" for name in indexes])

    @staticmethod
    def _allow(grantee: iam.IGrantable, actions: Sequence[str], arns: list[str]) -> None:
        iam.Grant.add_to_principal(
            grantee=grantee, actions=[f"dynamodb:{action}" for action in actions], resource_arns=arns
        )
