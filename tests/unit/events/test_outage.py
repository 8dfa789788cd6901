"""A third party is down for hours: its events wait, nothing is a dead letter, and all is done afterwards."""

from __future__ import annotations

import heapq
import json
import random
import time
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from clinic.contracts.visits import VisitEnded
from offload.contracts.events.event import Event
from offload.runtime import aws
from offload.runtime.events import consumer as consumer_module
from offload.runtime.events.consumer import consumer
from offload.runtime.http.client import Answer
from offload.runtime.http.failures import (
    CallFailed,
    CircuitOpen,
    CredentialsMissing,
    NotAnswered,
    OutOfTime,
    RateLimited,
    TooLarge,
    Unsuccessful,
)
from offload.runtime.reasons import passing
from tests.unit.events.consumer_bench import CONTEXT, Bench, message, visit

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient
    from mypy_boto3_sqs import SQSClient

BEGAN = datetime(2026, 11, 24, 12, tzinfo=UTC)
HOURS_4 = 4 * 3600


def answered(status: int) -> Unsuccessful:
    return Unsuccessful(f"it said {status}", Answer(status, {}, b""))


class Outage:
    """A consumer with its queue in injected time: messages come when they are visible, ten at most at once."""

    def __init__(self, bench: Bench, monkeypatch: pytest.MonkeyPatch, call: Callable[[str], None]) -> None:
        self.seconds = 0.0
        self.visible: dict[str, float] = {}
        self.dead: list[dict[str, str]] = []
        self.received: Counter[str] = Counter()
        monkeypatch.setenv("OFFLOAD_PATIENCE_SECONDS", str(HOURS_4))
        monkeypatch.setattr(aws, "sqs", lambda: self)
        clock = SimpleNamespace(**{**vars(time), "time": lambda: BEGAN.timestamp() + self.seconds})
        monkeypatch.setattr(consumer_module, "time", clock)

        @consumer(VisitEnded)
        def handler(event: Event[VisitEnded]) -> None:
            call(event.data.visit)

        self.handler = handler
        self.bodies: dict[str, str] = {}

    def change_message_visibility(self, *, ReceiptHandle: str, VisibilityTimeout: int, **_: Any) -> None:  # noqa: N803
        self.visible[ReceiptHandle] = self.seconds + VisibilityTimeout

    def send_message(self, *, MessageAttributes: Any, **_: Any) -> None:  # noqa: N803
        self.dead.append({name: value["StringValue"] for name, value in MessageAttributes.items()})

    def run(self, *visits: int) -> None:
        """Publishes visits, and works until none is left."""
        self.bodies = {str(each): message(json.loads(visit(each).to_json())) for each in visits}
        waiting = [(0.0, number) for number in self.bodies]
        heapq.heapify(waiting)
        while waiting:
            self.seconds = max(self.seconds, waiting[0][0])
            batch: list[str] = []
            while waiting and len(batch) < 10 and waiting[0][0] <= self.seconds:
                batch.append(heapq.heappop(waiting)[1])
            self.received.update(batch)
            failed = {each["itemIdentifier"] for each in self.handler(self._event(batch), CONTEXT)["batchItemFailures"]}
            for number in failed:
                heapq.heappush(waiting, (self.visible[number], number))

    def _event(self, batch: list[str]) -> dict[str, Any]:
        sent = str(round(BEGAN.timestamp() * 1000))
        return {
            "Records": [
                {
                    "messageId": number,
                    "receiptHandle": number,
                    "body": self.bodies[number],
                    "attributes": {"ApproximateReceiveCount": str(self.received[number]), "SentTimestamp": sent},
                }
                for number in batch
            ]
        }


@pytest.fixture
def bench(sqs: SQSClient, dynamodb: DynamoDBClient, monkeypatch: pytest.MonkeyPatch) -> Bench:
    return Bench(sqs, dynamodb, monkeypatch)


def test_an_outage_of_two_hours_costs_no_event(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[str] = []
    chance = random.Random(1)

    def call(number: str) -> None:
        if outage.seconds < timedelta(hours=2).total_seconds():
            raise chance.choice(
                [
                    answered(500),
                    CircuitOpen("open", BEGAN),
                    RateLimited("used up", timedelta(seconds=3)),
                    NotAnswered("a time-out", unknown_outcome=True),
                    OutOfTime("behind another"),
                ]
            )
        done.append(number)

    outage = Outage(bench, monkeypatch, call)
    outage.run(*range(100))
    assert outage.dead == []
    assert Counter(done) == Counter(str(each) for each in range(100))
    # Within a quarter of an hour of its end; tried some tens of times, which the queue allows (event_consumer.py).
    assert outage.seconds < timedelta(hours=2, minutes=16).total_seconds()
    assert max(outage.received.values()) <= 30


def test_what_outlives_the_patience_is_a_dead_letter_with_the_last_error(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    def call(_: str) -> None:
        raise CircuitOpen("nothing is sent to it", BEGAN) from None

    outage = Outage(bench, monkeypatch, call)
    outage.run(1)
    [letter] = outage.dead
    assert letter["reason"] == "retries-exhausted"
    assert letter["detail"] == "CircuitOpen: nothing is sent to it"
    assert HOURS_4 <= outage.seconds < HOURS_4 + 900


def test_an_event_that_fails_by_itself_has_its_attempts_also_after_an_outage(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    failed: list[float] = []

    def call(_: str) -> None:
        if outage.seconds < 3600:
            raise answered(503)
        failed.append(outage.seconds)
        raise KeyError("its own")

    outage = Outage(bench, monkeypatch, call)
    outage.run(1)
    # OFFLOAD_ATTEMPTS is 3.
    assert len(failed) == 3
    assert failed[-1] - failed[0] < 10
    assert [letter["detail"] for letter in outage.dead] == ["KeyError: 'its own'"]


def test_a_third_party_that_names_its_time_is_not_asked_before_it(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[float] = []

    def call(_: str) -> None:
        asked.append(outage.seconds)
        if len(asked) == 1:
            raise RateLimited("later", timedelta(hours=1))

    outage = Outage(bench, monkeypatch, call)
    outage.run(1)
    assert asked == [0.0, 3600.0]


def test_without_patience_an_outage_counts_as_any_failure(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    def call(_: str) -> None:
        raise answered(500)

    outage = Outage(bench, monkeypatch, call)
    monkeypatch.setenv("OFFLOAD_PATIENCE_SECONDS", "0")

    @consumer(VisitEnded)
    def handler(event: Event[VisitEnded]) -> None:
        call(event.data.visit)

    outage.handler = handler
    outage.run(1)
    assert outage.received["1"] == 3
    assert len(outage.dead) == 1


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        *[(answered(status), True) for status in (500, 503, 408, 425, 429)],
        *[(answered(status), False) for status in (400, 401, 404, 301)],
        (CredentialsMissing("none"), True),
        (TooLarge("a gigabyte"), False),
        (CallFailed("a guard's"), False),
        (KeyError("x"), False),
    ],
)
def test_what_may_pass_is_told_from_what_does_not_also_from_what_it_was_raised_from(
    error: Exception, expected: bool
) -> None:
    assert (passing(error) is not None) is expected
    wrapped = RuntimeError("the handler's own")
    wrapped.__cause__ = error
    assert (passing(wrapped) is not None) is expected
