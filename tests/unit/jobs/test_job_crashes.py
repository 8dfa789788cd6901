"""A process dies at each of its writes in turn, whoever it is and whatever the jobs are: nothing of a job is lost.

Each way of life below runs on real tables and queues until its jobs have ended, again and again: the first time the
process that makes the first write dies there, the next time the one that makes the second, until nobody dies. Callers
that got no answer ask again, SQS brings a message back that nobody answered for, and the sweeper looks each minute.
"""

from __future__ import annotations

import json
import os
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta
from itertools import count, pairwise
from typing import Any, Final, TypeVar

import msgspec
import pytest
from msgspec import Struct

from offload.contracts.jobs.job import Job, State, Submit
from offload.contracts.jobs.job_type import JobType, OnConflict, Retry, Unique
from offload.runtime import aws
from offload.runtime.jobs import items
from offload.runtime.jobs.ending import LONGEST_RESULT
from offload.runtime.jobs.refusals import AlreadyEnded, NotHeld
from offload.runtime.jobs.run import JobHandler, Run
from offload.runtime.jobs.table import LOOK_AHEAD
from tests.unit.jobs.job_bench import JobBench
from tests.unit.jobs.test_job_machine import ALLOWED
from tests.unit.jobs.test_job_sweeper import Sweeper

WHOLE: Final = os.environ.get("OFFLOAD_PROVE") == "whole"
"""Dies at each write, and after it too: to the table and the queues the same as before the next one. Otherwise every
fourth write.
"""
WRITES: Final = {
    "PutItem",
    "UpdateItem",
    "DeleteItem",
    "TransactWriteItems",
    "SendMessage",
    "PutEvents",
    "PutObject",
}
SWEEPS: Final = 30
"""In how many of the sweeper's minutes the jobs of one life must have ended."""

_T = TypeVar("_T")


class Thing(Struct, frozen=True, kw_only=True):
    """A test job's input."""

    name: str = "ann"
    number: int = 0


class Done(Struct, frozen=True):
    """A test job's result."""

    number: int = 0
    text: str = ""


class Died(BaseException):
    """The process was killed: no code of it runs on, but for what Python makes of an exception."""


class Fate:
    """Kills whoever makes the write number `at` (from 1), before it reaches AWS or after."""

    def __init__(self, at: int, *, after: bool) -> None:
        self.dead = False
        self.where = ""
        self.writes: list[str] = []
        self.events: list[dict[str, Any]] = []
        self._at, self._after = at, after

    def asked(self, model: Any, params: dict[str, Any], **_: Any) -> None:
        """Before a call of AWS."""
        if self.dead:
            raise Died
        if model.name in WRITES:
            self.write(model.name)
        if model.name == "PutEvents":
            self.events += [json.loads(entry["Detail"]) for entry in json.loads(params["body"])["Entries"]]

    def answered(self, model: Any, **_: Any) -> None:
        """After it: AWS has done it, and nobody reads the answer."""
        if model.name in WRITES:
            self.die_if(after=True)

    def write(self, name: str) -> None:
        """A write: of AWS, or an effect outside of a job's own, which happens in between."""
        if self.dead:
            raise Died
        self.writes.append(name)
        self.die_if(after=False)

    def die_if(self, *, after: bool) -> None:
        """Kills the process if this is the write, and this side of it."""
        if len(self.writes) == self._at and after is self._after and not self.where:
            self.dead = True
            self.where = f"{'after' if after else 'before'} write {self._at}: {', '.join(self.writes)}"
            raise Died


class World:
    """Callers, workers and the sweeper, each a process; at most one of them dies, once."""

    def __init__(self, bench: JobBench, sweeper: Sweeper, fate: Fate, name: str) -> None:
        self.bench, self.fate, self.name = bench, fate, name
        self.effects: list[str] = []
        self._sweeper = sweeper
        self._messages: list[tuple[datetime, str, str]] = []
        self._handlers: dict[str, JobHandler[Any, Any]] = {}

    def call(self, act: Callable[[], _T]) -> _T:
        """A caller asks, and asks again when it has died before the answer."""
        for _ in range(2):
            try:
                return act()
            except Died:
                self.fate.dead = False
        raise AssertionError("nobody dies twice")

    def submit(self, kind: JobType[Any, Any], key: str, /, name: str = "ann", number: int = 0, **wish: Any) -> Job:
        """A job, by a caller that repeats itself under its idempotency key."""
        self.deploy(kind)
        content = msgspec.Raw(msgspec.json.encode(Thing(name=name, number=number)))
        asked = Submit(type=kind.name, input=content, idempotency_key=f"{self.name} {key}", **wish)
        return self.call(lambda: self.bench.store.submit(kind, asked)).job

    def cancel(self, job_id: str) -> None:
        """A person cancels, and again when there was no answer."""

        def cancelled() -> None:
            try:
                self.bench.store.cancel(job_id)
            except AlreadyEnded:
                return

        self.call(cancelled)

    def deploy(self, kind: JobType[Any, Any]) -> None:
        """Gives a type its place, once."""
        if kind.name not in self.bench.types:
            self.bench.types[kind.name] = kind
            self.bench.deploy(kind)

    def effect(self, what: str, number: int = 0) -> Done:
        """What a job does outside, and its result then."""
        self.fate.write(f"effect {what}")
        self.effects.append(what)
        self.fate.die_if(after=True)
        return Done(number)

    def state(self, job: Job) -> State:
        """Where a job is."""
        return self.bench.store.get(job.id).state

    def handle(self, kind: JobType[Any, Any], work: Callable[[Thing, Run], Done]) -> None:
        """Deploys a type, and its work."""
        self.deploy(kind)
        self._handlers[kind.name] = self.bench.handler(kind, work)

    def live(self, decide: Callable[[Job], None] | None = None) -> None:
        """Lets workers and sweeper go on until nothing is due any more."""
        for _ in range(SWEEPS):
            self._work()
            if decide:
                for job in self.bench.store.page(types=list(self.bench.types), state=State.HELD).jobs:
                    decide(job)
                self._work()
            due = [float(item["due_at"]["N"]) for item in self.bench.items("job#") if "due_at" in item]
            visible = [when.timestamp() for when, _, _ in self._messages]
            if not due:
                return
            # Minutes in which nothing is due are left out: a sweep only looks then.
            ahead = min([*due, *visible]) - LOOK_AHEAD.total_seconds() - self.bench.time.timestamp()
            self.bench.pass_time(minutes=max(1, min(ahead // 60, 60)))
            self._process(self._sweeper.sweep)
        raise AssertionError(f"still open after {SWEEPS} sweeps")

    def _process(self, act: Callable[[], object]) -> bool:
        try:
            act()
        except Died:
            self.fate.dead = False
            return False
        return True

    def _work(self) -> None:
        """Hands out what is visible; what a dead worker had is visible again after its time."""
        while True:
            for handler in self._handlers.values():
                self._messages += [
                    (self.bench.time, handler.type.name, body) for body in self.bench.nudges(handler.type)
                ]
            visible = next((message for message in self._messages if message[0] <= self.bench.time), None)
            if visible is None:
                return
            self._messages.remove(visible)
            _, kind, body = visible
            if not self._process(lambda: self.bench.invoke(self._handlers[kind], body)):  # noqa: B023 -- called at once
                self._messages.append((self.bench.time + timedelta(minutes=6), kind, body))


def check(world: World, jobs: Sequence[Job], *, made: int) -> None:
    """All that holds of jobs that have ended, however that came about; `made` is how many there are in all."""
    told: dict[str, set[str]] = {}
    for event in world.fate.events:
        told.setdefault(event["data"]["job"], set()).add(event["id"])
    table = world.bench.items()
    found = {item["pk"]["S"]: items.job_of(item) for item in table if item["pk"]["S"].startswith("job#")}
    assert not [key for item in table for key in item if key in ("due_at", "holders")]
    for job in found.values():
        path = ["[*]", *(entry.state.value for entry in job.history)]
        assert job.state.ended, path
        assert [entry.state.ended for entry in job.history].count(True) == 1, path
        assert set(pairwise(path)) <= ALLOWED, path
        assert len(told.pop(job.id, ())) == 1, f"events of {job.id}"
        if job.parent and (parent := found[f"job#{job.parent}"]).state is State.CANCELLED:
            started = [entry.at for entry in job.history if entry.state is State.RUNNING]
            assert all(at <= parent.changed_at for at in started), f"{job.id} ran after its parent was cancelled"
    assert not told
    assert {f"job#{job.id}" for job in jobs} <= set(found)
    assert len(found) == made
    tallies = world.bench.store.tallies(list(world.bench.types)).values()
    assert (sum(tally.accepted for tally in tallies), sum(tally.ended for tally in tallies)) == (made, made)


def children(world: World) -> int:
    """How many children were started: fewer than planned when whoever started them died."""
    return len([item for item in world.bench.items("job#") if "parent" in item])


# The ways of life


def kind(name: str, **rules: Any) -> JobType[Any, Any]:
    """A type of test jobs."""
    return JobType(name=name, input=Thing, result=Done, **rules)


PLAIN: Final = kind("plain")
PATIENT: Final = kind("patient", retry=Retry(attempts=4))
LATEST: Final = kind(
    "latest", unique=Unique(fields=("name",), within=timedelta(hours=1), on_conflict=OnConflict.REPLACE)
)
ONCE: Final = kind("once", unique=Unique(fields=("name",), within=timedelta(hours=1)))
LIMITED: Final = kind("limited", concurrency=2, key="name", concurrency_per_key=1)
ORDERED: Final = kind("ordered", key="name", ordered=True)
PAYMENT: Final = kind("payment", repeatable=False, concurrency=1)
FRESH: Final = kind("fresh", expires=timedelta(minutes=5))
TREE: Final = kind("tree", retry=Retry(attempts=4))
LEAF: Final = kind("leaf", concurrency=1)


def of_a_job_that_succeeds(world: World) -> None:
    """Submit, start, effect, end, event."""
    world.handle(PLAIN, lambda thing, _: world.effect("once", thing.number))
    job = world.submit(PLAIN, "a", number=7)
    world.live()
    assert world.bench.store.get(job.id).result == msgspec.Raw(b'{"number":7,"text":""}')
    assert 1 <= len(world.effects) <= 2
    check(world, [job], made=1)


def of_a_job_with_a_large_result_that_is_done_again(world: World) -> None:
    """The result goes to the bucket; a retry is a new job."""
    world.handle(PLAIN, lambda *_: Done(text="x" * LONGEST_RESULT))
    job = world.submit(PLAIN, "a")
    world.live()
    again = world.call(lambda: world.bench.store.retry(PLAIN, job.id, idempotency_key=f"{world.name} again"))
    world.live()
    for each in (job, again):
        reference = world.bench.store.get(each.id).result_ref
        assert reference
        assert world.bench.s3.get_object(Bucket=world.bench.name, Key=reference)["ContentLength"] > LONGEST_RESULT
    check(world, [job, again], made=2)


def of_a_job_for_later(world: World) -> None:
    """Nothing starts before its time."""
    world.handle(PLAIN, lambda *_: world.effect(world.bench.time.isoformat()))
    begin = world.bench.time
    job = world.submit(PLAIN, "a", delay=600.0)
    world.live()
    assert min(world.effects) >= (begin + timedelta(minutes=10)).isoformat()
    assert world.state(job) is State.SUCCEEDED
    check(world, [job], made=1)


def of_a_job_that_expires(world: World) -> None:
    """Nobody works for it: it is cancelled, not run late."""
    job = world.submit(FRESH, "a")
    world.live()
    assert world.state(job) is State.CANCELLED
    check(world, [job], made=1)


def of_jobs_that_fail(world: World) -> None:
    """One passes the second time, one never, one for good at once."""
    tries: Counter[int] = Counter()

    def work(thing: Thing, run: Run) -> Done:
        tries[thing.number] += 1
        if thing.number == 2 or (thing.number == 0 and tries[0] == 1):
            raise OSError("not now")
        return Done()

    world.handle(PATIENT, work)
    jobs = [world.submit(PATIENT, str(number), number=number) for number in (0, 2)]
    world.live()
    assert [world.state(job) for job in jobs] == [State.SUCCEEDED, State.FAILED]
    check(world, jobs, made=2)


def of_a_job_that_is_there_already(world: World) -> None:
    """The second caller gets the first one's job."""
    world.handle(ONCE, lambda *_: Done())
    one = world.submit(ONCE, "a", number=1)
    two = world.submit(ONCE, "b", number=2)
    assert one.id == two.id
    world.live()
    check(world, [one], made=1)


def of_a_job_that_takes_anothers_place(world: World) -> None:
    """The first never runs, the second does."""
    world.handle(LATEST, lambda thing, _: world.effect(str(thing.number)))
    one = world.submit(LATEST, "a", number=1)
    two = world.submit(LATEST, "b", number=2)
    world.live()
    assert [world.state(job) for job in (one, two)] == [State.CANCELLED, State.SUCCEEDED]
    assert set(world.effects) == {"2"}
    check(world, [one, two], made=2)


def of_jobs_within_limits(world: World) -> None:
    """Two at once, one of each name: who waits is woken, or found."""
    inside: Counter[str] = Counter()

    def work(thing: Thing, run: Run) -> Done:
        inside[thing.name] += 1
        try:
            assert inside[thing.name] == 1
            assert inside.total() <= 2
            if thing.number == 0:
                # Others are offered their turn while this one runs.
                for number in (1, 2):
                    others[number] = world.submit(LIMITED, str(number), number=number)
                world._work()
            return Done()
        finally:
            inside[thing.name] -= 1

    others: dict[int, Job] = {}
    world.handle(LIMITED, work)
    first = world.submit(LIMITED, "0")
    world.live()
    assert world.state(first) is State.SUCCEEDED
    check(world, [first, *others.values()], made=3)


def of_jobs_in_order(world: World) -> None:
    """The second waits for the first, which fails once."""
    tries: Counter[int] = Counter()

    def work(thing: Thing, run: Run) -> Done:
        tries[thing.number] += 1
        if tries[1] == 1:
            raise OSError("not now")
        world.effect(str(thing.number))
        return Done()

    world.handle(ORDERED, work)
    jobs = []
    for number in (1, 2):
        jobs.append(world.submit(ORDERED, str(number), number=number))
        world.bench.pass_time(seconds=1)
    world.live()
    assert sorted(world.effects) == world.effects
    assert set(world.effects) == {"1", "2"}
    check(world, jobs, made=2)


def of_an_effect_that_must_not_be_repeated(world: World) -> None:
    """Whoever pays may die: then a person says what became of it, who may die too."""

    def decide(job: Job) -> None:
        said = "done" if world.effects else "retry"

        def decided() -> None:
            try:
                world.bench.store.decide(PAYMENT, job.id, said)  # type: ignore[arg-type]
            except NotHeld:
                return

        world.call(decided)

    world.handle(PAYMENT, lambda *_: world.effect("paid"))
    job = world.submit(PAYMENT, "a")
    world.live(decide)
    assert world.effects == ["paid"]
    assert world.state(job) is State.SUCCEEDED
    check(world, [job], made=1)


def of_a_job_that_is_held_and_given_up(world: World) -> None:
    """The effect fails without a word each time: a person decides, one way or the other."""

    def decide(job: Job) -> None:
        def decided() -> None:
            try:
                world.bench.store.decide(PAYMENT, job.id, "retry" if job.attempt == 1 else "fail")
            except NotHeld:
                return

        world.call(decided)

    def vanish(thing: Thing, run: Run) -> Done:
        raise Died

    world.handle(PAYMENT, vanish)
    job = world.submit(PAYMENT, "a")
    world.live(decide)
    assert world.state(job) is State.FAILED
    check(world, [job], made=1)


def of_jobs_that_are_cancelled(world: World) -> None:
    """One waits, one is queued, one runs and sees it."""

    def work(thing: Thing, run: Run) -> Done:
        world.cancel(run.id)
        world.bench.pass_time(seconds=2)
        run.check()
        raise AssertionError("it goes on though it is cancelled")

    world.handle(LIMITED, work)
    later, queued = world.submit(LIMITED, "0", delay=3600.0), world.submit(LIMITED, "1")
    for job in (later, queued):
        world.cancel(job.id)
    running = world.submit(LIMITED, "2")
    world.live()
    assert {world.state(job) for job in (later, queued, running)} == {State.CANCELLED}
    check(world, [later, queued, running], made=3)


def of_a_job_that_gathers(world: World) -> None:
    """The parent goes on when the last of its children has ended, with all their results."""

    def work(thing: Thing, run: Run) -> Done:
        found = run.gather(LEAF, [Thing(number=number) for number in range(3)])
        return Done(sum(done.number for done in found))

    world.handle(TREE, work)
    world.handle(LEAF, lambda thing, _: Done(thing.number))
    job = world.submit(TREE, "a")
    world.live()
    assert world.bench.store.get(job.id).result == msgspec.Raw(b'{"number":3,"text":""}')
    check(world, [job], made=4)


def of_a_tree_that_is_cancelled_while_it_waits(world: World) -> None:
    """The first child cancels the whole tree it stands in."""

    def work(thing: Thing, run: Run) -> Done:
        run.gather(LEAF, [Thing(number=number) for number in range(3)])
        raise AssertionError("it goes on though it is cancelled")

    def leaf(thing: Thing, run: Run) -> Done:
        world.cancel(parent.id)
        world.bench.pass_time(seconds=2)
        run.check()
        raise AssertionError("it goes on though it is cancelled")

    world.handle(TREE, work)
    world.handle(LEAF, leaf)
    parent = world.submit(TREE, "a")
    world.live()
    assert world.state(parent) is State.CANCELLED
    check(world, [parent], made=1 + children(world))


def of_a_tree_that_is_cancelled_while_it_starts_its_children(world: World) -> None:
    """Nobody has written down yet which children there are."""

    def work(thing: Thing, run: Run) -> Done:
        run.gather(LEAF, [Thing(number=number) for number in range(2)], "succeeded")
        run.gather(LEAF, [Thing(number=number) for number in range(2, 4)])
        raise AssertionError("it goes on though it is cancelled")

    class Cancelling(Struct):
        started: int = 0

    def start_child(self: Run, *arguments: Any) -> Job:
        child: Job = plainly(self, *arguments)
        seen.started += 1
        if seen.started == 1:
            world.cancel(self.id)
        return child

    seen, plainly = Cancelling(), Run._start_child
    world.handle(TREE, work)
    world.handle(LEAF, lambda *_: Done())
    parent = world.submit(TREE, "a")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Run, "_start_child", start_child)
        world.live()
    assert world.state(parent) is State.CANCELLED
    check(world, [parent], made=1 + children(world))


LIVES: Final = [
    of_a_job_that_succeeds,
    of_a_job_with_a_large_result_that_is_done_again,
    of_a_job_for_later,
    of_a_job_that_expires,
    of_jobs_that_fail,
    of_a_job_that_is_there_already,
    of_a_job_that_takes_anothers_place,
    of_jobs_within_limits,
    of_jobs_in_order,
    of_an_effect_that_must_not_be_repeated,
    of_a_job_that_is_held_and_given_up,
    of_jobs_that_are_cancelled,
    of_a_job_that_gathers,
    of_a_tree_that_is_cancelled_while_it_waits,
    of_a_tree_that_is_cancelled_while_it_starts_its_children,
]


@pytest.fixture
def bench(aws_of_module: None, monkeypatch: pytest.MonkeyPatch) -> JobBench:
    """A job service; a life deploys the types that it needs."""
    return JobBench(monkeypatch)


@pytest.fixture
def sweeper(bench: JobBench, monkeypatch: pytest.MonkeyPatch) -> Iterator[Sweeper]:
    """The bench's sweeper, one job after the other: which write is the n-th must not depend on threads."""
    # Fewer parts of the table to read a thousand times; their number changes nothing else.
    monkeypatch.setattr(items, "DUE_SHARDS", 1)
    monkeypatch.setattr(items, "TALLY_SHARDS", 1)
    keeper = Sweeper(bench, monkeypatch)
    monkeypatch.setattr(keeper.module, "_WORKERS", 1)
    yield keeper
    sys.modules.pop(Sweeper.NAME, None)


@contextmanager
def under(fate: Fate) -> Iterator[None]:
    """Lets fate have its way with every client."""
    hooks: Any = [("before-call", fate.asked), ("after-call", fate.answered)]
    clients: list[Any] = [aws.dynamodb(), aws.sqs(), aws.events(), aws.s3(), aws.ssm()]
    for client in clients:
        for event, hook in hooks:
            client.meta.events.register(event, hook)
    try:
        yield
    finally:
        for client in clients:
            for event, hook in hooks:
                client.meta.events.unregister(event, hook)


@pytest.mark.slow
@pytest.mark.parametrize("after", [False, True] if WHOLE else [False], ids=["before", "after"][: 1 + WHOLE])
@pytest.mark.parametrize("life", LIVES, ids=lambda life: life.__name__)
def test_whoever_dies_at_whichever_write_nothing_is_lost(
    bench: JobBench, sweeper: Sweeper, life: Callable[[World], None], after: bool
) -> None:
    for at in count(1, 1 if WHOLE else 4):
        fate = Fate(at, after=after)
        with under(fate):
            world = World(bench, sweeper, fate, f"{life.__name__}-{at}-{after}")
            try:
                life(world)
            except (Exception, pytest.fail.Exception) as error:
                error.add_note(f"the process died {fate.where or 'nowhere'}")
                raise
        if not fate.where:
            break
        bench.clear()
    assert at > 5
