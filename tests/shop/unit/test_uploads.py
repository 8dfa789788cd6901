"""Uploaded files are streamed, and a connection that breaks off never looks like a file's end."""

from __future__ import annotations

import gzip
from collections.abc import Iterator

import boto3
import pytest
from botocore.exceptions import BotoCoreError

from shop.orders import SHIPPED_DAY, read_rows
from shop.uploads import open_upload
from tests.odd_server import Behaviour, Received, answer, by_request, odd_server

PACKED = SHIPPED_DAY.read_bytes()
PLAIN = gzip.decompress(PACKED)


def breaking_off(request: Received) -> Behaviour:
    """Promises a whole file and hangs up after two thirds of it, at a line's end where there is one."""
    packed = request.path.endswith(".gz")
    content = PACKED if packed else PLAIN
    part = content[: len(content) * 2 // 3]
    sent = part if packed else part[: part.rindex(b"\n") + 1]
    return answer(200, sent, length=len(content))


@pytest.fixture
def breaking() -> Iterator[str]:
    with odd_server(by_request(breaking_off)) as server:
        yield server.url("")


@pytest.mark.parametrize("key", ["uploads/day.csv", "uploads/day.csv.gz"])
def test_a_connection_that_breaks_off_is_no_file_that_ends_there(key: str, breaking: str) -> None:
    client = boto3.client(
        "s3",
        endpoint_url=breaking,
        region_name="us-east-1",
        aws_access_key_id="000000000000",
        aws_secret_access_key="test",
    )
    rows = read_rows(open_upload(client, "jobs", key), key)
    next(rows)
    with pytest.raises(BotoCoreError):
        list(rows)
