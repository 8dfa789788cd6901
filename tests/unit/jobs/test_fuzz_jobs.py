"""Inputs, results, exceptions, progress and waits of any kind: a submit is refused or a job, and a job ends at once.

`OFFLOAD_PROVE=whole` tries 100,000.
"""

from __future__ import annotations

import json
import random
from datetime import timedelta
from typing import Any

import msgspec
import pytest
from msgspec import Struct

from offload.contracts.jobs.job import Progress, State, Submit
from offload.contracts.jobs.job_type import JobType, Retry
from offload.runtime.jobs import items
from offload.runtime.jobs.refusals import BadInput, InputTooLarge
from offload.runtime.jobs.run import Permanent, RetryAfter, Run
from tests import extremes
from tests.fuzzing import Shard, shards
from tests.unit.jobs.job_bench import JobBench


class Part(Struct, frozen=True):
    """Some of each kind of value."""

    name: str = "ann"
    number: int = 1
    share: float = 0.5
    tags: tuple[str, ...] = ()


class Given(Struct, frozen=True, kw_only=True):
    """A test job's input and result."""

    key: str = "ann"
    part: Part = Part()
    parts: list[Part] = []
    free: dict[str, Any] = {}


ANY = JobType(name="any", input=Given, result=Given, key="key", concurrency=1_000, retry=Retry(attempts=2))


@pytest.fixture
def bench(aws_of_module: None, monkeypatch: pytest.MonkeyPatch) -> JobBench:
    return JobBench(monkeypatch, ANY)


def an_exception(chance: random.Random) -> BaseException:
    text = str(extremes.value(chance))
    kinds: list[Any] = [
        ValueError,
        Permanent,
        KeyError,
        OSError,
        SystemExit,
        RecursionError,
        UnicodeError,
        TimeoutError,
    ]
    if chance.random() < 0.2:
        return RetryAfter(float(min(max(chance.choice(extremes.NUMBERS), -(10**300)), 10**300)), text)
    return chance.choice(kinds)(text) if chance.random() < 0.9 else chance.choice(kinds)()  # type: ignore[no-any-return]


def given_in(result: Any) -> Any:
    """A result of the handler: mostly one by the contract's own class, whatever is in it."""
    if isinstance(result, dict) and all(isinstance(name, str) for name in result):
        names = {name: value for name, value in result.items() if name in Given.__struct_fields__}
        return Given(**names)
    return result


def submitted(bench: JobBench, wish: Submit) -> str | None:
    """The job's id; None when it was refused."""
    try:
        return bench.store.submit(ANY, wish).job.id
    except (BadInput, InputTooLarge):
        return None


@pytest.mark.slow
@shards(150)
def test_a_submit_is_refused_or_a_job_and_whatever_its_handler_does_it_ends_at_once(
    bench: JobBench, shard: Shard
) -> None:
    chance, made = shard.chance(), 0

    def work(_given: Given, run: Run) -> Any:
        for _ in range(chance.randrange(3)):
            done, total = chance.choice(extremes.NUMBERS), chance.choice((None, *extremes.NUMBERS))
            run.progress(done, total, str(extremes.value(chance)))  # type: ignore[arg-type]
            bench.pass_time(seconds=2)
        if chance.random() < 0.5:
            raise an_exception(chance)
        return given_in(extremes.changed(msgspec.to_builtins(Given()), chance))

    handler = bench.handler(ANY, work)
    for case in range(shard.cases):
        document = extremes.changed(msgspec.to_builtins(Given(parts=[Part()])), chance, 2)
        content = json.dumps(document).encode()
        with shard.case(case, content):
            wish = Submit(type=ANY.name, input=msgspec.Raw(content), tags=("t" * chance.choice((1, 128)),))
            job_id = submitted(bench, wish)
            if job_id is None:
                continue
            made += 1
            job = bench.run(handler, job_id, seconds=900)
            assert job.state in {State.SUCCEEDED, State.FAILED, State.WAITING}, job.history[-1]
            if job.state is State.WAITING:
                assert job.run_at
                assert job.run_at - bench.time <= timedelta(days=366)
                assert job.history[-1].why
            if job.state is State.FAILED:
                assert job.error
                assert len(job.error.encode()) <= items.LONGEST_WHY
            msgspec.json.decode(msgspec.json.encode(job.progress), type=Progress | None)
        if case % 100 == 0:
            bench.clear()
            bench.sqs.purge_queue(QueueUrl=bench.queues[ANY.name])
    assert made > shard.cases / 10
