"""What tests of sending stand on: the table and the queues on the embedded AWS, a clock of their own, and a sender."""

from __future__ import annotations

import asyncio
import json
import uuid
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import boto3
import msgspec

from clinic.catalogue import CATALOGUE
from offload.contracts.secret_versions import CURRENT
from offload.contracts.webhooks_out.policy import Policy
from offload.contracts.webhooks_out.subscription import Delivery, Wish
from offload.runtime.http.guard import Guard
from offload.runtime.log import Logger
from offload.runtime.webhooks_out.deliveries import Deliveries, Payload
from offload.runtime.webhooks_out.health import Signal
from offload.runtime.webhooks_out.items import Record, delivery_id, delivery_of
from offload.runtime.webhooks_out.sender import Sender, Sent
from offload.runtime.webhooks_out.subscribing import Subscribing
from offload.runtime.webhooks_out.subscriptions import Subscriptions
from offload.runtime.webhooks_out.tokens import QueueTokens, subscription_of
from offload.runtime.webhooks_out.transport import Transport
from offload.runtime.webhooks_out.vault import Vault
from tests.calls.plugin import tell
from tests.patience import queue_without_redelivery

LOOPBACK: Final = Guard.from_environment(
    {"OFFLOAD_EGRESS_PRIVATE": "127.0.0.0/8", "OFFLOAD_EGRESS_SCHEMES": "http,https", "OFFLOAD_EGRESS_PORTS": "*"}
)
INDEXES: Final = (
    ("listed", "subscription", "listed", "S"),
    ("events", "event", "listed", "S"),
    ("wake", "wake", "wake_at", "N"),
)
SEALING_KEY: Final = "a key of the tests"


def sending_table(client: Any) -> str:
    """A table as offload/cdk/patterns/webhook_sender.py makes it."""
    name = f"sending-{uuid.uuid4().hex[:8]}"
    attributes = {"pk": "S", "sk": "S"}
    for _, partition, sort, kind in INDEXES:
        attributes |= {partition: "S", sort: kind}
    client.create_table(
        TableName=name,
        KeySchema=[{"AttributeName": "pk", "KeyType": "HASH"}, {"AttributeName": "sk", "KeyType": "RANGE"}],
        AttributeDefinitions=[{"AttributeName": each, "AttributeType": kind} for each, kind in attributes.items()],
        GlobalSecondaryIndexes=[
            {
                "IndexName": index,
                "KeySchema": [
                    {"AttributeName": partition, "KeyType": "HASH"},
                    {"AttributeName": sort, "KeyType": "RANGE"},
                ],
                "Projection": {"ProjectionType": "ALL"},
            }
            for index, partition, sort, _ in INDEXES
        ],
        BillingMode="PAY_PER_REQUEST",
    )
    return name


QUICK: Final = Policy(timeout_seconds=5, connect_seconds=5)
"""For a test in which an endpoint hangs: it is waited for, and a slow machine answers by then where it does not."""


class Clock:
    """A time that passes when a test says so."""

    def __init__(self, at: datetime = datetime(2026, 11, 27, 12, tzinfo=UTC)) -> None:
        self.at = at

    def __call__(self) -> datetime:
        return self.at

    def passes(self, **span: float) -> None:
        """Lets time pass."""
        self.at += timedelta(**span)


@dataclass
class Heard:
    """The signals that owners were told; `fails` makes the bus refuse."""

    told: list[tuple[str, Signal]] = field(default_factory=list)
    fails: bool = False

    def publish(self, record: Record, signals: Sequence[Signal], _policy: Policy) -> None:
        if self.fails:
            raise OSError("no bus")
        self.told += [(record.id, signal) for signal in signals]

    def kinds(self) -> list[str]:
        """What was told, in its order."""
        return [f"{signal.kind}{signal.percent or ''}" for _, signal in self.told]


class SendingBench:
    """A sender with everything around it. Time is the bench's own; the queues and the table are real."""

    def __init__(self, *, policy: Policy | None = None, clock: Clock | None = None, context: Any = None) -> None:
        self.policy = policy or Policy()
        self.clock = clock or Clock()
        self.sqs = boto3.client("sqs")
        self.dynamodb = boto3.client("dynamodb")
        self.table = sending_table(self.dynamodb)
        tag = uuid.uuid4().hex[:8]
        self.well = queue_without_redelivery(self.sqs, f"well-{tag}")
        self.trouble = queue_without_redelivery(self.sqs, f"trouble-{tag}")
        tell(self.table, "OFFLOAD_SUBSCRIPTIONS_TABLE")
        tell(self.well, "OFFLOAD_SENDER_QUEUE_URL")
        tell(self.trouble, "OFFLOAD_SENDER_TROUBLE_QUEUE_URL")
        self.heard = Heard()
        self.context = context
        self.sealing_keys = {CURRENT: SEALING_KEY}
        self.vault = Vault(self.sealing_keys.get)
        self.loop = asyncio.new_event_loop()
        self.subscriptions = Subscriptions(self.table, self.clock)
        self.deliveries = Deliveries(self.table, self.policy, self.clock)
        self.tokens = QueueTokens(self.well, self.trouble)
        self.destinations: set[str] = set()
        self.subscribing = Subscribing(
            self.subscriptions,
            self.vault,
            LOOPBACK,
            self.policy,
            self.clock,
            outward=CATALOGUE.outward_examples,
            destinations=self.destinations,
        )
        self.transport = self.new_transport()
        self.sender = self.new_sender()

    def new_transport(self, guard: Guard = LOOPBACK, **options: Any) -> Transport:
        """A transport with the policy's limits."""
        return Transport(
            guard,
            timeout=self.policy.timeout,
            connect=timedelta(seconds=self.policy.connect_seconds),
            now=self.clock,
            context=self.context,
            **options,
        )

    def new_sender(self, transport: Transport | None = None, *, left: timedelta = timedelta(seconds=60)) -> Sender:
        """Another sender on the same table."""
        return Sender(
            subscriptions=Subscriptions(self.table, self.clock),
            deliveries=Deliveries(self.table, self.policy, self.clock),
            vault=self.vault,
            transport=transport or self.transport,
            tokens=self.tokens,
            signals=self.heard,
            policy=self.policy,
            outward=CATALOGUE.outward_examples,
            now=self.clock,
            left=lambda: left,
            log=Logger("test"),
        )

    def close(self) -> None:
        """Ends the loop and its connections."""
        self.loop.run_until_complete(self.transport.close())
        self.loop.close()

    def subscribe(self, url: str, types: Iterable[str] = ("*",), **wish: Any) -> Record:
        """A new subscription's record."""
        created = self.subscribing.create(Wish(url=url, types=tuple(types), **wish), None)[0]
        return self.subscriptions.get(created.subscription.id)[0]

    def owe(self, *records: Record, event: str = "", subject: str = "", body: bytes = b"", **fields: Any) -> str:
        """Plans an event for subscriptions; returns its id."""
        event = event or uuid.uuid4().hex
        self.deliveries.plan(
            Payload(
                event=event,
                source="test",
                type=fields.get("type", "thing.happened"),
                subject=subject,
                time=fields.get("time", self.clock()),
                body=body or json.dumps({"id": event, "type": "thing.happened"}).encode(),
            ),
            records,
        )
        return event

    def work(self, *subscriptions: Record | str) -> list[Sent]:
        """What senders do that get a token for each."""
        names = [each if isinstance(each, str) else each.id for each in subscriptions]

        async def all_of_them() -> list[Sent]:
            return list(await asyncio.gather(*(self.sender.work(name) for name in names)))

        return self.loop.run_until_complete(all_of_them())

    def wake(self) -> list[str]:
        """What the sweeper would wake now, worked off; and whose tokens are in the queues."""
        names = {name for name, _ in self.deliveries.to_wake(1000)} | set(self.take_tokens())
        if names:
            self.work(*names)
        return sorted(names)

    def take_tokens(self) -> list[str]:
        """The subscriptions that tokens in the queues name; those tokens are gone then."""
        return [subscription_of(each["Body"]) for queue in (self.well, self.trouble) for each in self.taken(queue)]

    def taken(self, queue: str) -> list[Any]:
        """What is in a queue, with all attributes; afterwards it is empty."""
        found: list[Any] = []
        while messages := self.sqs.receive_message(
            QueueUrl=queue, MaxNumberOfMessages=10, MessageAttributeNames=["All"], AttributeNames=["All"]
        ).get("Messages"):
            found += messages
            for message in messages:
                self.sqs.delete_message(QueueUrl=queue, ReceiptHandle=message["ReceiptHandle"])
        return found

    def run_until(self, until: datetime, *, step: timedelta) -> None:
        """Lets time pass in steps; at each, what is due is worked off."""
        while self.clock() < until:
            self.clock.at = min(until, self.clock() + step)
            self.wake()

    def delivery(self, record: Record, event: str) -> Delivery:
        """A delivery as it stands."""
        return delivery_of(self.deliveries.item(delivery_id(record.id, "test", event)))

    def tries(self, record: Record, event: str) -> list[Any]:
        """Its attempts."""
        return list(self.deliveries.tries(delivery_id(record.id, "test", event)))

    def entries(self, record: Record) -> int:
        """How many deliveries wait."""
        return self.deliveries.waiting(record.id)


def decoded(body: bytes) -> Any:
    """JSON, read."""
    return msgspec.json.decode(body)
