"""The job type: a contract for the input and result of a unit of background work, and the rules it runs by."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from enum import StrEnum
from typing import Any, Final, Generic, TypeVar

from msgspec import Struct

from offload.contracts.backoff import exponential

InputT = TypeVar("InputT", bound=Struct)
ResultT = TypeVar("ResultT", bound=Struct)

_NAME: Final = re.compile(r"[a-z][a-z0-9_]{0,63}")
_RATE: Final = re.compile(r"rate\(([1-9][0-9]{0,4}) (minute|hour|day)s?\)")


class Priority(StrEnum):
    """A lane: each has a queue of its own, so that no job waits behind those of another lane."""

    HIGH = "high"
    NORMAL = "normal"
    LOW = "low"


class OnConflict(StrEnum):
    """What a second submit of a unique job does: returns the job that is there, or cancels it and takes its place."""

    RETURN = "return"
    REPLACE = "replace"


class Overlap(StrEnum):
    """What happens at a fire time while the run before goes on: it is left out, waits its turn, or runs beside."""

    SKIP = "skip"
    QUEUE = "queue"
    ALLOW = "allow"


class CatchUp(StrEnum):
    """What happens to fire times that passed during an outage: none of them runs, the last one, or all."""

    NONE = "none"
    ONE = "one"
    ALL = "all"


@dataclass(frozen=True, kw_only=True)
class Retry:
    """`attempts` in all; the wait before the second is `first_wait`, each further one twice as long, to `longest_wait`.

    Up to half of each wait is left out at random, so that jobs that failed together do not come back together.
    `permanent` are names of exception classes that no retry can help.
    """

    attempts: int = 3
    first_wait: timedelta = timedelta(seconds=2)
    longest_wait: timedelta = timedelta(minutes=15)
    permanent: Sequence[str] = ()

    def wait_after(self, attempt: int, chance: float = 0.0) -> timedelta:
        """How long to wait after attempt number `attempt` (from 1) has failed; `chance` is a random number below 1.

        At 0 it is the longest, at 1 half of that, so that a random `chance` makes it equal jitter.
        """
        return exponential(attempt, base=self.first_wait, cap=self.longest_wait) * (1 - chance / 2)


@dataclass(frozen=True, kw_only=True)
class Unique:
    """One job for the same values of the input's `fields` (all of them when empty) within `within` of its submit."""

    fields: Sequence[str] = ()
    within: timedelta
    on_conflict: OnConflict = OnConflict.RETURN


@dataclass(frozen=True, kw_only=True)
class Retention:
    """How long an ended job is kept, by how it ended."""

    succeeded: timedelta = timedelta(days=14)
    failed: timedelta = timedelta(days=90)
    cancelled: timedelta = timedelta(days=14)


@dataclass(frozen=True, kw_only=True)
class Schedule(Generic[InputT]):
    """When a type's jobs start by themselves, with `input`.

    `cron` has five fields (minute, hour, day of month, month, day of week), in the IANA zone `timezone`; or it is a
    rate, as EventBridge writes it: `rate(90 minutes)`, by elapsed time from a midnight of the zone.
    `window` is how far back `CatchUp.ALL` and `CatchUp.ONE` look.
    """

    cron: str
    timezone: str
    input: InputT
    overlap: Overlap = Overlap.SKIP
    catch_up: CatchUp = CatchUp.ONE
    window: timedelta = timedelta(days=1)


def rate_of(cron: str) -> timedelta | None:
    """The time between two fires of a schedule that is a rate; None for one that is not written as a rate."""
    match = _RATE.fullmatch(cron)
    return timedelta(**{f"{match[2]}s": int(match[1])}) if match else None


@dataclass(frozen=True, kw_only=True)
class JobType(Generic[InputT, ResultT]):
    """A kind of job.

    - `timeout` is one attempt's; it becomes the function's. `memory_mb` likewise.
    - `concurrency` is how many may run at once in all; `concurrency_per_key` how many with the same value of the
      input's field `key`. With `ordered`, jobs of one key run one after the other, in the order of their submits.
    - `lanes` are the priorities that a submit may ask for.
    - `expires`: a job that has not started this long after it was due is cancelled.
    - `repeatable` is False for an effect outside that must not happen twice: a job whose attempt ends without a known
      outcome is held for a person.
    - `durable`: a Lambda durable function; it may take longer than 15 minutes, and resumes at its last step.
      `steps` are its steps' names in their order, `*` for what counts them; a change of them is a new `version`.
    - `starts` are the types of the jobs that it fans out to (`run.gather`).

    Raises ValueError, naming the type and the field, for what cannot be.
    """

    name: str
    input: type[InputT]
    result: type[ResultT]
    version: int = 1
    timeout: timedelta = timedelta(seconds=60)
    memory_mb: int = 256
    retry: Retry = field(default_factory=Retry)
    concurrency: int | None = None
    key: str | None = None
    concurrency_per_key: int | None = None
    ordered: bool = False
    lanes: Sequence[Priority] = (Priority.NORMAL,)
    unique: Unique | None = None
    expires: timedelta | None = None
    retention: Retention = field(default_factory=Retention)
    repeatable: bool = True
    durable: bool = False
    steps: Sequence[str] = ()
    schedule: Schedule[InputT] | None = None
    starts: Sequence[JobType[Any, Any]] = ()

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name):
            raise ValueError(f"job type '{self.name}': a name is lower case letters, digits and _, at most 64")
        fields = set(self.input.__struct_fields__)
        if self.key is not None and self.key not in fields:
            raise ValueError(f"job type '{self.name}': key '{self.key}' is no field of {self.input.__name__}")
        if self.key is None and (self.ordered or self.concurrency_per_key is not None):
            raise ValueError(f"job type '{self.name}': `ordered` and `concurrency_per_key` need a `key`")
        if self.ordered and self.concurrency_per_key not in (None, 1):
            raise ValueError(f"job type '{self.name}': ordered jobs of one key run one at a time")
        for limit in ("concurrency", "concurrency_per_key"):
            if (value := getattr(self, limit)) is not None and value < 1:
                raise ValueError(f"job type '{self.name}': {limit} is at least 1")
        if self.unique is not None and (unknown := set(self.unique.fields) - fields):
            raise ValueError(f"job type '{self.name}': unique field '{min(unknown)}' is no field of its input")
        if self.durable != bool(self.steps):
            raise ValueError(f"job type '{self.name}': a durable type names its `steps`, and no other does")
        if self.retry.attempts < 1:
            raise ValueError(f"job type '{self.name}': retry.attempts is at least 1")
        if Priority.NORMAL not in self.lanes:
            raise ValueError(f"job type '{self.name}': `lanes` has at least `normal`, which a submit gets by default")

    @property
    def family(self) -> Mapping[str, JobType[Any, Any]]:
        """What a run of the type deals with, by name: the type, those that it starts, and those that they start."""
        found: dict[str, JobType[Any, Any]] = {self.name: self}
        for each in self.starts:
            found |= each.family
        return found

    @property
    def limit_per_key(self) -> int | None:
        """How many jobs of one key may run at once."""
        return 1 if self.ordered else self.concurrency_per_key
