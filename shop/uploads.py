"""Files that somebody uploaded for a job: keys below `uploads/` of the jobs' bucket."""

from __future__ import annotations

from typing import TYPE_CHECKING, BinaryIO, Final, cast

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

UPLOADS: Final = "uploads/"


class NoSuchUpload(Exception):
    """There is no such file; `str()` says which and what to do."""


def check_upload(client: S3Client, bucket: str, key: str) -> None:
    """Raises NoSuchUpload when `open_upload` would; reads nothing."""
    _refuse_foreign(key)
    try:
        client.head_object(Bucket=bucket, Key=key)
    except client.exceptions.ClientError as error:
        # HEAD has no body: S3 says 404 where GET says NoSuchKey.
        if error.response["Error"]["Code"] in ("404", "NoSuchKey"):
            raise _missing(key) from error
        raise


def open_upload(client: S3Client, bucket: str, key: str) -> BinaryIO:
    """The file's bytes as a stream, read forwards and once; raises NoSuchUpload.

    A connection that breaks off raises botocore's error from `read`: never a file that seems to end there.
    """
    _refuse_foreign(key)
    try:
        answer = client.get_object(Bucket=bucket, Key=key)
    except client.exceptions.NoSuchKey as error:
        raise _missing(key) from error
    return cast("BinaryIO", answer["Body"])


def _refuse_foreign(key: str) -> None:
    # Results of other jobs are in the same bucket, and not for everybody who may submit a job.
    if not key.startswith(UPLOADS) or key == UPLOADS:
        raise NoSuchUpload(f"'{key}' is no uploaded file: its key begins with {UPLOADS}")


def _missing(key: str) -> NoSuchUpload:
    return NoSuchUpload(f"'{key}' is not in the jobs' bucket: upload it first (or again, if it has expired)")
