"""Uploaded files are streamed, and a connection that breaks off never looks like a file's end."""

from __future__ import annotations

import gzip
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import boto3
import pytest
from botocore.exceptions import BotoCoreError

from shop.orders import SHIPPED_DAY, read_rows
from shop.uploads import open_upload

PACKED = SHIPPED_DAY.read_bytes()
PLAIN = gzip.decompress(PACKED)


class Breaking(BaseHTTPRequestHandler):
    """Promises a whole file and hangs up after two thirds of it, at a line's end where there is one."""

    def do_GET(self) -> None:
        """Answers S3's GetObject."""
        content = PACKED if self.path.endswith(".gz") else PLAIN
        part = content[: len(content) * 2 // 3]
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(part if self.path.endswith(".gz") else part[: part.rindex(b"\n") + 1])

    def log_message(self, *_: object) -> None:
        """Quiet."""


@pytest.fixture
def breaking() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Breaking)
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


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
