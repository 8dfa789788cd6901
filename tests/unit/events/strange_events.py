"""Batches in which every second event is one that somebody who knows the contracts alone may have written."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Sequence
from decimal import Decimal
from typing import Any, Final

import pytest

from offload.contracts.events.entry import REQUEST_BYTES
from offload.contracts.events.event import Event
from offload.runtime.reasons import Reason
from tests import extremes
from tests.fuzzing import Shard
from tests.unit.events.consumer_bench import CONTEXT, Bench, message

# A batch of Lambda's has ten messages: every second one is strange.
STRANGE: Final = 5
PURGED_EVERY: Final = 100  # batches

Good = Callable[[int, int], Event[Any]]
"""A good event of one line, by its number and the line's quantity; the line's price is 12.75."""


def check_that_a_strange_event_costs_no_other(
    handler: Callable[..., dict[str, Any]],
    good: Good,
    bench: Bench,
    shard: Shard,
    capsys: pytest.CaptureFixture[str],
    *,
    counts: bool,
) -> Decimal:
    """Has a consumer's handler take the shard's batches; returns what the events that it took come to, if it counts."""
    chance = shard.chance()
    done, amount = 0, Decimal(0)
    for number, first in enumerate(range(0, shard.cases, STRANGE)):
        texts = [_strange(good(case, 7), chance) for case in range(first, min(first + STRANGE, shard.cases))]
        capsys.readouterr()
        with shard.case(first, texts):
            answer = handler(_batch(number, texts, good), CONTEXT)
            ended = _outcomes(capsys.readouterr().out)
            assert answer == {"batchItemFailures": []}
            assert [each["outcome"] for each in ended[::2]] == ["done"] * len(texts)
            done += len(texts)
            amount += Decimal("12.75") * len(texts)
            for text, line in zip(texts, ended[1::2], strict=True):
                assert line["outcome"] in {"done", "duplicate", "dead"}, text[:2000]
                if line["outcome"] == "dead":
                    assert line["reason"] in set(Reason), text[:2000]
                    assert line["detail"], text[:2000]
                elif line["outcome"] == "done":
                    done += 1
                    amount += _worth(text) if counts else 0
        if number % PURGED_EVERY == 0:
            bench.sqs.purge_queue(QueueUrl=bench.dead)
    assert sum(bench.done().values()) == done
    return amount


def _message(event: Event[Any]) -> str:
    whole = json.loads(message(json.loads(event.to_json()), event.type))
    return json.dumps(whole | {"source": event.source})


def _strange(event: Event[Any], chance: random.Random) -> str:
    """A message of the bus with an event, changed: in its data, its envelope, what the bus adds, or its text."""
    while True:
        whole = json.loads(_message(event))
        part = chance.choice([whole, whole["detail"], whole["detail"]["data"], whole["detail"]["data"]["lines"][0]])
        extremes.changed(part, chance)
        text = json.dumps(whole)
        if chance.random() < 0.05:
            at = chance.randrange(len(text))
            text = text[:at] + chance.choice(("", " ", "}", '"', "1" * 500)) + text[at + chance.randrange(3) :]
        # A longer one reaches no queue.
        if len(text) <= REQUEST_BYTES:
            return text


def _batch(number: int, texts: Sequence[str], good: Good) -> dict[str, Any]:
    """Lambda's event: before each of the texts one that is good."""
    bodies: list[str] = []
    for place, text in enumerate(texts):
        bodies += [_message(good(1_000_000 + number * STRANGE + place, 1)), text]
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


def _outcomes(printed: str) -> list[dict[str, Any]]:
    """What the function's log says of each record, in the batch's order."""
    lines = [json.loads(line) for line in printed.splitlines()]
    found = {int(line["message_id"].partition("-")[2]): line for line in lines if line["message"] == "record"}
    return [found[place] for place in sorted(found)]


def _worth(text: str) -> Decimal:
    """What an event that was taken comes to, by plain addition."""
    lines = json.loads(text, parse_float=Decimal)["detail"]["data"]["lines"]
    return sum((line["quantity"] * Decimal(str(line["unit_price"])) for line in lines), Decimal(0))
