"""A consumer's queues and tables in the embedded AWS, for the modules that try its runtime."""

from __future__ import annotations

import json
import uuid
from datetime import UTC, datetime
from decimal import Decimal
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import boto3
import pytest

from clinic.contracts.visits import VisitEnded, VisitLine
from offload.contracts.events.event import Event
from offload.runtime.events import sums
from tests.conftest import new_table
from tests.patience import queue_without_redelivery

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient
    from mypy_boto3_sqs import SQSClient

CONTEXT: Any = SimpleNamespace(aws_request_id="request-1")


class Bench:
    """A consumer's queues and marks, and records as Lambda hands them over."""

    def __init__(self, sqs: SQSClient, dynamodb: DynamoDBClient, monkeypatch: pytest.MonkeyPatch) -> None:
        self.sqs, self.dynamodb = sqs, dynamodb
        self.name = f"C{uuid.uuid4().hex[:8]}"
        self.queue = queue_without_redelivery(sqs, f"{self.name}-queue")
        self.dead = queue_without_redelivery(sqs, f"{self.name}-dead")
        self.marks = new_table(dynamodb, f"{self.name}-marks")
        self.figures = new_table(dynamodb, f"{self.name}-figures")
        self.bus = f"{self.name}-bus"
        events = boto3.client("events")
        events.create_event_bus(Name=self.bus)
        events.put_rule(Name=f"{self.name}-all", EventBusName=self.bus, EventPattern='{"source": [{"prefix": ""}]}')
        self.published = queue_without_redelivery(sqs, f"{self.name}-published")
        arn = sqs.get_queue_attributes(QueueUrl=self.published, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
        events.put_targets(Rule=f"{self.name}-all", EventBusName=self.bus, Targets=[{"Id": "t", "Arn": arn}])
        bucket = f"{self.name.lower()}-claims"
        boto3.client("s3").create_bucket(Bucket=bucket)
        for variable, value in {
            "OFFLOAD_CONSUMER": self.name,
            "OFFLOAD_QUEUE_URL": self.queue,
            "OFFLOAD_DEAD_LETTER_QUEUE_URL": self.dead,
            "OFFLOAD_MARKS_TABLE": self.marks,
            "OFFLOAD_CLAIMS_BUCKET": bucket,
            "OFFLOAD_ATTEMPTS": "3",
            "OFFLOAD_BUS": self.bus,
        }.items():
            monkeypatch.setenv(variable, value)

    def batch(self, *bodies: Event[Any] | str, attempt: int = 1) -> dict[str, Any]:
        """Sends the bodies through the real queue and returns them as one Lambda invocation's event."""
        records: list[dict[str, Any]] = []
        sent: set[str] = set()
        for body in bodies:
            text = body if isinstance(body, str) else message(json.loads(body.to_json()))
            sent.add(self.sqs.send_message(QueueUrl=self.queue, MessageBody=text)["MessageId"])
        while len(records) < len(bodies):
            found = self.sqs.receive_message(QueueUrl=self.queue, MaxNumberOfMessages=10, WaitTimeSeconds=2)
            assert found.get("Messages"), "the queue lost a message"
            records += [
                {
                    "messageId": each["MessageId"],
                    "receiptHandle": each["ReceiptHandle"],
                    "body": each["Body"],
                    "attributes": {"ApproximateReceiveCount": str(attempt), "SentTimestamp": "1291191960000"},
                }
                for each in found["Messages"]
                # On a slow machine the wait of one that is retried may be over.
                if each["MessageId"] in sent
            ]
        order = {text: number for number, text in enumerate(b if isinstance(b, str) else "" for b in bodies)}
        return {"Records": sorted(records, key=lambda record: order.get(record["body"], 0))}

    def dead_letters(self) -> list[dict[str, str]]:
        """The attributes of what is in the dead-letter queue."""
        found = self.sqs.receive_message(
            QueueUrl=self.dead, MaxNumberOfMessages=10, MessageAttributeNames=["All"], WaitTimeSeconds=1
        ).get("Messages", [])
        return [{name: value["StringValue"] for name, value in m["MessageAttributes"].items()} for m in found]

    def publications(self) -> list[dict[str, Any]]:
        """The events on the bus so far."""
        found = self.sqs.receive_message(QueueUrl=self.published, MaxNumberOfMessages=10, WaitTimeSeconds=1)
        return [json.loads(each["Body"])["detail"] for each in found.get("Messages", [])]

    def done(self) -> dict[str, int]:
        """The tally: how many events of each type were done."""
        rows = sums.read(self.dynamodb, self.marks).get("done", {})
        return {kind: int(amounts[0]) for kind, amounts in rows.items()}


def visit(number: int, quantity: int = 1) -> Event[VisitEnded]:
    """A visit of one line."""
    return VisitEnded(
        visit=str(number),
        ended_at=datetime(2010, 12, 1, 8, 26, tzinfo=UTC),
        ward="France",
        lines=(VisitLine(item="22423", quantity=quantity, unit_price=Decimal("12.75")),),
    ).event()


def message(detail: Any, kind: str = "visit.ended") -> str:
    """An event as EventBridge puts it into a queue."""
    return json.dumps({"id": str(uuid.uuid4()), "source": "offload.clinic", "detail-type": kind, "detail": detail})
