"""The records of a CSV file with the place of each, so that reading may go on there another time."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator
from typing import Final, NamedTuple

from shop.orders import LONGEST_FIELD, UnreadableOrders

# Ours: no order line comes near it, and what is longer would be held in memory whole.
RECORD_BYTES: Final = 2**20
_BYTE_ORDER_MARK: Final = b"\xef\xbb\xbf"


class Record(NamedTuple):
    """One record: its bytes are from `start` to `end`, its lines from `line` to `last_line`, counted from 1."""

    start: int
    end: int
    line: int
    last_line: int
    fields: list[str]


def records(blocks: Iterable[bytes], name: str, *, offset: int = 0, lines: int = 0) -> Iterator[Record]:
    """Reads records as they stand in the file; blank lines are passed over.

    `blocks` are the file's bytes from `offset` on, which is 0 or some record's `start` or `end`; `lines` is how many
    lines stand before it. Raises UnreadableOrders.
    """
    text = _Lines(blocks, name, offset, lines)
    csv.field_size_limit(LONGEST_FIELD)
    reader = csv.reader(text, strict=True)
    while True:
        start, line = text.end, text.count + 1
        text.record_start, text.record_line = start, line
        try:
            fields = next(reader, None)
        except csv.Error as error:
            raise UnreadableOrders(f"{name}: not CSV at line {text.count}: {error}") from error
        if fields is None:
            return
        if fields:
            yield Record(start, text.end, line, text.count, fields)


class _Lines:
    """The text of each line, with its end, for csv's reader; it counts what the reader has taken."""

    def __init__(self, blocks: Iterable[bytes], name: str, offset: int, count: int) -> None:
        self.end = offset
        self.count = count
        self.record_start = offset
        self.record_line = count + 1
        self._name = name
        self._lines = _split(blocks)

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        try:
            content = next(self._lines)
        except _TooLong as error:
            raise self._too_long() from error
        first = self.end == 0
        self.end += len(content)
        self.count += 1
        if self.end - self.record_start > RECORD_BYTES:
            raise self._too_long()
        try:
            return (content.removeprefix(_BYTE_ORDER_MARK) if first else content).decode()
        except UnicodeDecodeError as error:
            raise UnreadableOrders(
                f"{self._name}: not UTF-8 at line {self.count} (byte 0x{content[error.start]:02x}); "
                "save it as CSV in UTF-8"
            ) from error

    def _too_long(self) -> UnreadableOrders:
        return UnreadableOrders(
            f"{self._name}: the row at line {self.record_line} is longer than {RECORD_BYTES:,} bytes: "
            "is a quote left open there?"
        )


class _TooLong(Exception):
    pass


# No method: a generator that holds its holder is a cycle, and what it has read stays in memory until somebody looks.
def _split(blocks: Iterable[bytes]) -> Iterator[bytes]:
    # Bytes split at LF, CRLF and CR only, and none of them is part of another character in UTF-8.
    rest = b""
    for block in blocks:
        lines = (rest + block).splitlines(keepends=True)
        # A CR at the block's end may be half of a CRLF.
        rest = lines.pop() if lines and not lines[-1].endswith(b"\n") else b""
        yield from lines
        if len(rest) > RECORD_BYTES:
            raise _TooLong
    yield from rest.splitlines(keepends=True)
