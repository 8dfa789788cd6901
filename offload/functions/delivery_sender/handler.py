"""Takes tokens, and sends what the subscriptions that they name are owed: all of a batch at once."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final

from offload.runtime.catalogue import catalogue
from offload.runtime.http.guard import Guard
from offload.runtime.lean_aws import services
from offload.runtime.log import Logger
from offload.runtime.webhooks_out.bus import BusSignals
from offload.runtime.webhooks_out.deployed import SendingSettings, utc_now
from offload.runtime.webhooks_out.sender import Sender
from offload.runtime.webhooks_out.shift import Shift
from offload.runtime.webhooks_out.tokens import Lane, subscription_of
from offload.runtime.webhooks_out.transport import Transport
from offload.runtime.webhooks_out.vault import Vault

if TYPE_CHECKING:
    from aws_lambda_powertools.utilities.typing import LambdaContext

_THREADS: Final = 20


class SenderSettings(SendingSettings, frozen=True, kw_only=True):
    """And what the sender alone is given."""

    offload_sealing_secret: str
    offload_bus: str


log = Logger("delivery_sender")
settings = SenderSettings.from_environment()
policy = settings.policy
# One loop for the life of the worker: connections that are warm stay so from one invocation to the next.
loop = asyncio.new_event_loop()
# Twenty senders and their leases call AWS; the pool that asyncio would make has four threads more than processors.
loop.set_default_executor(ThreadPoolExecutor(max_workers=_THREADS))
_ends_at = 0.0


def _left() -> timedelta:
    return timedelta(seconds=_ends_at - time.monotonic())


sender = Sender(
    subscriptions=settings.subscriptions,
    deliveries=settings.deliveries,
    vault=Vault.of_secret(settings.offload_sealing_secret, services()[2]),
    transport=Transport(
        Guard.from_environment(),
        timeout=policy.timeout,
        connect=timedelta(seconds=policy.connect_seconds),
        now=utc_now,
    ),
    tokens=settings.tokens,
    signals=BusSignals(settings.offload_bus),
    policy=policy,
    outward=catalogue().outward_examples,
    now=utc_now,
    left=_left,
    log=log,
)


def handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
    """One batch of tokens; a token whose work failed comes again (partial batch response)."""
    global _ends_at
    began = time.monotonic()
    _ends_at = began + context.get_remaining_time_in_millis() / 1000
    by_subscription: dict[str, list[str]] = {}
    for record in event["Records"]:
        try:
            by_subscription.setdefault(subscription_of(record["body"]), []).append(record["messageId"])
        except ValueError as error:
            # No retry makes it one; nobody is owed anything by it.
            log.warning("not a token", message_id=record["messageId"], why=str(error))
    shift = Shift(sender.work, _lane_of(event["Records"]), left=_left, need=sender.round_takes, log=log)
    failed = loop.run_until_complete(shift.batch(by_subscription))
    log.info(
        "round",
        subscriptions=len(by_subscription),
        taken=shift.taken,
        attempts=shift.sent.attempts,
        delivered=shift.sent.delivered,
        given_up=shift.sent.given_up,
        duration_ms=round((time.monotonic() - began) * 1000),
        request_id=context.aws_request_id,
    )
    return {"batchItemFailures": [{"itemIdentifier": each} for name in failed for each in by_subscription[name]]}


def _lane_of(records: Sequence[dict[str, Any]]) -> Lane:
    """The lane that the batch is of: Lambda mixes no two queues."""
    name = records[0]["eventSourceARN"].rpartition(":")[2]
    trouble = settings.offload_sender_trouble_queue_url
    return Lane(trouble if trouble.endswith(f"/{name}") else settings.offload_sender_queue_url, log)
