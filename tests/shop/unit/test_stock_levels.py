"""What invoices do to the levels, and when a product is low."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal

from lambdas.stock_levels.levels import SHELVES, apply, shelf_of
from offload.contracts.events.event import Event
from shop.contracts.orders import Invoice, OrderCancelled, OrderLine, OrderPlaced


def invoice(number: str, **quantities: int) -> Event[Invoice]:
    """An invoice with these units of these products."""
    kind = OrderCancelled if number.startswith("C") else OrderPlaced
    lines = tuple(OrderLine(product=p, quantity=q, unit_price=Decimal(1)) for p, q in quantities.items())
    at = datetime(2010, 12, 1, tzinfo=UTC)
    return kind(invoice=number, invoiced_at=at, country="France", lines=lines).event()


def test_units_are_taken_from_what_was_there_or_from_the_opening_units() -> None:
    change = apply([invoice("1", A=3, B=2)], {"A": 10}, opening=100, low_below=5)
    assert change.levels == {"A": 7, "B": 98}
    assert change.low == {}


def test_the_invoice_that_takes_a_product_below_the_threshold_causes_one_event() -> None:
    change = apply([invoice("1", A=4), invoice("2", A=2), invoice("3", A=1)], {"A": 10}, opening=0, low_below=5)
    assert list(change.low) == ["offload.shop#order.placed:2"]
    (low,) = change.low["offload.shop#order.placed:2"]
    assert (low.id, low.data.units, low.subject) == ("stock.low:A:offload.shop:order.placed:2", 4, "A")


def test_a_product_that_a_cancellation_brought_back_can_be_low_again() -> None:
    events = [invoice("1", A=6), invoice("C2", A=-6), invoice("3", A=7)]
    change = apply(events, {"A": 10}, opening=0, low_below=5)
    assert list(change.low) == ["offload.shop#order.placed:1", "offload.shop#order.placed:3"]
    assert change.levels == {"A": 3}


def test_lines_of_one_invoice_count_together() -> None:
    lines = tuple(OrderLine(product="A", quantity=q, unit_price=Decimal(1)) for q in (8, -8, 1))
    event = OrderPlaced(invoice="1", invoiced_at=datetime(2010, 12, 1, tzinfo=UTC), country="X", lines=lines).event()
    assert apply([event], {"A": 10}, opening=0, low_below=5) == ({"A": 9}, {})


def test_every_product_has_its_shelf_and_all_shelves_fit_a_transaction_with_a_batch_of_marks() -> None:
    assert {shelf_of(str(product)) for product in range(5000)} == set(range(SHELVES))
    batch, tally = 10, 1
    assert SHELVES + batch + tally <= 100
