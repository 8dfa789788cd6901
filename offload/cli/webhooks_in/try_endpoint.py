"""A webhook signed and sent as its sender would: to try an endpoint from outside."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from offload.cli.deployment.failure import Failure
from offload.cli.deployment.resources import Deployment, WebhookEntry
from offload.cli.webhooks_in.received import ingress_of, provider_of
from offload.contracts.webhooks_in.scheme import BodyField, Header, Place, Provider, Scheme
from offload.contracts.webhooks_in.stored_secret import SecretDocument
from offload.runtime.webhooks_in.secrets import BadSecret, Key, Secret, keyring
from offload.runtime.webhooks_in.sign import signed_headers

DEFAULT_EVENT: Final = "test"
"""The type of a test that names none: no consumer takes it."""

# What the senders' own payloads have besides.
_MORE: Final[Mapping[str, Mapping[str, Any]]] = {
    "github": {"zen": "Sent by `offload webhooks test`."},
    "stripe": {"object": "event", "livemode": False},
    "slack": {"type": "event_callback"},
}
_ID_PREFIXES: Final[Mapping[str, str]] = {"stripe": "evt_", "slack": "Ev", "standard-webhooks": "msg_", "svix": "msg_"}
# Longer than any sender waits: the receiver's own limit is 10 s.
_ANSWER_WITHIN: Final = 30.0


@dataclass(frozen=True)
class Answered:
    """What was sent, and what was answered to it; `detail` is a refusal's."""

    provider: str
    url: str
    event_type: str
    delivery_id: str
    key_id: str
    bytes: int
    status: int
    outcome: str
    event_id: str
    milliseconds: float
    reason: str
    detail: str

    @property
    def taken(self) -> bool:
        """Whether a sender takes it for a success."""
        return 200 <= self.status < 300


@dataclass(frozen=True)
class Webhook:
    """A request, signed."""

    headers: Mapping[str, str]
    body: bytes
    event_type: str
    delivery_id: str
    key_id: str


def send(
    deployment: Deployment,
    provider: str,
    *,
    event: str | None = None,
    payload: bytes | None = None,
    endpoint: str = "",
    stack: str | None = None,
) -> Answered:
    """Sends a webhook of the provider: `payload` as it stands, or a small one that is another event each time.

    Raises Failure for a provider of several stacks without a `stack`, when there is nothing to sign with, for an event
    that the payload contradicts, and when nobody answers.
    """
    import httpx

    from offload.client.signed_http import without_values

    sender, entry = provider_of(deployment, provider), ingress_of(deployment, provider, stack)
    key, scheme = _key(deployment, entry, sender)
    webhook = made(sender, scheme, key, event=event, payload=payload, now=time.time())
    url = entry.url(provider, endpoint)
    began = time.perf_counter()
    try:
        with httpx.Client(**_way(deployment), timeout=_ANSWER_WITHIN) as http:
            answer = http.post(url, content=webhook.body, headers=dict(webhook.headers))
    except httpx.HTTPError as error:
        raise Failure(f"{url} does not answer: {without_values(error, webhook.headers)}") from None
    problem = _problem(answer.content)
    return Answered(
        provider=provider,
        url=url,
        event_type=webhook.event_type,
        delivery_id=webhook.delivery_id,
        key_id=webhook.key_id,
        bytes=len(webhook.body),
        status=answer.status_code,
        outcome=answer.headers.get("offload-outcome", "refused" if answer.status_code >= 400 else ""),
        event_id=answer.headers.get("offload-event-id", ""),
        milliseconds=round((time.perf_counter() - began) * 1000, 1),
        reason=str(problem.get("type", "")).rpartition(":")[2],
        detail=str(problem.get("detail") or problem.get("message") or ""),
    )


def made(
    provider: Provider, scheme: Scheme, key: Key, *, event: str | None, payload: bytes | None, now: float
) -> Webhook:
    """The request as its sender would make it."""
    delivery_id = f"{_ID_PREFIXES.get(provider.name, '')}{uuid.uuid4()}"
    places, texts = _event(scheme, event or DEFAULT_EVENT)
    if payload is None:
        body = _payload(provider, scheme, delivery_id, places, texts, now)
    else:
        body, delivery_id = payload, _own_id(scheme, payload) or delivery_id
        _check_event(provider, event, places, texts, payload)
    named = [text for place, text in zip(places, texts, strict=True) if isinstance(place, Header)]
    headers = signed_headers(scheme, key, body, now=now, delivery_id=delivery_id, event_type=".".join(named))
    headers |= {"Content-Type": "application/json", "User-Agent": "offload-webhooks-test"}
    event_type = ".".join(texts) if payload is None or event else ""
    return Webhook(headers, body, event_type, delivery_id, key.key_id)


def _event(scheme: Scheme, event: str) -> tuple[tuple[Place, ...], list[str]]:
    """Where the parts of an event's type go: GitHub's `release.published` into a header and the body's `action`."""
    for places in scheme.event_type:
        texts = event.split(".", len(places) - 1)
        if len(texts) == len(places):
            return places, texts
    return (), []


def _payload(
    provider: Provider, scheme: Scheme, delivery_id: str, places: tuple[Place, ...], texts: list[str], now: float
) -> bytes:
    sent_at = datetime.fromtimestamp(now, UTC).isoformat(timespec="milliseconds")
    # The body differs each time: where no id is signed it is what a delivery is known by.
    document: dict[str, Any] = {**_MORE.get(provider.name, {}), "test": True, "sent_at": sent_at, "nonce": delivery_id}
    for place in scheme.delivery_id[0]:
        _put(document, place, delivery_id)
    for place, text in zip(places, texts, strict=True):
        _put(document, place, text)
    return json.dumps(document).encode()


def _put(document: dict[str, Any], place: Place, text: str) -> None:
    if isinstance(place, BodyField):
        for name in place.path[:-1]:
            document = document.setdefault(name, {})
        document[place.path[-1]] = text


def _own_id(scheme: Scheme, payload: bytes) -> str:
    """The delivery id that a payload has in itself."""
    document = _object(payload)
    for places in scheme.delivery_id:
        found = [_at(document, place) for place in places if isinstance(place, BodyField)]
        if len(found) == len(places) and all(isinstance(each, str) for each in found):
            return ".".join(map(str, found))
    return ""


def _check_event(
    provider: Provider, event: str | None, places: tuple[Place, ...], texts: list[str], payload: bytes
) -> None:
    """A payload is sent as it stands: the event's name has to be in it, as far as it belongs there."""
    if event is None:
        headers = [
            place.name
            for scheme in provider.schemes[:1]
            for parts in scheme.event_type
            for place in parts
            if isinstance(place, Header)
        ]
        if headers:
            raise Failure(f"{provider.title} names the event in the header {headers[0]}: give --event with --payload")
        return
    for place, text in zip(places, texts, strict=True):
        if isinstance(place, BodyField) and (there := _at(_object(payload), place)) != text:
            path = ".".join(place.path)
            raise Failure(f"--event {event}: the payload, which is sent as it stands, says {there!r} at `{path}`")


def _object(payload: bytes) -> Any:
    try:
        return json.loads(payload)
    except (ValueError, RecursionError):
        return {}


def _at(document: Any, place: BodyField) -> Any:
    for name in place.path:
        document = document.get(name) if isinstance(document, dict) else None
    return document


def _key(deployment: Deployment, entry: WebhookEntry, provider: Provider) -> tuple[Key, Scheme]:
    """The newest active secret with which one can sign, and the first scheme that takes it."""
    answer = deployment.aws.secrets_manager.get_secret_value(SecretId=entry.secret)
    try:
        stored = SecretDocument.read(answer["SecretString"]).of(provider.name)
    except ValueError as error:
        raise Failure(f"{provider.title}: {error}") from error
    active = stored.active(datetime.now(UTC))
    if not active:
        raise Failure(f"{provider.title} has no active secret: `offload webhooks rotate {provider.name}`")
    troubles = []
    for each in active:
        try:
            [key] = keyring(provider, (Secret(each.key_id, each.value),))
        except BadSecret as error:
            troubles.append(str(error))
            continue
        for scheme in provider.schemes:
            try:
                signed_headers(scheme, key, b"", now=0, delivery_id="id")
            except ValueError:
                continue
            return key, scheme
    if troubles:
        raise Failure(troubles[0])
    raise Failure(
        f"{provider.title} has a public key only, and its other half is the sender's: let the sender send a test, or "
        f"give a shared secret by `offload webhooks rotate {provider.name}`"
    )


def _way(deployment: Deployment) -> dict[str, Any]:
    """How httpx finds the deployment: the embedded AWS with its own certificate, and never through a proxy."""
    import ssl

    instance = deployment.aws.instance
    if instance is None:
        return {}
    if instance.certificate is None:
        return {"trust_env": False}
    return {"trust_env": False, "verify": ssl.create_default_context(cafile=instance.certificate)}


def _problem(content: bytes) -> dict[str, Any]:
    document = _object(content)
    return document if isinstance(document, dict) else {}
