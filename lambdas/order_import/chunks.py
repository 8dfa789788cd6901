"""One chunk of an orders file: its rows checked, its invoices published, what cannot be left in a file of rejects."""

from __future__ import annotations

import csv
import io
from collections.abc import Collection, Iterable, Sequence
from contextlib import ExitStack
from types import TracebackType
from typing import TYPE_CHECKING, Final, NamedTuple

from msgspec import Struct

from offload.contracts.events.claim import CLAIM_LIMIT
from offload.contracts.events.entry import Entry
from offload.contracts.events.event import BrokenContract
from shop.orders import COLUMNS, BadRow, Row, columns_at, invoice_of, read_row

from .bus import Bus
from .objects import ObjectFile, ObjectWriter, blocks_of
from .opening import CSV, Opened
from .records import Record, records

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

# Ours: an invoice is held in memory until its last row. The longest of the shop's year has some 1,100.
INVOICE_ROWS: Final = 20_000
INVOICE_BYTES: Final = CLAIM_LIMIT


class Place(Struct, frozen=True, kw_only=True):
    """Where a chunk begins: at byte `offset`, after `lines` lines."""

    offset: int
    lines: int


class Chunk(Struct, frozen=True, kw_only=True):
    """What became of a chunk's rows, and where the next one begins. `rejects` is the object with its rejected rows."""

    end: Place
    rows: int
    published: int
    rejected: int
    rejects: str | None


class ChunkSize(NamedTuple):
    """A chunk has at least so many rows and so many bytes, and ends with an invoice."""

    rows: int
    bytes: int


class ChunkImport:
    """Imports a chunk. The events' ids follow from the invoices, so that doing it again changes nothing."""

    def __init__(
        self,
        client: S3Client,
        bucket: str,
        opened: Opened,
        *,
        name: str,
        apart: Collection[str],
        bus: Bus,
        traceparent: str | None,
    ) -> None:
        self._client = client
        self._bucket = bucket
        self._opened = opened
        self._name = name
        self._apart = apart
        self._bus = bus
        self._traceparent = traceparent
        self._columns = columns_at(opened.header, name)
        self._held: list[tuple[Record, Row | BadRow]] = []
        self._held_bytes = 0
        self._invoice = ""
        self._too_long = ""
        self._rows = 0
        self._published = 0

    def run(self, begin: Place, size: ChunkSize, rejects: str) -> Chunk:
        """Reads from `begin` as far as `size` says; rows that are rejected go to the object `rejects`.

        Raises UnreadableOrders, ObjectChanged, NotPublished and botocore's errors; it may be run again then.
        """
        opened = self._opened
        file = ObjectFile(
            self._client, self._bucket, opened.key, size=opened.size, offset=begin.offset, etag=opened.etag
        )
        end = begin
        place = self._columns[COLUMNS.index("InvoiceNo")]
        with Rejects(self._client, self._bucket, rejects) as self._rejects:
            for record in records(blocks_of(file), self._name, offset=begin.offset, lines=begin.lines):
                invoice = record.fields[place].strip() if place < len(record.fields) else ""
                if invoice and invoice != self._invoice:
                    self._end_invoice()
                    if self._rows >= size.rows and record.start - begin.offset >= size.bytes:
                        break
                    self._invoice = invoice
                self._take(record, invoice)
                end = Place(offset=record.end, lines=record.last_line)
            self._end_invoice()
            self._bus.flush()
        return Chunk(
            end=end,
            rows=self._rows,
            published=self._published,
            rejected=self._rejects.count,
            rejects=self._rejects.key,
        )

    def _take(self, record: Record, invoice: str) -> None:
        self._rows += 1
        row = read_row(record.fields, self._columns, len(self._opened.header), record.line)
        if not invoice or self._too_long:
            # Without a number it is nobody's, and stands in nobody's way.
            self._rejects.add(record, _reason(row) or self._too_long)
            return
        self._held.append((record, row))
        self._held_bytes += record.end - record.start
        if len(self._held) > INVOICE_ROWS or self._held_bytes > INVOICE_BYTES:
            self._too_long = (
                f"its invoice has more than {INVOICE_ROWS:,} rows or {INVOICE_BYTES:,} bytes: make several of it"
            )
            self._reject(self._too_long)

    def _end_invoice(self) -> None:
        if self._held:
            refusal = self._refusal()
            if refusal:
                self._reject(refusal)
            self._held, self._held_bytes = [], 0
        self._too_long = ""

    def _refusal(self) -> str:
        """Publishes the invoice; else says why not."""
        if self._invoice in self._apart:
            return "its invoice's rows do not stand together in the file: sort it by InvoiceNo"
        rows: list[Row] = []
        for record, row in self._held:
            if isinstance(row, BadRow):
                return f"left out with row {record.line} of its invoice"
            rows.append(row)
        try:
            entry = Entry.of(invoice_of(rows).event(traceparent=self._traceparent))
        except BrokenContract as error:
            return str(error)
        if len(entry.detail) > CLAIM_LIMIT:
            return f"its invoice's event has {len(entry.detail):,} bytes, the limit is {CLAIM_LIMIT:,}"
        self._bus.put(entry)
        self._published += 1
        return ""

    def _reject(self, refusal: str) -> None:
        for record, row in self._held:
            self._rejects.add(record, _reason(row) or refusal)
        self._held, self._held_bytes = [], 0


class Rejects:
    """A file of rejected rows, without column names: number, reason, and the row as it is. Made at the first one."""

    def __init__(self, client: S3Client, bucket: str, key: str) -> None:
        self.count = 0
        self.key: str | None = None
        self._object = (client, bucket, key)
        self._open = ExitStack()
        self._writer: ObjectWriter | None = None

    def add(self, record: Record, reason: str) -> None:
        """Adds a row."""
        if self._writer is None:
            self._writer = self._open.enter_context(ObjectWriter(*self._object, CSV))
            self.key = self._writer.key
        self._writer.write(line_of((str(record.line), reason, *record.fields)))
        self.count += 1

    def __enter__(self) -> Rejects:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._open.__exit__(kind, error, trace)


def join_rejects(client: S3Client, bucket: str, parts: Iterable[str], header: Sequence[str], key: str) -> None:
    """Makes one CSV of the chunks' rejects: `row,reason` and the file's own columns.

    Columns that an orders file does not have are no matter to its reader: corrected, the file can be imported.
    """
    with ObjectWriter(client, bucket, key, CSV) as writer:
        writer.write(line_of(("row", "reason", *header)))
        for part in parts:
            size = client.head_object(Bucket=bucket, Key=part)["ContentLength"]
            for block in blocks_of(ObjectFile(client, bucket, part, size=size)):
                writer.write(block)


def line_of(fields: Sequence[str]) -> bytes:
    """A line of CSV."""
    text = io.StringIO(newline="")
    csv.writer(text, lineterminator="\n").writerow(fields)
    return text.getvalue().encode()


def _reason(row: Row | BadRow) -> str:
    if isinstance(row, Row):
        return ""
    return f"{row.column}: {row.reason}" if row.column else row.reason
