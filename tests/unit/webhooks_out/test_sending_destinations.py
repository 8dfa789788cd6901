"""Webhooks to queues and buses of others: real ones, on the embedded AWS."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import boto3
import pytest
import standardwebhooks.webhooks

from offload.contracts.webhooks_out.subscription import Change, DeliveryState, Wish
from offload.runtime.webhooks_out.items import delivery_id
from offload.runtime.webhooks_out.refusals import BadHeader, BadUrl
from tests.unit.webhooks_out.sending_bench import Clock, SendingBench

SUBJECT = "Zoë's visit"


@pytest.fixture
def bench(aws_of_module: None) -> Iterator[SendingBench]:
    made = SendingBench(clock=Clock(datetime.now(UTC)))
    yield made
    made.close()


def a_queue(bench: SendingBench, name: str) -> tuple[str, str]:
    """A queue that subscriptions may name: its URL and ARN."""
    kind: Any = {"FifoQueue": "true"} if name.endswith(".fifo") else {}
    url = bench.sqs.create_queue(QueueName=name, Attributes=kind)["QueueUrl"]
    arn = bench.sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    bench.destinations.add(arn)
    return url, arn


def headers_of(message: Any) -> dict[str, str]:
    return {name: each["StringValue"] for name, each in message["MessageAttributes"].items()}


def test_a_queue_gets_what_an_endpoint_would_signature_and_own_headers_with_it(bench: SendingBench) -> None:
    url, arn = a_queue(bench, "of-another")
    own = {f"x-{number}": str(number) for number in range(7)}
    created, _ = bench.subscribing.create(Wish(url=arn, types=("*",), headers=own), None)
    record = bench.subscriptions.get(created.subscription.id)[0]
    body = json.dumps({"type": "visit.ended", "data": {"patient": "Zoë"}}, ensure_ascii=False).encode()
    event = bench.owe(record, body=body)
    bench.work(record)
    [message] = bench.taken(url)
    headers = headers_of(message)
    assert message["Body"].encode() == body
    assert created.secret
    standardwebhooks.webhooks.Webhook(created.secret).verify(message["Body"], headers)
    assert headers["webhook-id"] == delivery_id(record.id, "test", event)
    assert own.items() <= headers.items()
    assert bench.delivery(record, event).state is DeliveryState.DELIVERED


def test_a_fifo_queue_keeps_the_order_of_a_subject_and_takes_what_is_sent_again(bench: SendingBench) -> None:
    url, arn = a_queue(bench, "in-order.fifo")
    record = bench.subscribe(arn, ordered=True)
    events = []
    for _ in range(3):
        events.append(bench.owe(record, subject=SUBJECT))
        bench.clock.passes(seconds=1)
    bench.work(record)
    messages = bench.taken(url)
    assert [json.loads(each["Body"])["id"] for each in messages] == events
    assert len({each["Attributes"]["MessageGroupId"] for each in messages}) == 1
    # Within the five minutes in which a FIFO queue drops what it had before.
    again = delivery_id(record.id, "test", events[0])
    bench.deliveries.send_again(again, ordered=True)
    bench.work(record)
    assert [headers_of(each)["webhook-id"] for each in bench.taken(url)] == [again]


def test_a_bus_gets_an_event_of_the_same_source_and_type_that_names_its_delivery(bench: SendingBench) -> None:
    events = boto3.client("events")
    arn = events.create_event_bus(Name="of-another")["EventBusArn"]
    bench.destinations.add(arn)
    url, queue = a_queue(bench, "behind-the-bus")
    events.put_rule(Name="all", EventBusName="of-another", EventPattern=json.dumps({"source": ["test"]}))
    events.put_targets(Rule="all", EventBusName="of-another", Targets=[{"Id": "queue", "Arn": queue}])
    record = bench.subscribe(arn)
    event = bench.owe(record)
    bench.work(record)
    [message] = bench.taken(url)
    came = json.loads(message["Body"])
    assert (came["source"], came["detail-type"]) == ("test", "thing.happened")
    assert came["detail"]["id"] == event
    assert came["detail"]["delivery"] == delivery_id(record.id, "test", event)
    assert bench.delivery(record, event).state is DeliveryState.DELIVERED


def test_a_queue_that_is_gone_is_a_failed_attempt_that_says_so_and_is_tried_again(bench: SendingBench) -> None:
    url, arn = a_queue(bench, "not-for-long")
    record = bench.subscribe(arn)
    bench.sqs.delete_queue(QueueUrl=url)
    event = bench.owe(record)
    bench.work(record)
    [attempt] = bench.tries(record, event)
    assert attempt.status is None
    assert "NonExistentQueue" in attempt.error
    found = bench.delivery(record, event)
    assert (found.state, found.attempts) == (DeliveryState.WAITING, 1)
    again, _ = a_queue(bench, "not-for-long")
    bench.clock.passes(minutes=1)
    bench.work(record)
    assert len(bench.taken(again)) == 1
    assert bench.delivery(record, event).state is DeliveryState.DELIVERED


def test_headers_that_a_message_has_no_room_for_are_refused_at_the_door(bench: SendingBench) -> None:
    _, queue = a_queue(bench, "narrow")
    bus = queue.replace(":sqs:", ":events:").replace("narrow", "event-bus/narrow")
    bench.destinations.add(bus)
    many = {f"x-{number}": "1" for number in range(8)}
    for url, headers, says in (
        (queue, many, "room for 7"),
        (queue, {"x": ""}, "'x' is empty"),
        (bus, {"x": "1"}, "bus"),
    ):
        with pytest.raises(BadHeader, match=says):
            bench.subscribing.create(Wish(url=url, types=("*",), headers=headers), None)
    with pytest.raises(BadUrl, match="destinations"):
        bench.subscribing.create(Wish(url=f"{queue}-other", types=("*",)), None)
    assert bench.subscriptions.all() == ()
    record = bench.subscribe(queue, headers={"x": "1"})
    with pytest.raises(BadHeader, match="bus"):
        bench.subscribing.change(record.id, Change(url=bus))
    assert bench.subscriptions.get(record.id)[0].url == queue
