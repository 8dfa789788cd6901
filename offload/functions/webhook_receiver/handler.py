"""The ingress of webhooks: `POST /webhooks/PROVIDER[/ENDPOINT]` of every provider of the environment.

Somebody waits for its cold start, three seconds at the most, so it imports neither botocore nor Powertools
(docs/performance.md, "Cold starts").
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from msgspec.json import encode

from offload.runtime.catalogue import providers
from offload.runtime.lean_aws import services
from offload.runtime.log import Logger
from offload.runtime.settings import Settings
from offload.runtime.webhooks_in.bus import Bus
from offload.runtime.webhooks_in.deliveries import Deliveries
from offload.runtime.webhooks_in.secret_cache import SecretCache

from .receiving import Answered, Receiver, claims_in
from .request import Request

if TYPE_CHECKING:
    from aws_lambda_powertools.utilities.typing import LambdaContext


class ReceiverSettings(Settings, frozen=True, kw_only=True):
    """What the WebhookReceiver pattern puts into the function's environment; providers have commas between them."""

    offload_deliveries_table: str
    offload_bus: str
    offload_claims_bucket: str
    offload_refused_per_minute: int
    offload_webhooks_secret_arn: str
    offload_webhooks_providers: str


log = Logger("webhook_receiver")
settings = ReceiverSettings.from_environment()
dynamodb, events, secrets_manager = services()
known = providers()
receiver = Receiver(
    {name: known[name] for name in settings.offload_webhooks_providers.split(",")},
    secrets=SecretCache(settings.offload_webhooks_secret_arn, secrets_manager, time.time),
    deliveries=Deliveries(settings.offload_deliveries_table, dynamodb),
    bus=Bus(settings.offload_bus, events),
    claims=claims_in(settings.offload_claims_bucket),
    refused_per_minute=settings.offload_refused_per_minute,
)


def handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
    """Answers one request."""
    began = time.perf_counter()
    request = Request(event)
    answered = receiver.receive(request)
    write = log.warning if answered.troubles or answered.refusal else log.info
    write(
        "webhook",
        provider=answered.provider,
        endpoint=answered.endpoint,
        outcome=answered.outcome,
        reason=answered.refusal.slug if answered.refusal else "",
        status=answered.status,
        event_id=answered.event_id,
        source=request.source,
        bytes=answered.bytes,
        after_rotation=answered.after_rotation,
        troubles=answered.troubles,
        duration_ms=round((time.perf_counter() - began) * 1000, 1),
        request_id=context.aws_request_id,
    )
    return _response(answered)


def _response(answered: Answered) -> dict[str, Any]:
    if answered.refusal is not None:
        refused = answered.refusal
        body = encode(
            {
                "type": f"urn:offload:problem:{refused.slug}",
                "title": refused.title(),
                "status": refused.status,
                "detail": f"{refused}: {refused.remedy}",
            }
        )
        headers = {"content-type": "application/problem+json", **answered.headers}
    else:
        body = answered.body
        headers = {"content-type": answered.content_type or "text/plain; charset=utf-8"}
        headers["offload-outcome"] = answered.outcome
        if answered.event_id:
            headers["offload-event-id"] = answered.event_id
    return {"statusCode": answered.status, "headers": headers, "body": body.decode()}
