"""What the journal says of events that are published again."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import TYPE_CHECKING

import pytest
from msgspec.structs import replace

from clinic.contracts.visits import VisitEnded, VisitLine
from offload.cli.events.journal import published_with_other_data
from offload.contracts.events.claim import claim_key, claim_reference
from offload.contracts.events.entry import WHOLE_BYTES, Entry
from offload.contracts.events.event import Event
from offload.runtime.events.consumer import Effect, transactional_consumer
from tests.unit.events.consumer_bench import CONTEXT, Bench, message, visit

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient
    from mypy_boto3_sqs import SQSClient


@pytest.fixture
def bench(sqs: SQSClient, dynamodb: DynamoDBClient, monkeypatch: pytest.MonkeyPatch) -> Bench:
    return Bench(sqs, dynamodb, monkeypatch)


def journal(bench: Bench, *bodies: str) -> None:
    """Lets the journal take these messages."""
    handler = transactional_consumer()(lambda events: Effect())
    assert handler(bench.batch(*bodies), CONTEXT) == {"batchItemFailures": []}


def corrected(event: Event[VisitEnded]) -> Event[VisitEnded]:
    """The same visit with another quantity."""
    (line,) = event.data.lines
    return replace(event.data, lines=(replace(line, quantity=line.quantity + 1),)).event()


def test_an_event_with_other_data_is_found_and_a_repeat_and_a_new_one_are_not(bench: Bench) -> None:
    journal(bench, *(message(json.loads(visit(number).to_json())) for number in (1, 2)))
    changed = corrected(visit(2))
    found = published_with_other_data(bench.marks, [visit(1), changed, visit(3)], bench.dynamodb)
    assert found == [changed]


def test_an_event_that_travels_as_a_claim_check_is_compared_by_what_it_left_in_the_store(bench: Bench) -> None:
    lines = tuple(VisitLine(item=str(number) * 30, quantity=1, unit_price=Decimal(1)) for number in range(12_000))
    large = replace(visit(1).data, lines=lines).event()
    entry = Entry.of(large)
    assert entry.size() > WHOLE_BYTES
    claimed = entry.claimed(claim_reference("bucket", claim_key(large.type, entry.data())))
    journal(bench, message(json.loads(claimed.detail)))
    other = replace(large.data, lines=lines[1:]).event()
    assert published_with_other_data(bench.marks, [large], bench.dynamodb) == []
    assert published_with_other_data(bench.marks, [other], bench.dynamodb) == [other]
