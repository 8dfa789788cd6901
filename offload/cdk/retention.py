"""What becomes of data when its stack is deleted, or when an update replaces or removes what holds it.

The one place that decides it: constructs say nothing of removal policies.
"""

from __future__ import annotations

from aws_cdk import RemovalPolicies, RemovalPolicy
from constructs import IConstruct

HOLDS_DATA = (
    "AWS::Cognito::UserPool",
    "AWS::DynamoDB::GlobalTable",
    "AWS::DynamoDB::Table",
    "AWS::EFS::FileSystem",
    "AWS::Events::Archive",
    # A bus itself holds nothing; its archive is kept and replayed under the bus's ARN.
    "AWS::Events::EventBus",
    # Without its key, what was encrypted by it is gone.
    "AWS::KMS::Key",
    "AWS::Kinesis::Stream",
    "AWS::Logs::LogGroup",
    "AWS::RDS::DBCluster",
    "AWS::RDS::DBInstance",
    "AWS::S3::Bucket",
    "AWS::SQS::Queue",
    "AWS::SecretsManager::Secret",
)
"""CloudFormation types whose resources hold what cannot be made again: rows, objects, messages, events, lines, keys."""


def decide(root: IConstruct, *, keep: bool) -> None:
    """Gives all that holds data below `root` its removal policy, also what is added later.

    With `keep` it stays when its stack is deleted and when an update would remove or replace it; only a creation that
    is rolled back takes it along again (CloudFormation's RetainExceptOnCreate), since nothing is in it yet. Without, it
    goes with its stack.
    """
    RemovalPolicies.of(root).apply(
        RemovalPolicy.RETAIN_ON_UPDATE_OR_DELETE if keep else RemovalPolicy.DESTROY,
        apply_to_resource_types=list(HOLDS_DATA),
    )
