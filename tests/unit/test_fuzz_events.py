"""Events that somebody who knows the contracts alone may write, each between two that are good.

Whatever the strange one holds, the other two count, exactly, and it is done or a dead letter with its reason.
`OFFLOAD_PROVE=whole` tries 100,000.
"""

from __future__ import annotations

import importlib
import json
import os
import random
import sys
from collections.abc import Callable, Iterator
from decimal import Decimal
from types import ModuleType
from typing import TYPE_CHECKING, Any, Final

import pytest

from offload.runtime.reasons import Reason
from offload.shop.ledger import read_ledger
from tests import extremes
from tests.conftest import new_table
from tests.unit.consumer_bench import CONTEXT, Bench, message, order

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient
    from mypy_boto3_sqs import SQSClient

WHOLE: Final = os.environ.get("OFFLOAD_PROVE") == "whole"
CASES: Final = 100_000 if WHOLE else 100
SEED: Final = 20261129
GOOD: Final = order(1)
FUNCTIONS: Final = ("sales_ledger", "stock_levels", "event_journal")


@pytest.fixture
def functions(
    sqs: SQSClient, dynamodb: DynamoDBClient, monkeypatch: pytest.MonkeyPatch
) -> Iterator[dict[str, tuple[Bench, ModuleType]]]:
    """Consumers as Lambda loads them, each with its own queues and inbox."""
    found = {}
    for name in FUNCTIONS:
        bench = Bench(sqs, dynamodb, monkeypatch)
        monkeypatch.setenv("LEDGER_TABLE", bench.figures)
        monkeypatch.setenv("STOCK_TABLE", new_table(dynamodb, f"{bench.name}-stock", sort_key=False))
        monkeypatch.setenv("STOCK_OPENING_UNITS", "1000000")
        monkeypatch.setenv("STOCK_LOW_BELOW", "10")
        module = f"lambdas.{name}.handler"
        monkeypatch.delitem(sys.modules, module, raising=False)
        found[name] = (bench, importlib.import_module(module))
    yield found
    for name in FUNCTIONS:
        sys.modules.pop(f"lambdas.{name}.handler", None)


def strange(number: int, chance: random.Random) -> str:
    """A message of the bus with an event, changed: in its data, its envelope, what the bus adds, or its text."""
    whole = json.loads(message(json.loads(order(number, 7).to_json())))
    part = chance.choice([whole, whole["detail"], whole["detail"]["data"], whole["detail"]["data"]["lines"][0]])
    extremes.changed(part, chance)
    text = json.dumps(whole)
    if chance.random() < 0.05:
        at = chance.randrange(len(text))
        text = text[:at] + chance.choice(("", " ", "}", '"', "1" * 500)) + text[at + chance.randrange(3) :]
    return text


def batch(case: int, text: str) -> dict[str, Any]:
    bodies = [
        message(json.loads(order(2 * case + 1_000_000).to_json())),
        text,
        message(json.loads(order(2 * case + 1_000_001).to_json())),
    ]
    return {
        "Records": [
            {
                "messageId": f"{case}-{place}",
                "receiptHandle": f"{case}-{place}",
                "body": body,
                # The last attempt: it ends now, one way or the other.
                "attributes": {"ApproximateReceiveCount": "3", "SentTimestamp": "1291191960000"},
            }
            for place, body in enumerate(bodies)
        ]
    }


def outcomes(printed: str) -> dict[str, dict[str, Any]]:
    """What the function's log says of each record."""
    lines = [json.loads(line) for line in printed.splitlines()]
    return {line["message_id"].partition("-")[2]: line for line in lines if line["message"] == "record"}


@pytest.mark.slow
@pytest.mark.parametrize("function", FUNCTIONS)
def test_a_strange_event_costs_no_other(
    functions: dict[str, tuple[Bench, ModuleType]], function: str, capsys: pytest.CaptureFixture[str]
) -> None:
    bench, module = functions[function]
    handler: Callable[..., dict[str, Any]] = module.handler
    chance = random.Random(SEED)
    done = 2 * CASES
    revenue = Decimal("12.75") * done
    for case in range(CASES):
        text = strange(case, chance)
        capsys.readouterr()
        try:
            answer = handler(batch(case, text), CONTEXT)
            ended = outcomes(capsys.readouterr().out)
            assert answer == {"batchItemFailures": []}
            assert [ended[place]["outcome"] for place in ("0", "2")] == ["done", "done"]
            assert ended["1"]["outcome"] in {"done", "duplicate", "dead"}
            if ended["1"]["outcome"] == "dead":
                assert ended["1"]["reason"] in set(Reason)
                assert ended["1"]["detail"]
            elif ended["1"]["outcome"] == "done":
                done += 1
                revenue += worth(text) if function == "sales_ledger" else 0
        except BaseException as error:
            error.add_note(f"case {case} of seed {SEED}: {text[:2000]!r}")
            raise
        if case % 5 == 0:
            bench.sqs.purge_queue(QueueUrl=bench.dead)
    assert sum(bench.done().values()) == done
    if function == "sales_ledger":
        assert read_ledger(bench.figures, bench.dynamodb).total.revenue == revenue


def worth(text: str) -> Decimal:
    """What an order that was taken comes to, by plain addition."""
    lines = json.loads(text, parse_float=Decimal)["detail"]["data"]["lines"]
    return sum((line["quantity"] * Decimal(str(line["unit_price"])) for line in lines), Decimal(0))
