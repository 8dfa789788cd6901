"""What every consumer shares: decoding, marks, partial failures, retries with growing delay, dead letters, log lines.

A handler decides; this module does the rest. Two kinds of handler:

`@consumer(A, B)` takes one event at a time and acts outside DynamoDB. Its events are marked as done after the batch.
`@transactional_consumer(A, B)` takes a batch's new events and returns their `Effect`: DynamoDB actions that are written
in one transaction with the marks, so that they happen once for each event however often it is delivered.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeVar

import msgspec
from botocore.exceptions import BotoCoreError, ClientError

from offload.contracts.backoff import equal_jitter, full_jitter
from offload.contracts.events.entry import REQUEST_BYTES, Entry
from offload.contracts.events.event import (
    LONGEST_NAME_BYTES,
    BrokenContract,
    Contracts,
    Envelope,
    Event,
    EventData,
    by_type,
    data_digest,
    read_envelope,
)
from offload.runtime import aws, bus, invocation
from offload.runtime.events import claim_check, sums
from offload.runtime.log import Logger
from offload.runtime.reasons import Reason, Refused, passing
from offload.runtime.settings import Settings
from offload.runtime.text import message_of, said

if TYPE_CHECKING:
    from aws_lambda_powertools.utilities.typing import LambdaContext

_DataT = TypeVar("_DataT", bound=EventData)

# DynamoDB: 100 actions a transaction (Constraints.html, read 2026-11-23).
_TRANSACTION_ACTIONS: Final = 100
# DynamoDB BatchGetItem: 100 keys a call (same page).
_BATCH_GET_KEYS: Final = 100
# An item has 400 KB (Constraints.html, read 2026-11-29); names, key and type of an inbox entry take less than the rest.
_KEPT_BYTES: Final = 390_000
_COMMIT_ATTEMPTS: Final = 8
_COMMIT_PAUSE_SECONDS: Final = 0.04
_COMMIT_LONGEST_PAUSE_SECONDS: Final = 2.56
_RETRY_BASE_SECONDS: Final = 2
# SQS: a message can stay invisible for 12 h; a quarter of an hour is as long as anybody wants to wait for a retry.
_RETRY_CAP_SECONDS: Final = 900
# A third party may ask for more; the message's 12 h are counted from when it was received.
_LONGEST_WAIT_SECONDS: Final = 6 * 3600
# As long as its message can be in the queue, and a day.
_FAILURES_KEPT_SECONDS: Final = 5 * 86_400
_DETAIL_LENGTH: Final = 500
CONFLICTS: Final = "conflicts"
"""The section of a consumer's sums that counts repeats with other data, by event type."""
MARK_PREFIX: Final = "event#"
"""What the partition keys of inbox entries begin with."""


class ConsumerSettings(Settings, frozen=True, kw_only=True):
    """What the EventConsumer pattern puts into the function's environment."""

    offload_consumer: str
    offload_queue_url: str
    offload_dead_letter_queue_url: str
    offload_marks_table: str
    offload_claims_bucket: str
    offload_attempts: int
    offload_bus: str = ""
    offload_patience_seconds: int = 0


class Effect(NamedTuple):
    """What a transactional handler wants done for the events it was given.

    `actions` are TransactWriteItems actions; `postings` sums to add; `publications` events to publish once the
    transaction is written, by the key of the event that caused them (`Event.key`): they are checked before the
    transaction, and kept with the event's inbox entry until they are published.
    """

    actions: Sequence[Mapping[str, Any]] = ()
    postings: Sequence[sums.Posting] = ()
    publications: Mapping[str, Sequence[Event[Any]]] = {}


class Arrival(NamedTuple):
    """An event with how it came: when the bus took it, to the second, and the replay that brought it again, if one did.

    A replayed event has the time at which the bus took it first.
    """

    event: Event[Any]
    at: datetime
    replay: str


class _Message(msgspec.Struct, frozen=True):
    """What EventBridge puts into the queue (eb-events-structure.html; of a replay, eb-replay-archived-event.html)."""

    id: str
    source: str
    type: str = msgspec.field(name="detail-type")
    detail: msgspec.Raw
    time: datetime | None = None
    replay: str = msgspec.field(name="replay-name", default="")


class _Record:
    """One SQS record on its way through: what it carries and what became of it."""

    def __init__(self, record: Mapping[str, Any]) -> None:
        self.message_id: str = record["messageId"]
        self.receipt: str = record["receiptHandle"]
        self.body: str = record["body"]
        self.attempt = int(record["attributes"]["ApproximateReceiveCount"])
        # Milliseconds since the epoch at which the bus handed it to the queue; of a redriven record, the redrive.
        self.sent_at = int(record["attributes"]["SentTimestamp"])
        self.event: Event[EventData] | None = None
        self.taken_at = datetime.fromtimestamp(self.sent_at / 1000, UTC)
        self.replay = ""
        self.digest = ""
        # The digest of the data that was done under the event's key: its own, or that of the copy that came first.
        self.kept = ""
        self.id = ""
        self.type = ""
        self.trace = ""
        self.outcome = ""
        self.reason = ""
        self.detail = ""
        self.error: BaseException | None = None
        self.seconds = 0.0

    def read(self, types: Contracts, bucket: str) -> None:
        """Decodes the body; raises Refused for what no retry can help."""
        try:
            message = msgspec.json.decode(self.body, type=_Message)
        except (msgspec.MsgspecError, RecursionError) as error:
            raise Refused(f"not an event from the bus: {error}", Reason.UNDECODABLE) from error
        # Until the envelope is read, the bus's own id is what the record can be found by.
        self.id, self.type = f"bus:{message.id}", message.type
        self.taken_at, self.replay = message.time or self.taken_at, message.replay
        try:
            envelope = read_envelope(message.detail)
            self.id, self.type = envelope.id, envelope.type
            self.trace = envelope.traceparent or ""
            self.digest = data_digest(envelope)
            if not types:
                self.event = _unread(envelope)
                return
            claimed = envelope.dataref
            data = claim_check.fetch(claimed, bucket=bucket, s3=aws.s3()) if claimed else None
            self.event = envelope.event(types, data)
        except BrokenContract as error:
            if not types:  # whoever takes every event takes this one too, by the bus's own names
                self.event = _unreadable(message)
                return
            raise Refused(str(error), Reason.BROKEN_CONTRACT) from error
        except claim_check.MissingClaim as error:
            raise Refused(str(error), Reason.CLAIM_MISSING) from error
        except claim_check.ForeignClaim as error:
            raise Refused(str(error), Reason.CLAIM_FOREIGN) from error

    def done(self, outcome: str) -> None:
        """The record is dealt with: `done`, or `duplicate` when it had been before."""
        self.outcome = outcome

    def failed(self, error: BaseException) -> None:
        """The record is to be retried, or given up on, for this error."""
        if isinstance(error, BrokenContract):
            # The handler read further into the data than the contract: no retry makes it another.
            error = Refused(str(error), Reason.BROKEN_CONTRACT)
        self.outcome = "failed"
        self.error = error
        self.reason = error.reason if isinstance(error, Refused) else ""
        self.detail = (message_of(error) if isinstance(error, Refused) else said(error))[:_DETAIL_LENGTH]


def consumer(
    *types: type[_DataT],
) -> Callable[[Callable[[Event[_DataT]], None]], Callable[[dict[str, Any], LambdaContext], dict[str, Any]]]:
    """Makes a function of one event into a Lambda handler for the consumer's queue.

    An event that was done before is not handled again; one whose handler raises is retried alone. The mark is written
    after the effect, so a crash between the two repeats the effect: pass `event.key` on as the idempotency key of what
    must not happen twice.
    """

    def decorate(handle: Callable[[Event[_DataT]], None]) -> Callable[..., dict[str, Any]]:
        return _Consumer(types, _one_by_one(handle), marks_first=True)

    return decorate


def transactional_consumer(
    *types: type[_DataT],
) -> Callable[[Callable[[Sequence[Event[_DataT]]], Effect]], Callable[[dict[str, Any], LambdaContext], dict[str, Any]]]:
    """Makes a function from new events to their `Effect` into a Lambda handler for the consumer's queue.

    The function may read; it may be called again with fewer events or after a conflict, so it must not act. No event is
    given to it twice once its effect is written. Without types it takes every event of the bus, its data unread.
    """

    def decorate(decide: Callable[[Sequence[Event[_DataT]]], Effect]) -> Callable[..., dict[str, Any]]:
        return _Consumer(types, lambda arrivals: decide([each.event for each in arrivals]), marks_first=False)

    return decorate


def consumer_of_arrivals(
    *types: type[EventData],
) -> Callable[[Callable[[Sequence[Arrival]], Effect]], Callable[[dict[str, Any], LambdaContext], dict[str, Any]]]:
    """As `transactional_consumer`, for a function that asks how its events came. A replayed one is given to it again.

    What such a function does by itself, it does before the marks are looked at, and for each copy anew.
    """

    def decorate(decide: Callable[[Sequence[Arrival]], Effect]) -> Callable[..., dict[str, Any]]:
        return _Consumer(types, decide, marks_first=False)

    return decorate


_Decide = Callable[[Sequence[Arrival]], Effect]


def _one_by_one(handle: Callable[[Event[Any]], None]) -> _Decide:
    def decide(arrivals: Sequence[Arrival]) -> Effect:
        for arrival in arrivals:
            with invocation.traced(arrival.event.traceparent or None):
                handle(arrival.event)
        return Effect()

    return decide


class _Consumer:
    """The Lambda handler around a consumer's decision."""

    def __init__(self, types: Iterable[type[EventData]], decide: _Decide, *, marks_first: bool) -> None:
        self._types = by_type(types)
        self._decide = decide
        self._marks_first = marks_first
        self._settings = ConsumerSettings.from_environment()
        self._log = Logger(service=self._settings.offload_consumer)

    def __call__(self, event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
        """Handles one batch of SQS records; returns the partial batch response (with-sqs.html)."""
        records = [_Record(record) for record in event["Records"]]
        readable: list[_Record] = []
        for record in records:
            began = time.perf_counter()
            try:
                record.read(self._types, self._settings.offload_claims_bucket)
                readable.append(record)
            except Exception as error:  # noqa: BLE001 -- whatever one record raises is that record's outcome
                record.failed(error)
            record.seconds = time.perf_counter() - began
        with invocation.running(context):
            self._handle(readable)
        for record in records:
            if record.outcome not in ("done", "duplicate"):
                self._retry_or_give_up(record, context)
        for record in records:
            self._say(record, context)
        return {"batchItemFailures": [{"itemIdentifier": r.message_id} for r in records if r.outcome == "retry"]}

    def _handle(self, records: list[_Record]) -> None:
        """Gives every readable record its outcome; the copies of one event share theirs."""
        copies: dict[str, list[_Record]] = {}
        for record in records:
            if record.event is not None:
                copies.setdefault(record.event.key, []).append(record)
        firsts = [same[0] for same in copies.values()]
        began = time.perf_counter()
        if self._marks_first:
            new = self._not_yet_marked(firsts)
            for record in new:
                self._attempt([record], self._decide)
            self._attempt([record for record in new if record.outcome == "handled"], lambda _: Effect(), commit=True)
        else:
            self._attempt(firsts, self._decide, commit=True)
        seconds = (time.perf_counter() - began) / max(1, len(firsts))
        for same in copies.values():
            first = same[0]
            first.seconds += seconds
            for copy in same[1:]:
                copy.outcome = "duplicate" if first.outcome in ("done", "duplicate") else first.outcome
                copy.reason, copy.detail, copy.error = first.reason, first.detail, first.error
            for record in same:
                if first.kept and record.digest != first.kept and record.outcome == "duplicate":
                    self._count_conflict(record, first.kept)

    def _not_yet_marked(self, records: list[_Record]) -> list[_Record]:
        table = self._settings.offload_marks_table
        marked: dict[str, str] = {}
        try:
            for start in range(0, len(records), _BATCH_GET_KEYS):
                keys = [_mark_key(_event(record)) for record in records[start : start + _BATCH_GET_KEYS]]
                found = aws.dynamodb().batch_get_item(
                    RequestItems={table: {"Keys": keys, "ProjectionExpression": "pk, digest", "ConsistentRead": True}}
                )
                marked |= {item["pk"]["S"]: _digest_of(item) for item in found["Responses"].get(table, [])}
                # What was throttled is handled as new: its commit will say whether it had been done.
        except (BotoCoreError, ClientError) as error:
            for record in records:
                record.failed(error)
            return []
        new = []
        for record in records:
            key = _mark_key(_event(record))["pk"]["S"]
            if key in marked:
                record.kept = marked[key]
                record.done("duplicate")
            else:
                new.append(record)
        return new

    def _attempt(self, records: list[_Record], decide: _Decide, *, commit: bool = False) -> None:
        """Handles the records together; when the handler fails on them, in halves, so that a bad one fails alone."""
        if not records:
            return
        try:
            if commit:
                self._commit(records, decide)
            else:
                decide([_arrival(record) for record in records])
                for record in records:
                    record.done("handled")
        except (Exception, SystemExit) as error:  # noqa: BLE001 -- whatever was raised, it is the records' outcome
            left = [record for record in records if record.outcome in ("", "handled")]
            if len(left) <= 1 or _same_for_all(error):
                for record in left:
                    record.failed(error)
            else:
                self._attempt(left[: len(left) // 2], decide, commit=commit)
                self._attempt(left[len(left) // 2 :], decide, commit=commit)

    def _commit(self, records: list[_Record], decide: _Decide) -> None:
        """Writes the effect of the records with their marks in one transaction, then publishes what it caused."""
        client = aws.dynamodb()
        for attempt in range(1, _COMMIT_ATTEMPTS + 1):
            new = [record for record in records if record.outcome in ("", "handled")]
            if not new:
                return
            effect = decide([_arrival(record) for record in new])
            tally = self._tally(new)
            postings = (tally, *effect.postings)
            if unknown := effect.publications.keys() - {_event(record).key for record in new}:
                raise LookupError(
                    f"publications of '{min(unknown)}': it is the key (Event.key) of no event given to it"
                )
            publications = {record.message_id: self._publications(record, effect) for record in new}
            marks = [self._mark(record, publications[record.message_id]) for record in new]
            actions: list[Any] = [*marks, *(posting.action() for posting in postings), *effect.actions]
            if len(actions) > _TRANSACTION_ACTIONS:
                if len(new) == 1:
                    raise Refused(
                        f"its effect has {len(actions)} actions, a transaction holds {_TRANSACTION_ACTIONS}",
                        Reason.TOO_LARGE,
                    )
                self._commit(new[: len(new) // 2], decide)
                self._commit(new[len(new) // 2 :], decide)
                return
            try:
                client.transact_write_items(TransactItems=actions)
            except client.exceptions.TransactionCanceledException as cancelled:
                reasons: list[Any] = cancelled.response["CancellationReasons"]
                for record, why in zip(new, reasons, strict=False):
                    if why.get("Code") == "ConditionalCheckFailed":
                        there: Mapping[str, Any] = why.get("Item", {})
                        self._publish(record, there.get("publish", {}).get("B"), outcome="duplicate")
                        record.kept = _digest_of(there)
                if any(record.outcome for record in new if record.outcome != "handled"):
                    continue
                if not _may_pass(reasons) or attempt == _COMMIT_ATTEMPTS:
                    raise
                time.sleep(full_jitter(attempt, base=_COMMIT_PAUSE_SECONDS, cap=_COMMIT_LONGEST_PAUSE_SECONDS))
                continue
            for record in new:
                record.kept = record.digest
                self._publish(record, publications[record.message_id], outcome="done")
            self._fold(postings)
            return
        raise Contended(f"other deliveries won each of {_COMMIT_ATTEMPTS} transactions")

    def _publications(self, record: _Record, effect: Effect) -> bytes | None:
        """The events that a record's effect causes, as its inbox entry keeps them until they are published.

        Raises Refused for one that the bus or a consumer would refuse: after the transaction it would be too late.
        """
        caused = effect.publications.get(_event(record).key)
        if not caused:
            return None
        entries = []
        for event in caused:
            entry = Entry.of(event)
            if entry.size() > REQUEST_BYTES:
                raise Refused(
                    f"event '{entry.id}' ({entry.type}), which it causes, has {entry.size()} bytes: the bus takes"
                    f" {REQUEST_BYTES}",
                    Reason.TOO_LARGE,
                )
            entries.append(msgspec.Raw(entry.detail))
        content = msgspec.json.encode(entries)
        if len(content) > _KEPT_BYTES:
            raise Refused(
                f"the {len(entries)} events that it causes have {len(content)} bytes: an inbox entry holds"
                f" {_KEPT_BYTES}",
                Reason.TOO_LARGE,
            )
        return content

    def _mark(self, record: _Record, publications: bytes | None) -> dict[str, Any]:
        event = _event(record)
        item: dict[str, Any] = {
            **_mark_key(event),
            "type": {"S": event.type},
            "sent": {"N": str(record.sent_at)},
            "digest": {"S": record.digest},
        }
        if publications:
            item["publish"] = {"B": publications}
        return {
            "Put": {
                "TableName": self._settings.offload_marks_table,
                "Item": item,
                "ConditionExpression": "attribute_not_exists(pk)",
                "ReturnValuesOnConditionCheckFailure": "ALL_OLD",
            }
        }

    def _count_conflict(self, record: _Record, kept: str) -> None:
        """Counts and logs a repeat whose data is not that of the event that was done: its id wins, its data does not.

        Each other content counts once, with an entry of its own beside the event's.
        """
        event = _event(record)
        table = self._settings.offload_marks_table
        entry = {"pk": _mark_key(event)["pk"], "sk": {"S": f"conflict#{record.digest}"}, "type": {"S": event.type}}
        posting = sums.Posting(table, [f"{event.key}#{record.digest}"], {CONFLICTS: {event.type: [1]}})
        put = {"Put": {"TableName": table, "Item": entry, "ConditionExpression": "attribute_not_exists(pk)"}}
        actions: Any = [put, posting.action()]
        client = aws.dynamodb()
        self._log.warning(
            "conflicting repeat", event_id=record.id, event_source=event.source, event_type=event.type, kept=kept
        )
        try:
            client.transact_write_items(TransactItems=actions)
        except client.exceptions.TransactionCanceledException as cancelled:
            reasons = cancelled.response["CancellationReasons"]
            if reasons[0].get("Code") != "ConditionalCheckFailed":
                record.failed(cancelled)
        except (BotoCoreError, ClientError) as error:
            record.failed(error)

    def _tally(self, records: list[_Record]) -> sums.Posting:
        """How many events of each type the transaction does: what the audit adds up, at no call of its own."""
        rows: sums.Rows = {}
        for record in records:
            sums.add(rows, record.type, [1])
        ids = [_mark_key(_event(record))["pk"]["S"] for record in records]
        return sums.Posting(self._settings.offload_marks_table, ids, {"done": rows})

    def _publish(self, record: _Record, publications: bytes | None, *, outcome: str) -> None:
        """Publishes what the record's mark still holds, then takes it off the mark; only then is the record done.

        A crash in between publishes again with the record's retry, under the same ids.
        """
        try:
            if publications:
                events = msgspec.json.decode(publications, type=list[msgspec.Raw])
                bus.publish(self._settings.offload_bus, [Entry.read(bytes(content)) for content in events])
                aws.dynamodb().update_item(
                    TableName=self._settings.offload_marks_table,
                    Key=_mark_key(_event(record)),
                    UpdateExpression="REMOVE publish",
                )
        except (bus.NotPublished, BotoCoreError, ClientError) as error:
            record.failed(error)
        else:
            record.done(outcome)

    def _fold(self, postings: Iterable[sums.Posting]) -> None:
        for posting in postings:
            if posting.folds:
                try:
                    sums.fold(aws.dynamodb(), posting.table, posting.shard)
                except Exception as error:  # noqa: BLE001 -- the batch is done, whatever became of the fold
                    # The sums are exact without it, and the next posting's turn comes soon.
                    self._log.warning("fold failed", table=posting.table, shard=posting.shard, error=message_of(error))

    def _retry_or_give_up(self, record: _Record, context: LambdaContext) -> None:
        """Hides the record for its next attempt, or keeps it as a dead letter with its reason when there is none."""
        try:
            wait = self._wait(record)
            if record.reason or wait is None:
                record.reason = record.reason or Reason.RETRIES_EXHAUSTED
                self._dead_letter(record, context)
                record.outcome = "dead"
                return
            record.outcome = "retry"
            aws.sqs().change_message_visibility(
                QueueUrl=self._settings.offload_queue_url,
                ReceiptHandle=record.receipt,
                VisibilityTimeout=wait,
            )
        except Exception as error:  # noqa: BLE001 -- one record's way to the dead letters is no other's
            # The queue itself then brings the record back after its visibility timeout, and buries it in the end.
            record.outcome = "retry"
            self._log.warning("queue call failed", event_id=record.id, error=message_of(error))

    def _wait(self, record: _Record) -> int | None:
        """Seconds until the record's next try; None when it has had all of them.

        What a third party's outage keeps from being done waits for the consumer's patience, and counts as no attempt.
        """
        patience = self._settings.offload_patience_seconds
        outage = passing(record.error) if patience else None
        if outage is not None:
            if time.time() - record.sent_at / 1000 >= patience:
                return None
            asked = math.ceil(outage.wait.total_seconds()) if outage.wait else 0
            return max(retry_delay(record.attempt), min(asked, _LONGEST_WAIT_SECONDS))
        failures = self._failures(record) if patience and not record.reason else record.attempt
        return None if failures >= self._settings.offload_attempts else retry_delay(failures)

    def _failures(self, record: _Record) -> int:
        """How often the record has failed by itself: SQS counts those times too that a third party did not answer."""
        answer = aws.dynamodb().update_item(
            TableName=self._settings.offload_marks_table,
            Key={"pk": {"S": f"failures#{record.message_id}"}, "sk": {"S": "failures"}},
            UpdateExpression="SET expires = :expires ADD failures :one",
            ExpressionAttributeValues={
                ":one": {"N": "1"},
                ":expires": {"N": str(round(time.time()) + _FAILURES_KEPT_SECONDS)},
            },
            ReturnValues="UPDATED_NEW",
        )
        return int(answer["Attributes"]["failures"]["N"])

    def _dead_letter(self, record: _Record, context: LambdaContext) -> None:
        attributes = {
            "reason": record.reason,
            "detail": record.detail,
            "consumer": self._settings.offload_consumer,
            "event_id": record.id,
            "event_type": record.type,
            "attempt": str(record.attempt),
            "request_id": context.aws_request_id,
            "failed_at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        }
        aws.sqs().send_message(
            QueueUrl=self._settings.offload_dead_letter_queue_url,
            MessageBody=record.body,
            MessageAttributes={
                name: {"DataType": "String", "StringValue": _printable(value)}
                for name, value in attributes.items()
                if value
            },
        )

    def _say(self, record: _Record, context: LambdaContext) -> None:
        """The record's canonical log line; never its payload."""
        fields: dict[str, Any] = {
            "event_id": record.id,
            "event_type": record.type,
            "consumer": self._settings.offload_consumer,
            "attempt": record.attempt,
            "outcome": record.outcome,
            "duration_ms": round(record.seconds * 1000, 1),
            "trace_id": record.trace.split("-")[1] if record.trace.count("-") == 3 else "",
            "message_id": record.message_id,
            "request_id": context.aws_request_id,
        }
        if record.outcome in ("done", "duplicate"):
            self._log.info("record", **fields)
            return
        fields |= {"reason": record.reason, "detail": record.detail}
        self._log.error("record", exc_info=None if isinstance(record.error, Refused) else record.error, **fields)


class Contended(Exception):
    """A batch lost every race for its marks; what is left of it is tried again with the record's retry."""


def retry_delay(attempt: int) -> int:
    """Seconds until the next try after this many attempts: doubling from 2 s to 15 min, half of it at random."""
    return round(equal_jitter(attempt, base=_RETRY_BASE_SECONDS, cap=_RETRY_CAP_SECONDS))


def _event(record: _Record) -> Event[Any]:
    if record.event is None:
        raise LookupError(f"{record.message_id} was never read")
    return record.event


def _arrival(record: _Record) -> Arrival:
    return Arrival(_event(record), record.taken_at, record.replay)


def mark_key(key: str) -> dict[str, Any]:
    """The key of an event's inbox entry in a consumer's table; `key` is the event's (`event_key`)."""
    return {"pk": {"S": f"{MARK_PREFIX}{key}"}, "sk": {"S": "mark"}}


def _mark_key(event: Event[Any]) -> dict[str, Any]:
    return mark_key(event.key)


def _unread(envelope: Envelope) -> Event[EventData]:
    """An event whose data is of no interest."""
    return Event(
        id=envelope.id, source=envelope.source, type=envelope.type, time=envelope.time, dataschema="", data=EventData()
    )


def _unreadable(message: _Message) -> Event[EventData]:
    """An event whose envelope is broken, by the bus's own names for it."""
    return Event(
        id=f"bus:{message.id}",
        source=message.source.encode()[:LONGEST_NAME_BYTES].decode(errors="ignore"),
        type=message.type,
        time=datetime.fromtimestamp(0, UTC),
        dataschema="",
        data=EventData(),
    )


def _digest_of(item: Mapping[str, Any]) -> str:
    """The digest in an inbox entry; empty in one that was written before there were any."""
    return str(item.get("digest", {}).get("S", ""))


def _same_for_all(error: BaseException) -> bool:
    """Whether the error says nothing of any one record: AWS is out of reach, throttles or denies.

    Halving the batch would then only ask more often. A transaction that is invalid is the fault of some record in it.
    """
    if isinstance(error, ClientError):
        reasons = error.response.get("CancellationReasons") or []
        codes = {error.response["Error"]["Code"], *(why.get("Code", "") for why in reasons)}
        return not codes & {"ValidationException", "ValidationError"}
    return isinstance(error, BotoCoreError)


def _may_pass(reasons: Sequence[Mapping[str, Any]]) -> bool:
    """Whether a cancelled transaction is worth another try: a lost race or a throttled item, and nothing else."""
    codes = {why.get("Code", "None") for why in reasons} - {"None"}
    return codes <= {
        "ConditionalCheckFailed",
        "TransactionConflict",
        "ThrottlingError",
        "ProvisionedThroughputExceeded",
    }


def _printable(text: str) -> str:
    """What SQS takes in a message attribute: no control characters but tab and line ends (SendMessage)."""
    return "".join(character for character in text if character.isprintable() or character in "\t\n\r") or "-"
