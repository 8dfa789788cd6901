"""Seals what subscriptions hold in secret, under one key that is in Secrets Manager (docs/adr/0017).

A secret each would cost $0.40 a month a subscription (docs.aws.amazon.com/secretsmanager pricing, 2026-11-27), used or
not. So the table has them sealed: XSalsa20 with Poly1305, libsodium's `secretbox`. The key is the secret's current
version. While it is being changed the one before opens too, and `sealed_anew` brings each subscription under the new.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import os
from collections.abc import Callable, Iterable
from hashlib import sha256
from typing import Final

from nacl.exceptions import CryptoError
from nacl.secret import SecretBox
from nacl.signing import SigningKey

from offload.contracts.secret_versions import CURRENT, PREVIOUS
from offload.runtime.lean_aws import AwsRefused, Service

_NO_VERSION: Final = "ResourceNotFoundException"
_WITHIN: Final = 5.0  # seconds
# Standard Webhooks: 24 to 64 random bytes (spec/standard-webhooks.md).
SECRET_PREFIX: Final = "whsec_"  # noqa: S105 -- the prefix of all of them
PUBLIC_PREFIX: Final = "whpk_"
_MADE_BYTES: Final = 32
_SHORTEST, _LONGEST = 24, 64


class BadSecret(ValueError):
    """A secret that was brought along and cannot be one; the message does not have it."""


class NotSealedHere(Exception):
    """What is sealed was sealed under a key that is gone, for another subscription, or was changed."""


class Vault:
    """Seals under the current key and opens under it or the one before.

    `read` gives the key that a staging label of Secrets Manager names, None where no version has the label.
    """

    def __init__(self, read: Callable[[str], str | None]) -> None:
        self._read = read
        self._boxes: tuple[SecretBox, ...] = ()

    @staticmethod
    def of_secret(arn: str, manager: Service) -> Vault:
        """The vault whose keys are versions of a secret in Secrets Manager."""

        def read(label: str) -> str | None:
            try:
                answer = manager.call("GetSecretValue", {"SecretId": arn, "VersionStage": label}, within=_WITHIN)
            except AwsRefused as error:
                if label == CURRENT or error.code != _NO_VERSION:
                    raise
                return None
            return str(answer["SecretString"])

        return Vault(read)

    def seal(self, subscription: str, content: bytes) -> bytes:
        """The content, for nobody but this vault, and of nobody but this subscription."""
        # The key is read each time: nothing may be sealed any more under one that is about to go.
        return bytes(self._current().encrypt(_label(subscription) + content))

    def open(self, subscription: str, sealed: bytes) -> bytes:
        """What was sealed for the subscription; raises NotSealedHere."""
        content = _opened(self._boxes, sealed)
        if content is None:
            # Either this is the first one, or the keys are others by now.
            self._boxes = (self._current(),)
            content = _opened(self._boxes, sealed)
        if content is None and (before := self._read(PREVIOUS)) is not None:
            self._boxes = (*self._boxes, _box(before))
            content = _opened(self._boxes, sealed)
        if content is None:
            raise NotSealedHere(f"{subscription}: sealed under a key that is gone, or changed")
        label = _label(subscription)
        if not content.startswith(label):
            raise NotSealedHere(f"{subscription}: sealed for another subscription")
        return content[len(label) :]

    def sealed_anew(self, subscription: str, sealed: bytes) -> bytes:
        """The same under the current key: as it is when it is so already. Raises NotSealedHere."""
        if _opened((self._current(),), sealed) is not None:
            return sealed
        return self.seal(subscription, self.open(subscription, sealed))

    def _current(self) -> SecretBox:
        key = self._read(CURRENT)
        if key is None:
            raise LookupError("the sealing key has no current version")
        return _box(key)


def _box(key: str) -> SecretBox:
    return SecretBox(sha256(key.encode()).digest())


def _opened(boxes: Iterable[SecretBox], sealed: bytes) -> bytes | None:
    """What the first of the keys opens that fits; None where none does."""
    for box in boxes:
        with contextlib.suppress(CryptoError, ValueError):
            return bytes(box.decrypt(sealed))
    return None


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
