"""Why a webhook is refused. Every refusal has a stable name, an HTTP status, and what to do.

All are 4xx but one: what a sender would only repeat is not worth its retries. The messages may be logged and answered:
none holds a secret, a signature or a header's value.
"""

from __future__ import annotations

from typing import ClassVar


class WebhookRefused(Exception):
    """The request is not taken. `slug` is stable: logs, metrics and the problem's `type` carry it."""

    slug: ClassVar[str] = "refused"
    status: ClassVar[int] = 401
    remedy: ClassVar[str] = ""

    @classmethod
    def title(cls) -> str:
        """What is the same of every case."""
        return (cls.__doc__ or cls.slug).partition("\n")[0].rstrip(".")


class NoSignature(WebhookRefused):
    """There is no signature of a kind that the provider's scheme knows."""

    slug = "no-signature"
    remedy = "give the sender a secret in its webhook's settings, or it is not this provider that calls"


class MalformedSignature(WebhookRefused):
    """The signature's header is not written as the scheme says."""

    slug = "malformed-signature"
    remedy = "compare the sender with the provider of this path; a proxy may have changed or joined headers"


class BadSignature(WebhookRefused):
    """No active secret makes this signature for these bytes."""

    slug = "bad-signature"
    remedy = "compare the sender's secret with `offload webhooks providers`; a proxy may have changed the body"


class NoTimestamp(WebhookRefused):
    """The scheme signs a time, and the request has none."""

    slug = "no-timestamp"
    remedy = "let the proxy before the endpoint pass the sender's headers on"


class MalformedTimestamp(WebhookRefused):
    """The time is not a whole number of the scheme's unit since 1970."""

    slug = "malformed-timestamp"
    remedy = "compare the sender with the provider of this path"


class Stale(WebhookRefused):
    """Rightly signed, but too long ago: a replay, or a clock that is slow."""

    slug = "stale"
    remedy = "let the sender send it anew, with a new time; look at its clock if this goes on"


class FromTheFuture(WebhookRefused):
    """Rightly signed, but at a time that is yet to come: a clock that is fast."""

    slug = "from-the-future"
    remedy = "look at the sender's clock, then let it send anew"


class MalformedHeader(WebhookRefused):
    """A header that the scheme reads is too long, or holds what no such header holds."""

    slug = "malformed-header"
    status = 400
    remedy = "compare the sender with the provider of this path"


class RepeatedHeader(WebhookRefused):
    """A header that may come once came twice; which of the two counts is anybody's guess."""

    slug = "repeated-header"
    status = 400
    remedy = "let the proxy before the endpoint not repeat headers"


class NoDeliveryId(WebhookRefused):
    """Rightly signed, but without the id by which a second delivery is known."""

    slug = "no-delivery-id"
    status = 400
    remedy = "let the proxy before the endpoint pass the sender's headers on"


class MalformedHandshake(WebhookRefused):
    """The sender tries the endpoint, and what has to be echoed is not there."""

    slug = "malformed-handshake"
    status = 400
    remedy = "let the sender try again; its documentation may have changed since this scheme was written"


class NoActiveSecret(WebhookRefused):
    """The provider has no active secret: nothing can be verified. The sender should try again later."""

    slug = "no-active-secret"
    status = 503
    remedy = "set one with `offload webhooks rotate`"


REFUSALS: tuple[type[WebhookRefused], ...] = (
    NoSignature,
    MalformedSignature,
    BadSignature,
    NoTimestamp,
    MalformedTimestamp,
    Stale,
    FromTheFuture,
    MalformedHeader,
    RepeatedHeader,
    NoDeliveryId,
    MalformedHandshake,
    NoActiveSecret,
)
