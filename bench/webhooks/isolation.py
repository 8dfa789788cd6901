"""Whether endpoints that hang delay the others: 48 that are well and 2 that hang, beside the run without those.

The app is deployed to an embedded AWS as `offload up` does it. Each of 50 subscriptions hears of one product. Events
are published at a steady pace; 48 endpoints answer 204 after 50 ms. In the runs "without", the others get no
events; in the runs "with" they get theirs, and from the run's begin they answer nothing until the sender gives up,
after 15 s. Until then all were well, so they begin to hang where it can hurt: among those that are sent to together.
The two kinds of run take turns, the first one another each round. A run is a minute, so that each has once in it what
the app does each minute: on two cores its functions delay the deliveries beside them. A delivery's latency is from the
call that publishes its event to the arrival of its first request, by this machine's clock.

The plain design is in the same run: one queue for the same 50 endpoints, and one function, five at once as ours, that
posts one delivery a message (plain_sender.py) and waits 15 s as well. It has no planner: the benchmark puts its
messages into the queue itself, which makes it that much faster.

    .venv/bin/python bench/webhooks/isolation.py [--hanging 2] [--rounds 3] [--seconds 60] [--rate 10]
                                                 [--plot FILE.svg] [--json]

Answers: p50 and p99 of the healthy endpoints' deliveries, what hanging costs in attempts and in occupied invocations,
and a plot of the distributions. Leaves with 1 when the p99 with them is more than 1.2 times the one without, or when
a delivery of ours is missing.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import uv

from bench.webhooks import plain_sender
from offload.cli.local.process import ACCOUNT, EmbeddedAws, free_port
from offload.cli.local.up import bring_up
from offload.client.publisher import Publisher
from offload.contracts.events.event import Event
from shop.contracts.stock import StockLow
from tests.copies import Copy
from tests.local.subscribers import Subscribers
from tests.misbehaving_server import Answer, Hang, MisbehavingServer
from tests.unit.webhooks_out.sending_bench import sending_table

PROJECT: Final = Path(__file__).resolve().parents[2]
GOAL: Final = 1.2
WITHOUT, WITH = "ours, without", "ours, with"
PLAIN_WITHOUT, PLAIN_WITH = "plain, without", "plain, with"
WELL: Final = tuple(f"well{number}" for number in range(48))
WELL_ANSWER: Final = Answer(204, after=0.05)
# The sender gives up after 15 s, and so does the plain one.
HANGS: Final = Hang(60)
TIMEOUT: Final = 15.0
CONCURRENCY: Final = 5
# So long that it can only have been one of those that hang.
OCCUPIED: Final = 10.0
WARMING: Final = 3
WARM_SECONDS: Final = 60.0
PUBLISHERS: Final = 4
# How long what was published may take to arrive, after the last one.
PATIENCE: Final = 30.0
PLOT: Final = PROJECT / "docs" / "webhooks-out" / "isolation.svg"

_PLAIN: Final = """
import json, os, time
import boto3, plain_sender
dynamodb = boto3.client("dynamodb")

def handler(event, context):
    began, failed = time.monotonic(), []
    for record in event["Records"]:
        try:
            plain_sender.send(record, os.environ["TABLE"], dynamodb)
        except Exception as error:
            print("failed:", error)
            failed.append({"itemIdentifier": record["messageId"]})
    print(json.dumps({"message": "round", "duration_ms": round((time.monotonic() - began) * 1000)}))
    return {"batchItemFailures": failed}
"""

Publish = Callable[[str, Event[StockLow]], None]


@dataclass
class Run:
    """One run: the latencies of healthy endpoints' deliveries, in seconds, and what those that hang took."""

    latencies: list[float] = field(default_factory=list)
    missing: int = 0
    """Did not come while they were waited for; their latency is the wait."""
    pace: float = 0.0
    attempts: int = 0
    began: float = 0.0
    occupied: list[float] = field(default_factory=list)
    """Seconds of each invocation that one of those kept."""


class Endpoints:
    """The 50, on a real server."""

    def __init__(self, server: MisbehavingServer) -> None:
        self._server = server
        for name in WELL:
            server.script(name, then=WELL_ANSWER)

    def url(self, name: str) -> str:
        """Where an endpoint is."""
        return self._server.url(name)

    def are_well(self, names: Sequence[str]) -> None:
        """From now on these answer."""
        for name in names:
            self._server.script(name, then=WELL_ANSWER)

    def hang(self, names: Sequence[str]) -> None:
        """From now on these answer nothing."""
        for name in names:
            self._server.script(name, then=HANGS)

    def arrivals(self, names: Sequence[str]) -> dict[str, float]:
        """When each event first came, by its id; seconds since 1970."""
        found: dict[str, float] = {}
        for name in names:
            for each in self._server.received(name):
                if each.ended:
                    found.setdefault(json.loads(each.body)["id"], each.at)
        return found

    def hung(self, names: Sequence[str]) -> int:
        """The requests to these that got no answer."""
        return sum(each.step == HANGS for name in names for each in self._server.received(name))

    def await_events(self, names: Sequence[str], events: Sequence[str], within: float) -> dict[str, float]:
        """Waits until all of the events came, or for so long."""
        wanted, ends = set(events), time.monotonic() + within
        while wanted - (arrived := self.arrivals(names)).keys() and time.monotonic() < ends:
            time.sleep(0.25)
        return arrived

    def await_quiet(self, names: Sequence[str]) -> None:
        """Waits until no request to these is open."""
        self._server.wait_until(
            lambda: all(each.ended for name in names for each in self._server.received(name)), timeout=3 * TIMEOUT
        )


class Bench:
    """The deployed app, the plain design beside it, and the endpoints of both."""

    def __init__(self, copy: Copy, endpoints: Endpoints, *, hanging: int, rate: float, seconds: float) -> None:
        self._aws = copy.deployment.aws
        self._endpoints = endpoints
        self._hanging, self._rate, self._seconds = hanging, rate, seconds
        self._subscribers = Subscribers(copy)
        self._publisher = Publisher(copy.deployment.bus, events=self._aws.events)
        self._logs = {"ours": copy.deployment.function("delivery_sender").log_group, "plain": PlainDesign.LOG_GROUP}
        self._runs = 0
        for name in WELL:
            self._subscribe(name)
        self._plain = PlainDesign(copy)

    def warm(self) -> None:
        """A run that does not count: imports, files, caches, and the first call of what is called each minute."""
        self._run([], self._publish, WARM_SECONDS, with_hanging=False)

    def ours(self, *, with_hanging: bool) -> Run:
        """One run through the app; those that hang are new each time, since the last ones are known to hang."""
        troubled = self._troubled()
        subscribed = [self._subscribe(name) for name in troubled]
        run = self._run(troubled, self._publish, self._seconds, with_hanging=with_hanging)
        for subscription in subscribed:
            status, answer = self._subscribers.call("DELETE", f"/subscriptions/{subscription}")
            if status != 204:
                raise RuntimeError(f"{subscription} could not be deleted: {status} {answer}")
        self._endpoints.await_quiet(troubled)
        return run

    def plain(self, *, with_hanging: bool) -> Run:
        """One run through the plain design."""

        def publish(name: str, event: Event[StockLow]) -> None:
            self._plain.send(self._endpoints.url(name), event)

        return self._run(self._troubled(), publish, self._seconds, with_hanging=with_hanging)

    def _run(self, troubled: Sequence[str], publish: Publish, seconds: float, *, with_hanging: bool) -> Run:
        self._endpoints.are_well(troubled)
        # Bursts: the workers of several invocations at once are there, and every endpoint has shown that it is well.
        for _ in range(WARMING):
            warmed = _published(publish, [*WELL, *troubled], 0.0)
            self._endpoints.await_events([*WELL, *troubled], list(warmed), PATIENCE)
        if with_hanging:
            self._endpoints.hang(troubled)
        began = time.time()
        # Who hears of what stays the same: the rate is that of all, whether those that hang get theirs or not.
        names = self._names([*WELL, *troubled] if with_hanging else WELL, seconds)
        everybody = len(WELL) + len(troubled)
        each = everybody / self._rate / (everybody if with_hanging else len(WELL))
        published = _published(publish, names, each)
        pace = len(published) / (max(at for _, at in published.values()) - began)
        wanted = {event: at for event, (name, at) in published.items() if name in WELL}
        arrived = self._endpoints.await_events(WELL, list(wanted), PATIENCE)
        gave_up = time.time()
        run = Run(
            latencies=[arrived.get(event, gave_up) - at for event, at in wanted.items()],
            missing=len(wanted.keys() - arrived.keys()),
            pace=pace,
            attempts=self._endpoints.hung(troubled),
            began=began,
        )
        self._endpoints.are_well(troubled)
        self._endpoints.await_quiet(troubled)
        return run

    def _names(self, of: Sequence[str], seconds: float) -> list[str]:
        """Who gets an event, one after the other: everybody as often, in an order that is new each time."""
        shuffled, names = random.Random(self._runs), []
        for _ in range(max(1, round(self._rate * seconds / (len(WELL) + self._hanging)))):
            turn = list(of)
            shuffled.shuffle(turn)
            names += turn
        return names

    def _publish(self, _name: str, event: Event[StockLow]) -> None:
        self._publisher.publish(event)

    def _troubled(self) -> list[str]:
        self._runs += 1
        return [f"hangs{self._runs}-{number}" for number in range(self._hanging)]

    def _subscribe(self, name: str) -> str:
        made = self._subscribers.subscribe(self._endpoints.url(name), ["stock.low"], filter={"product": [name]})
        return str(made["subscription"]["id"])

    def find_occupied(self, design: str, runs: Sequence[Run]) -> None:
        """Gives each run the invocations that were as long as only a hanging endpoint makes them; from the log."""
        began = min(run.began for run in runs)
        pages = self._aws.logs.get_paginator("filter_log_events").paginate(
            logGroupName=self._logs[design], startTime=int(began * 1000)
        )
        for event in (event for page in pages for event in page["events"]):
            line = event["message"].strip()
            if not line.startswith("{") or (round_ := json.loads(line)).get("message") != "round":
                continue
            if (seconds := round_["duration_ms"] / 1000) >= OCCUPIED:
                at = event["timestamp"] / 1000 - seconds
                # It began in the latest run that had begun by then, by two clocks.
                max((run for run in runs if run.began <= at + 1), key=lambda run: run.began).occupied.append(seconds)


class PlainDesign:
    """The plain design's queue and function, made by API."""

    LOG_GROUP: Final = "/aws/lambda/plain"

    def __init__(self, copy: Copy) -> None:
        aws = copy.deployment.aws
        self._sqs = aws.sqs
        # A message that failed comes again after the run.
        self._queue = aws.sqs.create_queue(QueueName="plain", Attributes={"VisibilityTimeout": "600"})["QueueUrl"]
        arn = aws.sqs.get_queue_attributes(QueueUrl=self._queue, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
        packed = io.BytesIO()
        with zipfile.ZipFile(packed, "w") as archive:
            archive.writestr("plain.py", _PLAIN)
            archive.write(Path(plain_sender.__file__), "plain_sender.py")
        aws.lambda_.create_function(
            FunctionName="plain",
            Runtime="python3.13",
            Role=f"arn:aws:iam::{ACCOUNT}:role/plain",
            Handler="plain.handler",
            Code={"ZipFile": packed.getvalue()},
            Timeout=20,
            MemorySize=256,
            Environment={"Variables": {"TABLE": sending_table(aws.dynamodb)}},
        )
        aws.lambda_.create_event_source_mapping(
            FunctionName="plain",
            EventSourceArn=arn,
            BatchSize=1,
            FunctionResponseTypes=["ReportBatchItemFailures"],
            ScalingConfig={"MaximumConcurrency": CONCURRENCY},
        )

    def send(self, url: str, event: Event[StockLow]) -> None:
        """Puts one delivery into the queue."""
        subscription = {"id": url.rpartition("/")[2], "url": url, "secret": "whsec_MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIz"}
        plain_sender.plan([json.loads(event.to_json())], [subscription], self._sqs, self._queue)


def _published(publish: Publish, names: Sequence[str], every: float) -> dict[str, tuple[str, float]]:
    """Publishes an event for each name, so many seconds apart; who it is for and when, by the event's id."""
    told: dict[str, tuple[str, float]] = {}

    def one(name: str, due: float) -> None:
        time.sleep(max(0.0, due - time.monotonic()))
        at = time.time()
        cause = f"order.placed:{name}-{time.monotonic_ns()}"
        event = StockLow(product=name, units=1, low_below=9, cause=cause, caused_at=datetime.now(UTC)).event()
        told[event.id] = (name, at)
        publish(name, event)

    began = time.monotonic()
    with ThreadPoolExecutor(PUBLISHERS) as threads:
        list(threads.map(one, names, [began + index * every for index in range(len(names))]))
    return told


@contextmanager
def benches(hanging: int, rate: float, seconds: float) -> Iterator[Bench]:
    """The app on an embedded AWS of its own, and nothing of it left afterwards."""
    with tempfile.TemporaryDirectory(prefix="isolation-") as folder, MisbehavingServer() as server:
        embedded = EmbeddedAws(Path(folder), port=free_port(), persist=False)
        try:
            copy = Copy(embedded, bring_up(embedded))
            yield Bench(copy, Endpoints(server), hanging=hanging, rate=rate, seconds=seconds)
        finally:
            embedded.stop()


def measure(hanging: int, rounds: int, rate: float, seconds: float) -> dict[str, Any]:
    """Every run, by its kind."""
    found: dict[str, Any] = {"load": [os.getloadavg()[0]], "hanging": hanging, "rate": rate, "seconds": seconds}
    runs: dict[str, list[Run]] = {name: [] for name in (WITHOUT, WITH, PLAIN_WITHOUT, PLAIN_WITH)}
    with benches(hanging, rate, seconds) as bench:
        _note("warming")
        bench.warm()
        for turn in range(rounds):
            for name in (WITHOUT, WITH) if turn % 2 == 0 else (WITH, WITHOUT):
                _note(f"{name} (round {turn + 1})")
                runs[name].append(bench.ours(with_hanging=name == WITH))
        for name in (PLAIN_WITHOUT, PLAIN_WITH):
            _note(name)
            runs[name].append(bench.plain(with_hanging=name == PLAIN_WITH))
        bench.find_occupied("ours", runs[WITHOUT] + runs[WITH])
        bench.find_occupied("plain", runs[PLAIN_WITHOUT] + runs[PLAIN_WITH])
    found["load"].append(os.getloadavg()[0])
    return found | {"runs": runs}


def _note(what: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} load {os.getloadavg()[0]:.1f}: {what}", file=sys.stderr, flush=True)


def pooled(runs: Sequence[Run]) -> list[float]:
    """The latencies of several runs."""
    return [each for run in runs for each in run.latencies]


def percentile(latencies: Sequence[float], percent: int) -> float:
    """In milliseconds."""
    return 1000 * statistics.quantiles(latencies, n=100, method="inclusive")[percent - 1]


def ratio(runs: dict[str, list[Run]]) -> float:
    """The p99 with those that hang over the one without."""
    return percentile(pooled(runs[WITH]), 99) / percentile(pooled(runs[WITHOUT]), 99)


def show(found: dict[str, Any]) -> None:
    """Prints the table."""
    runs: dict[str, list[Run]] = found["runs"]
    print(
        f"{os.cpu_count()} cores, load {found['load'][0]:.1f} at the start and {found['load'][1]:.1f} at the end; "
        f"{len(runs[WITH])} rounds of {found['seconds']:g} s, {found['rate']:g} events a second to {len(WELL)} "
        f"endpoints that are well and {found['hanging']} that hang"
    )
    print(f"{'those that hang':18}{'deliveries':>11}{'p50':>11}{'p99':>11}{'most':>12}{'came not':>10}{'pace':>7}")
    for name, each in runs.items():
        latencies = pooled(each)
        print(
            f"{name:18}{len(latencies):11,}{percentile(latencies, 50):8,.0f} ms{percentile(latencies, 99):8,.0f} ms"
            f"{1000 * max(latencies):9,.0f} ms{sum(run.missing for run in each):10}"
            f"{statistics.mean(run.pace for run in each):7.1f}"
        )
    for name in (WITH, PLAIN_WITH):
        occupied, count = [seconds for run in runs[name] for seconds in run.occupied], len(runs[name])
        print(
            f"{name}: in a run, those that hang cost {sum(run.attempts for run in runs[name]) / count:.1f} attempts, "
            f"and kept {len(occupied) / count:.1f} invocations for {sum(occupied) / count:.0f} s in all"
        )
    rounds = {
        name: ", ".join(f"{percentile(run.latencies, 99):,.0f}" for run in runs[name]) for name in (WITHOUT, WITH)
    }
    print(f"p99 by round, ms: without {rounds[WITHOUT]}; with {rounds[WITH]}")
    print(f"the p99 with them is {ratio(runs):.2f} times the one without; the goal is {GOAL:.2f}")


def plot(found: dict[str, Any], file: Path) -> None:
    """Draws the distributions, with a library in an environment of its own."""
    runs: dict[str, list[Run]] = found["runs"]
    labels = {
        WITHOUT: f"Offload, the {found['hanging']} others without events",
        WITH: f"Offload, {found['hanging']} hang",
        PLAIN_WITHOUT: f"plain design, the {found['hanging']} others without events",
        PLAIN_WITH: f"plain design, {found['hanging']} hang",
    }
    everybody = len(WELL) + found["hanging"]
    machine = f"embedded AWS on {os.cpu_count()} cores"
    title = f"{len(WELL)} healthy endpoints of {everybody}, {found['rate']:g} events/s, {machine}"
    series = {name: {"label": labels[name], "seconds": pooled(each)} for name, each in runs.items()}
    requirements, script = (Path(__file__).with_name(name) for name in ("requirements.txt", "isolation_plot.py"))
    command = [uv.find_uv_bin(), "run", "--quiet", "--isolated", "--no-project", "--python", sys.executable]
    command += ["--with-requirements", str(requirements), "python", str(script), str(file)]
    subprocess.run(command, input=json.dumps({"title": title, "series": series}), text=True, check=True)


def main() -> None:
    """Measures, prints and draws."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--hanging", type=int, default=2, help="so many begin to hang")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--rate", type=float, default=10.0, help="events a second, to all together")
    parser.add_argument("--plot", type=Path, default=PLOT)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    found = measure(arguments.hanging, arguments.rounds, arguments.rate, arguments.seconds)
    if arguments.json:
        print(json.dumps(found, indent=1, default=lambda value: value.__dict__))
    else:
        show(found)
    plot(found, arguments.plot)
    missing = sum(run.missing for name in (WITH, WITHOUT) for run in found["runs"][name])
    sys.exit(0 if ratio(found["runs"]) <= GOAL and not missing else 1)


if __name__ == "__main__":
    main()
