"""The shop's job functions on real tables, queues and buckets, run by a loop that stands in for Lambda's poller."""

from __future__ import annotations

import importlib
import json
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final
from uuid import uuid4

import boto3
import msgspec
import pytest

from offload.contracts.jobs.job import Job, State, Submit
from offload.contracts.jobs.job_type import InputT, JobType, Priority, ResultT
from shop.catalogue import CATALOGUE
from tests.conftest import new_table
from tests.patience import PATIENCE, queue_without_redelivery

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_sqs import SQSClient

_FUNCTIONS: Final = ("sales_report", "customer_segments", "customers_shard")


@dataclass
class Invocation:
    """What a handler asks of Lambda's context."""

    aws_request_id: str = "request"

    def get_remaining_time_in_millis(self) -> int:
        """Two minutes, always."""
        return 120_000


class ShopJobs:
    """Job types of the shop, deployed."""

    def __init__(
        self,
        dynamodb: DynamoDBClient,
        sqs: SQSClient,
        monkeypatch: pytest.MonkeyPatch,
        functions: Sequence[str] = _FUNCTIONS,
    ) -> None:
        name = f"shop-jobs-{uuid4().hex[:12]}"
        _job_table(dynamodb, name)
        self.ledger = new_table(dynamodb, f"{name}-ledger")
        self.bucket = name
        self.s3: S3Client = boto3.client("s3")
        self.s3.create_bucket(Bucket=name)
        boto3.client("events").create_event_bus(Name=name)
        self._sqs = sqs
        self._queues = {name_: queue_without_redelivery(sqs, f"{name}-{name_}") for name_ in functions}
        for function, url in self._queues.items():
            place = json.dumps({"queues": dict.fromkeys(Priority, url), "function": None})
            boto3.client("ssm").put_parameter(Name=f"/{name}/{function}", Value=place, Type="String")
        variables = {
            "OFFLOAD_JOBS_TABLE": name,
            "OFFLOAD_JOBS_BUCKET": name,
            "OFFLOAD_JOBS_PATH": f"/{name}",
            "OFFLOAD_BUS": name,
            "OFFLOAD_DEAD_LETTER_QUEUE_URL": "http://localhost/unused",
            "LEDGER_TABLE": self.ledger,
        }
        for variable, value in variables.items():
            monkeypatch.setenv(variable, value)
        self._handlers: dict[str, Callable[[dict[str, Any], Any], dict[str, Any]]] = {}
        for function in functions:
            monkeypatch.setenv("OFFLOAD_JOB", function)
            # A function reads its settings when it is imported: each test's are its own.
            monkeypatch.delitem(sys.modules, f"lambdas.{function}.handler", raising=False)
            self._handlers[function] = importlib.import_module(f"lambdas.{function}.handler").handler
        from offload.runtime.jobs.store import JobStore

        self.store = JobStore.from_environment(CATALOGUE.job_types)

    def run(self, job_type: JobType[InputT, ResultT], given: InputT) -> Job:
        """Submits a job and works the queues until it has ended."""
        job_id = self._submit(job_type, given)
        deadline = time.monotonic() + PATIENCE
        while not (job := self.store.get(job_id)).state.ended:
            assert time.monotonic() < deadline, job
            self._work()
        return job

    def attempt(self, job_type: JobType[InputT, ResultT], given: InputT) -> Job:
        """Submits a job and works the queues until its first attempt is over, whatever came of it."""
        job_id = self._submit(job_type, given)
        deadline = time.monotonic() + PATIENCE
        while (job := self.store.get(job_id)).state in (State.QUEUED, State.RUNNING):
            assert time.monotonic() < deadline, job
            self._work()
        return job

    def _submit(self, job_type: JobType[InputT, ResultT], given: InputT) -> str:
        wish = Submit(type=job_type.name, input=msgspec.Raw(msgspec.json.encode(given)))
        return self.store.submit(job_type, wish).job.id

    def _work(self) -> None:
        for function, url in self._queues.items():
            for message in self._sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10).get("Messages", []):
                record = {"messageId": message["MessageId"], "body": message["Body"]}
                assert self._handlers[function]({"Records": [record]}, Invocation()) == {"batchItemFailures": []}
                self._sqs.delete_message(QueueUrl=url, ReceiptHandle=message["ReceiptHandle"])

    def result(self, job_type: JobType[InputT, ResultT], given: InputT) -> ResultT:
        """Runs a job that must succeed; its result."""
        job = self.run(job_type, given)
        assert job.state.value == "succeeded", job.error
        return msgspec.json.decode(job.result or b"", type=job_type.result)

    def upload(self, name: str, content: bytes) -> str:
        """Puts a file where uploads are; its key."""
        self.s3.put_object(Bucket=self.bucket, Key=f"uploads/{name}", Body=content)
        return f"uploads/{name}"

    def file(self, key: str) -> tuple[str, str]:
        """The content of a result's file, and its content type."""
        answer = self.s3.get_object(Bucket=self.bucket, Key=key)
        return answer["Body"].read().decode(), answer["ContentType"]


@pytest.fixture
def shop_jobs(dynamodb: DynamoDBClient, sqs: SQSClient, monkeypatch: pytest.MonkeyPatch) -> Iterator[ShopJobs]:
    """The shop's job functions with a job service of their own."""
    yield ShopJobs(dynamodb, sqs, monkeypatch)
    for function in _FUNCTIONS:
        sys.modules.pop(f"lambdas.{function}.handler", None)


def _job_table(dynamodb: DynamoDBClient, name: str) -> None:
    attributes: Any = {"pk": "S", "sk": "S", "due_shard": "S", "due_at": "N", "type_shard": "S", "listed": "S"}
    dynamodb.create_table(
        TableName=name,
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
