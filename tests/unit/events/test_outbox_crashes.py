"""Monoliths and relays that are killed at random moments, and a bus that loses answers: what holds all the same."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import Engine, select, text

from offload.client.outbox import State
from offload.client.relay import connect
from tests.clinics import CLINIC
from tests.patience import PATIENCE
from tests.unit.events.bus_server import Answer, Bus, serving
from tests.unit.events.databases import database_url, postgresql, postgresql_server, sqlite
from tests.unit.events.outbox_writer import METADATA, OUTBOX, VISITS

__all__ = ["database_url", "postgresql", "postgresql_server", "sqlite"]

WHOLE = os.environ.get("OFFLOAD_PROVE") == "whole"
KILLS = 40 if WHOLE else 8
BATCH = 20
LEASE_SECONDS = 2


class Processes:
    """The monoliths and relays under test: each is started anew when it is killed."""

    def __init__(self, url: str, bus: Bus, chance: random.Random) -> None:
        self._url = url
        self._bus = bus
        self._chance = chance
        self._lives: Counter[str] = Counter()
        self.running: dict[str, subprocess.Popen[bytes]] = {}

    def start(self, name: str) -> None:
        self._lives[name] += 1
        if name.startswith("monolith"):
            life = f"{self._chance.randrange(10**6)}.{self._lives[name]}"
            command = ["tests.unit.events.outbox_writer", self._url, name, life]
        else:
            options = f"--bus visits --idle 0.02 --batch {BATCH} --lease {LEASE_SECONDS}".split()
            command = ["offload.client.relay", *options, "--endpoint-url", self._bus.url]
        environment = {
            **os.environ,
            "AWS_ACCESS_KEY_ID": "000000000000",
            "AWS_SECRET_ACCESS_KEY": "test",
            "AWS_DEFAULT_REGION": "us-east-1",
            "OFFLOAD_DATABASE_URL": self._url,
            "PYTHONPATH": str(CLINIC),
        }
        self.running[name] = subprocess.Popen(
            [sys.executable, "-m", *command], env=environment, stderr=subprocess.DEVNULL
        )

    def kill(self, name: str) -> None:
        process = self.running.pop(name)
        assert process.poll() is None, f"{name} ended by itself with {process.returncode}"
        process.kill()
        process.wait()


def until(condition: Callable[[], bool], what: str, seconds: float = PATIENCE) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            pytest.fail(f"after {seconds} s: {what}")
        time.sleep(0.005)


def misbehaving(chance: random.Random, lost_answers: list[str]) -> Callable[[list[dict[str, Any]]], Answer]:
    def decide(entries: list[dict[str, Any]]) -> Answer:
        fate = chance.random()
        if fate < 0.10:
            failing = chance.sample(range(len(entries)), chance.randint(1, len(entries)))
            return Answer(failing=dict.fromkeys(failing, "InternalFailure"))
        if fate < 0.14:
            return Answer(reset=True, take=False)
        if fate < 0.18:
            lost_answers.extend(json.loads(entry["Detail"])["id"] for entry in entries)
            return Answer(reset=True)
        if fate < 0.22:
            return Answer(status=400, code="ThrottlingException", take=False)
        return Answer()

    return decide


def unpublished(engine: Engine) -> int:
    with engine.connect() as connection:
        states = connection.scalars(select(OUTBOX.rows.c.state)).all()
    return sum(state != State.PUBLISHED for state in states)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3) if WHOLE else [1])
def test_nothing_is_lost_nor_published_that_was_rolled_back_and_order_is_kept_through_kills(
    database_url: str, seed: int
) -> None:
    chance = random.Random(seed)
    engine = connect(database_url)
    METADATA.create_all(engine)
    lost_answers: list[str] = []
    kills: Counter[str] = Counter()
    monoliths = ["monolith-1", "monolith-2"]
    relays = ["relay-1", "relay-2"]
    with serving() as bus:
        bus.decide = misbehaving(random.Random(seed + 1), lost_answers)
        processes = Processes(database_url, bus, chance)
        try:
            for name in (*monoliths, *relays):
                processes.start(name)
            for _ in range(KILLS):
                # Somewhere in the midst of the work, never in an idle moment.
                enough = len(bus.taken) + chance.randint(1, 60)
                until(lambda: len(bus.taken) >= enough, "the relays publish nothing more")  # noqa: B023
                victim = chance.choice([*monoliths, *relays])
                if victim in processes.running:
                    processes.kill(victim)
                    kills[victim.partition("-")[0]] += 1
                processes.start(victim)
            for name in monoliths:
                processes.kill(name)
            until(lambda: unpublished(engine) == 0, "the relays do not empty the outbox")
            for name in relays:
                processes.running[name].terminate()
            for name in relays:
                # One that was started a moment ago may have been told to stop before it could listen.
                assert processes.running.pop(name).wait(PATIENCE) in {0, -signal.SIGTERM}
        finally:
            for process in processes.running.values():
                process.kill()
                process.wait()

    with engine.connect() as connection:
        committed = set(connection.scalars(select(VISITS.c.visit)))
        rows = OUTBOX.rows
        written = connection.execute(select(rows.c.event_id, rows.c.ordering_key).order_by(rows.c.id)).all()
        assert connection.scalar(text("SELECT count(*) FROM outbox_events WHERE attempts > 0 AND state = 'held'")) == 0
    engine.dispose()
    assert kills["monolith"] > 0
    assert kills["relay"] > 0
    assert len(committed) > 10 * KILLS

    times = Counter(bus.ids)
    published = {id_.removeprefix("visit.ended:") for id_ in times}
    assert committed - published == set(), "committed, but not published"
    assert published - committed == set(), "published, but not committed"
    assert not any("rolled-back" in visit for visit in published)

    in_order: dict[str, list[str]] = defaultdict(list)
    for id_, key in written:
        in_order[key].append(id_)
    first_published: dict[str, list[str]] = defaultdict(list)
    key_of = {row.event_id: row.ordering_key for row in written}
    for id_ in dict.fromkeys(bus.ids):
        first_published[key_of[id_]].append(id_)
    assert first_published == in_order

    repeats = sum(times.values()) - len(times)
    assert repeats <= kills["relay"] * BATCH + len(lost_answers), "work was doubled beyond what crashes explain"
