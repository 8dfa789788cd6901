"""What may be done with subscriptions: checked at the door, and nothing half done."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import datetime, timedelta
from hashlib import sha256
from typing import Any, Final

import msgspec
from msgspec import UNSET, UnsetType
from msgspec.structs import replace

from offload.contracts.events.event import EventData
from offload.contracts.fields import is_field_name, is_field_value
from offload.contracts.webhooks_out import filters
from offload.contracts.webhooks_out.message import TEST_TYPE
from offload.contracts.webhooks_out.policy import Policy
from offload.contracts.webhooks_out.subscription import (
    MOST_SECRETS,
    Change,
    Created,
    Rotated,
    Subscription,
    SubscriptionState,
    Why,
    Wish,
)
from offload.contracts.webhooks_out.tenants import may_be_told
from offload.runtime.http.connect import Resolve, addresses_of
from offload.runtime.http.guard import AddressRefused, Guard
from offload.runtime.webhooks_out import vault as vaults
from offload.runtime.webhooks_out.items import Holding, KeptSecret, Record
from offload.runtime.webhooks_out.refusals import (
    BadFilter,
    BadHeader,
    BadSecret,
    BadTypes,
    BadUrl,
    SecretLost,
    TooManySecrets,
)
from offload.runtime.webhooks_out.subscriptions import Subscriptions
from offload.runtime.webhooks_out.transport import MOST_HEADERS_OF_A_QUEUE, is_arn, is_queue
from offload.runtime.webhooks_out.vault import NotSealedHere, Vault

# What the connection, the message's framing and the signature say is not a subscription's to change.
_NOT_OWN: Final = re.compile(
    r"webhook-.*|host|connection|keep-alive|proxy-.*|te|trailer|transfer-encoding|upgrade|content-.*|expect|"
    r"accept-encoding|user-agent|traceparent|x-amz-.*",
    re.IGNORECASE,
)


class Subscribing:
    """Creates and changes subscriptions. `destinations` are the ARNs that may be sent to."""

    def __init__(
        self,
        subscriptions: Subscriptions,
        vault: Vault,
        guard: Guard,
        policy: Policy,
        now: Callable[[], datetime],
        *,
        outward: Mapping[str, EventData],
        destinations: Collection[str],
        resolve: Resolve = addresses_of,
    ) -> None:
        self._subscriptions = subscriptions
        self._vault = vault
        self._guard = guard
        self._policy = policy
        self._now = now
        self._outward = outward
        self._destinations = destinations
        self._resolve = resolve

    def create(self, wish: Wish, idempotency_key: str | None) -> tuple[Created, bool]:
        """Creates a subscription; returns it, with its secret when it is new, and whether it is.

        Raises a Refusal for what cannot be, and nothing is kept then.
        """
        self._check(wish.url, wish.types, wish.filter, wish.headers)
        _check_spelling(wish.headers)
        self._check_audience(wish.tenant, wish.types)
        now = self._now()
        try:
            secret = vaults.brought(wish.secret) if wish.secret else vaults.new_secret()
        except vaults.BadSecret as error:
            raise BadSecret(str(error)) from error
        name = Subscriptions.new_id(idempotency_key)
        holding = _holding(secret, key_pair=wish.ed25519, headers=wish.headers)
        record = Record(
            id=name,
            tenant=wish.tenant,
            url=wish.url,
            types=wish.types,
            filter=wish.filter,
            header_names=tuple(sorted(wish.headers)),
            rate=wish.rate,
            ordered=wish.ordered,
            public_key=_public_key(holding),
            description=wish.description,
            tags=wish.tags,
            created_at=now,
            changed_at=now,
            digest=sha256(msgspec.json.encode(wish, order="deterministic")).hexdigest(),
            sealed=self._sealed(name, holding),
        )
        kept, new = self._subscriptions.add(record)
        return Created(
            subscription=self.show(kept.id), secret=vaults.shown(secret) if new and not wish.secret else None
        ), new

    def show(self, subscription: str) -> Subscription:
        """A subscription as it stands; raises NoSuchSubscription."""
        record, health = self._subscriptions.get(subscription)
        return record.shown(health, self._now(), self._policy.pause_after)

    def change(self, subscription: str, wanted: Change) -> Subscription:
        """Changes what `wanted` says; raises a Refusal."""
        record, _ = self._subscriptions.get(subscription)
        self._check(
            _or(wanted.url, record.url),
            _or(wanted.types, record.types),
            # One that stays is not looked at: it may be of a time when more was taken.
            None if isinstance(wanted.filter, UnsetType) else wanted.filter,
            # The values of those that stay are sealed, and were checked when they came.
            dict.fromkeys(record.header_names, "sealed") if isinstance(wanted.headers, UnsetType) else wanted.headers,
            changed_url=wanted.url is not UNSET,
        )
        if not isinstance(wanted.headers, UnsetType):
            _check_spelling(wanted.headers)
        if not isinstance(wanted.types, UnsetType):
            self._check_audience(record.tenant, wanted.types)

        def changed(before: Record) -> Record:
            fields: dict[str, Any] = {
                name: value
                for name in ("url", "types", "filter", "rate", "description", "tags")
                if (value := getattr(wanted, name)) is not UNSET
            }
            if not isinstance(wanted.headers, UnsetType):
                holding = replace(self._open(before), headers=dict(wanted.headers))
                fields |= {
                    "header_names": tuple(sorted(wanted.headers)),
                    "sealed": self._sealed(before.id, holding),
                }
            return replace(before, **fields)

        self._subscriptions.change(subscription, changed)
        return self.show(subscription)

    def pause(self, subscription: str) -> Subscription:
        """Pauses it: what is owed to it waits."""
        self._subscriptions.set_state(subscription, SubscriptionState.PAUSED, Why.BY_REQUEST)
        return self.show(subscription)

    def resume(self, subscription: str) -> Subscription:
        """Lets it go on, oldest first."""
        self._subscriptions.set_state(subscription, SubscriptionState.ACTIVE, None)
        return self.show(subscription)

    def rotate(self, subscription: str, overlap: timedelta, secret: str | None = None) -> Rotated:
        """A new secret beside the old one, which signs too until `overlap` is over. Raises a Refusal.

        Without an overlap it begins anew where the old one cannot be opened any more: own headers are gone then, and a
        key pair is another.
        """
        try:
            new = vaults.brought(secret) if secret else vaults.new_secret()
        except vaults.BadSecret as error:
            raise BadSecret(str(error)) from error
        until = self._now() + overlap

        def rotated(before: Record) -> Record:
            try:
                holding = self._open(before)
            except SecretLost:
                if overlap:
                    raise
                return self._begun_anew(before, new)
            kept = tuple(
                replace(each, until=until if each.until is None else min(each.until, until))
                for each in holding.secrets
                if each.until is None or each.until > self._now()
            )
            if len(kept) >= MOST_SECRETS:
                raise TooManySecrets(f"{len(kept)} secrets sign at this moment, {MOST_SECRETS} may: wait for one to go")
            secrets = (KeptSecret(value=new), *kept)
            return replace(
                before, sealed=self._sealed(before.id, replace(holding, secrets=secrets)), secrets=len(secrets)
            )

        self._subscriptions.change(subscription, rotated)
        return Rotated(subscription=self.show(subscription), secret=vaults.shown(new), old_until=until)

    def delete(self, subscription: str) -> None:
        """Deletes it; what is owed to it is given up with that reason."""
        self._subscriptions.delete(subscription)

    def holding(self, subscription: str) -> tuple[Record, Holding]:
        """A subscription and what it holds in secret, for who sends to it."""
        record, _ = self._subscriptions.get(subscription)
        return record, self._open(record)

    def reseal(self, subscription: str) -> bool:
        """Seals it under the current key; False when it was so already. Raises NoSuchSubscription, SecretLost."""
        sealed_anew = False

        def resealed(before: Record) -> Record:
            nonlocal sealed_anew
            try:
                sealed = self._vault.sealed_anew(before.id, before.sealed)
            except NotSealedHere as error:
                raise _lost(before) from error
            sealed_anew = sealed != before.sealed
            return replace(before, sealed=sealed)

        self._subscriptions.change(subscription, resealed)
        return sealed_anew

    def _begun_anew(self, before: Record, secret: bytes) -> Record:
        holding = _holding(secret, key_pair=before.public_key is not None, headers={})
        return replace(
            before,
            sealed=self._sealed(before.id, holding),
            secrets=1,
            header_names=(),
            public_key=_public_key(holding),
        )

    def _open(self, record: Record) -> Holding:
        try:
            return msgspec.json.decode(self._vault.open(record.id, record.sealed), type=Holding)
        except NotSealedHere as error:
            raise _lost(record) from error

    def _sealed(self, subscription: str, holding: Holding) -> bytes:
        return self._vault.seal(subscription, msgspec.json.encode(holding))

    def _check(
        self,
        url: str,
        types: Sequence[str],
        wanted: filters.Filter | None,
        headers: Mapping[str, str],
        *,
        changed_url: bool = True,
    ) -> None:
        if changed_url:
            self._check_url(url)
        for pattern in types:
            if not filters.is_pattern(pattern):
                raise BadTypes(f"types: '{pattern}' is no event type, no prefix as order.*, and not *")
            if not any(filters.type_matches((pattern,), name) for name in (*self._outward, TEST_TYPE)):
                raise BadTypes(f"types: '{pattern}' is none of {', '.join(sorted(self._outward))}")
        if wanted is not None:
            try:
                filters.check(wanted)
            except filters.BadFilter as error:
                raise BadFilter(str(error)) from error
        _check_headers(url, headers)

    def _check_audience(self, tenant: str, types: Sequence[str]) -> None:
        """Raises BadTypes for a pattern of which the tenant may be told nothing."""
        for pattern in types:
            examples = [each for name, each in self._outward.items() if filters.type_matches((pattern,), name)]
            if examples and not any(may_be_told(tenant, type(each)) for each in examples):
                raise BadTypes(
                    f"types: '{pattern}' is for operators alone, and this subscription is of tenant '{tenant}': leave "
                    "it out, or make a subscription without a tenant"
                )

    def _check_url(self, url: str) -> None:
        if url.startswith("arn:"):
            if not is_arn(url):
                raise BadUrl(f"url: '{url}' is no ARN of an SQS queue or an EventBridge bus")
            if url not in self._destinations:
                raise BadUrl(
                    f"url: '{url}' is not among this environment's destinations: [sending] destinations in its file"
                )
            return
        try:
            target = self._guard.target(url)
            self._guard.checked(target.host, target.port, self._resolve(target.host, target.port))
        except AddressRefused as error:
            raise BadUrl(f"url: {error}") from error
        except OSError as error:
            raise BadUrl(f"url: the name '{target.host}' cannot be resolved ({error}): is it spelled right?") from error


def _holding(secret: bytes, *, key_pair: bool, headers: Mapping[str, str]) -> Holding:
    """What a subscription begins with, with a new key pair where it has one."""
    seeds = (vaults.new_secret(),) if key_pair else ()
    return Holding(secrets=(KeptSecret(value=secret),), seeds=seeds, headers=dict(headers))


def _public_key(holding: Holding) -> str | None:
    return vaults.public_key(holding.seeds[0]) if holding.seeds else None


def _lost(record: Record) -> SecretLost:
    return SecretLost(
        f"what subscription '{record.id}' holds in secret was sealed under a key that is gone: rotate it without an "
        "overlap, hand the new secret to its receiver, and set its own headers again"
    )


def _check_spelling(headers: Mapping[str, str]) -> None:
    """Raises BadHeader for what the sender could not write, or would write twice; without any value."""
    seen: dict[str, str] = {}
    for name, value in headers.items():
        if not is_field_name(name):
            raise BadHeader("headers: a name is made of letters, digits and hyphens")
        if not is_field_value(value):
            raise BadHeader(
                f"headers: the value of '{name}' begins or ends with a blank, or has what no header can: it is visible "
                "ASCII with blanks between (RFC 9110 section 5.5); write it without them"
            )
        if (other := seen.setdefault(name.lower(), name)) != name:
            raise BadHeader(f"headers: '{other}' and '{name}' are one header (RFC 9110 section 5.1): write it once")


def _check_headers(url: str, headers: Mapping[str, str]) -> None:
    for name in headers:
        if _NOT_OWN.fullmatch(name):
            raise BadHeader(f"headers: '{name}' is not the subscription's to set")
    if not headers or not is_arn(url):
        return
    if not is_queue(url):
        raise BadHeader("headers: an event bus has no place for them: leave them out")
    if len(headers) > MOST_HEADERS_OF_A_QUEUE:
        raise BadHeader(f"headers: a queue's message has room for {MOST_HEADERS_OF_A_QUEUE} of one's own")
    if empty := next((name for name, value in headers.items() if not value), None):
        raise BadHeader(f"headers: '{empty}' is empty, which a queue's message does not take")


def _or(value: Any, otherwise: Any) -> Any:
    return otherwise if value is UNSET else value
