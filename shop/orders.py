"""Orders files: CSV with the columns of the UCI Online Retail set, read into invoices and written from them.

Source of the columns: Chen, D. (2015). Online Retail. UCI Machine Learning Repository, doi 10.24432/C5BW33.
"""

from __future__ import annotations

import csv
import gzip
import io
import re
import zlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import lru_cache
from itertools import islice
from pathlib import Path
from random import Random
from typing import BinaryIO, Final, TextIO, cast

from offload.contracts.events.event import LONGEST_NAME_BYTES, check_moment
from shop.contracts.orders import Invoice, OrderCancelled, OrderLine, OrderPlaced

COLUMNS: Final = (
    "InvoiceNo",
    "StockCode",
    "Description",
    "Quantity",
    "InvoiceDate",
    "UnitPrice",
    "CustomerID",
    "Country",
)
SHIPPED_DAY: Final = Path(__file__).parent / "data" / "2010-12-01.csv.gz"
"""One real day of orders (CC BY 4.0; ATTRIBUTION.md beside it): 143 invoices, of which 6 cancellations."""

CANCELLED: Final = "C"
_TIME: Final = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d", re.ASCII)
_INTEGER: Final = re.compile(r"[+-]?\d+", re.ASCII)
_DECIMAL: Final = re.compile(r"[+-]?\d+(\.\d+)?", re.ASCII)
_CUSTOMER: Final = re.compile(r"(\d+)(\.0+)?", re.ASCII)
# The bounds of the contract (`Id`, `Quantity`): msgspec checks them when it reads an event, not when it is made here.
ID_LENGTH: Final = 256
# An event's id is its type, a colon and the invoice's number.
_BEFORE_NUMBER: Final = max(len(kind.TYPE) for kind in (OrderPlaced, OrderCancelled)) + 1
DESCRIPTION_LENGTH: Final = 10_000
"""Characters; what is longer is a broken row, such as one whose quote was never closed."""
# Of one field, in characters: beyond it the csv module gives up on the file. An invoice has 16 MiB at most.
LONGEST_FIELD: Final = 16 * 1024 * 1024
_NOT_UTF8: Final = re.compile("[\udc80-\udcff]")
_QUANTITY_BOUND: Final = 10**9
_ROWS_TOLD: Final = 5
_BUFFER: Final = 2**18


class UnreadableOrders(Exception):
    """A file that is no orders file at all; `str()` is one line that names the file and what to do."""


@dataclass(frozen=True, slots=True)
class Row:
    """An order line as it stands in the file, checked: `unit_price` in GBP, exact; `customer` None for a guest."""

    invoice: str
    product: str
    description: str | None
    quantity: int
    invoiced_at: datetime
    unit_price: Decimal
    customer: str | None
    country: str


@dataclass(frozen=True)
class BadRow:
    """A row that is not an order line. `row` is its line in the file, the header's being 1.

    `column` is None where the row as a whole is wrong, `invoice` is empty where the row does not say it.
    """

    row: int
    column: str | None
    reason: str
    invoice: str

    def __str__(self) -> str:
        where = f"row {self.row}" + (f", {self.column}" if self.column else "")
        return f"{where}: {self.reason}" + (f" (invoice {_shown(self.invoice)})" if self.invoice else " (no invoice)")


class BadRows(Exception):
    """A file with bad rows: `rows` are all of them, `str()` is one line with the first ones."""

    def __init__(self, path: Path, rows: Sequence[BadRow]) -> None:
        self.path = path
        self.rows = tuple(rows)
        told = "; ".join(str(row) for row in self.rows[:_ROWS_TOLD])
        more = f"; and {len(self.rows) - _ROWS_TOLD} more" if len(self.rows) > _ROWS_TOLD else ""
        super().__init__(f"{path}: {told}{more}")


@dataclass(frozen=True)
class Orders:
    """What an orders file holds: its invoices in the order of their first rows, and what was left out of it."""

    invoices: tuple[Invoice, ...]
    rows: int
    bad_rows: tuple[BadRow, ...] = ()

    @property
    def bad_invoices(self) -> tuple[str, ...]:
        """The invoices that were left out, each once, in the file's order."""
        return tuple(dict.fromkeys(row.invoice for row in self.bad_rows if row.invoice))


def read_orders(path: Path, *, skip_bad: bool = False) -> Orders:
    """Reads an orders file, plain or gzip (told by its content, not by its name).

    One invoice is one order, placed or (number starts with C) cancelled, wherever in the file its rows stand; what the
    first row says of time, customer and country is the invoice's. Times have no zone and are taken as UTC; prices and
    quantities stay exact. With `skip_bad`, an invoice with a bad row is left out as a whole and its row is listed.
    Raises BadRows (without `skip_bad`) and UnreadableOrders.
    """
    invoices: dict[str, list[Row]] = {}
    bad: list[BadRow] = []
    count = 0
    try:
        with path.open("rb") as file:
            for row in read_rows(file, str(path)):
                count += 1
                if isinstance(row, BadRow):
                    bad.append(row)
                else:
                    invoices.setdefault(row.invoice, []).append(row)
    except OSError as error:
        raise UnreadableOrders(f"{path}: {error.strerror or error}") from error
    if bad and not skip_bad:
        raise BadRows(path, bad)
    for row in bad:
        invoices.pop(row.invoice, None)
    return Orders(tuple(invoice_of(rows) for rows in invoices.values()), count, tuple(bad))


def read_rows(file: BinaryIO, name: str) -> Iterator[Row | BadRow]:
    """Streams the rows of an orders file, plain or gzip, in the file's order, in memory that does not grow with it.

    `file` is read from where it stands, forwards only: a response of S3 will do. `name` is what errors call it.
    Raises UnreadableOrders.
    """
    with _text_of(file, name) as text:
        yield from _rows(text, name)


def write_orders(path: Path, invoices: Iterable[Invoice]) -> int:
    """Writes invoices as an orders file, gzip where the name ends with `.gz`; gives back the number of rows.

    The same invoices make the same bytes.
    """
    with path.open("wb") as file:
        if path.suffix == ".gz":
            # A gzip header carries the time and the name: both would differ between two equal files.
            with gzip.GzipFile(filename="", mode="wb", fileobj=file, mtime=0) as packed:
                return _write(packed, invoices)
        return _write(file, invoices)


class _Bad(Exception):
    def __init__(self, column: str, reason: str) -> None:
        super().__init__(reason)
        self.column = column
        self.reason = reason


@contextmanager
def _text_of(file: BinaryIO, name: str) -> Iterator[TextIO]:
    # Looked at, not sought back to: what comes over the network cannot be.
    buffered = io.BufferedReader(cast("io.RawIOBase", file), _BUFFER)
    try:
        magic = buffered.peek(2)[:2]
        if not magic:
            raise UnreadableOrders(f"{name}: the file is empty; an orders file has a row of column names first")
        if magic == b"\x1f\x8b":
            with gzip.GzipFile(fileobj=buffered) as packed, _decoded(packed) as text:
                yield text
        elif name.endswith(".gz"):
            raise UnreadableOrders(f"{name}: not a gzip file, though its name ends with .gz")
        else:
            with _decoded(buffered) as text:
                yield text
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise UnreadableOrders(f"{name}: the gzip file is damaged or cut off ({error})") from error


def _decoded(file: io.BufferedReader[io.RawIOBase] | gzip.GzipFile) -> io.TextIOWrapper:
    # utf-8-sig takes the byte order mark that spreadsheets write; newline="" leaves line ends inside quotes alone.
    # A byte that is not UTF-8 is kept as a surrogate, so that the line can be named where it stands.
    return io.TextIOWrapper(file, encoding="utf-8-sig", errors="surrogateescape", newline="")


def _rows(text: TextIO, name: str) -> Iterator[Row | BadRow]:
    csv.field_size_limit(LONGEST_FIELD)
    reader = csv.reader(text, strict=True)
    try:
        header = [column.strip() for column in next(reader, [])]
        _check_encoding(header, name, 1)
        places = columns_at(header, name)
        before = reader.line_num
        for fields in reader:
            line, before = before + 1, reader.line_num
            if fields:
                _check_encoding(fields, name, line)
                yield read_row(fields, places, len(header), line)
    except csv.Error as error:
        raise UnreadableOrders(f"{name}: not CSV at line {reader.line_num}: {error}") from error


def _check_encoding(fields: Sequence[str], name: str, line: int) -> None:
    content = "".join(fields)
    wrong = None if content.isascii() else _NOT_UTF8.search(content)
    if wrong:
        raise UnreadableOrders(
            f"{name}: not UTF-8 at line {line} (byte 0x{ord(wrong[0]) & 0xFF:02x}); save it as CSV in UTF-8"
        )


def columns_at(header: Sequence[str], name: str) -> tuple[int, ...]:
    """Where each of COLUMNS stands in the first line of the file `name`; raises UnreadableOrders."""
    if not header:
        raise UnreadableOrders(f"{name}: the first line is empty; an orders file has its column names there")
    missing = [column for column in COLUMNS if column not in header]
    if missing:
        found = ", ".join(_shown(column) for column in islice(header, 12))
        raise UnreadableOrders(f"{name}: missing column {', '.join(missing)}; the first line has {found[:200]}")
    twice = [column for column in COLUMNS if header.count(column) > 1]
    if twice:
        raise UnreadableOrders(f"{name}: column {', '.join(twice)} stands twice in the first line")
    return tuple(header.index(column) for column in COLUMNS)


def read_row(fields: Sequence[str], places: tuple[int, ...], width: int, line: int) -> Row | BadRow:
    """Checks one row: `places` are those of `columns_at`, `width` the first line's fields, `line` where it stands."""
    invoice = fields[places[0]].strip() if places[0] < len(fields) else ""
    if len(fields) != width:
        return BadRow(line, None, f"{len(fields)} fields where the first line has {width}", invoice)
    _, product, description, quantity, invoiced_at, price, customer, country = (fields[place] for place in places)
    try:
        return Row(
            invoice=_name(invoice, "InvoiceNo", before=_BEFORE_NUMBER),
            product=_name(product, "StockCode"),
            description=_description(description),
            quantity=_quantity(quantity),
            invoiced_at=_time(invoiced_at),
            unit_price=_price(price),
            customer=_customer(customer),
            country=_name(country, "Country"),
        )
    except _Bad as bad:
        return BadRow(line, bad.column, bad.reason, invoice)


def _name(text: str, column: str, *, before: int = 0) -> str:
    """A name that an event can have; `before` is how many characters of its id come first."""
    # Kept as it stands: 'm' and 'M' are two products, and so are a code with and without a blank at its end.
    if not text.strip():
        raise _Bad(column, "empty")
    if len(text) > ID_LENGTH - before:
        raise _Bad(column, f"longer than {ID_LENGTH - before} characters")
    if len(text.encode()) > LONGEST_NAME_BYTES - before:
        raise _Bad(column, f"longer than {LONGEST_NAME_BYTES - before} bytes in UTF-8")
    return text


def _description(text: str) -> str | None:
    if len(text) > DESCRIPTION_LENGTH:
        raise _Bad("Description", f"longer than {DESCRIPTION_LENGTH:,} characters")
    return text or None


def _quantity(text: str) -> int:
    if not _INTEGER.fullmatch(text.strip()):
        raise _Bad("Quantity", f"{_quoted(text)} is not a whole number")
    # The length first: Python refuses to read numbers of thousands of digits with an error of its own.
    if len(text) > 2 * len(str(_QUANTITY_BOUND)) or abs(int(text)) > _QUANTITY_BOUND:
        raise _Bad("Quantity", f"{_quoted(text)} is beyond {_QUANTITY_BOUND}")
    return int(text)


@lru_cache(maxsize=1024)
def _time(text: str) -> datetime:
    if not _TIME.fullmatch(text.strip()):
        raise _Bad("InvoiceDate", f"{_quoted(text)} is not of the form YYYY-MM-DD HH:MM:SS")
    try:
        moment = datetime.fromisoformat(text.strip()).replace(tzinfo=UTC)
    except ValueError as error:
        raise _Bad("InvoiceDate", f"{_quoted(text)} is not a time ({error})") from error
    try:
        check_moment("it", moment)
    except ValueError as error:
        raise _Bad("InvoiceDate", f"{_quoted(text)}: {error}") from error
    return moment


@lru_cache(maxsize=4096)
def _price(text: str) -> Decimal:
    if not _DECIMAL.fullmatch(text.strip()):
        raise _Bad("UnitPrice", f"{_quoted(text)} is not a price in pounds, such as 2.55")
    price = Decimal(text.strip())
    try:
        OrderLine(product="?", quantity=1, unit_price=price)
    except ValueError as error:
        raise _Bad("UnitPrice", f"{_quoted(text)}: {error}") from error
    return price


def _customer(text: str) -> str | None:
    if not text.strip():
        return None
    number = _CUSTOMER.fullmatch(text.strip())
    if number is None:
        raise _Bad("CustomerID", f"{_quoted(text)} is not a customer's number, such as 17850 or 17850.0")
    return number[1]


def _quoted(text: str) -> str:
    return repr(text if len(text) <= 40 else text[:40] + "…")


def _shown(text: str) -> str:
    """A file's own text within a line: whatever would end the line, or change a terminal, as its escape."""
    return _quoted(text)[1:-1]


def invoice_of(rows: Sequence[Row]) -> Invoice:
    """The invoice of its rows, in the file's order, at least one; the first says its time, customer and country."""
    first = rows[0]
    kind = OrderCancelled if first.invoice.startswith(CANCELLED) else OrderPlaced
    return kind(
        invoice=first.invoice,
        invoiced_at=first.invoiced_at,
        country=first.country,
        customer=first.customer,
        lines=tuple(
            OrderLine(
                product=row.product,
                quantity=row.quantity,
                unit_price=row.unit_price,
                description=row.description,
                invoiced_at=None if row.invoiced_at == first.invoiced_at else row.invoiced_at,
                country=None if row.country == first.country else row.country,
            )
            for row in rows
        ),
    )


def _write(file: io.BufferedWriter | gzip.GzipFile, invoices: Iterable[Invoice]) -> int:
    text = io.TextIOWrapper(file, encoding="utf-8", newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    count = 0
    for invoice in invoices:
        customer = f"{invoice.customer}.0" if invoice.customer else ""
        for line in invoice.lines:
            count += 1
            invoiced_at = (line.invoiced_at or invoice.invoiced_at).astimezone(UTC)
            writer.writerow(
                (
                    invoice.invoice,
                    line.product,
                    line.description or "",
                    line.quantity,
                    f"{invoiced_at:%Y-%m-%d %H:%M:%S}",
                    f"{line.unit_price:f}",
                    customer,
                    line.country or invoice.country,
                )
            )
    text.flush()
    text.detach()
    return count


# What `generate` makes looks like the real set: most orders from home, a few big ones, now and then a cancellation.
_COUNTRIES: Final = (
    ("United Kingdom", 0.88),
    ("Germany", 0.03),
    ("France", 0.03),
    ("EIRE", 0.02),
    ("Netherlands", 0.01),
    ("Spain", 0.01),
    ("Japan", 0.01),
    ("Unspecified", 0.01),
)
_THINGS: Final = (
    "LANTERN",
    "MUG",
    "TEA SET",
    "CANDLE",
    "CUSHION",
    "PARTY BUNTING",
    "ALARM CLOCK",
    "LUNCH BAG",
    'DISH, 5"',
)
_LOOKS: Final = ("WHITE", "RED RETROSPOT", "VINTAGE", "PINK POLKADOT", "METAL", "WOODEN", "HEART", "REGENCY", "JUMBO")
_PRODUCTS: Final = 2800
_FIRST_TIME: Final = datetime(2011, 1, 4, 8, 0, tzinfo=UTC)
# Each seed has a million numbers of its own, beyond the real set's: no two files share an invoice by chance.
_NUMBERS_A_SEED: Final = 1_000_000
_ORDERS_A_DAY: Final = 120


def generate(seed: int, count: int) -> Iterator[Invoice]:
    """Makes `count` invoices that look like the real set's; the same seed (0 or more) makes the same on every Python.

    Several countries, guests, about one cancellation in twelve, a product several times in one invoice, an invoice of
    hundreds of lines now and then, prices of 0 and of three decimals.
    """
    # Only `random()` is promised to give the same numbers in every version of Python.
    draw = Random(seed).random  # noqa: S311  # made-up orders, no secrets
    number = (1 + seed) * _NUMBERS_A_SEED
    placed: list[Invoice] = []
    for index in range(count):
        day, nth = divmod(index, _ORDERS_A_DAY)
        invoiced_at = _FIRST_TIME + timedelta(days=day, minutes=nth * 5, seconds=int(draw() * 60))
        if placed and draw() < 1 / 12:
            yield _cancellation_of(placed[int(draw() * len(placed))], f"C{number + index}", invoiced_at, draw())
            continue
        invoice = OrderPlaced(
            invoice=str(number + index),
            invoiced_at=invoiced_at,
            country=_drawn(draw(), _COUNTRIES),
            customer=None if draw() < 0.1 else str(12000 + int(draw() * 6000)),
            lines=tuple(_line(draw(), draw(), draw()) for _ in range(_length(draw(), draw()))),
        )
        # A window, so that a file of a million invoices needs no more memory than one of a thousand.
        placed = [*placed[-199:], invoice]
        yield invoice


def _drawn(number: float, choices: Sequence[tuple[str, float]]) -> str:
    for choice, share in choices:
        number -= share
        if number < 0:
            return choice
    return choices[-1][0]


def _length(kind: float, size: float) -> int:
    if kind < 0.02:
        return 150 + int(size * 500)
    return 1 + int(size * size * 40)


def _line(which: float, how_many: float, special: float) -> OrderLine:
    # Squared: a few products sell most, and one of them stands twice in an invoice now and then.
    product = int(which * which * _PRODUCTS)
    pence = 29 + product * 7919 % 700
    price = Decimal(pence).scaleb(-2)
    if special < 0.005:
        price = Decimal(0)
    elif special < 0.01:
        price = Decimal(pence).scaleb(-3)
    description = f"{_LOOKS[product % len(_LOOKS)]} {_THINGS[product // 7 % len(_THINGS)]}"
    return OrderLine(
        product=f"{20000 + product}{'ABm '[product % 4].strip()}",
        quantity=1 + int(how_many**6 * 60),
        unit_price=price,
        description=None if special > 0.997 else description,
    )


def _cancellation_of(invoice: Invoice, number: str, invoiced_at: datetime, share: float) -> OrderCancelled:
    lines = invoice.lines[: 1 + int(share * share * len(invoice.lines))]
    return OrderCancelled(
        invoice=number,
        invoiced_at=invoiced_at,
        country=invoice.country,
        customer=invoice.customer,
        lines=tuple(
            OrderLine(
                product=line.product,
                quantity=-line.quantity,
                unit_price=line.unit_price,
                description=line.description,
            )
            for line in lines
        ),
    )
