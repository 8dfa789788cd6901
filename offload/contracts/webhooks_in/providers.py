"""Providers that the framework knows: who signs how. An app names those of them that it hears in its `Providers`.

Read on 2026-11-23, unless an entry says otherwise. "Recalled" marks what no page was found for.
"""

from __future__ import annotations

from typing import Final

from offload.contracts.webhooks_in.scheme import (
    Algorithm,
    Alternatives,
    BodyField,
    BodyHash,
    Encoding,
    Handshake,
    Header,
    KeyForm,
    Provider,
    Scheme,
    Sender,
    Signature,
    Timestamp,
)

_MINUTE: Final = 60
_HOUR: Final = 60 * _MINUTE
_DAY: Final = 24 * _HOUR

# docs.github.com: validating-webhook-deliveries (header, prefix, raw body, the secret's UTF-8),
# webhook-events-and-payloads (X-GitHub-Event, X-GitHub-Delivery, at most 25 MB), best-practices-for-using-webhooks (10
# s; a redelivery has the same X-GitHub-Delivery), handling-failed-webhook-deliveries (no retries by itself). The SHA-1
# header beside it is not read. A person can have deliveries of the last 3 days sent anew (recalled). No time is
# signed, so what was captured is good for ever, and bodies are remembered as long. The hooks of a repository and of its
# organization send an event under one id with one body; the target's headers tell them apart
# (webhook-events-and-payloads, "Delivery headers", read 2026-11-29).
GITHUB: Final = Provider(
    name="github",
    title="GitHub",
    schemes=(
        Scheme(
            name="github",
            header="X-Hub-Signature-256",
            signatures=(Signature(prefix="sha256=", encoding=Encoding.HEX),),
            delivery_id=((Header("X-GitHub-Delivery"),),),
            event_type=((Header("X-GitHub-Event"), BodyField(("action",))), (Header("X-GitHub-Event"),)),
            account=(
                (Header("X-GitHub-Hook-Installation-Target-Type"), Header("X-GitHub-Hook-Installation-Target-ID")),
            ),
        ),
    ),
    # In the list of a hook's deliveries it is one like any other.
    handshakes=(Handshake(where=Header("X-GitHub-Event"), equals="ping", event=True),),
    sender=Sender(answer_within=10, retries_for=0, remember_for=30 * _DAY),
    sent_again="POST /repos/OWNER/REPO/hooks/HOOK/deliveries/ID/attempts with the ID of GitHub's list, or Redeliver in "
    "the hook's Recent Deliveries; GitHub keeps deliveries for some days only",
)

# PyPI stripe 16.1.0, stripe/_webhook.py (header, `t.body`, `v1`, any match; the whole secret is the key, `whsec_` and
# all; 300 s). Its library takes times in the future; we do not. docs.stripe.com/webhooks: retries for 3 days, each
# with a new time and signature, 2xx alone is success, a rolled secret signs for up to 24 h beside the new one, `id`
# and `type` of the body. No time limit is published: 10 s is recalled, as is that events are sent anew by hand for up
# to 30 days, and `account`, which the events of connected accounts have.
STRIPE: Final = Provider(
    name="stripe",
    title="Stripe",
    schemes=(
        Scheme(
            name="stripe",
            header="Stripe-Signature",
            separator=",",
            signatures=(Signature(prefix="v1=", encoding=Encoding.HEX),),
            signed="{timestamp}.{body}",
            timestamp=Timestamp(item="t="),
            delivery_id=((BodyField(("id",)),), (BodyHash(),)),
            event_type=((BodyField(("type",)),),),
            account=((BodyField(("account",)),),),
        ),
    ),
    sender=Sender(answer_within=10, retries_for=3 * _DAY, remember_for=30 * _DAY),
    key_shown_at="the signing secret (whsec_...) on the destination's page in Stripe's Workbench",
    sent_again="`stripe events resend EVENT`, or Resend on the event's page",
)

# slackapi/python-slack-sdk, slack_sdk/signature/__init__.py of 2026-08-05 (headers, `v0:time:body`, 300 s both ways;
# the signing secret looks like hex and is text). docs.slack.dev/apis/events-api (3 s; 3 retries: at once, after 1 min,
# after 5 min; `event_id`; `url_verification` echoes `challenge`). Commands and interactivity come as forms, have
# `trigger_id` and `team_id` or `team.id` (recalled) and are not retried. Slack can hold events back and send them
# hourly for a day (recalled).
SLACK: Final = Provider(
    name="slack",
    title="Slack",
    schemes=(
        Scheme(
            name="slack",
            header="X-Slack-Signature",
            signatures=(Signature(prefix="v0=", encoding=Encoding.HEX),),
            signed="v0:{timestamp}:{body}",
            timestamp=Timestamp(header="X-Slack-Request-Timestamp"),
            delivery_id=((BodyField(("event_id",)),), (BodyField(("trigger_id",)),), (BodyHash(),)),
            event_type=((BodyField(("event", "type")),), (BodyField(("type",)),), (BodyField(("command",)),)),
            account=((BodyField(("team_id",)),), (BodyField(("team", "id")),)),
        ),
    ),
    handshakes=(Handshake(where=BodyField(("type",)), equals="url_verification", echo=("challenge",)),),
    sender=Sender(answer_within=3, retries_for=_DAY, remember_for=7 * _DAY),
    key_shown_at="api.slack.com/apps, the app, Basic Information, App Credentials: Signing Secret",
)


def _shopify(name: str, prefix: str, event_type: Alternatives) -> Scheme:
    return Scheme(
        name=name,
        header=f"{prefix}Hmac-Sha256",
        signatures=(Signature(prefix="", encoding=Encoding.BASE64),),
        delivery_id=((Header(f"{prefix}Webhook-Id"),),),
        event_type=event_type,
        account=((Header(f"{prefix}Shop-Domain"),),),
    )


# shopify.dev/docs/apps/build/webhooks/verify-deliveries (header, raw body, the client secret as text; up to 1 h until
# a rotated secret signs; X-Shopify-Webhook-Id stays the same on a retry) and build/events/verify-deliveries (the names
# without `X-` and the topic apart from its action; a developer preview).
# shopify.dev/changelog/updates-to-webhook-retry-mechanism of 2024-09-10: 8 retries over 4 h with the same body.
# dev.to, "Shopify Webhooks: HMAC Verification, 5-Second Timeout, Retries" of 2026-09-27: 1 s to connect, 5 s in all.
# The store: X-Shopify-Shop-Domain (shopify.dev/docs/apps/build/webhooks/delivery-structure), shopify-shop-domain
# (Shopify/shopify-app-js, `ShopifyEventsHeader`), read 2026-11-29. Neither it nor the topic is signed, and two topics
# or two stores may have one body. No time is signed: bodies are remembered for ever.
SHOPIFY: Final = Provider(
    name="shopify",
    title="Shopify",
    schemes=(
        _shopify("shopify", "X-Shopify-", ((Header("X-Shopify-Topic"),),)),
        _shopify(
            "shopify-events",
            "Shopify-",
            ((Header("Shopify-Topic"), Header("Shopify-Action")), (Header("Shopify-Topic"),)),
        ),
    ),
    sender=Sender(answer_within=5, retries_for=4 * _HOUR, remember_for=30 * _DAY),
    key_shown_at="the app's client secret in the Dev Dashboard; of a store without an app, the key in its admin under "
    "Settings, Notifications, Webhooks",
    sent_again="Shopify sends nothing anew when its retries are over: read what is missing from its Admin API",
)


def _standard(name: str, prefix: str, longest: int) -> Scheme:
    return Scheme(
        name=name,
        header=f"{prefix}signature",
        separator=" ",
        signatures=(
            Signature(
                prefix="v1,",
                encoding=Encoding.BASE64,
                key=KeyForm(prefix="whsec_", encoding=Encoding.BASE64, shortest=24, longest=longest),
            ),
            Signature(
                prefix="v1a,",
                encoding=Encoding.BASE64,
                algorithm=Algorithm.ED25519,
                key=KeyForm(prefix="whpk_", encoding=Encoding.BASE64, shortest=32, longest=32),
            ),
        ),
        signed="{id}.{timestamp}.{body}",
        timestamp=Timestamp(header=f"{prefix}timestamp"),
        delivery_id=((Header(f"{prefix}id"),),),
        event_type=((BodyField(("type",)),),),
    )


# github.com/standard-webhooks/standard-webhooks, spec/standard-webhooks.md at b2fa7b8 of 2026-08-17: headers, signed
# bytes, the list, the keys' forms and 24 to 64 bytes, `type`; advice to senders: 15 to 30 s and ten attempts over some
# 76 h. No tolerance is given: 300 s is the libraries' (libraries/python/standardwebhooks/webhooks.py).
_STANDARD_SENDER: Final = Sender(answer_within=15, retries_for=4 * _DAY, remember_for=14 * _DAY)
_LONGEST_KEY: Final = 64
# Svix lets its customers bring secrets of up to 75 bytes (recalled).
_LONGEST_SVIX_KEY: Final = 75

STANDARD_WEBHOOKS: Final = Provider(
    name="standard-webhooks",
    title="Standard Webhooks",
    schemes=(_standard("standard-webhooks", "webhook-", _LONGEST_KEY),),
    sender=_STANDARD_SENDER,
)

# PyPI svix 2.9.1, svix/webhooks.py: the same scheme under `svix-` names, which it reads before the standard's.
SVIX: Final = Provider(
    name="svix",
    title="Svix",
    schemes=(
        _standard("svix", "svix-", _LONGEST_SVIX_KEY),
        _standard("standard-webhooks", "webhook-", _LONGEST_SVIX_KEY),
    ),
    sender=_STANDARD_SENDER,
)


def plain_hmac(
    name: str,
    *,
    header: str,
    encoding: Encoding = Encoding.HEX,
    prefix: str = "",
    algorithm: Algorithm = Algorithm.HMAC_SHA256,
    secret: Encoding = Encoding.TEXT,
    separator: str = "",
    signed: str = "{body}",
    timestamp: Timestamp | None = None,
    delivery_id: Alternatives = (),
    event_type: Alternatives = (),
    account: Alternatives = (),
    handshakes: tuple[Handshake, ...] = (),
    sender: Sender | None = None,
    title: str = "",
    key_shown_at: str = "",
) -> Provider:
    """A sender that signs with a shared secret and keeps no standard.

    `secret` says whether its secret is the key (`TEXT`) or stands for it (`HEX`, `BASE64`). Where no `delivery_id` is
    named it is the body's hash: the same body twice, of one event type and `account`, is then one delivery. Without a
    signed `timestamp` a captured request is good for ever. `sender` is 10 s to answer, retries for up to 3 days and
    memory for 30, unless said otherwise.

    Raises ValueError for an entry that contradicts itself.
    """
    return Provider(
        name=name,
        title=title or name,
        schemes=(
            Scheme(
                name=name,
                header=header,
                separator=separator,
                signatures=(
                    Signature(prefix=prefix, encoding=encoding, algorithm=algorithm, key=KeyForm(encoding=secret)),
                ),
                signed=signed,
                timestamp=timestamp,
                delivery_id=delivery_id or ((BodyHash(),),),
                event_type=event_type,
                account=account,
            ),
        ),
        handshakes=handshakes,
        sender=sender or Sender(answer_within=10, retries_for=3 * _DAY, remember_for=30 * _DAY),
        key_shown_at=key_shown_at,
    )
