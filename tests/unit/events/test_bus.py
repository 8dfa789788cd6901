"""How functions publish: what is sent in one request, and what becomes of entries that the bus does not take."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from botocore.exceptions import ClientError

from offload.contracts.events.entry import UNREADABLE_ANSWER, Entry, NotTaken, answered
from offload.runtime import aws, bus
from tests.unit.events.bus_server import Answer, Bus, serving


@pytest.fixture
def there() -> Iterator[Bus]:
    with serving() as there, pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ENDPOINT_URL_EVENTBRIDGE", there.url)
        patch.setenv("AWS_ACCESS_KEY_ID", "test")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "test")
        patch.setenv("AWS_DEFAULT_REGION", "eu-west-1")
        aws._client.cache_clear()
        yield there
        aws._client.cache_clear()


def entries(count: int) -> list[Entry]:
    return [Entry(f"e{number}", "source", "happened", f'{{"id": "e{number}"}}'.encode()) for number in range(count)]


def test_entries_are_sent_in_their_order_ten_a_request(there: Bus) -> None:
    bus.publish("clinic", entries(21))
    assert [len(request) for request in there.requests] == [10, 10, 1]
    assert there.ids == [f"e{number}" for number in range(21)]
    assert {entry["EventBusName"] for request in there.requests for entry in request} == {"clinic"}


def test_a_refused_entry_is_named_and_stops_what_would_come_after_it(there: Bus) -> None:
    there.script = [Answer(failing={3: "InternalFailure", 5: "ThrottlingException", 7: "InternalFailure"})]
    with pytest.raises(bus.NotPublished) as caught:
        bus.publish("clinic", entries(15))
    assert str(caught.value) == "the bus refused 3 events: InternalFailure, ThrottlingException"
    assert len(there.requests) == 1


def test_of_each_entry_it_is_said_whether_the_bus_took_it(there: Bus) -> None:
    there.script = [Answer(failing={1: "InternalFailure"})]
    assert bus.put("clinic", entries(3)) == [None, NotTaken("InternalFailure", "told to"), None]


def test_a_request_that_is_refused_whole_is_botocores_error(there: Bus) -> None:
    there.decide = lambda _: Answer(status=400, code="AccessDeniedException", take=False)
    with pytest.raises(ClientError, match="AccessDenied"):
        bus.publish("clinic", entries(1))


@pytest.mark.parametrize("answer", [{}, {"Entries": []}, {"Entries": [{"EventId": "1"}]}, {"Entries": [{}] * 3}])
def test_an_answer_for_another_number_of_entries_says_that_none_was_taken(answer: dict[str, Any]) -> None:
    found = answered(answer, 2)
    assert [why.code for why in found if why] == [UNREADABLE_ANSWER] * 2
    assert str(found[0]).endswith("entries of 2)")
