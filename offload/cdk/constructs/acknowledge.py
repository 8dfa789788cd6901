"""Exceptions to the rules of synthesis, stated where they stand."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

from aws_cdk import Acknowledgment, CfnResource, Stack, Token, Validations
from aws_cdk import aws_iam as iam
from aws_cdk import aws_s3 as s3
from constructs import IConstruct

from offload.cdk.guardrails.access import SIGNATURE_CHECK, UNUSED


def acknowledge(construct: IConstruct, rule_id: str, reason: str) -> None:
    """Lets one resource break one rule.

    `construct` is the resource or the construct whose own resource it is (a `Queue`, not a stack or a pattern: what is
    added to those later would be excepted unseen). `rule_id` stands in the report: `offload::queue-visibility`,
    `AwsSolutions::AwsSolutions-L1`. `reason` says why, for whoever reads it in a year.

    Raises ValueError when the construct is not one resource, the id has no rule in it, or the reason is empty.
    """
    resource = construct if isinstance(construct, CfnResource) else construct.node.default_child
    if not isinstance(resource, CfnResource):
        raise ValueError(f"{construct.node.path}: acknowledge '{rule_id}' on the one resource that it is about")
    if not rule_id or rule_id.partition("[")[0].rstrip(":").endswith("*"):
        raise ValueError(
            f"{construct.node.path}: acknowledge one rule by its id as the report shows it, not '{rule_id}'"
        )
    if not reason.strip():
        raise ValueError(f"{construct.node.path}: acknowledging '{rule_id}' needs a reason")
    Validations.of(resource).acknowledge(Acknowledgment(id=rule_id, reason=reason))


def acknowledge_objects(grantee: iam.IGrantable, bucket: s3.Bucket, keys: str, reason: str) -> None:
    """Lets a role's policy name the objects `keys` (`claims/*`) of one bucket, for which IAM has no other form.

    Call it after the grant. Raises ValueError when the grantee is not a role of this app with a grant.
    """
    policy = _policy_of(grantee)
    if policy is None:
        raise ValueError(f"{bucket.node.path}: acknowledge objects for a role that has been granted something")
    logical_id = Stack.of(bucket).get_logical_id(cast("CfnResource", bucket.node.default_child))
    acknowledge(policy, f"AwsSolutions::AwsSolutions-IAM5[Resource::<{logical_id}.Arn>/{keys}]", reason)


def as_cdk_nag_writes(value: str, pseudo_parameter: str) -> str:
    """A stack's partition, Region or account in the id of a finding: itself, or `<AWS::Region>` where it is not known.

    An environment whose file names account and Region has them written out in its templates.
    """
    return f"<{pseudo_parameter}>" if Token.is_unresolved(value) else value


def allow_to_miss(grantee: iam.IGrantable, bucket: s3.Bucket) -> None:
    """Lets a role that reads objects of a bucket hear that one does not exist; call it after the grant to read."""
    iam.Grant.add_to_principal(grantee=grantee, actions=["s3:ListBucket"], resource_arns=[bucket.bucket_arn])
    # docs.aws.amazon.com/AmazonS3/latest/API/API_GetObject.html, read 2026-11-29.
    reason = "Without it S3 answers 'access denied', not 'no such key', for an object that does not exist."
    permit_unused(grantee, ["s3:ListBucket"], bucket.bucket_arn, reason)


def permit_unused(grantee: iam.IGrantable | iam.Policy, actions: Sequence[str], resource: str, reason: str) -> None:
    """Says why a role, or a policy, allows actions on a resource that no function's code asks for.

    Call it after the grant, with the resource as it was granted. `make check` prints the reason, and refuses one that
    is not needed (docs/permissions.md). Raises ValueError when the grantee is not a role of this app with a grant, or
    the reason is empty.
    """
    policy = grantee if isinstance(grantee, iam.Policy) else _policy_of(grantee)
    if policy is None or not reason.strip():
        raise ValueError(
            f"'{', '.join(actions)}' that nothing uses: say it of a role that has the grant, with a reason"
        )
    resource_of = cast("CfnResource", policy.node.default_child)
    said: list[object] = resource_of.get_metadata(UNUSED) or []
    added = [{"action": action, "resource": resource, "reason": reason} for action in actions]
    resource_of.add_metadata(UNUSED, [*said, *(each for each in added if each not in said)])


def _policy_of(grantee: iam.IGrantable) -> iam.Policy | None:
    role = grantee.grant_principal
    found = role.node.try_find_child("DefaultPolicy") if isinstance(role, iam.Role) else None
    return found if isinstance(found, iam.Policy) else None


def declare_signature_check(construct: IConstruct, scheme: str) -> None:
    """Declares that a function checks its requests' signatures itself (`scheme`: `github`, `stripe`, ...).

    Only then may it be reached without an authorizer: an HTTP API's authorizer does not see the body that is signed.
    Raises ValueError when the construct is not one resource or the scheme is empty.
    """
    resource = construct if isinstance(construct, CfnResource) else construct.node.default_child
    if not isinstance(resource, CfnResource) or not scheme:
        raise ValueError(f"{construct.node.path}: declare a signature check on a function, with its scheme's name")
    resource.add_metadata(SIGNATURE_CHECK, scheme)
