"""Seals what subscriptions hold in secret, under one key that is in Secrets Manager (docs/adr/0017).

A secret each would cost $0.40 a month a subscription (docs.aws.amazon.com/secretsmanager pricing, 2026-11-27), used or
not. So the table has them sealed: XSalsa20 with Poly1305, libsodium's `secretbox`.
"""

from __future__ import annotations

import base64
import binascii
import os
from collections.abc import Callable
from hashlib import sha256
from typing import Final

from nacl.exceptions import CryptoError
from nacl.secret import SecretBox
from nacl.signing import SigningKey

from offload.runtime.lean_aws import Service

_WITHIN: Final = 5.0  # seconds
# Standard Webhooks: 24 to 64 random bytes (spec/standard-webhooks.md).
SECRET_PREFIX: Final = "whsec_"  # noqa: S105 -- the prefix of all of them
PUBLIC_PREFIX: Final = "whpk_"
_MADE_BYTES: Final = 32
_SHORTEST, _LONGEST = 24, 64


class BadSecret(ValueError):
    """A secret that was brought along and cannot be one; the message does not have it."""


class NotSealedHere(Exception):
    """What is sealed was sealed under another key, for another subscription, or was changed."""


class Vault:
    """Seals and opens under a key that `read` gives once, when it is first needed."""

    def __init__(self, read: Callable[[], str]) -> None:
        self._read = read
        self._box: SecretBox | None = None

    @staticmethod
    def of_secret(arn: str, manager: Service) -> Vault:
        """The vault whose key is the text of a secret in Secrets Manager."""

        def read() -> str:
            answer = manager.call("GetSecretValue", {"SecretId": arn}, within=_WITHIN)
            return str(answer["SecretString"])

        return Vault(read)

    def seal(self, subscription: str, content: bytes) -> bytes:
        """The content, for nobody but this vault, and of nobody but this subscription."""
        return bytes(self._opened().encrypt(_label(subscription) + content))

    def open(self, subscription: str, sealed: bytes) -> bytes:
        """What was sealed for the subscription; raises NotSealedHere."""
        label = _label(subscription)
        try:
            content = self._opened().decrypt(sealed)
        except (CryptoError, ValueError) as error:
            raise NotSealedHere(f"{subscription}: sealed under another key, or changed") from error
        if not content.startswith(label):
            raise NotSealedHere(f"{subscription}: sealed for another subscription")
        return content[len(label) :]

    def _opened(self) -> SecretBox:
        if self._box is None:
            self._box = SecretBox(sha256(self._read().encode()).digest())
        return self._box


def _label(subscription: str) -> bytes:
    return f"{subscription}\0".encode()


def new_secret() -> bytes:
    """A new secret's bytes."""
    return os.urandom(_MADE_BYTES)


def shown(secret: bytes) -> str:
    """A secret as its subscriber gets it."""
    return SECRET_PREFIX + base64.b64encode(secret).decode()


def brought(text: str) -> bytes:
    """The bytes of a secret that was brought along, `whsec_` and base64; raises BadSecret."""
    try:
        secret = base64.b64decode(text.removeprefix(SECRET_PREFIX), validate=True)
    except (binascii.Error, ValueError):
        secret = b""
    if not text.startswith(SECRET_PREFIX) or not _SHORTEST <= len(secret) <= _LONGEST:
        raise BadSecret(f"secret: '{SECRET_PREFIX}' and the base64 of {_SHORTEST} to {_LONGEST} random bytes")
    return secret


def public_key(seed: bytes) -> str:
    """The public key, as subscribers get it, of a private one of 32 bytes."""
    return PUBLIC_PREFIX + base64.b64encode(bytes(SigningKey(seed).verify_key)).decode()
