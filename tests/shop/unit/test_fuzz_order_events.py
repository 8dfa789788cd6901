"""Orders that somebody who knows the contracts alone may write, for the shop's own consumers."""

from __future__ import annotations

import importlib
import sys
from datetime import UTC, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Final

import pytest

from offload.contracts.events.event import Event
from shop.contracts.orders import OrderLine, OrderPlaced
from shop.ledger import read_ledger
from tests.conftest import new_table
from tests.fuzzing import Shard, shards
from tests.unit.events.consumer_bench import Bench
from tests.unit.events.strange_events import check_that_a_strange_event_costs_no_other

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient
    from mypy_boto3_sqs import SQSClient

FUNCTIONS: Final = ("sales_ledger", "stock_levels")


def order(number: int, quantity: int) -> Event[OrderPlaced]:
    """An order of one line."""
    return OrderPlaced(
        invoice=str(number),
        invoiced_at=datetime(2010, 12, 1, 8, 26, tzinfo=UTC),
        country="France",
        lines=(OrderLine(product="22423", quantity=quantity, unit_price=Decimal("12.75")),),
    ).event()


@pytest.mark.slow
@pytest.mark.parametrize("function", FUNCTIONS)
@shards(100, cases=34_000)
def test_a_strange_order_costs_no_other(
    sqs: SQSClient,
    dynamodb: DynamoDBClient,
    monkeypatch: pytest.MonkeyPatch,
    function: str,
    shard: Shard,
    capsys: pytest.CaptureFixture[str],
) -> None:
    bench = Bench(sqs, dynamodb, monkeypatch)
    monkeypatch.setenv("LEDGER_TABLE", bench.figures)
    monkeypatch.setenv("STOCK_TABLE", new_table(dynamodb, f"{bench.name}-stock", sort_key=False))
    monkeypatch.setenv("STOCK_OPENING_UNITS", "1000000")
    monkeypatch.setenv("STOCK_LOW_BELOW", "10")
    module = f"lambdas.{function}.handler"
    monkeypatch.delitem(sys.modules, module, raising=False)
    handler = importlib.import_module(module).handler
    # It has this test's settings.
    del sys.modules[module]
    counts = function == "sales_ledger"
    revenue = check_that_a_strange_event_costs_no_other(handler, order, bench, shard, capsys, counts=counts)
    if counts:
        assert read_ledger(bench.figures, bench.dynamodb).total.revenue == revenue
