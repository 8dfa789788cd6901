"""Orders files: what is read from them, what is refused, and what is generated."""

from __future__ import annotations

import gzip
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path

import pytest

from offload.contracts.events.event import by_type, read_envelope
from shop.contracts.orders import Invoice, OrderCancelled, OrderPlaced
from shop.orders import (
    SHIPPED_DAY,
    BadRow,
    BadRows,
    UnreadableOrders,
    generate,
    read_orders,
    write_orders,
)

HEADER = "InvoiceNo,StockCode,Description,Quantity,InvoiceDate,UnitPrice,CustomerID,Country\n"
GOOD = "536365,85123A,WHITE HANGING HEART,6,2010-12-01 08:26:00,2.55,17850.0,United Kingdom\n"

FIGURES_OF_SEED_1 = (Decimal("342369.433"), 93245, 449, 51)


@pytest.fixture
def orders_file(tmp_path: Path) -> Path:
    return tmp_path / "orders.csv"


def figures(invoices: Sequence[Invoice]) -> tuple[Decimal, int, int, int]:
    """Revenue, units, placed orders and cancellations."""
    lines = [line for invoice in invoices for line in invoice.lines]
    kinds = Counter(type(invoice) for invoice in invoices)
    return (
        sum((line.amount for line in lines), Decimal(0)),
        sum(line.quantity for line in lines),
        kinds[OrderPlaced],
        kinds[OrderCancelled],
    )


def refusal(path: Path) -> str:
    with pytest.raises((BadRows, UnreadableOrders)) as refused:
        read_orders(path)
    text = str(refused.value)
    assert "\n" not in text
    assert str(path) in text
    return text


def test_the_shipped_day_has_the_figures_that_its_attribution_names() -> None:
    orders = read_orders(SHIPPED_DAY)
    assert figures(orders.invoices) == (Decimal("58635.56"), 26814, 137, 6)
    assert orders.rows == 3108
    assert len({invoice.country_of(line) for invoice in orders.invoices for line in invoice.lines}) == 7
    attribution = (SHIPPED_DAY.parent / "ATTRIBUTION.md").read_text()
    for told in ("Creative Commons Attribution 4.0", "10.24432/C5BW33", "58,635.56", "26,814", "137", "3,108"):
        assert told in attribution


def test_december_2010_sums_to_its_known_figures(month: Path) -> None:
    invoices = read_orders(month).invoices
    assert figures(invoices) == (Decimal("748957.02"), 342228, 1699, 326)
    by_country: dict[str, Decimal] = {}
    by_day: dict[date, Decimal] = {}
    for invoice in invoices:
        for line in invoice.lines:
            country, day = invoice.country_of(line), invoice.day_of(line)
            by_country[country] = by_country.get(country, Decimal(0)) + line.amount
            by_day[day] = by_day.get(day, Decimal(0)) + line.amount
    assert len(by_country) == 24
    assert by_country["United Kingdom"] == Decimal("676742.62")
    assert by_country["Germany"] == Decimal("14562.84")
    assert by_day[date(2010, 12, 10)] == Decimal("57404.91")
    products = {line.product for invoice in invoices for line in invoice.lines}
    assert len(products) == 2822
    assert {"m", "M", "BANK CHARGES", "gift_0001_40", "C2"} <= products


def test_every_invoice_of_the_shipped_day_survives_the_way_over_the_bus() -> None:
    contracts = by_type((OrderPlaced, OrderCancelled))
    for invoice in read_orders(SHIPPED_DAY).invoices:
        event = invoice.event()
        assert read_envelope(event.to_json()).event(contracts) == event
        assert event.id == f"{event.type}:{invoice.invoice}"


def test_rows_of_one_invoice_may_be_apart_and_stay_one_order(orders_file: Path) -> None:
    other = GOOD.replace("536365", "536366")
    orders_file.write_text(HEADER + GOOD + other + GOOD.replace("85123A", "71053"))
    first, second = read_orders(orders_file).invoices
    assert [line.product for line in first.lines] == ["85123A", "71053"]
    assert [line.product for line in second.lines] == ["85123A"]


def test_a_line_carries_its_own_time_and_country_only_where_they_differ(orders_file: Path) -> None:
    late = GOOD.replace("08:26:00", "08:27:00").replace("United Kingdom", "EIRE")
    orders_file.write_text(HEADER + GOOD + late)
    (invoice,) = read_orders(orders_file).invoices
    assert invoice.invoiced_at == datetime(2010, 12, 1, 8, 26, tzinfo=UTC)
    assert [line.invoiced_at for line in invoice.lines] == [None, datetime(2010, 12, 1, 8, 27, tzinfo=UTC)]
    assert [line.country for line in invoice.lines] == [None, "EIRE"]


@pytest.mark.parametrize(
    ("written", "read"), [("17850.0", "17850"), ("17850", "17850"), ("", None), ("12000.00", "12000")]
)
def test_a_customer_is_a_number_without_the_float_or_nobody(orders_file: Path, written: str, read: str | None) -> None:
    orders_file.write_text(HEADER + GOOD.replace("17850.0", written))
    assert read_orders(orders_file).invoices[0].customer == read


def test_stock_codes_and_descriptions_are_kept_to_the_letter(orders_file: Path) -> None:
    codes = ["m", "M", "BANK CHARGES", "47503J ", "gift_0001_40"]
    orders_file.write_text(HEADER + "".join(GOOD.replace("85123A", code) for code in codes))
    (invoice,) = read_orders(orders_file).invoices
    assert [line.product for line in invoice.lines] == codes


def test_an_empty_description_is_none(orders_file: Path) -> None:
    orders_file.write_text(HEADER + GOOD.replace("WHITE HANGING HEART", ""))
    assert read_orders(orders_file).invoices[0].lines[0].description is None


def test_a_debt_adjustment_with_a_negative_price_is_a_placed_order(orders_file: Path) -> None:
    orders_file.write_text(HEADER + "A563186,B,Adjust bad debt,1,2011-08-12 14:51:00,-11062.06,,United Kingdom\n")
    (invoice,) = read_orders(orders_file).invoices
    assert isinstance(invoice, OrderPlaced)
    assert invoice.lines[0].amount == Decimal("-11062.06")


def test_prices_stay_exact_to_the_last_decimal(orders_file: Path) -> None:
    orders_file.write_text(HEADER + "".join(GOOD.replace("2.55", price) for price in ("0.001", "0", "0.0", "2.550")))
    assert [line.unit_price for line in read_orders(orders_file).invoices[0].lines] == [
        Decimal("0.001"),
        Decimal(0),
        Decimal(0),
        Decimal("2.55"),
    ]


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(("\ufeff" + HEADER + GOOD).encode(), id="byte order mark"),
        pytest.param((HEADER + GOOD).replace("\n", "\r\n").encode(), id="CRLF"),
        pytest.param(gzip.compress((HEADER + GOOD).encode()), id="gzip"),
        pytest.param((HEADER + "\n" + GOOD + "\n\n").encode(), id="blank lines"),
        pytest.param((HEADER + GOOD.rstrip("\n")).encode(), id="no line end at the end"),
        pytest.param(
            "\n".join(f'"{x}"'.replace(",", '","') for x in (HEADER + GOOD).splitlines()).encode(), id="all in quotes"
        ),
        pytest.param(
            b"Country,Note,CustomerID,UnitPrice,InvoiceDate,Quantity,Description,StockCode,InvoiceNo\n"
            b"United Kingdom,x,17850.0,2.55,2010-12-01 08:26:00,6,WHITE HANGING HEART,85123A,536365\n",
            id="other order and one more column",
        ),
    ],
)
def test_all_that_is_legal_csv_reads_the_same(orders_file: Path, content: bytes) -> None:
    plain = orders_file.with_name("plain.csv")
    plain.write_text(HEADER + GOOD)
    orders_file.write_bytes(content)
    assert read_orders(orders_file).invoices == read_orders(plain).invoices


def test_quoted_commas_quotes_and_line_ends_stay_in_the_description(orders_file: Path) -> None:
    orders_file.write_text(HEADER + GOOD.replace("WHITE HANGING HEART", '"SET OF 3, 5""\nDISHES"'))
    assert read_orders(orders_file).invoices[0].lines[0].description == 'SET OF 3, 5"\nDISHES'


@pytest.mark.parametrize(
    ("column", "old", "new", "reason"),
    [
        ("Quantity", ",6,", ",six,", "'six' is not a whole number"),
        ("Quantity", ",6,", ",6.5,", "'6.5' is not a whole number"),
        ("Quantity", ",6,", ",,", "'' is not a whole number"),
        ("Quantity", ",6,", ",\u0666,", "is not a whole number"),
        ("Quantity", ",6,", ",9999999999,", "beyond 1000000000"),
        ("Quantity", ",6,", f",{'9' * 5000},", "beyond 1000000000"),
        ("UnitPrice", ",2.55,", ",NaN,", "'NaN' is not a price"),
        ("UnitPrice", ",2.55,", ",1e3,", "'1e3' is not a price"),
        ("UnitPrice", ",2.55,", ",£2.55,", "is not a price"),
        ("UnitPrice", ",2.55,", ",,", "'' is not a price"),
        ("UnitPrice", ",2.55,", ",1000000000,", "unit_price"),
        ("UnitPrice", ",2.55,", ",0.1234567,", "more than 6 decimals"),
        ("InvoiceDate", "2010-12-01 08:26:00", "1/12/2010 08:26", "YYYY-MM-DD HH:MM:SS"),
        ("InvoiceDate", "2010-12-01 08:26:00", "2010-02-30 08:26:00", "not a time"),
        ("InvoiceDate", "2010-12-01 08:26:00", "", "YYYY-MM-DD HH:MM:SS"),
        ("CustomerID", "17850.0", "17850.5", "'17850.5' is not a customer's number"),
        ("StockCode", "85123A", " ", "empty"),
        ("StockCode", "85123A", "A" * 257, "longer than 256"),
        ("Country", "United Kingdom", "", "empty"),
        ("InvoiceNo", "536365", "", "empty"),
        ("InvoiceNo", "536365", "9" * 241, "longer than 240 characters"),
        ("InvoiceNo", "536365", "é" * 200, "longer than 384 bytes"),
        ("Country", "United Kingdom", "\U0001f600" * 101, "longer than 400 bytes"),
        ("InvoiceDate", "2010-12-01 08:26:00", "0001-01-01 00:00:00", "between the years 1900 and 9000"),
        ("Description", "WHITE HANGING HEART", "x" * 140_000, "longer than 10,000 characters"),
    ],
)
def test_a_bad_value_is_told_with_row_column_and_reason(
    orders_file: Path, column: str, old: str, new: str, reason: str
) -> None:
    orders_file.write_text(HEADER + GOOD.replace("536365", "536364") + GOOD.replace(old, new))
    text = refusal(orders_file)
    assert f"row 3, {column}: " in text
    assert reason in text


@pytest.mark.parametrize("row", ["536365,85123A\n", GOOD.replace("WHITE HANGING HEART", "WHITE, HANGING")])
def test_a_row_with_too_few_or_too_many_fields_is_told(orders_file: Path, row: str) -> None:
    orders_file.write_text(HEADER + row)
    assert "where the first line has 8 (invoice 536365)" in refusal(orders_file)


def test_the_row_number_is_the_line_of_the_file_also_after_a_quoted_line_end(orders_file: Path) -> None:
    orders_file.write_text(
        HEADER + GOOD.replace("WHITE", '"A\nB"').replace('" HANGING HEART', ' C"') + GOOD.replace(",6,", ",x,")
    )
    assert "row 4, Quantity" in refusal(orders_file)


def test_told_to_skip_it_leaves_out_exactly_the_invoices_with_a_bad_row(orders_file: Path) -> None:
    orders_file.write_text(
        HEADER
        + GOOD
        + GOOD.replace("536365", "536366")
        + GOOD.replace("536365", "536366").replace(",6,", ",x,")
        + GOOD.replace("536365", "536367")
        + GOOD.replace("536365", "536366")
    )
    orders = read_orders(orders_file, skip_bad=True)
    assert [invoice.invoice for invoice in orders.invoices] == ["536365", "536367"]
    assert orders.bad_rows == (BadRow(4, "Quantity", "'x' is not a whole number", "536366"),)
    assert orders.bad_invoices == ("536366",)


def test_a_field_that_is_far_too_long_costs_its_own_invoice_alone(orders_file: Path) -> None:
    long = GOOD.replace("536365", "536366").replace("WHITE", "x" * 140_000)
    orders_file.write_text(HEADER + GOOD + long + GOOD.replace("536365", "536367"))
    orders = read_orders(orders_file, skip_bad=True)
    assert [invoice.invoice for invoice in orders.invoices] == ["536365", "536367"]


def test_many_bad_rows_are_counted_in_one_short_line(orders_file: Path) -> None:
    orders_file.write_text(HEADER + GOOD.replace(",6,", ",x,") * 50)
    text = refusal(orders_file)
    assert text.endswith("and 45 more")
    assert len(text) < 700


@pytest.mark.parametrize(
    ("content", "told"),
    [
        pytest.param(b"", "the file is empty", id="empty"),
        pytest.param(b"\n" + HEADER.encode(), "the first line is empty", id="empty first line"),
        pytest.param(gzip.compress(b""), "the first line is empty", id="empty gzip"),
        pytest.param(
            HEADER.replace(",Country", "").encode(), "missing column Country; the first line has InvoiceNo", id="column"
        ),
        pytest.param(
            HEADER.replace("Country", "Country,Quantity").encode(), "column Quantity stands twice", id="twice"
        ),
        pytest.param(HEADER.encode() + GOOD.encode("utf-16"), "not UTF-8", id="utf-16"),
        pytest.param(
            (HEADER + GOOD.replace("WHITE", "£")).encode("latin-1"), "not UTF-8 at line 2 (byte 0xa3)", id="latin-1"
        ),
        pytest.param(gzip.compress((HEADER + GOOD).encode())[:-12], "damaged or cut off", id="gzip cut off"),
        pytest.param(b"\x1f\x8bnot really gzip", "damaged or cut off", id="no gzip"),
        pytest.param((HEADER + GOOD.replace("WHITE", '"WHITE')).encode(), "not CSV at line", id="open quote"),
    ],
)
def test_a_file_that_is_no_orders_file_is_one_line(orders_file: Path, content: bytes, told: str) -> None:
    orders_file.write_bytes(content)
    assert told in refusal(orders_file)


def test_a_plain_file_that_is_called_gz_and_a_missing_one_are_one_line(tmp_path: Path) -> None:
    named = tmp_path / "orders.csv.gz"
    named.write_text(HEADER + GOOD)
    assert "not a gzip file" in refusal(named)
    assert "No such file" in refusal(tmp_path / "absent.csv")
    assert "directory" in refusal(tmp_path)


def test_a_seed_makes_the_same_bytes_each_time_and_another_seed_others(tmp_path: Path) -> None:
    for name, seed in (("a", 7), ("b", 7), ("c", 8)):
        write_orders(tmp_path / f"{name}.csv.gz", generate(seed, 300))
    first, again, other = ((tmp_path / f"{name}.csv.gz").read_bytes() for name in "abc")
    assert first == again
    assert first != other


def test_a_seed_makes_the_same_orders_on_every_python() -> None:
    invoices = list(generate(1, 500))
    assert figures(invoices) == FIGURES_OF_SEED_1


def test_what_is_written_is_read_back_the_same(tmp_path: Path) -> None:
    invoices = tuple(generate(3, 400))
    for name in ("orders.csv", "orders.csv.gz"):
        rows = write_orders(tmp_path / name, invoices)
        orders = read_orders(tmp_path / name)
        assert orders.invoices == invoices
        assert orders.rows == rows
    shipped = read_orders(SHIPPED_DAY).invoices
    write_orders(tmp_path / "day.csv", shipped)
    assert (tmp_path / "day.csv").read_bytes() == gzip.decompress(SHIPPED_DAY.read_bytes())


def test_generated_orders_have_what_real_ones_have() -> None:
    invoices = list(generate(5, 2000))
    assert len({invoice.invoice for invoice in invoices}) == 2000
    assert len({invoice.country for invoice in invoices}) > 5
    assert 100 < sum(isinstance(invoice, OrderCancelled) for invoice in invoices) < 250
    assert max(len(invoice.lines) for invoice in invoices) > 300
    assert any(len({line.product for line in invoice.lines}) < len(invoice.lines) for invoice in invoices)
    assert any(invoice.customer is None for invoice in invoices)
    assert all(line.quantity < 0 for i in invoices if isinstance(i, OrderCancelled) for line in i.lines)


def test_files_of_two_seeds_share_no_invoice() -> None:
    one, two = ({invoice.invoice for invoice in generate(seed, 500)} for seed in (1, 2))
    assert not one & two
