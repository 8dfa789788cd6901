"""Each minute: wakes the senders of what is due, and says how far behind they are."""

from __future__ import annotations

import time
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final

from offload.runtime.log import Logger
from offload.runtime.webhooks_out.deployed import SendingSettings, utc_now

if TYPE_CHECKING:
    from aws_lambda_powertools.utilities.typing import LambdaContext

# What one minute wakes; a page of the index holds some thousands. The next minute wakes the next ones.
_AT_ONCE: Final = 2000
_EVERY_MINUTES: Final = 10
_LATE: Final = timedelta(minutes=5)
# Left of the function's time when it begins nothing more.
_RESERVE: Final = 10_000  # milliseconds


log = Logger("delivery_sweeper")
settings = SendingSettings.from_environment()
subscriptions, deliveries, tokens = settings.subscriptions, settings.deliveries, settings.tokens


def handler(_event: dict[str, Any], context: LambdaContext) -> None:
    """Wakes; every ten minutes also looks for what waits although nobody would wake it."""
    began = time.monotonic()
    due = dict(deliveries.to_wake(_AT_ONCE))
    tokens.send_all(due)
    fields: dict[str, Any] = {"woken": len(due)}
    if utc_now().minute % _EVERY_MINUTES == 0:
        fields |= _look_for_strays(context)
    log.info(
        "minute", **fields, duration_ms=round((time.monotonic() - began) * 1000), request_id=context.aws_request_id
    )


def _look_for_strays(context: LambdaContext) -> dict[str, Any]:
    """A token that was lost for good, as by a purge of its queue, would leave its subscription waiting."""
    late = {}
    waits = timedelta(0)
    now = utc_now()
    records = subscriptions.all()
    for record in records:
        if context.get_remaining_time_in_millis() < _RESERVE:
            break
        next_due = deliveries.next_due(record)
        if next_due is None or now - next_due < _LATE:
            continue
        health, active = subscriptions.healths([record.id])[record.id]
        if active and not (health.parked_until and health.parked_until > now):
            late[record.id] = health
            waits = max(waits, now - next_due)
    tokens.send_all(late)
    # A metric is made of the age, which costs for each hour in which it gets a value.
    age = {"oldest_seconds": round(waits.total_seconds())} if late else {}
    return {"late_subscriptions": len(late), **age}
