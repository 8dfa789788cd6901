"""How a function runs jobs: `@job(TYPE)` makes a function of (input, run) into the Lambda handler of a type's queues.

A message is a nudge: "job J may start its attempt N". The store says whether that is so, and gets to know what came of
it. So the handler answers success to SQS for every nudge whose job the store knows the next step of: retries are timed
by the store. An attempt that dies leaves its lease, which ends a second after the invocation's own deadline.
"""

from __future__ import annotations

import random
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Sized
from contextlib import suppress
from datetime import datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any, Final, Generic, Literal, NamedTuple, TypeVar

import msgspec
from botocore.exceptions import BotoCoreError, ClientError

from offload.contracts.events.event import Id
from offload.contracts.jobs.job import BULK_LIMIT, LONGEST_DELAY_SECONDS, Job, Progress, State, Submit
from offload.contracts.jobs.job_type import InputT, JobType, ResultT
from offload.runtime import aws, invocation
from offload.runtime.jobs import items
from offload.runtime.jobs.leases import Lease
from offload.runtime.jobs.refusals import AlreadyEnded, Contended, JobRefused, LostLease, TooManyChildren
from offload.runtime.jobs.slots import NotStarted
from offload.runtime.jobs.store import JobStore
from offload.runtime.log import Logger
from offload.runtime.reasons import Reason, passing
from offload.runtime.settings import MissingSetting, Settings
from offload.runtime.text import message_of, said

if TYPE_CHECKING:
    from aws_lambda_powertools.utilities.typing import LambdaContext

AFTER_DEADLINE: Final = timedelta(seconds=1)
"""How long after the invocation's deadline its lease ends: Lambda has killed the process by then."""
BETWEEN_WRITES: Final = timedelta(seconds=1)
"""Progress is written, and a cancel seen, at most this often."""

_DETAIL_LENGTH: Final = 500
_CONTENDED_WAIT: Final = (0.02, 0.2)
_UNAVAILABLE: Final = 503
_MOST_THINGS: Final = 2**63 - 1

_ItemT = TypeVar("_ItemT")


class JobSettings(Settings, frozen=True, kw_only=True):
    """What the BackgroundJob pattern puts into the function's environment, beside the store's settings."""

    offload_job: str
    offload_dead_letter_queue_url: str


class RetryAfter(Exception):
    """Raised by a handler that names its own next try, `seconds` from now; the attempt counts as failed."""

    def __init__(self, seconds: float, why: str = "") -> None:
        super().__init__(why or f"asked to be tried again after {seconds:g} s")
        # A year at the most, as any job's delay.
        self.wait = timedelta(seconds=min(max(0.0, seconds), LONGEST_DELAY_SECONDS))


class Permanent(Exception):
    """Raised by a handler for what no retry can help; the message is the job's error."""


class Stop(BaseException):
    """Ends a run from inside its handler. No `except Exception` of the handler's holds it; `finally` blocks run."""


class Cancelled(Stop):
    """Somebody cancelled the job: clean up in a `finally` block, or here and raise it again."""


class _Lost(Stop):
    """The run has no lease any more: whatever it would write now is somebody else's."""


class _Suspended(Stop):
    """The run gives up its turn until its children have ended."""

    def __init__(self, children: Sequence[str]) -> None:
        super().__init__()
        self.children = children


class Run:
    """One attempt at a job, as its handler sees it."""

    def __init__(self, store: JobStore, lease: Lease, content: Any, log: Logger) -> None:
        self.id: Final = lease.job.id
        self.attempt: Final = lease.attempt
        self.input: Final = content
        self.traceparent: Final = lease.job.traceparent
        self.lost = False
        self.cancel_seen = False
        self._store = store
        self._lease = lease
        self._log = log
        self._last_write = store.now()
        self._first: tuple[datetime, int] | None = None
        self._unwritten: Progress | None = None
        self._gathers = 0
        self._children: list[str] = []

    def each(self, items: Iterable[_ItemT], total: int | None = None) -> Iterator[_ItemT]:
        """Yields `items` and keeps progress: `done` counts those that the caller has finished with.

        `total` is the number of items, by default their `len()` where they have one. Raises Cancelled like `check`.
        """
        if total is None and isinstance(items, Sized):
            total = len(items)
        self._first = self._first or (self._store.now(), 0)
        self.check()
        for done, item in enumerate(items, start=1):
            yield item
            if self._may_write():
                self.progress(done, total)

    def progress(self, done: int, total: int | None = None, message: str = "") -> None:
        """Shows how far the run is, with an estimate of its end from the rate so far. Raises Cancelled like `check`."""
        now = self._store.now()
        done, total = whole(done), None if total is None else whole(total)
        if self._first is None:
            self._first = (now, done)
        finish_at = None
        since, done_then = self._first
        if total is not None and done > done_then:
            with suppress(OverflowError):  # at this rate it ends after the calendar
                finish_at = now + (now - since) / (done - done_then) * max(0, total - done)
        self._unwritten = Progress(done=done, total=total, message=message, finish_at=finish_at)
        self.check()

    def check(self) -> None:
        """A checkpoint: writes progress and looks for a cancel, at most once a second.

        Raises Cancelled when somebody asked for it, and from then on at each call.
        """
        if self.lost:
            raise _Lost
        if self.cancel_seen:
            raise Cancelled
        if not self._may_write():
            return
        self._last_write = self._store.now()
        try:
            self.cancel_seen = self._store.renew(self._lease, progress=self._unwritten, lease_until=self._lease.until)
        except LostLease:
            self.lost = True
            raise _Lost from None
        except (BotoCoreError, ClientError) as error:
            # The lease holds until the deadline with or without this write, and the next one is a second away.
            self._log.warning("progress was not written", job_id=self.id, error=str(error))
            return
        self._unwritten = None
        if self.cancel_seen:
            raise Cancelled

    def gather(
        self,
        child_type: JobType[InputT, ResultT],
        inputs: Sequence[InputT],
        need: Literal["all", "succeeded"] = "all",
    ) -> list[ResultT]:
        """Runs one job of `child_type` for each input, and returns their results in the order of the inputs.

        The first time the run ends here, and its function is free; once all children have ended the handler is called
        again from its beginning and gets the results. So up to here it must do the same each time: same gathers, same
        inputs. With `need="all"` a child that did not succeed fails the job for good; with `"succeeded"` its result is
        left out.
        """
        if len(inputs) > BULK_LIMIT:
            raise ValueError(f"gather: {len(inputs)} children, the limit is {BULK_LIMIT}: give each more to do")
        if not self._store.deals_with(child_type):
            raise Permanent(
                f"gather: the job's type does not say that it starts '{child_type.name}': add it to `starts`"
            )
        number, self._gathers = self._gathers, self._gathers + 1
        known = {child.id: child for child in self._store.children(self.id)} if self.attempt > 1 else {}
        before = sum(name.startswith(f"{self.id}-{number}-") for name in known)
        if before and before != len(inputs):
            raise Permanent(
                f"gather {number}: {len(inputs)} inputs, {before} the first time: it must do the same again"
            )
        children: list[Job] = []
        for index, content in enumerate(inputs):
            child_id = items.child_id(self.id, number, index)
            encoded = msgspec.json.encode(content)
            child = known.get(child_id) or self._start_child(child_type, child_id, encoded)
            if child.id == child_id and not _same(child.input, encoded, child_type):
                raise Permanent(
                    f"gather {number}: input {index} is not that of the first time: it must do the same again"
                )
            children.append(child)
            self._children.append(child.id)
            self.check()
        if any(not child.state.ended for child in children):
            raise _Suspended(self._children)
        return [
            self._result_of(child_type, child)
            for index, child in enumerate(children)
            if self._counts(child, index, need)
        ]

    def put(self, name: str, content: bytes, content_type: str) -> str:
        """Stores a file of the job's; returns its key in the jobs' bucket, for the job's result.

        Each attempt has its own folder: a late writer does not replace the file of the attempt that won.
        """
        if not name or name.startswith("/") or ".." in name.split("/"):
            raise ValueError(f"'{name}' is no name for a job's file: use letters, digits, '.', '-' and single '/'")
        self.check()
        key = f"results/{self.id}/{self.attempt}/{name}"
        aws.s3().put_object(Bucket=self._store.bucket, Key=key, Body=content, ContentType=content_type)
        return key

    def cancel_children(self) -> None:
        """Cancels what this attempt has started and the job's item does not name yet."""
        for child in self._children:
            found = self._store.get(child)
            if found.parent == self.id and not found.state.ended:
                with suppress(AlreadyEnded):
                    self._store.cancel(child, why="its parent was cancelled")

    def _may_write(self) -> bool:
        return self.lost or self.cancel_seen or self._store.now() - self._last_write >= BETWEEN_WRITES

    def _start_child(self, child_type: JobType[InputT, ResultT], child_id: str, content: bytes) -> Job:
        wish = Submit(type=child_type.name, input=msgspec.Raw(content), traceparent=self.traceparent)
        return self._store.submit(child_type, wish, parent=self.id, job_id=child_id).job

    def _counts(self, child: Job, index: int, need: Literal["all", "succeeded"]) -> bool:
        if child.state is State.SUCCEEDED:
            return True
        if need == "succeeded":
            return False
        raise Permanent(f"its child {index}, {child.id}, {child.state}" + (f": {child.error}" if child.error else ""))

    def _result_of(self, child_type: JobType[Any, ResultT], child: Job) -> ResultT:
        if child.result_ref is not None:
            content = aws.s3().get_object(Bucket=self._store.bucket, Key=child.result_ref)["Body"].read()
        else:
            content = bytes(child.result or b"null")
        try:
            return msgspec.json.decode(content, type=child_type.result)
        except msgspec.MsgspecError as error:
            raise Permanent(f"the result of its child {child.id}: {error}") from error


def whole(number: float) -> int:
    """A number of things, as progress keeps it: whole, and at most 2^63 - 1. Raises ValueError for what is none."""
    try:
        return min(max(int(number), -_MOST_THINGS), _MOST_THINGS)
    except (TypeError, ValueError, OverflowError) as error:
        raise ValueError(f"progress: {number!r} is no number of things") from error


def job(
    job_type: JobType[InputT, ResultT],
) -> Callable[[Callable[[InputT, Run], ResultT]], JobHandler[InputT, ResultT]]:
    """Makes a function of a type's input into the Lambda handler for its queues.

    What it returns is the job's result. When it raises, the type's retry policy says what comes next; `RetryAfter` and
    `Permanent` say it themselves. Raises ValueError for a durable type, MissingSetting at cold start.
    """
    if job_type.durable:
        raise ValueError(f"job type '{job_type.name}' is durable: @job runs short jobs only")

    def decorate(work: Callable[[InputT, Run], ResultT]) -> JobHandler[InputT, ResultT]:
        return JobHandler(job_type, work, JobStore.from_environment(job_type.family))

    return decorate


class _Nudge(msgspec.Struct, frozen=True):
    """What the store puts into a queue."""

    job: Id
    attempt: Annotated[int, msgspec.Meta(ge=1)]


class Outcome(NamedTuple):
    """What became of a nudge. `again` leaves it to SQS to bring it back."""

    name: str
    reason: str = ""
    detail: str = ""
    error: BaseException | None = None
    level: Literal["info", "warning", "error"] = "info"
    trace: str = ""
    again: bool = False


class AttemptHandler(ABC, Generic[InputT, ResultT]):
    """The Lambda handler for a type's queues: takes the lease of what a nudge names, and has the attempt done."""

    def __init__(self, job_type: JobType[InputT, ResultT], store: JobStore) -> None:
        self.type: Final = job_type
        self.store: Final = store
        self._settings = JobSettings.from_environment()
        if self._settings.offload_job != job_type.name:
            raise MissingSetting(
                f"OFFLOAD_JOB is '{self._settings.offload_job}', and the handler runs '{job_type.name}': "
                "give the BackgroundJob the type that its source has"
            )
        self.log: Final = Logger(service=job_type.name)

    @abstractmethod
    def attempt(self, lease: Lease) -> Outcome:
        """Does the attempt and writes what came of it; raises LostLease."""

    def lease_time(self, remaining: timedelta) -> timedelta:
        """How long the lease of an attempt is whose invocation has `remaining` time."""
        return remaining + AFTER_DEADLINE

    def failed(
        self,
        lease: Lease,
        text: str,
        *,
        permanent: bool,
        retry_after: timedelta | None = None,
        outage: bool = False,
        error: BaseException | None = None,
    ) -> Outcome:
        """Writes that the attempt has failed, for `text`: for good, or to be tried again; raises LostLease."""
        self.write(
            lease,
            lambda: self.store.fail(
                self.type, lease, text, permanent=permanent, retry_after=retry_after, outage=outage
            ),
        )
        return Outcome("failed", "permanent" if permanent else "may-pass", text, error, "error")

    def write(self, lease: Lease, change: Callable[[], None]) -> None:
        """Writes an outcome. While others write the same slots it tries again, as long as there is a lease."""
        while True:
            try:
                change()
            except Contended:
                if self.store.now() + 2 * AFTER_DEADLINE >= lease.until:
                    raise
                time.sleep(random.uniform(*_CONTENDED_WAIT))  # noqa: S311 -- jitter, not a secret
                continue
            return

    def __call__(self, event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
        """Handles the nudges of one invocation, as a rule one; returns the partial batch response (with-sqs.html)."""
        again = []
        for record in event["Records"]:
            began = time.perf_counter()
            nudge, outcome = self._take(record, context)
            self._say(record, nudge, outcome, time.perf_counter() - began, context)
            if outcome.again:
                again.append({"itemIdentifier": record["messageId"]})
        return {"batchItemFailures": again}

    def _take(self, record: Mapping[str, Any], context: LambdaContext) -> tuple[_Nudge | None, Outcome]:
        try:
            nudge = msgspec.json.decode(record["body"], type=_Nudge)
        except (msgspec.MsgspecError, RecursionError) as error:
            return None, self._dead_letter(record, f"not a nudge: {error}", context)
        until = self.store.now() + self.lease_time(timedelta(milliseconds=context.get_remaining_time_in_millis()))
        try:
            lease = self.store.start(self.type, nudge.job, nudge.attempt, until)
        except (BotoCoreError, ClientError, JobRefused) as error:
            return nudge, Outcome("retry", "store-unavailable", str(error), error, "error", again=True)
        if isinstance(lease, NotStarted):
            return nudge, Outcome("not-started", lease.reason)
        trace = lease.job.traceparent or ""
        try:
            with invocation.running(context), invocation.traced(trace or None):
                return nudge, self.attempt(lease)._replace(trace=trace)
        except LostLease as error:
            return nudge, Outcome("lost", "lost-lease", str(error), level="warning", trace=trace)
        except (BotoCoreError, ClientError, JobRefused) as error:
            # The store does not know how the attempt ended: its lease runs out, and the sweeper finds it.
            return nudge, Outcome("unknown", "outcome-not-written", str(error), error, "error", trace)

    def _dead_letter(self, record: Mapping[str, Any], detail: str, context: LambdaContext) -> Outcome:
        attributes = {
            "reason": Reason.UNDECODABLE.value,
            "detail": detail[:_DETAIL_LENGTH],
            "consumer": self.type.name,
            "attempt": str(record["attributes"]["ApproximateReceiveCount"]),
            "request_id": context.aws_request_id,
            "failed_at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        }
        try:
            aws.sqs().send_message(
                QueueUrl=self._settings.offload_dead_letter_queue_url,
                MessageBody=record["body"],
                MessageAttributes={
                    name: {"DataType": "String", "StringValue": value} for name, value in attributes.items() if value
                },
            )
        except (BotoCoreError, ClientError) as error:
            # The queue itself then brings the message back, and buries it in the end.
            return Outcome("retry", "queue-unavailable", str(error), error, "error", again=True)
        return Outcome("dead", Reason.UNDECODABLE.value, detail, level="error")

    def _say(
        self,
        record: Mapping[str, Any],
        nudge: _Nudge | None,
        outcome: Outcome,
        seconds: float,
        context: LambdaContext,
    ) -> None:
        """The attempt's canonical log line; never its input or result."""
        fields: dict[str, Any] = {
            "job_id": nudge.job if nudge else "",
            "job_type": self.type.name,
            "attempt": nudge.attempt if nudge else 0,
            "outcome": outcome.name,
            "duration_ms": round(seconds * 1000, 1),
            "trace_id": outcome.trace.split("-")[1] if outcome.trace.count("-") == 3 else "",
            "message_id": record["messageId"],
            "request_id": context.aws_request_id,
        }
        if outcome.reason:
            fields |= {"reason": outcome.reason, "detail": outcome.detail[:_DETAIL_LENGTH]}
        if outcome.level == "info":
            self.log.info("attempt", **fields)
        elif outcome.level == "warning":
            self.log.warning("attempt", **fields)
        else:
            self.log.error("attempt", exc_info=outcome.error, **fields)


class JobHandler(AttemptHandler[InputT, ResultT]):
    """Runs the work of a short type; `work` is the function as it was written."""

    def __init__(
        self, job_type: JobType[InputT, ResultT], work: Callable[[InputT, Run], ResultT], store: JobStore
    ) -> None:
        super().__init__(job_type, store)
        self.work: Final = work

    def attempt(self, lease: Lease) -> Outcome:
        """Runs the handler under the lease and writes what came of it; raises LostLease."""
        store, kind = self.store, self.type
        if lease.job.cancel_requested:
            self.write(lease, lambda: store.cancelled(kind, lease))
            return Outcome("cancelled", "before-it-ran")
        try:
            content = msgspec.json.decode(lease.job.input, type=kind.input)
        except msgspec.MsgspecError as error:
            return self.failed(lease, f"input: {error}", permanent=True)
        run = Run(store, lease, content, self.log)
        try:
            outcome = self._result(run, self.work(content, run))
        except Cancelled:
            run.cancel_children()
            self.write(lease, lambda: store.cancelled(kind, lease))
            return Outcome("cancelled")
        except _Suspended as suspended:
            try:
                return self._suspend(lease, suspended.children)
            except TooManyChildren as error:
                run.cancel_children()
                return self.failed(lease, str(error), permanent=True)
        except _Lost:
            run.lost = True
            outcome = b""
        except (Exception, SystemExit) as error:  # noqa: BLE001 -- whatever the handler raised, it is the outcome
            if not run.lost:
                return self._raised(lease, run, error)
            outcome = b""
        if run.lost:
            raise LostLease(f"job {lease.job.id}: attempt {lease.attempt} went on without a lease, and has stopped")
        self.write(lease, partial(store.succeed, kind, lease, outcome))
        return Outcome("succeeded")

    def _result(self, run: Run, result: ResultT) -> bytes:
        """The result as JSON that keeps the type's contract."""
        if run.lost:
            return b""
        try:
            encoded = msgspec.json.encode(result)
            msgspec.json.decode(encoded, type=self.type.result)
        except (msgspec.MsgspecError, TypeError, ValueError, OverflowError, RecursionError) as error:
            raise Permanent(f"result: the handler's {type(result).__name__} breaks its contract: {error}") from error
        return encoded

    def _raised(self, lease: Lease, run: Run, error: BaseException) -> Outcome:
        if run.cancel_seen:
            # Tried again it would be cancelled before it ran, and nobody would know what is left to clean up.
            text = f"its clean-up after a cancel failed: {said(error)}"
            return self.failed(lease, text, permanent=True, error=error)
        if isinstance(error, RetryAfter):
            return self.failed(lease, message_of(error), permanent=False, retry_after=error.wait)
        if isinstance(error, Permanent):
            return self.failed(lease, message_of(error), permanent=True)
        if isinstance(error, JobRefused):
            return self.failed(lease, said(error), permanent=error.status != _UNAVAILABLE)
        names = {kind.__name__ for kind in type(error).__mro__}
        if names & set(self.type.retry.permanent):
            return self.failed(lease, said(error), permanent=True, error=error)
        if outage := passing(error):
            return self.failed(lease, said(error), permanent=False, retry_after=outage.wait, outage=True, error=error)
        return self.failed(lease, said(error), permanent=False, error=error)

    def _suspend(self, lease: Lease, children: Sequence[str]) -> Outcome:
        job_id = lease.job.id
        self.write(lease, lambda: self.store.suspend(self.type, lease, children))
        # A cancel that came before this write did not know of the children.
        found = self.store.get(job_id)
        if found.cancel_requested and not found.state.ended:
            with suppress(AlreadyEnded):
                self.store.cancel(job_id)
            return Outcome("cancelled", "children", f"{len(children)} children")
        return Outcome("waiting", "children", f"{len(children)} children")


def _same(one: bytes | msgspec.Raw, other: bytes, job_type: JobType[Any, Any]) -> bool:
    """Whether two inputs say the same by their contract."""
    try:
        return bool(msgspec.json.decode(one, type=job_type.input) == msgspec.json.decode(other, type=job_type.input))
    except msgspec.MsgspecError as error:
        raise Permanent(f"the input of a child: {error}") from error
