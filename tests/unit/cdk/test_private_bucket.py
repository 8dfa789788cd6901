"""Buckets where data is kept have versions and a log of who read and wrote; no bucket is open to anybody."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from aws_cdk import App, Duration, Stack

from offload.cdk.constructs.private_bucket import AccessLogs, PrivateBucket
from offload.cdk.environment import OWN_KEY, Environment
from offload.cdk.guardrails.templates import Resource, Template
from tests.assemblies import templates_in
from tests.unit.cdk.keyed import Synthesized, synthesized, with_key

pytestmark = pytest.mark.synthesis


ENVIRONMENTS = ("prod", "dev")
"""One that keeps data, and one that does not."""


def read(assembly: Path) -> Synthesized:
    bodies = templates_in(assembly).items()
    return Synthesized([Template(f"{stack}.template.json", stack, body) for stack, body in bodies], kms_key=None)


@pytest.fixture(scope="module", params=ENVIRONMENTS)
def clinic(request: pytest.FixtureRequest, clinic_of: Callable[[str], Path]) -> Synthesized:
    return read(clinic_of(request.param))


@pytest.fixture(
    scope="module", params=[(app, name) for app in ("clinic_of", "assembly_of") for name in ENVIRONMENTS], ids=" ".join
)
def templates(request: pytest.FixtureRequest) -> Synthesized:
    """The clinic's, and those of this project's app, whichever it is."""
    app, name = request.param
    return read(request.getfixturevalue(app)(name))


def kept(templates: Synthesized) -> bool:
    return any("prod" in template.stack for template in templates.each)


def statements(templates: Synthesized, bucket: Resource) -> list[dict[str, Any]]:
    return [
        statement
        for policy in templates.of_type("AWS::S3::BucketPolicy")
        if templates.target(policy, policy.properties["Bucket"]) is bucket
        for statement in policy.properties["PolicyDocument"]["Statement"]
    ]


def test_every_bucket_of_ours_is_private_takes_tls_only_and_ends_half_finished_uploads(templates: Synthesized) -> None:
    buckets = list(templates.of_type("AWS::S3::Bucket"))
    assert buckets
    for bucket in buckets:
        assert set(bucket.properties["PublicAccessBlockConfiguration"].values()) == {True}
        assert "AccessControl" not in bucket.properties
        assert "BucketEncryption" in bucket.properties
        [deny] = [each for each in statements(templates, bucket) if each["Effect"] == "Deny"]
        assert deny["Action"] == "s3:*"
        assert deny["Condition"] == {"Bool": {"aws:SecureTransport": "false"}}
        rules = bucket.properties["LifecycleConfiguration"]["Rules"]
        assert [rule for rule in rules if "AbortIncompleteMultipartUpload" in rule]


def test_the_clinic_has_a_bucket_of_claims_one_of_jobs_and_where_data_is_kept_one_of_access_logs(
    clinic: Synthesized,
) -> None:
    assert len(list(clinic.of_type("AWS::S3::Bucket"))) == 2 + kept(clinic)


def test_where_data_is_kept_a_bucket_has_versions_for_thirty_days_and_its_requests_are_logged(
    templates: Synthesized,
) -> None:
    buckets = list(templates.of_type("AWS::S3::Bucket"))
    logged = [each for each in buckets if "LoggingConfiguration" in each.properties]
    versioned = [each for each in buckets if "VersioningConfiguration" in each.properties]
    # All but the one of the logs.
    assert len(logged) == len(versioned) == (len(buckets) - 1 if kept(templates) else 0)
    prefixes = set()
    for bucket in logged:
        assert bucket.properties["VersioningConfiguration"] == {"Status": "Enabled"}
        rules = bucket.properties["LifecycleConfiguration"]["Rules"]
        [ending] = [rule for rule in rules if "NoncurrentVersionExpiration" in rule]
        assert ending["NoncurrentVersionExpiration"] == {"NoncurrentDays": 30}
        assert "Prefix" not in ending
        # CloudFormation takes only one of the two: S3 removes markers by itself where objects expire by days.
        assert ("ExpiredObjectDeleteMarker" in ending) != ("ExpirationInDays" in ending)
        destination = bucket.properties["LoggingConfiguration"]["DestinationBucketName"]
        target = templates.target(bucket, destination)
        assert target is not None
        assert target.logical_id.startswith("AccessLogs")
        prefixes.add(bucket.properties["LoggingConfiguration"]["LogFilePrefix"])
    assert len(prefixes) == len(logged), "the logs of two buckets lie together"


def test_s3_may_write_access_logs_of_this_account_by_policy_and_they_go_with_the_functions_logs(
    templates: Synthesized,
) -> None:
    if not kept(templates):
        assert not [each for each in templates.of_type("AWS::S3::Bucket") if each.logical_id.startswith("AccessLogs")]
        return
    [logs] = [each for each in templates.of_type("AWS::S3::Bucket") if each.logical_id.startswith("AccessLogs")]
    [allow] = [each for each in statements(templates, logs) if each["Effect"] == "Allow"]
    assert allow["Principal"] == {"Service": "logging.s3.amazonaws.com"}
    assert allow["Action"] == "s3:PutObject"
    # The account of prod's file, as it is filled in.
    assert allow["Condition"] == {"StringEquals": {"aws:SourceAccount": "123456789012"}}
    [rule] = logs.properties["LifecycleConfiguration"]["Rules"]
    assert {each.properties["RetentionInDays"] for each in templates.of_type("AWS::Logs::LogGroup")} == {
        rule["ExpirationInDays"]
    }
    assert "OwnershipControls" not in logs.properties


def test_one_bucket_takes_the_access_logs_of_every_stack_and_keeps_s3s_own_key(tmp_path: Path) -> None:
    def build(app: App, environment: Environment) -> None:
        environment.attach(app)
        first, second = Stack(app, "First"), Stack(app, "Second")
        PrivateBucket(first, "Files", expire_after=Duration.days(3))
        PrivateBucket(second, "Pages")
        assert AccessLogs.of(first) is AccessLogs.of(second)

    templates = synthesized(with_key("prod", OWN_KEY), tmp_path, build)
    buckets = {each.logical_id.rstrip("0123456789ABCDEF"): each for each in templates.of_type("AWS::S3::Bucket")}
    algorithms = {
        name: bucket.properties["BucketEncryption"]["ServerSideEncryptionConfiguration"][0][
            "ServerSideEncryptionByDefault"
        ]["SSEAlgorithm"]
        for name, bucket in buckets.items()
    }
    assert sorted(algorithms.values()) == ["AES256", "aws:kms", "aws:kms"]
    [logs] = [each for each in buckets.values() if each.logical_id.startswith("AccessLogs")]
    assert logs.template.stack == "First"
