"""Sending, on a real table and real queues, to a real server that misbehaves. Days pass in seconds."""

from __future__ import annotations

import asyncio
import json
import ssl
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest

from offload.contracts.secret_versions import CURRENT, PREVIOUS
from offload.contracts.webhooks_out.api import DeliveryFilters
from offload.contracts.webhooks_out.subscription import (
    LONGEST_BODY,
    RETRY_SCHEDULE,
    Change,
    DeliveryState,
    SubscriptionState,
    Why,
    Wish,
)
from offload.runtime.http.guard import Guard
from offload.runtime.refusals import Refusal
from offload.runtime.webhooks_out import health, items, listing
from offload.runtime.webhooks_out import sender as sender_module
from offload.runtime.webhooks_out.items import delivery_id
from offload.runtime.webhooks_out.refusals import (
    BadFilter,
    BadHeader,
    BadSecret,
    BadTypes,
    BadUrl,
    IdempotencyConflict,
    NoSuchDelivery,
    NoSuchSubscription,
    PayloadGone,
    StillWaiting,
    TooManySecrets,
)
from offload.runtime.webhooks_out.vault import NotSealedHere, Vault, brought, shown
from tests.misbehaving_server import (
    Answer,
    Gone,
    HalfResponse,
    Hang,
    Http10,
    HugeBody,
    HugeHeaders,
    MisbehavingServer,
    NotHttp,
    RateLimited,
    RedirectLoop,
    ResetAfter,
    ResetBefore,
    ResetIn,
    SlowBytes,
    Step,
    Surplus,
    Tls,
    WrongLength,
)
from tests.standard_webhooks_verifiers import Verifiers, installed
from tests.unit.webhooks_out.sending_bench import QUICK, SendingBench

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSwMfKQ9r8GKYqr"


@pytest.fixture
def bench(aws_of_module: None, request: pytest.FixtureRequest) -> Iterator[SendingBench]:
    made = SendingBench(policy=getattr(request, "param", None))
    yield made
    made.close()


_names = iter(range(10_000))


def new_name() -> str:
    return f"endpoint{next(_names)}"


def test_an_event_is_one_delivery_however_often_it_is_planned(bench: SendingBench, server: MisbehavingServer) -> None:
    name = new_name()
    record = bench.subscribe(server.url(name))
    event = bench.owe(record, body=b'{"first": 1}')
    bench.owe(record, event=event, body=b'{"second": 2}')
    assert bench.entries(record) == 1
    bench.work(record)
    bench.owe(record, event=event)
    bench.work(record)
    [received] = server.received(name)
    assert received.body == b'{"first": 1}'
    assert received.header("webhook-id") == delivery_id(record.id, "test", event)
    assert received.header("content-type") == "application/json"
    assert bench.delivery(record, event).state is DeliveryState.DELIVERED
    [tried] = bench.tries(record, event)
    assert (tried.number, tried.status) == (1, 200)


def test_a_hundred_subscriptions_get_it_each_once(bench: SendingBench, server: MisbehavingServer) -> None:
    name = new_name()
    records = [bench.subscribe(server.url(name)) for _ in range(60)]
    event = bench.owe(*records[:20])
    bench.owe(*records, event=event)
    bench.work(*records)
    assert len({received.header("webhook-id") for received in server.received(name)}) == 60
    assert len(server.received(name)) == 60


def test_a_lease_that_is_given_back_is_not_taken_for_a_lost_one(
    bench: SendingBench, server: MisbehavingServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sender_module, "_RENEWED_EVERY", timedelta(0))
    deliveries = bench.sender._deliveries
    release, renew, refused = deliveries.release, deliveries.renew, threading.Event()

    def slowly(*given: Any, **more: Any) -> bool:
        done = release(*given, **more)
        # Time enough for a renewal, were there one.
        refused.wait(1)
        return done

    def watched(lease: Any) -> bool:
        kept = renew(lease)
        if not kept:
            refused.set()
        return kept

    monkeypatch.setattr(deliveries, "release", slowly)
    monkeypatch.setattr(deliveries, "renew", watched)
    name = new_name()
    record = bench.subscribe(server.url(name))
    bench.owe(record)
    assert [sent.delivered for sent in bench.work(record)] == [1]
    assert len(server.received(name)) == 1


def test_days_of_retries_keep_to_the_published_schedule(bench: SendingBench, server: MisbehavingServer) -> None:
    name = new_name()
    server.script(name, then=Answer(500, body=b"not today"))
    record = bench.subscribe(server.url(name))
    event = bench.owe(record)
    bench.work(record)
    waits = []
    while (delivery := bench.delivery(record, event)).next_at is not None:
        before = bench.clock()
        bench.clock.at = delivery.next_at + timedelta(seconds=61)
        bench.wake()
        if bench.delivery(record, event).attempts > delivery.attempts:
            waits.append(delivery.next_at - before)
        assert len(waits) <= len(RETRY_SCHEDULE)
    assert len(waits) == len(RETRY_SCHEDULE)
    for seen, published in zip(waits, RETRY_SCHEDULE, strict=True):
        assert published * 0.89 <= seen <= published * 1.11 + timedelta(seconds=1)
    assert (delivery.state, delivery.reason) == (DeliveryState.GIVEN_UP, Why.ATTEMPTS_EXHAUSTED)
    tries = bench.tries(record, event)
    assert [tried.number for tried in tries] == list(range(1, 11))
    assert {tried.body for tried in tries} == {"not today"}
    received = server.received(name)
    assert len({each.body for each in received}) == 1
    assert len({each.header("webhook-id") for each in received}) == 1
    assert len({each.header("webhook-timestamp") for each in received}) == 10
    assert bench.entries(record) == 0


def test_a_short_wait_comes_by_a_token_and_a_long_one_by_the_sweeper(
    bench: SendingBench, server: MisbehavingServer
) -> None:
    name = new_name()
    server.script(name, then=Answer(503))
    record = bench.subscribe(server.url(name))
    event = bench.owe(record)
    bench.work(record)
    attributes = bench.sqs.get_queue_attributes(QueueUrl=bench.trouble, AttributeNames=["All"])["Attributes"]
    assert attributes["ApproximateNumberOfMessagesDelayed"] == "1"
    for _ in range(3):
        bench.clock.at = (bench.delivery(record, event).next_at or bench.clock()) + timedelta(seconds=61)
        assert [name for name, _ in bench.deliveries.to_wake(10)] == [record.id]
        bench.work(record)
    # Two hours are more than a queue can wait: nothing is in it, and the sweeper finds nothing before.
    bench.take_tokens()
    assert bench.deliveries.to_wake(10) == []
    bench.clock.passes(hours=2, minutes=13)
    assert [name for name, _ in bench.deliveries.to_wake(10)] == [record.id]


def test_the_endpoints_to_look_at_are_found_in_all_shards_the_longest_due_first(
    bench: SendingBench, server: MisbehavingServer
) -> None:
    records = [bench.subscribe(server.url(new_name())) for _ in range(20)]
    waits = {record.id: timedelta(seconds=(7 * number) % 20 - 15) for number, record in enumerate(records)}
    for name, wait in waits.items():
        bench.dynamodb.update_item(
            TableName=bench.table,
            Key=items.endpoint_key(name),
            UpdateExpression="SET wake = :wake, wake_at = :at",
            ExpressionAttributeValues={":wake": items.wake_of(name), ":at": items.number(bench.clock() + wait)},
        )
    assert len({items.wake_of(name)["S"] for name in waits}) > items.WAKE_SHARDS / 2
    due = [name for name in sorted(waits, key=waits.__getitem__) if waits[name] <= timedelta(0)]
    assert len(due) == 16
    assert [name for name, _ in bench.deliveries.to_wake(1000)] == due
    assert [name for name, _ in bench.deliveries.to_wake(5)] == due[:5]


FAILURES: dict[str, tuple[Step, str]] = {
    "hangs": (Hang(60), "no answer within 5 s"),
    "reset before": (ResetBefore(), "Error"),
    "reset in its head": (ResetIn(part="head"), "Error"),
    "half a head": (HalfResponse(part="head"), "disconnected"),
    "no HTTP": (NotHttp(), "Protocol"),
    "huge headers": (HugeHeaders(2_000_000), "HeadTooLong"),
    "a redirect that loops": (RedirectLoop(), ""),
    "an answer that comes too late": (Answer(200, after=8), "no answer within 5 s"),
}


@pytest.mark.parametrize("bench", [QUICK], ids=["quick"], indirect=True)
@pytest.mark.parametrize("how", FAILURES)
def test_whatever_an_endpoint_does_instead_of_answering_is_a_failed_attempt_with_its_reason(
    how: str, bench: SendingBench, server: MisbehavingServer
) -> None:
    step, says = FAILURES[how]
    name = new_name()
    server.script(name, [step])
    record = bench.subscribe(server.url(name))
    event = bench.owe(record)
    bench.work(record)
    delivery = bench.delivery(record, event)
    assert delivery.state is DeliveryState.WAITING
    assert says in delivery.error
    assert delivery.error or delivery.status == 302
    bench.clock.passes(seconds=7)
    bench.work(record)
    assert bench.delivery(record, event).state is DeliveryState.DELIVERED
    # A connection that is reset before anything is read has no id.
    assert {each.header("webhook-id") for each in server.received(name)} - {None} == {delivery.id}


ANSWERS: dict[str, Step] = {
    "drips its body": SlowBytes(every=0.05, at_once=300, body=b"s" * 10_000),
    "reset in its body": ResetIn(part="body"),
    "half a body": HalfResponse(part="body"),
    "less than it declared": WrongLength(declared=1000, sent=10),
    "a huge body": HugeBody(20_000_000),
    "HTTP/1.0": Http10(),
    "reset after": ResetAfter(),
}


@pytest.mark.parametrize("how", ANSWERS)
def test_a_status_of_2xx_counts_whatever_becomes_of_the_answer_s_body(
    how: str, bench: SendingBench, server: MisbehavingServer
) -> None:
    name = new_name()
    server.script(name, [ANSWERS[how]])
    record = bench.subscribe(server.url(name))
    event = bench.owe(record)
    bench.work(record)
    delivery = bench.delivery(record, event)
    assert (delivery.state, delivery.status) == (DeliveryState.DELIVERED, 200)
    [tried] = bench.tries(record, event)
    assert len(tried.body) <= 1024


OK = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
SURPLUS: dict[str, Surplus] = {
    "another answer": Surplus(OK),
    "another answer behind an empty line": Surplus(b"\r\n" + OK),
    "another answer, some time later": Surplus(OK, late=0.05),
    "half another answer": Surplus(OK[:20]),
    "one byte": Surplus(b"\n"),
    "an answer behind one without a body": Surplus(OK, status=204),
    "a body with a 204": Surplus(b"hello", status=204, headers={"Content-Length": "5"}),
    "a body with a 304": Surplus(b"hello", status=304, headers={"Content-Length": "5"}),
    "a chunked body with a 204": Surplus(b"0\r\n\r\n", status=204, headers={"Transfer-Encoding": "chunked"}),
    "an answer of two lengths": Surplus(OK, headers={"Transfer-Encoding": "chunked"}, body=b"0\r\n\r\n"),
}


@pytest.fixture
def secure(aws_of_module: None, server: MisbehavingServer) -> Iterator[SendingBench]:
    made = SendingBench(context=ssl.create_default_context(cafile=str(server.cafile)))
    yield made
    made.close()


@pytest.mark.parametrize("tls", [None, "good"])
@pytest.mark.parametrize("what", SURPLUS)
def test_what_an_endpoint_sends_behind_its_answer_is_no_answer_to_the_next_delivery(
    what: str, tls: Tls | None, secure: SendingBench, server: MisbehavingServer
) -> None:
    name = new_name()
    server.script(name, [SURPLUS[what]], then=Answer(503))
    record = secure.subscribe(server.url(name, tls=tls))
    first = secure.owe(record)
    secure.work(record)
    assert secure.delivery(record, first).status == SURPLUS[what].status
    server.wait_for(name, 1)
    refused = secure.owe(record)
    secure.work(record)
    assert secure.delivery(record, refused).error == ""
    assert (secure.delivery(record, refused).state, secure.delivery(record, refused).status) == (
        DeliveryState.WAITING,
        503,
    )
    [came, went] = server.received(name)[:2]
    assert came.connection != went.connection


@pytest.mark.parametrize("tls", [None, "good"])
def test_what_one_endpoint_sends_behind_its_answer_is_no_answer_to_another_s_delivery(
    tls: Tls | None, secure: SendingBench, server: MisbehavingServer
) -> None:
    names = [new_name(), new_name()]
    server.script(names[0], then=Surplus(OK))
    server.script(names[1], then=Answer(503))
    one = secure.subscribe(server.url(names[0], tls=tls), tenant="one")
    other = secure.subscribe(server.url(names[1], tls=tls), tenant="other")
    secure.owe(one)
    secure.work(one)
    server.wait_for(names[0], 1)
    refused = secure.owe(other)
    secure.work(other)
    assert secure.delivery(other, refused).status == 503


def test_endpoints_of_one_host_share_no_connection(bench: SendingBench, server: MisbehavingServer) -> None:
    names = [new_name(), new_name()]
    records = [bench.subscribe(server.url(name)) for name in names]
    for _ in range(2):
        for record in records:
            bench.owe(record)
            bench.work(record)
    connections = [{each.connection for each in server.received(name)} for name in names]
    assert [len(each) for each in connections] == [1, 1]
    assert connections[0] != connections[1]


@pytest.mark.parametrize("tls", [None, "good"])
@pytest.mark.parametrize("late", [0.0, 0.05])
def test_an_empty_line_behind_an_answer_is_passed_over_and_the_connection_kept(
    late: float, tls: Tls | None, secure: SendingBench, server: MisbehavingServer
) -> None:
    name = new_name()
    server.script(name, then=Surplus(b"\r\n", late=late))
    record = secure.subscribe(server.url(name, tls=tls))
    for number in range(1, 4):
        event = secure.owe(record)
        secure.work(record)
        server.wait_for(name, number)
        assert secure.delivery(record, event).state is DeliveryState.DELIVERED
        assert secure.delivery(record, event).attempts == 1
    assert len({each.connection for each in server.received(name)}) == 1


@pytest.mark.parametrize("tls", ["expired", "wrong-host", "self-signed"])
def test_a_bad_certificate_is_a_failed_attempt_and_nothing_is_sent(
    tls: Any, aws_of_module: None, server: MisbehavingServer
) -> None:
    bench = SendingBench(context=ssl.create_default_context(cafile=str(server.cafile)))
    name = new_name()
    record = bench.subscribe(server.url(name, tls=tls))
    well = bench.subscribe(server.url(name, tls="good"))
    event = bench.owe(record, well)
    bench.work(record, well)
    assert "certificate" in bench.delivery(record, event).error.lower()
    assert bench.delivery(well, event).state is DeliveryState.DELIVERED
    assert len(server.received(name)) == 1
    bench.close()


def test_an_endpoint_that_nobody_listens_at_and_a_name_that_is_none_are_tried_again(
    bench: SendingBench, server: MisbehavingServer
) -> None:
    record = bench.subscribe(server.refused_url("nobody"))
    event = bench.owe(record)
    bench.work(record)
    assert "ConnectError" in bench.delivery(record, event).error
    assert bench.delivery(record, event).next_at is not None

    def nowhere(host: str, port: int) -> list[str]:
        raise OSError("no such name")

    bench.sender = bench.new_sender(bench.new_transport(resolve=nowhere))
    named = bench.subscriptions.change(record.id, lambda each: msgspec.structs.replace(each, url="http://gone.test/x"))
    event = bench.owe(named)
    bench.work(named)
    delivery = bench.delivery(named, event)
    assert "no such name" in delivery.error
    assert delivery.next_at is not None


def test_the_address_is_checked_at_every_delivery_again(bench: SendingBench, server: MisbehavingServer) -> None:
    name = new_name()
    record = bench.subscribe(server.url(name))
    event = bench.owe(record)
    bench.sender = bench.new_sender(bench.new_transport(Guard(schemes=frozenset({"http"}), ports=None)))
    bench.work(record)
    assert "address refused (loopback)" in bench.delivery(record, event).error
    assert server.received(name) == []


def test_410_pauses_the_subscription_and_its_owner_is_told(bench: SendingBench, server: MisbehavingServer) -> None:
    name = new_name()
    server.script(name, then=Gone())
    record = bench.subscribe(server.url(name))
    first = bench.owe(record)
    bench.clock.passes(seconds=1)
    second = bench.owe(record)
    bench.work(record)
    assert bench.delivery(record, first).reason is Why.GONE
    assert bench.delivery(record, second).state is DeliveryState.WAITING
    found = bench.subscribing.show(record.id)
    assert (found.state, found.reason) == (SubscriptionState.PAUSED, Why.GONE)
    assert bench.heard.kinds() == ["paused"]
    bench.clock.passes(days=1)
    bench.wake()
    assert len(server.received(name)) == 1


def test_a_receiver_ends_a_delivery_by_its_header(bench: SendingBench, server: MisbehavingServer) -> None:
    name = new_name()
    server.script(name, [Answer(422, headers={"webhook-retry": "no"})])
    record = bench.subscribe(server.url(name))
    event = bench.owe(record)
    bench.work(record)
    assert bench.delivery(record, event).reason is Why.RECEIVER_SAID_NO
    assert bench.subscribing.show(record.id).state is SubscriptionState.ACTIVE


def test_a_receiver_that_refuses_each_delivery_for_good_is_asked_about_the_next_at_once(
    bench: SendingBench, server: MisbehavingServer
) -> None:
    name = new_name()
    server.script(name, then=Answer(422, headers={"webhook-retry": "no"}))
    record = bench.subscribe(server.url(name))
    events = [bench.owe(record) for _ in range(20)]
    bench.work(record)
    assert {bench.delivery(record, event).reason for event in events} == {Why.RECEIVER_SAID_NO}
    assert len(server.received(name)) == 20
    health = bench.subscribing.show(record.id).health
    assert (health.failing_since, health.parked_until) == (None, None)


def test_who_asks_to_slow_down_is_left_alone_for_so_long_with_all_that_is_owed(
    bench: SendingBench, server: MisbehavingServer
) -> None:
    name = new_name()
    server.script(name, [RateLimited("120")])
    record = bench.subscribe(server.url(name))
    bench.owe(record)
    bench.work(record)
    for _ in range(5):
        bench.owe(record)
    bench.work(record)
    bench.clock.passes(seconds=100)
    bench.work(record)
    assert len(server.received(name)) == 1
    bench.clock.passes(seconds=25)
    bench.work(record)
    assert len(server.received(name)) == 7
    assert bench.entries(record) == 0


def test_a_parked_endpoint_is_tried_with_one_delivery_and_then_gets_the_rest(
    bench: SendingBench, server: MisbehavingServer
) -> None:
    name = new_name()
    server.script(name, [Answer(500)] * 6)
    record = bench.subscribe(server.url(name))
    for _ in range(10):
        bench.owe(record)
    bench.work(record)
    # One at a time while it is new and fails; after the fifth nobody sends.
    assert len(server.received(name)) == 5
    bench.clock.passes(seconds=31)
    bench.work(record)
    assert len(server.received(name)) == 6
    bench.clock.passes(seconds=61)
    bench.work(record)
    bench.clock.passes(minutes=6)
    bench.wake()
    assert bench.entries(record) == 0
    assert len({each.header("webhook-id") for each in server.received(name)}) == 10


def test_an_endpoint_that_fails_for_days_is_paused_probed_and_resumed_by_itself(
    bench: SendingBench, server: MisbehavingServer, capsys: pytest.CaptureFixture[str]
) -> None:
    name = new_name()
    server.script(name, then=Answer(500))
    record = bench.subscribe(server.url(name))
    start = bench.clock()
    events = []
    while "paused" not in bench.heard.kinds():
        events.append(bench.owe(record))
        bench.work(record)
        bench.clock.passes(hours=6)
        bench.wake()
        assert bench.clock() - start < timedelta(days=9)
    assert bench.heard.kinds() == ["failing50", "failing70", "failing90", "paused"]
    assert bench.clock() - start >= bench.policy.pause_after
    assert bench.subscribing.show(record.id).reason is Why.FAILING
    # What comes now waits, and an hour's probe is all that is sent.
    before = len(server.received(name))
    events += [bench.owe(record) for _ in range(30)]
    for _ in range(3):
        bench.clock.passes(hours=1, seconds=1)
        bench.wake()
    assert 1 <= len(server.received(name)) - before <= 4
    server.script(name)
    bench.clock.passes(hours=1, seconds=1)
    bench.wake()
    assert bench.heard.kinds()[4:] == ["recovered"]
    assert bench.subscribing.show(record.id).state is SubscriptionState.ACTIVE
    bench.run_until(bench.clock() + timedelta(days=1), step=timedelta(hours=2))
    assert bench.entries(record) == 0
    ended = {event: bench.delivery(record, event) for event in events}
    assert all(delivery.state is not DeliveryState.WAITING for delivery in ended.values())
    assert sum(delivery.state is DeliveryState.DELIVERED for delivery in ended.values()) >= 30
    # Of these lines metrics are made.
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    told = [(line["message"], line.get("percent")) for line in lines if line["message"].startswith("subscription ")]
    assert told == [
        ("subscription failing", 50),
        ("subscription failing", 70),
        ("subscription failing", 90),
        ("subscription paused", None),
        ("subscription recovered", None),
    ]


def test_what_piled_up_comes_at_the_subscription_s_rate_the_oldest_first(
    bench: SendingBench, server: MisbehavingServer
) -> None:
    name = new_name()
    record = bench.subscribe(server.url(name), rate=5)
    bench.subscribing.pause(record.id)
    events = []
    for _ in range(40):
        events.append(bench.owe(record))
        bench.clock.passes(seconds=1)
    bench.work(record)
    assert server.received(name) == []
    bench.subscribing.resume(record.id)
    seconds = 0
    while bench.entries(record):
        before = len(server.received(name))
        bench.work(record)
        bench.work(record)
        assert len(server.received(name)) - before <= 5
        bench.clock.passes(seconds=1)
        seconds += 1
        assert seconds < 60
    assert seconds <= 14
    arrived = [str(each.header("webhook-id")) for each in server.received(name)]
    in_order = [delivery_id(record.id, "test", event) for event in events]
    # Those of one round go together; rounds come in order.
    assert sorted(arrived, key=in_order.index)[:5] == in_order[:5]
    assert all(abs(in_order.index(each) - place) < 24 for place, each in enumerate(arrived))


def test_of_an_ordered_subscription_later_deliveries_of_a_subject_wait_and_only_those(
    bench: SendingBench, server: MisbehavingServer
) -> None:
    name = new_name()
    record = bench.subscribe(server.url(name), ordered=True)
    server.script(name, [Answer(500)])
    first = bench.owe(record, subject="a")
    bench.work(record)
    later = []
    for number in range(3):
        bench.clock.passes(milliseconds=10)
        later.append(bench.owe(record, subject="a", event=f"a{number}"))
    other = bench.owe(record, subject="b")
    bench.work(record)
    assert bench.delivery(record, other).state is DeliveryState.DELIVERED
    assert all(bench.delivery(record, each).attempts == 0 for each in later)
    bench.clock.passes(seconds=6)
    bench.work(record)
    order = [each.header("webhook-id") for each in server.received(name)]
    wanted = [delivery_id(record.id, "test", each) for each in (first, other, first, *later)]
    assert order == wanted


def test_of_an_ordered_subscription_the_order_is_that_of_the_events_own_times(
    bench: SendingBench, server: MisbehavingServer
) -> None:
    name = new_name()
    record = bench.subscribe(server.url(name), ordered=True)
    late = bench.owe(record, subject="a", time=bench.clock() - timedelta(minutes=1))
    early = bench.owe(record, subject="a", time=bench.clock() - timedelta(minutes=2))
    bench.work(record)
    order = [each.header("webhook-id") for each in server.received(name)]
    assert order == [delivery_id(record.id, "test", each) for each in (early, late)]


def test_two_senders_of_one_subscription_do_not_send_the_same(bench: SendingBench, server: MisbehavingServer) -> None:
    name = new_name()
    server.script(name, then=Answer(after=0.02))
    record = bench.subscribe(server.url(name))
    for _ in range(30):
        bench.owe(record)
    bench.work(*[record] * 8)
    received = [each.header("webhook-id") for each in server.received(name)]
    assert len(received) == len(set(received)) == 30
    assert bench.entries(record) == 0


def test_what_comes_while_a_sender_is_at_work_is_sent_by_it(bench: SendingBench, server: MisbehavingServer) -> None:
    name = new_name()
    server.script(name, [Answer(after=0.5)])
    record = bench.subscribe(server.url(name))
    bench.owe(record)

    async def both() -> None:
        first = asyncio.create_task(bench.sender.work(record.id))
        while not server.received(name):
            await asyncio.sleep(0.01)
        await asyncio.to_thread(bench.owe, record)
        # The second token finds the lease taken, and goes.
        await bench.sender.work(record.id)
        await first

    bench.loop.run_until_complete(both())
    assert len(server.received(name)) == 2
    assert bench.entries(record) == 0


def test_an_endpoint_that_begins_to_hang_is_in_the_lane_of_those_that_are_well_for_one_round(
    bench: SendingBench, server: MisbehavingServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(health, "_SLOW", timedelta(seconds=0.3))
    name = new_name()
    server.script(name, [Answer(), Hang(1), Hang(1)])
    record = bench.subscribe(server.url(name))
    bench.owe(record)
    bench.work(record)
    for _ in range(4):
        bench.owe(record)

    async def both() -> None:
        first = asyncio.create_task(bench.sender.work(record.id))
        while len(server.received(name)) < 2:
            await asyncio.sleep(0.01)
        # Another token, which finds the lease taken, keeps it there no longer.
        await bench.sender.work(record.id)
        await first

    bench.loop.run_until_complete(both())
    assert len(server.received(name)) == 3
    assert "Messages" not in bench.sqs.receive_message(QueueUrl=bench.well)
    assert set(bench.take_tokens()) == {record.id}
    bench.work(record)
    bench.clock.passes(minutes=1)
    bench.work(record)
    assert bench.entries(record) == 0


def test_a_sender_that_died_is_followed_by_another_and_its_delivery_comes_again_under_its_id(
    bench: SendingBench, server: MisbehavingServer
) -> None:
    name = new_name()
    record = bench.subscribe(server.url(name))
    event = bench.owe(record)
    lease = bench.deliveries.take(record.id)
    assert lease is not None
    bench.work(record)
    assert server.received(name) == []
    bench.clock.passes(seconds=31)
    assert bench.wake() == [record.id]
    assert bench.delivery(record, event).state is DeliveryState.DELIVERED
    # The dead one's word does not count any more.
    assert not bench.deliveries.renew(lease)
    assert not bench.deliveries.release(lease, wake_at=None)


def test_a_late_record_of_another_s_attempt_changes_nothing(bench: SendingBench, server: MisbehavingServer) -> None:
    from offload.contracts.webhooks_out.subscription import Attempt
    from offload.runtime.webhooks_out.deliveries import Outcome
    from offload.runtime.webhooks_out.retries import Next

    record = bench.subscribe(server.url(new_name()))
    event = bench.owe(record)
    [entry] = bench.deliveries.due(record, 10)
    bench.work(record)
    failed = Attempt(number=1, at=bench.clock(), duration_ms=1, status=500)
    late = Outcome(entry=entry, attempt=failed, next=Next(retry_at=bench.clock() + timedelta(minutes=1)))
    assert bench.deliveries.record(record, [late]) == []
    assert bench.delivery(record, event).state is DeliveryState.DELIVERED
    assert bench.entries(record) == 0


def test_what_expires_is_given_up_with_that_reason_even_while_paused(
    bench: SendingBench, server: MisbehavingServer
) -> None:
    name = new_name()
    record = bench.subscribe(server.url(name))
    bench.subscribing.pause(record.id)
    event = bench.owe(record)
    bench.work(record)
    bench.run_until(bench.clock() + timedelta(days=16), step=timedelta(hours=13))
    assert bench.delivery(record, event).reason is Why.EXPIRED
    assert server.received(name) == []


def test_a_body_that_is_too_large_is_a_delivery_given_up_and_nothing_waits(
    bench: SendingBench, server: MisbehavingServer
) -> None:
    record = bench.subscribe(server.url(new_name()))
    event = bench.owe(record, body=b"x" * (LONGEST_BODY + 1))
    bench.owe(record, event=event, body=b"x" * (LONGEST_BODY + 1))
    delivery = bench.delivery(record, event)
    assert (delivery.state, delivery.reason) == (DeliveryState.GIVEN_UP, Why.BODY_TOO_LARGE)
    assert str(LONGEST_BODY) in delivery.error
    assert bench.entries(record) == 0


def test_a_deleted_subscription_s_deliveries_are_given_up_with_that_reason(
    bench: SendingBench, server: MisbehavingServer
) -> None:
    name = new_name()
    record = bench.subscribe(server.url(name))
    events = [bench.owe(record) for _ in range(30)]
    bench.subscribing.delete(record.id)
    assert bench.wake() == [record.id]
    assert {bench.delivery(record, event).reason for event in events} == {Why.SUBSCRIPTION_DELETED}
    assert server.received(name) == []
    with pytest.raises(NoSuchSubscription):
        bench.subscribing.show(record.id)
    assert record not in bench.subscriptions.all()
    # What became of its deliveries can still be looked up; what it held in secret is gone.
    found, _ = listing.page(bench.deliveries, bench.subscriptions, DeliveryFilters(state=DeliveryState.GIVEN_UP))
    assert {delivery.event for delivery in found} == set(events)
    everything = bench.dynamodb.scan(TableName=bench.table)["Items"]
    assert b"sealed" not in b"".join(item["record"]["B"] for item in everything if "record" in item)


def test_a_delivery_is_sent_again_under_its_id_and_its_schedule_begins_anew(
    bench: SendingBench, server: MisbehavingServer
) -> None:
    name = new_name()
    record = bench.subscribe(server.url(name))
    event = bench.owe(record)
    with pytest.raises(StillWaiting):
        bench.deliveries.send_again(delivery_id(record.id, "test", event), ordered=False)
    bench.work(record)
    server.script(name, [Answer(500)])
    bench.deliveries.send_again(delivery_id(record.id, "test", event), ordered=False)
    bench.work(record)
    bench.clock.passes(seconds=6)
    bench.work(record)
    delivery = bench.delivery(record, event)
    assert (delivery.state, delivery.attempts, delivery.sent_again) == (DeliveryState.DELIVERED, 3, 1)
    assert [tried.status for tried in bench.tries(record, event)] == [200, 500, 200]
    assert len({each.header("webhook-id") for each in server.received(name)}) == 1
    assert len({each.body for each in server.received(name)}) == 1
    with pytest.raises(NoSuchDelivery):
        bench.deliveries.send_again("dlv_nothing", ordered=False)


def test_what_was_erased_is_gone_its_record_stays_and_it_cannot_come_back(
    bench: SendingBench, server: MisbehavingServer
) -> None:
    name = new_name()
    server.script(name, [Answer(500, body=b"Ann Smith is unknown")], then=Answer(200))
    first, second = bench.subscribe(server.url(name)), bench.subscribe(server.url(new_name()))
    event = bench.owe(first, second, body=b'{"name": "Ann Smith"}')
    bench.work(first, second)
    name_of_first = delivery_id(first.id, "test", event)
    bench.deliveries.erase(name_of_first)
    bench.owe(first, second, event=event, body=b'{"name": "Ann Smith"}')
    bench.clock.passes(seconds=6)
    bench.work(first, second)
    assert bench.delivery(first, event).reason is Why.PAYLOAD_ERASED
    assert bench.delivery(second, event).state is DeliveryState.DELIVERED
    assert [tried.body for tried in bench.tries(first, event)] == [""]
    everything = bench.dynamodb.scan(TableName=bench.table)["Items"]
    assert "Ann Smith" not in str(everything)
    with pytest.raises(PayloadGone):
        bench.deliveries.send_again(delivery_id(second.id, "test", event), ordered=False)


def test_signals_that_the_bus_does_not_take_are_kept_and_told_later(
    bench: SendingBench, server: MisbehavingServer
) -> None:
    name = new_name()
    server.script(name, then=Gone())
    record = bench.subscribe(server.url(name))
    bench.owe(record)
    bench.heard.fails = True
    bench.work(record)
    assert bench.heard.kinds() == []
    bench.heard.fails = False
    bench.clock.passes(minutes=3)
    assert bench.wake() == [record.id]
    assert bench.heard.kinds() == ["paused"]


def test_signatures_hold_in_other_libraries_through_a_rotation(bench: SendingBench, server: MisbehavingServer) -> None:
    if not installed():
        pytest.skip("npm's libraries are not installed")
    name = new_name()
    created, _ = bench.subscribing.create(
        Wish(url=server.url(name), types=("*",), secret=SECRET, ed25519=True, headers={"x-token": "t"}), None
    )
    assert created.secret is None
    record = bench.subscriptions.get(created.subscription.id)[0]
    assert b"t" not in record.sealed.split(b'"')
    bench.owe(record, body='{"name": "Zoë €"}'.encode())
    bench.work(record)
    rotated = bench.subscribing.rotate(record.id, timedelta(hours=1))
    bench.owe(record)
    bench.work(record)
    bench.clock.passes(hours=2)
    bench.owe(record)
    bench.work(record)
    first, during, after = server.received(name)
    assert first.header("x-token") == "t"
    assert str(first.header("webhook-signature")).count("v1,") == 1
    with Verifiers() as verifiers:

        def good(secret: str, received: Any) -> bool:
            at = float(received.header("webhook-timestamp"))
            return verifiers.good(secret, received.headers, received.body, now=at)

        assert [good(SECRET, each) for each in (first, during, after)] == [True, True, False]
        assert [good(rotated.secret, each) for each in (first, during, after)] == [False, True, True]
        public = created.subscription.public_key or ""
        assert [good(public, each) for each in (first, during, after)] == [True, True, True]


def test_too_many_rotations_within_the_overlap_are_refused(bench: SendingBench, server: MisbehavingServer) -> None:
    record = bench.subscribe(server.url(new_name()))
    for _ in range(4):
        bench.subscribing.rotate(record.id, timedelta(hours=24))
    with pytest.raises(TooManySecrets):
        bench.subscribing.rotate(record.id, timedelta(hours=24))
    bench.clock.passes(hours=25)
    assert bench.subscribing.rotate(record.id, timedelta(0)).subscription.secrets == 2


def test_the_same_idempotency_key_is_the_same_subscription_and_its_secret_is_told_once(
    bench: SendingBench, server: MisbehavingServer
) -> None:
    wish = Wish(url=server.url(new_name()), types=("visit.*",))
    first, new = bench.subscribing.create(wish, "key-1")
    again, not_new = bench.subscribing.create(wish, "key-1")
    assert (new, not_new) == (True, False)
    assert first.subscription.id == again.subscription.id
    assert first.secret
    assert again.secret is None
    with pytest.raises(IdempotencyConflict):
        bench.subscribing.create(Wish(url=wish.url, types=("supply.low",)), "key-1")


REFUSED: dict[str, tuple[dict[str, Any], type[Refusal], str]] = {
    "metadata": ({"url": "http://169.254.169.254/latest"}, BadUrl, "metadata"),
    "a private address": ({"url": "http://10.0.0.1/"}, BadUrl, "private"),
    "no URL": ({"url": "clinic.example"}, BadUrl, "url"),
    "another scheme": ({"url": "ftp://clinic.example/"}, BadUrl, "scheme"),
    "a queue that is not listed": ({"url": "arn:aws:sqs:eu-west-1:111122223333:q"}, BadUrl, "destinations"),
    "an ARN of something else": ({"url": "arn:aws:s3:::bucket"}, BadUrl, "no ARN"),
    "a type that nothing has": ({"types": ("visit.enedd",)}, BadTypes, "visit.ended"),
    "a pattern that is none": ({"types": ("visit.",)}, BadTypes, "no event type"),
    "a filter that is none": ({"filter": {"ward": "Eyes"}}, BadFilter, "filter.ward"),
    "a secret that is too short": ({"secret": "whsec_AAAA"}, BadSecret, "24 to 64"),
    "a secret without its prefix": ({"secret": "x" * 40}, BadSecret, "whsec_"),
    "a header of ours": ({"headers": {"Webhook-Id": "x"}}, BadHeader, "Webhook-Id"),
    "a header of the connection": ({"headers": {"Host": "x"}}, BadHeader, "Host"),
    "a header's value with a blank behind": (
        {"headers": {"Authorization": "Bearer s3cret "}},
        BadHeader,
        "'Authorization' begins or ends with a blank",
    ),
    "a header's value with a blank before": ({"headers": {"X-Key": " s3cret"}}, BadHeader, "'X-Key'"),
    "a header's value of a blank": ({"headers": {"X-Key": " "}}, BadHeader, "'X-Key'"),
    "a header's value with a line's end": ({"headers": {"X-Key": "s3cret\n"}}, BadHeader, "'X-Key'"),
    "a header's name with a line's end": ({"headers": {"X-Key\n": "s3cret"}}, BadHeader, "a name"),
    "a header in two cases": (
        {"headers": {"Authorization": "one s3cret", "authorization": "two s3cret"}},
        BadHeader,
        "'Authorization' and 'authorization' are one header",
    ),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_cannot_be_is_refused_at_the_door_and_nothing_of_it_is_kept(
    what: str, bench: SendingBench, server: MisbehavingServer
) -> None:
    fields, refusal, says = REFUSED[what]
    wish = Wish(**{"url": server.url(new_name()), "types": ("visit.ended",), **fields})
    with pytest.raises(refusal, match=says) as told:
        bench.subscribing.create(wish, None)
    assert wish.secret is None or wish.secret not in str(told.value)
    assert "s3cret" not in str(told.value)
    assert bench.subscriptions.all() == ()


def test_a_change_to_headers_that_cannot_be_sent_is_refused(bench: SendingBench, server: MisbehavingServer) -> None:
    record = bench.subscribe(server.url(new_name()), headers={"X-Key": "well"})
    with pytest.raises(BadHeader, match="'X-Key'") as told:
        bench.subscribing.change(record.id, Change(headers={"X-Key": "s3cret "}))
    assert "s3cret" not in str(told.value)
    assert bench.subscribing.change(record.id, Change(rate=5)).headers == ("X-Key",)


def test_a_header_that_was_kept_and_cannot_be_sent_is_told_by_its_name_alone(
    bench: SendingBench, server: MisbehavingServer, capsys: pytest.CaptureFixture[str]
) -> None:
    record = bench.subscribe(server.url(new_name()))
    holding = bench.sender._open(record)
    sealed = bench.vault.seal(
        record.id, msgspec.json.encode(msgspec.structs.replace(holding, headers={"Authorization": "Bearer s3cret "}))
    )
    bench.subscriptions.change(record.id, lambda before: msgspec.structs.replace(before, sealed=sealed))
    event = bench.owe(record)
    bench.work(record)
    delivery = bench.delivery(record, event)
    assert "LocalProtocolError: the header Authorization has a value" in delivery.error
    assert "s3cret" not in str(delivery) + str(bench.tries(record, event)) + "".join(capsys.readouterr())


def test_an_endpoint_that_sends_back_what_it_was_sent_puts_no_value_of_a_header_into_the_record(
    bench: SendingBench, server: MisbehavingServer
) -> None:
    name = new_name()
    sent = {"X-You-Sent": "Bearer s3cret-key", "X-Token": "s3cret-key?", "Content-Type": "text/plain"}
    server.script(name, then=Answer(headers=sent, body=b"x" * 1015 + b"Bearer s3cret-key"))
    own = {"Authorization": "Bearer s3cret-key", "Accept": "text/plain", "X-Short": "plain"}
    record = bench.subscribe(server.url(name), headers=own)
    event = bench.owe(record)
    bench.work(record)
    [tried] = bench.tries(record, event)
    assert tried.headers["x-you-sent"] == "(the value of Authorization)"
    assert tried.headers["x-token"] == "(the value of Authorization)?"
    assert tried.headers["content-type"] == "text/plain"
    assert tried.body == ("x" * 1015 + "(the value of Authorization)")[:1024]


def test_a_record_has_no_part_of_a_header_s_value_nor_its_value_as_a_name_or_in_another_case(
    bench: SendingBench, server: MisbehavingServer
) -> None:
    name, key = new_name(), "K3y-" + "x" * 196
    # Put in place of a long value, its name is shorter: what follows is kept then, up to the middle of the next one.
    body = key + "y" * 825 + key
    server.script(name, then=Answer(headers={key.lower(): "1", "X-You-Sent": key.upper()}, body=body.encode()))
    record = bench.subscribe(server.url(name), headers={"X-Key": key})
    event = bench.owe(record)
    bench.work(record)
    [tried] = bench.tries(record, event)
    assert tried.headers["(the value of X-Key)"] == "1"
    assert tried.headers["x-you-sent"] == "(the value of X-Key)"
    assert tried.body == "(the value of X-Key)" + "y" * 825


def test_a_change_changes_what_it_names_and_planners_see_it_at_once(
    bench: SendingBench, server: MisbehavingServer
) -> None:
    record = bench.subscribe(server.url(new_name()), types=("visit.ended",), rate=5, headers={"a": "1"})
    other = bench.subscriptions
    assert [each.types for each in other.all()] == [("visit.ended",)]
    changed = bench.subscribing.change(record.id, Change(types=("supply.low",), rate=None, headers={"b": "2"}))
    assert (changed.types, changed.rate, changed.headers) == (("supply.low",), None, ("b",))
    assert [each.types for each in other.all()] == [("supply.low",)]
    assert bench.subscribing.holding(record.id)[1].headers == {"b": "2"}
    with pytest.raises(BadTypes):
        bench.subscribing.change(record.id, Change(types=("nothing",)))
    with pytest.raises(NoSuchSubscription):
        bench.subscribing.change("sub_nothing", Change(rate=1))


def test_a_vault_opens_only_what_it_sealed_for_that_subscription() -> None:
    vault = Vault({CURRENT: "one key"}.get)
    sealed = vault.seal("sub_a", b"content")
    assert vault.open("sub_a", sealed) == b"content"
    assert vault.seal("sub_a", b"content") != sealed
    for other, name in ((vault, "sub_b"), (Vault({CURRENT: "another key"}.get), "sub_a")):
        with pytest.raises(NotSealedHere):
            other.open(name, sealed)
    with pytest.raises(NotSealedHere):
        vault.open("sub_a", sealed[:-1] + bytes([sealed[-1] ^ 1]))


def test_a_vault_whose_key_is_changed_opens_what_both_have_sealed_and_seals_under_the_new_one() -> None:
    asked: list[str] = []
    keys = {CURRENT: "the old key"}

    def read(label: str) -> str | None:
        asked.append(label)
        return keys.get(label)

    vault = Vault(read)
    old = vault.seal("sub_a", b"content")
    assert vault.open("sub_a", old) == b"content"
    keys.update({CURRENT: "the new key", PREVIOUS: "the old key"})
    new = vault.seal("sub_a", b"content")
    for warm in (vault, Vault(read)):
        assert [warm.open("sub_a", sealed) for sealed in (old, new, old)] == [b"content"] * 3
    anew = vault.sealed_anew("sub_a", old)
    assert anew != old
    assert vault.sealed_anew("sub_a", anew) == anew
    assert vault.sealed_anew("sub_a", new) == new
    del keys[PREVIOUS]
    cold = Vault(read)
    asked.clear()
    assert [cold.open("sub_a", sealed) for sealed in (new, anew, new)] == [b"content"] * 3
    assert asked == [CURRENT], "a warm worker reads the key once"
    with pytest.raises(NotSealedHere):
        cold.open("sub_a", old)


def test_a_secret_is_read_as_it_is_shown() -> None:
    assert brought(shown(b"x" * 32)) == b"x" * 32


def test_pages_of_deliveries_neither_skip_nor_repeat_while_others_are_added(
    bench: SendingBench, server: MisbehavingServer
) -> None:
    records = [bench.subscribe(server.url(new_name()), tenant=tenant) for tenant in ("a", "b", "a")]
    events = []
    for number in range(25):
        bench.clock.passes(seconds=1)
        events.append(bench.owe(*records, event=f"e{number:02}"))
    seen: list[tuple[str, str]] = []
    wanted = DeliveryFilters(limit=7, tenant="a")
    while True:
        found, cursor = listing.page(bench.deliveries, bench.subscriptions, wanted)
        seen += [(delivery.event, delivery.subscription) for delivery in found]
        bench.clock.passes(seconds=1)
        bench.owe(*records)
        if cursor is None:
            break
        wanted = msgspec.structs.replace(wanted, cursor=cursor)
    of_a = {records[0].id, records[2].id}
    assert len(seen) == len(set(seen)) == 50
    assert set(seen) == {(event, name) for event in events for name in of_a}
    assert [event for event, _ in seen] == sorted((event for event, _ in seen), reverse=True)
    by_event, _ = listing.page(bench.deliveries, bench.subscriptions, DeliveryFilters(event="e03"))
    assert len(by_event) == 3
    for before in (DeliveryFilters(until=datetime(1, 1, 1, tzinfo=UTC)), DeliveryFilters(cursor="#")):
        assert listing.page(bench.deliveries, bench.subscriptions, before) == ([], None)
    since = DeliveryFilters(since=bench.clock() - timedelta(seconds=2), limit=200)
    assert len(listing.page(bench.deliveries, bench.subscriptions, since)[0]) <= 9
