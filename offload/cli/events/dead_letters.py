"""Dead letters: what consumers gave up on, read from their dead-letter queues, redriven or dropped.

Three things put a message there, and each says why in its own way: the consumer's runtime (message attributes), SQS
itself when the function died each time (no attributes), and EventBridge when it could not hand an event to the queue
(attributes ERROR_CODE and ERROR_MESSAGE; eb-rule-dlq.html, read 2026-11-23).
"""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from offload.cli.deployment.failure import Failure
from offload.cli.deployment.resources import Consumer
from offload.cli.events import dropped
from offload.cli.events.dropped import Dropped
from offload.contracts.events.event import event_key
from offload.runtime.events.consumer import MARK_PREFIX

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient
    from mypy_boto3_sqs import SQSClient
    from mypy_boto3_sqs.type_defs import (
        DeleteMessageBatchRequestEntryTypeDef,
        MessageTypeDef,
        SendMessageBatchRequestEntryTypeDef,
    )

FUNCTION_DIED: Final = "function-died"
"""SQS moved the message by itself: the function ended without an answer at every attempt (crash, time-out)."""
UNDELIVERABLE: Final = "undeliverable"
"""EventBridge could not hand the event to the consumer's queue."""

DEFAULT_LIMIT: Final = 1_000
# SQS: 10 messages a batch call, 1 MiB all together (quotas-messages.html, read 2026-11-23).
_BATCH_COUNT: Final = 10
_BATCH_BYTES: Final = 1_048_576
# A listing holds its letters hidden until it has seen them all; after a crash of ours they come back by themselves.
_HIDDEN_SECONDS: Final = 900
# Long polling asks all of SQS's servers, so an empty answer means an empty queue; a short poll's does not.
LONG_POLL_SECONDS: Final = 1
_ANSWERS_WITHOUT_NEWS: Final = 3
REDRIVEN_TOGETHER: Final = 5_000
"""So many letters are read before the first is sent: a bound for memory, and for what SQS lets anyone hold."""


@dataclass(frozen=True)
class DeadLetter:
    """One message that was given up on. `id` is SQS's id of it; `body` is the message as the consumer got it.

    `failed_at` is ISO 8601; fields that nobody knows are empty (`attempt`: 0).
    """

    id: str
    consumer: str
    reason: str
    detail: str
    event_id: str
    event_type: str
    attempt: int
    request_id: str
    failed_at: str
    body: str = field(repr=False)

    def summary(self) -> dict[str, Any]:
        """All but the body, for a listing."""
        fields = asdict(self)
        del fields["body"]
        return fields


@dataclass(frozen=True)
class Wanted:
    """Which dead letters are meant; each field that is given has to fit.

    `id` is the letter's or its event's, `text` a part of the error's text, whatever its case; `since` and `until` bound
    the time at which the consumer gave up, both included.
    """

    consumer: str | None = None
    reason: str | None = None
    id: str | None = None
    event_type: str | None = None
    text: str | None = None
    since: datetime | None = None
    until: datetime | None = None

    @property
    def is_all(self) -> bool:
        """Whether nothing was chosen: every letter is meant."""
        return self == Wanted()

    def includes(self, letter: DeadLetter) -> bool:
        """Whether the letter is meant; the consumer is not looked at again."""
        return (
            self.reason in (None, letter.reason)
            and self.id in (None, letter.id, letter.event_id)
            and self.event_type in (None, letter.event_type)
            and (self.text is None or self.text.lower() in letter.detail.lower())
            and self._in_time(letter)
        )

    def _in_time(self, letter: DeadLetter) -> bool:
        if self.since is None and self.until is None:
            return True
        try:
            failed = datetime.fromisoformat(letter.failed_at)
        except ValueError:
            return False  # nobody knows when
        return (self.since is None or self.since <= failed) and (self.until is None or failed <= self.until)


@dataclass(frozen=True)
class Listing:
    """The letters found, by consumer and time; `complete` is False where a queue held more than the limit."""

    letters: tuple[DeadLetter, ...]
    complete: bool


@dataclass(frozen=True)
class Handled:
    """What became of the letters that were meant: `letters` were redriven or dropped, `stayed` SQS refused."""

    letters: tuple[DeadLetter, ...]
    stayed: tuple[DeadLetter, ...] = ()

    @property
    def by_consumer(self) -> dict[str, int]:
        """How many were redriven or dropped, by consumer."""
        return dict(Counter(letter.consumer for letter in self.letters))

    @property
    def by_reason(self) -> dict[str, int]:
        """How many were redriven or dropped, by reason."""
        return dict(Counter(letter.reason for letter in self.letters))

    @property
    def count(self) -> int:
        """How many were redriven or dropped."""
        return len(self.letters)

    @property
    def refused(self) -> int:
        """How many stayed."""
        return len(self.stayed)


_Letter: TypeAlias = "tuple[MessageTypeDef, DeadLetter]"


class DeadLetters:
    """The dead letters of some consumers.

    `wait_seconds` is how long an empty queue is waited for; 0 is only for a queue whose every answer is complete.
    """

    def __init__(self, sqs: SQSClient, consumers: Sequence[Consumer], *, wait_seconds: int = LONG_POLL_SECONDS) -> None:
        self._sqs = sqs
        self._consumers = tuple(consumers)
        self._wait_seconds = wait_seconds

    def listing(self, wanted: Wanted | None = None, *, limit: int = DEFAULT_LIMIT) -> Listing:
        """Looks into every queue and puts back what it saw; at most `limit` letters a queue.

        Meanwhile the letters are hidden from others who look, a second or two for a thousand.
        """
        wanted = wanted or Wanted()
        queues = self._queues(wanted)
        with ThreadPoolExecutor(max_workers=max(1, len(queues))) as threads:
            looked = list(threads.map(lambda queue: self._look(queue, limit), queues))
        letters = [letter for found, _ in looked for letter in found if wanted.includes(letter)]
        letters.sort(key=lambda letter: (letter.consumer, letter.failed_at, letter.id))
        return Listing(tuple(letters), all(complete for _, complete in looked))

    def redrive(self, wanted: Wanted | None = None, *, progress: Callable[[int], None] | None = None) -> Handled:
        """Sends the letters meant back into their consumers' queues, as they first came.

        Each is deleted only once it has been sent: a crash between the two leaves it in both places, and the consumer
        sees that it has done it already. What dies again meanwhile is left for the next redrive.
        """
        return self._handle(wanted or Wanted(), self._forward, progress)

    def drop(
        self,
        wanted: Wanted,
        because: str,
        *,
        dynamodb: DynamoDBClient,
        now: datetime,
        progress: Callable[[int], None] | None = None,
    ) -> Handled:
        """Deletes the letters meant, for good, once a record of each is in its consumer's inbox table.

        `because` is kept with the record, which the audit counts. Raises Failure, with nothing dropped, where a
        consumer has no such table.
        """
        for queue in self._queues(wanted):
            if queue.consumer.marks_table is None:
                raise Failure(f"{queue.consumer.name} has no inbox table, which is where a drop is recorded")

        def drop(queue: _Queue, batch: Sequence[_Letter]) -> list[_Letter]:
            for _, letter in batch:
                entry = Dropped(
                    key_of(letter), letter.event_type, letter.reason, letter.detail, because, dropped.now_text(now)
                )
                dropped.record(dynamodb, str(queue.consumer.marks_table), entry)
            return self._delete(queue, batch)

        return self._handle(wanted, drop, progress)

    def _handle(
        self,
        wanted: Wanted,
        act: Callable[[_Queue, Sequence[_Letter]], list[_Letter]],
        progress: Callable[[int], None] | None,
    ) -> Handled:
        queues = self._queues(wanted)
        with ThreadPoolExecutor(max_workers=max(1, len(queues))) as threads:
            parts = list(threads.map(lambda queue: self._handle_queue(queue, wanted, act, progress), queues))
        return Handled(
            tuple(letter for part in parts for letter in part.letters),
            tuple(letter for part in parts for letter in part.stayed),
        )

    def _handle_queue(
        self,
        queue: _Queue,
        wanted: Wanted,
        act: Callable[[_Queue, Sequence[_Letter]], list[_Letter]],
        progress: Callable[[int], None] | None,
    ) -> Handled:
        handled: list[DeadLetter] = []
        stayed: list[DeadLetter] = []

        def send(letters: Sequence[_Letter]) -> None:
            for batch in _batches(letters):
                gone = act(queue, batch)
                held.forget([message for message, _ in gone])
                ids = {letter.id for _, letter in gone}
                handled.extend(letter for _, letter in gone)
                stayed.extend(letter for _, letter in batch if letter.id not in ids)
                if progress:
                    progress(len(gone))

        with self._hold(queue) as held:
            started = self._server_time(queue)
            chosen: list[_Letter] = []
            for page in held.pages():
                # A letter that was sent may be back already, dead again: from then on only those from before count.
                old = [message for message in page if not handled or _sent_at(message) < started]
                chosen += [pair for pair in ((each, queue.letter(each)) for each in old) if wanted.includes(pair[1])]
                if len(chosen) >= REDRIVEN_TOGETHER:
                    send(chosen)
                    chosen = []
            send(chosen)
        return Handled(tuple(handled), tuple(stayed))

    def _queues(self, wanted: Wanted) -> list[_Queue]:
        queues = []
        for consumer in self._consumers:
            if wanted.consumer in (None, consumer.name, consumer.folder):
                queues.append(_Queue(consumer, consumer.dead_letter_queue_url, FUNCTION_DIED))
                if consumer.rule_dead_letter_queue_url:
                    queues.append(_Queue(consumer, consumer.rule_dead_letter_queue_url, UNDELIVERABLE))
        if wanted.consumer and not queues:
            known = ", ".join(consumer.name for consumer in self._consumers) or "none"
            raise Failure(f"there is no consumer '{wanted.consumer}': {known}")
        return queues

    def _look(self, queue: _Queue, limit: int) -> tuple[list[DeadLetter], bool]:
        letters: list[DeadLetter] = []
        with self._hold(queue) as held:
            for page in held.pages():
                letters += [queue.letter(message) for message in page]
                if len(letters) >= limit:
                    more = len(letters) > limit or next(held.pages(), [])
                    return letters[:limit], not more
        return letters, True

    @contextmanager
    def _hold(self, queue: _Queue) -> Iterator[_Held]:
        held = _Held(self._sqs, queue.url, self._wait_seconds)
        try:
            yield held
        finally:
            held.put_back()

    def _forward(self, queue: _Queue, batch: Sequence[_Letter]) -> list[_Letter]:
        entries: list[SendMessageBatchRequestEntryTypeDef] = [
            {"Id": str(number), "MessageBody": letter.body} for number, (_, letter) in enumerate(batch)
        ]
        answer = self._sqs.send_message_batch(QueueUrl=queue.consumer.queue_url, Entries=entries)
        sent = [batch[int(entry["Id"])] for entry in answer.get("Successful", [])]
        if len(self._delete(queue, sent)) < len(sent):
            raise Failure(
                f"{queue.consumer.name}: dead letters were sent again and could not be deleted; they are in both queues"
                " now, and the consumer does them once"
            )
        return sent

    def _delete(self, queue: _Queue, batch: Sequence[_Letter]) -> list[_Letter]:
        """Deletes the letters; returns those that are gone."""
        if not batch:
            return []
        deletions: list[DeleteMessageBatchRequestEntryTypeDef] = [
            {"Id": str(number), "ReceiptHandle": message["ReceiptHandle"]} for number, (message, _) in enumerate(batch)
        ]
        deleted = self._sqs.delete_message_batch(QueueUrl=queue.url, Entries=deletions)
        return [batch[int(entry["Id"])] for entry in deleted.get("Successful", [])]

    def _server_time(self, queue: _Queue) -> float:
        """The queue's own clock, since it stamps the letters; whole seconds, rounded down."""
        answer = self._sqs.get_queue_attributes(QueueUrl=queue.url, AttributeNames=["QueueArn"])
        date = answer["ResponseMetadata"]["HTTPHeaders"].get("date")
        return parsedate_to_datetime(date).timestamp() if date else float(int(time.time()))


class _Held:
    """Messages of one queue that were received and are hidden from everyone else."""

    def __init__(self, sqs: SQSClient, url: str, wait_seconds: int) -> None:
        self._sqs = sqs
        self._url = url
        self._wait_seconds = wait_seconds
        self._receipts: dict[str, str] = {}
        self._seen: set[str] = set()

    def pages(self) -> Iterator[list[MessageTypeDef]]:
        """The messages not seen before, until there are no more."""
        without_news = 0
        while without_news < _ANSWERS_WITHOUT_NEWS:
            answer = self._sqs.receive_message(
                QueueUrl=self._url,
                MaxNumberOfMessages=_BATCH_COUNT,
                VisibilityTimeout=_HIDDEN_SECONDS,
                WaitTimeSeconds=self._wait_seconds,
                MessageAttributeNames=["All"],
                MessageSystemAttributeNames=["All"],
            )
            messages = answer.get("Messages", [])
            if not messages:
                return
            self._receipts |= {message["MessageId"]: message["ReceiptHandle"] for message in messages}
            new = [message for message in messages if message["MessageId"] not in self._seen]
            self._seen |= {message["MessageId"] for message in new}
            without_news = 0 if new else without_news + 1
            if new:
                yield new

    def forget(self, messages: Sequence[MessageTypeDef]) -> None:
        """These are gone from the queue."""
        for message in messages:
            self._receipts.pop(message["MessageId"], None)

    def put_back(self) -> None:
        """Makes the rest visible again. What SQS refuses comes back by itself when its time is over."""
        receipts = list(self._receipts.values())
        for start in range(0, len(receipts), _BATCH_COUNT):
            batch = receipts[start : start + _BATCH_COUNT]
            self._sqs.change_message_visibility_batch(
                QueueUrl=self._url,
                Entries=[
                    {"Id": str(number), "ReceiptHandle": receipt, "VisibilityTimeout": 0}
                    for number, receipt in enumerate(batch)
                ],
            )


@dataclass(frozen=True)
class _Queue:
    """One dead-letter queue; `unmarked` is the reason of a message that carries none."""

    consumer: Consumer
    url: str
    unmarked: str

    def letter(self, message: MessageTypeDef) -> DeadLetter:
        said = {name: value.get("StringValue", "") for name, value in message.get("MessageAttributes", {}).items()}
        body = message.get("Body", "")
        event_id, event_type = _event_of(body)
        detail = said.get("detail", "")
        if self.unmarked == UNDELIVERABLE:
            detail = ": ".join(part for part in (said.get("ERROR_CODE"), said.get("ERROR_MESSAGE")) if part)
        elif "reason" not in said:
            detail = "the function ended without an answer at every attempt; its log says more"
        return DeadLetter(
            id=message["MessageId"],
            consumer=self.consumer.name,
            reason=said.get("reason", self.unmarked),
            detail=detail,
            event_id=said.get("event_id", event_id),
            event_type=said.get("event_type", event_type),
            attempt=int(said.get("attempt") or said.get("RETRY_ATTEMPTS") or 0),
            request_id=said.get("request_id", ""),
            failed_at=said.get("failed_at") or _iso(_sent_at(message)),
            body=body,
        )


def key_of(letter: DeadLetter) -> str:
    """The key that the event's inbox entry has, or would have."""
    try:
        message = json.loads(letter.body)
    except (ValueError, RecursionError):
        message = None
    message = message if isinstance(message, dict) else {}
    detail = message.get("detail")
    envelope: dict[str, Any] = detail if isinstance(detail, dict) else {}
    # A broken envelope is known by the bus's own names, as the consumer's runtime has it.
    named = message if letter.event_id.startswith("bus:") else envelope
    source, event_id = named.get("source"), envelope.get("id")
    # The letter's attribute leaves out what SQS does not take in one; the message has the id as it is.
    own = event_id if isinstance(event_id, str) and named is envelope else letter.event_id or f"letter:{letter.id}"
    return MARK_PREFIX + event_key(source if isinstance(source, str) else "", own)


def _event_of(body: str) -> tuple[str, str]:
    """The event's id and type as far as the message says them."""
    try:
        message = json.loads(body)
    except (ValueError, RecursionError):
        return "", ""
    if not isinstance(message, Mapping):
        return "", ""
    envelope = message.get("detail")
    inner: Mapping[str, object] = envelope if isinstance(envelope, Mapping) else {}
    bus_id = f"bus:{message['id']}" if isinstance(message.get("id"), str) else ""
    event_id, event_type = inner.get("id"), inner.get("type", message.get("detail-type"))
    return (event_id if isinstance(event_id, str) else bus_id), (event_type if isinstance(event_type, str) else "")


def _sent_at(message: MessageTypeDef) -> float:
    return int(message.get("Attributes", {}).get("SentTimestamp", "0")) / 1000


def _iso(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ") if seconds else ""


def _batches(chosen: Sequence[_Letter]) -> Iterator[list[_Letter]]:
    batch: list[_Letter] = []
    size = 0
    for message, letter in chosen:
        length = len(letter.body.encode())
        if batch and (len(batch) == _BATCH_COUNT or size + length > _BATCH_BYTES):
            yield batch
            batch, size = [], 0
        batch.append((message, letter))
        size += length
    if batch:
        yield batch
