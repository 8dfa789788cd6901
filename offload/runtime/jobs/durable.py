"""How a function runs long jobs: `@long_job(TYPE)` makes a function of (input, run) into a durable Lambda handler.

The handler is called again from its beginning whenever the run goes on: after a wait, an answer, a crash. What ran as
a step is not run again: its result is there. So all work stands in steps, and what is between them does the same each
time.
"""

from __future__ import annotations

import json
import math
import threading
import time
from collections.abc import Callable, Sequence
from datetime import timedelta
from fnmatch import fnmatchcase
from functools import partial
from typing import Any, Final, Generic, Literal, TypeVar

import msgspec
from aws_durable_execution_sdk_python import (
    CallbackTimeoutError,
    DurableContext,
    InvocationError,
    StepError,
    durable_execution,
)
from aws_durable_execution_sdk_python.config import (
    CallbackConfig,
    CompletionConfig,
    Duration,
    MapConfig,
    NestingType,
    StepConfig,
)
from aws_durable_execution_sdk_python.exceptions import SuspendExecution, UnrecoverableError
from aws_durable_execution_sdk_python.retries import RetryDecision
from botocore.exceptions import BotoCoreError, ClientError

from offload.contracts.events.event import Id
from offload.contracts.jobs.job import Answer, Progress, Question
from offload.contracts.jobs.job_type import InputT, JobType, ResultT
from offload.runtime import aws, invocation
from offload.runtime.jobs.leases import Lease
from offload.runtime.jobs.refusals import JobRefused, LostLease
from offload.runtime.jobs.run import AFTER_DEADLINE, BETWEEN_WRITES, Cancelled, Permanent, RetryAfter, Stop, whole
from offload.runtime.jobs.store import JobStore
from offload.runtime.log import Logger
from offload.runtime.text import message_of, said, stored

OPERATIONS: Final = 3_000
"""A durable execution's operations, a hard limit (gettingstarted-limits.html, "Durable functions", read 2026-11-24).

A step is one and so is each retry of it; a question four; a map one and its branches' steps.
"""
LONGEST_STEP_RESULT: Final = 256 * 1024
"""Bytes of a step's result as it is kept (the same page). Larger ones hang in SDK 3.0.0 instead of failing."""

_UNAVAILABLE: Final = 503
_ERROR_LENGTH: Final = 500  # bytes

_StepT = TypeVar("_StepT", bound=msgspec.Struct)
_ItemT = TypeVar("_ItemT")


class StepFailed(Exception):
    """A step failed for good, after its retries. `kind` is the name of the exception's class that it raised."""

    def __init__(self, step: str, kind: str, message: str) -> None:
        said = f"{kind}: {message}" if kind not in ("", Permanent.__name__) else message
        super().__init__(f"step '{step}': {said}")
        self.step = step
        self.kind = kind


class Unanswered(Exception):
    """Nobody answered a question in its time."""


class _Lost(Stop):
    """The job is somebody else's by now."""


class LongRun:
    """One attempt at a long job, as its handler sees it. It is made anew for each invocation."""

    def __init__(
        self, job_type: JobType[Any, Any], store: JobStore, lease: Lease, context: DurableContext, log: Logger
    ) -> None:
        self.id: Final = lease.job.id
        self.attempt: Final = lease.attempt
        self.traceparent: Final = lease.job.traceparent
        self.bucket: Final = store.bucket
        self._type = job_type
        self._store = store
        self._lease = lease
        self._context = context
        self._log = log
        self._operations = 0
        self._names: set[str] = set()
        self._progress = lease.job.progress or Progress()
        # An invocation may be shorter than the time between two writes: its first checkpoint always writes.
        self._last_write = store.now() - BETWEEN_WRITES
        self._writing = threading.Lock()
        self.cancel_seen = lease.job.cancel_requested
        self.lost = False

    def step(self, name: str, work: Callable[[], _StepT], result: type[_StepT]) -> _StepT:
        """What `work` returns, a `result`; it runs once, and is tried again by the type's retry policy when it raises.

        A step that was killed runs again, maybe beside its old copy: it must be idempotent. `name` is unique in the
        run, and one of the type's `steps`. Raises StepFailed, and Cancelled when somebody asked for it.
        """
        self._enter(name, operations=1)
        config: StepConfig = StepConfig(retry_strategy=self._again)
        try:
            content = self._context.step(
                lambda _: self._content(name, work, result, checkpoint=True), name=name, config=config
            )
        except StepError as error:
            raise StepFailed(name, _short(error.error_type), error.message or "") from error
        return msgspec.json.decode(content, type=result)

    def map(
        self,
        name: str,
        work: Callable[[_ItemT], _StepT],
        inputs: Sequence[_ItemT],
        result: type[_StepT],
        *,
        at_once: int = 10,
        need: Literal["all", "succeeded"] = "all",
    ) -> list[_StepT]:
        """Runs `work` for each of `inputs` as a step of its own, `at_once` of them beside each other.

        Returns their results in the order of the inputs. With `need="all"` a failed one fails the whole, when all have
        ended; with `"succeeded"` it is left out. Raises StepFailed, Cancelled.
        """
        self._enter(name, operations=1 + len(inputs))
        self.check()

        def branch(context: DurableContext, item: _ItemT, index: int, _: Sequence[_ItemT]) -> str:
            return context.step(
                lambda _: self._content(f"{name}[{index}]", partial(work, item), result, checkpoint=False),
                name=f"{name}-{index}",
                config=StepConfig(retry_strategy=self._again),
            )

        config: MapConfig[_ItemT] = MapConfig(
            max_concurrency=at_once,
            # All of them: a branch that fails does not leave others half done.
            completion_config=CompletionConfig.all_completed(),  # type: ignore[no-untyped-call]
            nesting_type=NestingType.FLAT,
        )
        batch: Any = self._context.map(inputs, branch, name=name, config=config)
        if need == "all" and (failed := batch.failed()):
            error = failed[0].error
            kind, message = (_short(error.type or ""), error.message or "") if error else ("", "it failed")
            raise StepFailed(f"{name}[{failed[0].index}]", kind, f"{message} ({len(failed)} of {len(inputs)} failed)")
        return [msgspec.json.decode(content, type=result) for content in batch.get_results()]

    def wait(self, name: str, duration: timedelta) -> None:
        """Waits at least a second without running, for as long as it takes; a cancel ends the wait."""
        self._enter(name, operations=1)
        self._context.wait(Duration.from_seconds(max(1, math.ceil(duration.total_seconds()))), name=name)

    def rest(self, name: str) -> None:
        """Goes on in a fresh invocation, with all of its 15 minutes."""
        self.wait(name, timedelta(seconds=1))

    def ask(self, name: str, text: str, within: timedelta) -> Answer:
        """Shows a question with the job and waits for a person's answer; raises Unanswered."""
        self._enter(name, operations=4)
        timeout = Duration.from_seconds(math.ceil(within.total_seconds()))
        callback = self._context.create_callback(name, config=CallbackConfig(timeout=timeout))
        question = Question(text=text, until=self._store.now() + within)

        def show(_: object) -> None:
            self._store.ask(self._lease, question, callback.callback_id)

        def answered(_: object) -> None:
            self._store.asked(self._lease)

        config: StepConfig = StepConfig(retry_strategy=self._again)
        self._context.step(show, name=f"{name}-asked", config=config)
        try:
            said = callback.result()
        except CallbackTimeoutError as error:
            self._context.step(answered, name=f"{name}-answered", config=config)
            raise Unanswered(f"'{name}': nobody answered within {within}: {text}") from error
        self._context.step(answered, name=f"{name}-answered", config=config)
        return msgspec.json.decode(said or b"", type=Answer)

    def progress(self, done: int, total: int | None = None, message: str = "") -> None:
        """Shows how far the run is; at most one write a second, and none of what an earlier invocation has shown."""
        counted = None if total is None else whole(total)
        self._progress = msgspec.structs.replace(self._progress, done=whole(done), total=counted, message=message)
        if not self._context.is_replaying():
            self.check()

    def check(self) -> None:
        """A checkpoint: writes progress, and looks for a cancel. Raises Cancelled when somebody asked for it."""
        if self.lost:
            raise _Lost
        if self.cancel_seen:
            raise Cancelled
        self._write()

    def put(self, name: str, content: bytes, content_type: str) -> str:
        """Stores a file of the job's, in a step; returns its key in the jobs' bucket."""
        key = f"{self.folder()}{name}"
        aws.s3().put_object(Bucket=self.bucket, Key=key, Body=content, ContentType=content_type)
        return key

    def folder(self) -> str:
        """Where the attempt's files are in the jobs' bucket: a prefix that ends in a slash."""
        return f"results/{self.id}/{self.attempt}/"

    def _write(self, *, at_once: bool = False) -> None:
        with self._writing:
            now = self._store.now()
            if not at_once and now - self._last_write < BETWEEN_WRITES:
                return
            self._last_write = now
            try:
                cancel = self._store.renew(self._lease, progress=self._progress, lease_until=self._lease.until)
            except LostLease:
                self.lost = True
                raise _Lost from None
        if cancel:
            self.cancel_seen = True
            raise Cancelled

    def _enter(self, name: str, *, operations: int) -> None:
        """Holds a step to what the type says, and the run to what an execution may do; raises Permanent."""
        if not any(fnmatchcase(name, declared) for declared in self._type.steps):
            raise Permanent(
                f"step '{name}' is none of the steps of '{self._type.name}' ({', '.join(self._type.steps)}): "
                "add it there, with a new version"
            )
        if name in self._names:
            raise Permanent(f"step '{name}' is there twice: a step's name is unique in its run")
        self._names.add(name)
        self._operations += operations
        if self._operations > OPERATIONS:
            raise Permanent(
                f"step '{name}' is operation {self._operations} of the run, the limit is {OPERATIONS}: "
                "do more in each step, or start another job"
            )

    def _content(self, name: str, work: Callable[[], _StepT], result: type[_StepT], *, checkpoint: bool) -> str:
        """Does a step's work; what it returns, as it is kept."""
        if checkpoint:
            self._progress = msgspec.structs.replace(self._progress, step=name)
            self.check()
        began = time.perf_counter()
        try:
            value = work()
        except Exception as error:
            if stored(text := message_of(error), _ERROR_LENGTH) == text:
                raise
            raise _shortened(error) from None
        try:
            encoded = msgspec.json.encode(value)
            msgspec.json.decode(encoded, type=result)
        except (msgspec.MsgspecError, TypeError, ValueError, OverflowError, RecursionError) as error:
            raise Permanent(f"its result is no {result.__name__}: {error}") from error
        content = encoded.decode()
        # The SDK keeps it as a JSON string.
        if (size := len(json.dumps(content))) > LONGEST_STEP_RESULT:
            raise Permanent(
                f"its result has {size} bytes, the limit is {LONGEST_STEP_RESULT}: "
                "put it into the bucket, and return its key"
            )
        seconds = time.perf_counter() - began
        self._log.info("step", job_id=self.id, attempt=self.attempt, step=name, duration_ms=round(seconds * 1000, 1))
        return content

    def _again(self, error: Exception, attempt: int) -> RetryDecision:
        """The type's retry policy, for a step."""
        retry = self._type.retry
        names = {kind.__name__ for kind in type(error).__mro__}
        refused = isinstance(error, JobRefused) and error.status != _UNAVAILABLE
        if isinstance(error, (Permanent, LostLease)) or refused or names & set(retry.permanent):
            return RetryDecision.no_retry()
        if attempt >= retry.attempts:
            return RetryDecision.no_retry()
        wait = error.wait if isinstance(error, RetryAfter) else retry.wait_after(attempt)
        self._operations += 1
        return RetryDecision.retry(Duration.from_seconds(max(1, math.ceil(wait.total_seconds()))))


class _Begun(msgspec.Struct, frozen=True):
    """What the starter gives an execution."""

    job: Id
    attempt: int


class LongJobHandler(Generic[InputT, ResultT]):
    """One invocation of a durable execution; `work` is the function as it was written, `type` what it runs."""

    def __init__(
        self, job_type: JobType[InputT, ResultT], work: Callable[[InputT, LongRun], ResultT], store: JobStore
    ) -> None:
        self.work: Final = work
        self.type: Final = job_type
        self._store = store
        self._log = Logger(service=job_type.name)

    def __call__(self, event: dict[str, Any], context: DurableContext) -> dict[str, str]:
        """Goes on with the job; returns what became of it, for the execution's own record.

        Raises what fails the execution, and InvocationError for what a later invocation may find better.
        """
        begun = msgspec.convert(event, type=_Begun)
        lambda_context: Any = context.lambda_context
        remaining = timedelta(milliseconds=lambda_context.get_remaining_time_in_millis())
        until = self._store.now() + remaining + AFTER_DEADLINE
        execution = context.execution_context.durable_execution_arn
        try:
            lease = self._store.resume(begun.job, begun.attempt, execution, until)
        except LostLease as error:
            return self._say(begun, "lost", str(error))
        except (BotoCoreError, ClientError) as error:
            raise InvocationError(f"the jobs' table: {error}") from error
        run = LongRun(self.type, self._store, lease, context, self._log)
        try:
            with invocation.running(lambda_context), invocation.traced(lease.job.traceparent):
                return self._go_on(begun, run, lease)
        except LostLease as error:
            return self._say(begun, "lost", str(error))
        except SuspendExecution:
            self._pause(lease)
            self._say(begun, "waits")
            raise

    def _go_on(self, begun: _Begun, run: LongRun, lease: Lease) -> dict[str, str]:
        store, kind = self._store, self.type
        try:
            if run.cancel_seen:
                raise Cancelled  # noqa: TRY301 -- it ends as any other cancel does
            content = msgspec.json.decode(lease.job.input, type=kind.input)
            encoded = msgspec.json.encode(self.work(content, run))
            msgspec.json.decode(encoded, type=kind.result)
            store.succeed(kind, lease, encoded)
        except Cancelled:
            store.cancelled(kind, lease)
            return self._say(begun, "cancelled")
        except _Lost:
            return self._say(begun, "lost", "another attempt has the job")
        except (UnrecoverableError, LostLease):
            # The SDK's own trouble with its checkpoints: the engine calls again, or ends the execution.
            raise
        except Exception as error:
            text = message_of(error) if isinstance(error, (StepFailed, Permanent)) else said(error)
            store.fail(kind, lease, text, permanent=True)
            self._say(begun, "failed", text)
            raise
        return self._say(begun, "succeeded")

    def _pause(self, lease: Lease) -> None:
        try:
            self._store.pause(lease)
        except LostLease:
            self._log.info("the job is another attempt's by now", job_id=lease.job.id)
        except (BotoCoreError, ClientError) as error:
            # The lease then lasts until the invocation's deadline, and the sweeper asks the engine after it.
            self._log.warning("the wait was not noted", job_id=lease.job.id, error=str(error))

    def _say(self, begun: _Begun, outcome: str, detail: str = "") -> dict[str, str]:
        """The invocation's canonical log line; never the job's input or result."""
        fields: dict[str, Any] = {
            "job_id": begun.job,
            "job_type": self.type.name,
            "attempt": begun.attempt,
            "outcome": outcome,
        }
        if detail:
            fields["detail"] = detail[:_ERROR_LENGTH]
        if outcome == "failed":
            self._log.error("invocation", **fields)
        else:
            self._log.info("invocation", **fields)
        return {"outcome": outcome}


def long_job(
    job_type: JobType[InputT, ResultT],
) -> Callable[[Callable[[InputT, LongRun], ResultT]], Callable[[Any, Any], Any]]:
    """Makes a function of a durable type's input into the handler of its durable function.

    What it returns is the job's result. When it raises, the job has failed: retries are the steps'. Raises ValueError
    for a type that is not durable, MissingSetting at cold start.
    """
    if not job_type.durable:
        raise ValueError(f"job type '{job_type.name}' is not durable: @long_job runs durable jobs only")

    def decorate(work: Callable[[InputT, LongRun], ResultT]) -> Callable[[Any, Any], Any]:
        return durable_execution(LongJobHandler(job_type, work, JobStore.from_environment(job_type.family)).__call__)

    return decorate


def _shortened(error: Exception) -> Exception:
    """The same exception with a text that a checkpoint can hold; its class stays, by which retries are decided."""
    text, kind = stored(message_of(error), _ERROR_LENGTH), type(error)
    bounded: Any = type(kind.__name__, (kind,), {"__str__": lambda _: text})
    shortened: Exception = bounded.__new__(bounded)
    shortened.__dict__.update(error.__dict__)
    return shortened


def _short(kind: str) -> str:
    return kind.rpartition(".")[2]
