"""A third party that is down in real time, under a deployed consumer that calls it for each event."""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from threading import Event as Flag
from threading import Timer
from typing import Any, Final

import pytest
from aws_cdk import App, Duration, Stack

from clinic.catalogue import CATALOGUE
from clinic.contracts.visits import VisitEnded, VisitLine
from offload.cdk.constructs.event_bus import EventBus
from offload.cdk.constructs.python_function import ROOT_CONTEXT
from offload.cdk.environment import Environment
from offload.cdk.patterns.event_consumer import EventConsumer
from offload.cdk.patterns.integration import Integration
from offload.cdk.references import name_outputs_by_definition
from offload.cli.deployment.aws import LOCAL
from offload.cli.deployment.resources import Deployment
from offload.cli.deployment.status import depths
from offload.cli.local.process import EmbeddedAws, free_port
from offload.cli.local.up import bring_up
from offload.client.publisher import Publisher
from offload.project import PROJECT
from tests.clinics import CLINIC
from tests.copies import RETRIES
from tests.odd_server import OddServer, Received, answer, odd_server
from tests.patience import until

WHOLE: Final = os.environ.get("OFFLOAD_PROVE") == "whole"
OUTAGE_SECONDS: Final = 120 if WHOLE else 15
EVENTS: Final = 100 if WHOLE else 20
PER_SECOND: Final = 4
NAME: Final = "offload-local-courier"
CONTEXT: Final[dict[str, Any]] = json.loads((PROJECT / "cdk.json").read_text(encoding="utf-8"))["context"]
HANDLER: Final = '''
"""Asks the courier for a parcel, once for each visit."""

import os

from clinic.contracts.visits import VisitEnded
from offload.contracts.events.event import Event
from offload.runtime.events.consumer import consumer
from offload.runtime.http.client import Client

courier = Client.from_environment("courier")


@consumer(VisitEnded)
def handler(event: Event[VisitEnded]) -> None:
    courier.put(f"{os.environ['COURIER_URL']}/parcels/{event.data.visit}", event.to_json())
'''


@dataclass
class Courier:
    """The third party: down at first, then well; when what it took came is kept, by visit."""

    server: OddServer
    well: Flag = field(default_factory=Flag)
    refused: int = 0
    taken: dict[str, list[float]] = field(default_factory=dict)

    def serve(self, connection: Any, request: Received) -> bool:
        if not self.well.is_set():
            self.refused += 1
            return answer(500, b"down")(connection, request)
        self.taken.setdefault(request.path.rpartition("/")[2], []).append(time.monotonic())
        return answer(201, b"")(connection, request)


def assembly_of(root: Path, courier: Courier) -> Path:
    """An app of one bus, one third party and one consumer that calls it for each event."""
    (root / "lambdas" / "courier").mkdir(parents=True)
    shutil.copy(PROJECT / "lambdas" / "constraints.txt", root / "lambdas")
    shutil.copy(PROJECT / "lambdas" / "requirements.in", root / "lambdas")
    (root / "lambdas" / "courier" / "handler.py").write_text(HANDLER)
    (root / "offload").symlink_to(PROJECT / "offload")
    (root / "clinic").symlink_to(CLINIC / "clinic")
    shutil.copy(CLINIC / "pyproject.toml", root)
    out = root / "cdk.out"
    # Resources are found by their paths, which the CDK's command line turns on and a test has to.
    app = App(outdir=str(out), context=CONTEXT | {ROOT_CONTEXT: str(root), "aws:cdk:enable-path-metadata": True})
    Environment.load(LOCAL, CLINIC / "environments").attach(app)
    stack = Stack(app, NAME)
    third_party = Integration(stack, "Courier", third_party="courier", per_second=PER_SECOND, total_seconds=5.0)
    EventConsumer(
        stack,
        "Parcels",
        source="courier",
        events=(VisitEnded,),
        bus=EventBus(stack, "Events", catalogue=CATALOGUE),
        grants=(third_party.call,),
        variables={"COURIER_URL": courier.server.url("")},
        timeout=Duration.seconds(60),
        attempts=2,
    )
    app.synth()
    name_outputs_by_definition(out)
    return out


@pytest.fixture
def courier() -> Iterator[Courier]:
    with odd_server() as server:
        courier = Courier(server)
        server.otherwise = courier.serve
        yield courier


@pytest.fixture
def deployment(tmp_path: Path, courier: Courier) -> Iterator[Deployment]:
    embedded = EmbeddedAws(tmp_path / "embedded", port=free_port(), persist=False)
    try:
        yield bring_up(embedded, assembly=assembly_of(tmp_path / "app", courier))
    finally:
        embedded.stop()


@pytest.mark.long
def test_an_outage_costs_no_event_and_afterwards_all_is_done_at_the_rate(
    deployment: Deployment, courier: Courier
) -> None:
    visits = [
        VisitEnded(
            visit=f"7{number:05}",
            ended_at=datetime(2011, 1, 4, tzinfo=UTC),
            ward="Eyes",
            lines=(VisitLine(item="22423", quantity=1, unit_price=Decimal("12.75")),),
        )
        for number in range(EVENTS)
    ]
    Publisher(deployment.bus, events=deployment.aws.events, retries=RETRIES).publish_many(
        [visit.event() for visit in visits]
    )
    until(lambda: courier.refused > 0, "the first call")
    over = Timer(OUTAGE_SECONDS, courier.well.set)
    over.start()
    try:
        until(lambda: len(courier.taken) == EVENTS, "every event to be done")
    finally:
        over.cancel()
    until(lambda: all(each.queue.all == 0 for each in depths(deployment)), "the queue to be empty")
    assert set(courier.taken) == {visit.visit for visit in visits}
    assert [(each.dead, each.undeliverable) for each in depths(deployment)] == [(0, 0)]
    calls = sorted(when for each in courier.taken.values() for when in each)
    # A slow machine only makes it longer: so many a second, after as many as may come at once.
    assert calls[-1] - calls[0] >= (len(calls) - 2 * PER_SECOND) / PER_SECOND
