"""The bus is told of subscriptions whose endpoints fail: real events on the embedded AWS."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from datetime import timedelta

import boto3
import pytest

from offload.contracts.functions import own
from offload.contracts.webhooks_out.events import SubscriptionFailing
from offload.runtime.webhooks_out.bus import BusSignals
from offload.runtime.webhooks_out.health import Signal
from tests.calls.plugin import tell
from tests.calls.recording import acting_as
from tests.patience import queue_without_redelivery
from tests.unit.webhooks_out.sending_bench import SendingBench


@pytest.fixture
def bench(aws_of_module: None) -> Iterator[SendingBench]:
    made = SendingBench()
    yield made
    made.close()


def test_a_signal_is_an_event_of_the_subscriptions_source_on_the_bus(bench: SendingBench) -> None:
    bus = f"signals-{uuid.uuid4().hex[:8]}"
    tell(bus, "OFFLOAD_BUS")
    events = boto3.client("events")
    events.create_event_bus(Name=bus)
    queue = queue_without_redelivery(bench.sqs, bus)
    arn = bench.sqs.get_queue_attributes(QueueUrl=queue, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    events.put_rule(Name=bus, EventBusName=bus, EventPattern=json.dumps({"source": [SubscriptionFailing.SOURCE]}))
    events.put_targets(Rule=bus, EventBusName=bus, Targets=[{"Id": "queue", "Arn": arn}])
    record = bench.subscribe("http://127.0.0.1:9/failing")
    at = bench.clock()
    with acting_as(own("delivery_sender")):
        BusSignals(bus).publish(
            record, [Signal(kind="failing", failing_since=at - timedelta(hours=60), at=at, percent=50)], bench.policy
        )
    found = bench.sqs.receive_message(QueueUrl=queue, WaitTimeSeconds=5)["Messages"]
    assert [json.loads(each["Body"])["detail"]["data"]["percent"] for each in found] == [50]
