"""Before the first event: is all of it an orders file, what is in it, and which invoices are torn apart there."""

from __future__ import annotations

import gzip
import io
import sqlite3
import zlib
from collections.abc import Iterable, Iterator
from contextlib import closing
from typing import TYPE_CHECKING, Final

import msgspec
from msgspec import Struct

from shop.orders import COLUMNS, ID_LENGTH, UnreadableOrders, columns_at
from shop.uploads import check_upload

from .objects import BLOCK_BYTES, ObjectFile, ObjectWriter, blocks_of
from .records import records

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

CSV: Final = "text/csv; charset=utf-8"
# It travels in a step's result, of which durable functions take 256 KiB as JSON in a JSON string.
_HEADER_BYTES: Final = 20_000
# More than anybody would correct by hand; each chunk holds them in memory.
APART_LIMIT: Final = 10_000
_CACHE_KIB: Final = 2048
_GZIP: Final = b"\x1f\x8b"


class Opened(Struct, frozen=True, kw_only=True):
    """An orders file that is one: the object with its plain CSV, and what is in it.

    Rows begin at byte `first`, after `lines` lines. `apart` is the object that lists the invoices whose rows do not
    stand together.
    """

    key: str
    size: int
    etag: str | None
    header: tuple[str, ...]
    first: int
    lines: int
    rows: int
    invoices: int
    apart: str | None = None


def open_orders(client: S3Client, bucket: str, key: str, folder: str) -> Opened:
    """Reads the whole file once; what was packed is left unpacked in `folder`.

    So a file that breaks off, or is no CSV somewhere, is refused before anything is published. Raises NoSuchUpload,
    UnreadableOrders and ObjectChanged.
    """
    check_upload(client, bucket, key)
    head = client.head_object(Bucket=bucket, Key=key)
    size, etag = head["ContentLength"], head["ETag"]
    file = io.BufferedReader(ObjectFile(client, bucket, key, size=size, etag=etag), BLOCK_BYTES)
    magic = file.peek(2)[:2]
    if not magic:
        raise UnreadableOrders(f"{key}: the file is empty; an orders file has a row of column names first")
    if magic != _GZIP:
        if key.endswith(".gz"):
            raise UnreadableOrders(f"{key}: not a gzip file, though its name ends with .gz")
        return _Look(client, bucket, key, folder).over(blocks_of(file), key, etag)
    unpacked = f"{folder}orders.csv"
    with ObjectWriter(client, bucket, unpacked, CSV) as writer, gzip.GzipFile(fileobj=file) as content:
        return _Look(client, bucket, key, folder).over(_copied(_unpacked(content, key), writer), unpacked, None)


def read_apart(client: S3Client, bucket: str, opened: Opened) -> frozenset[str]:
    """The invoices whose rows do not stand together."""
    if opened.apart is None:
        return frozenset()
    content = client.get_object(Bucket=bucket, Key=opened.apart)["Body"].read()
    return msgspec.json.decode(content, type=frozenset[str])


class _Look:
    def __init__(self, client: S3Client, bucket: str, name: str, folder: str) -> None:
        self._client = client
        self._bucket = bucket
        self._name = name
        self._folder = folder

    def over(self, blocks: Iterable[bytes], key: str, etag: str | None) -> Opened:
        """What is in the file `blocks`, which is or will be the object `key`."""
        found = records(blocks, self._name)
        header = next(found, None)
        if header is None or header.line != 1:
            raise UnreadableOrders(f"{self._name}: the first line is empty; an orders file has its column names there")
        if header.end > _HEADER_BYTES:
            raise UnreadableOrders(
                f"{self._name}: the first line has {header.end:,} bytes, the limit is {_HEADER_BYTES:,}"
            )
        names = tuple(column.strip() for column in header.fields)
        place = columns_at(names, self._name)[COLUMNS.index("InvoiceNo")]
        with closing(_Invoices(self._name)) as invoices:
            last, rows = header, 0
            for record in found:
                last = record
                rows += 1
                invoices.see(record.fields[place].strip() if place < len(record.fields) else "")
            return Opened(
                key=key,
                size=last.end,
                etag=etag,
                header=names,
                first=header.end,
                lines=header.last_line,
                rows=rows,
                invoices=len(invoices),
                apart=self._list(invoices.apart),
            )

    def _list(self, apart: set[str]) -> str | None:
        if not apart:
            return None
        key = f"{self._folder}apart.json"
        content = msgspec.json.encode(sorted(apart))
        self._client.put_object(Bucket=self._bucket, Key=key, Body=content, ContentType="application/json")
        return key


class _Invoices:
    """The invoices of a file by runs of rows; the names are in a file of SQLite's own, so memory does not grow."""

    def __init__(self, name: str) -> None:
        self.apart: set[str] = set()
        self._name = name
        self._run = ""
        # No name: a temporary database, on disk as soon as its cache is full, gone when it is closed.
        self._seen = sqlite3.connect("", isolation_level=None)
        self._seen.execute(f"PRAGMA cache_size = -{_CACHE_KIB}")
        self._seen.execute("PRAGMA journal_mode = OFF")
        self._seen.execute("CREATE TABLE seen (invoice TEXT PRIMARY KEY) WITHOUT ROWID")

    def see(self, invoice: str) -> None:
        """Takes note of a row of the invoice. One without a number is nobody's, and ends no run."""
        if not invoice or invoice == self._run:
            return
        self._run = invoice
        if len(invoice) > ID_LENGTH:
            return  # A bad row, whatever else stands with it.
        try:
            new = self._seen.execute("INSERT INTO seen VALUES (?) ON CONFLICT DO NOTHING", (invoice,)).rowcount
        except sqlite3.OperationalError as error:
            raise UnreadableOrders(f"{self._name}: too many invoices for one file ({error}): split it") from error
        if not new:
            self.apart.add(invoice)
            if len(self.apart) > APART_LIMIT:
                raise UnreadableOrders(
                    f"{self._name}: the rows of more than {APART_LIMIT:,} invoices do not stand together: "
                    "sort the file by InvoiceNo"
                )

    def __len__(self) -> int:
        (count,) = self._seen.execute("SELECT count(*) FROM seen").fetchone()
        return int(count)

    def close(self) -> None:
        """Lets go of the names."""
        self._seen.close()


def _unpacked(content: gzip.GzipFile, name: str) -> Iterator[bytes]:
    try:
        yield from blocks_of(content)
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise UnreadableOrders(f"{name}: the gzip file is damaged or cut off ({error})") from error


def _copied(blocks: Iterable[bytes], writer: ObjectWriter) -> Iterator[bytes]:
    for block in blocks:
        writer.write(block)
        yield block
