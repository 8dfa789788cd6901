"""GitHub's webhooks that somebody listens to: a contract a type, whose payload the listener reads as what it needs."""

from __future__ import annotations

from typing import ClassVar, Final

from offload.contracts.webhooks_in.received import WebhookReceived, received_type


class ReleaseCreated(WebhookReceived, frozen=True, kw_only=True):
    """A draft was saved, or a release was published without having been a draft."""

    TYPE: ClassVar[str] = received_type("github", "release.created")


class ReleasePublished(WebhookReceived, frozen=True, kw_only=True):
    """A release, a pre-release or a draft was published."""

    TYPE: ClassVar[str] = received_type("github", "release.published")


class ReleaseReleased(WebhookReceived, frozen=True, kw_only=True):
    """A release was published, or a pre-release became a release."""

    TYPE: ClassVar[str] = received_type("github", "release.released")


class ReleasePrereleased(WebhookReceived, frozen=True, kw_only=True):
    """A pre-release was published, or a release became one."""

    TYPE: ClassVar[str] = received_type("github", "release.prereleased")


class ReleaseEdited(WebhookReceived, frozen=True, kw_only=True):
    """A release's text or tag was changed."""

    TYPE: ClassVar[str] = received_type("github", "release.edited")


class ReleaseUnpublished(WebhookReceived, frozen=True, kw_only=True):
    """A release became a draft again."""

    TYPE: ClassVar[str] = received_type("github", "release.unpublished")


class ReleaseDeleted(WebhookReceived, frozen=True, kw_only=True):
    """A release is gone, for good."""

    TYPE: ClassVar[str] = received_type("github", "release.deleted")


class PullRequestClosed(WebhookReceived, frozen=True, kw_only=True):
    """A pull request was merged, or closed without."""

    TYPE: ClassVar[str] = received_type("github", "pull_request.closed")


RELEASES: Final[tuple[type[WebhookReceived], ...]] = (
    ReleaseCreated,
    ReleasePublished,
    ReleaseReleased,
    ReleasePrereleased,
    ReleaseEdited,
    ReleaseUnpublished,
    ReleaseDeleted,
)
"""Everything that can change what is said of a release."""
