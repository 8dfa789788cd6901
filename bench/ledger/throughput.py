"""Events a second through the deployed sales ledger, beside two consumers that do nothing.

The app is deployed to an embedded AWS by the CDK's command line, as `offload up` does. The first peer is the app's own
EventJournal: a consumer that decides nothing, on the same runtime, each event done once. The second is a bare function
that logs a line a batch and returns, behind a rule, a queue and an event source with the same settings. All get the
same real invoices over the same bus; only one rule of the bus is switched on at a time, so that each has the machine
for itself. The clock runs from the first PutEvents to the moment when nothing is left in the queue. Beside the rates
stands the processor time that an event took in the emulator, in its function workers and in the publisher: on two cores
the three compete.
"""

from __future__ import annotations

import io
import json
import os
import statistics
import tempfile
import time
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import msgspec

from offload.cli.deployment.aws import Aws
from offload.cli.deployment.resources import Deployment
from offload.cli.local.process import ACCOUNT, EmbeddedAws
from offload.cli.local.up import bring_up
from offload.runtime.events import sums
from shop.contracts.orders import Invoice

GOAL: Final = 0.8
CONSUMER: Final = "SalesLedger"
NOTHING: Final = "EventJournal"
BARE: Final = "bare function"
_NOTHING: Final = """
def handler(event, context):
    print("nothing done with", len(event["Records"]), "records")
    return {"batchItemFailures": []}
"""
# As the SalesLedger's event source has them (offload/cdk/patterns/event_consumer.py).
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
    """Rates in events a second of all, by round, their medians, the ratios of these, and processor time an event."""
    with tempfile.TemporaryDirectory() as folder:
        embedded = EmbeddedAws(Path(folder), persist=False)
        try:
            return _measure(embedded, bring_up(embedded), invoices, rounds)
        finally:
            embedded.stop()


def _measure(embedded: EmbeddedAws, deployment: Deployment, invoices: Sequence[Invoice], rounds: int) -> dict[str, Any]:
    peers = [_deployed(deployment, CONSUMER), _deployed(deployment, NOTHING), _nothing(deployment)]
    rates: dict[str, list[float]] = {peer.name: [] for peer in peers}
    spent: dict[str, list[tuple[float, ...]]] = {peer.name: [] for peer in peers}
    for turn in range(rounds + 1):
        # The first round starts the workers, and is not counted; every round's events are new ones.
        for peer in peers if turn % 2 else reversed(peers):
            entries = _entries(deployment.bus, invoices, f"{peer.name}-{turn}")
            before = _processor_seconds(embedded)
            rate = _rate(deployment, peer, entries)
            if turn:
                rates[peer.name].append(round(rate))
                after = _processor_seconds(embedded)
                spent[peer.name].append(tuple((b - a) / len(entries) for a, b in zip(before, after, strict=True)))
    marks_table = deployment.consumer(CONSUMER).marks_table or ""
    done = sum(int(row[0]) for row in sums.read(deployment.aws.dynamodb, marks_table)["done"].values())
    if done != (rounds + 1) * len(invoices):
        raise RuntimeError(f"{CONSUMER} did {done} of {(rounds + 1) * len(invoices)} events")
    medians = {name: statistics.median(each) for name, each in rates.items()}
    return {
        "events": len(invoices),
        "rates": rates,
        "medians": medians,
        "ratio": round(medians[CONSUMER] / medians[NOTHING], 3),
        "ratio_to_bare": round(medians[CONSUMER] / medians[BARE], 3),
        "processor_ms": {
            name: {
                who: round(1000 * statistics.median(column), 2)
                for who, column in zip(("emulator", "workers", "publisher"), zip(*each, strict=True), strict=True)
            }
            for name, each in spent.items()
        },
    }


def _deployed(deployment: Deployment, name: str) -> Peer:
    rule = deployment.one(f"{name}/Rule", "AWS::Events::Rule").physical_id
    return Peer(name, rule.rpartition("|")[2].rpartition("/")[2], deployment.consumer(name).queue_url)


def _processor_seconds(embedded: EmbeddedAws) -> tuple[float, float, float]:
    """User and system time so far of the emulator, of its workers, and of this process; zeros without /proc."""
    workers = sum(_process_seconds(pid) for pid in embedded.workers())
    own = os.times()
    return _process_seconds(embedded.connected().pid), workers, own.user + own.system


def _process_seconds(pid: int) -> float:
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    except OSError:  # it has just ended, or this system has no /proc
        return 0.0
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _nothing(deployment: Deployment) -> Peer:
    """The bare function behind a queue, made by API."""
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
    return Peer(BARE, "nothing", queue_url)


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
