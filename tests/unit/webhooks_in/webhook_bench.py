"""What tests of the receiver stand on: its table, a bus with a queue, secrets, and requests as the gateway has them."""

from __future__ import annotations

import base64
import importlib
import json
import os
import sys
import time
import uuid
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final

import boto3
import pytest

from clinic.providers import PROVIDERS
from offload.contracts.webhooks_in.scheme import Provider
from offload.contracts.webhooks_in.stored_secret import SecretDocument, StoredSecret, StoredSecrets
from offload.runtime.webhooks_in.secrets import Secret, keyring
from offload.runtime.webhooks_in.sign import signed_headers
from tests.patience import PATIENCE, queue_without_redelivery

SECRETS: Final[Mapping[str, str]] = {
    name: "whsec_" + base64.b64encode(name.encode().ljust(32, b"-")).decode()
    if name in {"standard-webhooks", "svix"}
    else f"secret of {name}"
    for name in PROVIDERS
}
SOURCE: Final = "203.0.113.7"


def client(service: str) -> Any:
    """A client for the embedded AWS of the environment; making one takes longer than most tests."""
    return _client(service, os.environ["AWS_ENDPOINT_URL"])


@lru_cache
def _client(service: Any, endpoint: str) -> Any:
    return boto3.client(service, endpoint_url=endpoint)


class Context:
    """Lambda's context, as far as it is looked at."""

    aws_request_id = "request"

    @staticmethod
    def get_remaining_time_in_millis() -> int:
        return 50_000


@dataclass(frozen=True)
class Bench:
    """One receiver with everything around it."""

    receiver: Any
    relay: Any
    table: str
    bus: str
    queue: str
    claims: str
    secret: str

    def send(
        self,
        provider: Provider,
        body: bytes,
        *,
        delivery_id: str | None = None,
        event_type: str = "",
        secret: str | None = None,
        headers: Mapping[str, str] | None = None,
        endpoint: str = "",
        source: str = SOURCE,
    ) -> dict[str, Any]:
        """What the receiver answers to a delivery signed as its sender would."""
        signed = sign(provider, body, delivery_id=delivery_id, event_type=event_type, secret=secret)
        return self.request(provider.name, body, {**signed, **(headers or {})}, endpoint=endpoint, source=source)

    def request(
        self, provider: str, body: bytes, headers: Mapping[str, str], *, endpoint: str = "", source: str = SOURCE
    ) -> dict[str, Any]:
        """What the receiver answers to any request."""
        event = gateway_event(provider, body, headers, endpoint=endpoint, source=source)
        answer: dict[str, Any] = self.receiver.handler(event, Context())
        return answer

    def events(self, count: int = 0, within: float = PATIENCE) -> list[dict[str, Any]]:
        """The events that came out of the bus since the last call: at least `count`, or the time is up."""
        sqs = client("sqs")
        found: list[dict[str, Any]] = []
        until = time.monotonic() + within
        while (len(found) < count and time.monotonic() < until) or not count:
            messages = sqs.receive_message(QueueUrl=self.queue, MaxNumberOfMessages=10, WaitTimeSeconds=0)
            for message in messages.get("Messages", []):
                found.append(json.loads(message["Body"])["detail"])
                sqs.delete_message(QueueUrl=self.queue, ReceiptHandle=message["ReceiptHandle"])
            if not count and not messages.get("Messages"):
                break
        return found

    def item(self, provider: str, key: str) -> dict[str, Any]:
        """A delivery's item."""
        keys = {"pk": {"S": f"delivery#{provider}#{key}"}, "sk": {"S": "delivery"}}
        found = client("dynamodb").get_item(TableName=self.table, Key=keys, ConsistentRead=True)
        return dict(found.get("Item", {}))

    def set_secrets(self, provider: str, *secrets: StoredSecret) -> None:
        """Replaces a provider's secrets."""
        self.put_secrets(self.document().with_secrets(provider, StoredSecrets(secrets)).to_json())

    def document(self) -> SecretDocument:
        """What is stored of all providers."""
        return SecretDocument.read(client("secretsmanager").get_secret_value(SecretId=self.secret)["SecretString"])

    def put_secrets(self, text: str) -> None:
        """Replaces what is stored of all providers."""
        client("secretsmanager").put_secret_value(SecretId=self.secret, SecretString=text)


def sign(
    provider: Provider,
    body: bytes,
    *,
    delivery_id: str | None = None,
    event_type: str = "",
    secret: str | None = None,
    now: float | None = None,
) -> dict[str, str]:
    """The headers of a delivery."""
    [key] = keyring(provider, [Secret("test", secret or SECRETS[provider.name])])
    return signed_headers(
        provider.schemes[0],
        key,
        body,
        now=time.time() if now is None else now,
        delivery_id=delivery_id or str(uuid.uuid4()),
        event_type=event_type,
    )


def gateway_event(
    provider: str, body: bytes, headers: Mapping[str, str], *, endpoint: str = "", source: str = SOURCE
) -> dict[str, Any]:
    """A request as an HTTP API hands it over: header names in lower case, and what is no text in base64."""
    try:
        text, in_base64 = body.decode(), False
    except UnicodeDecodeError:
        text, in_base64 = base64.b64encode(body).decode(), True
    path = f"/webhooks/{provider}" + (f"/{endpoint}" if endpoint else "")
    return {
        "rawPath": path,
        "headers": {"content-type": "application/json", **{name.lower(): value for name, value in headers.items()}},
        "requestContext": {"http": {"method": "POST", "path": path, "sourceIp": source}},
        "body": text,
        "isBase64Encoded": in_base64,
    }


def deliveries_table() -> str:
    """A table as offload/cdk/constructs/webhook_entry.py makes it."""
    name = f"deliveries-{uuid.uuid4().hex[:8]}"
    indexes: Iterable[tuple[str, str, str, str]] = (
        ("recent", "shown", "listed", "S"),
        ("owed", "owed", "owed_at", "N"),
    )
    attributes = [("pk", "S"), ("sk", "S"), ("shown", "S"), ("listed", "S"), ("owed", "S"), ("owed_at", "N")]
    client("dynamodb").create_table(
        TableName=name,
        KeySchema=[{"AttributeName": "pk", "KeyType": "HASH"}, {"AttributeName": "sk", "KeyType": "RANGE"}],
        AttributeDefinitions=[{"AttributeName": each, "AttributeType": kind} for each, kind in attributes],
        GlobalSecondaryIndexes=[
            {
                "IndexName": index,
                "KeySchema": [
                    {"AttributeName": partition, "KeyType": "HASH"},
                    {"AttributeName": sort, "KeyType": "RANGE"},
                ],
                "Projection": {"ProjectionType": "ALL"},
            }
            for index, partition, sort, _ in indexes
        ],
        BillingMode="PAY_PER_REQUEST",
    )
    return name


@contextmanager
def a_receiver(patch: pytest.MonkeyPatch, *, refused_per_minute: int = 1_000_000) -> Iterator[Bench]:
    """The two functions as their modules, with tables of their own on the embedded AWS of the environment."""
    tag = uuid.uuid4().hex[:8]
    table = deliveries_table()
    sqs, events, manager = client("sqs"), client("events"), client("secretsmanager")
    queue = queue_without_redelivery(sqs, f"events-{tag}")
    arn = sqs.get_queue_attributes(QueueUrl=queue, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    events.create_event_bus(Name=f"bus-{tag}")
    events.put_rule(
        Name=f"all-{tag}", EventBusName=f"bus-{tag}", EventPattern=json.dumps({"source": ["offload.webhooks"]})
    )
    events.put_targets(Rule=f"all-{tag}", EventBusName=f"bus-{tag}", Targets=[{"Id": "queue", "Arn": arn}])
    client("s3").create_bucket(Bucket=f"claims-{tag}")
    document = SecretDocument()
    for name, value in SECRETS.items():
        document = document.with_secrets(name, StoredSecrets((StoredSecret(key_id="first", value=value),)))
    secret = manager.create_secret(Name=f"webhooks-{tag}", SecretString=document.to_json())["ARN"]
    patch.setenv("OFFLOAD_WEBHOOKS_SECRET_ARN", secret)
    patch.setenv("OFFLOAD_WEBHOOKS_PROVIDERS", ",".join(SECRETS))
    patch.setenv("OFFLOAD_DELIVERIES_TABLE", table)
    patch.setenv("OFFLOAD_BUS", f"bus-{tag}")
    patch.setenv("OFFLOAD_CLAIMS_BUCKET", f"claims-{tag}")
    patch.setenv("OFFLOAD_REFUSED_PER_MINUTE", str(refused_per_minute))
    modules = []
    for name in ("offload.functions.webhook_receiver.handler", "offload.functions.webhook_relay.handler"):
        sys.modules.pop(name, None)
        modules.append(importlib.import_module(name))
    yield Bench(modules[0], modules[1], table, f"bus-{tag}", queue, f"claims-{tag}", secret)
