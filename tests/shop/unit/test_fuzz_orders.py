"""Orders files of any bytes: one is refused whole, in one line with its name, or each invoice in it can be published.

`OFFLOAD_PROVE=whole` tries 100,000.
"""

from __future__ import annotations

import csv
import gzip
import io
import random
from pathlib import Path
from typing import Final

import pytest

from offload.contracts.events.entry import Entry
from offload.contracts.events.event import by_type, event_key, read_envelope
from shop.contracts.orders import OrderCancelled, OrderPlaced
from shop.orders import COLUMNS, BadRows, UnreadableOrders, read_orders
from tests import extremes
from tests.fuzzing import Shard, shards

ROWS: Final = (
    ("536365", "85123A", "WHITE HANGING HEART", "6", "2010-12-01 08:26:00", "2.55", "17850.0", "United Kingdom"),
    ("536365", "71053", "LANTERN", "8", "2010-12-01 08:26:00", "3.39", "17850.0", "United Kingdom"),
    ("C536379", "D", "Discount", "-1", "2010-12-01 09:41:00", "27.50", "14527.0", "France"),
)
BYTES: Final = (
    b"\x00",
    b"\xff",
    b"\xfe\xff",
    b"\xef\xbb\xbf",
    b"\r",
    b"\n",
    b'"',
    b",",
    b"\x1f\x8b",
    "\ufeff".encode("utf-16"),
)
TYPES: Final = by_type((OrderPlaced, OrderCancelled))


def a_file(chance: random.Random) -> bytes:
    """A file of a few orders, with cells, the header, the text or the bytes changed."""
    table = [list(COLUMNS), *(list(row) for row in chance.choices(ROWS, k=chance.randint(0, 4)))]
    for _ in range(chance.randint(0, 3)):
        row = chance.choice(table)
        if row:
            row[chance.randrange(len(row))] = str(chance.choice((*extremes.TEXTS, *extremes.NUMBERS)))[:300_000]
    if chance.random() < 0.1:
        chance.choice(table)[1:1] = ["one more"]
    if chance.random() < 0.1:
        table.pop(chance.randrange(len(table)))
    text = io.StringIO()
    writer = csv.writer(text, quoting=chance.choice((csv.QUOTE_MINIMAL, csv.QUOTE_ALL)), escapechar="\\")
    writer.writerows(table)
    encoding = "utf-16" if chance.random() < 0.03 else "utf-8"
    content = text.getvalue().encode(encoding, errors="surrogatepass")
    if chance.random() < 0.2 and content:
        at = chance.randrange(len(content))
        content = content[:at] + chance.choice(BYTES) + content[at + chance.randrange(3) :]
    if chance.random() < 0.1:
        content = gzip.compress(content, mtime=0)
        content = content[: chance.randrange(len(content))] if chance.random() < 0.5 else content
    return content


@pytest.mark.slow
@shards(2_000)
def test_a_file_is_refused_in_one_line_or_each_of_its_invoices_can_be_published(tmp_path: Path, shard: Shard) -> None:
    chance, path, taken = shard.chance(), tmp_path / "orders.csv", 0
    for case in range(shard.cases):
        content = a_file(chance)
        path.write_bytes(content)
        with shard.case(case, content):
            try:
                found = read_orders(path)
            except (BadRows, UnreadableOrders) as refused:
                said = str(refused)
                assert said.startswith(str(path))
                assert "\n" not in said
                assert len(said) < 2_000
                continue
            taken += 1
            for invoice in found.invoices:
                event = invoice.event()
                encoded = event.to_json()
                again = read_envelope(encoded).event(TYPES)
                assert again.data == invoice
                assert len(event_key(event.source, event.id).encode()) < 2_000
                assert Entry.read(encoded).size() > 0
    assert taken > shard.cases / 10
