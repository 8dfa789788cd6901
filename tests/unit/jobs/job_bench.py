"""A job service on real tables and queues with a clock that is set by hand, and what stands in for Lambda's poller."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import msgspec
import pytest

from offload.contracts.jobs.job import Job, Submit
from offload.contracts.jobs.job_type import JobType, Priority
from offload.runtime import aws
from offload.runtime.jobs.registry import Registry
from offload.runtime.jobs.run import JobHandler, Run
from offload.runtime.jobs.store import JobStore


class Invocation:
    """What a handler asks of Lambda's context."""

    aws_request_id = "request-1"

    def __init__(self, seconds: float = 60) -> None:
        self.seconds = seconds

    def get_remaining_time_in_millis(self) -> int:
        """As many as the test says."""
        return int(self.seconds * 1000)


class JobBench:
    """The job service of some types; each has one queue for all its lanes."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *types: JobType[Any, Any]) -> None:
        self.name = f"bench-{uuid4().hex[:12]}"
        attributes: Any = {"pk": "S", "sk": "S", "due_shard": "S", "due_at": "N", "type_shard": "S", "listed": "S"}
        aws.dynamodb().create_table(
            TableName=self.name,
            KeySchema=[{"AttributeName": "pk", "KeyType": "HASH"}, {"AttributeName": "sk", "KeyType": "RANGE"}],
            AttributeDefinitions=[{"AttributeName": key, "AttributeType": kind} for key, kind in attributes.items()],
            GlobalSecondaryIndexes=[
                {
                    "IndexName": index,
                    "KeySchema": [{"AttributeName": pk, "KeyType": "HASH"}, {"AttributeName": sk, "KeyType": "RANGE"}],
                    "Projection": {"ProjectionType": "ALL"},
                }
                for index, pk, sk in (("due", "due_shard", "due_at"), ("types", "type_shard", "listed"))
            ],
            BillingMode="PAY_PER_REQUEST",
        )
        self.s3 = aws.s3()
        self.s3.create_bucket(Bucket=self.name)
        aws.events().create_event_bus(Name=self.name)
        self.sqs = aws.sqs()
        self.dead = self.sqs.create_queue(QueueName=f"{self.name}-dead")["QueueUrl"]
        self.queues: dict[str, str] = {}
        self.types = {kind.name: kind for kind in types}
        for kind in types:
            self.deploy(kind)
        variables = {
            "OFFLOAD_JOBS_TABLE": self.name,
            "OFFLOAD_JOBS_BUCKET": self.name,
            "OFFLOAD_JOBS_PATH": f"/{self.name}",
            "OFFLOAD_BUS": self.name,
            "OFFLOAD_DEAD_LETTER_QUEUE_URL": self.dead,
        }
        for variable, value in variables.items():
            monkeypatch.setenv(variable, value)
        self._monkeypatch = monkeypatch
        self.time = datetime(2026, 11, 24, 12, tzinfo=UTC)
        self.store = self.new_store()

    def deploy(self, kind: JobType[Any, Any]) -> None:
        """Gives a type its place."""
        self.queues[kind.name] = self.sqs.create_queue(QueueName=f"{self.name}-{kind.name}")["QueueUrl"]
        place = json.dumps({"queues": dict.fromkeys(Priority, self.queues[kind.name])})
        aws.ssm().put_parameter(Name=f"/{self.name}/{kind.name}", Value=place, Type="String")

    def new_store(self, types: Mapping[str, JobType[Any, Any]] | None = None) -> JobStore:
        """Another process's store of the same jobs."""
        return JobStore(
            table=self.name,
            bucket=self.name,
            bus=self.name,
            registry=Registry(f"/{self.name}", clock=lambda: self.time.timestamp()),
            types=types or self.types,
            now=lambda: self.time,
        )

    def handler(self, kind: JobType[Any, Any], work: Callable[[Any, Run], Any]) -> JobHandler[Any, Any]:
        """The Lambda handler of a type's work, on the bench's clock."""
        self._monkeypatch.setenv("OFFLOAD_JOB", kind.name)
        return JobHandler(kind, work, self.store)

    def pass_time(self, **time: float) -> None:
        """Sets the clock on."""
        self.time += timedelta(**time)

    def submit(self, kind: JobType[Any, Any], given: Any, **wish: Any) -> str:
        """Submits a job; its id."""
        content = msgspec.Raw(msgspec.json.encode(given))
        return self.store.submit(kind, Submit(type=kind.name, input=content, **wish)).job.id

    def run(self, handler: JobHandler[Any, Any], job_id: str, attempt: int = 1, seconds: float = 60) -> Job:
        """Hands one nudge to the handler; the job after it."""
        body = json.dumps({"job": job_id, "attempt": attempt})
        assert self.invoke(handler, body, seconds=seconds) == {"batchItemFailures": []}
        return self.store.get(job_id)

    def invoke(self, handler: Any, *bodies: str, seconds: float = 60) -> Any:
        """One invocation with these messages."""
        records = [
            {"messageId": f"m{number}", "body": body, "attributes": {"ApproximateReceiveCount": "1"}}
            for number, body in enumerate(bodies)
        ]
        return handler({"Records": records}, Invocation(seconds))

    def nudges(self, kind: JobType[Any, Any]) -> list[str]:
        """Takes the messages from a type's queue, those that are not delayed."""
        bodies, url = [], self.queues[kind.name]
        while messages := self.sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10).get("Messages", []):
            for message in messages:
                self.sqs.delete_message(QueueUrl=url, ReceiptHandle=message["ReceiptHandle"])
                bodies.append(message["Body"])
        return bodies

    def work(self, *handlers: JobHandler[Any, Any]) -> None:
        """Works the types' queues until they are empty."""
        busy = True
        while busy:
            busy = False
            for handler in handlers:
                for body in self.nudges(handler.type):
                    self.invoke(handler, body)
                    busy = True

    def items(self, prefix: str = "") -> list[dict[str, Any]]:
        """What the jobs' table holds under partition keys that begin so."""
        pages = aws.dynamodb().get_paginator("scan").paginate(TableName=self.name, ConsistentRead=True)
        return [dict(item) for page in pages for item in page["Items"] if item["pk"]["S"].startswith(prefix)]

    def clear(self) -> None:
        """Empties the jobs' table."""
        for item in self.items():
            aws.dynamodb().delete_item(TableName=self.name, Key={"pk": item["pk"], "sk": item["sk"]})

    def dead_letters(self) -> list[dict[str, str]]:
        """Bodies and attributes of what is in the dead-letter queue."""
        found = self.sqs.receive_message(QueueUrl=self.dead, MaxNumberOfMessages=10, MessageAttributeNames=["All"])
        return [
            {"body": m["Body"], **{name: value["StringValue"] for name, value in m["MessageAttributes"].items()}}
            for m in found.get("Messages", [])
        ]
