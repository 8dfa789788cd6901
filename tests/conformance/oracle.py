"""Where behaviours are tried: an AWS with resources of its own, which are removed in any case."""

from __future__ import annotations

import subprocess
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, TypeVar

import boto3
from botocore.config import Config
from botocore.exceptions import ClientError

from offload.cli.deployment.aws import Aws
from offload.cli.local.process import HOST, free_port
from offload.project import PROJECT
from tests.conformance.behaviour import Where
from tests.patience import PATIENCE

PREFIX = "offload-conformance"
"""What every name of ours begins with."""
WITHIN = 60.0
"""Seconds for what AWS does in its own time."""
ABSENT = 2.0
"""Seconds after which something that should have come is taken for not coming, where it would come at once."""

MOTO = PROJECT / ".offload" / "moto" / "bin" / "moto_server"

T = TypeVar("T")


class Oracle:
    """One AWS to be asked. What is made through it is registered with `later` and removed by `close`."""

    def __init__(self, where: Where, client: Callable[[str], Any], region: str) -> None:
        self.where: Where = where
        self.region = region
        self.prefix = f"{PREFIX}-{uuid.uuid4().hex[:8]}"
        self.calls = 0
        self._make = client
        self._clients: dict[str, Any] = {}
        self._after = ExitStack()
        self._shared: dict[str, Any] = {}
        self._names = 0

    def client(self, service: str) -> Any:
        """A client of a service, made once."""
        if service not in self._clients:
            client = self._make(service)
            client.meta.events.register("before-call", self._count)
            self._clients[service] = client
        return self._clients[service]

    def name(self) -> str:
        """A name that nothing else has."""
        self._names += 1
        return f"{self.prefix}-{self._names}"

    def later(self, undo: Callable[..., Any], **parameters: Any) -> None:
        """Registers the removal of something that was made."""
        self._after.callback(_removed, undo, parameters)

    def shared(self, name: str, make: Callable[[], T]) -> T:
        """Something that several behaviours use, made when it is first asked for."""
        if name not in self._shared:
            self._shared[name] = make()
        made: T = self._shared[name]
        return made

    def close(self) -> None:
        """Removes everything that was made, the last first; goes on after a failure and raises it in the end."""
        self._after.close()

    def queue(self, **attributes: str) -> str:
        """A new queue's URL."""
        sqs = self.client("sqs")
        name = self.name() + (".fifo" if attributes.get("FifoQueue") else "")
        url: str = sqs.create_queue(QueueName=name, Attributes=attributes)["QueueUrl"]
        self.later(sqs.delete_queue, QueueUrl=url)
        return url

    def arn_of(self, queue_url: str) -> str:
        """A queue's ARN."""
        found = self.client("sqs").get_queue_attributes(QueueUrl=queue_url, AttributeNames=["QueueArn"])
        return str(found["Attributes"]["QueueArn"])

    def receive(self, queue_url: str, *, visibility: int = 30, wait: int = 1, most: int = 10) -> list[dict[str, Any]]:
        """One receive with all attributes."""
        found: list[dict[str, Any]] = (
            self.client("sqs")
            .receive_message(
                QueueUrl=queue_url,
                VisibilityTimeout=visibility,
                WaitTimeSeconds=wait,
                MaxNumberOfMessages=most,
                MessageSystemAttributeNames=["All"],
                MessageAttributeNames=["All"],
            )
            .get("Messages", [])
        )
        return found

    def table(self, *, sort_key: bool = True, index: bool = False) -> str:
        """A new on-demand table with `pk`, and `sk`; with an index `by_kind` on request."""
        keys = [("pk", "HASH"), *([("sk", "RANGE")] if sort_key else [])]
        attributes = [key for key, _ in keys] + (["kind"] if index else [])
        indexes = {
            "GlobalSecondaryIndexes": [
                {
                    "IndexName": "by_kind",
                    "KeySchema": [{"AttributeName": "kind", "KeyType": "HASH"}],
                    "Projection": {"ProjectionType": "ALL"},
                }
            ]
        }
        dynamodb, name = self.client("dynamodb"), self.name()
        dynamodb.create_table(
            TableName=name,
            KeySchema=[{"AttributeName": key, "KeyType": kind} for key, kind in keys],
            AttributeDefinitions=[{"AttributeName": key, "AttributeType": "S"} for key in attributes],
            BillingMode="PAY_PER_REQUEST",
            **(indexes if index else {}),
        )
        self.later(dynamodb.delete_table, TableName=name)
        dynamodb.get_waiter("table_exists").wait(TableName=name, WaiterConfig={"Delay": 1, "MaxAttempts": 60})
        return name

    def _count(self, **_: Any) -> None:
        self.calls += 1


def refusal(call: Callable[..., Any], **parameters: Any) -> str | None:
    """The code with which AWS refuses a call, None when it does not."""
    try:
        call(**parameters)
    except ClientError as error:
        return str(error.response["Error"]["Code"])
    return None


def until(look: Callable[[], T | None], within: float = WITHIN) -> T | None:
    """What `look` finds, as soon as it finds something that is true; None when that takes too long."""
    end = time.monotonic() + within
    while True:
        if found := look():
            return found
        if time.monotonic() > end:
            return None
        time.sleep(0.2)


def of(aws: Aws) -> Oracle:
    """The oracle of an environment: the embedded AWS where `aws` has an instance, else the account."""
    return Oracle("embedded" if aws.instance else "account", aws.client, str(aws.session.region_name))


@contextmanager
def moto(folder: Path) -> Iterator[Oracle]:
    """A moto server of this test run's own."""
    port = free_port()
    with (folder / "moto.log").open("wb") as log:
        process = subprocess.Popen(
            [MOTO, "-H", HOST, "-p", str(port)],
            env={"PATH": "/usr/bin:/bin", "HOME": str(folder), "AWS_EC2_METADATA_DISABLED": "true"},
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    url, region = f"http://{HOST}:{port}", "us-east-1"
    try:
        answered = until(lambda: process.poll() is not None or _answers(url))
        assert answered, f"moto's server did not start: {(folder / 'moto.log').read_text()}"
        assert process.poll() is None, (folder / "moto.log").read_text()
        session = boto3.Session(aws_access_key_id="test", aws_secret_access_key="test", region_name=region)

        def client(service: str) -> Any:
            return session.client(  # type: ignore[call-overload]
                service, endpoint_url=url, config=Config(proxies={})
            )

        yield Oracle("moto", client, region)
    finally:
        process.terminate()
        process.wait(timeout=PATIENCE)


def _answers(url: str) -> bool:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(f"{url}/moto-api/", timeout=5):
            return True
    except (TimeoutError, urllib.error.URLError, OSError):
        return False


def _removed(undo: Callable[..., Any], parameters: dict[str, Any]) -> None:
    """Removes one thing; that it has gone already is no failure."""
    try:
        undo(**parameters)
    except ClientError as error:
        code = str(error.response["Error"]["Code"])
        if "NotFound" not in code and "NoSuch" not in code and "NonExistent" not in code:
            raise
