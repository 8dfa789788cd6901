"""What a delivery takes of functions and of AWS: the sender beside the plain design, in the same run.

Both run in this process, on the tables and queues of an embedded AWS, as Lambda would call them: the planner with ten
events a batch, then the sender with what the queues give. An endpoint that answers after 20, 100 or 500 ms is a process
of its own. Each event goes to ten subscribers. `alone` is the sender's worst case: one event, one subscriber, an
invocation for each.

    .venv/bin/python bench/webhooks/sending.py [--events 100] [--json]

Answers, for each design and delay: milliseconds of functions a delivery, calls to AWS a delivery (those of Lambda's
pollers, a receive and a delete a batch, included), deliveries a second of function time, and dollars for a million.
Leaves with 1 when ours takes more than a third of the plain design's function time at 100 ms.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import io
import json
import os
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, Final

import boto3
import msgspec

from bench.webhooks import plain_sender
from offload.cli.costs import prices
from offload.cli.deployment.aws import shell_settings
from offload.cli.local.process import EmbeddedAws, free_port
from offload.contracts.events.event import Event
from offload.contracts.webhooks_out.policy import Policy
from offload.contracts.webhooks_out.subscription import Wish
from offload.runtime import aws
from shop.contracts.stock import StockLow
from tests.unit.webhooks_out.sending_bench import sending_table

DELAYS: Final = (0.02, 0.1, 0.5)
SUBSCRIBERS: Final = 10
GOAL: Final = 1 / 3
OURS, PLAIN, ALONE = "sender", "plain design", "sender, alone"

MEMORY_GB: Final = {OURS: 0.5, ALONE: 0.5, PLAIN: 0.25}


@dataclass
class Used:
    """What a design used."""

    deliveries: int = 0
    seconds: float = 0.0
    invocations: int = 0
    calls: int = 0
    queue_calls: int = 0
    write_units: float = 0.0
    read_units: float = 0.0
    log_bytes: int = 0
    by_call: dict[str, int] = field(default_factory=dict)

    def dollars(self, memory: float) -> dict[str, float]:
        """Of a million deliveries, by what they are for."""
        million = {
            "Lambda, time": self.seconds * memory * prices.LAMBDA_GB_SECOND * prices.MILLION,
            "Lambda, requests": self.invocations * prices.LAMBDA_REQUESTS,
            "SQS": self.queue_calls * prices.SQS,
            "DynamoDB": self.write_units * prices.WRITE_UNITS + self.read_units * prices.READ_UNITS,
            "logs": self.log_bytes / 1e9 * prices.LOGS_GB * prices.MILLION,
        }
        return {what: dollars / self.deliveries for what, dollars in million.items()}


class Meter:
    """Counts what the clients call, and the time of what is called as a function."""

    def __init__(self) -> None:
        self.used = Used()
        for client in (aws.dynamodb(), aws.sqs(), aws.events()):
            client.meta.events.register("before-call.*.*", self._before)
            client.meta.events.register("after-call.dynamodb.*", self._after)

    def _before(self, model: Any, params: Any, **_: Any) -> None:
        name = f"{model.service_model.service_name}:{model.name}"
        self.used.calls += 1
        self.used.by_call[name] = self.used.by_call.get(name, 0) + 1
        if model.service_model.service_name == "sqs":
            self.used.queue_calls += 1

    def _after(self, model: Any, http_response: Any, parsed: Any, **_: Any) -> None:
        # The embedded AWS does not count units. A write is a unit a KB and item, twice that in a transaction, and once
        # more for each index that an item is in; here no item but a body is over a KB.
        if model.name in ("PutItem", "UpdateItem", "DeleteItem"):
            self.used.write_units += 1
        elif model.name in ("GetItem", "Query", "BatchGetItem"):
            self.used.read_units += 1

    def transaction(self, actions: int) -> None:
        """A transaction of so many actions: two units each; a third for an index of half of them."""
        self.used.write_units += 2.5 * actions

    def invoke(self, function: Callable[[], Any], *, polls: int = 2) -> Any:
        """Calls a function as Lambda would, with the receive and the delete of its batch."""
        printed = io.StringIO()
        began = time.perf_counter()
        with contextlib.redirect_stdout(printed):
            result = function()
        self.used.seconds += time.perf_counter() - began
        self.used.invocations += 1
        self.used.calls += polls
        self.used.queue_calls += polls
        # START, END and REPORT are some 300 bytes more.
        self.used.log_bytes += len(printed.getvalue()) + 300
        return result


class Context:
    """Lambda's context, as far as it is looked at."""

    aws_request_id = "request"

    @staticmethod
    def get_remaining_time_in_millis() -> int:
        """As at an invocation's begin."""
        return 45_000


def events(count: int, tag: str) -> list[Event[StockLow]]:
    """Events that everybody wants."""
    now = datetime.now(UTC)
    return [
        StockLow(product=f"{tag}-{number}", units=1, low_below=9, cause="order.placed:1", caused_at=now).event()
        for number in range(count)
    ]


@contextlib.contextmanager
def endpoint(delay: float) -> Iterator[str]:
    """The URL of an endpoint that answers after `delay` seconds."""
    command = [sys.executable, str(Path(__file__).with_name("endpoint.py")), str(delay)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdin is not None
        yield f"http://127.0.0.1:{process.stdout.readline().strip()}/webhooks"
        process.stdin.close()


def received(sqs: Any, *queues: str) -> Iterator[list[dict[str, Any]]]:
    """What the queues hold, in batches of ten, until they are empty; outside of what is measured."""
    for queue in queues:
        while messages := sqs.receive_message(QueueUrl=queue, MaxNumberOfMessages=10).get("Messages"):
            for each in messages:
                sqs.delete_message(QueueUrl=queue, ReceiptHandle=each["ReceiptHandle"])
            yield [_record(each["Body"], queue) for each in messages]


def _record(body: str, queue: str = "nothing") -> dict[str, Any]:
    return {
        "messageId": uuid.uuid4().hex,
        "receiptHandle": "r",
        "body": body,
        "eventSourceARN": f"arn:aws:sqs:us-east-1:000000000000:{queue.rpartition('/')[2]}",
        "attributes": {
            "ApproximateReceiveCount": "1",
            "SentTimestamp": str(int(time.time() * 1000)),
        },
    }


def _on_the_bus(event: Event[Any]) -> str:
    detail = json.loads(event.to_json())
    return json.dumps({"id": "b", "source": event.source, "detail-type": event.type, "detail": detail})


class Bench:
    """The functions, on tables and queues of their own."""

    def __init__(self) -> None:
        self.sqs, self.dynamodb = boto3.client("sqs"), boto3.client("dynamodb")
        tag = uuid.uuid4().hex[:6]
        queue = {name: self.sqs.create_queue(QueueName=f"{name}-{tag}")["QueueUrl"] for name in ("w", "t", "p", "d")}
        self.lanes = (queue["w"], queue["t"])
        self.plain_queue = queue["p"]
        self.table = sending_table(self.dynamodb)
        self.plain_table = sending_table(self.dynamodb)
        marks = sending_table(self.dynamodb)
        secret = boto3.client("secretsmanager").create_secret(Name=f"seal-{tag}", SecretString="bench")["ARN"]
        os.environ.update(
            {
                "OFFLOAD_CATALOGUE": "shop.catalogue",
                "OFFLOAD_SUBSCRIPTIONS_TABLE": self.table,
                "OFFLOAD_SENDER_QUEUE_URL": queue["w"],
                "OFFLOAD_SENDER_TROUBLE_QUEUE_URL": queue["t"],
                "OFFLOAD_SENDING": msgspec.json.encode(Policy()).decode(),
                "OFFLOAD_SENDING_DESTINATIONS": "",
                "OFFLOAD_SEALING_SECRET": secret,
                "OFFLOAD_BUS": "default",
                "OFFLOAD_EGRESS_PRIVATE": "127.0.0.0/8",
                "OFFLOAD_EGRESS_SCHEMES": "http",
                "OFFLOAD_EGRESS_PORTS": "*",
                "OFFLOAD_CONSUMER": "Planner",
                "OFFLOAD_QUEUE_URL": queue["d"],
                "OFFLOAD_DEAD_LETTER_QUEUE_URL": queue["d"],
                "OFFLOAD_MARKS_TABLE": marks,
                "OFFLOAD_CLAIMS_BUCKET": "claims",
                "OFFLOAD_ATTEMPTS": "5",
            }
        )
        self.planner = importlib.import_module("offload.functions.delivery_planner.handler")
        self.sender = importlib.import_module("offload.functions.delivery_sender.handler")
        self.api = importlib.import_module("offload.functions.subscriptions_api.handler")

    def subscribe(self, url: str, count: int) -> list[dict[str, str]]:
        """Subscribers at the endpoint, and no others; each with its secret."""
        for record in self.api.store.all():
            self.api.subscribing.delete(record.id)
        made = [self.api.subscribing.create(Wish(url=url, types=("stock.low",)), None)[0] for _ in range(count)]
        return [{"id": each.subscription.id, "url": url, "secret": str(each.secret)} for each in made]

    def ours(self, meter: Meter, count: int, tag: str, *, batch: int = 10) -> None:
        """Plans and sends, as the queues give it."""
        told = [_record(_on_the_bus(event)) for event in events(count, tag)]
        for start in range(0, count, batch):
            records = told[start : start + batch]
            meter.invoke(partial(self.planner.handler, {"Records": records}, Context()))
            for tokens in received(self.sqs, *self.lanes):
                meter.invoke(partial(self.sender.handler, {"Records": tokens}, Context()))

    def plain(self, meter: Meter, count: int, tag: str, subscribers: list[dict[str, str]]) -> None:
        """The same by the plain design."""
        told = [json.loads(event.to_json()) for event in events(count, tag)]
        for start in range(0, count, 10):
            chosen = told[start : start + 10]
            meter.invoke(partial(plain_sender.plan, chosen, subscribers, aws.sqs(), self.plain_queue))
            for records in received(self.sqs, self.plain_queue):
                for record in records:
                    meter.invoke(partial(plain_sender.send, record, self.plain_table, aws.dynamodb()))


def measure(count: int) -> dict[str, Any]:
    """Both designs at each delay."""
    found: dict[str, Any] = {"load": os.getloadavg()[0], "events": count, "delays": {}}
    bench, meter = Bench(), Meter()
    transact = aws.dynamodb().transact_write_items

    def counted(**request: Any) -> Any:
        meter.transaction(len(request["TransactItems"]))
        return transact(**request)

    aws.dynamodb().transact_write_items = counted  # type: ignore[method-assign]
    for delay in DELAYS:
        rows: dict[str, Any] = {}
        with endpoint(delay) as url:
            subscribers = bench.subscribe(url, SUBSCRIBERS)
            bench.ours(Meter(), 10, f"warm{delay}")
            for name in (OURS, PLAIN):
                meter.used = Used(deliveries=count * SUBSCRIBERS)
                if name == OURS:
                    bench.ours(meter, count, f"o{delay}")
                else:
                    bench.plain(meter, count, f"p{delay}", subscribers)
                rows[name], meter.used = meter.used, Used()
            bench.subscribe(url, 1)
            meter.used = Used(deliveries=count)
            bench.ours(meter, count, f"a{delay}", batch=1)
            rows[ALONE], meter.used = meter.used, Used()
        found["delays"][delay] = rows
    return found


def show(found: dict[str, Any]) -> None:
    """Prints the table."""
    print(f"{os.cpu_count()} cores, load {found['load']:.1f} at the start; {found['events']} events to ten each")
    heads = f"{'function ms':>12}{'a second':>10}{'calls':>8}{'invocations':>13}{'$ a million':>13}"
    print(f"{'endpoint':>9}  {'design':16}{heads}")
    for delay, rows in found["delays"].items():
        for name, used in rows.items():
            dollars = sum(used.dollars(MEMORY_GB[name]).values())
            print(
                f"{1000 * delay:6.0f} ms  {name:16}{1000 * used.seconds / used.deliveries:12.1f}"
                f"{used.deliveries / used.seconds:10.0f}"
                f"{used.calls / used.deliveries:8.2f}{used.invocations / used.deliveries:13.3f}{dollars:13.2f}"
            )
    rows = found["delays"][0.1]
    print("dollars of a million at 100 ms, by what they are for:")
    for name, used in rows.items():
        parts = ", ".join(f"{what} {value:.2f}" for what, value in used.dollars(MEMORY_GB[name]).items())
        print(f"  {name}: {parts}")
    print(f"the sender takes {ratio(found):.2f} of the plain design's function time at 100 ms; the goal is {GOAL:.2f}")


def ratio(found: dict[str, Any]) -> float:
    """Ours over the plain design's function time a delivery, at 100 ms."""
    rows = found["delays"][0.1]
    share: float = rows[OURS].seconds / rows[PLAIN].seconds
    return share


@contextlib.contextmanager
def embedded_aws() -> Iterator[None]:
    """An embedded AWS that this process's clients find."""
    with tempfile.TemporaryDirectory() as folder:
        embedded = EmbeddedAws(Path(folder), port=free_port(), persist=False)
        try:
            os.environ.update(shell_settings(embedded.start()))
            yield
        finally:
            embedded.stop()


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--events", type=int, default=100)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    with embedded_aws():
        found = measure(arguments.events)
    if arguments.json:
        print(json.dumps(found, indent=1, default=lambda value: value.__dict__))
    else:
        show(found)
    sys.exit(0 if ratio(found) <= GOAL else 1)


if __name__ == "__main__":
    main()
