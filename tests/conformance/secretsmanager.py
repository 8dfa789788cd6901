"""Secrets Manager."""

from __future__ import annotations

import uuid
from typing import Any

from tests.conformance.behaviour import Differs, behaviour
from tests.conformance.oracle import Oracle, refusal

API = "secretsmanager/latest/apireference"
READ = "2026-11-29"
VERSIONS = "offload/cli/deployment/secret_versions.py"


def a_secret(aws: Oracle) -> tuple[str, str]:
    """A new secret and the id of its first version."""
    manager = aws.client("secretsmanager")
    made = manager.create_secret(Name=aws.name(), SecretString="one")
    aws.later(manager.delete_secret, SecretId=made["ARN"], ForceDeleteWithoutRecovery=True)
    return made["ARN"], made["VersionId"]


@behaviour(
    "AWSCURRENT moves to another version and AWSPREVIOUS to the one it came from, in one step; both can be read",
    document=f"{API}/API_UpdateSecretVersionStage.html",
    read=READ,
    relied=(VERSIONS, "offload/contracts/secret_versions.py", "offload/runtime/webhooks_in/secrets.py"),
    expected=["one", "two", "one"],
)
def stages_move(aws: Oracle) -> Any:
    manager = aws.client("secretsmanager")
    arn, first = a_secret(aws)
    second = str(uuid.uuid4())
    manager.put_secret_value(SecretId=arn, ClientRequestToken=second, SecretString="two", VersionStages=["NEXT"])
    before = manager.get_secret_value(SecretId=arn)["SecretString"]
    manager.update_secret_version_stage(
        SecretId=arn, VersionStage="AWSCURRENT", MoveToVersionId=second, RemoveFromVersionId=first
    )
    after = manager.get_secret_value(SecretId=arn)["SecretString"]
    return [before, after, manager.get_secret_value(SecretId=arn, VersionStage="AWSPREVIOUS")["SecretString"]]


@behaviour(
    "A label that another version has by now is not moved: the caller named the wrong one to take it from",
    document=f"{API}/API_UpdateSecretVersionStage.html",
    read=READ,
    relied=(VERSIONS,),
    expected=[True, "one"],
)
def stage_is_elsewhere(aws: Oracle) -> Any:
    manager = aws.client("secretsmanager")
    arn, _ = a_secret(aws)
    second, third = str(uuid.uuid4()), str(uuid.uuid4())
    for version, text in ((second, "two"), (third, "three")):
        manager.put_secret_value(SecretId=arn, ClientRequestToken=version, SecretString=text, VersionStages=[text])
    code = refusal(
        manager.update_secret_version_stage,
        SecretId=arn,
        VersionStage="AWSCURRENT",
        MoveToVersionId=third,
        RemoveFromVersionId=second,
    )
    refused = code in {"InvalidParameterException", "InvalidRequestException"}
    return [refused, manager.get_secret_value(SecretId=arn)["SecretString"]]


@behaviour(
    "The same version id with the same text is taken again, with another text it is refused",
    document=f"{API}/API_PutSecretValue.html",
    read=READ,
    relied=(VERSIONS,),
    expected=[None, "ResourceExistsException"],
    differs={"embedded": Differs([None, None], "it takes another text; each version id of ours is a new one")},
)
def put_is_idempotent(aws: Oracle) -> Any:
    manager = aws.client("secretsmanager")
    arn, _ = a_secret(aws)
    version = str(uuid.uuid4())
    manager.put_secret_value(SecretId=arn, ClientRequestToken=version, SecretString="two")
    return [
        refusal(manager.put_secret_value, SecretId=arn, ClientRequestToken=version, SecretString=text)
        for text in ("two", "three")
    ]


@behaviour(
    "A secret has at most 65,536 bytes",
    document="secretsmanager/latest/userguide/reference_limits.html",
    read="2026-11-27",
    relied=("offload/cli/integrations/integrations.py",),
    expected=[None, "refused"],
    differs={"embedded": Differs([None, None], "it takes any size; the code refuses a longer one itself")},
)
def secret_of_64_kib(aws: Oracle) -> Any:
    manager = aws.client("secretsmanager")
    arn, _ = a_secret(aws)
    longest = refusal(manager.put_secret_value, SecretId=arn, SecretString="a" * 65_536)
    longer = refusal(manager.put_secret_value, SecretId=arn, SecretString="a" * 65_537)
    return [longest, "refused" if longer else None]
