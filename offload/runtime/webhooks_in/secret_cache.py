"""The secrets of the providers, read from Secrets Manager when they are needed and kept for seconds.

One document has those of all providers (`offload/contracts/webhooks_in/stored_secret.py`), so one read serves all.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from msgspec import Struct

from offload.contracts.webhooks_in.scheme import Provider
from offload.contracts.webhooks_in.stored_secret import SecretDocument, StoredSecret
from offload.runtime.lean_aws import AwsRefused, AwsUnreachable, Service
from offload.runtime.webhooks_in.secrets import BadSecret, Key, Secret, keyring

# A change of a secret is to reach every warm function within a minute; half of it is for clocks and slow answers.
FRESH: Final = 30.0  # seconds
# While Secrets Manager does not answer, the last known secrets serve.
USABLE: Final = 900.0  # seconds
# A refusal is only sure with the newest secrets. Forged requests must not make a bill of it: $0.05 for 10,000 calls.
_LOOKS: Final = 10  # a second
_ROTATING: Final = timedelta(hours=24)


class NotReadable(Exception):
    """The secrets could not be read, and none that are known are young enough; `str()` says why."""


class Known(Struct, frozen=True):
    """A provider's keys as they were read at `at`, seconds of the clock; `rotated` within the last day."""

    keys: tuple[Key, ...]
    at: float
    rotated: bool
    troubles: tuple[str, ...] = ()


class SecretCache:
    """Keys by provider. `arn` is the document's; `clock` gives seconds since 1970."""

    def __init__(self, arn: str, manager: Service, clock: Callable[[], float]) -> None:
        self._arn = arn
        self._manager = manager
        self._clock = clock
        self._document: tuple[float, SecretDocument] | None = None
        self._known: dict[str, Known] = {}
        self._looks: list[float] = []

    def keys(self, provider: Provider, *, within: float) -> Known:
        """Keys read within the last half minute; raises NotReadable."""
        known = self._known.get(provider.name)
        now = self._clock()
        if known is not None and 0 <= now - known.at < FRESH:
            return known
        try:
            # What was read for another provider is as good.
            fresh = self._document is not None and 0 <= now - self._document[0] < FRESH
            return self._keys(provider) if fresh else self._read(provider, within)
        except (AwsRefused, AwsUnreachable, ValueError) as error:
            if known is not None and 0 <= now - known.at < USABLE:
                return known
            raise NotReadable(f"the secrets of {provider.title} cannot be read: {error}") from error

    def newer(self, provider: Provider, *, within: float) -> Known | None:
        """Keys read just now; None when too many looks were taken this second. Raises NotReadable."""
        now = self._clock()
        self._looks = [at for at in self._looks if 0 <= now - at < 1]
        if len(self._looks) >= _LOOKS:
            return None
        self._looks.append(now)
        try:
            return self._read(provider, within)
        except (AwsRefused, AwsUnreachable, ValueError) as error:
            raise NotReadable(f"the secrets of {provider.title} cannot be read: {error}") from error

    def _read(self, provider: Provider, within: float) -> Known:
        at = self._clock()
        answer: dict[str, Any] = self._manager.call("GetSecretValue", {"SecretId": self._arn}, within=within)
        self._document = (at, SecretDocument.read(answer.get("SecretString") or ""))
        return self._keys(provider)

    def _keys(self, provider: Provider) -> Known:
        """What the document that was read last says of a provider; raises ValueError."""
        assert self._document is not None  # noqa: S101 -- both callers have one
        at, document = self._document
        now = datetime.fromtimestamp(at, UTC)
        stored = document.of(provider.name).active(now)
        keys, troubles = _keys(provider, stored)
        newest = max((each.since for each in stored if each.since), default=None)
        known = Known(keys, at, newest is not None and newest > now - _ROTATING, troubles)
        self._known[provider.name] = known
        return known


def _keys(provider: Provider, stored: tuple[StoredSecret, ...]) -> tuple[tuple[Key, ...], tuple[str, ...]]:
    """The keys, and of each secret that makes none why: it must not take the others with it."""
    keys: list[Key] = []
    troubles: list[str] = []
    for each in stored:
        try:
            keys += keyring(provider, (Secret(each.key_id, each.value),))
        except BadSecret as error:
            troubles.append(str(error))
    return tuple(keys), tuple(troubles)
