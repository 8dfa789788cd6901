"""Publishes events on the bus: validated before anything is sent, in batches, with bounded retries by event."""

from __future__ import annotations

import os
import random
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from offload.client import connection
from offload.contracts.backoff import Uniform, full_jitter
from offload.contracts.events.claim import CLAIM_LIMIT, claim_key, claim_reference
from offload.contracts.events.entry import REQUEST_BYTES as REQUEST_BYTES
from offload.contracts.events.entry import REQUEST_ENTRIES as REQUEST_ENTRIES
from offload.contracts.events.entry import UNREADABLE_ANSWER, Entry, answered
from offload.contracts.events.entry import WHOLE_BYTES as WHOLE_BYTES
from offload.contracts.events.event import BrokenContract, Event

if TYPE_CHECKING:
    from mypy_boto3_events import EventBridgeClient
    from mypy_boto3_s3 import S3Client

# Of an entry: trying again is no use. Every other code is tried again (API_PutEventsResultEntry, read 2026-11-23).
_REFUSED: Final = frozenset(
    {
        "AccessDenied",
        "AccessDeniedException",
        "NoSuchBucket",
        "EventTooLarge",
        "InvalidArgument",
        "InvalidParameter",
        "MalformedDetail",
        "NotAuthorizedForDetailTypeException",
        "NotAuthorizedForSourceException",
    }
)
# The bus or the way to it is in trouble, not this event: it passes, and says nothing against the event.
_TRANSIENT: Final = frozenset(
    {
        "InternalException",
        "InternalFailure",
        "InternalServerError",
        "LimitExceededException",
        "ProvisionedThroughputExceededException",
        "RequestLimitExceeded",
        "RequestTimeout",
        "RequestTimeoutException",
        "ServiceUnavailable",
        "ServiceUnavailableException",
        "SlowDown",
        "ThrottledException",
        "Throttling",
        "ThrottlingException",
        "TooManyRequestsException",
    }
)
# The whole request was refused for what is in it; one of its entries may be the cause.
_REQUEST_AT_FAULT: Final = frozenset(
    {
        "InvalidRequestContentException",
        "RequestEntityTooLargeException",
        "RequestTooLarge",
        "SerializationException",
        "ValidationError",
        "ValidationException",
    }
)
_TOO_MANY_REQUESTS: Final = 429
_SERVER_ERRORS: Final = 500
_NAMED_IN_MESSAGE: Final = 5


class Failure(NamedTuple):
    """Why one event was not published."""

    event_id: str
    code: str
    message: str


class NotPublished(Exception):
    """Some events of a call were not published; the others were.

    A failure after a lost connection may have reached the bus all the same: publish it again, under the same id.
    """

    def __init__(self, failures: Sequence[Failure], published: Sequence[str]) -> None:
        self.failures: list[Failure] = list(failures)
        """The events that were not published, in the order they were given."""
        self.published: list[str] = list(published)
        """The ids of those that were."""
        named = "; ".join(f"{id_}: {code} ({message})" for id_, code, message in self.failures[:_NAMED_IN_MESSAGE])
        more = len(self.failures) - _NAMED_IN_MESSAGE
        super().__init__(
            f"{len(self.failures)} of {len(self.failures) + len(self.published)} events were not published: {named}"
            + (f"; and {more} more, see .failures" if more > 0 else "")
        )


class EventTooLarge(Exception):
    """An event is over what the bus takes, and there is no claims bucket, or it is over what a claim may have."""


@dataclass(frozen=True)
class Published:
    """What one call did."""

    count: int
    """Events published."""
    entries: int
    """Entries sent, repeats included."""
    claim_checks: int
    """Events whose data went to the claims bucket."""


@dataclass(frozen=True)
class Retries:
    """How long a call goes on: full jitter, doubling from `base` to `cap` seconds.

    An event is given up after `attempts`, everything that is left after `deadline` seconds. A request that is under way
    at the deadline is waited for.
    """

    attempts: int = 6
    deadline: float = 30.0
    base: float = 0.1
    cap: float = 5.0

    def backoff(self, attempt: int, uniform: Uniform) -> float:
        """Seconds to wait after an attempt, the first being 1."""
        return full_jitter(attempt, base=self.base, cap=self.cap, uniform=uniform)


@dataclass(frozen=True)
class Refusal:
    """Why an entry was not published, and whose fault it is."""

    code: str
    message: str
    transient: bool
    """The bus or the network is in trouble: the same entry may pass later."""
    everyone: bool = False
    """Nothing was held against this entry: the whole call was refused, or it was not even tried."""


@dataclass
class Sent:
    """What became of entries: refusals by the entry's place in the call; all others are on the bus."""

    refusals: dict[int, Refusal] = field(default_factory=dict)
    entries: int = 0
    claim_checks: int = 0


class ClaimStore:
    """Where the data of events goes that are too large for the bus: the environment's claims bucket."""

    def __init__(self, bucket: str, *, s3: S3Client) -> None:
        self.bucket = bucket
        self._s3 = s3

    def put(self, event_type: str, data: bytes) -> str:
        """Stores an event's data and returns its `dataref`. Raises what boto3 does.

        It is written even when it is there already: that starts its lifetime anew, and an old claim would otherwise
        expire before the new event.
        """
        key = claim_key(event_type, data)
        self._s3.put_object(Bucket=self.bucket, Key=key, Body=data, ContentType="application/json")
        return claim_reference(self.bucket, key)


class Publisher:
    """Publishes events on a bus. Threads may share one."""

    def __init__(
        self,
        bus: str,
        *,
        events: EventBridgeClient,
        claims: ClaimStore | None = None,
        retries: Retries | None = None,
        sleep: Callable[[float], None] = time.sleep,
        clock: Callable[[], float] = time.monotonic,
        jitter: Callable[[float, float], float] = random.uniform,
    ) -> None:
        """`events` is a boto3 client; its own retries come on top of ours, so make it with few (see `connect`)."""
        self.bus = bus
        self._events = events
        self._claims = claims
        self.retries: Final = retries or Retries()
        self._sleep = sleep
        self._clock = clock
        self._jitter = jitter

    @classmethod
    def connect(
        cls,
        bus: str,
        *,
        claims_bucket: str | None = None,
        endpoint_url: str | None = None,
        retries: Retries | None = None,
    ) -> Publisher:
        """A publisher with boto3 clients of its own, credentials and Region from the usual places.

        The bus's client does not retry, since `Retries` does; S3's tries three times in all, at the Region's own host.
        """
        import boto3
        from botocore.config import Config

        once = Config(connect_timeout=3, read_timeout=10, retries={"mode": "standard", "total_max_attempts": 1})
        thrice = Config(
            connect_timeout=3,
            read_timeout=20,
            retries={"mode": "standard", "total_max_attempts": 3},
            s3={"us_east_1_regional_endpoint": "regional"},
        )
        # The name that all other SDKs read, and the jobs' client; boto3 by itself reads AWS_DEFAULT_REGION only.
        session = boto3.Session(region_name=os.environ.get("AWS_REGION") or None)
        claims = (
            ClaimStore(claims_bucket, s3=session.client("s3", endpoint_url=endpoint_url, config=thrice))
            if claims_bucket
            else None
        )
        events = session.client("events", endpoint_url=endpoint_url, config=once)
        return cls(bus, events=events, claims=claims, retries=retries)

    @classmethod
    def from_environment(cls, *, retries: Retries | None = None) -> Publisher:
        """A publisher on the bus that OFFLOAD_BUS names, with OFFLOAD_CLAIMS_BUCKET; raises NotConnected."""
        return cls.connect(connection.bus(), claims_bucket=connection.claims_bucket(), retries=retries)

    def publish(self, *events: Event[Any]) -> None:
        """Publishes events. Raises as `publish_many` does."""
        self.publish_many(events)

    def publish_many(self, events: Iterable[Event[Any]]) -> Published:
        """Publishes events, in batches; returns what was sent.

        All of them are checked first: BrokenContract and EventTooLarge name the event, and nothing was sent. Raises
        NotPublished when the retries are used up. The events are held in memory: give a long stream in portions.
        """
        entries = [Entry.of(event) for event in events]
        for entry in entries:
            refusal = self._too_large(entry)
            if refusal:
                raise EventTooLarge(f"event '{entry.id}' ({entry.type}): {refusal}")
        sent = self.send(entries)
        if sent.refusals:
            raise NotPublished(
                [Failure(entries[at].id, why.code, why.message) for at, why in sorted(sent.refusals.items())],
                [entry.id for at, entry in enumerate(entries) if at not in sent.refusals],
            )
        return Published(len(entries), sent.entries, sent.claim_checks)

    def send(self, entries: Sequence[Entry]) -> Sent:
        """Sends entries that are encoded already, and says what became of each. Does not raise for a refused one."""
        return _Sending(self, entries).run()

    def _too_large(self, entry: Entry) -> str:
        if entry.size() <= WHOLE_BYTES:
            return ""
        if self._claims is None:
            return f"{entry.size()} bytes are over the bus's {WHOLE_BYTES}, and this publisher has no claims bucket"
        if len(entry.detail) > CLAIM_LIMIT:
            return f"{len(entry.detail)} bytes are over the {CLAIM_LIMIT} that a claim check may stand for"
        return ""


class _Item(NamedTuple):
    at: int
    entry: Entry
    size: int
    attempt: int = 1
    alone: bool = False


class _Sending:
    """One call of `send`, on its way."""

    def __init__(self, publisher: Publisher, entries: Sequence[Entry]) -> None:
        self._to = publisher
        self._retries = publisher.retries
        self._ends = publisher._clock() + self._retries.deadline
        self._left = deque(_Item(at, entry, entry.size()) for at, entry in enumerate(entries))
        self._sent = Sent()
        self._refused_calls = 0
        self._pause_step = 0

    def run(self) -> Sent:
        """Sends until everything is out, refused or given up on."""
        to = self._to
        last = Refusal("DeadlineExceeded", "not sent before the deadline", transient=True, everyone=True)
        while self._left:
            if self._pause_step:
                pause = self._retries.backoff(self._pause_step, to._jitter)
                # A pause beyond the deadline would only make the caller wait for the same answer.
                if to._clock() + pause >= self._ends:
                    return self._give_up(last)
                to._sleep(pause)
            if to._clock() >= self._ends:
                return self._give_up(last)
            self._pause_step = 0
            batch = self._claimed(self._batch())
            if not batch:
                continue
            refusal = self._put(batch)
            if refusal is None:
                self._refused_calls = 0
                continue
            last = refusal
            if refusal.code in _REQUEST_AT_FAULT:
                if len(batch) == 1:
                    self._sent.refusals[batch[0].at] = Refusal(refusal.code, refusal.message, transient=False)
                else:
                    self._left.extendleft(item._replace(alone=True) for item in reversed(batch))
                continue
            self._refused_calls += 1
            self._pause_step = self._refused_calls
            self._left.extendleft(reversed(batch))
            if not refusal.transient or self._refused_calls >= self._retries.attempts:
                return self._give_up(refusal)
        return self._sent

    def _batch(self) -> list[_Item]:
        """Takes as many entries as one request may have."""
        batch = [self._left.popleft()]
        size = batch[0].size
        while self._left and len(batch) < REQUEST_ENTRIES and not batch[0].alone and not self._left[0].alone:
            size += self._left[0].size
            if size > REQUEST_BYTES:
                break
            batch.append(self._left.popleft())
        return batch

    def _claimed(self, batch: list[_Item]) -> list[_Item]:
        """The batch with large data left in the claims bucket, without the entries for which that failed."""
        from botocore.exceptions import BotoCoreError, ClientError

        ready: list[_Item] = []
        for given in batch:
            item = given
            if item.size <= WHOLE_BYTES:
                ready.append(item)
                continue
            claims = self._to._claims
            too_large = self._to._too_large(item.entry)
            if claims is None or too_large:
                self._sent.refusals[item.at] = Refusal("EventTooLarge", too_large, transient=False)
                continue
            try:
                entry = item.entry.claimed(claims.put(item.entry.type, item.entry.data()))
            except BrokenContract as error:
                self._sent.refusals[item.at] = Refusal("BrokenContract", str(error), transient=False)
            except (BotoCoreError, ClientError) as error:
                why = _refusal(error)
                self._again(item, Refusal(why.code, f"claim check: {why.message}", transient=why.transient))
            else:
                self._sent.claim_checks += 1
                item = item._replace(entry=entry, size=entry.size())
                if item.size <= WHOLE_BYTES:
                    ready.append(item)
                else:
                    large = f"{item.size} bytes without its data are over the bus's {WHOLE_BYTES}"
                    self._sent.refusals[item.at] = Refusal("EventTooLarge", large, transient=False)
        return ready

    def _put(self, batch: list[_Item]) -> Refusal | None:
        """Sends one request; returns why all of it was refused, if it was."""
        from botocore.exceptions import BotoCoreError, ClientError

        requests: list[Any] = [item.entry.request(self._to.bus) for item in batch]
        self._sent.entries += len(batch)
        try:
            answer = self._to._events.put_events(Entries=requests)
        except (BotoCoreError, ClientError) as error:
            return _refusal(error)
        for item, why in reversed(list(zip(batch, answered(answer, len(batch)), strict=True))):
            if why and why.code == UNREADABLE_ANSWER:
                return Refusal(*why, transient=True, everyone=True)
            if why:
                self._again(item, Refusal(*why, transient=why.code in _TRANSIENT))
        return None

    def _again(self, item: _Item, why: Refusal) -> None:
        """Puts an entry that was refused back in its place, or gives up on it."""
        if why.code in _REFUSED or item.attempt >= self._retries.attempts:
            self._sent.refusals[item.at] = why
        else:
            self._pause_step = max(self._pause_step, item.attempt)
            self._left.appendleft(item._replace(attempt=item.attempt + 1))

    def _give_up(self, why: Refusal) -> Sent:
        for item in self._left:
            self._sent.refusals[item.at] = why
        return self._sent


def _refusal(error: Exception) -> Refusal:
    """What an error of boto3 says: ClientError is an answer of the service, any other is that there was none."""
    from botocore import exceptions
    from botocore.parsers import ResponseParserError

    if isinstance(error, exceptions.ClientError):
        code = str(error.response.get("Error", {}).get("Code", "Unknown"))
        status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
        transient = code in _TRANSIENT or status == _TOO_MANY_REQUESTS or status >= _SERVER_ERRORS
        return Refusal(code, str(error), transient=transient, everyone=True)
    # The way to the service fails and recovers; no credentials or no Region stay as they are.
    ways = exceptions.HTTPClientError, exceptions.ConnectionError, ResponseParserError
    return Refusal(type(error).__name__, str(error), transient=isinstance(error, ways), everyone=True)
