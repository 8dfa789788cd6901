"""How the secrets of an ingress are kept in Secrets Manager: one JSON document with every active one of each provider.

    {"providers": {"github": {"secrets": [
        {"key_id": "2026-11-27-a1b2", "value": "…", "since": "2026-11-27T10:00:00Z", "until": null}]}}}

A person may also put a secret itself there, as the sender's settings show it (`{"providers": {"github": "…"}}`); then
its key id is `secret`. What is wrong with one provider's entry is not the others' trouble.
"""

from __future__ import annotations

from datetime import datetime
from typing import Final

import msgspec
from msgspec import Raw, Struct

PLAIN_KEY_ID: Final = "secret"
# Each is tried on every request that no other secret verifies.
MOST_SECRETS: Final = 5
LONGEST_DOCUMENT: Final = 65_536
"""Bytes of a secret (secretsmanager/latest/userguide/reference_limits.html, read 2026-11-27).

With five active secrets of 64 characters, which is what we make, a provider takes some 850: it holds 75 providers."""
SECRET_VARIABLE: Final = "OFFLOAD_WEBHOOKS_SECRET_ARN"  # noqa: S105 -- the way to it
"""The receiver's variable with the ARN of the document."""
PROVIDERS_VARIABLE: Final = "OFFLOAD_WEBHOOKS_PROVIDERS"
"""The receiver's variable with the names of its providers, with commas between."""
PROVIDERS_MODULE: Final = "OFFLOAD_PROVIDERS_MODULE"
"""The receiver's variable with the module that describes the app's providers."""


class StoredSecret(Struct, frozen=True, kw_only=True):
    """One secret as the sender's settings show it; it counts until `until`, for ever when that is None."""

    key_id: str
    value: str
    since: datetime | None = None
    until: datetime | None = None

    def __repr__(self) -> str:
        return f"StoredSecret(key_id={self.key_id!r}, since={self.since}, until={self.until})"


class StoredSecrets(Struct, frozen=True):
    """A provider's entry; the newest secret comes first."""

    secrets: tuple[StoredSecret, ...] = ()

    def active(self, now: datetime) -> tuple[StoredSecret, ...]:
        """Those that count at this moment, the newest first."""
        return tuple(each for each in self.secrets if each.until is None or now < each.until)


class SecretDocument(Struct, frozen=True):
    """The document; `providers` are the entries by the providers' names, as they are written."""

    providers: dict[str, Raw] = {}

    def __repr__(self) -> str:
        return f"SecretDocument({sorted(self.providers)})"

    @staticmethod
    def read(text: str) -> SecretDocument:
        """What a secret's text says. Raises ValueError, without the text, for a document that is none of ours."""
        try:
            return msgspec.json.decode(text, type=SecretDocument)
        except (msgspec.MsgspecError, UnicodeError, RecursionError):
            raise ValueError("the secret is not a document of webhook secrets by provider") from None

    def of(self, provider: str) -> StoredSecrets:
        """A provider's secrets; none when it has no entry. Raises ValueError, without it, for an entry that is none."""
        entry = self.providers.get(provider)
        if entry is None:
            return StoredSecrets()
        try:
            read = msgspec.json.decode(entry, type=StoredSecrets | str)
        except (msgspec.MsgspecError, UnicodeError, RecursionError):
            raise ValueError(
                f"the entry '{provider}' is not one of webhook secrets: `offload webhooks rotate {provider}`"
            ) from None
        if isinstance(read, StoredSecrets):
            return read
        return StoredSecrets((StoredSecret(key_id=PLAIN_KEY_ID, value=read),) if read else ())

    def with_secrets(self, provider: str, secrets: StoredSecrets) -> SecretDocument:
        """The document with another entry of a provider; the others' stay as they are written."""
        return SecretDocument({**self.providers, provider: Raw(msgspec.json.encode(secrets))})

    def to_json(self) -> str:
        """The document as it is kept."""
        return msgspec.json.encode(self).decode()
