"""Sums that any number of writers add to without meeting each other, and that are read exactly.

A counter that every writer updates is hot, and a counter for each key costs a write unit for each key. Here a writer
inserts one *posting* a batch: a compressed table of what the batch adds. One in `FOLD_EVERY` postings makes its writer
fold the postings of its shard into the shard's *totals*, in one transaction, so that reading stays cheap.

A table of sums holds, in each of `SHARDS` partitions `sums#N`:
`head` (its version goes up with each fold), `posting#…` (not yet folded), `total#SECTION` (folded).
A section bounds the size of a total: a day is one, for instance.
"""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Iterable, Mapping
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import msgspec

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

# 1,000 postings a second (10,000 events at batch 10) of 5 units, twice for the transaction and once more for the
# fold's delete, stay below half of a partition's 1,000 write units a second (DynamoDB bp-partition-key-design,
# read 2026-11-23).
SHARDS: Final = 32
FOLD_EVERY: Final = 32
# A fold's transaction: postings deleted, totals put and the head, below DynamoDB's 100 actions.
_FOLDED_AT_ONCE: Final = 72
_FOLDED_SECTIONS: Final = 24
_READ_ATTEMPTS: Final = 10
_TOTAL: Final = "total#"
# Sorts after every key that begins alike.
_LAST: Final = "\U0010ffff"

Amount: TypeAlias = int | Decimal
Rows: TypeAlias = dict[str, list[Amount]]
Sections: TypeAlias = dict[str, Rows]

_rows = msgspec.json.Decoder(Rows)
_sections = msgspec.json.Decoder(Sections)
_encode = msgspec.json.Encoder().encode


class TornRead(Exception):
    """Folds kept changing a shard while it was read; try again."""


def add(sums: Rows, key: str, amounts: Iterable[Amount]) -> None:
    """Adds `amounts`, column by column, to the row of `key`."""
    row = sums.get(key)
    if row is None:
        sums[key] = list(amounts)
        return
    for column, amount in enumerate(amounts):
        row[column] += amount


def merge(into: Sections, more: Sections) -> None:
    """Adds every row of `more` to `into`."""
    for section, rows in more.items():
        target = into.setdefault(section, {})
        for key, amounts in rows.items():
            add(target, key, amounts)


class Posting:
    """What one batch adds: an insert, for the batch's transaction.

    `table` is the table's name, `cause` the keys of the batch's events (`Event.key`), which make the posting's key.
    """

    def __init__(self, table: str, cause: Iterable[str], sums: Sections) -> None:
        digest = hashlib.sha256("\n".join(sorted(cause)).encode()).digest()
        number = int.from_bytes(digest[:8])
        self.table = table
        self.shard = number % SHARDS
        self.folds = number // SHARDS % FOLD_EVERY == 0
        self._key = f"posting#{digest.hex()[:32]}"
        self._sums = sums

    def action(self) -> dict[str, Any]:
        """The TransactWriteItems action; the marks in the same transaction say that it is written once.

        It never takes the place of another posting: what another has added would be lost without a trace.
        """
        item = _item(self.shard, self._key, _encode(self._sums))
        return {"Put": {"TableName": self.table, "Item": item, "ConditionExpression": "attribute_not_exists(pk)"}}


def fold(client: DynamoDBClient, table: str, shard: int) -> int:
    """Folds postings of a shard into its totals and returns how many, 0 when another fold was quicker.

    Costs a read of the postings, one of the totals they touch, and one transaction.
    """
    head = _head(client, table, shard)
    listed = client.query(
        TableName=table,
        KeyConditionExpression="pk = :pk AND begins_with(sk, :posting)",
        ExpressionAttributeValues={":pk": {"S": _pk(shard)}, ":posting": {"S": "posting#"}},
        ConsistentRead=True,
        Limit=_FOLDED_AT_ONCE,
    )
    sums: Sections = {}
    keys: list[str] = []
    for item in listed["Items"]:
        more = _sections.decode(zlib.decompress(item["sums"]["B"]))
        if keys and len(sums.keys() | more.keys()) > _FOLDED_SECTIONS:
            break
        merge(sums, more)
        keys.append(item["sk"]["S"])
    if not keys:
        return 0
    totals = client.batch_get_item(
        RequestItems={
            table: {
                "Keys": [{"pk": {"S": _pk(shard)}, "sk": {"S": f"total#{section}"}} for section in sorted(sums)],
                "ConsistentRead": True,
            }
        }
    )
    if totals["UnprocessedKeys"]:  # throttled: folding can wait, the sums are exact without it
        return 0
    for item in totals["Responses"].get(table, []):
        section = item["sk"]["S"].removeprefix("total#")
        merge(sums, {section: _rows.decode(zlib.decompress(item["sums"]["B"]))})
    actions: list[Any] = [
        {
            "Put": {
                "TableName": table,
                "Item": {"pk": {"S": _pk(shard)}, "sk": {"S": "head"}, "version": {"N": str(head + 1)}},
                "ConditionExpression": "version = :version" if head else "attribute_not_exists(pk)",
                **({"ExpressionAttributeValues": {":version": {"N": str(head)}}} if head else {}),
            }
        },
        *({"Put": {"TableName": table, "Item": _item(shard, f"total#{s}", _encode(rows))}} for s, rows in sums.items()),
        *({"Delete": {"TableName": table, "Key": {"pk": {"S": _pk(shard)}, "sk": {"S": key}}}} for key in keys),
    ]
    try:
        client.transact_write_items(TransactItems=actions)
    except client.exceptions.TransactionCanceledException:
        # Another fold of this shard went first and did this one's work; the next posting's turn comes soon.
        return 0
    return len(keys)


def read(client: DynamoDBClient, table: str, *, first: str | None = None, last: str | None = None) -> Sections:
    """Everything added so far, exactly: each shard as it was between two folds. Raises TornRead.

    With `first` or `last`, the sections from the one to the other alone, both included, in the order of their names;
    totals of other sections are not read.
    """
    sums: Sections = {}
    if first is not None and last is not None and last < first:
        return sums
    for shard in range(SHARDS):
        merge(sums, _read_shard(client, table, shard, first, last))
    return sums


def _read_shard(client: DynamoDBClient, table: str, shard: int, first: str | None, last: str | None) -> Sections:
    if first is None and last is None:
        ranges = [("head", _TOTAL + _LAST)]
    else:
        ranges = [("head", "posting#" + _LAST), (_TOTAL + (first or ""), _TOTAL + (_LAST if last is None else last))]
    for _ in range(_READ_ATTEMPTS):
        before: int | None = None
        sums: Sections = {}
        found = False
        for low, high in ranges:
            pages = client.get_paginator("query").paginate(
                TableName=table,
                KeyConditionExpression="pk = :pk AND sk BETWEEN :low AND :high",
                ExpressionAttributeValues={":pk": {"S": _pk(shard)}, ":low": {"S": low}, ":high": {"S": high}},
                ConsistentRead=True,
            )
            for page in pages:
                for item in page["Items"]:
                    found = True
                    key = item["sk"]["S"]
                    if key == "head":  # sorts before the postings and totals
                        before = int(item["version"]["N"])
                        continue
                    content = zlib.decompress(item["sums"]["B"])
                    if key.startswith(_TOTAL):
                        merge(sums, {key.removeprefix(_TOTAL): _rows.decode(content)})
                        continue
                    merge(
                        sums,
                        {
                            section: rows
                            for section, rows in _sections.decode(content).items()
                            if (first is None or first <= section) and (last is None or section <= last)
                        },
                    )
        # A fold moves sums from postings to totals; the version tells whether one did while the pages were read.
        if not found or _head(client, table, shard) == (before or 0):
            return sums
    raise TornRead(f"{table}: shard {shard} was folded during each of {_READ_ATTEMPTS} reads; try again")


def _head(client: DynamoDBClient, table: str, shard: int) -> int:
    found = client.get_item(TableName=table, Key={"pk": {"S": _pk(shard)}, "sk": {"S": "head"}}, ConsistentRead=True)
    return int(found["Item"]["version"]["N"]) if "Item" in found else 0


def _pk(shard: int) -> str:
    return f"sums#{shard}"


def _item(shard: int, key: str, content: bytes) -> Mapping[str, Any]:
    return {"pk": {"S": _pk(shard)}, "sk": {"S": key}, "sums": {"B": zlib.compress(content, 6)}}
