"""Objects of S3 as streams, read and written in memory that does not grow with them."""

from __future__ import annotations

import io
import time
from collections.abc import Iterator
from tempfile import TemporaryFile
from types import TracebackType
from typing import IO, TYPE_CHECKING, Any, Final, Self

from botocore.exceptions import BotoCoreError, ClientError

from offload.contracts.backoff import full_jitter

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

BLOCK_BYTES: Final = 2**19
# S3: parts of 5 MiB to 5 GiB, 10,000 an upload (qfacts.html, read 2026-11-24). Of this size they come to 160 GB.
PART_BYTES: Final = 2**24
_READ_ATTEMPTS: Final = 4
_READ_PAUSE_SECONDS: Final = 0.5
_LONGEST_READ_PAUSE_SECONDS: Final = 1.5
_CHANGED: Final = ("PreconditionFailed", "412")


class ObjectChanged(Exception):
    """The object is not the one that it was when the reading began."""


class ObjectFile(io.RawIOBase):
    """The bytes of an object from `offset` to `size`, a request for each read; `etag` is the version that it must be.

    A read that breaks off is tried again a few times, then botocore's error is raised. Raises ObjectChanged.
    """

    def __init__(
        self, client: S3Client, bucket: str, key: str, *, size: int, offset: int = 0, etag: str | None = None
    ) -> None:
        super().__init__()
        self._client = client
        self._key = key
        self._request: dict[str, Any] = {"Bucket": bucket, "Key": key, **({"IfMatch": etag} if etag else {})}
        self._size = size
        self._offset = offset

    def readable(self) -> bool:
        """It is."""
        return True

    def readinto(self, buffer: Any, /) -> int:
        """Fills the buffer, but for the object's end."""
        length = min(len(buffer), self._size - self._offset)
        if length <= 0:
            return 0
        buffer[:length] = self._read(length)
        self._offset += length
        return length

    def _read(self, length: int) -> bytes:
        piece = f"bytes={self._offset}-{self._offset + length - 1}"
        for attempt in range(1, _READ_ATTEMPTS + 1):
            try:
                # boto3 tries a request again, but not an answer that breaks off on its way.
                return self._client.get_object(**self._request, Range=piece)["Body"].read()
            except ClientError as error:
                if error.response["Error"]["Code"] in _CHANGED:
                    raise ObjectChanged(f"'{self._key}' was replaced while it was read") from error
                raise
            except BotoCoreError:
                if attempt == _READ_ATTEMPTS:
                    raise
                time.sleep(full_jitter(attempt, base=_READ_PAUSE_SECONDS, cap=_LONGEST_READ_PAUSE_SECONDS))
        raise AssertionError("unreachable")


def blocks_of(file: io.RawIOBase | io.BufferedIOBase) -> Iterator[bytes]:
    """The rest of a file."""
    while block := file.read(BLOCK_BYTES):
        yield block


class ObjectWriter:
    """Writes an object, in parts where it is large; it is there once the `with` block has ended well, else not at all.

    What is not sent yet waits in a file, not in memory. Writing it again replaces it.
    """

    def __init__(
        self, client: S3Client, bucket: str, key: str, content_type: str, *, part_bytes: int = PART_BYTES
    ) -> None:
        self.key: Final = key
        self._client = client
        self._place: dict[str, Any] = {"Bucket": bucket, "Key": key}
        self._type = content_type
        self._part_bytes = part_bytes
        self._upload: str | None = None
        self._parts: list[Any] = []
        self._waiting: IO[bytes] = TemporaryFile()  # noqa: SIM115 -- closed by __exit__

    def write(self, content: bytes) -> None:
        """Adds to the object's end."""
        self._waiting.write(content)
        if self._waiting.tell() >= self._part_bytes:
            self._send_part()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._waiting:
            if kind is None:
                self._complete()
            elif self._upload is not None:
                try:
                    self._client.abort_multipart_upload(**self._place, UploadId=self._upload)
                except (BotoCoreError, ClientError) as left:
                    # The error that brought us here is the one to tell; the bucket's lifecycle clears the parts.
                    if error is not None:
                        error.add_note(f"the parts of '{self.key}' that were sent stay for a day: {left}")

    def _send_part(self) -> None:
        if self._upload is None:
            self._upload = self._client.create_multipart_upload(**self._place, ContentType=self._type)["UploadId"]
        number = len(self._parts) + 1
        self._waiting.seek(0)
        answer = self._client.upload_part(**self._place, UploadId=self._upload, PartNumber=number, Body=self._waiting)
        self._parts.append({"PartNumber": number, "ETag": answer["ETag"]})
        self._waiting.seek(0)
        self._waiting.truncate()

    def _complete(self) -> None:
        if self._upload is None:
            self._waiting.seek(0)
            self._client.put_object(**self._place, Body=self._waiting, ContentType=self._type)
            return
        if self._waiting.tell():
            self._send_part()
        self._client.complete_multipart_upload(
            **self._place, UploadId=self._upload, MultipartUpload={"Parts": self._parts}
        )
