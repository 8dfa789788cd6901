"""Versions of a secret: the next one becomes current in place of the one that was read, or not at all.

It becomes a version of its own first, which nobody reads; then Secrets Manager is told to make it current in place of
the other. When another is current by then, Secrets Manager refuses (API_UpdateSecretVersionStage.html,
`RemoveFromVersionId`, read 2026-11-24).
"""

from __future__ import annotations

import uuid
from typing import Any, Final

from offload.contracts.secret_versions import CURRENT

# The label of a version that is about to be current. One at a time is enough: a version is moved to by its id.
_NEXT: Final = "OFFLOADNEXT"
# Moving a label from a version that has not got it: the API's reference names the first, its prose the second.
_NOT_THERE: Final = frozenset({"InvalidParameterException", "InvalidRequestException"})


def replace_version(manager: Any, arn: str, before: str, text: str) -> str | None:
    """Makes `text` the secret's current version in place of `before`; its version id, None when others were faster."""
    from botocore.exceptions import ClientError

    version = str(uuid.uuid4())
    manager.put_secret_value(SecretId=arn, ClientRequestToken=version, SecretString=text, VersionStages=[_NEXT])
    try:
        manager.update_secret_version_stage(
            SecretId=arn, VersionStage=CURRENT, MoveToVersionId=version, RemoveFromVersionId=before
        )
    except ClientError as error:
        if error.response["Error"]["Code"] not in _NOT_THERE:
            raise
        # It is ours when the answer was lost and botocore asked again.
        if manager.get_secret_value(SecretId=arn)["VersionId"] != version:
            return None
    return version


def retire_version(manager: Any, arn: str, label: str, version: str) -> None:
    """Takes a label away from a version, unless that has been done: one without labels is no longer kept."""
    from botocore.exceptions import ClientError

    try:
        manager.update_secret_version_stage(SecretId=arn, VersionStage=label, RemoveFromVersionId=version)
    except ClientError as error:
        if error.response["Error"]["Code"] not in _NOT_THERE:
            raise
