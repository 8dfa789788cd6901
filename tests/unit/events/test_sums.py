"""Sums stay exact while they are posted, folded and read at once, on the real embedded AWS."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import boto3
import pytest

from offload.runtime.events import sums
from tests.conftest import new_table
from tests.patience import PATIENCE

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient


def post(client: DynamoDBClient, table: str, cause: str, sections: sums.Sections) -> sums.Posting:
    """Writes one posting, as a batch's transaction does."""
    posting = sums.Posting(table, [cause], sections)
    actions: list[Any] = [posting.action()]
    client.transact_write_items(TransactItems=actions)
    return posting


def items(client: DynamoDBClient, table: str, kind: str) -> list[str]:
    """The sort keys of one kind of item."""
    found = [item for page in client.get_paginator("scan").paginate(TableName=table) for item in page["Items"]]
    return [item["sk"]["S"] for item in found if item["sk"]["S"].startswith(kind)]


def in_shard(shard: int) -> Iterable[str]:
    """Causes whose postings fall into this shard, without end."""
    number = 0
    while True:
        number += 1
        if sums.Posting("t", [f"event-{number}"], {}).shard == shard:
            yield f"event-{number}"


def total(sections: sums.Sections) -> list[sums.Amount]:
    """Everything in one row."""
    rows: sums.Rows = {}
    for section in sections.values():
        for amounts in section.values():
            sums.add(rows, "", amounts)
    return rows.get("", [])


def test_a_table_that_nobody_wrote_to_is_empty(dynamodb: DynamoDBClient) -> None:
    assert sums.read(dynamodb, new_table(dynamodb, "sums-empty")) == {}


def test_money_keeps_every_decimal(dynamodb: DynamoDBClient) -> None:
    table = new_table(dynamodb, "sums-decimals")
    for number in range(10):
        post(dynamodb, table, f"event-{number}", {"day": {"row": [Decimal("0.1"), Decimal("0.000001"), 1]}})
    revenue, small, count = sums.read(dynamodb, table)["day"]["row"]
    assert (Decimal(revenue), Decimal(small), count) == (Decimal("1.0"), Decimal("0.000010"), 10)


def test_the_same_events_make_the_same_posting_in_whatever_order() -> None:
    one, other = sums.Posting("t", ["a", "b"], {}), sums.Posting("t", ["b", "a"], {})
    assert one.action()["Put"]["Item"] == other.action()["Put"]["Item"]
    assert sums.Posting("t", ["a", "c"], {}).action()["Put"]["Item"]["sk"] != one.action()["Put"]["Item"]["sk"]


def test_postings_spread_over_all_shards_and_about_one_in_thirty_two_folds() -> None:
    postings = [sums.Posting("t", [f"visit.ended:{number}"], {}) for number in range(32_000)]
    shards = [0] * sums.SHARDS
    for posting in postings:
        shards[posting.shard] += 1
    assert min(shards) > 800
    assert max(shards) < 1200
    assert 800 < sum(posting.folds for posting in postings) < 1200


def test_a_fold_moves_postings_into_totals_and_changes_no_sum(dynamodb: DynamoDBClient) -> None:
    table = new_table(dynamodb, "sums-fold")
    causes = in_shard(3)
    for number, cause in zip(range(20), causes, strict=False):
        post(dynamodb, table, cause, {f"day-{number % 3}": {"row": [number, Decimal("0.01")]}})
    before = sums.read(dynamodb, table)
    assert sums.fold(dynamodb, table, 3) == 20
    assert sums.read(dynamodb, table) == before
    assert total(before) == [190, Decimal("0.20")]
    assert items(dynamodb, table, "posting#") == []
    assert sorted(items(dynamodb, table, "total#")) == ["total#day-0", "total#day-1", "total#day-2"]
    assert sums.fold(dynamodb, table, 3) == 0


def test_a_fold_of_more_postings_or_days_than_a_transaction_holds_is_done_in_several(
    dynamodb: DynamoDBClient,
) -> None:
    table = new_table(dynamodb, "sums-large-fold")
    causes = in_shard(5)
    for number, cause in zip(range(150), causes, strict=False):
        post(dynamodb, table, cause, {f"day-{number % 40:02}": {"row": [1]}})
    folded = []
    while count := sums.fold(dynamodb, table, 5):
        folded.append(count)
        assert total(sums.read(dynamodb, table)) == [150]
    assert sum(folded) == 150
    assert len(folded) > 2


def test_of_two_folds_at_once_one_does_the_work_and_nothing_counts_twice(dynamodb: DynamoDBClient) -> None:
    table = new_table(dynamodb, "sums-two-folds")
    for _, cause in zip(range(30), in_shard(7), strict=False):
        post(dynamodb, table, cause, {"day": {"row": [1]}})
    barrier = threading.Barrier(4)

    def fold() -> int:
        client = boto3.client("dynamodb")
        barrier.wait(timeout=PATIENCE)
        return sums.fold(client, table, 7)

    with ThreadPoolExecutor(4) as pool:
        folded = sum(future.result(timeout=PATIENCE) for future in [pool.submit(fold) for _ in range(4)])
    assert folded == 30
    assert total(sums.read(dynamodb, table)) == [30]


def test_readers_never_see_a_sum_go_down_or_past_what_was_posted_while_writers_post_and_fold(
    dynamodb: DynamoDBClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sums, "SHARDS", 2)
    monkeypatch.setattr(sums, "FOLD_EVERY", 4)
    # Readers meet a fold in nearly every read of two shards; ten tries are for thirty-two.
    monkeypatch.setattr(sums, "_READ_ATTEMPTS", 1000)
    table = new_table(dynamodb, "sums-at-once")
    writers, each = 3, 60
    begun, posted = [0] * writers, [0] * writers
    written = threading.Event()

    def write(writer: int) -> int:
        client, folded = boto3.client("dynamodb"), 0
        for number in range(each):
            begun[writer] += 1
            posting = post(client, table, f"{writer}-{number}", {f"day-{number % 3}": {"row": [1, Decimal("0.01")]}})
            posted[writer] += 1
            if posting.folds:
                folded += sums.fold(client, table, posting.shard)
        return folded

    def watch() -> list[int]:
        client, seen = boto3.client("dynamodb"), [0]
        while not written.is_set():
            at_least = sum(posted)
            count = total(sums.read(client, table))
            assert at_least <= (int(count[0]) if count else 0) <= sum(begun)
            seen.append(int(count[0]) if count else 0)
        return seen

    with ThreadPoolExecutor(writers + 1) as pool:
        watcher = pool.submit(watch)
        try:
            folded = sum(future.result(timeout=PATIENCE) for future in [pool.submit(write, n) for n in range(writers)])
        finally:
            written.set()
        seen = watcher.result(timeout=PATIENCE)
    assert seen == sorted(seen)
    assert len(seen) > 3
    assert folded > 50
    assert total(sums.read(dynamodb, table)) == [writers * each, Decimal("1.80")]


def test_a_shard_that_is_folded_during_every_read_is_said_to_be_so(dynamodb: DynamoDBClient) -> None:
    table = new_table(dynamodb, "sums-torn")
    causes = iter(in_shard(0))
    post(dynamodb, table, next(causes), {"day": {"row": [1]}})
    client = boto3.client("dynamodb")

    def fold_now(**_: Any) -> None:
        post(dynamodb, table, next(causes), {"day": {"row": [1]}})
        sums.fold(dynamodb, table, 0)

    client.meta.events.register("after-call.dynamodb.Query", fold_now)
    with pytest.raises(sums.TornRead, match=r"sums-torn: shard 0 was folded during each of 10 reads; try again"):
        sums.read(client, table)
