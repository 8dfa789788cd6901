"""Published = done + waiting + dead + dropped, for each consumer and type; and what is missing, by id.

Of jobs see jobs_audit, of deliveries deliveries_audit.

`published` is what the journal, a consumer of every event, has marked; `done` is what the consumer itself has marked.
Both are tallies that are written in the transactions of the marks, so they count every event once and cost no call of
their own. What does not add up is looked for among the marks, one by one, and named.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import UTC, datetime
from itertools import islice
from typing import TYPE_CHECKING, Final, NamedTuple

from offload.cli.audit.deliveries import DeliveryAccount
from offload.cli.audit.deliveries import draw_up as draw_up_deliveries
from offload.cli.audit.jobs import JobAccount
from offload.cli.audit.jobs import draw_up as draw_up_jobs
from offload.cli.catalogue import catalogue
from offload.cli.deployment.failure import Failure
from offload.cli.deployment.resources import Consumer, Deployment
from offload.cli.events.dead_letters import DeadLetter, DeadLetters, Wanted, key_of
from offload.cli.events.dropped import Dropped, dropped_of
from offload.cli.events.journal import JOURNAL, journal_of
from offload.cli.webhooks_in.received import OVERDUE, Owed, owed
from offload.contracts.events.event import split_event_key
from offload.runtime.events import sums
from offload.runtime.events.consumer import CONFLICTS, MARK_PREFIX, mark_key
from offload.runtime.tables import batch_get

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

# DynamoDB: a partition key has no more (Constraints.html, read 2026-11-29).
_LONGEST_KEY_BYTES: Final = 2_048
_SHOWN: Final = 100
# Every dead letter has to be counted; a queue with more than this is a disaster that the alarm has told of.
_ALL: Final = 1_000_000
# An event on its way from one place to another is seen in neither; the second look finds it.
_LOOKS: Final = 3
_BETWEEN_LOOKS_SECONDS: Final = 1.0


class Line(NamedTuple):
    """One consumer's reconciliation of one event type, in distinct events; `missing` is what nobody has.

    `published` leaves out what was published before the consumer was there.
    """

    consumer: str
    event_type: str
    published: int
    done: int
    waiting: int
    dead: int
    missing: int
    dropped: int = 0


class Missing(NamedTuple):
    """An event that was published and is neither done, nor waiting, nor dead."""

    consumer: str
    event_type: str
    source: str
    event_id: str


class Conflict(NamedTuple):
    """How many repeats of one type came to a consumer under an id that was done before, with other data."""

    consumer: str
    event_type: str
    repeats: int


class Account(NamedTuple):
    """The account of an environment. `unread` is what the journal itself has not read: those may be published too.

    `jobs` is None in an environment without a job service. `webhooks` are those that the bus should have by now.
    `deliveries` is None in an environment that sends no webhooks.
    """

    lines: tuple[Line, ...]
    missing: tuple[Missing, ...]
    unread: int
    jobs: JobAccount | None = None
    webhooks: tuple[Owed, ...] = ()
    deliveries: DeliveryAccount | None = None
    conflicts: tuple[Conflict, ...] = ()
    unidentified: tuple[DeadLetter, ...] = ()
    """Dead letters whose event has no name that could be looked up; each counts as one dead event."""

    @property
    def events_add_up(self) -> bool:
        """Whether every published event is accounted for."""
        return not any(line.missing for line in self.lines)

    @property
    def adds_up(self) -> bool:
        """Whether every published event, every accepted job, stored webhook and owed delivery is accounted for."""
        return (
            self.events_add_up
            and (self.jobs is None or self.jobs.adds_up)
            and not self.webhooks
            and (self.deliveries is None or self.deliveries.adds_up)
        )


def audit(deployment: Deployment, *, pause: Callable[[float], None] = time.sleep) -> Account:
    """Draws up the account, and again when it does not add up, since events move while it is drawn up.

    Raises Failure when there is no journal.
    """
    account = _draw_up(deployment)
    for _ in range(_LOOKS - 1):
        if account.adds_up:
            break
        pause(_BETWEEN_LOOKS_SECONDS)
        account = _draw_up(deployment)
    return account


def _draw_up(deployment: Deployment) -> Account:
    consumers = deployment.consumers()
    journal = journal_of(deployment)
    if journal is None:
        raise Failure(f"environment {deployment.environment} has no journal (none of its stacks is a Platform)")
    client = deployment.aws.dynamodb
    # In this order an event that moves on while we read is counted twice rather than not at all.
    published, _ = _tallies(client, journal)
    queues = {consumer.name: _queue(deployment, consumer) for consumer in consumers}
    listing = DeadLetters(deployment.aws.sqs, consumers).listing(Wanted(), limit=_ALL)
    lines: list[Line] = []
    missing: list[Missing] = []
    unidentified: list[DeadLetter] = []
    conflicts: list[Conflict] = []
    for consumer in consumers:
        if consumer.source == JOURNAL:
            continue
        letters = [letter for letter in listing.letters if letter.consumer == consumer.name]
        dead, gone = _dead(client, consumer, letters)
        unidentified += [letter for letter in letters if not _can_be_looked_up(key_of(letter))]
        done, repeated = _tallies(client, consumer)
        conflicts += [Conflict(consumer.name, event_type, count) for event_type, count in sorted(repeated.items())]
        types = consumer.event_types or tuple(sorted(published))
        queue = queues[consumer.name]
        own = _lines(consumer, types, published, done, queue.waiting, dead, gone)
        lacking = [line.event_type for line in own if line.missing]
        if lacking:
            ended = {key_of(letter) for letter in letters} | {each.key for each in _dropped(client, consumer)}
            found = list(_missing(client, journal, consumer, lacking, ended))
            before = Counter(each.event_type for each, sent in found if sent < queue.created)
            # The tallies do not say when; the marks do.
            since = {event_type: published.get(event_type, 0) - before[event_type] for event_type in types}
            own = _lines(consumer, types, since, done, queue.waiting, dead, gone)
            if any(line.missing for line in own):
                missing += [each for each, sent in found if sent >= queue.created][:_SHOWN]
        lines += own
    service = deployment.job_service_or_none()
    jobs = draw_up_jobs(client, service.table, tuple(catalogue().job_types)) if service else None
    deliveries = _deliveries(deployment)
    unread = queues[journal.name].waiting
    return Account(
        tuple(lines),
        tuple(missing),
        unread,
        jobs,
        owed_webhooks(deployment),
        deliveries,
        tuple(conflicts),
        tuple(unidentified[:_SHOWN]),
    )


def _deliveries(deployment: Deployment) -> DeliveryAccount | None:
    """The account of all senders' deliveries; None where no webhooks are sent."""
    client = deployment.aws.dynamodb
    found = [draw_up_deliveries(client, each.table, stack=each.stack) for each in deployment.subscription_services]
    if not found:
        return None
    return DeliveryAccount(
        tuple(line for account in found for line in account.lines),
        tuple(odd for account in found for odd in account.odd),
    )


def owed_webhooks(deployment: Deployment, *, now: datetime | None = None) -> tuple[Owed, ...]:
    """The webhooks that were stored over five minutes ago and are not on the bus, although the relay had its chances.

    Of all stacks; none where none are received.
    """
    return tuple(islice(owed(deployment, before=(now or datetime.now(UTC)) - OVERDUE), _SHOWN))


def _lines(
    consumer: Consumer,
    types: Iterable[str],
    published: Mapping[str, int],
    done: Mapping[str, int],
    waiting: int,
    dead: Mapping[str, int],
    gone: Mapping[str, int],
) -> list[Line]:
    lines = []
    for event_type in types:
        ended = done.get(event_type, 0) + dead.get(event_type, 0) + gone.get(event_type, 0)
        owed = published.get(event_type, 0) - ended
        # A queue does not say of which types its messages are: they are taken for what is owed as far as they go.
        here = max(0, min(owed, waiting))
        waiting -= here
        lines.append(
            Line(
                consumer.name,
                event_type,
                published.get(event_type, 0),
                done.get(event_type, 0),
                here,
                dead.get(event_type, 0),
                max(0, owed - here),
                gone.get(event_type, 0),
            )
        )
    return lines


def _tallies(client: DynamoDBClient, consumer: Consumer) -> tuple[dict[str, int], dict[str, int]]:
    """How many events a consumer has done, and how many repeats with other data it has had, by type."""
    if consumer.marks_table is None:
        raise Failure(f"{consumer.name} has no marks: it cannot be audited")
    sections = sums.read(client, consumer.marks_table)
    done, conflicts = (
        {event_type: int(amounts[0]) for event_type, amounts in sections.get(section, {}).items()}
        for section in ("done", CONFLICTS)
    )
    return done, conflicts


class _Queue(NamedTuple):
    """How many messages a consumer's queue holds, and when it was made, in milliseconds since the epoch."""

    waiting: int
    created: int


def _queue(deployment: Deployment, consumer: Consumer) -> _Queue:
    answer = deployment.aws.sqs.get_queue_attributes(QueueUrl=consumer.queue_url, AttributeNames=["All"])
    said = answer["Attributes"]
    counts = (value for name, value in said.items() if name.startswith("ApproximateNumberOfMessages"))
    return _Queue(sum(int(count) for count in counts), int(said["CreatedTimestamp"]) * 1000)


def _dropped(client: DynamoDBClient, consumer: Consumer) -> Iterator[Dropped]:
    return dropped_of(client, str(consumer.marks_table))


def _dead(
    client: DynamoDBClient, consumer: Consumer, letters: Iterable[DeadLetter]
) -> tuple[Counter[str], Counter[str]]:
    """Distinct events that are dead, and that were dropped, by type; not one that another delivery of it has done."""
    keys = {key_of(letter): letter.event_type for letter in letters}
    dropped = {each.key: each.event_type for each in _dropped(client, consumer) if each.key not in keys}
    done = _marked(client, consumer, [*keys, *dropped])
    dead, gone = (Counter(event_type for key, event_type in of.items() if key not in done) for of in (keys, dropped))
    return dead, gone


def _can_be_looked_up(key: str) -> bool:
    """Whether a table can have the key: it is UTF-8, and not too long."""
    try:
        return len(key.encode()) <= _LONGEST_KEY_BYTES
    except UnicodeEncodeError:
        return False


def _marked(client: DynamoDBClient, consumer: Consumer, keys: Iterable[str]) -> set[str]:
    """Those of the marks' keys that the consumer has; a key that no table can have is in none."""
    table = str(consumer.marks_table)
    wanted = [mark_key(key.removeprefix(MARK_PREFIX)) for key in dict.fromkeys(keys) if _can_be_looked_up(key)]
    return {item["pk"]["S"] for item in batch_get(table, wanted, attributes="pk", client=client)}


def _missing(
    client: DynamoDBClient, journal: Consumer, consumer: Consumer, types: Iterable[str], dead: set[str]
) -> Iterator[tuple[Missing, int]]:
    """The events of the journal that the consumer has neither marked nor given up on, and when the bus had them.

    Reads the whole journal.
    """
    wanted = set(types)
    pages = client.get_paginator("scan").paginate(TableName=str(journal.marks_table), ConsistentRead=True)
    for page in pages:
        marks = {
            item["pk"]["S"]: (item["type"]["S"], int(item["sent"]["N"]))
            for item in page["Items"]
            if item["sk"]["S"] == "mark" and item["type"]["S"] in wanted
        }
        done = _marked(client, consumer, marks)
        for key, (event_type, sent) in marks.items():
            source, event_id = split_event_key(key.removeprefix(MARK_PREFIX))
            if key not in done and key not in dead:
                yield Missing(consumer.name, event_type, source, event_id), sent
