"""Tokens: messages that say "look at this subscription", in two lanes."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Final, TypedDict

from offload.runtime import aws
from offload.runtime.log import Logger
from offload.runtime.webhooks_out.health import EndpointHealth

# SQS: 10 messages a batch (quotas-messages.html, read 2026-11-23).
BATCH: Final = 10


class _Group(TypedDict):
    MessageGroupId: str


class QueueTokens:
    """Sends tokens to the queue of endpoints that are well, or to that of those in trouble or not known yet."""

    def __init__(self, well: str, trouble: str) -> None:
        self._well = well
        self._trouble = trouble

    def send(self, subscription: str, *, proven: bool, delay: timedelta = timedelta(0)) -> None:
        """Sends one, to come after `delay`, at most 15 minutes, in whole seconds."""
        aws.sqs().send_message(
            QueueUrl=self._well if proven else self._trouble,
            MessageBody=_body(subscription),
            DelaySeconds=int(delay.total_seconds()),
            **_group(subscription),
        )

    def send_all(self, healths: Mapping[str, EndpointHealth]) -> None:
        """Sends one for each of the subscriptions; raises TokensNotTaken when the queue does not take all of them."""
        for queue, proven in ((self._well, True), (self._trouble, False)):
            names = [name for name, health in healths.items() if health.proven is proven]
            for start in range(0, len(names), BATCH):
                self._send_batch(queue, names[start : start + BATCH])

    def _send_batch(self, queue: str, names: Iterable[str]) -> None:
        entries: Any = [
            {"Id": str(index), "MessageBody": _body(name), **_group(name)} for index, name in enumerate(names)
        ]
        answer = aws.sqs().send_message_batch(QueueUrl=queue, Entries=entries)
        if failed := answer.get("Failed"):
            raise TokensNotTaken(f"{len(failed)} of {len(entries)} tokens: {failed[0].get('Message', '')}")


@dataclass(frozen=True)
class Token:
    """A message of a lane: its subscription, and what deletes it."""

    subscription: str
    receipt: str = field(repr=False)


class Lane:
    """A queue of tokens; what it raises is an exception of AWS's client."""

    def __init__(self, url: str, log: Logger) -> None:
        self._url = url
        self._log = log

    def take(self, most: int) -> Sequence[Token]:
        """At most `most` tokens, and ten, of those that are there."""
        answer = aws.sqs().receive_message(QueueUrl=self._url, MaxNumberOfMessages=min(most, BATCH), WaitTimeSeconds=0)
        found = []
        for message in answer.get("Messages", ()):
            try:
                name = subscription_of(message["Body"])
            except ValueError:
                # Lambda's poller gets it next, and its batch says what it is.
                continue
            found.append(Token(name, message["ReceiptHandle"]))
        return found

    def delete(self, tokens: Sequence[Token]) -> None:
        """Deletes them, ten at the most; one that SQS does not let go comes again, which does no harm."""
        entries: Any = [{"Id": str(index), "ReceiptHandle": each.receipt} for index, each in enumerate(tokens)]
        answer = aws.sqs().delete_message_batch(QueueUrl=self._url, Entries=entries)
        if failed := answer.get("Failed"):
            self._log.warning("tokens not deleted", count=len(failed), why=failed[0].get("Message", ""))


class TokensNotTaken(Exception):
    """The queue did not take every token."""


def subscription_of(body: str) -> str:
    """The subscription that a token names; raises ValueError for what is no token."""
    read = json.loads(body)
    if not isinstance(read, dict) or not isinstance(name := read.get("subscription"), str):
        raise ValueError("not a token")
    return name


def _body(subscription: str) -> str:
    return json.dumps({"subscription": subscription})


def _group(subscription: str) -> _Group:
    """Makes a standard queue a fair one: who takes more than a tenth of the senders' time comes after the others.

    docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/sqs-fair-queues-detailed.html, read 2026-11-29.
    """
    return {"MessageGroupId": subscription}
