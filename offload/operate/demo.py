"""A first day of real orders, for `offload up`."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

from offload.operate.failure import Failure
from offload.operate.ledger_commands import By, ledger_of, table_of
from offload.operate.progress import Steps

if TYPE_CHECKING:
    from offload.operate.resources import Deployment
    from offload.shop.ledger import Ledger

DAY: Final = "2010-12-01"
"""The day that is shipped."""
WITHIN: Final = 60.0
"""Seconds that the consumers have for it; seen 3 to 6 on two cores, cold."""

_POLL_SECONDS: Final = 0.25
_ROWS: Final = 10

_NEXT: Final = """\
The orders of {day} came through the bus, a queue and a function, exact to the penny. What to try next:
  .venv/bin/offload orders generate --seed 1 --count 500 --out orders.csv.gz   make an orders file of your own
  .venv/bin/offload orders publish orders.csv.gz --duplicate 0.2 --shuffle     publish it, a fifth twice: it counts once
  .venv/bin/offload orders publish orders.csv.gz --poison 0.01                 with broken events among them
  .venv/bin/offload dead-letters list                                          what the consumers refused, and why
  .venv/bin/offload ledger show --by product                                   what sells best
  .venv/bin/offload status                                                     what is deployed, what waits
  .venv/bin/offload logs SalesLedger --follow                                  one line an event, faults with traceback\
"""


def first_day(deployment: Deployment, steps: Steps, *, within: float = WITHIN) -> None:
    """Publishes a day of real orders, waits for the consumers, shows the ledger and what to try next.

    A day that the ledger has already is not published again. Raises Failure when the ledger does not have it after
    `within` seconds.
    """
    from offload.operate.orders import publish
    from offload.shop.orders import SHIPPED_DAY, read_orders

    invoices = read_orders(SHIPPED_DAY).invoices
    ledger = ledger_of(deployment)
    if _invoices_of_the_day(ledger) < len(invoices):
        with steps.step(f"Publishing the orders of {DAY}") as notes:
            outcome = publish(deployment, invoices)
            notes.append(f"{outcome.placed} placed, {outcome.cancelled} cancelled")
        with steps.step("Waiting for the ledger"):
            ledger = _wait(deployment, len(invoices), within)
    steps.console.print(table_of(ledger, By.COUNTRY, _ROWS))
    steps.console.print(_NEXT.format(day=DAY), highlight=False, soft_wrap=True, markup=False)


def _wait(deployment: Deployment, expected: int, within: float) -> Ledger:
    ends = time.monotonic() + within
    while _invoices_of_the_day(ledger := ledger_of(deployment)) < expected:
        if time.monotonic() > ends:
            raise Failure(
                f"the ledger has {_invoices_of_the_day(ledger)} of {expected} invoices of {DAY} after {within:.0f} s: "
                "see `offload status`, `offload dead-letters list` and `offload logs SalesLedger`"
            )
        time.sleep(_POLL_SECONDS)
    return ledger


def _invoices_of_the_day(ledger: Ledger) -> int:
    figures = ledger.by_day.get(DAY)
    return figures.orders + figures.cancellations if figures else 0
