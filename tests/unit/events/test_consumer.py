"""The consumer's runtime against real queues and tables."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import boto3
import pytest

from clinic.contracts.supplies import SupplyLow
from clinic.contracts.visits import VisitEnded
from offload.contracts.events.claim import claim_key, claim_reference
from offload.contracts.events.event import BrokenContract, Event
from offload.runtime import aws, invocation
from offload.runtime.events import sums
from offload.runtime.events.consumer import (
    Arrival,
    Effect,
    consumer,
    consumer_of_arrivals,
    retry_delay,
    transactional_consumer,
)
from offload.runtime.reasons import Refused
from tests.unit.events.consumer_bench import CONTEXT, Bench, message, visit

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient
    from mypy_boto3_sqs import SQSClient


@pytest.fixture
def bench(sqs: SQSClient, dynamodb: DynamoDBClient, monkeypatch: pytest.MonkeyPatch) -> Bench:
    """A consumer's surroundings in the embedded AWS."""
    return Bench(sqs, dynamodb, monkeypatch)


def counting(bench: Bench) -> Callable[..., dict[str, Any]]:
    """A transactional consumer that adds up quantities."""

    @transactional_consumer(VisitEnded)
    def handler(events: Sequence[Event[VisitEnded]]) -> Effect:
        units = sum(line.quantity for event in events for line in event.data.lines)
        posting = sums.Posting(bench.figures, [event.key for event in events], {"all": {"units": [units]}})
        return Effect(postings=(posting,))

    return handler


def units(bench: Bench) -> int:
    """What the counting consumer has added up."""
    return int(sums.read(bench.dynamodb, bench.figures).get("all", {}).get("units", [0])[0])


def test_a_batch_is_one_call_and_every_event_counts(bench: Bench) -> None:
    handler = counting(bench)
    calls: list[str] = []
    client = aws.dynamodb()
    client.meta.events.register("before-call.dynamodb", lambda model, **_: calls.append(model.name))
    assert handler(bench.batch(*(visit(n, n) for n in range(1, 6))), CONTEXT) == {"batchItemFailures": []}
    assert [call for call in calls if call == "TransactWriteItems"] == ["TransactWriteItems"]
    assert set(calls) <= {"TransactWriteItems", "Query", "GetItem", "BatchGetItem"}
    assert units(bench) == 15
    assert bench.done() == {"visit.ended": 5}


def test_an_event_counts_once_however_often_and_in_whatever_company_it_comes(bench: Bench) -> None:
    handler = counting(bench)
    one, two, three = visit(1, 1), visit(2, 10), visit(3, 100)
    for batch in ([one, one], [one, two, one], [three, two], [one, two, three]):
        assert handler(bench.batch(*batch), CONTEXT) == {"batchItemFailures": []}
    assert units(bench) == 111
    assert bench.done() == {"visit.ended": 3}
    assert bench.dead_letters() == []


def test_who_asks_how_an_event_came_is_told_the_bus_s_time_and_the_replay_and_is_given_a_replayed_one_again(
    bench: Bench,
) -> None:
    given: list[tuple[datetime, str]] = []

    @consumer_of_arrivals(VisitEnded)
    def handler(arrivals: Sequence[Arrival]) -> Effect:
        given.extend((each.at, each.replay) for each in arrivals)
        return Effect()

    plain = json.loads(message(json.loads(visit(1).to_json())))
    live = plain | {"time": "2026-11-27T12:00:05Z"}
    for body in (live, live | {"replay-name": "missing-1"}, plain):
        assert handler(bench.batch(json.dumps(body)), CONTEXT) == {"batchItemFailures": []}
    taken = datetime(2026, 11, 27, 12, 0, 5, tzinfo=UTC)
    # A message without the bus's time came when its queue took it.
    queued = datetime(2010, 12, 1, 8, 26, tzinfo=UTC)
    assert given == [(taken, ""), (taken, "missing-1"), (queued, "")]
    assert bench.done() == {"visit.ended": 1}


@pytest.mark.parametrize(
    ("detail", "reason", "says"),
    [
        ("not json", "undecodable", "not an event from the bus"),
        ('{"no": "envelope"}', "undecodable", "not an event from the bus"),
        (message({"id": "x"}), "broken-contract", "envelope"),
        (message(json.loads(visit(7).to_json()) | {"data": {"visit": "7"}}), "broken-contract", "ended_at"),
        (
            message(json.loads(visit(7).to_json()) | {"dataschema": "urn:offload:visit.ended:9"}),
            "broken-contract",
            "9",
        ),
        (
            message(json.loads(visit(7).to_json()) | {"dataref": "s3://elsewhere/claims/x"}),
            "claim-foreign",
            "elsewhere",
        ),
    ],
)
def test_what_no_retry_can_help_is_a_dead_letter_at_once_with_its_reason(
    bench: Bench, detail: str, reason: str, says: str
) -> None:
    handler = counting(bench)
    assert handler(bench.batch(detail, visit(1, 5)), CONTEXT) == {"batchItemFailures": []}
    assert units(bench) == 5
    (letter,) = bench.dead_letters()
    assert (letter["reason"], letter["consumer"]) == (reason, bench.name)
    assert says in letter["detail"]


def test_one_bad_event_fails_alone_is_retried_and_ends_as_a_dead_letter(
    bench: Bench, capsys: pytest.CaptureFixture[str]
) -> None:
    @transactional_consumer(VisitEnded)
    def handler(events: Sequence[Event[VisitEnded]]) -> Effect:
        if any(event.data.visit == "13" for event in events):
            raise ZeroDivisionError("thirteen")
        quantity = sum(line.quantity for event in events for line in event.data.lines)
        return Effect(postings=(sums.Posting(bench.figures, [e.key for e in events], {"all": {"units": [quantity]}}),))

    batch = bench.batch(*(visit(n) for n in (11, 12, 13, 14, 15)))
    bad = next(record for record in batch["Records"] if '"13"' in record["body"])
    assert handler(batch, CONTEXT) == {"batchItemFailures": [{"itemIdentifier": bad["messageId"]}]}
    assert units(bench) == 4
    line = next(json.loads(text) for text in capsys.readouterr().out.splitlines() if '"retry"' in text)
    assert (line["event_id"], line["attempt"], line["consumer"]) == ("visit.ended:13", 1, bench.name)
    assert "ZeroDivisionError: thirteen" in line["exception"]
    bad["attributes"]["ApproximateReceiveCount"] = "3"
    assert handler({"Records": [bad]}, CONTEXT) == {"batchItemFailures": []}
    (letter,) = bench.dead_letters()
    assert letter["reason"] == "retries-exhausted"
    assert letter["detail"] == "ZeroDivisionError: thirteen"
    assert letter["event_id"] == "visit.ended:13"


def test_what_a_handler_cannot_read_of_an_event_is_a_dead_letter_at_once(bench: Bench) -> None:
    @consumer(VisitEnded)
    def handler(event: Event[VisitEnded]) -> None:
        raise BrokenContract(f"payload of {event.data.visit}: Expected `int`")

    assert handler(bench.batch(visit(1)), CONTEXT) == {"batchItemFailures": []}
    (letter,) = bench.dead_letters()
    assert (letter["reason"], letter["detail"]) == ("broken-contract", "payload of 1: Expected `int`")


def test_a_record_that_is_to_be_retried_stays_hidden_until_then(bench: Bench) -> None:
    @consumer(VisitEnded)
    def handler(event: Event[VisitEnded]) -> None:
        raise TimeoutError(event.id)

    handler(bench.batch(visit(1), attempt=2), CONTEXT)
    hidden = bench.sqs.get_queue_attributes(
        QueueUrl=bench.queue, AttributeNames=["ApproximateNumberOfMessagesNotVisible"]
    )
    assert hidden["Attributes"]["ApproximateNumberOfMessagesNotVisible"] == "1"


def test_retries_wait_longer_each_time_and_never_over_a_quarter_of_an_hour() -> None:
    for attempt, least, most in ((1, 1, 2), (2, 2, 4), (4, 8, 16), (20, 450, 900)):
        assert least <= retry_delay(attempt) <= most


def test_a_plain_consumer_handles_an_event_once_and_only_new_ones_again(bench: Bench) -> None:
    seen: list[str] = []

    @consumer(VisitEnded)
    def handler(event: Event[VisitEnded]) -> None:
        seen.append(event.data.visit)
        if event.data.visit == "2":
            raise Refused("second")

    handler(bench.batch(visit(1), visit(2), visit(1)), CONTEXT)
    handler(bench.batch(visit(1), visit(3)), CONTEXT)
    assert sorted(seen) == ["1", "2", "3"]
    assert bench.done() == {"visit.ended": 2}
    assert [letter["reason"] for letter in bench.dead_letters()] == ["refused"]


def test_what_runs_in_a_handler_knows_the_time_that_is_left_and_the_trace(bench: Bench) -> None:
    trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
    known: list[tuple[int | None, str | None]] = []

    @consumer(VisitEnded)
    def handler(event: Event[VisitEnded]) -> None:
        known.append((invocation.remaining_ms(), invocation.traceparent()))

    context: Any = SimpleNamespace(aws_request_id="request-1", get_remaining_time_in_millis=lambda: 4321)
    handler(bench.batch(visit(1).data.event(traceparent=trace)), context)
    handler(bench.batch(visit(2)), context)
    assert known == [(4321, trace), (4321, None)]
    assert (invocation.remaining_ms(), invocation.traceparent()) == (None, None)


def publishing(bench: Bench) -> Callable[..., dict[str, Any]]:
    """A transactional consumer that publishes one event for each that it takes."""

    @transactional_consumer(VisitEnded)
    def handler(events: Sequence[Event[VisitEnded]]) -> Effect:
        low = {e.key: [low_after(e)] for e in events}
        return Effect(publications=low)

    return handler


def low_after(event: Event[VisitEnded]) -> Event[SupplyLow]:
    """What the publishing consumer publishes."""
    fact = SupplyLow(item="22423", units=1, low_below=9, cause=event.id, caused_at=event.time)
    return fact.event()


def test_what_an_effect_caused_is_published_after_a_crash_between_the_two(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    handler = publishing(bench)

    class Killed(BaseException):
        pass

    def die(**_: Any) -> None:
        raise Killed

    events = aws.events()
    events.meta.events.register("before-call.events", die, unique_id="die")
    batch = bench.batch(visit(1))
    with pytest.raises(Killed):
        handler(batch, CONTEXT)
    events.meta.events.unregister("before-call.events", unique_id="die")
    assert bench.done() == {"visit.ended": 1}
    assert bench.publications() == []
    handler(batch, CONTEXT)
    handler(batch, CONTEXT)
    (published,) = bench.publications()
    assert published["id"] == low_after(visit(1)).id
    assert bench.done() == {"visit.ended": 1}


def test_the_journal_takes_every_event_even_what_no_contract_knows(bench: Bench) -> None:
    @transactional_consumer()
    def handler(events: Sequence[Event[Any]]) -> Effect:
        return Effect()

    unknown = message(json.loads(visit(5).to_json()) | {"type": "gift.wrapped", "id": "g1"}, "gift.wrapped")
    broken = message({"data": 1})
    assert handler(bench.batch(visit(1), unknown, broken, visit(1)), CONTEXT) == {"batchItemFailures": []}
    assert bench.done() == {"visit.ended": 2, "gift.wrapped": 1}
    assert bench.dead_letters() == []


def test_an_effect_that_no_transaction_can_hold_is_a_dead_letter(bench: Bench) -> None:
    @transactional_consumer(VisitEnded)
    def handler(events: Sequence[Event[VisitEnded]]) -> Effect:
        wide = any(event.data.visit == "99" for event in events)
        items = [{"pk": {"S": f"{events[0].id}-{n}"}, "sk": {"S": "x"}} for n in range(120 if wide else 20)]
        return Effect(actions=[{"Put": {"TableName": bench.figures, "Item": item}} for item in items])

    assert handler(bench.batch(visit(1), visit(99), visit(2)), CONTEXT) == {"batchItemFailures": []}
    assert bench.done() == {"visit.ended": 2}
    assert [letter["reason"] for letter in bench.dead_letters()] == ["effect-too-large"]


def test_a_batch_that_lost_every_race_is_retried_and_not_taken_for_done(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    handler = counting(bench)
    handler(bench.batch(visit(1)), CONTEXT)
    monkeypatch.setattr("offload.runtime.events.consumer._COMMIT_ATTEMPTS", 1)
    batch = bench.batch(visit(1), visit(2))
    new = next(record for record in batch["Records"] if "visit.ended:2" in record["body"])
    assert handler(batch, CONTEXT) == {"batchItemFailures": [{"itemIdentifier": new["messageId"]}]}
    assert units(bench) == 1


def test_the_data_that_a_claim_check_stands_for_are_fetched_before_the_handler_sees_the_event(bench: Bench) -> None:
    detail = json.loads(visit(1, 7).to_json())
    data = json.dumps(detail.pop("data")).encode()
    key = claim_key("visit.ended", data)
    bucket = f"{bench.name.lower()}-claims"
    boto3.client("s3").put_object(Bucket=bucket, Key=key, Body=data)
    claimed = message({**detail, "dataref": claim_reference(bucket, key)})
    assert counting(bench)(bench.batch(claimed), CONTEXT) == {"batchItemFailures": []}
    assert units(bench) == 7
