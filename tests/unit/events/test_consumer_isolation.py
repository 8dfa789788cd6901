"""Whatever one record holds, and whatever it raises, the others of its batch end as if it had not been there."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, ClassVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clinic.contracts.supplies import SupplyLow
from clinic.contracts.visits import VisitCancelled, VisitEnded
from offload.contracts.events.event import (
    Event,
    EventData,
    derived_key,
    event_key,
    split_event_key,
)
from offload.runtime.events import sums
from offload.runtime.events.consumer import CONFLICTS, Effect, consumer, transactional_consumer
from tests.unit.events.consumer_bench import CONTEXT, Bench, message, visit

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient
    from mypy_boto3_sqs import SQSClient

Handler = Callable[[dict[str, Any], Any], dict[str, Any]]


@pytest.fixture
def bench(sqs: SQSClient, dynamodb: DynamoDBClient, monkeypatch: pytest.MonkeyPatch) -> Bench:
    return Bench(sqs, dynamodb, monkeypatch)


@dataclass
class Seen:
    """The keys of the events that a handler's effect was done for."""

    keys: list[str]


def transactional(bench: Bench, seen: Seen) -> Handler:
    @transactional_consumer(VisitEnded, VisitCancelled)
    def handler(events: Sequence[Event[Any]]) -> Effect:
        rows: sums.Rows = {event.key: [1] for event in events}
        return Effect(postings=(sums.Posting(bench.figures, [e.key for e in events], {"all": rows}),))

    return handler


def plain(bench: Bench, seen: Seen) -> Handler:
    @consumer(VisitEnded, VisitCancelled)
    def handler(event: Event[Any]) -> None:
        seen.keys.append(event.key)

    return handler


def effects(bench: Bench, seen: Seen) -> list[str]:
    """The keys of the events whose effect was done, each as often as it was."""
    rows = sums.read(bench.dynamodb, bench.figures).get("all", {})
    return sorted([*seen.keys, *(key for key, (count, *_) in rows.items() for _ in range(int(count)))])


def of_visit(number: int, **changes: Any) -> str:
    """A visit's message with other fields in its envelope."""
    return message(json.loads(visit(number).to_json()) | changes)


def with_line(number: int, **changes: Any) -> str:
    """A visit's message with other fields in its only line."""
    detail = json.loads(visit(number).to_json())
    detail["data"]["lines"][0] |= changes
    return message(detail)


def with_data(number: int, **changes: Any) -> str:
    """A visit's message with other fields in its data."""
    detail = json.loads(visit(number).to_json())
    detail["data"] |= changes
    return message(detail)


EMOJI = "\U0001f600"
POISON = {
    "a price with an exponent of a million": with_line(9, unit_price="1e1000000"),
    "a price of zero with such an exponent": with_line(9, unit_price="0e1000000"),
    "a price that is no number": with_line(9, unit_price="sNaN"),
    "a price of 5,000 digits": with_line(9, unit_price="9" * 5000),
    "a quantity of 400 digits": with_line(9, quantity=10**400),
    "an id of 256 emoji": of_visit(9, id=EMOJI * 256),
    "an id and a source of 256 emoji": of_visit(9, id=EMOJI * 256, source=EMOJI * 256),
    "a moment in year 1 that is in no other zone": with_data(9, ended_at="0001-01-01T00:00:00+14:00"),
    "a line's moment in year 9999 that is in no other zone": with_line(9, used_at="9999-12-31T23:59:59-14:00"),
    "a time of the envelope in year 1": of_visit(9, time="0001-01-01T00:00:00Z"),
    "half of a surrogate pair": of_visit(9).replace("France", "\\ud800"),
    "text that is nested too deep": message("X").replace('"X"', "[" * 100_000),
    "an empty detail": message({}),
    "no object": "[]",
    "an empty text": " ",
}


@pytest.mark.parametrize("kind", [transactional, plain])
@pytest.mark.parametrize("poison", POISON.values(), ids=POISON.keys())
def test_a_broken_event_is_a_dead_letter_at_once_and_its_neighbours_are_done(
    bench: Bench, kind: Callable[[Bench, Seen], Handler], poison: str
) -> None:
    seen = Seen([])
    handler = kind(bench, seen)
    answer = handler(bench.batch(visit(1), poison, visit(2)), CONTEXT)
    assert answer == {"batchItemFailures": []}
    assert effects(bench, seen) == ["offload.clinic#visit.ended:1", "offload.clinic#visit.ended:2"]
    (letter,) = bench.dead_letters()
    assert letter["reason"] in ("broken-contract", "undecodable")


@pytest.mark.parametrize("kind", [transactional, plain])
def test_two_events_with_one_id_and_two_sources_are_two(bench: Bench, kind: Callable[[Bench, Seen], Handler]) -> None:
    seen = Seen([])
    handler = kind(bench, seen)
    handler(bench.batch(visit(1), of_visit(1, source="another.clinic")), CONTEXT)
    assert effects(bench, seen) == ["another.clinic#visit.ended:1", "offload.clinic#visit.ended:1"]
    assert bench.done() == {"visit.ended": 2}


@pytest.mark.parametrize("kind", [transactional, plain])
def test_a_separator_in_a_source_or_an_id_makes_no_two_events_one(
    bench: Bench, kind: Callable[[Bench, Seen], Handler]
) -> None:
    seen = Seen([])
    handler = kind(bench, seen)
    bodies = [of_visit(1, source="a#b", id="c"), of_visit(1, source="a", id="b#c"), of_visit(1, source="a%23b", id="c")]
    assert handler(bench.batch(*bodies), CONTEXT) == {"batchItemFailures": []}
    assert len(effects(bench, seen)) == len(set(effects(bench, seen))) == 3
    assert bench.done() == {"visit.ended": 3}


def conflicts(bench: Bench) -> dict[str, int]:
    rows = sums.read(bench.dynamodb, bench.marks).get(CONFLICTS, {})
    return {kind: int(count) for kind, (count, *_) in rows.items()}


@pytest.mark.parametrize("kind", [transactional, plain])
def test_a_repeat_with_other_data_changes_nothing_and_is_logged_and_counted_once(
    bench: Bench, kind: Callable[[Bench, Seen], Handler], capsys: pytest.CaptureFixture[str]
) -> None:
    seen = Seen([])
    handler = kind(bench, seen)
    handler(bench.batch(with_line(1, quantity=1), with_line(1, quantity=1)), CONTEXT)
    assert conflicts(bench) == {}
    for _ in range(2):
        handler(bench.batch(with_line(1, quantity=2)), CONTEXT)
    assert conflicts(bench) == {"visit.ended": 1}
    handler(bench.batch(with_line(1, quantity=3), with_line(1, quantity=1), with_line(1, quantity=4)), CONTEXT)
    assert conflicts(bench) == {"visit.ended": 3}
    assert effects(bench, seen) == ["offload.clinic#visit.ended:1"]
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    told = [line for line in lines if line["message"] == "conflicting repeat"]
    assert {line["event_id"] for line in told} == {"visit.ended:1"}
    assert len(told) == 4


def test_the_same_data_written_in_another_way_is_no_conflict(bench: Bench) -> None:
    handler = transactional(bench, Seen([]))
    plainly = with_line(1, description="Caf\u00e9")
    rewritten = json.dumps(json.loads(plainly), ensure_ascii=False, indent=2, sort_keys=True)
    handler(bench.batch(plainly), CONTEXT)
    handler(bench.batch(rewritten), CONTEXT)
    assert conflicts(bench) == {}


class Unspeakable(Exception):
    """An exception whose text cannot be made."""

    def __str__(self) -> str:
        raise RuntimeError("no text")


@pytest.mark.parametrize("kind", [transactional_consumer, consumer])
@pytest.mark.parametrize("raised", [SystemExit(1), Unspeakable(), RecursionError(), MemoryError(), Exception("\ud800")])
def test_whatever_a_handler_raises_for_one_event_is_that_event_s_outcome(
    bench: Bench, kind: Any, raised: BaseException, capsys: pytest.CaptureFixture[str]
) -> None:
    seen = Seen([])

    def decide(given: Any) -> Effect:
        events = [given] if isinstance(given, Event) else list(given)
        if any(event.data.visit == "9" for event in events):
            raise raised
        if isinstance(given, Event):
            seen.keys.append(given.key)
        rows: sums.Rows = {event.key: [1] for event in events}
        return Effect(postings=(sums.Posting(bench.figures, list(rows), {"all": rows}),))

    handler = kind(VisitEnded)(decide)
    batch = bench.batch(visit(1), visit(9), visit(2), visit(3))
    bad = next(record for record in batch["Records"] if '"9"' in record["body"])
    assert handler(batch, CONTEXT) == {"batchItemFailures": [{"itemIdentifier": bad["messageId"]}]}
    assert effects(bench, seen) == [f"offload.clinic#visit.ended:{number}" for number in (1, 2, 3)]
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert {line["outcome"] for line in lines if line["message"] == "record"} == {"done", "retry"}

    handler(bench.batch(visit(9), attempt=3), CONTEXT)
    (letter,) = bench.dead_letters()
    assert (letter["reason"], letter["event_id"]) == ("retries-exhausted", "visit.ended:9")
    assert type(raised).__name__ in letter["detail"]


class Divided(EventData, frozen=True, kw_only=True):
    """A contract whose own check raises what nobody expects of one."""

    TYPE: ClassVar[str] = "visit.ended"
    SOURCE: ClassVar[str] = "offload.clinic"

    parts: int

    def __post_init__(self) -> None:
        100 // self.parts


def test_a_contract_s_own_check_may_raise_anything(bench: Bench) -> None:
    seen: list[int] = []

    @consumer(Divided)
    def handler(event: Event[Divided]) -> None:
        seen.append(event.data.parts)

    def divided(parts: int) -> str:
        envelope = {"specversion": "1.0", "id": f"d:{parts}", "source": "offload.clinic", "type": "visit.ended"}
        return message({**envelope, "time": "2010-12-01T08:26:00Z", "data": {"parts": parts}})

    assert handler(bench.batch(divided(1), divided(0), divided(2)), CONTEXT) == {"batchItemFailures": []}
    assert sorted(seen) == [1, 2]
    (letter,) = bench.dead_letters()
    assert (letter["reason"], letter["detail"]) == (
        "broken-contract",
        "data: cannot be read by its contract (ZeroDivisionError)",
    )


def publishing(bench: Bench, caused: Callable[[Event[VisitEnded]], list[Event[Any]]]) -> Handler:
    @transactional_consumer(VisitEnded)
    def handler(events: Sequence[Event[VisitEnded]]) -> Effect:
        rows: sums.Rows = {event.key: [1] for event in events}
        posting = sums.Posting(bench.figures, list(rows), {"all": rows})
        return Effect(postings=(posting,), publications={event.key: caused(event) for event in events})

    return handler


def low(event: Event[Any], item: str = "22423", units: int = 1) -> Event[SupplyLow]:
    fact = SupplyLow(
        item=item, units=units, low_below=9, cause=event.id, cause_source=event.source, caused_at=event.time
    )
    return fact.event()


@pytest.mark.parametrize(
    ("caused", "reason"),
    [
        (lambda event: Event(**{**_fields(low(event)), "id": "x" * 257}), "broken-contract"),
        (lambda event: Event(**{**_fields(low(event)), "time": datetime(1, 1, 1, tzinfo=UTC)}), "broken-contract"),
        (lambda event: [low(event, "A" * 200, units) for units in range(3_000)], "effect-too-large"),
    ],
    ids=["an id that is too long", "a time in year 1", "more than an inbox entry holds"],
)
def test_an_effect_whose_publications_nobody_could_read_is_not_written(
    bench: Bench, caused: Callable[[Event[Any]], Any], reason: str
) -> None:
    def publications(event: Event[VisitEnded]) -> list[Event[Any]]:
        if event.data.visit != "9":
            return [low(event)]
        made = caused(event)
        return made if isinstance(made, list) else [made]

    handler = publishing(bench, publications)
    assert handler(bench.batch(visit(1), visit(9), visit(2)), CONTEXT) == {"batchItemFailures": []}
    assert effects(bench, Seen([])) == ["offload.clinic#visit.ended:1", "offload.clinic#visit.ended:2"]
    (letter,) = bench.dead_letters()
    assert (letter["reason"], letter["event_id"]) == (reason, "visit.ended:9")


def _fields(event: Event[Any]) -> dict[str, Any]:
    return {name: getattr(event, name) for name in event.__struct_fields__}


def test_what_one_event_causes_is_not_mixed_with_what_its_namesake_of_another_source_causes(bench: Bench) -> None:
    handler = publishing(bench, lambda event: [low(event)])
    handler(bench.batch(visit(1), of_visit(1, source="another.clinic")), CONTEXT)
    assert sorted(each["id"] for each in bench.publications()) == [
        "supply.low:22423:another.clinic:visit.ended:1",
        "supply.low:22423:offload.clinic:visit.ended:1",
    ]


def test_an_effect_that_names_no_event_of_its_batch_is_refused_before_it_is_written(bench: Bench) -> None:
    @transactional_consumer(VisitEnded)
    def handler(events: Sequence[Event[VisitEnded]]) -> Effect:
        return Effect(publications={event.id: [low(event)] for event in events})

    batch = bench.batch(visit(1))
    assert len(handler(batch, CONTEXT)["batchItemFailures"]) == 1
    assert bench.done() == {}


def test_a_low_item_has_an_event_however_long_its_names_are() -> None:
    event = VisitEnded(
        visit="9" * 240, ended_at=datetime(2010, 12, 1, tzinfo=UTC), ward="France", lines=visit(1).data.lines
    ).event()
    fact = low(event, "P" * 256)
    assert len(fact.id) <= 256
    assert fact.id != low(event, "P" * 255 + "Q").id


TEXT = st.text(alphabet=st.sampled_from("ab#%:~"), max_size=6)


@given(st.tuples(TEXT, TEXT), st.tuples(TEXT, TEXT))
def test_two_events_have_two_keys(one: tuple[str, str], other: tuple[str, str]) -> None:
    assert (event_key(*one) == event_key(*other)) == (one == other)
    assert split_event_key(event_key(*one)) == one


@given(st.tuples(TEXT, TEXT, TEXT), st.tuples(TEXT, TEXT, TEXT), st.sampled_from([1, 60]))
def test_what_follows_from_other_things_has_another_id(
    one: tuple[str, ...], other: tuple[str, ...], times: int
) -> None:
    long, longer = tuple(part * times for part in one), tuple(part * times for part in other)
    assert (derived_key(*long) == derived_key(*longer)) == (long == longer)
    assert len(derived_key(*long)) <= 180
