"""Rotation of the key that seals what subscriptions hold in secret (docs/adr/0017); at no moment is one unreadable.

The new key becomes the secret's current version. The one before still opens, and its label says that a rotation is
under way: it goes when every subscription is sealed under the new one. So a rotation that was cut short goes on when it
is asked for again, and no second one begins before its end.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from offload.cli.deployment.failure import Failure
from offload.cli.deployment.progress import Steps
from offload.cli.deployment.resources import Deployment
from offload.cli.deployment.secret_versions import replace_version, retire_version
from offload.cli.webhooks_out.api import Refused, SubscriptionsApi
from offload.contracts.secret_versions import CURRENT, PREVIOUS
from offload.contracts.webhooks_out.api import SubscriptionFilters

SETTLED_AFTER: Final = timedelta(minutes=1)
"""After it nobody seals under the old key: the API reads the key for each call, which takes 29 s at the most."""

_KEY_BYTES: Final = 48
_SHOWN_EVERY: Final = 500


@dataclass(frozen=True)
class RotatedKey:
    """How many subscriptions there are, how many were sealed anew, and the ids of those that no key opens."""

    subscriptions: int
    sealed_anew: int
    lost: tuple[str, ...]


def rotate_sealing_key(
    deployment: Deployment,
    api: SubscriptionsApi,
    steps: Steps,
    *,
    stack: str | None = None,
    settled_after: timedelta = SETTLED_AFTER,
    sleep: Callable[[float], None] = time.sleep,
) -> RotatedKey:
    """Rotates the key, or goes on with a rotation that was cut short; raises Failure, and the next call goes on.

    It is the key of a stack's sender, whose `api` is, or of the only one.
    """
    manager, secret = deployment.aws.secrets_manager, deployment.sender_of(stack).sealing_secret
    versions = _versions(manager, secret)
    current, left = versions[CURRENT], settled_after
    if PREVIOUS in versions:
        steps.say("a rotation was cut short: it goes on")
        before = versions[PREVIOUS]["VersionId"]
        left -= datetime.now(UTC) - current["CreatedDate"]
    else:
        before = current["VersionId"]
        with steps.step("Making a new key, the current one from now on"):
            new = replace_version(manager, secret, before, secrets.token_urlsafe(_KEY_BYTES))
        if new is None:
            raise Failure(
                "another rotation has begun at the same moment: it is under way, or ask again to go on with it"
            )
    if left > timedelta(0):
        seconds = left.total_seconds()
        with steps.step(f"Waiting {seconds:.0f} s for calls that may have read the old key"):
            sleep(seconds)
    rotated = _sealed_anew(api, steps)
    with steps.step("Retiring the old key"):
        retire_version(manager, secret, PREVIOUS, before)
    return rotated


def _sealed_anew(api: SubscriptionsApi, steps: Steps) -> RotatedKey:
    # Those that are created from now on are under the new key.
    found = api.subscriptions(SubscriptionFilters())
    anew, lost = 0, []
    with steps.step("Sealing every subscription anew") as notes:
        for number, each in enumerate(found, start=1):
            try:
                anew += api.reseal(each.id).resealed
            except Refused as refused:
                if refused.slug == "secret-lost":
                    lost.append(each.id)
                elif refused.slug != "no-such-subscription":  # it was deleted since
                    raise
            if number % _SHOWN_EVERY == 0:
                steps.say(f"{number:,} of {len(found):,}")
        notes.append(f"{anew:,} of {len(found):,} were under the old key")
    return RotatedKey(len(found), anew, tuple(lost))


def _versions(manager: Any, secret: str) -> Mapping[str, Any]:
    """The versions that have a label, by it; the one before is there while a rotation is under way."""
    listed = manager.list_secret_version_ids(SecretId=secret)["Versions"]
    by_label = {label: each for each in listed for label in each["VersionStages"]}
    if CURRENT not in by_label:
        raise Failure(f"the sealing key {secret} has no current version: look at it in Secrets Manager")
    return by_label
