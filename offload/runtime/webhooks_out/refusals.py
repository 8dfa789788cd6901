"""Why the API of subscriptions does not do what was asked."""

from __future__ import annotations

from offload.runtime.refusals import EVERYWHERE, Refusal
from offload.runtime.refusals import Contended as Contended
from offload.runtime.refusals import IdempotencyConflict as IdempotencyConflict


class NoSuchSubscription(Refusal):
    """There is no subscription of this id."""

    slug = "no-such-subscription"
    status = 404


class NoSuchDelivery(Refusal):
    """There is no delivery of this id, or it is past its retention."""

    slug = "no-such-delivery"
    status = 404


class BadUrl(Refusal):
    """The address may not be sent to; the detail names the rule."""

    slug = "bad-url"


class BadTypes(Refusal):
    """A pattern that no event type has; GET /event-types lists them."""

    slug = "bad-types"


class BadFilter(Refusal):
    """The filter is none; the detail names the field and what it takes."""

    slug = "bad-filter"


class BadSecret(Refusal):
    """The secret that was brought along cannot be one."""

    slug = "bad-secret"


class BadHeader(Refusal):
    """An own header that is not the subscription's to set, or that cannot be sent."""

    slug = "bad-header"


class TooManySecrets(Refusal):
    """The secret was changed too often within the overlap; wait until old ones have retired."""

    slug = "too-many-secrets"
    status = 409


class SecretLost(Refusal):
    """What the subscription holds in secret is sealed under a key that is gone; only an overlap of 0 begins anew."""

    slug = "secret-lost"
    status = 409


class StillWaiting(Refusal):
    """The delivery has not ended: it is sent by its schedule, and not again."""

    slug = "still-waiting"
    status = 409


class PayloadGone(Refusal):
    """What was sent is not kept any more, or was erased: it cannot be sent again."""

    slug = "payload-gone"
    status = 410


REFUSALS: tuple[type[Refusal], ...] = (
    *EVERYWHERE,
    NoSuchSubscription,
    NoSuchDelivery,
    BadUrl,
    BadTypes,
    BadFilter,
    BadSecret,
    BadHeader,
    TooManySecrets,
    SecretLost,
    StillWaiting,
    PayloadGone,
)
"""Every refusal of the API."""
