"""A first day of real orders, and a subscriber that is told of them, for `offload up`."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from offload.cli.deployment.failure import Failure
from offload.cli.deployment.progress import Steps
from shop.commands.ledger import By, ledger_of, table_of

if TYPE_CHECKING:
    from offload.cli.deployment.resources import Deployment
    from offload.cli.webhooks_out.receiver import Delivery
    from shop.ledger import Ledger

DAY: Final = "2010-12-01"
"""The day that is shipped."""
WITHIN: Final = 60.0
"""Seconds that the consumers have for it; seen 3 to 6 on two cores, cold."""

_POLL_SECONDS: Final = 0.25
_ROWS: Final = 10
_WEBHOOKS_SHOWN: Final = 5
_TYPES: Final = ("order.placed", "order.cancelled")

_NEXT: Final = """\
The orders of {day} came through the bus, a queue and a function, exact to the penny. What to try next:
  .venv/bin/offload orders generate --seed 1 --count 500 --out orders.csv.gz   make an orders file of your own
  .venv/bin/offload orders publish orders.csv.gz --duplicate 0.2 --shuffle     publish it, a fifth twice: it counts once
  .venv/bin/offload orders publish orders.csv.gz --poison 0.01                 with broken events among them
  .venv/bin/offload dead-letters list                                          what the consumers refused, and why
  .venv/bin/offload ledger show --by product                                   what sells best
  .venv/bin/offload deliveries list                                            what subscribers were told, and when
  .venv/bin/offload receiver                                                   a receiver of webhooks on this machine
  .venv/bin/offload status                                                     what is deployed, what waits
  .venv/bin/offload logs SalesLedger --follow                                  one line an event, faults with traceback\
"""


def first_day(deployment: Deployment, steps: Steps, *, within: float = WITHIN) -> None:
    """Publishes a day of real orders, waits for the consumers, shows the ledger and what to try next.

    A day that the ledger has already is not published again. Raises Failure when the ledger does not have it after
    `within` seconds.
    """
    from shop.commands.publishing import publish
    from shop.orders import SHIPPED_DAY, read_orders

    invoices = read_orders(SHIPPED_DAY).invoices
    ledger = ledger_of(deployment)
    if _invoices_of_the_day(ledger) < len(invoices):
        with _subscriber(deployment, steps) as told:
            with steps.step(f"Publishing the orders of {DAY}") as notes:
                outcome = publish(deployment, invoices)
                notes.append(f"{outcome.placed} placed, {outcome.cancelled} cancelled")
            with steps.step("Waiting for the ledger"):
                ledger = _wait(deployment, len(invoices), within)
            with steps.step("Waiting for the subscriber's webhooks") as notes:
                told.wait(len(invoices), within)
                notes.append(told.said())
    steps.console.print(table_of(ledger, By.COUNTRY, _ROWS))
    steps.console.block(_NEXT.format(day=DAY))


class _Told:
    """What the subscriber was told of so far, shown as it comes: the first few, and then how many."""

    def __init__(self, steps: Steps) -> None:
        self._steps = steps
        self._changed = threading.Condition()
        self._verified: set[str] = set()
        self._refused = 0

    def hears(self, delivery: Delivery) -> None:
        """One webhook came."""
        with self._changed:
            if delivery.refused:
                self._refused += 1
            elif delivery.event_id not in self._verified:
                self._verified.add(delivery.event_id)
                if len(self._verified) <= _WEBHOOKS_SHOWN:
                    said = (
                        f"  webhook  {delivery.type:16} {delivery.subject:8} {delivery.webhook_id}  {delivery.verdict}"
                    )
                    self._steps.console.print(said, highlight=False, soft_wrap=True, markup=False)
            self._changed.notify_all()

    def wait(self, count: int, within: float) -> None:
        """Waits for so many; raises Failure when they do not come in time."""
        with self._changed:
            if not self._changed.wait_for(lambda: len(self._verified) >= count, within):
                raise Failure(
                    f"the subscriber was told of {len(self._verified)} of {count} invoices after {within:.0f} s: "
                    "see `offload deliveries list`, `offload dead-letters list` and `offload logs delivery_sender`"
                )

    def said(self) -> str:
        """The count, in words."""
        refused = f", {self._refused} refused" if self._refused else ""
        return f"{len(self._verified)} verified{refused}"


@contextmanager
def _subscriber(deployment: Deployment, steps: Steps) -> Iterator[_Told]:
    """A receiver on loopback that has subscribed to orders; both are gone afterwards."""
    from offload.cli.webhooks_out.api import subscriptions_api
    from offload.cli.webhooks_out.receiver import Receiver
    from offload.contracts.webhooks_out.subscription import Wish

    told = _Told(steps)
    with subscriptions_api(deployment) as api, Receiver(on_delivery=told.hears) as receiver:
        with steps.step("Subscribing a receiver to the orders") as notes:
            wish = Wish(url=receiver.url, types=_TYPES, tenant="demo", description="The receiver of `offload up`")
            created = api.create(wish)
            receiver.trust(str(created.secret))
            notes.append(f"{created.subscription.id} at {receiver.url}")
        try:
            yield told
        finally:
            api.delete(created.subscription.id)


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
