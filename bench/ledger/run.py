"""What the sales ledger costs: AWS calls and DynamoDB write units an event, against the plain design.

Ours is the real handler of `lambdas/sales_ledger`, the peer the plain design of `plain.py`: Powertools' idempotency
(a record an event) around one transaction of counters an event. Both get the same real orders, in the shape of SQS
records, in this process, one batch after the other, against one embedded AWS that the benchmark starts; every call of
theirs to DynamoDB is counted, and its units computed by the rules in `meter.py`. All tables count: the marks and their
tally, the postings and their folds; the idempotency records and the counters. What Lambda itself does (receiving,
deleting) is the same for both and not counted.

    .venv/bin/python bench/ledger/run.py                    December (tests/shop/month.py), or the day that is shipped
    .venv/bin/python bench/ledger/run.py --repeat 10        the month ten times over: folds at work
    .venv/bin/python bench/ledger/run.py --json

Then the throughput of the deployed app beside a consumer that does nothing (`throughput.py` says how); `--only` picks
one of the two.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import random
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from decimal import Decimal
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Final

import boto3
import msgspec

from bench.ledger import throughput
from bench.ledger.plain import plain_handler
from offload.cli.deployment.aws import shell_settings
from offload.cli.local.process import EmbeddedAws
from offload.runtime import aws
from offload.runtime.events import sums
from shop.ledger import Ledger, read_ledger
from shop.orders import SHIPPED_DAY, read_orders
from tests.meter import Item, Meter, item_size
from tests.shop.month import MONTH

CALLS_GOAL: Final = 1 / 10
UNITS_GOAL: Final = 1 / 5
SEED: Final = 20101201

Bodies = Sequence[str]


class Context(SimpleNamespace):
    """What the handlers ask of Lambda's context."""

    aws_request_id = "bench"

    @staticmethod
    def get_remaining_time_in_millis() -> int:
        """Time enough."""
        return 10_000


def bodies_of(path: Path, repeat: int) -> list[str]:
    """The messages that the bus puts into the queue for a file's invoices; repeated, under other invoice numbers."""
    invoices = read_orders(path).invoices
    bodies = []
    for turn in range(repeat):
        for invoice in invoices:
            told = invoice if turn == 0 else msgspec.structs.replace(invoice, invoice=f"{invoice.invoice}-{turn}")
            event = told.event()
            bus = {"version": "0", "id": str(uuid.uuid4()), "source": event.source, "detail-type": event.type}
            bodies.append(json.dumps({**bus, "detail": json.loads(event.to_json())}, ensure_ascii=False))
    return bodies


def batches(bodies: Bodies, size: int) -> Iterator[dict[str, Any]]:
    """Lambda's events of `size` SQS records each (docs.aws.amazon.com/lambda/latest/dg/with-sqs.html)."""
    for start in range(0, len(bodies), size):
        yield {
            "Records": [
                {
                    "messageId": str(uuid.uuid4()),
                    "receiptHandle": "receipt",
                    "body": body,
                    "attributes": {"ApproximateReceiveCount": "1", "SentTimestamp": "1290000000000"},
                    "messageAttributes": {},
                    "eventSource": "aws:sqs",
                    "awsRegion": "us-east-1",
                }
                for body in bodies[start : start + size]
            ]
        }


class Surroundings:
    """Tables in the embedded AWS, made anew for each measurement, and a client that nobody counts."""

    def __init__(self) -> None:
        self.uncounted: Any = boto3.client("dynamodb")

    def table(self, role: str, *, key: str = "pk", sort_key: bool = True) -> str:
        """A new table with the keys that offload/cdk/constructs/table.py gives ours, or `key` alone."""
        keys = [(key, "HASH"), *([("sk", "RANGE")] if sort_key else [])]
        name = f"{role}-{uuid.uuid4().hex[:8]}"
        self.uncounted.create_table(
            TableName=name,
            KeySchema=[{"AttributeName": each, "KeyType": kind} for each, kind in keys],
            AttributeDefinitions=[{"AttributeName": each, "AttributeType": "S"} for each, _ in keys],
            BillingMode="PAY_PER_REQUEST",
        )
        return name

    def look(self, table: str, keys: Sequence[Item]) -> list[Item]:
        """The items with these keys, 100 at most, as they are now."""
        wanted = {"Keys": list(keys), "ConsistentRead": True}
        found: list[Item] = self.uncounted.batch_get_item(RequestItems={table: wanted})["Responses"][table]
        return found


def run_ours(here: Surroundings, bodies: Bodies, size: int) -> dict[str, Any]:
    """Puts the bodies through the sales ledger's own handler in batches of `size`; what it cost, and the ledger."""
    ledger_table, marks_table = here.table("ledger"), here.table("marks")
    os.environ.update(
        OFFLOAD_CONSUMER="SalesLedger",
        OFFLOAD_QUEUE_URL="http://127.0.0.1/never-called",
        OFFLOAD_DEAD_LETTER_QUEUE_URL="http://127.0.0.1/never-called",
        OFFLOAD_MARKS_TABLE=marks_table,
        OFFLOAD_CLAIMS_BUCKET="claims",
        OFFLOAD_ATTEMPTS="5",
        POWERTOOLS_LOG_LEVEL="CRITICAL",  # the canonical lines would be all there is to see here
        LEDGER_TABLE=ledger_table,
    )
    importlib.invalidate_caches()
    sys.modules.pop("lambdas.sales_ledger.handler", None)
    handler = importlib.import_module("lambdas.sales_ledger.handler").handler
    aws._client.cache_clear()
    meter = Meter()
    meter.attach(aws.dynamodb(), here.look)
    _feed(handler, bodies, size)
    result = _result(meter, len(bodies))
    result["units_by_table"] = {
        "marks and tally": round(meter.written[marks_table] / len(bodies), 3),
        "postings and folds": round(meter.written[ledger_table] / len(bodies), 3),
    }
    result["posting_bytes"] = _posting_bytes(here, ledger_table)
    reader = boto3.client("dynamodb")
    reading = Meter()
    reading.attach(reader, here.look)
    ledger = read_ledger(ledger_table, reader)
    result["reading"] = {"calls": reading.calls.total(), "units": reading.read, **_shape(here, ledger_table)}
    result["ledger"] = _said(ledger)
    return result


def run_plain(here: Surroundings, bodies: Bodies, size: int) -> dict[str, Any]:
    """The same bodies through the plain design."""
    records, counters = here.table("records", key="id", sort_key=False), here.table("counters", sort_key=False)
    client = boto3.client("dynamodb")
    meter = Meter()
    meter.attach(client, here.look)
    _feed(plain_handler(client, records, counters), bodies, size)
    result = _result(meter, len(bodies))
    result["units_by_table"] = {
        "idempotency records": round(meter.written[records] / len(bodies), 3),
        "counters": round(meter.written[counters] / len(bodies), 3),
    }
    (total,) = here.look(counters, [{"pk": {"S": "total"}}])
    result["ledger"] = {
        "revenue": str(Decimal(total["revenue"]["N"])),
        **{name: int(total[name]["N"]) for name in ("units", "orders", "cancellations")},
    }
    return result


def _feed(handler: Callable[[dict[str, Any], Any], Any], bodies: Bodies, size: int) -> None:
    for batch in batches(bodies, size):
        answer = handler(batch, Context())
        if answer["batchItemFailures"]:
            raise RuntimeError(f"records failed in the bench: {answer}")


def _result(meter: Meter, records: int) -> dict[str, Any]:
    return {
        "calls": round(meter.calls.total() / records, 4),
        "units": round(meter.units / records, 3),
        "read_units": round(meter.read / records, 3),
        "by_operation": dict(meter.calls),
        "cancelled": meter.cancelled,
        "written_units": meter.units,
        "reported_units": meter.reported,
    }


def _items(here: Surroundings, table: str) -> Iterator[dict[str, Any]]:
    for page in here.uncounted.get_paginator("scan").paginate(TableName=table):
        yield from page["Items"]


def _posting_bytes(here: Surroundings, table: str) -> dict[str, int]:
    sizes = sorted(item_size(item) for item in _items(here, table) if item["sk"]["S"].startswith("posting#"))
    return {"median": sizes[len(sizes) // 2], "largest": sizes[-1]} if sizes else {}


def _shape(here: Surroundings, table: str) -> dict[str, int]:
    items = list(_items(here, table))
    totals = [item_size(item) for item in items if item["sk"]["S"].startswith("total#")]
    postings = sum(item["sk"]["S"].startswith("posting#") for item in items)
    return {
        "bytes": sum(item_size(item) for item in items),
        "unfolded": postings,
        "totals": len(totals),
        "largest_total": max(totals, default=0),
    }


def _said(ledger: Ledger) -> dict[str, Any]:
    total = ledger.total
    return {
        "revenue": str(total.revenue),
        "units": total.units,
        "orders": total.orders,
        "cancellations": total.cancellations,
    }


def _with_duplicates(bodies: Bodies, share: float) -> list[str]:
    """Every body once and `share` of them once more, anywhere after."""
    draw = random.Random(SEED)
    again = draw.sample(list(bodies), int(len(bodies) * share))
    everything = list(bodies)
    for body in again:
        first = everything.index(body)
        everything.insert(draw.randint(first + 1, len(everything)), body)
    return everything


def cases(bodies: Bodies) -> Iterator[tuple[str, Bodies]]:
    """The orders that the events may come in."""
    shuffled = list(bodies)
    random.Random(SEED).shuffle(shuffled)
    yield "file order", bodies
    yield "shuffled", shuffled
    yield "shuffled, 20 % duplicates", _with_duplicates(shuffled, 0.2)


def measure(path: Path, *, repeat: int, sizes: Sequence[int], plain: bool) -> list[dict[str, Any]]:
    """Every case at every batch size; with the embedded AWS up."""
    here = Surroundings()
    rows = []
    for name, bodies in cases(bodies_of(path, repeat)):
        for size in sizes:
            began = time.monotonic()
            row: dict[str, Any] = {"case": name, "batch": size, "records": len(bodies)}
            row["ours"] = run_ours(here, bodies, size)
            folding, sums.FOLD_EVERY = sums.FOLD_EVERY, 2**62  # type: ignore[misc]
            try:
                row["ours_without_folding"] = run_ours(here, bodies, size)
            finally:
                sums.FOLD_EVERY = folding  # type: ignore[misc]
            if plain:
                row["plain"] = run_plain(here, bodies, size)
                for kind in ("revenue", "units", "orders", "cancellations"):
                    one, other = row["ours"]["ledger"][kind], row["plain"]["ledger"][kind]
                    if Decimal(one) != Decimal(other):
                        raise RuntimeError(f"{name}, batch {size}: {kind} is {one} in ours and {other} in plain")
            row["seconds"] = round(time.monotonic() - began, 1)
            rows.append(row)
            print(f"  {name}, batch {size}: {row['seconds']} s", file=sys.stderr)
    return rows


def show(rows: Sequence[dict[str, Any]]) -> bool:
    """Prints the table; whether every goal is kept."""
    kept = True
    header = f"{'case':26} {'batch':>5} | {'calls/event':>11} {'plain':>7} {'ratio':>6} | {'units/event':>11}"
    print(f"{header} {'plain':>7} {'ratio':>6} | {'read: calls':>11} {'units':>6} {'unfolded':>8}")
    for row in rows:
        ours, plain = row["ours"], row.get("plain")
        calls = f"{plain['calls']:7.2f} {ours['calls'] / plain['calls']:6.3f}" if plain else f"{'':14}"
        units = f"{plain['units']:7.2f} {ours['units'] / plain['units']:6.3f}" if plain else f"{'':14}"
        reading, unfolded = ours["reading"], row["ours_without_folding"]["reading"]
        print(
            f"{row['case']:26} {row['batch']:5} | {ours['calls']:11.4f} {calls} | {ours['units']:11.2f} {units} |"
            f" {reading['calls']:11} {reading['units']:6.0f} {unfolded['units']:8.0f}"
        )
        if plain:
            kept &= ours["calls"] <= CALLS_GOAL * plain["calls"] and ours["units"] <= UNITS_GOAL * plain["units"]
    print(f"goals: calls at most {CALLS_GOAL}, units at most {UNITS_GOAL} of plain: {'kept' if kept else 'MISSED'}")
    return kept


def cost(arguments: argparse.Namespace, path: Path) -> list[dict[str, Any]]:
    """The costs, against an embedded AWS of its own."""
    with tempfile.TemporaryDirectory() as folder:
        embedded = EmbeddedAws(Path(folder), persist=False)
        try:
            os.environ.update(shell_settings(embedded.start()))
            return measure(path, repeat=arguments.repeat, sizes=arguments.batch, plain=not arguments.no_plain)
        finally:
            embedded.stop()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--orders", type=Path, help="an orders file")
    parser.add_argument("--only", choices=("cost", "throughput"))
    parser.add_argument("--repeat", type=int, default=1, help="the file so many times over, with other numbers")
    parser.add_argument("--batch", type=int, nargs="+", default=[10, 100])
    parser.add_argument("--no-plain", action="store_true", help="ours alone")
    parser.add_argument("--events", type=int, default=2000, help="of the throughput")
    parser.add_argument("--rounds", type=int, default=5, help="of the throughput")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    path = arguments.orders or (MONTH if MONTH.exists() else SHIPPED_DAY)
    results: dict[str, Any] = {}
    kept = True
    if arguments.only != "throughput":
        results["cost"] = cost(arguments, path)
        kept &= arguments.json or show(results["cost"])
    if arguments.only != "cost":
        rates = throughput.measure(read_orders(path).invoices[: arguments.events], rounds=arguments.rounds)
        results["throughput"] = rates
        kept &= rates["ratio"] >= throughput.GOAL
        if not arguments.json:
            print(f"{rates['events']} events a round")
            for name, median in rates["medians"].items():
                print(f"  {name:14} {median:6.0f} events/s {rates['rates'][name]}; ms: {rates['processor_ms'][name]}")
            print(f"ratio to a do-nothing consumer {rates['ratio']} (goal: at least {throughput.GOAL})")
            print(f"ratio to a bare function {rates['ratio_to_bare']}")
    if arguments.json:
        print(json.dumps(results, indent=1))
    if not kept:
        sys.exit(1)


if __name__ == "__main__":
    main()
