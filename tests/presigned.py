"""Checks presigned URLs of S3 as S3 does, written from AWS's description of it and not from any library.

docs.aws.amazon.com/AmazonS3/latest/API/sigv4-query-string-auth.html, read 2026-11-29. Its own example is a test of this
module (tests/unit/runtime/test_aws_clients.py).
"""

from __future__ import annotations

import hmac
from dataclasses import dataclass
from hashlib import sha256
from urllib.parse import parse_qsl, quote, unquote, urlsplit

_SIGNATURE = "X-Amz-Signature"


@dataclass(frozen=True)
class Presigned:
    """What a URL says of itself: `signature_fits` when it was made with the secret that it was checked with."""

    host: str
    path: str
    region: str
    service: str
    key_id: str
    token: str
    expires: int
    """Seconds after it was signed."""
    signature_fits: bool


def read(method: str, url: str, secret: str) -> Presigned:
    """A URL signed with Signature Version 4 for a `method`; raises KeyError for any other."""
    address = urlsplit(url)
    query = dict(parse_qsl(address.query, keep_blank_values=True, strict_parsing=True))
    key_id, date, region, service, end = query["X-Amz-Credential"].split("/")
    canonical_query = "&".join(
        sorted(f"{_encoded(name)}={_encoded(value)}" for name, value in query.items() if name != _SIGNATURE)
    )
    signed_headers = query["X-Amz-SignedHeaders"]
    canonical = "\n".join(
        [
            method,
            quote(unquote(address.path), safe="/-_.~"),
            canonical_query,
            f"host:{address.netloc}",
            "",
            signed_headers,
            "UNSIGNED-PAYLOAD",
        ]
    )
    scope = f"{date}/{region}/{service}/{end}"
    text = "\n".join([query["X-Amz-Algorithm"], query["X-Amz-Date"], scope, sha256(canonical.encode()).hexdigest()])
    key = f"AWS4{secret}".encode()
    for part in (date, region, service, end):
        key = _digest(key, part)
    fits = (
        signed_headers == "host"
        and (query["X-Amz-Algorithm"], end) == ("AWS4-HMAC-SHA256", "aws4_request")
        and query["X-Amz-Date"].startswith(date)
        and _digest(key, text).hex() == query[_SIGNATURE]
    )
    return Presigned(
        host=address.netloc,
        path=unquote(address.path),
        region=region,
        service=service,
        key_id=key_id,
        token=query.get("X-Amz-Security-Token", ""),
        expires=int(query["X-Amz-Expires"]),
        signature_fits=fits,
    )


def _digest(key: bytes, text: str) -> bytes:
    return hmac.digest(key, text.encode(), "sha256")


def _encoded(text: str) -> str:
    return quote(text, safe="-_.~")
