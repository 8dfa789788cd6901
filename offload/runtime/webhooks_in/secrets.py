"""The secrets of a provider: from what its settings show to what signatures are made with."""

from __future__ import annotations

import binascii
import re
from collections.abc import Iterable
from typing import Final

from msgspec import Struct

from offload.contracts.webhooks_in.scheme import Algorithm, Encoding, KeyForm, Provider

_HEX: Final = {Encoding.HEX: re.compile(r"(?:[0-9a-f]{2})*"), Encoding.HEX_UPPER: re.compile(r"(?:[0-9A-F]{2})*")}


class BadSecret(ValueError):
    """A secret that cannot be this provider's; `str()` says its key id, why and what to do, never the secret."""


class Secret(Struct, frozen=True):
    """A secret as the sender's settings show it, and the id under which we speak of it."""

    key_id: str
    value: str

    def __repr__(self) -> str:
        return f"Secret(key_id={self.key_id!r})"


class Key(Struct, frozen=True):
    """A secret, decoded: `content` is the HMAC's key or the sender's public key."""

    key_id: str
    form: KeyForm
    content: bytes

    def __repr__(self) -> str:
        return f"Key(key_id={self.key_id!r})"


def keyring(provider: Provider, secrets: Iterable[Secret]) -> tuple[Key, ...]:
    """The keys of a provider's active secrets, in their order.

    Raises BadSecret. Use it before a secret is stored, too: what it refuses can never verify anything.
    """
    return tuple(_key(provider, secret) for secret in secrets)


def decoded(text: str, encoding: Encoding) -> bytes | None:
    """The bytes that `text` stands for; None when it is not written in exactly the one way (RFC 4648, 3.5)."""
    if encoding is Encoding.TEXT:
        return text.encode() if text.isprintable() else None
    if encoding is not Encoding.BASE64:
        return binascii.unhexlify(text) if _HEX[encoding].fullmatch(text) else None
    if not text.isascii():
        return None
    try:
        content = binascii.a2b_base64(text, strict_mode=True)
    except binascii.Error:
        return None
    # Strict as it is, it passes over unused bits that are not zero.
    return content if binascii.b2a_base64(content, newline=False) == text.encode() else None


def _key(provider: Provider, secret: Secret) -> Key:
    def wrong(what: str) -> BadSecret:
        return BadSecret(f"secret '{secret.key_id}' of {provider.title}: {what}")

    signatures = [signature for scheme in provider.schemes for signature in scheme.signatures]
    forms = {signature.key: signature.algorithm for signature in signatures}
    if not secret.value:
        raise wrong("is empty: copy it from the sender's settings")
    if secret.value != secret.value.strip():
        raise wrong("begins or ends with white space: copy it without")
    # For an HMAC a key and the same with a zero byte behind it are one (RFC 2104, 2): a slip would go unseen.
    if not secret.value.isprintable():
        raise wrong("holds what no settings page shows (control characters): copy it without")
    for form, algorithm in forms.items():
        if not secret.value.startswith(form.prefix):
            continue
        content = decoded(secret.value.removeprefix(form.prefix), form.encoding)
        if content is None:
            written = f"{form.encoding} after '{form.prefix}'" if form.prefix else form.encoding
            raise wrong(f"is not {written}: copy it whole from the sender's settings")
        if not form.shortest <= len(content) <= form.longest:
            raise wrong(f"is {len(content)} bytes, and has to be {form.shortest} to {form.longest}: copy it whole")
        if algorithm is Algorithm.ED25519:
            from offload.runtime.webhooks_in import ed25519

            if not ed25519.is_key(content):
                raise wrong("is no ed25519 public key: copy the public one whole from the sender's settings")
        return Key(secret.key_id, form, content)
    prefixes = " or ".join(f"'{form.prefix}'" for form in forms)
    raise wrong(f"has to begin with {prefixes}: copy it whole from the sender's settings")
