"""The guardrail of a customer-managed key: what holds data is encrypted by the one that the environment names."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from offload.cdk.guardrails.rule import Finding, Rule
from offload.cdk.guardrails.templates import Resource, Templates, Value, listed

DATA_ENCRYPTED: Final = "data-encrypted"
_KEY = "AWS::KMS::Key"


@dataclass(frozen=True)
class Encrypted:
    """The property of a CloudFormation type that names its key: a path, `*` for each of a list.

    `holds` is the property that holds the data; where it is absent there is nothing to encrypt.
    """

    path: tuple[str, ...]
    holds: tuple[str, ...] = ()


# CloudFormation's reference of each type, read 2026-11-29; tests/unit/cdk/test_encryption.py compares it with the
# schemas of every type in our templates. Others are here for teams that add one.
ENCRYPTED: Final[dict[str, tuple[Encrypted, ...]]] = {
    "AWS::DynamoDB::Table": (Encrypted(("SSESpecification", "KMSMasterKeyId")),),
    "AWS::DynamoDB::GlobalTable": (Encrypted(("Replicas", "*", "SSESpecification", "KMSMasterKeyId")),),
    "AWS::EFS::FileSystem": (Encrypted(("KmsKeyId",)),),
    "AWS::Events::Archive": (Encrypted(("KmsKeyIdentifier",)),),
    "AWS::Events::EventBus": (Encrypted(("KmsKeyIdentifier",)),),
    "AWS::Kinesis::Stream": (Encrypted(("StreamEncryption", "KeyId")),),
    "AWS::Lambda::EventSourceMapping": (Encrypted(("KmsKeyArn",), holds=("FilterCriteria",)),),
    "AWS::Lambda::Function": (
        Encrypted(("KmsKeyArn",), holds=("Environment",)),
        Encrypted(("DurableConfig", "KMSKeyArn"), holds=("DurableConfig",)),
    ),
    "AWS::Logs::LogGroup": (Encrypted(("KmsKeyId",)),),
    "AWS::RDS::DBCluster": (Encrypted(("KmsKeyId",)),),
    "AWS::RDS::DBInstance": (Encrypted(("KmsKeyId",)),),
    "AWS::S3::Bucket": (
        Encrypted(
            (
                "BucketEncryption",
                "ServerSideEncryptionConfiguration",
                "*",
                "ServerSideEncryptionByDefault",
                "KMSMasterKeyID",
            )
        ),
    ),
    "AWS::Scheduler::Schedule": (Encrypted(("KmsKeyArn",), holds=("Target", "Input")),),
    "AWS::SecretsManager::Secret": (Encrypted(("KmsKeyId",)),),
    "AWS::SNS::Topic": (Encrypted(("KmsMasterKeyId",)),),
    "AWS::SQS::Queue": (Encrypted(("KmsMasterKeyId",)),),
}
"""The CloudFormation types that hold data, and where each names its key."""


def _values(value: Value, path: tuple[str, ...]) -> list[Value]:
    """What stands at a path; None in the list for each place where nothing does."""
    if not path:
        return [value]
    if path[0] == "*":
        return [found for each in listed(value) for found in _values(each, path[1:])] or [None]
    return _values(value.get(path[0]) if isinstance(value, dict) else None, path[1:])


def _is_the_key(templates: Templates, resource: Resource, value: Value) -> bool:
    if value is None:
        return False
    if isinstance(value, str):
        return value == templates.kms_key
    target = templates.target(resource, value)
    return target is not None and target.type == _KEY


def _data_encrypted(templates: Templates) -> Iterator[Finding]:
    if templates.kms_key is None:
        return
    for resource in templates.of_type(*ENCRYPTED):
        for encrypted in ENCRYPTED[resource.type]:
            properties = dict(resource.properties)
            if encrypted.holds and _values(properties, encrypted.holds) == [None]:
                continue
            if all(_is_the_key(templates, resource, value) for value in _values(properties, encrypted.path)):
                continue
            place = "/".join(each for each in encrypted.path if each != "*")
            yield Finding(
                resource,
                f"The environment names a key (data.kms_key), and this {resource.type} is not encrypted by it: {place}"
                " is absent or another key.",
                "Use our construct (Table, WorkQueue, DeadLetterQueue, PrivateBucket, PythonFunction), or call"
                " encrypt(…) of offload/cdk/constructs/encryption.py on it.",
                f"Properties/{place}",
            )


RULES = (
    Rule(
        DATA_ENCRYPTED,
        "in an environment that names a customer-managed key, anything that holds data and is not encrypted by it",
        _data_encrypted,
    ),
)
"""The rules of this module."""
