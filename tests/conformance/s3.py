"""S3."""

from __future__ import annotations

import urllib.error
import urllib.request
from typing import Any

from tests.conformance.behaviour import Differs, behaviour
from tests.conformance.oracle import Oracle, refusal

API = "AmazonS3/latest/API"
GUIDE = "AmazonS3/latest/userguide"
READ = "2026-11-29"


def a_bucket(aws: Oracle) -> str:
    """The bucket that all of them share."""

    def make() -> str:
        s3, name = aws.client("s3"), aws.name()
        place = {} if aws.region == "us-east-1" else {"CreateBucketConfiguration": {"LocationConstraint": aws.region}}
        s3.create_bucket(Bucket=name, **place)
        aws.later(s3.delete_bucket, Bucket=name)
        aws.later(emptied, aws=aws, bucket=name)
        return name

    return aws.shared("bucket", make)


def emptied(aws: Oracle, bucket: str) -> None:
    """Deletes what the behaviours have put."""
    s3 = aws.client("s3")
    for page in s3.get_paginator("list_objects_v2").paginate(Bucket=bucket):
        for each in page.get("Contents", []):
            s3.delete_object(Bucket=bucket, Key=each["Key"])


def status(request: urllib.request.Request) -> int:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(request, timeout=30) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code


@behaviour(
    "A put with If-None-Match: * makes an object once: the second is refused and the first stays",
    document=f"{GUIDE}/conditional-writes.html",
    read=READ,
    relied=("offload/client/publisher.py",),
    expected=[None, "PreconditionFailed", b"one"],
)
def put_once(aws: Oracle) -> Any:
    s3, bucket, key = aws.client("s3"), a_bucket(aws), aws.name()
    codes = [refusal(s3.put_object, Bucket=bucket, Key=key, Body=body, IfNoneMatch="*") for body in (b"one", b"two")]
    return [*codes, s3.get_object(Bucket=bucket, Key=key)["Body"].read()]


@behaviour(
    "An object that does not exist is NoSuchKey to a caller who may list the bucket, 404 to HEAD"
    " (without ListBucket it is 403: not tried)",
    document=f"{API}/API_GetObject.html",
    read=READ,
    relied=("offload/runtime/events/claim_check.py",),
    expected=["NoSuchKey", "404"],
)
def no_such_key(aws: Oracle) -> Any:
    s3, bucket = aws.client("s3"), a_bucket(aws)
    return [refusal(call, Bucket=bucket, Key="none") for call in (s3.get_object, s3.head_object)]


@behaviour(
    "A presigned PUT stores what is sent, with status 200; with another key than the signed one it is 403",
    document=f"{GUIDE}/PresignedUrlUploadObject.html",
    read=READ,
    relied=("offload/functions/jobs_api/handler.py", "offload/client/job_calls.py"),
    expected=[200, b"sent", 403],
    differs={"embedded": Differs([200, b"sent", 200], "it checks no signature where IAM is not enforced")},
)
def presigned_put(aws: Oracle) -> Any:
    s3, bucket, key = aws.client("s3"), a_bucket(aws), aws.name()
    url = s3.generate_presigned_url("put_object", Params={"Bucket": bucket, "Key": key}, ExpiresIn=300)
    done = status(urllib.request.Request(url, data=b"sent", method="PUT"))  # noqa: S310 - a URL of S3
    stored = s3.get_object(Bucket=bucket, Key=key)["Body"].read()
    other = url.replace(key, f"{key}-other")
    return [done, stored, status(urllib.request.Request(other, data=b"sent", method="PUT"))]  # noqa: S310


@behaviour(
    "A listing goes on with NextContinuationToken until IsTruncated is false",
    document=f"{API}/API_ListObjectsV2.html",
    read=READ,
    relied=("tests/conformance/s3.py",),
    expected=[True, False, ["a", "b"]],
)
def listing_pages(aws: Oracle) -> Any:
    s3, bucket, prefix = aws.client("s3"), a_bucket(aws), aws.name()
    for name in ("a", "b"):
        s3.put_object(Bucket=bucket, Key=f"{prefix}/{name}", Body=b"x")
    first = s3.list_objects_v2(Bucket=bucket, Prefix=prefix, MaxKeys=1)
    rest = s3.list_objects_v2(Bucket=bucket, Prefix=prefix, ContinuationToken=first["NextContinuationToken"])
    keys = [each["Key"].rpartition("/")[2] for each in first["Contents"] + rest["Contents"]]
    return [first["IsTruncated"], rest["IsTruncated"], keys]
