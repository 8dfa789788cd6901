"""A monolith to be killed: treats patients for as long as it lives, and rolls some visits back.

`python -m tests.unit.events.outbox_writer DATABASE_URL NAME SEED`
"""

from __future__ import annotations

import random
import sys
import time
from datetime import UTC, datetime
from decimal import Decimal

from sqlalchemy import Column, Connection, Integer, MetaData, String, Table, insert

from clinic.contracts.visits import VisitEnded, VisitLine
from offload.client.outbox import Outbox
from offload.client.relay import connect

METADATA = MetaData()
VISITS = Table(
    "visits",
    METADATA,
    Column("visit", String(64), primary_key=True),
    Column("patient", String(64), nullable=False),
    Column("lives", Integer, nullable=False),
)
OUTBOX = Outbox()
OUTBOX.table(METADATA)
PATIENTS = 12
PAUSE_SECONDS = 0.01


class Changed(Exception):
    """The patient went home: the transaction is rolled back."""


def treat(connection: Connection, visit: str, patient: str, *, rolled_back: bool) -> None:
    """Writes one visit and its event; the event's key is the patient."""
    line = VisitLine(item="85123A", quantity=1, unit_price=Decimal("2.55"))
    ended = VisitEnded(visit=visit, ended_at=datetime.now(UTC), ward="France", lines=(line,))
    with connection.begin():
        OUTBOX.add(connection, ended.event(), key=patient)
        connection.execute(insert(VISITS), {"visit": visit, "patient": patient, "lives": 1})
        if rolled_back:
            raise Changed


def main(url: str, name: str, seed: str) -> None:
    """Treats patients without end."""
    chance = random.Random(seed)
    engine = connect(url)
    number = 0
    with engine.connect() as connection:
        while True:
            number += 1
            # Somewhat slower than the relays, so that what is killed is busy and not buried.
            time.sleep(PAUSE_SECONDS)
            patient = f"{name}-{chance.randrange(PATIENTS)}"
            rolled_back = chance.random() < 0.2
            visit = f"{patient}-{seed}-{number}{'-rolled-back' if rolled_back else ''}"
            try:
                treat(connection, visit, patient, rolled_back=rolled_back)
            except Changed:
                continue


if __name__ == "__main__":
    main(*sys.argv[1:])
