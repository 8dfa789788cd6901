"""Reads the data that an event left in the environment's claims bucket."""

from __future__ import annotations

from typing import TYPE_CHECKING

from offload.contracts.events.claim import CLAIM_LIMIT, CLAIM_PREFIX, is_claimed, split_reference

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client


class UnusableClaim(Exception):
    """A claim check that no retry can help; `str()` says which and why."""


class ForeignClaim(UnusableClaim):
    """The claim check names something other than an object under `claims/` of the environment's own bucket."""


class MissingClaim(UnusableClaim):
    """What the claim check names does not exist, or is not what was stored."""


def fetch(dataref: str, *, bucket: str, s3: S3Client) -> bytes:
    """Fetches the JSON of an event's data from `bucket`, the environment's own.

    Raises ForeignClaim before anything is fetched, MissingClaim, and whatever else S3 answers (worth a retry). S3 says
    AccessDenied of an object that does not exist, unless the caller may list the bucket (API_GetObject): a function's
    role needs both.
    """
    named, key = split_reference(dataref)
    if named != bucket:
        raise ForeignClaim(f"dataref '{dataref}' is not in the claims bucket '{bucket}'")
    if not key.startswith(CLAIM_PREFIX):
        raise ForeignClaim(f"dataref '{dataref}' is not under '{CLAIM_PREFIX}'")
    try:
        found = s3.get_object(Bucket=bucket, Key=key)
    except s3.exceptions.NoSuchKey as error:
        raise MissingClaim(f"dataref '{dataref}' does not exist (any more)") from error
    with found["Body"] as body:
        if found["ContentLength"] > CLAIM_LIMIT:
            raise MissingClaim(f"dataref '{dataref}' has {found['ContentLength']} bytes, over {CLAIM_LIMIT}")
        data = body.read()
    if not is_claimed(key, data):
        raise MissingClaim(f"dataref '{dataref}' is not what was stored: its content does not match its name")
    return data
