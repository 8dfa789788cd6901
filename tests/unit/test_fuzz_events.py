"""Events that somebody who knows the contracts alone may write, each between two that are good.

Whatever the strange ones of a batch hold, the others count, exactly, and each strange one is done or a dead letter with
its reason. `OFFLOAD_PROVE=whole` tries 34,000 a function.
"""

from __future__ import annotations

import importlib
import json
import random
import sys
from collections.abc import Callable, Iterator, Sequence
from decimal import Decimal
from types import ModuleType
from typing import TYPE_CHECKING, Any, Final

import pytest

from offload.contracts.events.entry import REQUEST_BYTES
from offload.runtime.reasons import Reason
from shop.ledger import read_ledger
from tests import extremes
from tests.conftest import new_table
from tests.fuzzing import Shard, shards
from tests.unit.consumer_bench import CONTEXT, Bench, message, order

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient
    from mypy_boto3_sqs import SQSClient

FUNCTIONS: Final = ("lambdas.sales_ledger", "lambdas.stock_levels", "offload.functions.event_journal")
# A batch of Lambda's has ten messages: every second one is strange.
STRANGE: Final = 5
PURGED_EVERY: Final = 100  # batches


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
        module = f"{name}.handler"
        monkeypatch.delitem(sys.modules, module, raising=False)
        found[name] = (bench, importlib.import_module(module))
    yield found
    for name in FUNCTIONS:
        sys.modules.pop(f"{name}.handler", None)


def strange(number: int, chance: random.Random) -> str:
    """A message of the bus with an event, changed: in its data, its envelope, what the bus adds, or its text."""
    while True:
        whole = json.loads(message(json.loads(order(number, 7).to_json())))
        part = chance.choice([whole, whole["detail"], whole["detail"]["data"], whole["detail"]["data"]["lines"][0]])
        extremes.changed(part, chance)
        text = json.dumps(whole)
        if chance.random() < 0.05:
            at = chance.randrange(len(text))
            text = text[:at] + chance.choice(("", " ", "}", '"', "1" * 500)) + text[at + chance.randrange(3) :]
        # A longer one reaches no queue.
        if len(text) <= REQUEST_BYTES:
            return text


def batch(number: int, texts: Sequence[str]) -> dict[str, Any]:
    """Lambda's event: before each of the texts an order that is good."""
    bodies: list[str] = []
    for place, text in enumerate(texts):
        good = order(1_000_000 + number * STRANGE + place)
        bodies += [message(json.loads(good.to_json())), text]
    return {
        "Records": [
            {
                "messageId": f"{number}-{place}",
                "receiptHandle": f"{number}-{place}",
                "body": body,
                # The last attempt: it ends now, one way or the other.
                "attributes": {"ApproximateReceiveCount": "3", "SentTimestamp": "1291191960000"},
            }
            for place, body in enumerate(bodies)
        ]
    }


def outcomes(printed: str) -> list[dict[str, Any]]:
    """What the function's log says of each record, in the batch's order."""
    lines = [json.loads(line) for line in printed.splitlines()]
    found = {int(line["message_id"].partition("-")[2]): line for line in lines if line["message"] == "record"}
    return [found[place] for place in sorted(found)]


@pytest.mark.slow
@pytest.mark.parametrize("function", FUNCTIONS)
# Three functions read the events of one entry point.
@shards(100, cases=34_000)
def test_a_strange_event_costs_no_other(
    functions: dict[str, tuple[Bench, ModuleType]], function: str, shard: Shard, capsys: pytest.CaptureFixture[str]
) -> None:
    bench, module = functions[function]
    handler: Callable[..., dict[str, Any]] = module.handler
    chance = shard.chance()
    done, revenue = 0, Decimal(0)
    for number, first in enumerate(range(0, shard.cases, STRANGE)):
        texts = [strange(case, chance) for case in range(first, min(first + STRANGE, shard.cases))]
        capsys.readouterr()
        with shard.case(first, texts):
            answer = handler(batch(number, texts), CONTEXT)
            ended = outcomes(capsys.readouterr().out)
            assert answer == {"batchItemFailures": []}
            assert [each["outcome"] for each in ended[::2]] == ["done"] * len(texts)
            done += len(texts)
            revenue += Decimal("12.75") * len(texts)
            for text, line in zip(texts, ended[1::2], strict=True):
                assert line["outcome"] in {"done", "duplicate", "dead"}, text[:2000]
                if line["outcome"] == "dead":
                    assert line["reason"] in set(Reason), text[:2000]
                    assert line["detail"], text[:2000]
                elif line["outcome"] == "done":
                    done += 1
                    revenue += worth(text) if function == "sales_ledger" else 0
        if number % PURGED_EVERY == 0:
            bench.sqs.purge_queue(QueueUrl=bench.dead)
    assert sum(bench.done().values()) == done
    if function == "sales_ledger":
        assert read_ledger(bench.figures, bench.dynamodb).total.revenue == revenue


def worth(text: str) -> Decimal:
    """What an order that was taken comes to, by plain addition."""
    lines = json.loads(text, parse_float=Decimal)["detail"]["data"]["lines"]
    return sum((line["quantity"] * Decimal(str(line["unit_price"])) for line in lines), Decimal(0))
