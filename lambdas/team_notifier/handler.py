"""Collects what the team should know, and tells it: at once in a quiet topic, and each minute what came since.

Two things call it: the queue, with events, and a schedule, each minute.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

import msgspec
from botocore.exceptions import BotoCoreError, ClientError

from offload.contracts.events.event import Event
from offload.runtime import aws, invocation
from offload.runtime.events.consumer import Effect, transactional_consumer
from offload.runtime.http.client import Client
from offload.runtime.http.failures import CallFailed, CredentialsMissing
from offload.runtime.log import Logger
from offload.runtime.settings import Settings

from .groups import Claim, Group, Groups
from .message import message_of
from .outcomes import outcome_of
from .topics import TOPICS, lines_of

if TYPE_CHECKING:
    from aws_lambda_powertools.utilities.typing import LambdaContext

# While there is no URL it is looked for so often at most, in seconds.
_LOOK_AGAIN: Final = 20.0


class TeamNotifierSettings(Settings, frozen=True, kw_only=True):
    """The table of what the team has not been told of."""

    notices_table: str


class _Hook:
    """The URL of the incoming webhook, which is a credential: whoever knows it can post."""

    def __init__(self) -> None:
        self._looked = float("-inf")
        self._doubted = False

    def doubt(self) -> None:
        """The URL did not serve: next time it is read anew, as somebody may have put another in its place."""
        self._doubted = True

    def url(self) -> str | None:
        """The URL; None while there is none."""
        doubted, self._doubted = self._doubted, False
        url = self._read(fresh=doubted)
        if url is None and time.monotonic() - self._looked >= _LOOK_AGAIN:
            self._looked = time.monotonic()
            url = self._read(fresh=True)
            if url is None:
                log.warning("no hook", outcome="kept: put its URL there by `offload integrations credentials slack`")
        return url

    def _read(self, *, fresh: bool) -> str | None:
        try:
            value = slack.secret(fresh=fresh).strip()
        except CredentialsMissing:
            return None
        except ClientError as error:
            if error.response["Error"]["Code"] != "ResourceNotFoundException":
                raise
            return None
        return value if value.startswith(("https://", "http://")) else None


settings = TeamNotifierSettings.from_environment()
log = Logger(service="team_notifier")
slack = Client.from_environment("slack")
hook = _Hook()


@transactional_consumer(*(topic.contract for topic in TOPICS.values()))
def collect(events: Sequence[Event[Any]]) -> Effect:
    """Adds what is to be told to its topic; the events' marks are in the same transaction."""
    return Effect(actions=_groups().additions(lines_of(events)))


def handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
    """Collects a batch of the queue, then tells what is due. The answer is the batch's alone: what is kept is safe."""
    with invocation.running(context):
        if "Records" not in event:
            if _waiting():
                _tell()
                _say_what_waits()
            else:
                log.info("waiting", events={})
            return {}
        answer = collect(event, context)
        try:
            _tell()
        except (BotoCoreError, ClientError):
            log.exception("telling", outcome="left for the next minute", request_id=context.aws_request_id)
        return answer


def _tell() -> None:
    """Sends one message for each topic in which one is due."""
    groups = _groups()
    for topic in TOPICS:
        if not groups.due(topic):
            continue
        url = hook.url()
        if url is None:
            return
        claim = groups.claim(topic)
        if claim is not None:
            _send(groups, claim, url)


def _send(groups: Groups, claim: Claim, url: str) -> None:
    """Sends a claimed group and writes what became of it. Whatever fails, the group stays, for a later minute."""
    message = msgspec.json.encode(message_of(TOPICS[claim.topic], claim.group, bare=claim.bare))
    failed: CallFailed | None = None
    try:
        slack.post(url, message, headers={"content-type": "application/json"})
    except CallFailed as error:
        failed = error
    outcome = outcome_of(failed, bare=claim.bare, now=datetime.now(UTC))
    fields: dict[str, Any] = {"topic": claim.topic, "events": claim.group.events, "doubtful": claim.group.doubtful}
    if outcome.name == "told":
        groups.told(claim)
        log.info("message", **fields, outcome=outcome.name)
        return
    if outcome.name == "unknown":
        again = groups.unknown(claim)
    else:
        again = groups.not_told(claim, again_after=outcome.again_after, counts=outcome.counts, bare=outcome.bare)
    if outcome.counts:
        hook.doubt()
    write = log.error if outcome.name == "refused" else log.warning
    write("message", **fields, outcome=outcome.name, detail=outcome.detail, again_in_seconds=round(again))


def _waiting() -> dict[str, Group]:
    """What waits, by topic; nothing of a topic of which nothing does."""
    groups = _groups()
    return {topic: found for topic in TOPICS if (found := groups.waiting(topic)).events}


def _say_what_waits() -> None:
    """One line with how much waits in which topic; with a hook also for how long: an alarm goes by that.

    While nothing waits there is no such field: the metric that is made of it costs for each hour in which it gets one.
    """
    waiting = _waiting()
    age = {}
    if waiting and hook.url() is not None:
        oldest = min(found.since for found in waiting.values())
        age["oldest_seconds"] = max(0, round(time.time() - oldest / 1000))
    log.info("waiting", events={topic: found.events for topic, found in waiting.items()}, **age)


def _groups() -> Groups:
    return Groups(settings.notices_table, aws.dynamodb())
