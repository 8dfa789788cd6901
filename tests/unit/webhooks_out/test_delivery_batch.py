"""Deliveries brought back in numbers: the job's own function, on real tables and queues, and replays of an archive."""

from __future__ import annotations

import importlib
import json
import sys
import time
import uuid
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, NamedTuple

import boto3
import msgspec
import pytest

from clinic import catalogue as app
from clinic.catalogue import CATALOGUE
from clinic.contracts.visits import VisitEnded, VisitLine
from offload.contracts.events.event import Event
from offload.contracts.jobs.events import JobFinished
from offload.contracts.jobs.job import Job, State
from offload.contracts.webhooks_out.message import message_of
from offload.contracts.webhooks_out.recovery import DELIVERY_BATCH, Recovered, Recovery, What, recovery_named
from offload.contracts.webhooks_out.subscription import DeliveryState, Why
from offload.runtime.webhooks_out.bus import event_of
from offload.runtime.webhooks_out.health import Signal
from offload.runtime.webhooks_out.items import Record, delivery_id, delivery_key
from offload.runtime.webhooks_out.recoveries import is_owed
from tests.conftest import new_table
from tests.misbehaving_server import Answer, MisbehavingServer
from tests.patience import queue_without_redelivery
from tests.unit.jobs.job_bench import JobBench
from tests.unit.webhooks_out.sending_bench import Clock, SendingBench

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient
    from mypy_boto3_events import EventBridgeClient
    from mypy_boto3_sqs import SQSClient

pytestmark = pytest.mark.usefixtures("aws_of_module")

NO = Answer(500, {"webhook-retry": "no"})
_names = iter(range(10_000))


class Batch:
    """The function with a job service, a sender, and a bus with its archive, whose rule leads to the planner."""

    def __init__(self, patch: pytest.MonkeyPatch, server: MisbehavingServer) -> None:
        # The bus and its archive know no time but the real one.
        self.sending = SendingBench(clock=Clock(datetime.now(UTC)))
        self.jobs = JobBench(patch, DELIVERY_BATCH)
        self.server = server
        tag = uuid.uuid4().hex[:8]
        self.sqs: SQSClient = boto3.client("sqs")
        self.events: EventBridgeClient = boto3.client("events")
        self.dynamodb: DynamoDBClient = boto3.client("dynamodb")
        self.bus = f"bus-{tag}"
        bus_arn = self.events.create_event_bus(Name=self.bus)["EventBusArn"]
        archive = self.events.create_archive(ArchiveName=f"archive-{tag}", EventSourceArn=bus_arn)["ArchiveArn"]
        self.queue = queue_without_redelivery(self.sqs, f"planner-{tag}")
        queue_arn = self.sqs.get_queue_attributes(QueueUrl=self.queue, AttributeNames=["QueueArn"])["Attributes"]
        rule = self.events.put_rule(
            Name=f"planner-{tag}", EventBusName=self.bus, EventPattern=json.dumps({"source": [{"prefix": "offload."}]})
        )["RuleArn"]
        self.events.put_targets(
            Rule=f"planner-{tag}", EventBusName=self.bus, Targets=[{"Id": "queue", "Arn": queue_arn["QueueArn"]}]
        )
        self.journal = new_table(self.dynamodb, f"journal-{tag}")
        variables = {
            "OFFLOAD_JOB": DELIVERY_BATCH.name,
            "OFFLOAD_SUBSCRIPTIONS_TABLE": self.sending.table,
            "OFFLOAD_SENDING": msgspec.json.encode(self.sending.policy).decode(),
            "OFFLOAD_SENDER_QUEUE_URL": self.sending.well,
            "OFFLOAD_SENDER_TROUBLE_QUEUE_URL": self.sending.trouble,
            "OFFLOAD_JOURNAL_TABLE": self.journal,
            "OFFLOAD_ARCHIVE": archive,
            "OFFLOAD_ARCHIVED_BUS": bus_arn,
            "OFFLOAD_ARCHIVE_LATE_MINUTES": "0",
            "OFFLOAD_PLANNER_RULE": rule,
            "OFFLOAD_CONSUMER": "Planner",
            "OFFLOAD_QUEUE_URL": self.queue,
            "OFFLOAD_DEAD_LETTER_QUEUE_URL": queue_without_redelivery(self.sqs, f"dead-{tag}"),
            "OFFLOAD_MARKS_TABLE": new_table(self.dynamodb, f"marks-{tag}"),
            "OFFLOAD_CLAIMS_BUCKET": self.jobs.name,
            "OFFLOAD_ATTEMPTS": "5",
        }
        for name, value in variables.items():
            patch.setenv(name, value)
        for name in ("handler", "missing", "replay", "failed"):
            patch.delitem(sys.modules, f"offload.functions.delivery_batch.{name}", raising=False)
        patch.delitem(sys.modules, "offload.functions.delivery_planner.handler", raising=False)
        self.function = importlib.import_module("offload.functions.delivery_batch.handler")
        self.planner = importlib.import_module("offload.functions.delivery_planner.handler")
        for part in (self.function.subscriptions, self.function.deliveries, self.planner.deliveries):
            patch.setattr(part, "_now", self.sending.clock)
        patch.setattr(self.function, "utc_now", self.sending.clock)
        # While the job waits, the planner works.
        waiting = SimpleNamespace(monotonic=time.monotonic, sleep=lambda _: self.plan())
        for name in ("missing", "replay"):
            patch.setattr(sys.modules[f"offload.functions.delivery_batch.{name}"], "time", waiting)

    def come_after_the_bus(self) -> None:
        """Sets the clock to after all that the bus has had, whose time is the real one, however slow the test is."""
        self.sending.clock.at = datetime.now(UTC) + timedelta(seconds=5)

    # What there is

    def subscribe(self, *steps: Answer, **wish: Any) -> Record:
        place = f"batch-{next(_names)}"
        self.server.script(place, steps)
        return self.sending.subscribe(self.server.url(place), **wish)

    def give_up(self, record: Record, count: int = 1, **fields: Any) -> list[str]:
        """Deliveries whose receiver said no."""
        owed = [self.sending.owe(record, **fields) for _ in range(count)]
        self.sending.work(record)
        assert {self.sending.delivery(record, event).state for event in owed} == {DeliveryState.GIVEN_UP}
        self.sending.take_tokens()
        return owed

    def publish(self, *, ward: str = "Eyes") -> Event[Any]:
        """A visit on the bus, in the archive and in the journal."""
        visit = VisitEnded(
            visit=str(900_000 + next(_names)),
            ended_at=datetime(2010, 12, 1, 8, 26, tzinfo=UTC),
            ward=ward,
            lines=(VisitLine(item="22423", quantity=1, unit_price=Decimal("12.75")),),
        )
        return self.put(visit.event())

    def put(self, event: Event[Any]) -> Event[Any]:
        """An event on the bus, in the archive and in the journal."""
        detail = event.to_json().decode()
        self.events.put_events(
            Entries=[{"EventBusName": self.bus, "Source": event.source, "DetailType": event.type, "Detail": detail}]
        )
        sent = int(time.time() * 1000)
        mark = {"pk": {"S": f"event#{event.source}#{event.id}"}, "sk": {"S": "mark"}}
        self.dynamodb.put_item(
            TableName=self.journal, Item={**mark, "type": {"S": event.type}, "sent": {"N": str(sent)}}
        )
        return event

    def plan(self) -> None:
        """What Lambda's poller does for the planner."""
        answer = self.sqs.receive_message(
            QueueUrl=self.queue, MaxNumberOfMessages=10, AttributeNames=["All"], WaitTimeSeconds=1
        )
        records: list[dict[str, Any]] = [
            {
                "messageId": each["MessageId"],
                "receiptHandle": each["ReceiptHandle"],
                "body": each["Body"],
                "attributes": each["Attributes"],
            }
            for each in answer.get("Messages", [])
        ]
        if records:
            context = SimpleNamespace(aws_request_id="planner")
            assert self.planner.handler({"Records": records}, context) == {"batchItemFailures": []}
            for record in records:
                self.sqs.delete_message(QueueUrl=self.queue, ReceiptHandle=record["receiptHandle"])

    def lose(self, record: Record, event: Event[Any]) -> None:
        """What a planner that had a bug would have left out."""
        name = delivery_id(record.id, event.source, event.id)
        self.dynamodb.delete_item(TableName=self.sending.table, Key=delivery_key(name))

    def has(self, record: Record, event: Event[Any]) -> bool:
        name = delivery_id(record.id, event.source, event.id)
        return self.sending.deliveries.there([name]) == {name}

    # The job

    def job(self, wanted: Recovery, *, attempt: int = 1, job_id: str = "") -> Job:
        self.sending.clock.at = max(self.sending.clock.at, datetime.now(UTC))
        job_id = job_id or self.jobs.submit(DELIVERY_BATCH, wanted)
        return self.jobs.run(self.jobs.handler(DELIVERY_BATCH, self.function.handler.work), job_id, attempt, 900)

    def recover(self, action: What, **wanted: Any) -> Recovered:
        """The result of a job that must succeed."""
        since = self.sending.clock() - timedelta(hours=1)
        job = self.job(Recovery(**{"action": action, "since": since, **wanted}))
        assert job.state == "succeeded", job.error
        return msgspec.json.decode(job.result or b"", type=Recovered)

    def error(self, action: What, **wanted: Any) -> str:
        """The error of a job that must fail for good."""
        since = self.sending.clock() - timedelta(hours=1)
        job = self.job(Recovery(**{"action": action, "since": since, **wanted}))
        assert job.state == "failed"
        return job.error or ""


@pytest.fixture
def batch(aws_of_module: None, server: MisbehavingServer, monkeypatch: pytest.MonkeyPatch) -> Iterator[Batch]:
    made = Batch(monkeypatch, server)
    yield made
    made.sending.close()


# -- what was given up


def test_what_was_given_up_is_counted_and_then_sent_again(batch: Batch) -> None:
    first, second = batch.subscribe(NO, NO, NO), batch.subscribe(NO)
    owed = batch.give_up(first, 3)
    batch.give_up(second)
    fine = batch.sending.owe(first)
    batch.sending.work(first)
    batch.sending.take_tokens()
    assert batch.recover(What.FAILED, dry_run=True) == Recovered(found=4, done=0, subscriptions=2)
    assert batch.sending.take_tokens() == []
    assert batch.recover(What.FAILED) == Recovered(found=4, done=4, subscriptions=2)
    assert sorted(set(batch.sending.take_tokens())) == sorted({first.id, second.id})
    assert batch.recover(What.FAILED) == Recovered(found=0, done=0, subscriptions=0)
    batch.sending.work(first, second)
    assert {batch.sending.delivery(first, event).state for event in owed} == {DeliveryState.DELIVERED}
    assert batch.sending.delivery(first, fine).sent_again == 0


def test_they_are_chosen_by_subscription_tenant_type_and_time(batch: Batch) -> None:
    first = batch.subscribe(NO, NO, tenant="acme")
    second = batch.subscribe(NO, tenant="blue")
    batch.give_up(first, type="visit.ended")
    batch.give_up(second)
    # Times are kept in milliseconds.
    begin = batch.sending.clock() - timedelta(seconds=1)
    batch.sending.clock.passes(hours=2)
    batch.give_up(first)

    def found(**wanted: Any) -> int:
        return batch.recover(What.FAILED, dry_run=True, **({"since": begin} | wanted)).found

    assert found() == 3
    assert found(subscription=first.id) == 2
    assert found(tenant="blue") == 1
    assert found(type="visit.ended") == 1
    assert found(since=begin + timedelta(hours=1)) == 1
    assert found(until=begin + timedelta(hours=1)) == 2


def test_the_time_is_that_at_which_it_was_given_up_not_that_at_which_it_was_owed(batch: Batch) -> None:
    record = batch.subscribe(Answer(500), NO)
    batch.sending.owe(record)
    batch.sending.work(record)
    batch.sending.clock.passes(hours=5)
    batch.sending.wake()
    assert batch.recover(What.FAILED, dry_run=True).found == 1


def test_what_was_erased_is_counted_apart(batch: Batch) -> None:
    record = batch.subscribe(NO, NO)
    events = batch.give_up(record, 2)
    batch.sending.deliveries.erase(delivery_id(record.id, "test", events[0]))
    assert batch.recover(What.FAILED, dry_run=True) == Recovered(found=1, done=0, subscriptions=1, gone=1)
    assert batch.recover(What.FAILED) == Recovered(found=1, done=1, subscriptions=1, gone=1)


def test_a_paused_subscription_is_owed_again_and_nobody_is_woken(batch: Batch) -> None:
    record = batch.subscribe(NO)
    [event] = batch.give_up(record)
    batch.sending.subscribing.pause(record.id)
    assert batch.recover(What.FAILED).done == 1
    assert batch.sending.delivery(record, event).state is DeliveryState.WAITING
    assert batch.sending.take_tokens() == []


def test_an_attempt_that_died_after_it_wrote_leaves_nobody_unwoken(
    batch: Batch, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = batch.subscribe(NO)
    batch.give_up(record)

    def dies(*_: Any, **__: Any) -> None:
        raise OSError("the process ends here")

    since = batch.sending.clock() - timedelta(hours=1)
    job_id = batch.jobs.submit(DELIVERY_BATCH, Recovery(action=What.FAILED, since=since))
    with monkeypatch.context() as patch:
        patch.setattr(batch.function.tokens, "send", dies)
        assert batch.job(Recovery(action=What.FAILED, since=since), job_id=job_id).state == "waiting"
    assert batch.sending.take_tokens() == []
    batch.jobs.pass_time(minutes=5)
    job = batch.job(Recovery(action=What.FAILED, since=since), job_id=job_id, attempt=2)
    assert job.state == "succeeded", job
    assert batch.sending.take_tokens() == [record.id]


def test_a_cancelled_job_stops_and_what_it_sent_again_stays(batch: Batch, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.modules["offload.functions.delivery_batch.failed"], "_AT_ONCE", 1)
    record = batch.subscribe(NO, NO, NO)
    batch.give_up(record, 3)
    since = batch.sending.clock() - timedelta(hours=1)
    job_id = batch.jobs.submit(DELIVERY_BATCH, Recovery(action=What.FAILED, since=since))
    send_again = batch.function.deliveries.send_again

    def cancels(name: str, **options: Any) -> None:
        send_again(name, **options)
        batch.jobs.store.cancel(job_id)
        batch.jobs.pass_time(seconds=5)

    monkeypatch.setattr(batch.function.deliveries, "send_again", cancels)
    assert batch.job(Recovery(action=What.FAILED, since=since), job_id=job_id).state == "cancelled"
    assert batch.sending.entries(record) == 1
    assert batch.sending.take_tokens() == [record.id]


# -- what should exist


def test_what_was_lost_is_counted_and_then_owed_though_the_planner_had_seen_it(batch: Batch) -> None:
    record = batch.subscribe(types=["visit.*"])
    lost, kept = batch.publish(), batch.publish()
    batch.plan()
    batch.plan()
    assert batch.has(record, lost)
    assert batch.has(record, kept)
    batch.lose(record, lost)
    assert batch.recover(What.MISSING, dry_run=True) == Recovered(found=1, done=0, subscriptions=1)
    assert not batch.has(record, lost)
    assert batch.recover(What.MISSING) == Recovered(found=1, done=1, subscriptions=1)
    assert batch.has(record, lost)
    assert batch.recover(What.MISSING) == Recovered(found=0, done=0, subscriptions=0)


def test_only_the_subscription_that_is_asked_for_gets_what_it_lacks(batch: Batch) -> None:
    first, second = batch.subscribe(types=["*"], tenant="acme"), batch.subscribe(types=["*"], tenant="blue")
    event = batch.publish()
    batch.plan()
    for record in (first, second):
        batch.lose(record, event)
    assert batch.recover(What.MISSING, dry_run=True).found == 2
    assert batch.recover(What.MISSING, type="visit.cancelled", dry_run=True).found == 0
    assert batch.recover(What.MISSING, tenant="acme").done == 1
    assert batch.has(first, event)
    assert not batch.has(second, event)


def test_an_event_from_before_a_subscription_is_owed_to_it_when_that_is_asked_for_alone(batch: Batch) -> None:
    event = batch.publish()
    batch.plan()
    batch.come_after_the_bus()
    late, other = batch.subscribe(types=["*"]), batch.subscribe(types=["*"])
    lost = batch.recover(What.MISSING)
    assert lost == Recovered(found=0, done=0, subscriptions=0)
    wanted = {"subscription": late.id, "before_creation": True}
    assert batch.recover(What.MISSING, **wanted, dry_run=True).found == 1
    assert batch.recover(What.MISSING, **wanted).done == 1
    assert batch.has(late, event)
    assert not batch.has(other, event)
    assert "name it" in batch.error(What.MISSING, before_creation=True)


def test_a_replay_does_not_owe_what_is_older_than_a_subscription(batch: Batch) -> None:
    early = batch.subscribe(types=["*"])
    event = batch.publish()
    batch.plan()
    batch.come_after_the_bus()
    late = batch.subscribe(types=["*"])
    batch.lose(early, event)
    assert batch.recover(What.MISSING).done == 1
    assert batch.has(early, event)
    assert not batch.has(late, event)


def test_what_a_filter_decides_on_is_counted_apart_and_decided_by_the_planner(
    batch: Batch, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = batch.subscribe(types=["*"], filter={"ward": ["Eyes"]})
    wanted, unwanted = batch.publish(ward="Eyes"), batch.publish(ward="Teeth")
    batch.plan()
    batch.plan()
    batch.lose(record, wanted)
    monkeypatch.setattr(sys.modules["offload.functions.delivery_batch.missing"], "_QUIET", timedelta(seconds=3))
    counted = batch.recover(What.MISSING, dry_run=True)
    assert counted == Recovered(found=0, done=0, subscriptions=1, at_most=2)
    assert batch.recover(What.MISSING).done == 1
    assert batch.has(record, wanted)
    assert not batch.has(record, unwanted)


def test_a_second_attempt_goes_on_with_the_replay_of_the_first(batch: Batch, monkeypatch: pytest.MonkeyPatch) -> None:
    record = batch.subscribe(types=["*"])
    event = batch.publish()
    batch.plan()
    batch.lose(record, event)
    wanted = Recovery(action=What.MISSING, since=batch.sending.clock() - timedelta(hours=1))
    job_id = batch.jobs.submit(DELIVERY_BATCH, wanted)
    with monkeypatch.context() as patch:
        patch.setattr(sys.modules["offload.functions.delivery_batch.replay"], "_LOOKED_AT_FOR", -1.0)
        real = sys.modules["offload.functions.delivery_batch.replay"].aws.events()
        patch.setattr(real, "describe_replay", lambda **_: {"State": "RUNNING"})
        job = batch.job(wanted, job_id=job_id)
    assert (job.state, "goes on: it has not begun" in job.history[-1].why) == ("waiting", True), job.history
    batch.jobs.pass_time(minutes=5)
    job = batch.job(wanted, job_id=job_id, attempt=2)
    assert job.state == "succeeded", job.error
    # The planner may have worked between the two; what was found is what the first one counted.
    assert msgspec.json.decode(job.result or b"", type=Recovered) == Recovered(found=1, done=1, subscriptions=1)
    assert batch.has(record, event)


class Late:
    """A replay that may not be asked for what the archive has not got yet, though this one has it at once."""

    def __init__(self, batch: Batch, monkeypatch: pytest.MonkeyPatch) -> None:
        self.windows: list[tuple[datetime, datetime]] = []
        settings = msgspec.structs.replace(batch.function.settings, offload_archive_late_minutes=10)
        monkeypatch.setattr(batch.function, "settings", settings)
        client = sys.modules["offload.functions.delivery_batch.replay"].aws.events()
        real = client.start_replay

        def start(**asked: Any) -> Any:
            self.windows.append((asked["EventStartTime"], asked["EventEndTime"]))
            return real(**asked)

        monkeypatch.setattr(client, "start_replay", start)


def test_of_the_minutes_that_the_archive_may_not_have_yet_nothing_is_concluded(
    batch: Batch, monkeypatch: pytest.MonkeyPatch
) -> None:
    late = Late(batch, monkeypatch)
    record = batch.subscribe(types=["*"])
    event = batch.publish()
    batch.plan()
    batch.lose(record, event)
    began = batch.sending.clock()
    found = batch.recover(What.MISSING)
    assert (found.found, late.windows) == (0, [])
    assert found.until is not None
    assert timedelta(0) <= found.until - (began - timedelta(minutes=10)) < timedelta(minutes=1)


def test_what_the_archive_has_for_sure_is_brought_back(batch: Batch, monkeypatch: pytest.MonkeyPatch) -> None:
    late = Late(batch, monkeypatch)
    record = batch.subscribe(types=["*"])
    event = batch.publish()
    batch.plan()
    batch.lose(record, event)
    batch.sending.clock.at = datetime.now(UTC) + timedelta(minutes=11)
    now = batch.sending.clock()
    asked = now - timedelta(minutes=10, seconds=1)
    assert batch.recover(What.MISSING, until=asked) == Recovered(found=1, done=1, subscriptions=1)
    assert [end for _, end in late.windows] == [asked + timedelta(minutes=1)]
    assert batch.has(record, event)


def test_a_second_attempt_counts_to_the_end_of_the_first(batch: Batch, monkeypatch: pytest.MonkeyPatch) -> None:
    late = Late(batch, monkeypatch)
    record = batch.subscribe(types=["*"])
    event = batch.publish()
    batch.plan()
    batch.lose(record, event)
    batch.sending.clock.at = datetime.now(UTC) + timedelta(minutes=11)
    wanted = Recovery(action=What.MISSING, since=batch.sending.clock() - timedelta(hours=1))
    job_id = batch.jobs.submit(DELIVERY_BATCH, wanted)
    with monkeypatch.context() as patch:
        patch.setattr(sys.modules["offload.functions.delivery_batch.replay"], "_LOOKED_AT_FOR", -1.0)
        real = sys.modules["offload.functions.delivery_batch.replay"].aws.events()
        patch.setattr(real, "describe_replay", lambda **_: {"State": "RUNNING"})
        assert batch.job(wanted, job_id=job_id).state == "waiting"
    # What was lost since is not what the replay is for.
    batch.lose(record, batch.publish())
    batch.plan()
    batch.sending.clock.passes(minutes=30)
    batch.jobs.pass_time(minutes=5)
    job = batch.job(wanted, job_id=job_id, attempt=2)
    assert job.state == "succeeded", job.error
    result = msgspec.json.decode(job.result or b"", type=Recovered)
    assert (result.found, result.done) == (1, 1)
    assert late.windows[0] == late.windows[1]
    assert result.until is not None
    assert result.until < batch.sending.clock() - timedelta(minutes=30)


def test_a_period_that_the_archive_cannot_have_yet_is_refused_with_the_time_to_ask_again(
    batch: Batch, monkeypatch: pytest.MonkeyPatch
) -> None:
    Late(batch, monkeypatch)
    batch.sending.clock.at = datetime.now(UTC) + timedelta(minutes=11)
    since = batch.sending.clock() - timedelta(minutes=9)
    error = batch.error(What.MISSING, since=since)
    assert "for 10 minutes before its archive has it" in error
    assert f"ask again after {(since + timedelta(minutes=10)).isoformat(timespec='seconds')}" in error


def test_a_job_that_is_cancelled_ends_its_replay(batch: Batch, monkeypatch: pytest.MonkeyPatch) -> None:
    record = batch.subscribe(types=["*"])
    event = batch.publish()
    batch.plan()
    batch.lose(record, event)
    wanted = Recovery(action=What.MISSING, since=batch.sending.clock() - timedelta(hours=1))
    job_id = batch.jobs.submit(DELIVERY_BATCH, wanted)

    def still_running(**_: Any) -> dict[str, str]:
        batch.jobs.store.cancel(job_id)
        batch.jobs.pass_time(seconds=2)
        return {"State": "RUNNING"}

    ended: list[str] = []
    client = sys.modules["offload.functions.delivery_batch.replay"].aws.events()
    client.meta.events.register("before-call.eventbridge.CancelReplay", lambda params, **_: ended.append("asked"))
    monkeypatch.setattr(client, "describe_replay", still_running)
    assert batch.job(wanted, job_id=job_id).state == "cancelled"
    assert ended == ["asked"]


# -- tenants


class Told(NamedTuple):
    """Who is told of an event: subscriptions to everything of two tenants and of none, and to `subscription.*`."""

    acme: bool
    blue: bool
    blue_own: bool
    operators: bool


class Tenants:
    """Two tenants and the operators, and what happens to the subscription of one."""

    def __init__(self, batch: Batch) -> None:
        self.batch = batch
        self.acme = batch.subscribe(types=["*"], tenant="acme")
        self.blue = batch.subscribe(types=["*"], tenant="blue")
        self.blue_own = batch.subscribe(types=["subscription.*"], tenant="blue")
        self.operators = batch.subscribe(types=["*"])

    @property
    def records(self) -> tuple[Record, ...]:
        return (self.acme, self.blue, self.blue_own, self.operators)

    def pause(self) -> Event[Any]:
        """What the sender tells when it pauses a subscription of blue."""
        at = self.batch.sending.clock()
        signal = Signal(kind="paused", failing_since=at - timedelta(days=5), at=at)
        return self.batch.put(event_of(self.blue, signal, self.batch.sending.policy))

    def finish_job(self) -> Event[Any]:
        """The end of an internal job."""
        job = JobFinished(
            job=f"job-{next(_names)}",
            job_type="ward_report",
            state=State.FAILED,
            attempts=3,
            finished_at=self.batch.sending.clock(),
            error="postgres://internal refused",
        )
        return self.batch.put(job.event())

    def told(self, event: Event[Any]) -> Told:
        return Told(*(self.batch.has(record, event) for record in self.records))

    def lose(self, *events: Event[Any]) -> None:
        for event in events:
            for record in self.records:
                self.batch.lose(record, event)


def test_a_tenant_is_told_of_its_own_and_everybody_s_and_the_operators_of_everything(batch: Batch) -> None:
    tenants = Tenants(batch)
    paused, finished, visit = tenants.pause(), tenants.finish_job(), batch.publish()
    for _ in range(3):
        batch.plan()
    assert tenants.told(paused) == Told(acme=False, blue=True, blue_own=True, operators=True)
    assert tenants.told(finished) == Told(acme=False, blue=False, blue_own=False, operators=True)
    assert tenants.told(visit) == Told(acme=True, blue=True, blue_own=False, operators=True)


def test_a_replay_tells_a_tenant_of_no_more_than_the_planner_did(batch: Batch, monkeypatch: pytest.MonkeyPatch) -> None:
    tenants = Tenants(batch)
    paused, finished, visit = tenants.pause(), tenants.finish_job(), batch.publish()
    for _ in range(3):
        batch.plan()
    tenants.lose(paused, finished, visit)
    monkeypatch.setattr(sys.modules["offload.functions.delivery_batch.missing"], "_QUIET", timedelta(0))
    # Certain are three of the operators and the visit of two tenants; whose the pause is, the journal does not say.
    counted = batch.recover(What.MISSING, dry_run=True)
    assert counted == Recovered(found=5, done=0, subscriptions=4, at_most=3)
    assert batch.recover(What.MISSING).done == 7
    assert tenants.told(paused) == Told(acme=False, blue=True, blue_own=True, operators=True)
    assert tenants.told(finished) == Told(acme=False, blue=False, blue_own=False, operators=True)
    assert tenants.told(visit) == Told(acme=True, blue=True, blue_own=False, operators=True)


def test_the_past_is_given_to_a_new_subscriber_as_far_as_it_is_its_tenant_s(
    batch: Batch, monkeypatch: pytest.MonkeyPatch
) -> None:
    tenants = Tenants(batch)
    paused, visit = tenants.pause(), batch.publish()
    for _ in range(2):
        batch.plan()
    batch.come_after_the_bus()
    late = batch.subscribe(types=["*"], tenant="acme")
    monkeypatch.setattr(sys.modules["offload.functions.delivery_batch.missing"], "_QUIET", timedelta(0))
    assert batch.recover(What.MISSING, subscription=late.id, before_creation=True).done == 1
    assert (batch.has(late, visit), batch.has(late, paused)) == (True, False)


def test_what_was_planned_for_another_tenant_is_given_up_unsent_and_not_brought_back(batch: Batch) -> None:
    acme, blue = batch.subscribe(tenant="acme"), batch.subscribe(tenant="blue")
    at = batch.sending.clock()
    paused = event_of(blue, Signal(kind="paused", failing_since=at, at=at), batch.sending.policy)
    batch.sending.owe(acme, blue, event="paused", type=paused.type, body=message_of(paused))
    batch.sending.work(acme, blue)
    assert batch.sending.delivery(blue, "paused").state is DeliveryState.DELIVERED
    given_up = batch.sending.delivery(acme, "paused")
    assert (given_up.state, given_up.reason, given_up.attempts) == (DeliveryState.GIVEN_UP, Why.ANOTHER_TENANTS, 0)
    assert batch.server.received(acme.url.rpartition("/")[2]) == []
    assert batch.recover(What.FAILED).found == 0


# -- what cannot be


def test_what_cannot_be_recovered_says_why(batch: Batch) -> None:
    assert "there is no subscription 'sub_none'" in batch.error(What.FAILED, subscription="sub_none")
    now = batch.sending.clock()
    assert "there is no such period" in batch.error(What.FAILED, since=now + timedelta(hours=1))
    assert "there is no such period" in batch.error(What.FAILED, until=now - timedelta(days=1))
    assert "kept for 90 days" in batch.error(What.MISSING, since=now - timedelta(days=91))


def test_an_event_of_the_second_in_which_a_subscription_was_made_is_owed_to_it(batch: Batch) -> None:
    record = batch.subscribe(types=["*"])
    second = record.created_at.replace(microsecond=0)
    assert is_owed(record, "visit.ended", second, None)
    assert not is_owed(record, "visit.ended", second - timedelta(seconds=1), None)


def test_a_further_sender_s_recovery_runs_under_its_own_name(batch: Batch, monkeypatch: pytest.MonkeyPatch) -> None:
    partners = recovery_named("partners_recovery")
    monkeypatch.setattr(app, "CATALOGUE", replace(CATALOGUE, jobs=(*CATALOGUE.jobs, partners)))
    monkeypatch.setenv("OFFLOAD_JOB", partners.name)
    monkeypatch.delitem(sys.modules, "offload.functions.delivery_batch.handler")
    function = importlib.import_module("offload.functions.delivery_batch.handler")
    assert function.handler.type == partners
