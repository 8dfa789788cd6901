"""The AWS services of one environment: a real account's, or those of the embedded AWS."""

from __future__ import annotations

import os
import tomllib
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypedDict, cast

import msgspec

from offload.cli.deployment.failure import Failure
from offload.cli.local.place import state_folder
from offload.cli.local.process import ACCOUNT, REGION, EmbeddedAws, Instance
from offload.project import PROJECT

if TYPE_CHECKING:
    import ssl

    import httpx
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

    from offload.client.publisher import Retries

LOCAL = "local"
"""The environment that is deployed to the embedded AWS."""

ENVIRONMENTS = PROJECT / "environments"
"""One TOML file an environment."""

_SECRET = "test"  # noqa: S105 - the embedded AWS checks no secret of an account's root, with IAM enforced neither
_CONNECTED_WITHIN = 5  # seconds
_ANSWER_WITHIN = 30  # seconds; the longest call of ours is a long poll of 20 s
LOCAL_ANSWER_WITHIN = 300
"""Seconds in which the embedded AWS answers: a machine may be ten times as slow as AWS and more."""


class ApiOptions(TypedDict):
    """What `Jobs` and `Subscriptions` are made with, beside the API's URL."""

    credentials: Any
    region: str | None
    verify: ssl.SSLContext | bool
    trust_env: bool
    timeout: httpx.Timeout


@dataclass(frozen=True)
class Aws:
    """The clients of one environment's services, each made when it is first asked for.

    With an `instance`, they talk to that embedded AWS and to nothing else, whatever the shell's AWS settings are, as
    the root of `account` in `region`; without one, to the account and Region that the shell's AWS settings name.
    """

    environment: str
    instance: Instance | None = None
    account: str = ACCOUNT
    region: str = REGION

    @staticmethod
    def of(environment: str) -> Aws:
        """The services of an environment; raises NotRunning when it is `local` and the embedded AWS is not up.

        Raises Failure for an environment that has no file in `environments/`, and for one whose file names an account
        or a Region that is not the shell's: nothing is read or changed there under the environment's name.
        """
        if environment == LOCAL:
            return Aws(environment, EmbeddedAws(state_folder()).connected())
        owner = owner_of(environment)
        aws = Aws(environment)
        if owner.region is not None or owner.account is not None:
            identity(aws, owner)
        return aws

    def api_options(self) -> ApiOptions:
        """How a client of ours reaches an API of this environment."""
        import ssl

        import httpx

        from offload.client.signed_http import TIMEOUT

        instance = self.instance
        certificate = instance.certificate if instance else None
        return {
            "credentials": self.session.get_credentials(),
            "region": self.session.region_name,
            "verify": ssl.create_default_context(cafile=certificate) if certificate else True,
            "trust_env": instance is None,  # loopback is never reached through a proxy
            "timeout": TIMEOUT if instance is None else httpx.Timeout(LOCAL_ANSWER_WITHIN),
        }

    @property
    def retries(self) -> Retries:
        """How long our clients go on: on an embedded AWS as long as its slowest answer may take."""
        from offload.client.publisher import Retries

        return Retries() if self.instance is None else Retries(deadline=LOCAL_ANSWER_WITHIN)

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
                region = session.region_name or owner_of(self.environment).region
            except BotoCoreError as error:
                raise Failure(f"environment {self.environment}: {error}") from error
            if region is None:
                raise Failure(f"environment {self.environment}: no AWS region; set AWS_REGION or AWS_PROFILE")
            return session if session.region_name else boto3.Session(region_name=region)
        # Neither profile nor configuration file of the person at the keyboard may reach the embedded AWS.
        inner = botocore.session.Session(
            session_vars={
                "profile": (None, None, None, None),
                "config_file": (None, None, os.devnull, None),
                "credentials_file": (None, None, os.devnull, None),
            }
        )
        return boto3.Session(
            aws_access_key_id=self.account,
            aws_secret_access_key=_SECRET,
            region_name=self.region,
            botocore_session=inner,
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
            connect_timeout=LOCAL_ANSWER_WITHIN,
            read_timeout=LOCAL_ANSWER_WITHIN,
            max_pool_connections=32,
            s3={"addressing_style": "path"},
        )
        return self.session.client(  # type: ignore[call-overload]
            service, endpoint_url=self.instance.endpoint, verify=self.instance.certificate, config=config
        )


@dataclass(frozen=True)
class Identity:
    """An AWS account and a Region of it."""

    account: str
    region: str

    def __str__(self) -> str:
        return f"aws://{self.account}/{self.region}"


@dataclass(frozen=True)
class Owner:
    """The account and the Region that an environment belongs to by its file; None is whatever the shell has."""

    account: str | None = None
    region: str | None = None


def owner_of(environment: str) -> Owner:
    """What `[aws]` of the environment's file names; raises Failure without such a file, or where it cannot be read.

    A synthesis holds the rest of the file to its types; here the two values that decide where commands go.
    """
    known = sorted(path.stem for path in ENVIRONMENTS.glob("*.toml"))
    if environment not in known:
        said = f"no environment '{environment}'" if environment else "no environment named"
        raise Failure(f"{said} (known: {', '.join(known)})")
    path = ENVIRONMENTS / f"{environment}.toml"
    try:
        named = tomllib.loads(path.read_text(encoding="utf-8")).get("aws", {})
        return msgspec.convert(named, Owner)
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, msgspec.ValidationError) as error:
        raise Failure(f"environments/{path.name}: [aws]: {error}") from error


def identity(aws: Aws, owner: Owner | None = None) -> Identity:
    """The account and the Region that an environment's calls go to, as AWS itself says (sts:GetCallerIdentity).

    Raises Failure, in one line, where they are not those of `owner` (unless given, of the environment's file).
    """
    owner = owner_of(aws.environment) if owner is None else owner
    region = str(aws.session.region_name)
    if owner.region not in (None, region):
        raise Failure(
            f"environment {aws.environment} belongs to {owner.region} (environments/{aws.environment}.toml), and the"
            f" shell's AWS settings name {region}: set AWS_REGION={owner.region}"
        )
    caller = aws.sts.get_caller_identity()
    if owner.account not in (None, caller["Account"]):
        raise Failure(
            f"environment {aws.environment} belongs to account {owner.account} (environments/{aws.environment}.toml),"
            f" and the shell's credentials are for account {caller['Account']} ({caller['Arn']}): log in to"
            f" {owner.account}, or set AWS_PROFILE to a profile of it"
        )
    return Identity(caller["Account"], region)


def shell_settings(instance: Instance, account: str = ACCOUNT, region: str = REGION) -> dict[str, str]:
    """The environment variables that point an AWS SDK, the CDK command line or Python's TLS at an instance."""
    settings = {
        "AWS_ENDPOINT_URL": instance.endpoint,
        "AWS_ACCESS_KEY_ID": account,
        "AWS_SECRET_ACCESS_KEY": _SECRET,
        "AWS_REGION": region,
        "AWS_DEFAULT_REGION": region,
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        "AWS_EC2_METADATA_DISABLED": "true",
    }
    if instance.certificate is not None:
        for variable in ("AWS_CA_BUNDLE", "NODE_EXTRA_CA_CERTS", "SSL_CERT_FILE"):
            settings[variable] = instance.certificate
    return settings
