"""Customer segments: by shards the same as computed at once, and the same as the rule says."""

from __future__ import annotations

import csv
import gzip
import io
import tracemalloc
from collections import Counter
from collections.abc import Iterable, Iterator
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from functools import lru_cache
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from offload.project import PROJECT
from shop.contracts.jobs.customer_segments import CUSTOMER_SEGMENTS, Customers
from shop.customers import (
    Customer,
    Segment,
    customers_of,
    read_customers,
    score,
    shard_of,
    write_customers,
    write_segments,
)
from shop.orders import SHIPPED_DAY, BadRow, BadRows, Row, generate, read_rows, write_orders
from tests.shop.unit.shop_jobs import ShopJobs, shop_jobs

__all__ = ["shop_jobs"]


def row(
    customer: str | None = "17850", invoice: str = "536365", price: str = "2.55", quantity: int = 1, day: int = 0
) -> Row:
    at = datetime(2010, 12, 1, 8, 26, tzinfo=UTC) + timedelta(days=day)
    return Row(invoice, "85123A", None, quantity, at, Decimal(price), customer, "France")


def rows_of(path: Path) -> Iterator[Row | BadRow]:
    with path.open("rb") as file:
        yield from read_rows(file, path.name)


def computed_directly(path: Path) -> list[dict[str, str]]:
    """The rule of docs/customer-segments.md once more, in the plainest way: from the CSV, all at once, in squares."""
    opened = gzip.open if path.suffix == ".gz" else open
    with opened(path, "rt", encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    last_day = max(date.fromisoformat(each["InvoiceDate"][:10]) for each in rows)
    figures = []
    rows_by_customer: dict[str, list[dict[str, str]]] = {}
    for each in rows:
        rows_by_customer.setdefault(each["CustomerID"], []).append(each)
    rows_by_customer.pop("", None)
    for number, own in sorted(rows_by_customer.items()):
        placed = [each for each in own if not each["InvoiceNo"].startswith("C")]
        days = [date.fromisoformat(each["InvoiceDate"][:10]) for each in placed]
        recency = (last_day - max(days)).days if days else None
        monetary = sum((Decimal(each["UnitPrice"]) * int(each["Quantity"]) for each in own), Decimal(0))
        figures.append((number.removesuffix(".0"), recency, len({each["InvoiceNo"] for each in placed}), monetary))
    found = []
    for number, recency, frequency, monetary in figures:
        endless = 10**9
        longer_ago = sum(1 for other in figures if (endless if other[1] is None else other[1]) > (recency or 0))
        r = 1 if recency is None else 1 + 5 * longer_ago // len(figures)
        f = 1 + 5 * sum(1 for other in figures if other[2] < frequency) // len(figures)
        m = 1 + 5 * sum(1 for other in figures if other[3] < monetary) // len(figures)
        found.append(
            {
                "customer": number,
                "recency_days": "" if recency is None else str(recency),
                "frequency": str(frequency),
                "monetary_gbp": str(monetary),
                "recency_score": str(r),
                "frequency_score": str(f),
                "monetary_score": str(m),
                "segment": named(r, (f + m + 1) // 2) if frequency else "cancelled only",
            }
        )
    return found


@lru_cache
def named(recency: int, value: int) -> str:
    """The table of docs/customer-segments.md, read from the page itself."""
    page = (PROJECT / "docs" / "customer-segments.md").read_text(encoding="utf-8")
    (line,) = [line for line in page.splitlines() if line.startswith((f"| {recency} |", f"| {recency} ("))]
    return line.split("|")[1 + value].strip()


def parsed(table: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(table, newline="")))


def same(found: Iterable[dict[str, str]], expected: Iterable[dict[str, str]]) -> bool:
    def exact(entry: dict[str, str]) -> dict[str, object]:
        return {**entry, "monetary_gbp": Decimal(entry["monetary_gbp"])}

    return [exact(entry) for entry in found] == [exact(entry) for entry in expected]


@pytest.fixture
def made(tmp_path: Path) -> Path:
    """600 made orders of five days."""
    path = tmp_path / "orders.csv.gz"
    write_orders(path, generate(11, 600))
    return path


def test_segments_are_what_the_rule_says(made: Path) -> None:
    scored = score(customers_of(rows_of(made), made.name))
    assert len(scored) > 400
    assert same(parsed(write_segments(scored).decode()), computed_directly(made))


def test_the_segments_of_december_are_what_the_rule_says(month: Path) -> None:
    scored = score(customers_of(rows_of(month), month.name))
    assert len(scored) == 948
    assert sum(entry.customer.monetary for entry in scored) == Decimal("554604.02")
    assert same(parsed(write_segments(scored).decode()), computed_directly(month))


def test_a_guests_rows_are_left_out_and_cancellations_subtract() -> None:
    rows = [
        row(price="10.00", quantity=3),
        row(price="1.00"),
        row(invoice="536400", price="5.00", day=2),
        row(invoice="C536401", price="10.00", quantity=-1, day=3),
        row(None, invoice="536500", price="99.00", day=9),
    ]
    assert customers_of(rows, "orders") == [Customer("17850", 7, 2, Decimal("26.00"))]


def test_a_customer_who_only_cancelled_has_no_recency_and_a_segment_of_their_own() -> None:
    found = score(customers_of([row("1", "C1", quantity=-1), row("2", "2"), row("3", "3", day=1)], "orders"))
    assert found[0].customer == Customer("1", None, 0, Decimal("-2.55"))
    assert found[0].segment is Segment.CANCELLED_ONLY
    assert (found[0].recency, found[0].frequency, found[0].monetary) == (1, 1, 1)


def test_equal_customers_score_alike_and_the_best_fifth_has_five() -> None:
    customers = [Customer(str(number), number // 2, 1, Decimal(number // 2)) for number in range(10)]
    found = score(customers)
    assert [entry.monetary for entry in found] == [1, 1, 2, 2, 3, 3, 4, 4, 5, 5]
    assert [entry.recency for entry in found] == [5, 5, 4, 4, 3, 3, 2, 2, 1, 1]
    assert {entry.frequency for entry in found} == {1}


def test_a_row_that_is_no_order_line_is_refused_by_its_number() -> None:
    bad = BadRow(3, "Quantity", "'x' is not a whole number", "536365")
    with pytest.raises(BadRows, match=r"orders\.csv: row 3, Quantity: 'x' is not a whole number"):
        customers_of([row(), bad], "orders.csv")


NUMBERS = st.sampled_from([None, *(str(number) for number in range(12340, 12352))])
ROWS = st.lists(
    st.builds(
        row,
        customer=NUMBERS,
        invoice=st.sampled_from(["1", "2", "3", "C4", "C5"]),
        price=st.sampled_from(["0", "0.001", "2.55", "-11062.06", "649.50"]),
        quantity=st.integers(-100, 100),
        day=st.integers(0, 400),
    ),
    max_size=60,
)


@given(rows=ROWS, shards=st.integers(1, 9))
def test_shards_together_are_the_whole_whatever_their_number(rows: list[Row], shards: int) -> None:
    parts = [customers_of(iter(rows), "orders", shard=shard, shards=shards) for shard in range(shards)]
    for shard, part in enumerate(parts):
        assert {shard_of(customer.number, shards) for customer in part} <= {shard}
    gathered = [customer for part in parts for customer in read_customers(write_customers(part))]
    assert score(gathered) == score(customers_of(rows, "orders"))


@given(rows=ROWS)
def test_nothing_depends_on_the_order_of_rows_and_no_penny_is_lost(rows: list[Row]) -> None:
    found = score(customers_of(rows, "orders"))
    assert found == score(customers_of(reversed(rows), "orders"))
    bought = sum((each.unit_price * each.quantity for each in rows if each.customer), Decimal(0))
    assert sum((entry.customer.monetary for entry in found), Decimal(0)) == bought
    assert all(1 <= number <= 5 for entry in found for number in (entry.recency, entry.frequency, entry.monetary))


@pytest.mark.slow
def test_memory_does_not_grow_with_the_files_rows() -> None:
    def peak(count: int) -> int:
        lines = (
            f"53636{n % 7},85123A,LANTERN,6,2010-12-01 08:26:00,2.55,{17850 + n % 50}.0,France\n" for n in range(count)
        )
        text = "InvoiceNo,StockCode,Description,Quantity,InvoiceDate,UnitPrice,CustomerID,Country\n" + "".join(lines)
        packed = io.BytesIO(gzip.compress(text.encode(), 1))
        del text
        tracemalloc.start()
        try:
            assert len(customers_of(read_rows(packed, "orders.csv.gz"), "orders.csv.gz")) == 50
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    peak(100)
    assert peak(40_000) < peak(4_000) + 100_000


def test_the_job_shares_the_work_out_gathers_it_and_writes_one_table(shop_jobs: ShopJobs, made: Path) -> None:
    key = shop_jobs.upload("orders", made.read_bytes())
    result = shop_jobs.result(CUSTOMER_SEGMENTS, Customers(file=key, shards=5))
    table, content_type = shop_jobs.file(result.table)
    assert content_type == "text/csv; charset=utf-8"
    expected = computed_directly(made)
    assert same(parsed(table), expected)
    assert result.customers == len(expected)
    counts = Counter(entry["segment"] for entry in expected)
    assert result.segments == {segment.value: counts[segment.value] for segment in Segment}


def test_the_job_takes_a_plain_file_too(shop_jobs: ShopJobs) -> None:
    key = shop_jobs.upload("day.csv", gzip.decompress(SHIPPED_DAY.read_bytes()))
    result = shop_jobs.result(CUSTOMER_SEGMENTS, Customers(file=key, shards=2))
    assert same(parsed(shop_jobs.file(result.table)[0]), computed_directly(SHIPPED_DAY))


@pytest.mark.parametrize(
    ("key", "says"),
    [
        ("uploads/missing.csv", "'uploads/missing.csv' is not in the jobs' bucket: upload it first"),
        (
            "results/other/segments.csv",
            "'results/other/segments.csv' is no uploaded file: its key begins with uploads/",
        ),
    ],
)
def test_a_file_that_was_not_uploaded_fails_the_job_at_once(shop_jobs: ShopJobs, key: str, says: str) -> None:
    job = shop_jobs.run(CUSTOMER_SEGMENTS, Customers(file=key))
    assert job.state.value == "failed"
    assert says in (job.error or "")
    assert job.attempt == 1


def test_a_file_with_a_bad_row_fails_the_job_with_the_row(shop_jobs: ShopJobs) -> None:
    key = shop_jobs.upload("bad.csv", gzip.decompress(SHIPPED_DAY.read_bytes()).replace(b",6,2010", b",six,2010", 1))
    job = shop_jobs.run(CUSTOMER_SEGMENTS, Customers(file=key, shards=2))
    assert job.state.value == "failed"
    assert "uploads/bad.csv: row 2, Quantity: 'six' is not a whole number" in (job.error or "")
