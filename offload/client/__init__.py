"""What the monolith imports: it publishes events, submits jobs and manages subscriptions.

What is named here is the face of the package: a team imports it from `offload.client`. It is loaded when it is used, so
that a publisher loads no HTTP client; `Outbox` and `Relay` need the extra `outbox`. For Django see
`offload.client.django`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from offload.face import lazily

if TYPE_CHECKING:
    from offload.client.async_jobs import AsyncHandle, AsyncJobs
    from offload.client.connection import NotConnected
    from offload.client.job_calls import (
        JobCancelled,
        JobFailed,
        JobRefused,
        NotSucceeded,
        SomeRefused,
        TimedOut,
        Unreachable,
    )
    from offload.client.job_wish import Options, wanted
    from offload.client.jobs import Handle, Jobs
    from offload.client.outbox import HeldEvent, Outbox
    from offload.client.publisher import ClaimStore, EventTooLarge, NotPublished, Published, Publisher, Retries
    from offload.client.relay import Relay, RelayStopped
    from offload.client.subscriptions import SubscriptionRefused, Subscriptions

__all__ = [
    "AsyncHandle",
    "AsyncJobs",
    "ClaimStore",
    "EventTooLarge",
    "Handle",
    "HeldEvent",
    "JobCancelled",
    "JobFailed",
    "JobRefused",
    "Jobs",
    "NotConnected",
    "NotPublished",
    "NotSucceeded",
    "Options",
    "Outbox",
    "Published",
    "Publisher",
    "Relay",
    "RelayStopped",
    "Retries",
    "SomeRefused",
    "SubscriptionRefused",
    "Subscriptions",
    "TimedOut",
    "Unreachable",
    "wanted",
]

_WHERE: Final = {
    "AsyncHandle": "async_jobs",
    "AsyncJobs": "async_jobs",
    "ClaimStore": "publisher",
    "EventTooLarge": "publisher",
    "Handle": "jobs",
    "HeldEvent": "outbox",
    "JobCancelled": "job_calls",
    "JobFailed": "job_calls",
    "JobRefused": "job_calls",
    "Jobs": "jobs",
    "NotConnected": "connection",
    "NotPublished": "publisher",
    "NotSucceeded": "job_calls",
    "Options": "job_wish",
    "Outbox": "outbox",
    "Published": "publisher",
    "Publisher": "publisher",
    "Relay": "relay",
    "RelayStopped": "relay",
    "Retries": "publisher",
    "SomeRefused": "job_calls",
    "SubscriptionRefused": "subscriptions",
    "Subscriptions": "subscriptions",
    "TimedOut": "job_calls",
    "Unreachable": "job_calls",
    "wanted": "job_wish",
}

__getattr__ = lazily(__name__, _WHERE)
