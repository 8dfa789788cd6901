"""The job type that brings deliveries back in numbers: those that were given up, and those that should exist."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from enum import StrEnum
from typing import Annotated, Final

from msgspec import Meta, Struct

from offload.contracts.events.event import Count, Id, Moment
from offload.contracts.jobs.job_type import JobType, Retry
from offload.contracts.webhooks_out.subscription import Tenant


class What(StrEnum):
    """What is brought back: deliveries that were `given up`, or those that should exist and do not."""

    FAILED = "failed"
    MISSING = "missing"


class Recovery(Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """What is to be brought back, from `since` to `until` (now), of a subscription, a tenant, an event type, or all.

    For `failed` the time is when a delivery was given up; for `missing`, when the bus took the event, and those from
    before a subscription was there are left out, unless `before_creation`: that needs `subscription`. With `dry_run`
    it is only counted.
    """

    action: What
    since: Moment
    until: Moment | None = None
    subscription: Id | None = None
    tenant: Tenant | None = None
    type: Annotated[str, Meta(max_length=256)] | None = None
    before_creation: bool = False
    dry_run: bool = False


class Recovered(Struct, frozen=True, kw_only=True):
    """What was `found`, and how much of it is `done`: sent again, or owed at last. Of a dry run nothing is.

    `gone` cannot be sent again, since what was sent is not kept any more. `at_most` are those beyond `found` that
    may be lacking: a filter, or whose event it is, depends on data that only the archive has. `until` is the end of the
    period that was looked at, where that is earlier than what was asked for: the archive is behind.
    """

    found: Count
    done: Count
    subscriptions: Count
    gone: Count = 0
    at_most: Count = 0
    until: Moment | None = None


DELIVERY_BATCH: Final = JobType(
    name="delivery_batch",
    input=Recovery,
    result=Recovered,
    timeout=timedelta(minutes=15),
    memory_mb=512,
    # A replay may take hours, and an attempt looks at it for minutes. Everything in it may be repeated.
    retry=Retry(attempts=30, first_wait=timedelta(seconds=10), longest_wait=timedelta(minutes=1)),
    # Two at once would count each other's work as their own.
    concurrency=1,
)
"""The recovery of an environment's first WebhookSender; the catalogue has it where the app sends webhooks."""


def recovery_named(name: str) -> JobType[Recovery, Recovered]:
    """The recovery of a further sender of the same environment, for the catalogue's jobs and the WebhookSender.

    Raises ValueError for a name that no job type can have.
    """
    return replace(DELIVERY_BATCH, name=name)
