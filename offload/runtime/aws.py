"""AWS clients for functions: made when first used, kept for the life of the execution environment."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any

import botocore.config
import botocore.session

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient
    from mypy_boto3_events import EventBridgeClient
    from mypy_boto3_lambda import LambdaClient
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_sqs import SQSClient
    from mypy_boto3_ssm import SSMClient

# A call that hangs must end well before the function does, so that a record is retried and not the whole batch killed.
# Requests are made by our own typed code and checked by AWS again: checking them in botocore too costs a transaction of
# a dozen actions most of a millisecond (bench/ledger).
_CONFIG = botocore.config.Config(
    connect_timeout=2,
    read_timeout=5,
    retries={"mode": "standard", "total_max_attempts": 3},
    parameter_validation=False,
)


@lru_cache(maxsize=1)
def _session() -> botocore.session.Session:
    return botocore.session.get_session()


@lru_cache(maxsize=8)
def _client(service: str) -> Any:
    return _session().create_client(service, config=_CONFIG)


def dynamodb() -> DynamoDBClient:
    """The client for DynamoDB."""
    client: DynamoDBClient = _client("dynamodb")
    return client


def sqs() -> SQSClient:
    """The client for SQS."""
    client: SQSClient = _client("sqs")
    return client


def s3() -> S3Client:
    """The client for S3."""
    client: S3Client = _client("s3")
    return client


def events() -> EventBridgeClient:
    """The client for EventBridge."""
    client: EventBridgeClient = _client("events")
    return client


def functions() -> LambdaClient:
    """The client for Lambda."""
    client: LambdaClient = _client("lambda")
    return client


def ssm() -> SSMClient:
    """The client for SSM's parameters."""
    client: SSMClient = _client("ssm")
    return client
