"""Events that are too large for the bus, through a real bucket, bus and queue."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from hashlib import sha256
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError, EndpointConnectionError

from clinic.contracts.visits import VisitEnded, VisitLine
from offload.client.publisher import (
    REQUEST_BYTES,
    WHOLE_BYTES,
    ClaimStore,
    EventTooLarge,
    NotPublished,
    Publisher,
    Retries,
)
from offload.contracts.events.claim import CLAIM_LIMIT
from offload.contracts.events.entry import Entry
from offload.contracts.events.event import Envelope, Event, by_type, read_envelope
from offload.runtime.events.claim_check import ForeignClaim, MissingClaim, fetch
from tests.unit.events.bus_server import serving

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

# An SQS message (quotas-messages.html, read 2026-11-23).
MESSAGE_BYTES = 1_048_576


def ended(visit: str, size: int, character: str = "x") -> Event[VisitEnded]:
    """An event of `size` bytes as its entry is measured."""

    def of(description: str) -> Event[VisitEnded]:
        line = VisitLine(item="85123A", quantity=6, unit_price=Decimal("2.55"), description=description)
        moment = datetime(2010, 12, 1, tzinfo=UTC)
        return VisitEnded(visit=visit, ended_at=moment, ward="United Kingdom", lines=(line,)).event()

    width = Entry.of(of(character)).size() - Entry.of(of("")).size()
    left = size - Entry.of(of("")).size()
    return of(character * (left // width) + "x" * (left % width))


@dataclass
class Place:
    """A bus whose events all end in one queue, and a bucket for claims."""

    bus: str
    bucket: str
    queue: str
    publisher: Publisher

    @property
    def s3(self) -> S3Client:
        return boto3.client("s3")

    def keys(self) -> list[str]:
        return [found["Key"] for found in self.s3.list_objects_v2(Bucket=self.bucket).get("Contents", [])]

    def received(self) -> tuple[int, Envelope]:
        """The size of the one message in the queue, and the envelope in it."""
        messages: list[Any] = boto3.client("sqs").receive_message(QueueUrl=self.queue, WaitTimeSeconds=10)["Messages"]
        (message,) = messages
        body = message["Body"]
        boto3.client("sqs").delete_message(QueueUrl=self.queue, ReceiptHandle=message["ReceiptHandle"])
        return len(body.encode()), read_envelope(json.dumps(json.loads(body)["detail"]).encode())


@pytest.fixture
def place(aws_environment: None) -> Iterator[Place]:
    name = f"claims-{uuid4().hex[:12]}"
    events, sqs, s3 = boto3.client("events"), boto3.client("sqs"), boto3.client("s3")
    s3.create_bucket(Bucket=name)
    events.create_event_bus(Name=name)
    queue = sqs.create_queue(QueueName=name, Attributes={"MaximumMessageSize": str(MESSAGE_BYTES)})["QueueUrl"]
    arn = sqs.get_queue_attributes(QueueUrl=queue, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    events.put_rule(Name=name, EventBusName=name, EventPattern='{"source":["offload.clinic"]}')
    events.put_targets(Rule=name, EventBusName=name, Targets=[{"Id": "queue", "Arn": arn}])
    yield Place(name, name, queue, Publisher(name, events=events, claims=ClaimStore(name, s3=s3)))
    events.remove_targets(Rule=name, EventBusName=name, Ids=["queue"])
    events.delete_rule(Name=name, EventBusName=name)


@pytest.mark.parametrize("character", ["x", '"', "é", "😀"])
def test_an_event_at_the_threshold_reaches_a_queue_whole(place: Place, character: str) -> None:
    event = ended("1", WHOLE_BYTES, character)

    sent = place.publisher.publish_many([event])

    size, envelope = place.received()
    assert sent.claim_checks == 0
    assert WHOLE_BYTES - 6 <= Entry.of(event).size() <= WHOLE_BYTES
    assert size <= MESSAGE_BYTES
    assert envelope.event(by_type([VisitEnded])) == event


def test_an_event_over_the_threshold_leaves_its_data_in_the_bucket_by_the_same_call(place: Place) -> None:
    small, large = ended("1", 1000), ended("2", 3 * REQUEST_BYTES, "é")

    sent = place.publisher.publish_many([small, large])

    assert (sent.count, sent.claim_checks) == (2, 1)
    envelopes = {envelope.id: (size, envelope) for size, envelope in (place.received(), place.received())}
    assert envelopes[small.id][1].event(by_type([VisitEnded])) == small
    size, envelope = envelopes[large.id]
    assert size < 1000
    assert not envelope.data
    (key,) = place.keys()
    assert envelope.dataref == f"s3://{place.bucket}/{key}"
    data = fetch(envelope.dataref, bucket=place.bucket, s3=place.s3)
    assert envelope.event(by_type([VisitEnded]), data) == large


def test_the_same_large_event_published_again_is_the_same_object_with_a_new_lifetime(place: Place) -> None:
    event = ended("1", 2 * REQUEST_BYTES)
    place.publisher.publish(event)
    (key,) = place.keys()
    first = place.s3.head_object(Bucket=place.bucket, Key=key)["LastModified"]

    place.publisher.publish(event)

    assert place.keys() == [key]
    assert place.s3.head_object(Bucket=place.bucket, Key=key)["LastModified"] >= first


def test_an_event_too_large_even_for_a_claim_is_refused_before_anything_is_sent(place: Place) -> None:
    with pytest.raises(EventTooLarge, match=r"visit\.ended:2.*claim check"):
        place.publisher.publish(ended("1", 1000), ended("2", CLAIM_LIMIT + 1000))

    assert place.keys() == []


def test_a_claims_bucket_that_is_not_there_fails_the_large_event_only(place: Place) -> None:
    claims = ClaimStore("no-such-bucket-of-claims", s3=place.s3)
    publisher = Publisher(place.bus, events=boto3.client("events"), claims=claims)

    with pytest.raises(NotPublished, match=r"visit\.ended:2: NoSuchBucket \(claim check") as caught:
        publisher.publish(ended("1", 1000), ended("2", 2 * REQUEST_BYTES))

    assert caught.value.published == ["visit.ended:1"]


def test_a_claims_bucket_that_is_out_of_reach_is_tried_again_within_bounds(aws_environment: None) -> None:
    once = Config(retries={"total_max_attempts": 1})
    with serving() as gone:
        nowhere = gone.url
    with serving() as bus:
        claims = ClaimStore("claims", s3=boto3.client("s3", endpoint_url=nowhere, config=once))
        retries = Retries(attempts=3, base=0.001)
        publisher = Publisher("visits", events=bus.client(), claims=claims, retries=retries)
        with pytest.raises(NotPublished, match="claim check: Could not connect"):
            publisher.publish(ended("2", 2 * REQUEST_BYTES))

        assert bus.requests == []


@pytest.mark.parametrize(
    "dataref",
    [
        "s3://another-bucket/claims/visit.ended/1.json",
        "s3://{bucket}-2/claims/visit.ended/1.json",
        "s3://{bucket}/elsewhere/1.json",
        "s3://{bucket}",
        "https://{bucket}.s3.amazonaws.com/claims/1.json",
        "file:///etc/passwd",
        "",
    ],
)
def test_a_claim_that_is_not_in_the_environments_own_bucket_is_refused_unasked(place: Place, dataref: str) -> None:
    nowhere = boto3.client("s3", endpoint_url="http://127.0.0.1:9", config=Config(retries={"total_max_attempts": 1}))

    with pytest.raises(ForeignClaim, match="dataref"):
        fetch(dataref.format(bucket=place.bucket), bucket=place.bucket, s3=nowhere)


def test_a_claim_whose_body_is_gone_is_missing(place: Place) -> None:
    place.publisher.publish(ended("1", 2 * REQUEST_BYTES))
    (key,) = place.keys()
    place.s3.delete_object(Bucket=place.bucket, Key=key)

    with pytest.raises(MissingClaim, match=f"{key}.*does not exist"):
        fetch(f"s3://{place.bucket}/{key}", bucket=place.bucket, s3=place.s3)


def test_a_claim_whose_body_was_changed_is_not_taken_for_what_was_stored(place: Place) -> None:
    place.publisher.publish(ended("1", 2 * REQUEST_BYTES))
    (key,) = place.keys()
    place.s3.put_object(Bucket=place.bucket, Key=key, Body=b'{"visit":"1"}')

    with pytest.raises(MissingClaim, match="not what was stored"):
        fetch(f"s3://{place.bucket}/{key}", bucket=place.bucket, s3=place.s3)


def test_a_claim_larger_than_a_function_can_hold_is_refused_unread(place: Place) -> None:
    body = b"x" * (CLAIM_LIMIT + 1)
    key = f"claims/visit.ended/{sha256(body).hexdigest()}.json"
    place.s3.put_object(Bucket=place.bucket, Key=key, Body=body)

    with pytest.raises(MissingClaim, match=f"{CLAIM_LIMIT + 1} bytes"):
        fetch(f"s3://{place.bucket}/{key}", bucket=place.bucket, s3=place.s3)


def test_other_troubles_of_the_bucket_are_left_to_a_retry(place: Place) -> None:
    nowhere = boto3.client("s3", endpoint_url="http://127.0.0.1:9", config=Config(retries={"total_max_attempts": 1}))
    with pytest.raises(EndpointConnectionError):
        fetch(f"s3://{place.bucket}/claims/1.json", bucket=place.bucket, s3=nowhere)

    with pytest.raises(ClientError, match="NoSuchBucket"):
        fetch("s3://no-such-bucket-at-all/claims/1.json", bucket="no-such-bucket-at-all", s3=place.s3)
