"""Turns GitHub's releases and merged pull requests into the shop's change log: one Markdown page a month."""

from __future__ import annotations

from offload.contracts.events.event import Event
from offload.contracts.webhooks_in.received import WebhookReceived
from offload.runtime import aws
from offload.runtime.events.consumer import consumer
from offload.runtime.settings import Settings
from shop.contracts.github import RELEASES, PullRequestClosed

from .changes import change_of
from .log import ChangeLog


class ReleaseNotesSettings(Settings, frozen=True, kw_only=True):
    """Where the log is kept, and where its pages are."""

    change_log_table: str
    change_log_bucket: str


settings = ReleaseNotesSettings.from_environment()


@consumer(*RELEASES, PullRequestClosed)
def handler(event: Event[WebhookReceived]) -> None:
    """Brings the log up to what the webhook says, unless it knows better already."""
    change = change_of(event.data)
    if change is not None:
        log = ChangeLog(settings.change_log_table, settings.change_log_bucket, dynamodb=aws.dynamodb(), s3=aws.s3())
        log.take(change)
