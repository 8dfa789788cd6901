"""What webhooks out cost in a month in which nothing happens, by the template of each environment.

Counted from what `cdk synth` makes of `WebhookSender`: the queues that Lambda polls, the calls of each minute, secrets
and alarms. How long a call of the timekeeper takes is measured, in this process and on an embedded AWS.

    .venv/bin/python bench/webhooks/idle.py [--json]

Answers, for each environment: dollars by what they are for, at list prices and after the amounts that each account has
free every month, as if nothing else used them. Leaves with 1 when an environment that lets Lambda choose the
concurrency (`[sending] concurrency = "any"`) costs anything after those, beyond storage and alarms.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import io
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from bench import prices
from bench.webhooks import sending
from stacks.environment import Environment
from tests.snapshots.test_templates import UNBUNDLED, synthesized

PATTERN: Final = "WebhooksOut"
LONG_POLL: Final = 20
"""Assumed: seconds that a poller of Lambda's waits at an empty queue for each request, the longest that SQS knows
(best-practices-setting-up-long-polling.html, read 2026-11-27). AWS does not say what its pollers ask for."""
POLLERS: Final = 2
"""Of an idle queue (services-sqs-scaling.html, read 2026-11-23)."""
POLLERS_WITH_MAXIMUM: Final = 5
"""Of an idle queue with a maximum concurrency, for which AWS does not reduce them (the same page)."""

# START, END and REPORT.
_LAMBDA_LINES: Final = 300
_SWEEPS: Final = 200


@dataclass(frozen=True)
class Sweep:
    """A call of the timekeeper that finds nothing to do."""

    seconds: float
    log_bytes: float


@dataclass(frozen=True)
class Bill:
    """A month without an event, of one environment. Dollars at list prices, and after what is free."""

    concurrency: int | str
    polled_queues: int
    polls: float
    listed: Mapping[str, float]
    to_pay: Mapping[str, float]
    storage_and_alarms: Mapping[str, float]


def bill(concurrency: int | str, resources: Mapping[str, Any], sweep: Sweep) -> Bill:
    """The bill of a pattern's resources, as CloudFormation has them."""
    kinds = [each["Type"] for each in resources.values()]
    polls = 0.0
    queues = [each for each in resources.values() if each["Type"] == "AWS::Lambda::EventSourceMapping"]
    for each in queues:
        pollers = POLLERS_WITH_MAXIMUM if "ScalingConfig" in each["Properties"] else POLLERS
        polls += pollers * prices.HOURS * 3600 / LONG_POLL
    minutes = kinds.count("AWS::Scheduler::Schedule") * prices.HOURS * 60
    (memory,) = (
        each["Properties"]["MemorySize"] / 1024
        for name, each in resources.items()
        if each["Type"] == "AWS::Lambda::Function" and "Timekeeper" in name
    )
    used = {
        "SQS": (polls, prices.SQS_FREE_REQUESTS, prices.SQS / prices.MILLION),
        "Lambda, requests": (minutes, prices.LAMBDA_FREE_REQUESTS, prices.LAMBDA_REQUESTS / prices.MILLION),
        "Lambda, time": (minutes * sweep.seconds * memory, prices.LAMBDA_FREE_GB_SECONDS, prices.LAMBDA_GB_SECOND),
        "Scheduler": (minutes, prices.SCHEDULER_FREE, prices.SCHEDULER / prices.MILLION),
        "logs": (minutes * sweep.log_bytes / 1e9, prices.LOGS_FREE_GB, prices.LOGS_GB),
    }
    return Bill(
        concurrency=concurrency,
        polled_queues=len(queues),
        polls=polls,
        listed={what: amount * price for what, (amount, _, price) in used.items()},
        to_pay={what: max(0.0, amount - free) * price for what, (amount, free, price) in used.items()},
        storage_and_alarms={
            "secrets": kinds.count("AWS::SecretsManager::Secret") * prices.SECRET,
            "alarms": kinds.count("AWS::CloudWatch::Alarm") * prices.ALARM,
        },
    )


def resources(environment: str, folder: Path) -> dict[str, Any]:
    """What the pattern has in an environment, by logical id."""
    templates = synthesized(environment, folder, context=UNBUNDLED)
    return {
        name: resource
        for template in templates.values()
        for name, resource in template["Resources"].items()
        if name.startswith(PATTERN)
    }


def idle_sweep() -> Sweep:
    """The timekeeper with nothing to do: its median time and what it logs."""
    sending.Bench()
    timekeeper = importlib.import_module("lambdas.delivery_timekeeper.handler")
    seconds, printed = [], io.StringIO()
    with contextlib.redirect_stdout(printed):
        for _ in range(_SWEEPS):
            began = time.perf_counter()
            timekeeper.handler({}, sending.Context())
            seconds.append(time.perf_counter() - began)
    return Sweep(statistics.median(seconds), len(printed.getvalue()) / _SWEEPS + _LAMBDA_LINES)


def measure() -> dict[str, Bill]:
    """The bill of each environment that is deployed to AWS."""
    with sending.embedded_aws(), tempfile.TemporaryDirectory() as folder:
        sweep = idle_sweep()
        print(f"an idle call of the timekeeper takes {1000 * sweep.seconds:.1f} ms", file=sys.stderr)
        return {
            name: bill(Environment.load(name).sending.concurrency, resources(name, Path(folder, name)), sweep)
            for name in Environment.names()
            if name != "local"
        }


def show(bills: Mapping[str, Bill]) -> None:
    """Prints the table."""
    print("dollars a month without an event; free amounts as if nothing else in the account used them")
    for name, each in bills.items():
        print(f"{name}: concurrency {each.concurrency}, {each.polled_queues} queues polled {each.polls:,.0f} times")
        for what, listed in each.listed.items():
            print(f"  {what:18}{listed:8.3f} at list price{each.to_pay[what]:8.3f} after what is free")
        print(f"  {'in all':18}{sum(each.listed.values()):8.3f}{'':14}{sum(each.to_pay.values()):8.3f}")
        parts = ", ".join(f"{what} {dollars:.2f}" for what, dollars in each.storage_and_alarms.items())
        print(f"  storage and alarms: {parts}")


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    bills = measure()
    if arguments.json:
        print(json.dumps({name: asdict(each) for name, each in bills.items()}, indent=1))
    else:
        show(bills)
    free = [each for each in bills.values() if each.concurrency == "any"]
    sys.exit(0 if free and not any(sum(each.to_pay.values()) for each in free) else 1)


if __name__ == "__main__":
    main()
