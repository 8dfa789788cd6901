"""A bucket with our defaults, and the one that keeps the log of who read and wrote in them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

from aws_cdk import Duration, Stack
from aws_cdk import aws_iam as iam
from aws_cdk import aws_s3 as s3
from constructs import Construct

from offload.cdk.constructs.acknowledge import acknowledge
from offload.cdk.constructs.encryption import encrypt
from offload.cdk.constructs.once import once
from offload.cdk.environment import Environment

REPLACED_FOR = Duration.days(30)
"""How long an object that was replaced or deleted can be brought back, where data is kept."""
_ABORTED_AFTER = Duration.days(1)


class PrivateBucket(s3.Bucket):
    """Not public, TLS only, encrypted, without half-finished uploads.

    Its objects expire after `expire_after` (None: never), and by the `lifecycle_rules` of some of them. Where the
    environment keeps data, an object that is replaced or deleted stays for `REPLACED_FOR` as a version of its own, and
    every request is logged in the environment's `AccessLogs`.
    """

    def __init__(
        self,
        scope: Construct,
        construct_id: str,
        *,
        expire_after: Duration | None = None,
        lifecycle_rules: Sequence[s3.LifecycleRule] = (),
    ) -> None:
        keep = Environment.of(scope).data.keep
        super().__init__(
            scope,
            construct_id,
            block_public_access=s3.BlockPublicAccess.BLOCK_ALL,
            encryption=s3.BucketEncryption.S3_MANAGED,
            enforce_ssl=True,
            versioned=True if keep else None,
            lifecycle_rules=[
                *lifecycle_rules,
                s3.LifecycleRule(
                    abort_incomplete_multipart_upload_after=_ABORTED_AFTER,
                    expiration=expire_after,
                    noncurrent_version_expiration=REPLACED_FOR if keep else None,
                    # What a delete leaves beside the version; an expiration by days takes it along by itself.
                    expired_object_delete_marker=True if keep and expire_after is None else None,
                ),
            ],
        )
        encrypt(self)
        if keep:
            AccessLogs.of(scope).take_from(self)
        else:
            acknowledge(
                self,
                "AwsSolutions::AwsSolutions-S1",
                "The environment's data is disposable: who reads it is logged where data.keep is true in its file.",
            )


class AccessLogs(s3.Bucket):
    """Where S3 writes who read and wrote in the environment's buckets, for as long as functions' logs are kept.

    S3's own key encrypts it, also where the environment names one: S3 does not deliver access logs to a bucket whose
    default is a KMS key (S3 User Guide, "Logging requests with server access logging", read 2026-11-29).
    """

    _ID = "AccessLogs"

    def __init__(self, scope: Construct, construct_id: str = _ID) -> None:
        settings = Environment.of(scope)
        super().__init__(
            scope,
            construct_id,
            block_public_access=s3.BlockPublicAccess.BLOCK_ALL,
            encryption=s3.BucketEncryption.S3_MANAGED,
            enforce_ssl=True,
            lifecycle_rules=[
                s3.LifecycleRule(
                    expiration=Duration.days(settings.functions.log_retention_days),
                    abort_incomplete_multipart_upload_after=_ABORTED_AFTER,
                )
            ],
        )
        self.add_to_resource_policy(
            iam.PolicyStatement(
                sid="AccessLogsOfThisAccount",
                principals=[iam.ServicePrincipal("logging.s3.amazonaws.com")],
                actions=["s3:PutObject"],
                resources=[self.arn_for_objects("*")],
                # Not by the buckets' ARNs: they are in other stacks, which need this one.
                conditions={"StringEquals": {"aws:SourceAccount": Stack.of(self).account}},
            )
        )
        acknowledge(self, "AwsSolutions::AwsSolutions-S1", "It is where access logs go: its own would never end.")
        if settings.data.kms_key is not None:
            acknowledge(
                self,
                "offload::data-encrypted",
                "S3 delivers access logs only to a bucket that S3's own key encrypts; they have keys, not contents.",
            )

    @staticmethod
    def of(scope: Construct) -> AccessLogs:
        """The access logs of the app's environment; made when the first bucket asks for it."""
        return once(scope, AccessLogs._ID, AccessLogs, AccessLogs)

    def take_from(self, bucket: s3.Bucket) -> None:
        """Logs every request to a bucket, below the bucket's path in the app."""
        resource = cast("s3.CfnBucket", bucket.node.default_child)
        resource.logging_configuration = s3.CfnBucket.LoggingConfigurationProperty(
            destination_bucket_name=self.bucket_name, log_file_prefix=f"{bucket.node.path}/"
        )
