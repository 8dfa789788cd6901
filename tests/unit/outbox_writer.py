"""A monolith to be killed: places orders for as long as it lives, some of which it rolls back.

`python -m tests.unit.outbox_writer DATABASE_URL NAME SEED`
"""

from __future__ import annotations

import random
import sys
import time
from datetime import UTC, datetime
from decimal import Decimal

from sqlalchemy import Column, Connection, Integer, MetaData, String, Table, insert

from offload.client.outbox import Outbox
from offload.client.relay import connect
from shop.contracts.orders import OrderLine, OrderPlaced

METADATA = MetaData()
ORDERS = Table(
    "orders",
    METADATA,
    Column("invoice", String(64), primary_key=True),
    Column("customer", String(64), nullable=False),
    Column("lives", Integer, nullable=False),
)
OUTBOX = Outbox()
OUTBOX.table(METADATA)
CUSTOMERS = 12
PAUSE_SECONDS = 0.01


class Changed(Exception):
    """The customer changed their mind: the transaction is rolled back."""


def place(connection: Connection, invoice: str, customer: str, *, rolled_back: bool) -> None:
    """Writes one order and its event; the event's key is the customer."""
    line = OrderLine(product="85123A", quantity=1, unit_price=Decimal("2.55"))
    order = OrderPlaced(invoice=invoice, invoiced_at=datetime.now(UTC), country="France", lines=(line,))
    with connection.begin():
        OUTBOX.add(connection, order.event(), key=customer)
        connection.execute(insert(ORDERS), {"invoice": invoice, "customer": customer, "lives": 1})
        if rolled_back:
            raise Changed


def main(url: str, name: str, seed: str) -> None:
    """Places orders without end."""
    chance = random.Random(seed)
    engine = connect(url)
    number = 0
    with engine.connect() as connection:
        while True:
            number += 1
            # Somewhat slower than the relays, so that what is killed is busy and not buried.
            time.sleep(PAUSE_SECONDS)
            customer = f"{name}-{chance.randrange(CUSTOMERS)}"
            rolled_back = chance.random() < 0.2
            invoice = f"{customer}-{seed}-{number}{'-rolled-back' if rolled_back else ''}"
            try:
                place(connection, invoice, customer, rolled_back=rolled_back)
            except Changed:
                continue


if __name__ == "__main__":
    main(*sys.argv[1:])
