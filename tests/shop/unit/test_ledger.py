"""What invoices add to the ledger, on real orders, and how it is read back."""

from __future__ import annotations

from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING

from offload.runtime.events import sums
from shop.contracts.orders import OrderCancelled, OrderLine, OrderPlaced
from shop.ledger import Figures, read_ledger, sums_of
from shop.orders import SHIPPED_DAY, read_orders
from tests.conftest import new_table

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

MORNING = datetime(2010, 12, 1, 8, 26, tzinfo=UTC)


def line(product: str, quantity: int, price: str, country: str | None = None, at: datetime | None = None) -> OrderLine:
    return OrderLine(product=product, quantity=quantity, unit_price=Decimal(price), country=country, invoiced_at=at)


def placed(*lines: OrderLine, invoice: str = "536365") -> OrderPlaced:
    return OrderPlaced(invoice=invoice, invoiced_at=MORNING, country="France", lines=lines)


def test_an_invoice_counts_once_for_its_country_and_once_for_each_of_its_products() -> None:
    sections = sums_of([placed(line("22423", 2, "12.75"), line("22423", 1, "12.75"), line("10002", 4, "0.85")).event()])
    assert sections == {
        "2010-12-01": {
            "country#France": [Decimal("41.65"), 7, 1, 0],
            "product#22423": [Decimal("38.25"), 3, 1, 0],
            "product#10002": [Decimal("3.40"), 4, 1, 0],
        }
    }


def test_a_cancellation_takes_revenue_and_units_away_and_is_counted_as_one() -> None:
    cancelled = OrderCancelled(
        invoice="C536379", invoiced_at=MORNING, country="France", lines=(line("22423", -2, "12.75"),)
    )
    assert sums_of([cancelled.event()])["2010-12-01"]["country#France"] == [Decimal("-25.50"), -2, 0, 1]


def test_a_line_of_another_day_and_country_counts_there_and_the_invoice_with_its_first_line() -> None:
    later = datetime(2010, 12, 2, 9, 0, tzinfo=UTC)
    sections = sums_of([placed(line("22423", 1, "1.10"), line("10002", 1, "2.20", "Spain", later)).event()])
    assert sections["2010-12-01"]["country#France"] == [Decimal("1.10"), 1, 1, 0]
    assert sections["2010-12-02"]["country#Spain"] == [Decimal("2.20"), 1, 0, 0]


def test_the_shipped_day_adds_up_to_the_penny() -> None:
    sections = sums_of(invoice.event() for invoice in read_orders(SHIPPED_DAY).invoices)
    countries = [row for key, row in sections["2010-12-01"].items() if key.startswith("country#")]
    products = [row for key, row in sections["2010-12-01"].items() if key.startswith("product#")]
    assert [sum(column) for column in zip(*countries, strict=True)] == [Decimal("58635.56"), 26814, 137, 6]
    assert [sum(column) for column in zip(*products, strict=True)][:2] == [Decimal("58635.56"), 26814]


def test_december_adds_up_to_the_penny(month: Path) -> None:
    invoices = read_orders(month).invoices
    rows = [
        row
        for section in sums_of(invoice.event() for invoice in invoices).values()
        for key, row in section.items()
        if key.startswith("country#")
    ]
    assert [sum(column) for column in zip(*rows, strict=True)] == [Decimal("748957.02"), 342228, 1699, 326]


def test_a_period_has_the_figures_of_its_days_alone_folded_or_not(dynamodb: DynamoDBClient) -> None:
    table = new_table(dynamodb, "ledger-period")
    for day in range(1, 5):
        country = {2: "France", 3: "Spain"}.get(day, "Eire")
        for number in range(20):
            invoice = OrderPlaced(
                invoice=f"{day}-{number}",
                invoiced_at=datetime(2010, 12, day, 9, 0, tzinfo=UTC),
                country=country,
                lines=(line(f"product-{day}", 1, "1.05"),),
            )
            posting = sums.Posting(table, [invoice.event().key], sums_of([invoice.event()]))
            dynamodb.transact_write_items(TransactItems=[posting.action()])  # type: ignore[list-item]
    for shard in range(0, sums.SHARDS, 2):
        sums.fold(dynamodb, table, shard)
    middle = read_ledger(table, dynamodb, first=date(2010, 12, 2), last=date(2010, 12, 3))
    assert middle.total == Figures(Decimal("42.00"), 40, 40, 0)
    assert middle.by_country == dict.fromkeys(("France", "Spain"), Figures(Decimal("21.00"), 20, 20, 0))
    assert set(middle.by_product) == {"product-2", "product-3"}
    assert set(read_ledger(table, dynamodb, first=date(2010, 12, 3)).by_day) == {"2010-12-03", "2010-12-04"}
    assert set(read_ledger(table, dynamodb, last=date(2010, 12, 1)).by_day) == {"2010-12-01"}
    assert read_ledger(table, dynamodb, first=date(2010, 12, 2), last=date(2010, 12, 1)).total == Figures()


def test_the_ledger_is_read_as_the_postings_added_it(dynamodb: DynamoDBClient) -> None:
    table = new_table(dynamodb, "ledger-read")
    invoices = read_orders(SHIPPED_DAY).invoices
    for start in range(0, len(invoices), 10):
        events = [invoice.event() for invoice in invoices[start : start + 10]]
        posting = sums.Posting(table, [event.key for event in events], sums_of(events))
        dynamodb.transact_write_items(TransactItems=[posting.action()])  # type: ignore[list-item]
        if posting.folds:
            assert sums.fold(dynamodb, table, posting.shard) > 0
    ledger = read_ledger(table, dynamodb)
    assert ledger.total == Figures(Decimal("58635.56"), 26814, 137, 6)
    assert ledger.by_day == {"2010-12-01": ledger.total}
    whole = Figures()
    for figures in ledger.by_country.values():
        whole = whole.plus(figures)
    assert whole == ledger.total
    assert sum((figures.revenue for figures in ledger.by_product.values()), Decimal(0)) == ledger.total.revenue
