"""Events a second through the deployed app, beside a consumer that does nothing.

The app is deployed to an embedded AWS by the CDK's command line, as `offload up` does. Beside it stands a function that
logs a line and returns, behind a rule, a queue and an event source with the same settings as the sales ledger's. Both
get the same real invoices over the same bus; only one rule of the bus is switched on at a time, so that each has the
machine for itself. The clock runs from the first PutEvents to the moment when nothing is left in the queue.
"""

from __future__ import annotations

import io
import json
import statistics
import tempfile
import time
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import msgspec

from offload.contracts.orders import Invoice
from offload.operate.aws import Aws
from offload.operate.embedded.process import ACCOUNT, EmbeddedAws
from offload.operate.embedded.up import bring_up
from offload.operate.resources import Deployment
from offload.runtime import sums

GOAL: Final = 0.8
CONSUMER: Final = "SalesLedger"
_NOTHING: Final = """
def handler(event, context):
    print("nothing done with", len(event["Records"]), "records")
    return {"batchItemFailures": []}
"""
# As the SalesLedger's event source has them (stacks/patterns/event_consumer.py).
_BATCH: Final = 10
_CONCURRENCY: Final = 5
_ENTRIES: Final = 10  # PutEvents takes ten
_DONE_WITHIN: Final = 300.0
_POLL: Final = 0.02


@dataclass(frozen=True)
class Peer:
    """One consumer to be measured: its rule's name and its queue's URL."""

    name: str
    rule: str
    queue_url: str


def measure(invoices: Sequence[Invoice], *, rounds: int) -> dict[str, Any]:
    """Rates in events a second of both, by round, their medians and the ratio of these."""
    with tempfile.TemporaryDirectory() as folder:
        embedded = EmbeddedAws(Path(folder), persist=False)
        try:
            return _measure(bring_up(embedded), invoices, rounds)
        finally:
            embedded.stop()


def _measure(deployment: Deployment, invoices: Sequence[Invoice], rounds: int) -> dict[str, Any]:
    consumer = deployment.consumer(CONSUMER)
    rule = deployment.one(f"{CONSUMER}/Rule", "AWS::Events::Rule").physical_id.rpartition("|")[2]
    ours = Peer("ours", rule.rpartition("/")[2], consumer.queue_url)
    nothing = _nothing(deployment)
    rates: dict[str, list[float]] = {ours.name: [], nothing.name: []}
    published = 0
    for turn in range(rounds + 1):
        for peer in (ours, nothing) if turn % 2 else (nothing, ours):
            # The first round starts the workers, and is not counted; every round's events are new ones.
            rate = _rate(deployment, peer, _entries(deployment.bus, invoices, f"{peer.name}-{turn}"))
            published += len(invoices) if peer is ours else 0
            if turn:
                rates[peer.name].append(round(rate, 1))
    done = sum(int(row[0]) for row in sums.read(deployment.aws.dynamodb, consumer.marks_table or "")["done"].values())
    if done != published:
        raise RuntimeError(f"{CONSUMER} did {done} of {published} events")
    medians = {name: statistics.median(each) for name, each in rates.items()}
    return {
        "events": len(invoices),
        "rates": rates,
        "medians": medians,
        "ratio": round(medians[ours.name] / medians[nothing.name], 3),
    }


def _nothing(deployment: Deployment) -> Peer:
    """The consumer that does nothing, made by API."""
    aws = deployment.aws
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("nothing.py", _NOTHING)
    aws.lambda_.create_function(
        FunctionName="nothing",
        Runtime="python3.13",
        Role=f"arn:aws:iam::{ACCOUNT}:role/nothing",
        Handler="nothing.handler",
        Code={"ZipFile": packed.getvalue()},
        Timeout=10,
        MemorySize=256,
    )
    queue_url = aws.sqs.create_queue(QueueName="nothing", Attributes={"VisibilityTimeout": "60"})["QueueUrl"]
    arn = aws.sqs.get_queue_attributes(QueueUrl=queue_url, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    aws.lambda_.create_event_source_mapping(
        FunctionName="nothing",
        EventSourceArn=arn,
        BatchSize=_BATCH,
        FunctionResponseTypes=["ReportBatchItemFailures"],
        ScalingConfig={"MaximumConcurrency": _CONCURRENCY},
    )
    pattern = json.dumps({"source": ["offload.shop"], "detail-type": ["order.cancelled", "order.placed"]})
    aws.events.put_rule(Name="nothing", EventBusName=deployment.bus, EventPattern=pattern)
    aws.events.put_targets(Rule="nothing", EventBusName=deployment.bus, Targets=[{"Id": "queue", "Arn": arn}])
    return Peer("nothing", "nothing", queue_url)


def _entries(bus: str, invoices: Sequence[Invoice], suffix: str) -> list[Any]:
    entries = []
    for invoice in invoices:
        event = msgspec.structs.replace(invoice, invoice=f"{invoice.invoice}-{suffix}").event()
        entries.append(
            {
                "EventBusName": bus,
                "Source": event.source,
                "DetailType": event.type,
                "Detail": event.to_json().decode(),
            }
        )
    return entries


def _rate(deployment: Deployment, peer: Peer, entries: Sequence[Any]) -> float:
    aws = deployment.aws
    for rule in aws.events.list_rules(EventBusName=deployment.bus)["Rules"]:
        switch = aws.events.enable_rule if rule["Name"] == peer.rule else aws.events.disable_rule
        switch(Name=rule["Name"], EventBusName=deployment.bus)
    began = time.perf_counter()
    for start in range(0, len(entries), _ENTRIES):
        answer = aws.events.put_events(Entries=entries[start : start + _ENTRIES])
        if answer["FailedEntryCount"]:
            raise RuntimeError(f"the bus refused events: {answer}")
    deadline = time.monotonic() + _DONE_WITHIN
    while _waiting(aws, peer.queue_url):
        if time.monotonic() > deadline:
            raise RuntimeError(f"{peer.name}: not done after {_DONE_WITHIN:.0f} s")
        time.sleep(_POLL)
    return len(entries) / (time.perf_counter() - began)


def _waiting(aws: Aws, queue_url: str) -> int:
    found: Any = aws.sqs.get_queue_attributes(
        QueueUrl=queue_url,
        AttributeNames=["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"],
    )["Attributes"]
    return sum(int(number) for number in found.values())
