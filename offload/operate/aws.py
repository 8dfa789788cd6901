"""The AWS services of one environment: a real account's, or those of the embedded AWS."""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, cast

from offload.operate.embedded import PROJECT, state_folder
from offload.operate.embedded.process import ACCOUNT, REGION, EmbeddedAws, Instance
from offload.operate.failure import Failure

if TYPE_CHECKING:
    from boto3.session import Session
    from mypy_boto3_cloudformation import CloudFormationClient
    from mypy_boto3_cloudwatch import CloudWatchClient
    from mypy_boto3_dynamodb import DynamoDBClient
    from mypy_boto3_events import EventBridgeClient
    from mypy_boto3_iam import IAMClient
    from mypy_boto3_lambda import LambdaClient
    from mypy_boto3_logs import CloudWatchLogsClient
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_secretsmanager import SecretsManagerClient
    from mypy_boto3_sns import SNSClient
    from mypy_boto3_sqs import SQSClient
    from mypy_boto3_sts import STSClient

LOCAL = "local"
"""The environment that is deployed to the embedded AWS."""

_SECRET = "test"  # noqa: S105 - the embedded AWS checks no secret of an account's root, with IAM enforced neither
_CONNECTED_WITHIN = 5  # seconds
_ANSWER_WITHIN = 30  # seconds; the longest call of ours is a long poll of 20 s


@dataclass(frozen=True)
class Aws:
    """The clients of one environment's services, each made when it is first asked for.

    With an `instance`, they talk to that embedded AWS and to nothing else, whatever the shell's AWS settings are;
    without one, to the account and region that the shell's AWS settings name.
    """

    environment: str
    instance: Instance | None = None

    @staticmethod
    def of(environment: str) -> Aws:
        """The services of an environment; raises NotRunning when it is `local` and the embedded AWS is not up.

        Raises Failure for an environment that has no file in `environments/`.
        """
        known = sorted(path.stem for path in (PROJECT / "environments").glob("*.toml"))
        if environment not in known:
            raise Failure(f"no environment '{environment}' (known: {', '.join(known)})")
        return Aws(environment, EmbeddedAws(state_folder()).connected() if environment == LOCAL else None)

    @cached_property
    def cloudformation(self) -> CloudFormationClient:
        """CloudFormation."""
        return cast("CloudFormationClient", self._client("cloudformation"))

    @cached_property
    def cloudwatch(self) -> CloudWatchClient:
        """CloudWatch's metrics and alarms."""
        return cast("CloudWatchClient", self._client("cloudwatch"))

    @cached_property
    def dynamodb(self) -> DynamoDBClient:
        """DynamoDB."""
        return cast("DynamoDBClient", self._client("dynamodb"))

    @cached_property
    def events(self) -> EventBridgeClient:
        """EventBridge."""
        return cast("EventBridgeClient", self._client("events"))

    @cached_property
    def iam(self) -> IAMClient:
        """IAM."""
        return cast("IAMClient", self._client("iam"))

    @cached_property
    def lambda_(self) -> LambdaClient:
        """Lambda."""
        return cast("LambdaClient", self._client("lambda"))

    @cached_property
    def logs(self) -> CloudWatchLogsClient:
        """CloudWatch Logs."""
        return cast("CloudWatchLogsClient", self._client("logs"))

    @cached_property
    def s3(self) -> S3Client:
        """S3."""
        return cast("S3Client", self._client("s3"))

    @cached_property
    def secrets_manager(self) -> SecretsManagerClient:
        """Secrets Manager."""
        return cast("SecretsManagerClient", self._client("secretsmanager"))

    @cached_property
    def sns(self) -> SNSClient:
        """SNS."""
        return cast("SNSClient", self._client("sns"))

    @cached_property
    def sqs(self) -> SQSClient:
        """SQS."""
        return cast("SQSClient", self._client("sqs"))

    @cached_property
    def sts(self) -> STSClient:
        """STS."""
        return cast("STSClient", self._client("sts"))

    @cached_property
    def session(self) -> Session:
        """A boto3 session with the environment's credentials and region; the endpoint is not part of it."""
        import boto3
        import botocore.session
        from botocore.exceptions import BotoCoreError

        if self.instance is None:
            try:
                # The name that every other SDK and the CDK read; boto3 by itself reads AWS_DEFAULT_REGION only.
                session = boto3.Session(region_name=os.environ.get("AWS_REGION") or None)
                region = session.region_name
            except BotoCoreError as error:
                raise Failure(f"environment {self.environment}: {error}") from error
            if region is None:
                raise Failure(f"environment {self.environment}: no AWS region; set AWS_REGION or AWS_PROFILE")
            return session
        # Neither profile nor configuration file of the person at the keyboard may reach the embedded AWS.
        inner = botocore.session.Session(
            session_vars={
                "profile": (None, None, None, None),
                "config_file": (None, None, os.devnull, None),
                "credentials_file": (None, None, os.devnull, None),
            }
        )
        return boto3.Session(
            aws_access_key_id=ACCOUNT, aws_secret_access_key=_SECRET, region_name=REGION, botocore_session=inner
        )

    def client(self, service: str) -> Any:
        """A new client of a service that has no name here, as botocore names it."""
        return self._client(service)

    def _client(self, service: str) -> Any:
        from botocore.config import Config

        if self.instance is None:
            # botocore waits for 60 s by default, and asks S3 of us-east-1 at the host that all Regions share.
            config = Config(
                connect_timeout=_CONNECTED_WITHIN,
                read_timeout=_ANSWER_WITHIN,
                retries={"mode": "standard", "total_max_attempts": 5},
                s3={"us_east_1_regional_endpoint": "regional"},
            )
            return self.session.client(service, config=config)  # type: ignore[call-overload]
        config = Config(
            proxies={},  # loopback is never reached through a proxy
            read_timeout=_ANSWER_WITHIN,
            max_pool_connections=32,
            s3={"addressing_style": "path"},
        )
        return self.session.client(  # type: ignore[call-overload]
            service, endpoint_url=self.instance.endpoint, verify=self.instance.certificate, config=config
        )


def shell_settings(instance: Instance) -> dict[str, str]:
    """The environment variables that point an AWS SDK, the CDK command line or Python's TLS at an instance."""
    settings = {
        "AWS_ENDPOINT_URL": instance.endpoint,
        "AWS_ACCESS_KEY_ID": ACCOUNT,
        "AWS_SECRET_ACCESS_KEY": _SECRET,
        "AWS_REGION": REGION,
        "AWS_DEFAULT_REGION": REGION,
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        "AWS_EC2_METADATA_DISABLED": "true",
    }
    if instance.certificate is not None:
        for variable in ("AWS_CA_BUNDLE", "NODE_EXTRA_CA_CERTS", "SSL_CERT_FILE"):
            settings[variable] = instance.certificate
    return settings
