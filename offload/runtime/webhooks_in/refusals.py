"""Why a webhook is refused. Every refusal has a stable name, an HTTP status, and what to do.

4xx is what a sender would only repeat, 429 and 5xx what it should send again. The messages may be logged and answered:
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


class NoSuchProvider(WebhookRefused):
    """There is no receiver at this path."""

    slug = "no-such-provider"
    status = 404
    remedy = "compare the URL in the sender's settings with `offload webhooks providers`"


class BodyTooLarge(WebhookRefused):
    """The body is larger than what is taken here."""

    slug = "body-too-large"
    status = 413
    remedy = "let the sender send less: docs/webhooks.md says where the line is and what goes round it"


class EmptyBody(WebhookRefused):
    """There is no body."""

    slug = "empty-body"
    status = 400
    remedy = "let the sender send its event in the body"


class MalformedBody(WebhookRefused):
    """Rightly signed, but the body is not what its media type says."""

    slug = "malformed-body"
    status = 400
    remedy = "let the sender send JSON in UTF-8"


class UnsupportedBody(WebhookRefused):
    """Rightly signed, but of a media type or an encoding that is not read here."""

    slug = "unsupported-body"
    status = 415
    remedy = "choose JSON (`application/json`) and no compression in the sender's settings"


class TooManyVariants(WebhookRefused):
    """Rightly signed, but its body came under too many topics, accounts and endpoints, none of which is signed."""

    slug = "too-many-variants"
    status = 409
    remedy = "`offload webhooks recent` shows which: somebody replays it, or its sender has to put an id in the body"


class TooOften(WebhookRefused):
    """The source was refused too often within a minute."""

    slug = "too-often"
    status = 429
    remedy = "wait as long as Retry-After says; `offload webhooks recent --outcome refused` shows why it was refused"


class Unavailable(WebhookRefused):
    """The webhook could not be kept. The sender should send it again."""

    slug = "unavailable"
    status = 503
    remedy = "send it again; the function's log says what failed"


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
    NoSuchProvider,
    BodyTooLarge,
    EmptyBody,
    MalformedBody,
    UnsupportedBody,
    TooManyVariants,
    TooOften,
    Unavailable,
)
