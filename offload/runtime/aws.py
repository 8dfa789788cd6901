"""AWS clients for functions: made when first used, kept for the life of the execution environment."""

from __future__ import annotations

import os
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final, Literal

import botocore.config
import botocore.loaders
import botocore.session

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient
    from mypy_boto3_events import EventBridgeClient
    from mypy_boto3_lambda import LambdaClient
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_secretsmanager import SecretsManagerClient
    from mypy_boto3_sqs import SQSClient
    from mypy_boto3_ssm import SSMClient

# A call that hangs must end well before the function does, so that a record is retried and not the whole batch killed.
# Requests are made by our own typed code and checked by AWS again: checking them in botocore too costs a transaction of
# a dozen actions most of a millisecond.
_CONFIG = botocore.config.Config(
    connect_timeout=2,
    read_timeout=5,
    retries={"mode": "standard", "total_max_attempts": 3},
    parameter_validation=False,
)

_SERVICES: Final = ("dynamodb", "events", "lambda", "s3", "secretsmanager", "sqs", "ssm")


class _Loader(botocore.loaders.Loader):
    """Reads of botocore's data what the clients below need.

    Left alone, botocore looks into the folders of all its 400 services, twice, and parses the old table of all their
    endpoints. Both are in vain: a service's own rules say where it is. They take 30 of the 45 ms of a first client
    (docs/performance.md, "Cold starts").
    """

    def list_available_services(self, type_name: str) -> list[str]:  # noqa: ARG002 -- botocore's signature
        return list(_SERVICES)

    def load_data_with_path(self, name: str) -> tuple[dict[str, Any], str]:
        if name != "endpoints":
            found: tuple[dict[str, Any], str] = super().load_data_with_path(name)
            return found
        partitions, path = super().load_data_with_path("partitions")
        return {"version": 3, "partitions": [_without_services(each) for each in partitions["partitions"]]}, path


def _without_services(partition: dict[str, Any]) -> dict[str, Any]:
    """A partition of today's data as the old table has it, with no service that is an exception."""
    outputs = partition["outputs"]
    plain, dual = outputs["dnsSuffix"], outputs["dualStackDnsSuffix"]
    variants = [
        {"dnsSuffix": plain, "hostname": "{service}-fips.{region}.{dnsSuffix}", "tags": ["fips"]},
        {"dnsSuffix": dual, "hostname": "{service}.{region}.{dnsSuffix}", "tags": ["dualstack"]},
        {"dnsSuffix": dual, "hostname": "{service}-fips.{region}.{dnsSuffix}", "tags": ["dualstack", "fips"]},
    ]
    return {
        "partition": partition["id"],
        "regionRegex": partition["regionRegex"],
        "dnsSuffix": plain,
        "regions": {region: {} for region in partition["regions"]},
        "defaults": {
            "hostname": "{service}.{region}.{dnsSuffix}",
            "protocols": ["https"],
            "signatureVersions": ["v4"],
            "variants": variants,
        },
        "services": {},
    }


@lru_cache(maxsize=1)
def _session() -> botocore.session.Session:
    session = botocore.session.get_session()
    session.register_component("data_loader", _Loader())
    return session


@lru_cache(maxsize=len(_SERVICES))
def _client(service: str) -> Any:
    return _session().create_client(service, config=_s3_config() if service == "s3" else _CONFIG)


def _s3_config() -> botocore.config.Config:
    """Signature Version 4 for the bucket's Regional host, presigned URLs too.

    What botocore presigns by default is for the host that all Regions share, and in the Regions from before 2014 with
    Version 2. For a bucket of another Region that host answers 307 until its name is known everywhere, and for one of
    a Region from after March 2019 it answers 400 (docs.aws.amazon.com/AmazonS3/latest/userguide/VirtualHosting.html,
    .../Redirects.html, read 2026-11-29).
    """
    # An endpoint of one's own (the embedded AWS's, a VPC's) has no host for each bucket.
    own = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
    style: Literal["path", "virtual"] = "path" if own else "virtual"
    # A new one for each client: botocore writes into `s3`.
    s3 = botocore.config.Config(
        signature_version="s3v4", s3={"addressing_style": style, "us_east_1_regional_endpoint": "regional"}
    )
    return _CONFIG.merge(s3)


def dynamodb() -> DynamoDBClient:
    """The client for DynamoDB."""
    client: DynamoDBClient = _client("dynamodb")
    return client


def sqs() -> SQSClient:
    """The client for SQS."""
    client: SQSClient = _client("sqs")
    return client


def s3() -> S3Client:
    """The client for S3: it calls the bucket's Regional host, and presigns for it with Signature Version 4."""
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


def secrets() -> SecretsManagerClient:
    """The client for Secrets Manager."""
    client: SecretsManagerClient = _client("secretsmanager")
    return client
