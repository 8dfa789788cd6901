"""Each minute: publishes the webhooks that are kept and that the bus did not take when they came."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Final

from offload.contracts.events.entry import REQUEST_ENTRIES
from offload.runtime.lean_aws import services
from offload.runtime.log import Logger
from offload.runtime.settings import Settings
from offload.runtime.webhooks_in.bus import Batch, Bus
from offload.runtime.webhooks_in.deliveries import Deliveries, Item

if TYPE_CHECKING:
    from aws_lambda_powertools.utilities.typing import LambdaContext

# Younger ones may be in the receiver's hands, which has 10 seconds.
_SETTLED: Final = 15  # seconds
_CALL_WITHIN: Final = 5.0  # seconds
# Left of the function's time when it begins nothing more.
_RESERVE: Final = 12_000  # milliseconds


class RelaySettings(Settings, frozen=True, kw_only=True):
    """What the WebhookReceiver pattern puts into the function's environment."""

    offload_deliveries_table: str
    offload_bus: str


log = Logger("webhook_relay")
settings = RelaySettings.from_environment()
dynamodb, events, _ = services()
deliveries = Deliveries(settings.offload_deliveries_table, dynamodb)
bus = Bus(settings.offload_bus, events)


class _Round:
    """What one invocation did."""

    def __init__(self) -> None:
        self.published = 0
        self.troubles: list[str] = []
        self._batch = Batch()
        self._keys: list[Item] = []

    def add(self, keys: Item) -> None:
        entry = deliveries.entry(keys, within=_CALL_WITHIN)
        if entry is None:
            return
        if not self._batch.takes(entry):
            self.flush()
            self._batch.takes(entry)
        self._keys.append(keys)

    def flush(self) -> None:
        entries, keys = self._batch.entries, self._keys
        self._batch, self._keys = Batch(), []
        if not entries:
            return
        for key, why in zip(keys, bus.put(entries, within=_CALL_WITHIN), strict=True):
            if why:
                self.troubles.append(why)
                continue
            deliveries.published(key, at=int(time.time() * 1000), within=_CALL_WITHIN)
            self.published += 1


def handler(_event: dict[str, Any], context: LambdaContext) -> None:
    """One round. What it does not get to, or what fails, the next minute's round finds."""
    now = time.time()
    each = _Round()
    seen, oldest = 0, 0.0
    for owed in deliveries.owed(before=int((now - _SETTLED) * 1000), within=_CALL_WITHIN * 4):
        if not seen:
            oldest = now - owed.since / 1000
        seen += 1
        if context.get_remaining_time_in_millis() < _RESERVE or len(each.troubles) >= REQUEST_ENTRIES:
            break
        each.add(owed.keys)
    each.flush()
    # A metric is made of it, which costs for each hour in which it gets a value.
    age = {"oldest_seconds": round(oldest)} if seen else {}
    write = log.warning if each.troubles else log.info
    write(
        "owed",
        owed=seen,
        **age,
        published=each.published,
        troubles=sorted(set(each.troubles))[:5],
        request_id=context.aws_request_id,
    )
