"""How the secrets of a provider are kept in Secrets Manager: a JSON document with every active one.

    {"secrets": [{"key_id": "2026-11-27-a1b2", "value": "…", "since": "2026-11-27T10:00:00Z", "until": null}]}

A person may also put the secret itself there, as the sender's settings show it; then its key id is `secret`.
"""

from __future__ import annotations

from datetime import datetime
from typing import Final

import msgspec
from msgspec import Struct

PLAIN_KEY_ID: Final = "secret"
# Each is tried on every request that no other secret verifies.
MOST_SECRETS: Final = 5


def secret_variable(provider: str) -> str:
    """The variable of the receiver with the ARN of a provider's secret."""
    return f"OFFLOAD_SECRET_{provider.upper().replace('-', '_')}"


class StoredSecret(Struct, frozen=True, kw_only=True):
    """One secret as the sender's settings show it; it counts until `until`, for ever when that is None."""

    key_id: str
    value: str
    since: datetime | None = None
    until: datetime | None = None

    def __repr__(self) -> str:
        return f"StoredSecret(key_id={self.key_id!r}, since={self.since}, until={self.until})"


class StoredSecrets(Struct, frozen=True):
    """The document; the newest secret comes first."""

    secrets: tuple[StoredSecret, ...] = ()

    @staticmethod
    def read(text: str) -> StoredSecrets:
        """What a secret's text says. Raises ValueError, without the text, for a document that is none of ours."""
        if not text.lstrip().startswith("{"):
            return StoredSecrets((StoredSecret(key_id=PLAIN_KEY_ID, value=text),) if text else ())
        try:
            return msgspec.json.decode(text, type=StoredSecrets)
        except (msgspec.MsgspecError, UnicodeError, RecursionError):
            raise ValueError("the secret is not a document of webhook secrets: `offload webhooks rotate`") from None

    def active(self, now: datetime) -> tuple[StoredSecret, ...]:
        """Those that count at this moment, the newest first."""
        return tuple(each for each in self.secrets if each.until is None or now < each.until)

    def to_json(self) -> str:
        """The document as it is kept."""
        return msgspec.json.encode(self).decode()
