"""Events that somebody who knows the contracts alone may write, each between two that are good.

Whatever the strange ones of a batch hold, the others count, exactly, and each strange one is done or a dead letter with
its reason. `OFFLOAD_PROVE=whole` tries 34,000 a function.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from types import ModuleType
from typing import TYPE_CHECKING, Final

import pytest

from clinic.ledger import read_ledger
from tests.clinics import CLINIC, handler_module
from tests.conftest import new_table
from tests.fuzzing import Shard, shards
from tests.unit.events.consumer_bench import Bench, visit
from tests.unit.events.strange_events import check_that_a_strange_event_costs_no_other

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient
    from mypy_boto3_sqs import SQSClient

FUNCTIONS: Final = ("visit_ledger", "supply_levels", "event_journal")
FRAMEWORK: Final = "offload.functions"


@pytest.fixture
def functions(
    sqs: SQSClient, dynamodb: DynamoDBClient, monkeypatch: pytest.MonkeyPatch
) -> Iterator[dict[str, tuple[Bench, ModuleType]]]:
    """Consumers as Lambda loads them, each with its own queues and inbox."""
    found = {}
    for name in FUNCTIONS:
        bench = Bench(sqs, dynamodb, monkeypatch)
        monkeypatch.setenv("LEDGER_TABLE", bench.figures)
        monkeypatch.setenv("SUPPLY_TABLE", new_table(dynamodb, f"{bench.name}-supplies", sort_key=False))
        found[name] = (bench, loaded(name, monkeypatch))
    yield found
    for name in FUNCTIONS:
        sys.modules.pop(f"lambdas.{name}.handler", None)
        sys.modules.pop(f"{FRAMEWORK}.{name}.handler", None)


def loaded(name: str, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The module of a function's handler, of the clinic's or of the framework's."""
    if (CLINIC / "lambdas" / name).is_dir():
        return handler_module(name)
    module = f"{FRAMEWORK}.{name}.handler"
    monkeypatch.delitem(sys.modules, module, raising=False)
    return importlib.import_module(module)


@pytest.mark.slow
@pytest.mark.parametrize("function", FUNCTIONS)
# Three functions read the events of one entry point.
@shards(100, cases=34_000)
def test_a_strange_event_costs_no_other(
    functions: dict[str, tuple[Bench, ModuleType]], function: str, shard: Shard, capsys: pytest.CaptureFixture[str]
) -> None:
    bench, module = functions[function]
    counts = function == "visit_ledger"
    fees = check_that_a_strange_event_costs_no_other(module.handler, visit, bench, shard, capsys, counts=counts)
    if counts:
        assert read_ledger(bench.figures, bench.dynamodb).fees == fees
