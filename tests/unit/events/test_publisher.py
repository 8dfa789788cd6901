"""The publisher against a bus that misbehaves."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clinic.contracts.visits import VisitEnded, VisitLine
from offload.client.publisher import (
    REQUEST_BYTES,
    EventTooLarge,
    NotPublished,
    Published,
    Publisher,
    Retries,
)
from offload.contracts.events.entry import Entry
from offload.contracts.events.event import BrokenContract, Event
from tests.unit.events.bus_server import Answer, Bus, serving

MOMENT = datetime(2010, 12, 1, 8, 26, tzinfo=UTC)


def ended(visit: str, *, description: str = "WHITE HANGING HEART", lines: int = 1) -> Event[VisitEnded]:
    line = VisitLine(item="85123A", quantity=6, unit_price=Decimal("2.55"), description=description)
    return VisitEnded(visit=visit, ended_at=MOMENT, ward="United Kingdom", lines=(line,) * lines).event()


def many_ended(count: int) -> list[Event[VisitEnded]]:
    return [ended(f"{536365 + number}") for number in range(count)]


def ids(events: list[Event[Any]]) -> list[str]:
    return [event.id for event in events]


@dataclass
class Time:
    """A clock that moves only by sleeping."""

    now: float = 0.0
    pauses: list[float] = field(default_factory=list)
    widest: list[float] = field(default_factory=list)

    def sleep(self, seconds: float) -> None:
        self.pauses.append(seconds)
        self.now += seconds

    def jitter(self, low: float, high: float) -> float:
        assert low == 0
        self.widest.append(high)
        return high / 2


@pytest.fixture
def bus() -> Iterator[Bus]:
    with serving() as bus:
        yield bus


@pytest.fixture
def time() -> Time:
    return Time()


@pytest.fixture
def publisher(bus: Bus, time: Time) -> Publisher:
    return publisher_of(bus, time)


def publisher_of(bus: Bus, time: Time, retries: Retries | None = None) -> Publisher:
    return Publisher(
        "visits", events=bus.client(), retries=retries, sleep=time.sleep, clock=lambda: time.now, jitter=time.jitter
    )


def test_an_event_arrives_as_a_cloudevent_that_rules_can_match(publisher: Publisher, bus: Bus) -> None:
    publisher.publish(ended("536365"))

    (entry,) = bus.taken
    assert (entry["EventBusName"], entry["Source"], entry["DetailType"]) == ("visits", "offload.clinic", "visit.ended")
    detail = entry["detail"]
    assert detail["id"] == "visit.ended:536365"
    assert detail["specversion"] == "1.0"
    assert detail["time"] == "2010-12-01T08:26:00Z"
    assert detail["data"]["lines"][0]["unit_price"] == "2.55"


def test_the_bus_stamps_when_it_took_an_event_so_that_replays_go_by_that_time(publisher: Publisher, bus: Bus) -> None:
    publisher.publish(ended("536365"))

    assert "Time" not in bus.requests[0][0]


def test_many_events_go_ten_to_a_request_in_their_order(publisher: Publisher, bus: Bus) -> None:
    events = many_ended(25)

    assert publisher.publish_many(iter(events)) == Published(count=25, entries=25, claim_checks=0)

    assert [len(request) for request in bus.requests] == [10, 10, 5]
    assert bus.ids == ids(events)


def test_a_request_stays_under_the_size_that_the_bus_takes(publisher: Publisher, bus: Bus) -> None:
    events = [ended(f"{number}", description="x" * 300_000) for number in range(7)]

    publisher.publish(*events)

    assert [len(request) for request in bus.requests] == [3, 3, 1]
    assert bus.ids == ids(events)


def test_nothing_is_asked_of_the_bus_for_no_events(publisher: Publisher, bus: Bus) -> None:
    assert publisher.publish_many([]) == Published(count=0, entries=0, claim_checks=0)
    assert bus.requests == []


def test_only_the_entries_that_failed_are_sent_again(publisher: Publisher, bus: Bus) -> None:
    events = many_ended(10)
    bus.script = [Answer(failing={2: "InternalFailure", 7: "ThrottlingException"}), Answer(failing={1: "Odd"})]

    sent = publisher.publish_many(events)

    assert bus.asked()[1:] == [[events[2].id, events[7].id], [events[7].id]]
    assert sorted(bus.ids) == sorted(ids(events))
    assert sent.entries == 13


def test_a_failure_says_which_events_are_out_and_which_are_not(publisher: Publisher, bus: Bus) -> None:
    events = many_ended(3)
    bus.decide = lambda entries: Answer(
        failing={at: "InternalFailure" for at, entry in enumerate(entries) if "536366" in entry["Detail"]}
    )

    with pytest.raises(NotPublished, match=r"1 of 3 .*visit.ended:536366: InternalFailure \(told to\)") as caught:
        publisher.publish(*events)

    assert caught.value.failures == [("visit.ended:536366", "InternalFailure", "told to")]
    assert caught.value.published == ["visit.ended:536365", "visit.ended:536367"]
    assert sorted(bus.ids) == sorted(caught.value.published)
    assert sum("visit.ended:536366" in asked for asked in bus.asked()) == Retries().attempts


def test_an_entry_that_can_never_pass_is_tried_once(publisher: Publisher, bus: Bus) -> None:
    bus.script = [Answer(failing={0: "MalformedDetail"})]

    with pytest.raises(NotPublished, match="MalformedDetail"):
        publisher.publish(*many_ended(2))

    assert len(bus.requests) == 1


@pytest.mark.parametrize(
    "trouble",
    [
        Answer(status=400, code="ThrottlingException", take=False),
        Answer(status=500, code="InternalFailure", take=False),
        Answer(status=503, body=b"<html>busy</html>", take=False),
        Answer(reset=True, take=False),
        Answer(body=b"not JSON", take=False),
        Answer(body=b'{"FailedEntryCount":0,"Entries":[]}', take=False),
    ],
    ids=["throttled", "error", "bad gateway", "connection reset", "unreadable answer", "short answer"],
)
def test_a_request_that_fails_for_the_moment_is_sent_again(publisher: Publisher, bus: Bus, trouble: Answer) -> None:
    events = many_ended(12)
    bus.script = [trouble, trouble]

    publisher.publish(*events)

    assert bus.ids == ids(events)
    assert [len(request) for request in bus.requests] == [10, 10, 10, 2]


def test_an_event_whose_answer_was_lost_is_repeated_under_the_same_id(publisher: Publisher, bus: Bus) -> None:
    bus.script = [Answer(reset=True)]

    publisher.publish(ended("536365"))

    assert bus.ids == ["visit.ended:536365", "visit.ended:536365"]


def test_pauses_double_with_full_jitter(publisher: Publisher, bus: Bus, time: Time) -> None:
    bus.decide = lambda _: Answer(status=400, code="ThrottlingException", take=False)

    with pytest.raises(NotPublished):
        publisher.publish(*many_ended(1))

    assert time.widest == [0.1, 0.2, 0.4, 0.8, 1.6]
    assert time.pauses == [widest / 2 for widest in time.widest]


def test_a_bus_that_is_away_is_not_asked_for_every_event(publisher: Publisher, bus: Bus) -> None:
    events = many_ended(500)
    bus.decide = lambda _: Answer(reset=True, take=False)

    with pytest.raises(NotPublished) as caught:
        publisher.publish_many(events)

    assert len(bus.requests) == Retries().attempts
    assert [failure.event_id for failure in caught.value.failures] == ids(events)
    assert caught.value.published == []


def test_a_bus_that_nobody_listens_at_is_a_failure_by_event(time: Time) -> None:
    with serving() as bus:
        publisher = publisher_of(bus, time)

    with pytest.raises(NotPublished, match="EndpointConnectionError"):
        publisher.publish(*many_ended(2))


def test_a_call_ends_at_its_deadline_with_what_it_has_done(bus: Bus, time: Time) -> None:
    def slow(_: list[dict[str, Any]]) -> Answer:
        time.now += 4.0
        return Answer()

    bus.decide = slow
    with pytest.raises(NotPublished, match="DeadlineExceeded") as caught:
        publisher_of(bus, time, Retries(deadline=10.0)).publish_many(many_ended(100))

    assert len(caught.value.published) == len(bus.taken) == 30
    assert len(caught.value.failures) == 70


def test_a_denied_publisher_stops_at_once(publisher: Publisher, bus: Bus) -> None:
    bus.decide = lambda _: Answer(status=400, code="AccessDeniedException", take=False)

    with pytest.raises(NotPublished, match="AccessDeniedException") as caught:
        publisher.publish_many(many_ended(30))

    assert len(bus.requests) == 1
    assert len(caught.value.failures) == 30


def test_a_request_that_one_entry_spoils_costs_that_entry_only(publisher: Publisher, bus: Bus) -> None:
    events = many_ended(12)
    bus.decide = lambda entries: (
        Answer(status=400, code="ValidationException", take=False)
        if any("536369" in entry["Detail"] for entry in entries)
        else Answer()
    )

    with pytest.raises(NotPublished) as caught:
        publisher.publish_many(events)

    assert [failure[:2] for failure in caught.value.failures] == [("visit.ended:536369", "ValidationException")]
    assert sorted(bus.ids) == sorted(set(ids(events)) - {"visit.ended:536369"})


def changed(event: Event[VisitEnded], **attributes: Any) -> Event[VisitEnded]:
    return msgspec.structs.replace(event, **attributes)


def with_data(event: Event[VisitEnded], **fields: Any) -> Event[VisitEnded]:
    return changed(event, data=msgspec.structs.replace(event.data, **fields))


@pytest.mark.parametrize(
    ("broken", "field"),
    [
        (lambda event: with_data(event, lines=()), r"data\.lines"),
        (lambda event: with_data(event, ward=7), r"data\.ward"),
        (lambda event: with_data(event, ended_at=datetime(2010, 12, 1)), r"data\.ended_at"),  # noqa: DTZ001
        (lambda event: with_data(event, patient="\ud800"), "has no JSON"),
        (lambda event: with_data(event, patient=object()), "has no JSON"),
        (lambda event: changed(event, type="visit.lost"), "type: 'visit.lost'"),
        (lambda event: changed(event, source="elsewhere"), "source: 'elsewhere'"),
        (lambda event: changed(event, dataschema="urn:offload:visit.ended:9"), "dataschema"),
        (lambda event: changed(event, subject=7), r"envelope\.subject"),
        (lambda event: changed(event, data=None), "has no JSON"),
    ],
)
def test_a_broken_event_is_refused_by_id_and_field_before_anything_is_sent(
    publisher: Publisher, bus: Bus, broken: Callable[[Event[VisitEnded]], Event[VisitEnded]], field: str
) -> None:
    good = ended("536365")

    with pytest.raises(BrokenContract, match=rf"visit.ended:666.*{field}"):
        publisher.publish(good, broken(ended("666")), good)

    assert bus.requests == []


def test_an_event_whose_id_is_too_long_is_refused(publisher: Publisher) -> None:
    with pytest.raises(BrokenContract, match=r"envelope\.id"):
        publisher.publish(changed(ended("1"), id="x" * 257))


def test_what_is_sent_is_what_a_consumer_reads_even_of_a_number_where_the_contract_says_decimal() -> None:
    event = with_data(ended("1"), lines=[VisitLine(item="1", quantity=1, unit_price=Decimal(2))])
    loose = msgspec.structs.replace(event.data.lines[0])
    msgspec.structs.force_setattr(loose, "unit_price", 2.5)

    detail = json.loads(Entry.of(with_data(event, lines=[loose])).detail)

    assert detail["data"]["lines"][0]["unit_price"] == "2.5"


def test_a_large_event_is_refused_before_anything_is_sent_where_there_is_no_claims_bucket(
    publisher: Publisher, bus: Bus
) -> None:
    with pytest.raises(EventTooLarge, match=r"visit.ended:2.*1000\d{3} bytes.*no claims bucket"):
        publisher.publish(ended("1"), ended("2", description="x" * REQUEST_BYTES))

    assert bus.requests == []


@settings(max_examples=200, deadline=None)
@given(st.text(alphabet=st.characters(exclude_categories=["Cs"]), max_size=300))
def test_an_entry_is_measured_as_large_as_any_json_writer_may_make_it(text: str) -> None:
    entry = Entry.of(ended("1", description=text))
    rewritten = json.dumps(json.loads(entry.detail), separators=(",", ":"), ensure_ascii=True)

    assert entry.size() == len("offload.clinic") + len("visit.ended") + len(rewritten)


def test_importing_the_publisher_loads_neither_boto3_nor_a_database_library() -> None:
    code = "import offload.client.publisher, sys; sys.exit(bool({'boto3', 'botocore', 'sqlalchemy'} & {*sys.modules}))"

    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
