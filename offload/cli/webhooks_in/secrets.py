"""Rotation of a provider's secrets: the new one counts at once, the old ones for as long as the overlap says.

One document has the secrets of all providers of a stack. Two rotations at the same moment, of one provider or of two,
lose no secret: when another is faster, the document is read again and merged with.
"""

from __future__ import annotations

import binascii
import random
import secrets
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Final

from offload.cli.deployment.failure import Failure
from offload.cli.deployment.resources import Deployment, WebhookEntry
from offload.cli.deployment.secret_versions import replace_version
from offload.cli.webhooks_in.received import ingress_of, provider_of
from offload.contracts.webhooks_in.scheme import Algorithm, Encoding, KeyForm, Provider
from offload.contracts.webhooks_in.stored_secret import (
    LONGEST_DOCUMENT,
    MOST_SECRETS,
    SecretDocument,
    StoredSecret,
    StoredSecrets,
)
from offload.runtime.webhooks_in.secrets import BadSecret, Secret, keyring

# Functions read secrets every 30 s: less than this, and one that has the old secrets alone would meet its end.
SHORTEST_OVERLAP: Final = timedelta(minutes=1)
LONGEST_OVERLAP: Final = timedelta(days=30)

# NIST SP 800-107 revision 1, section 5.3.4: an HMAC's key has at least 112 bits of strength; 128 are usual. Standard
# Webhooks has bounds of its own (24 to 64 bytes). Secrets that are stored already go on counting.
SHORTEST_SECRET: Final = 16
_KEY_BYTES: Final = 32
_ATTEMPTS: Final = 10
_PAUSE: Final = 0.5  # seconds at most; what was read may be older than what is there, for a moment


@dataclass(frozen=True)
class Rotated:
    """The new secret's id, its value when it was made here, and the old ones' ids with the end of each."""

    provider: str
    stack: str
    key_id: str
    made: str | None = field(repr=False)
    old: tuple[tuple[str, datetime], ...]


def rotate(
    deployment: Deployment,
    provider: str,
    *,
    overlap: timedelta,
    given: str | None = None,
    revoke: bool = False,
    stack: str | None = None,
    now: datetime | None = None,
) -> Rotated:
    """Puts a new secret first: `given`, which is the sender's, or one that is made here.

    The old ones count until the overlap is over, and never longer than they did; with `revoke` not at all any more.

    Raises Failure for a provider of several stacks without a `stack`, for an overlap out of bounds, and before anything
    is stored for a secret that can verify nothing.
    """
    entry, scheme = ingress_of(deployment, provider, stack), provider_of(deployment, provider)
    _check(overlap, revoke=revoke)
    value = _made(scheme) if given is None else given
    try:
        [key] = keyring(scheme, (Secret("the new one", value),))
    except BadSecret as error:
        raise Failure(str(error)) from error
    if len(key.content) < SHORTEST_SECRET:
        raise Failure(
            f"the new secret of {scheme.title} is {len(key.content)} bytes, which can be guessed: have at least "
            f"{SHORTEST_SECRET}, at random, in the sender's settings, such as `openssl rand -hex 32` makes"
        )
    moment = (now or datetime.now(UTC)).replace(microsecond=0)
    until = moment if revoke else moment + overlap
    new = StoredSecret(key_id=f"{moment:%Y-%m-%d}-{secrets.token_hex(3)}", value=value, since=moment)
    for _ in range(_ATTEMPTS):
        old = _swapped(deployment, entry, scheme, new, until, moment, revoke=revoke)
        if old is not None:
            return Rotated(provider, entry.stack, new.key_id, value if given is None else None, old)
        time.sleep(random.uniform(0, _PAUSE))  # noqa: S311 - no secret comes of it
    raise Failure(f"the secrets of {scheme.title} were changed by others {_ATTEMPTS} times meanwhile: try again")


def _swapped(
    deployment: Deployment,
    entry: WebhookEntry,
    provider: Provider,
    new: StoredSecret,
    until: datetime,
    now: datetime,
    *,
    revoke: bool,
) -> tuple[tuple[str, datetime], ...] | None:
    """Stores the new secret beside those that are there; the old ones' ends, None when another rotation was faster."""
    manager, arn = deployment.aws.secrets_manager, entry.secret
    current = manager.get_secret_value(SecretId=arn)
    document = _document(current.get("SecretString", ""))
    before = _read(provider, document, revoke=revoke).active(now)
    if before and before[0].value == new.value and before[0].until is None and not revoke:
        raise Failure(f"this is the secret of {provider.title} already, as '{before[0].key_id}': nothing to rotate")
    old = tuple((each, min(each.until or until, until)) for each in before if each.value != new.value)
    if len(old) >= MOST_SECRETS and not revoke:
        soonest = min((each.until for each in before if each.until), default=None)
        wait = f"rotate again after {soonest:%Y-%m-%d %H:%M:%SZ}, or " if soonest else ""
        raise Failure(
            f"{provider.title} has {len(old)} active secrets, and {MOST_SECRETS} is the most: {wait}retire them all "
            "with --revoke"
        )
    kept = () if revoke else tuple(_until(each, end) for each, end in old)
    text = document.with_secrets(provider.name, StoredSecrets((new, *kept))).to_json()
    if len(text.encode()) > LONGEST_DOCUMENT:
        raise Failure(
            f"the secrets of all providers would be {len(text.encode()):,} bytes, and Secrets Manager takes "
            f"{LONGEST_DOCUMENT:,}: retire old ones with --revoke, or give a provider a stack of its own"
        )
    if replace_version(manager, arn, current["VersionId"], text) is None:
        return None
    return tuple((each.key_id, end) for each, end in old)


def _document(text: str) -> SecretDocument:
    try:
        return SecretDocument.read(text)
    except ValueError as error:
        raise Failure(
            "what is stored for the webhooks is no document of secrets by provider, and a new one would lose those of "
            "all providers: look at it in Secrets Manager, where the version before it is labelled AWSPREVIOUS"
        ) from error


def _read(provider: Provider, document: SecretDocument, *, revoke: bool) -> StoredSecrets:
    try:
        return document.of(provider.name)
    except ValueError as error:
        if revoke:
            return StoredSecrets()
        raise Failure(
            f"what is stored for {provider.title} is no entry of webhook secrets: look at it in Secrets Manager, or "
            "replace it with --revoke"
        ) from error


def _until(secret: StoredSecret, until: datetime) -> StoredSecret:
    return StoredSecret(key_id=secret.key_id, value=secret.value, since=secret.since, until=until)


def _check(overlap: timedelta, *, revoke: bool) -> None:
    if revoke:
        return
    if overlap < SHORTEST_OVERLAP:
        raise Failure(
            "--overlap: at least 1m, since warm functions read secrets every 30 s; --revoke retires a leaked secret at "
            "once"
        )
    if overlap > LONGEST_OVERLAP:
        raise Failure(f"--overlap: at most {LONGEST_OVERLAP.days}d, since until then two secrets open the door")


def _made(provider: Provider) -> str:
    """A new secret in the form that the provider's settings take."""
    if provider.key_shown_at:
        raise Failure(
            f"{provider.title} makes its secrets itself; give it by --secret-file FILE, or - for stdin. It is shown "
            f"here: {provider.key_shown_at}"
        )
    forms = [
        signature.key
        for scheme in provider.schemes
        for signature in scheme.signatures
        if signature.algorithm is not Algorithm.ED25519
    ]
    if not forms:
        raise Failure(
            f"{provider.title} signs with a private key of its own; give its public one by --secret-file FILE, or -"
        )
    return forms[0].prefix + _written(forms[0])


def _written(form: KeyForm) -> str:
    content = secrets.token_bytes(min(max(_KEY_BYTES, form.shortest), form.longest))
    match form.encoding:
        case Encoding.BASE64:
            return binascii.b2a_base64(content, newline=False).decode()
        case Encoding.HEX_UPPER:
            return content.hex().upper()
        case _:
            # Hex is text as well, and every settings page takes it.
            return content.hex()
