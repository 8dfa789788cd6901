"""What a webhook of GitHub changes in the log. Decisions only; nothing here acts."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Final
from urllib.parse import urlsplit

from msgspec import Meta, Struct

from offload.contracts.webhooks_in.received import WebhookReceived

_GONE: Final = frozenset({"deleted", "unpublished"})
# What an entry keeps of a text: GitHub allows 125,000 characters, and nobody reads them in a list.
_TITLE_CHARACTERS: Final = 300
_BODY_CHARACTERS: Final = 4000


class Entry(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One entry of the log: texts as GitHub gave them, cut, not yet safe to show."""

    at: datetime
    kind: str
    repository: str
    name: str
    """`1.2.0` of a release, `#7` of a pull request."""
    title: str = ""
    url: str = ""
    by: str = ""
    body: str = ""


class Change(Struct, frozen=True, kw_only=True):
    """What a webhook says of one release or pull request.

    Of all changes of one subject the greatest `version` holds; `entry` is what the log then has of it, None for
    nothing. `month` is the one that the webhook's time is in, whether or not there is an entry.
    """

    subject: str
    version: str
    month: str | None
    entry: Entry | None


class _User(Struct):
    login: str | None = None


class _Repository(Struct):
    full_name: str | None = None


class _Release(Struct):
    id: int
    tag_name: str | None = None
    name: str | None = None
    body: str | None = None
    html_url: str | None = None
    draft: bool | None = None
    prerelease: bool | None = None
    author: _User | None = None
    published_at: datetime | None = None
    updated_at: datetime | None = None


class _PullRequest(Struct):
    id: int
    number: int
    title: str | None = None
    html_url: str | None = None
    user: _User | None = None
    merged_at: datetime | None = None
    updated_at: datetime | None = None


class _Body(Struct):
    action: Annotated[str, Meta(max_length=100)]
    release: _Release | None = None
    pull_request: _PullRequest | None = None
    repository: _Repository | None = None


def change_of(webhook: WebhookReceived) -> Change | None:
    """What a webhook changes; None when it is nothing that the log has. Raises BrokenContract naming the field.

    It goes by the body alone: GitHub signs that, and not the header that names the event.
    """
    body = webhook.read(_Body)
    repository = _text(body.repository.full_name if body.repository else "")
    if body.release is not None:
        return _of_release(webhook, body.action, body.release, repository)
    merged = body.pull_request
    if merged is None or merged.merged_at is None or body.action != "closed":
        return None
    at = _utc(merged.merged_at)
    entry = Entry(
        at=at,
        kind="Merged",
        repository=repository,
        name=f"#{merged.number}",
        title=_text(merged.title),
        url=merged.html_url or "",
        by=_text(merged.user.login if merged.user else ""),
    )
    return Change(
        subject=_subject("pull-request", merged.id, merged.html_url),
        version=_version(webhook, merged.updated_at, final=False),
        month=_month(at),
        entry=entry,
    )


def _of_release(webhook: WebhookReceived, action: str, release: _Release, repository: str) -> Change:
    at = None if release.published_at is None else _utc(release.published_at)
    entry = None
    if at is not None and not release.draft and action not in _GONE:
        name, title = _text(release.tag_name), _text(release.name)
        entry = Entry(
            at=at,
            kind="Pre-release" if release.prerelease else "Release",
            repository=repository,
            name=name,
            title="" if title == name else title,
            url=release.html_url or "",
            by=_text(release.author.login if release.author else ""),
            body=(release.body or "")[:_BODY_CHARACTERS],
        )
    return Change(
        subject=_subject("release", release.id, release.html_url),
        version=_version(webhook, release.updated_at, final=action == "deleted"),
        month=None if at is None else _month(at),
        entry=entry,
    )


def _subject(kind: str, number: int, url: str | None) -> str:
    """Ids are unique on one host only: github.com, or a company's own."""
    try:
        host = urlsplit(url or "").hostname or ""
    except ValueError:
        host = ""
    return f"{kind}#{host[:250]}#{number}"


def _version(webhook: WebhookReceived, updated_at: datetime | None, *, final: bool) -> str:
    """Sorts as text: what is final after all else, then by GitHub's time, then by ours, then by anything lasting.

    GitHub's times are whole seconds, and its older servers give a release none: then it is when it came to us.
    """
    came = _utc(webhook.received_at).isoformat(timespec="microseconds")
    updated = came if updated_at is None else _utc(updated_at).isoformat(timespec="microseconds")
    return f"{int(final)} {updated} {came} {webhook.body_sha256}"


def _text(value: str | None) -> str:
    return (value or "").strip()[:_TITLE_CHARACTERS]


def _utc(moment: datetime) -> datetime:
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)


def _month(moment: datetime) -> str:
    return moment.date().isoformat()[:7]
