"""Claim checks: the data of an event that is too large for the bus, fetched from the environment's own store."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Final

from botocore.exceptions import ClientError

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

PREFIX: Final = "claims/"
# Far above any order; what is larger is not held in a function's memory.
_LARGEST_BYTES: Final = 32 * 1024 * 1024


class MissingClaim(Exception):
    """The store has no such body, or another than was left there."""


class ForeignClaim(Exception):
    """The reference names something else than this environment's store of claims."""


def reference(bucket: str, kind: str, data: bytes) -> tuple[str, str]:
    """The key under which an event's data is left, and the `dataref` that stands for it; the same data has the same."""
    key = f"{PREFIX}{kind}/{hashlib.sha256(data).hexdigest()}.json"
    return key, f"s3://{bucket}/{key}"


def fetch(dataref: str, *, bucket: str, s3: S3Client) -> bytes:
    """The data that `dataref` (`s3://BUCKET/claims/TYPE/SHA256.json`) stands for.

    Raises ForeignClaim for another bucket or prefix, MissingClaim when the body is gone, too large or not what was
    left; S3's other errors pass, a retry may help.
    """
    own = f"s3://{bucket}/"
    if not dataref.startswith(own + PREFIX):
        raise ForeignClaim(f"dataref '{dataref[:200]}' is not in {own}{PREFIX}")
    key = dataref.removeprefix(own)
    try:
        answer = s3.get_object(Bucket=bucket, Key=key)
    except ClientError as error:
        if error.response["Error"]["Code"] in ("NoSuchKey", "404"):
            raise MissingClaim(f"{dataref} does not exist") from error
        raise
    if answer["ContentLength"] > _LARGEST_BYTES:
        raise MissingClaim(f"{dataref} has {answer['ContentLength']} bytes, more than {_LARGEST_BYTES}")
    data = answer["Body"].read()
    if hashlib.sha256(data).hexdigest() != key.rpartition("/")[2].removesuffix(".json"):
        raise MissingClaim(f"{dataref} is not what was left there: its checksum differs")
    return data
