"""Whatever a handler raises, returns or shows, its end is written at once, with the true error, bounded."""

from __future__ import annotations

import math
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import msgspec
import pytest
from msgspec import Struct

from offload.contracts.jobs.job import LONGEST_DELAY_SECONDS, LONGEST_INPUT, State, Submit
from offload.contracts.jobs.job_type import JobType, Retry
from offload.runtime import aws
from offload.runtime.http.failures import CircuitOpen
from offload.runtime.jobs import items
from offload.runtime.jobs.run import Permanent, RetryAfter, Run
from tests.unit.jobs.job_bench import JobBench


class Text(Struct, frozen=True):
    """A test job's input and result."""

    text: str = ""


ONCE = JobType(name="once", input=Text, result=Text, retry=Retry(attempts=1))
OFTEN = JobType(name="often", input=Text, result=Text, retry=Retry(attempts=200, longest_wait=timedelta(seconds=1)))
THRICE = JobType(name="thrice", input=Text, result=Text, retry=Retry(attempts=3))
LEAF = JobType(name="leaf", input=Text, result=Text)
HALF = "half of a pair: \ud83d"
LARGEST_INPUT = Text(text="i" * (LONGEST_INPUT - 20))


class Unreadable(Exception):
    """Its author's `__str__` fails."""

    def __str__(self) -> str:
        raise RuntimeError


@pytest.fixture
def bench(aws_of_module: None, monkeypatch: pytest.MonkeyPatch) -> JobBench:
    return JobBench(monkeypatch, ONCE, OFTEN, THRICE, LEAF)


def raising(error: BaseException) -> Callable[[Any, Any], Text]:
    def work(_: Text, __: Run) -> Text:
        raise error

    return work


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (ValueError("x" * 400_000), "ValueError: xxx"),
        (ValueError("€" * 400_000), "ValueError: €€€"),
        (ValueError(HALF), "ValueError: half of a pair: \\ud83d"),
        (Permanent(HALF), "half of a pair: \\ud83d"),
        (Permanent("x" * 400_000), "xxx"),
        (Unreadable(), "Unreadable: its text cannot be read: RuntimeError"),
        (SystemExit(3), "SystemExit: 3"),
        (RecursionError("too deep"), "RecursionError: too deep"),
        (MemoryError(), "MemoryError: "),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, BaseException) else "",
)
def test_whatever_a_handler_raises_is_the_jobs_error(bench: JobBench, error: BaseException, told: str) -> None:
    job = bench.run(bench.handler(ONCE, raising(error)), bench.submit(ONCE, LARGEST_INPUT))
    assert job.state is State.FAILED
    assert job.error
    assert job.error.startswith(told)
    assert len(job.error.encode()) <= items.LONGEST_WHY
    assert job.history[-1].why == job.error


@pytest.mark.parametrize("text", [HALF, {1: 2}, 1 << 70], ids=lambda text: type(text).__name__)
def test_a_result_that_is_no_json_of_its_contract_fails_for_good(bench: JobBench, text: Any) -> None:
    job = bench.run(bench.handler(OFTEN, lambda *_: Text(text=text)), bench.submit(OFTEN, Text()))
    assert job.state is State.FAILED
    assert job.error
    assert job.error.startswith("result: the handler's Text breaks its contract: ")


@pytest.mark.parametrize(
    ("seconds", "least", "most"),
    [(1e12, LONGEST_DELAY_SECONDS, LONGEST_DELAY_SECONDS), (math.inf, LONGEST_DELAY_SECONDS, LONGEST_DELAY_SECONDS),
     (math.nan, 0, 0), (-5, 0, 0), (90, 90, 90)],
)  # fmt: skip
def test_a_next_try_is_at_most_a_year_away(bench: JobBench, seconds: float, least: int, most: int) -> None:
    job = bench.run(bench.handler(OFTEN, raising(RetryAfter(seconds))), bench.submit(OFTEN, Text()))
    assert job.state is State.WAITING
    assert job.run_at
    assert timedelta(seconds=least) <= job.run_at - bench.time <= timedelta(seconds=most)


def test_a_result_for_which_the_item_has_no_room_goes_to_the_bucket(bench: JobBench) -> None:
    result = Text(text="r" * 127_000)
    small = bench.run(bench.handler(ONCE, lambda *_: result), bench.submit(ONCE, Text()))
    large = bench.run(bench.handler(ONCE, lambda *_: result), bench.submit(ONCE, LARGEST_INPUT, tags=["😀" * 128] * 20))
    assert (small.state, small.result_ref) == (State.SUCCEEDED, None)
    assert large.state is State.SUCCEEDED
    assert large.result_ref
    content = aws.s3().get_object(Bucket=bench.name, Key=large.result_ref)["Body"].read()
    assert result.text.encode() in content


def test_a_job_that_fails_two_hundred_times_keeps_its_first_and_its_newest_changes(bench: JobBench) -> None:
    handler = bench.handler(OFTEN, raising(ValueError("€" * 1000)))
    job_id = bench.submit(OFTEN, LARGEST_INPUT, tags=["😀" * 128] * 20)
    for attempt in range(1, OFTEN.retry.attempts + 1):
        job = bench.run(handler, job_id, attempt)
        bench.pass_time(seconds=2)
    assert (job.state, job.attempt) == (State.FAILED, 200)
    assert job.history[0].why == "submitted"
    assert job.history[-1].state is State.FAILED
    assert [entry.attempt for entry in job.history[-3:]] == [199, 200, 200]
    assert len(job.history) <= items.LONGEST_HISTORY
    [item] = bench.items(f"job#{job_id}")
    assert items.size_of(item) <= items.LARGEST


def test_a_parent_whose_item_does_not_hold_its_children_fails_with_what_to_do_and_cancels_them(bench: JobBench) -> None:
    def work(_: Text, run: Run) -> Text:
        run.gather(LEAF, [Text(text=str(number)) for number in range(300)])
        raise AssertionError("it waits for its children")

    # Its children's names begin with its own.
    wish = Submit(type=ONCE.name, input=msgspec.Raw(msgspec.json.encode(LARGEST_INPUT)))
    parent = bench.store.submit(ONCE, wish, job_id="p" * 250).job.id
    job = bench.run(bench.handler(ONCE, work), parent)
    assert job.state is State.FAILED
    assert job.error == (
        f"300 children do not fit into the job's item beside an input of {len(wish.input)} bytes: "
        "put the input into the bucket and send its key"
    )
    children = [item["state"]["S"] for item in bench.items(f"job#{parent}-")]
    assert children == ["cancelled"] * 300


def test_progress_is_bounded_and_its_end_may_lie_after_the_calendar(bench: JobBench) -> None:
    def work(_: Text, run: Run) -> Text:
        run.progress(0, 10**18)
        bench.pass_time(seconds=100)
        run.progress(1, 10**18, HALF + "m" * 400_000)
        shown.append(bench.store.get(run.id).progress)
        return Text()

    shown: list[Any] = []
    job = bench.run(bench.handler(ONCE, work), bench.submit(ONCE, LARGEST_INPUT), seconds=1000)
    assert job.state is State.SUCCEEDED
    [progress] = shown
    assert (progress.done, progress.finish_at) == (1, None)
    assert progress.message.startswith("half of a pair: \\ud83dmmm")
    assert len(progress.message.encode()) <= items.LONGEST_WHY


@pytest.mark.parametrize(("hours", "state"), [(2, State.SUCCEEDED), (5, State.FAILED)])
def test_a_job_waits_hours_for_a_third_party_that_is_down(bench: JobBench, hours: int, state: State) -> None:
    ends = bench.time + timedelta(hours=hours)

    def work(_: Text, __: Run) -> Text:
        if bench.time < ends:
            raise CircuitOpen("nothing is sent to it", ends)
        return Text()

    handler, job_id, attempt = bench.handler(THRICE, work), bench.submit(THRICE, Text()), 1
    while not (job := bench.run(handler, job_id, attempt)).state.ended:
        assert job.run_at
        assert job.run_at - bench.time <= THRICE.retry.longest_wait
        bench.time, attempt = job.run_at, attempt + 1
    assert job.state is state
    if state is State.FAILED:
        assert job.error == "CircuitOpen: nothing is sent to it"
        # Three attempts after the four hours.
        assert timedelta(hours=4) <= bench.time - (ends - timedelta(hours=hours)) <= timedelta(hours=4, minutes=31)


def test_progress_counts_things_and_what_is_no_number_is_the_handlers_error(bench: JobBench) -> None:
    def work(given: Text, run: Run) -> Text:
        wrong: Any = {"": 0.5, "nan": math.nan, "text": "many"}[given.text]
        bench.pass_time(seconds=2)
        run.progress(wrong, 2**70)
        return Text()

    handler = bench.handler(ONCE, work)
    counted = bench.run(handler, bench.submit(ONCE, Text()), seconds=900)
    assert counted.progress
    assert (counted.state, counted.progress.done, counted.progress.total) == (State.SUCCEEDED, 0, 2**63 - 1)
    for text, told in (("nan", "nan"), ("text", "'many'")):
        job = bench.run(handler, bench.submit(ONCE, Text(text=text)), seconds=900)
        assert (job.state, job.error) == (State.FAILED, f"ValueError: progress: {told} is no number of things")
