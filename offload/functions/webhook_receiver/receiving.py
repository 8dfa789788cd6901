"""What becomes of a webhook: verified, kept, published, answered.

It is safe once it is kept, and answered 2xx from then on: what the bus does not take at once the relay sends.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any, Final

from msgspec import Struct
from msgspec.structs import replace

from offload.contracts.events.claim import claim_key, claim_reference
from offload.contracts.events.entry import WHOLE_BYTES, Entry
from offload.contracts.events.event import Event
from offload.contracts.webhooks_in.received import (
    MOST_VARIANTS,
    WebhookReceived,
    body_key,
    event_id,
    id_key,
    is_identified,
    received_type,
    variant_of,
)
from offload.contracts.webhooks_in.scheme import Provider
from offload.runtime.lean_aws import AwsRefused, AwsUnreachable
from offload.runtime.text import stored
from offload.runtime.webhooks_in.body import read_body
from offload.runtime.webhooks_in.bus import Bus
from offload.runtime.webhooks_in.deliveries import Admission, Deliveries, Delivery, Kept, pack
from offload.runtime.webhooks_in.refusals import (
    BadSignature,
    BodyTooLarge,
    NoActiveSecret,
    TooManyVariants,
    TooOften,
    Unavailable,
    WebhookRefused,
)
from offload.runtime.webhooks_in.secret_cache import Known, NotReadable, SecretCache
from offload.runtime.webhooks_in.verify import Verified, verify

from .request import Request

# Of the sender's time limit, for us; the rest is the network's, the gateway's and a cold start's.
_SHARE: Final = 0.6
_LONGEST: Final = 5.0  # seconds
# Kept back for the answer, when the bus is slow.
_RESERVE: Final = 0.3
# A bus that is well answers in a tenth of it.
_BUS_WITHIN: Final = 1.0
_LONGEST_CONTENT_TYPE: Final = 200  # bytes


class Answered(Struct, kw_only=True):
    """The answer to a request, and what the log says of it."""

    status: int
    outcome: str
    provider: str = ""
    endpoint: str = ""
    event_id: str = ""
    body: bytes = b""
    content_type: str = ""
    refusal: WebhookRefused | None = None
    verified: bool = False
    after_rotation: bool = False
    bytes: int = 0
    headers: Mapping[str, str] = {}
    troubles: list[str] = []


class Receiver:
    """Takes webhooks of `providers`; `clock` gives seconds since 1970."""

    def __init__(
        self,
        providers: Mapping[str, Provider],
        *,
        secrets: SecretCache,
        deliveries: Deliveries,
        bus: Bus,
        claims: Callable[[str, bytes], str],
        refused_per_minute: int,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._providers = providers
        self._secrets = secrets
        self._deliveries = deliveries
        self._bus = bus
        self._claims = claims
        self._refused_per_minute = refused_per_minute
        self._clock = clock
        self._blocked: tuple[int, set[str]] = (0, set())
        """The sources that were refused too often in a minute."""

    def receive(self, request: Request) -> Answered:
        """Answers one request; whatever it holds, nothing is raised."""
        until = time.monotonic() + _LONGEST
        answered = Answered(status=0, outcome="refused")
        try:
            provider, answered.endpoint = request.place(self._providers)
            answered.provider = provider.name
            until = time.monotonic() + min(_LONGEST, provider.sender.answer_within * _SHARE)
            body = request.body()
            answered.bytes = len(body)
            verified = self._verified(provider, request, body, answered, until)
            if verified.handshake is not None:
                answered.status, answered.outcome = 200, "handshake"
                answered.body, answered.content_type = verified.handshake.body, verified.handshake.content_type
            if verified.handshake is None or verified.handshake.event:
                self._take(provider, request, body, verified, answered, until)
        except WebhookRefused as refused:
            self._refuse(request, refused, answered, until)
        return answered

    def _verified(
        self, provider: Provider, request: Request, body: bytes, answered: Answered, until: float
    ) -> Verified:
        try:
            known = self._secrets.keys(provider, within=_left(until))
            answered.troubles += known.troubles
            try:
                return self._with(known, provider, request, body, answered)
            except (BadSignature, NoActiveSecret) as refused:
                # Only with the newest secrets is a refusal sure: the sender may have a new one since a second.
                newer = self._secrets.newer(provider, within=_left(until))
                if newer is None and isinstance(refused, BadSignature):
                    raise TooOften("too many signatures were wrong this second to look for newer secrets") from refused
                if newer is None or newer.keys == known.keys:
                    raise
                return self._with(newer, provider, request, body, answered)
        except NotReadable as error:
            answered.troubles.append(str(error))
            raise Unavailable("the secrets cannot be read at the moment") from error

    def _with(self, known: Known, provider: Provider, request: Request, body: bytes, answered: Answered) -> Verified:
        answered.after_rotation = known.rotated
        verified = verify(provider, known.keys, request.headers, body, now=self._clock())
        answered.after_rotation, answered.verified = False, True
        return verified

    def _take(
        self,
        provider: Provider,
        request: Request,
        content: bytes,
        verified: Verified,
        answered: Answered,
        until: float,
    ) -> None:
        body = read_body(content, request.header("content-type"), request.header("content-encoding"))
        now = self._clock()
        variant = _variant(verified, answered.endpoint)
        key = body_key(verified.body_sha256, variant) if variant else id_key(verified.delivery_id)
        event = Event(
            id=event_id(provider.name, key),
            source=WebhookReceived.SOURCE,
            type=(name := received_type(provider.name, verified.event_type)),
            subject=verified.delivery_id,
            time=datetime.fromtimestamp(now if verified.timestamp is None else verified.timestamp, UTC),
            dataschema=f"urn:offload:{name}:{WebhookReceived.VERSION}",
            data=WebhookReceived(
                provider=provider.name,
                endpoint=answered.endpoint,
                event_type=verified.event_type or "",
                event_type_signed=verified.event_type_signed,
                account=verified.account,
                account_signed=verified.account_signed,
                delivery_id=verified.delivery_id,
                delivery_id_signed=verified.delivery_id_signed,
                scheme=verified.scheme,
                key_id=verified.key_id,
                body_sha256=verified.body_sha256,
                received_at=datetime.fromtimestamp(now, UTC),
                signed_at=None if verified.timestamp is None else datetime.fromtimestamp(verified.timestamp, UTC),
                content_type=stored(request.header("content-type"), _LONGEST_CONTENT_TYPE),
                payload=body.payload,
                text=body.text,
            ),
        )
        delivery = Delivery(
            provider=provider.name,
            key=key,
            endpoint=answered.endpoint,
            delivery_id=verified.delivery_id,
            event_type=verified.event_type or "",
            account=verified.account,
            event_id=event.id,
            type=event.type,
            scheme=verified.scheme,
            key_id=verified.key_id,
            body_sha256=verified.body_sha256,
            bytes=len(content),
            source=request.source,
            received_at=int(now * 1000),
            # What has no signed time is good for ever, and so is remembered for ever.
            expires=None if verified.timestamp is None else int(now) + provider.sender.remember_for,
        )
        answered.event_id = event.id
        try:
            if variant and self._is_before(delivery, variant, answered, until):
                return
            entry, packed = self._packed(Entry(event.id, event.source, event.type, event.to_json()))
            kept = self._deliveries.keep(delivery, packed, within=_left(until))
        except (AwsRefused, AwsUnreachable) as error:
            answered.troubles.append(str(error))
            raise Unavailable("the webhook could not be kept") from error
        if answered.outcome != "handshake":
            answered.status, answered.outcome = 200, kept.value
        if kept is Kept.NEW:
            self._publish(delivery, entry, answered, until)
        else:
            self._note(answered, self._deliveries.came_again, delivery, at=int(now * 1000), within=_left(until))

    def _is_before(self, delivery: Delivery, variant: str, answered: Answered, until: float) -> bool:
        """Whether a delivery without a signed id is kept already under its body alone; raises TooManyVariants."""
        admission = self._deliveries.admit(delivery, variant, within=_left(until))
        if admission is Admission.TOO_MANY:
            raise TooManyVariants(
                f"this body came under {MOST_VARIANTS} other topics, accounts and endpoints, which nobody signs"
            )
        if admission is Admission.ADMITTED:
            return False
        key = body_key(delivery.body_sha256)
        before = replace(delivery, key=key, event_id=event_id(delivery.provider, key))
        answered.event_id = before.event_id
        if answered.outcome != "handshake":
            answered.status, answered.outcome = 200, Kept.DUPLICATE.value
        self._note(answered, self._deliveries.came_again, before, at=delivery.received_at, within=_left(until))
        return True

    def _packed(self, entry: Entry) -> tuple[Entry, bytes]:
        """The event as it goes to the bus, and as the table holds it; a large one leaves its data in the bucket."""
        packed = pack(entry) if entry.size() <= WHOLE_BYTES else None
        if packed is None:
            data = entry.data()
            entry = entry.claimed(self._claims(claim_key(entry.type, data), data))
            packed = pack(entry)
            assert packed is not None  # noqa: S101 -- an envelope alone has some 2 KB
        return entry, packed

    def _publish(self, delivery: Delivery, entry: Entry, answered: Answered, until: float) -> None:
        [why] = self._bus.put([entry], within=min(_BUS_WITHIN, _left(until) - _RESERVE))
        if why:
            answered.troubles.append(why)
            answered.status = 202 if answered.outcome != "handshake" else 200
            answered.outcome = "stored" if answered.outcome != "handshake" else answered.outcome
            return
        at = int(self._clock() * 1000)
        self._note(answered, self._deliveries.published, delivery.keys, at=at, within=_left(until))

    def _refuse(self, request: Request, refused: WebhookRefused, answered: Answered, until: float) -> None:
        answered.after_rotation = answered.after_rotation and isinstance(refused, BadSignature)
        answered.refusal, answered.status, answered.outcome, answered.event_id = refused, refused.status, "refused", ""
        now = self._clock()
        if answered.status >= 500:
            answered.headers = {"retry-after": "5"}
            return
        if not answered.provider:
            return
        often = not answered.verified and self._often(request, int(now) // 60, answered, until)
        if often and not isinstance(refused, TooOften | BodyTooLarge):
            answered.refusal = TooOften(
                f"more than {self._refused_per_minute} requests of this source were refused within a minute: "
                f"this one for '{refused.slug}'"
            )
        if isinstance(answered.refusal, TooOften):
            answered.status = TooOften.status
            answered.headers = {"retry-after": str(60 - int(now) % 60)}
        if often:
            return
        fields: dict[str, Any] = {
            "provider": answered.provider,
            "endpoint": answered.endpoint,
            "reason": refused.slug,
            "status": refused.status,
            "detail": str(refused),
            "source": request.source,
            "after_rotation": answered.after_rotation,
        }
        self._note(answered, self._deliveries.refused, fields, at=int(now * 1000), within=_left(until))

    def _often(self, request: Request, minute: int, answered: Answered, until: float) -> bool:
        """Whether the source has been refused too often this minute: no more is written of it then."""
        if self._blocked[0] != minute:
            self._blocked = (minute, set())
        if request.network in self._blocked[1]:
            return True
        try:
            count = self._deliveries.count_refusal(request.network, minute, within=_left(until))
        except (AwsRefused, AwsUnreachable) as error:
            answered.troubles.append(str(error))
            return False
        if count <= self._refused_per_minute:
            return False
        self._blocked[1].add(request.network)
        return True

    def _note(self, answered: Answered, write: Callable[..., None], *arguments: Any, **settings: Any) -> None:
        """A write on which the answer does not depend: the log says what of it failed."""
        try:
            write(*arguments, **settings)
        except (AwsRefused, AwsUnreachable) as error:
            answered.troubles.append(str(error))


def claims_in(bucket: str) -> Callable[[str, bytes], str]:
    """Leaves an event's data in the claims bucket; gives its `dataref`. Raises AwsUnreachable."""

    def leave(key: str, data: bytes) -> str:
        # Few events are so large: the others' cold starts do not pay for botocore.
        from botocore.exceptions import BotoCoreError, ClientError

        from offload.runtime import aws

        try:
            aws.s3().put_object(Bucket=bucket, Key=key, Body=data, ContentType="application/json")
        except (BotoCoreError, ClientError) as error:
            raise AwsUnreachable(f"s3:PutObject: {error}") from error
        return claim_reference(bucket, key)

    return leave


def _variant(verified: Verified, endpoint: str) -> str:
    """Which delivery of its body it is; empty where the sender signs an id."""
    if is_identified(verified.delivery_id, verified.body_sha256, signed=verified.delivery_id_signed):
        return ""
    return variant_of(endpoint, verified.event_type or "", verified.account)


def _left(until: float) -> float:
    return max(until - time.monotonic(), 0.05)
