"""Dead letters against real queues: listed without disturbing them, sent through again without losing one."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Callable
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest
from typer.testing import CliRunner

from offload.cli.deployment.failure import Failure
from offload.cli.deployment.resources import Consumer
from offload.cli.events import dead_letter_commands, dead_letters
from offload.cli.events.dead_letters import FUNCTION_DIED, UNDELIVERABLE, DeadLetters, Wanted
from offload.cli.events.dropped import Dropped, dropped_of
from offload.project import PROJECT
from offload.runtime.reasons import Reason
from tests.conftest import new_table
from tests.patience import PATIENCE, queue_without_redelivery

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient
    from mypy_boto3_sqs import SQSClient


class Bench:
    """Two consumers' queues, real ones."""

    def __init__(self, sqs: SQSClient, dynamodb: DynamoDBClient) -> None:
        self.sqs, self.dynamodb = sqs, dynamodb
        self.consumers = [
            self._consumer("VisitLedger", "visit_ledger"),
            self._consumer("SupplyLevels", "supply_levels"),
        ]
        self.dead_letters = DeadLetters(sqs, self.consumers, wait_seconds=0)

    def _consumer(self, name: str, folder: str) -> Consumer:
        urls = [
            queue_without_redelivery(self.sqs, f"{name}-{role}-{uuid.uuid4().hex[:8]}")
            for role in ("queue", "dead", "undeliverable")
        ]
        table = new_table(self.dynamodb, f"{name}-{uuid.uuid4().hex[:8]}")
        return Consumer(name, folder, (), urls[0], urls[1], urls[2], name, f"/{name}", table, "offload-local-clinic")

    def dies(self, consumer: int, event_id: str, reason: str = "broken-contract", **more: str) -> str:
        """Puts a letter where the consumer's runtime puts it; returns its id."""
        said = {"reason": reason, "consumer": self.consumers[consumer].name, "event_id": event_id, **more}
        sent = self.sqs.send_message(
            QueueUrl=self.consumers[consumer].dead_letter_queue_url,
            MessageBody=body_of(event_id),
            MessageAttributes={name: {"DataType": "String", "StringValue": value} for name, value in said.items()},
        )
        return sent["MessageId"]

    def waiting(self, url: str) -> list[str]:
        """The event ids in a queue, which is emptied."""
        ids: list[str] = []
        while found := self.sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10).get("Messages"):
            ids += [json.loads(message["Body"])["detail"]["id"] for message in found]
            for message in found:
                self.sqs.delete_message(QueueUrl=url, ReceiptHandle=message["ReceiptHandle"])
        return sorted(ids)


def body_of(event_id: str) -> str:
    return json.dumps({"id": "b-1", "detail-type": "visit.ended", "detail": {"id": event_id, "type": "visit.ended"}})


def until(condition: Callable[[], bool]) -> None:
    ends = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < ends, "the condition did not come true in time"
        time.sleep(0.05)


@pytest.fixture
def bench(sqs: SQSClient, dynamodb: DynamoDBClient) -> Bench:
    return Bench(sqs, dynamodb)


def test_a_letter_says_who_gave_up_why_and_on_what(bench: Bench) -> None:
    id_ = bench.dies(
        0, "visit.ended:1", detail="data.lines: too short", event_type="visit.ended", attempt="2",
        request_id="r-1", failed_at="2026-11-23T10:00:00Z",
    )  # fmt: skip
    (letter,) = bench.dead_letters.listing().letters
    assert letter.summary() == {
        "id": id_,
        "consumer": "VisitLedger",
        "reason": "broken-contract",
        "detail": "data.lines: too short",
        "event_id": "visit.ended:1",
        "event_type": "visit.ended",
        "attempt": 2,
        "request_id": "r-1",
        "failed_at": "2026-11-23T10:00:00Z",
    }
    assert letter.body == body_of("visit.ended:1")


def test_a_message_that_sqs_moved_itself_is_told_as_a_function_that_died(bench: Bench) -> None:
    consumer = bench.consumers[0]
    attributes: Any = bench.sqs.get_queue_attributes(
        QueueUrl=consumer.dead_letter_queue_url, AttributeNames=["QueueArn"]
    )
    policy = {"deadLetterTargetArn": attributes["Attributes"]["QueueArn"], "maxReceiveCount": 1}
    bench.sqs.set_queue_attributes(QueueUrl=consumer.queue_url, Attributes={"RedrivePolicy": json.dumps(policy)})
    bench.sqs.send_message(QueueUrl=consumer.queue_url, MessageBody=body_of("visit.ended:7"))

    def died() -> bool:
        bench.sqs.receive_message(QueueUrl=consumer.queue_url, VisibilityTimeout=0)
        return bool(bench.dead_letters.listing(Wanted("VisitLedger")).letters)

    until(died)
    (letter,) = bench.dead_letters.listing().letters
    assert (letter.reason, letter.event_id, letter.event_type) == (FUNCTION_DIED, "visit.ended:7", "visit.ended")
    assert letter.failed_at


def test_an_event_that_the_bus_could_not_hand_over_is_undeliverable_with_the_bus_s_words(bench: Bench) -> None:
    bench.sqs.send_message(
        QueueUrl=bench.consumers[1].rule_dead_letter_queue_url or "",
        MessageBody=body_of("visit.ended:9"),
        MessageAttributes={
            "ERROR_CODE": {"DataType": "String", "StringValue": "NO_PERMISSIONS"},
            "ERROR_MESSAGE": {"DataType": "String", "StringValue": "not authorized"},
            "RETRY_ATTEMPTS": {"DataType": "Number", "StringValue": "3"},
        },
    )
    (letter,) = bench.dead_letters.listing().letters
    assert (letter.consumer, letter.reason) == ("SupplyLevels", UNDELIVERABLE)
    assert letter.detail == "NO_PERMISSIONS: not authorized"
    assert letter.attempt == 3
    assert bench.dead_letters.redrive().by_reason == {UNDELIVERABLE: 1}
    assert bench.waiting(bench.consumers[1].queue_url) == ["visit.ended:9"]


@pytest.mark.parametrize("body", ["no json", "[]", '{"detail": 5}', '{"detail": {"id": 5}}', "{" * 5000])
def test_a_message_that_nobody_can_read_is_listed_all_the_same(bench: Bench, body: str) -> None:
    bench.sqs.send_message(QueueUrl=bench.consumers[0].dead_letter_queue_url, MessageBody=body)
    (letter,) = bench.dead_letters.listing().letters
    assert (letter.reason, letter.event_id, letter.body) == (FUNCTION_DIED, "", body)


def test_listing_shows_all_of_a_queue_of_several_pages_and_leaves_them_visible(bench: Bench) -> None:
    for number in range(37):
        bench.dies(0, f"visit.ended:{number}")
    first = bench.dead_letters.listing()
    again = bench.dead_letters.listing()
    assert len(first.letters) == 37
    assert first.complete
    assert {letter.id for letter in again.letters} == {letter.id for letter in first.letters}


def test_listing_stops_at_the_limit_and_says_so(bench: Bench) -> None:
    for number in range(25):
        bench.dies(0, f"visit.ended:{number}")
    listing = bench.dead_letters.listing(limit=20)
    assert len(listing.letters) == 20
    assert not listing.complete
    assert len(bench.dead_letters.listing(limit=25).letters) == 25
    assert bench.dead_letters.listing(limit=25).complete


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        (Wanted("VisitLedger"), {"a", "b"}),
        (Wanted("supply_levels"), {"c"}),
        (Wanted(reason="claim-missing"), {"b", "c"}),
        (Wanted("VisitLedger", "claim-missing"), {"b"}),
        (Wanted(id="a"), {"a"}),
        (Wanted(id="nothing"), set()),
    ],
)
def test_letters_are_found_and_redriven_by_consumer_reason_and_id(
    bench: Bench, wanted: Wanted, found: set[str]
) -> None:
    bench.dies(0, "a")
    bench.dies(0, "b", "claim-missing")
    bench.dies(1, "c", "claim-missing")
    assert {letter.event_id for letter in bench.dead_letters.listing(wanted).letters} == found
    assert bench.dead_letters.redrive(wanted).count == len(found)
    assert {letter.event_id for letter in bench.dead_letters.listing().letters} == {"a", "b", "c"} - found
    sent = [*bench.waiting(bench.consumers[0].queue_url), *bench.waiting(bench.consumers[1].queue_url)]
    assert set(sent) == found


def test_an_unknown_consumer_is_one_line_with_the_names_there_are(bench: Bench) -> None:
    with pytest.raises(Failure, match="no consumer 'Ledger': VisitLedger, SupplyLevels"):
        bench.dead_letters.listing(Wanted("Ledger"))


def test_a_redriven_letter_arrives_as_it_first_came_without_what_was_said_of_it(bench: Bench) -> None:
    id_ = bench.dies(0, "visit.ended:1")
    assert bench.dead_letters.redrive(Wanted(id=id_)).by_consumer == {"VisitLedger": 1}
    (message,) = bench.sqs.receive_message(
        QueueUrl=bench.consumers[0].queue_url, MessageAttributeNames=["All"], MessageSystemAttributeNames=["All"]
    )["Messages"]
    assert message["Body"] == body_of("visit.ended:1")
    assert "MessageAttributes" not in message
    assert message["Attributes"]["ApproximateReceiveCount"] == "1"


def test_many_large_letters_go_through_again_within_the_size_of_a_batch(bench: Bench) -> None:
    large = json.dumps({"detail": {"id": "large", "padding": "x" * 400_000}})
    for _ in range(12):
        bench.sqs.send_message(QueueUrl=bench.consumers[0].dead_letter_queue_url, MessageBody=large)
    redriven = bench.dead_letters.redrive()
    assert (redriven.count, redriven.refused) == (12, 0)
    assert bench.waiting(bench.consumers[0].queue_url) == ["large"] * 12


class _Interrupted(Exception):
    pass


def test_a_redrive_that_is_cut_off_loses_nothing(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(15):
        bench.dies(0, f"e{number:02}")

    def cut_off(**_: object) -> None:
        raise _Interrupted

    # The moment between sending and deleting; everything else is real.
    monkeypatch.setattr(bench.sqs, "delete_message_batch", cut_off)
    with pytest.raises(_Interrupted):
        bench.dead_letters.redrive()
    monkeypatch.undo()
    assert bench.dead_letters.redrive().count == 15, "the letters of the interrupted batch are visible at once"
    assert set(bench.waiting(bench.consumers[0].queue_url)) == {f"e{number:02}" for number in range(15)}


@pytest.mark.slow
@pytest.mark.parametrize("together", [5, 5_000])
def test_a_letter_that_dies_again_at_once_is_not_sent_a_second_time(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, together: int
) -> None:
    monkeypatch.setattr(dead_letters, "REDRIVEN_TOGETHER", together)
    for number in range(20):
        bench.dies(0, f"e{number}")
    queue, dead = bench.consumers[0].queue_url, bench.consumers[0].dead_letter_queue_url
    second = int(time.time())
    until(lambda: int(time.time()) > second + 1)

    def die_again(_: int) -> None:
        while messages := bench.sqs.receive_message(QueueUrl=queue, MaxNumberOfMessages=10).get("Messages", []):
            for message in messages:
                bench.sqs.send_message(QueueUrl=dead, MessageBody=message["Body"])
                bench.sqs.delete_message(QueueUrl=queue, ReceiptHandle=message["ReceiptHandle"])

    assert bench.dead_letters.redrive(progress=die_again).count == 20
    assert len(bench.dead_letters.listing().letters) == 20


NOW = datetime(2026, 11, 29, 12, 0, tzinfo=UTC)


def test_a_dropped_letter_is_gone_and_recorded_with_why(bench: Bench) -> None:
    bench.dies(0, "visit.ended:1", detail="no such ward")
    bench.dies(0, "visit.ended:2", detail="no such ward")
    bench.dies(0, "visit.ended:3", detail="a timeout")
    handled = bench.dead_letters.drop(Wanted(text="NO SUCH"), "test data", dynamodb=bench.dynamodb, now=NOW)
    assert sorted(letter.event_id for letter in handled.letters) == ["visit.ended:1", "visit.ended:2"]
    assert [letter.event_id for letter in bench.dead_letters.listing().letters] == ["visit.ended:3"]
    table = str(bench.consumers[0].marks_table)
    assert sorted(dropped_of(bench.dynamodb, table)) == [
        Dropped(
            f"event##visit.ended:{number}",
            "visit.ended",
            "broken-contract",
            "no such ward",
            "test data",
            "2026-11-29T12:00:00Z",
        )
        for number in (1, 2)
    ]
    assert bench.waiting(bench.consumers[0].queue_url) == []


def test_a_drop_that_is_cut_off_before_the_deletion_is_done_by_the_next_and_counts_once(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.dies(0, "visit.ended:1")
    with monkeypatch.context() as patched:
        patched.setattr(DeadLetters, "_delete", lambda *_: (_ for _ in ()).throw(ConnectionError("cut off")))
        with pytest.raises(ConnectionError):
            bench.dead_letters.drop(Wanted(consumer="VisitLedger"), "no", dynamodb=bench.dynamodb, now=NOW)
    assert len(bench.dead_letters.listing().letters) == 1
    bench.dead_letters.drop(Wanted(consumer="VisitLedger"), "again", dynamodb=bench.dynamodb, now=NOW)
    assert bench.dead_letters.listing().letters == ()
    assert [each.because for each in dropped_of(bench.dynamodb, str(bench.consumers[0].marks_table))] == ["no"]


def test_a_letter_whose_event_has_no_name_that_a_table_could_have_is_dropped_too(bench: Bench) -> None:
    body = json.dumps({"id": "b", "detail": {"id": "\U0001f600" * 900 + "\ud800", "source": "s"}})
    for text in (body, "not json"):
        bench.sqs.send_message(QueueUrl=bench.consumers[0].dead_letter_queue_url, MessageBody=text)
    handled = bench.dead_letters.drop(Wanted(reason=FUNCTION_DIED), "noise", dynamodb=bench.dynamodb, now=NOW)
    assert handled.count == 2
    assert len(list(dropped_of(bench.dynamodb, str(bench.consumers[0].marks_table)))) == 2


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        (Wanted(event_type="visit.ended"), ["1", "2"]),
        (Wanted(event_type="supply.low"), []),
        (Wanted(text="time"), ["2"]),
        (Wanted(since=datetime(2026, 11, 2, tzinfo=UTC)), ["2"]),
        (Wanted(until=datetime(2026, 11, 2, tzinfo=UTC)), ["1"]),
        (Wanted(since=datetime(2026, 11, 1, tzinfo=UTC), until=datetime(2026, 11, 4, tzinfo=UTC)), ["1", "2"]),
    ],
)
def test_letters_are_chosen_by_type_text_and_time(bench: Bench, wanted: Wanted, found: list[str]) -> None:
    bench.dies(0, "1", detail="AccessDenied", failed_at="2026-11-01T10:00:00Z")
    bench.dies(0, "2", detail="A TimeOut", failed_at="2026-11-03T10:00:00Z")
    letters = bench.dead_letters.listing(wanted).letters
    assert [letter.event_id for letter in letters] == found


def ran(bench: Bench, monkeypatch: pytest.MonkeyPatch, *arguments: str) -> Any:
    monkeypatch.setattr(dead_letter_commands, "_dead_letters", lambda _: bench.dead_letters)
    monkeypatch.setattr(dead_letter_commands, "_dynamodb", lambda _: bench.dynamodb)
    return CliRunner().invoke(dead_letter_commands.app, arguments)


def test_the_command_drops_nothing_without_a_choice_a_reason_and_a_yes(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.dies(0, "visit.ended:1")
    for arguments, told in (
        (("--because", "x"), "drop needs to know which"),
        (("--because", " ", "--consumer", "VisitLedger"), "--because: say why"),
        (("--because", "x", "--consumer", "VisitLedger"), "nothing was dropped: --yes"),
    ):
        result = ran(bench, monkeypatch, "drop", *arguments)
        assert isinstance(result.exception, Failure)
        assert told in str(result.exception)
    counted = ran(bench, monkeypatch, "drop", "--because", "x", "--consumer", "VisitLedger", "--dry-run")
    assert "1 dead letters would be dropped: VisitLedger 1 broken-contract" in counted.stdout
    assert len(bench.dead_letters.listing().letters) == 1


def test_the_command_says_what_became_of_each_letter(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    bench.dies(0, "visit.ended:1")
    bench.dies(1, "visit.ended:2", reason="refused")
    redriven = ran(bench, monkeypatch, "redrive", "--reason", "refused", "--json")
    document = json.loads(redriven.stdout)
    assert [(each["event_id"], each["outcome"]) for each in document["dead_letters"]] == [("visit.ended:2", "redriven")]
    dropped = ran(bench, monkeypatch, "drop", "--because", "old", "--type", "visit.ended", "--yes", "--json")
    document = json.loads(dropped.stdout)
    outcomes = [(each["event_id"], each["outcome"]) for each in document["dead_letters"]]
    assert outcomes == [("visit.ended:1", "dropped")]
    assert bench.waiting(bench.consumers[1].queue_url) == ["visit.ended:2"]


def test_the_documentation_has_a_row_for_every_reason() -> None:
    documented = (PROJECT / "docs" / "dead-letters.md").read_text("utf-8")
    rows = {line.split("`")[1] for line in documented.splitlines() if line.startswith("| `")}
    assert rows == {*Reason, FUNCTION_DIED, UNDELIVERABLE}
