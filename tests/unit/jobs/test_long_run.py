"""Long runs on AWS's own engine of durable functions, in this process: steps, maps, questions, limits, fences."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import pytest
from aws_durable_execution_sdk_python import durable_execution
from aws_durable_execution_sdk_python_testing.execution import ExecutionStatus
from aws_durable_execution_sdk_python_testing.runner import DurableFunctionTestRunner
from msgspec import Raw, Struct

from offload.contracts.functions import own
from offload.contracts.jobs.job import Answer, Job, State
from offload.contracts.jobs.job_type import JobType, Retry
from offload.runtime.jobs import durable
from offload.runtime.jobs.durable import LongJobHandler, LongRun, StepFailed, Unanswered, long_job
from offload.runtime.jobs.refusals import NotAsking
from offload.runtime.jobs.run import Permanent
from offload.runtime.jobs.slots import NotStarted
from tests.calls.recording import acting_as
from tests.patience import PATIENCE
from tests.unit.embedded.lambda_api import answered_by
from tests.unit.jobs.job_bench import JobBench


class Count(Struct, frozen=True):
    number: int = 0


class Text(Struct, frozen=True):
    text: str = ""


LONG = JobType(
    name="long",
    input=Count,
    result=Count,
    durable=True,
    steps=("one", "two", "each", "rest-*", "may", "may-*"),
    retry=Retry(attempts=3, first_wait=timedelta(seconds=1), permanent=("KeyError",)),
)
LIMITED = JobType(name="limited", input=Count, result=Count, durable=True, steps=("one",), key="number", ordered=True)
Work = Callable[[Count, LongRun], Count]


class Engine:
    """A long type's function, and the engine that calls it."""

    def __init__(self, bench: JobBench) -> None:
        self.bench = bench
        self.runners: list[DurableFunctionTestRunner] = []

    def begin(self, work: Work, job_id: str, attempt: int = 1, kind: JobType[Count, Count] = LONG) -> str:
        """Begins an execution of an attempt that was started; its ARN."""
        handler = durable_execution(LongJobHandler(kind, work, self.bench.new_store()).__call__)
        self.runners.append(DurableFunctionTestRunner(handler=handler, poll_interval=0.02))
        return self.runners[-1].run_async(input=json.dumps({"job": job_id, "attempt": attempt}), execution_timeout=60)

    def status(self, execution: str) -> ExecutionStatus:
        return self.runners[-1]._executor.get_execution(execution).current_status()

    def stop(self, execution: str) -> None:
        self.runners[-1]._executor.stop_execution(execution, None)

    def answer(self, callback: str, content: bytes) -> None:
        self.runners[-1].send_callback_success(callback, content)

    def waits(self, job_id: str) -> None:
        """Waits until the run waits for an answer, and its last write of that is done."""
        self.until(job_id, lambda job: job.question is not None)
        ends = time.monotonic() + PATIENCE
        while not any("suspended" in item for item in self.bench.items(f"job#{job_id}")):
            assert time.monotonic() < ends
            time.sleep(0.02)

    def settle(self, job_id: str) -> str | None:
        """What the minute's sweep does with a job."""
        with acting_as(own("job_sweeper")):
            return self.bench.store.settle(LONG, job_id)

    def started(self, given: int = 1) -> str:
        job_id = self.bench.submit(LONG, Count(number=given))
        self.bench.store.start(LONG, job_id, 1, self.bench.time + timedelta(minutes=2))
        return job_id

    def run(self, work: Work, given: int = 1) -> Job:
        """Runs a job to its end."""
        job_id = self.started(given)
        self.begin(work, job_id)
        return self.until(job_id, lambda job: job.state is not State.RUNNING)

    def until(self, job_id: str, holds: Callable[[Job], bool]) -> Job:
        ends = time.monotonic() + PATIENCE
        while not holds(job := self.bench.store.get(job_id)):
            assert time.monotonic() < ends, job
            time.sleep(0.02)
        return job


@pytest.fixture
def engine(aws_of_module: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[Engine]:
    """A job service with one long type, and an engine whose waits take no time."""
    made = Engine(JobBench(monkeypatch, LONG, LIMITED))
    answered_by(
        monkeypatch,
        {
            "GetDurableExecution": lambda asked: {"Status": made.status(asked["DurableExecutionArn"]).value},
            "StopDurableExecution": lambda asked: made.stop(asked["DurableExecutionArn"]),
            "SendDurableExecutionCallbackSuccess": lambda asked: made.answer(asked["CallbackId"], asked["Result"]),
        },
    )
    yield made
    for runner in made.runners:
        runner.close()  # type: ignore[no-untyped-call]


def test_what_ran_as_a_step_is_not_run_again_after_a_wait(engine: Engine) -> None:
    ran: list[str] = []

    def step(name: str) -> Count:
        ran.append(name)
        return Count(number=len(ran))

    def work(given: Count, run: LongRun) -> Count:
        one = run.step("one", lambda: step("one"), Count)
        run.rest("rest-1")
        run.wait("rest-2", timedelta(days=3))
        two = run.step("two", lambda: step("two"), Count)
        run.progress(2, 2, "both")
        return Count(number=given.number + one.number + two.number)

    job = engine.run(work, given=10)
    assert ran == ["one", "two"]
    assert (job.state, job.result, job.attempt) == (State.SUCCEEDED, Raw(b'{"number":13}'), 1)
    assert [entry.state for entry in job.history] == [State.QUEUED, State.RUNNING, State.SUCCEEDED]


def test_the_step_that_a_run_is_at_shows_in_its_job(engine: Engine) -> None:
    seen: list[Any] = []

    def look() -> Count:
        seen.append(engine.bench.store.get(job_id).progress)
        return Count()

    def work(_: Count, run: LongRun) -> Count:
        return run.step("one", look, Count)

    job_id = engine.started()
    engine.begin(work, job_id)
    engine.until(job_id, lambda job: job.state.ended)
    assert [progress.step for progress in seen] == ["one"]


@pytest.mark.parametrize(("error", "tries"), [(ValueError("no"), 3), (Permanent("no"), 1), (KeyError("no"), 1)])
def test_a_step_is_tried_again_by_the_types_policy_and_then_fails_the_job(
    engine: Engine, error: Exception, tries: int
) -> None:
    ran: list[int] = []

    def fail() -> Count:
        ran.append(1)
        raise error

    job = engine.run(lambda _, run: run.step("one", fail, Count))
    assert (job.state, len(ran)) == (State.FAILED, tries)
    assert job.error
    named = "" if isinstance(error, Permanent) else f"{type(error).__name__}: "
    assert job.error.startswith(f"step 'one': {named}")


def test_a_handler_may_go_on_without_a_step_that_failed(engine: Engine) -> None:
    def fail() -> Count:
        raise Permanent("closed on Sundays")

    def work(_: Count, run: LongRun) -> Count:
        try:
            return run.step("one", fail, Count)
        except StepFailed as failed:
            length = len(failed.kind)
            return run.step("two", lambda: Count(number=length), Count)

    assert engine.run(work).result == Raw(b'{"number":9}')


def test_a_result_that_a_step_cannot_keep_is_refused_with_its_size(engine: Engine) -> None:
    job = engine.run(lambda _, run: Count(number=len(run.step("one", lambda: Text(text="x" * 300_000), Text).text)))
    assert job.state is State.FAILED
    assert job.error
    assert "its result has 300017 bytes, the limit is 262144: put it into the bucket, and return its key" in job.error


@pytest.mark.parametrize(
    ("steps", "says"),
    [
        (("three",), "step 'three' is none of the steps of 'long'"),
        (("one", "one"), "step 'one' is there twice"),
    ],
)
def test_a_step_that_the_type_does_not_know_fails_the_job_by_name(
    engine: Engine, steps: tuple[str, ...], says: str
) -> None:
    def work(_: Count, run: LongRun) -> Count:
        for step in steps:
            run.step(step, Count, Count)
        return Count()

    job = engine.run(work)
    assert job.state is State.FAILED
    assert job.error
    assert says in job.error


def test_more_operations_than_an_execution_may_have_fail_the_job(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(durable, "OPERATIONS", 4)

    def work(_: Count, run: LongRun) -> Count:
        run.step("one", Count, Count)
        run.map("each", lambda number: Count(number=number), [1, 2, 3], Count)
        return Count()

    job = engine.run(work)
    assert (
        job.error == "step 'each' is operation 5 of the run, the limit is 4: do more in each step, or start another job"
    )


def test_a_map_gives_its_results_in_the_order_of_its_inputs(engine: Engine) -> None:
    def work(_: Count, run: LongRun) -> Count:
        found = run.map("each", lambda number: Count(number=number), [3, 1, 2], Count, at_once=2)
        run.rest("rest-1")
        return Count(number=int("".join(str(each.number) for each in found)))

    assert engine.run(work).result == Raw(b'{"number":312}')


@pytest.mark.parametrize(("need", "state"), [("all", State.FAILED), ("succeeded", State.SUCCEEDED)])
def test_a_map_whose_branch_failed_fails_the_job_unless_it_says_otherwise(
    engine: Engine, need: Any, state: State
) -> None:
    def half(number: int) -> Count:
        if number == 2:
            raise Permanent("two is odd")
        return Count(number=number)

    def work(_: Count, run: LongRun) -> Count:
        return Count(number=sum(each.number for each in run.map("each", half, [1, 2, 3], Count, need=need)))

    job = engine.run(work)
    assert job.state is state
    if need == "all":
        assert job.error
        assert "step 'each[1]'" in job.error
        assert "two is odd" in job.error
    else:
        assert job.result == Raw(b'{"number":4}')


def test_a_question_waits_for_a_person_and_is_answered_once(engine: Engine) -> None:
    def work(_: Count, run: LongRun) -> Count:
        said = run.ask("may", "May I?", timedelta(days=2))
        return Count(number=int(said.yes) + len(said.by))

    job_id = engine.started()
    engine.begin(work, job_id)
    asking = engine.until(job_id, lambda job: job.question is not None)
    assert asking.question
    assert asking.question.text == "May I?"
    with acting_as(own("jobs_api")):
        engine.bench.store.answer(job_id, Answer(yes=True, by="Ann"))
    done = engine.until(job_id, lambda job: job.state.ended)
    assert (done.state, done.result, done.question) == (State.SUCCEEDED, Raw(b'{"number":4}'), None)
    with pytest.raises(NotAsking, match=f"job {job_id} is succeeded and asks nothing"):
        engine.bench.store.answer(job_id, Answer(yes=False))


def test_a_question_that_nobody_answers_is_the_handlers_to_decide(engine: Engine) -> None:
    def work(_: Count, run: LongRun) -> Count:
        try:
            return Count(number=int(run.ask("may", "May I?", timedelta(seconds=1)).yes))
        except Unanswered:
            return Count(number=-1)

    assert engine.run(work).result == Raw(b'{"number":-1}')


def test_a_cancel_is_seen_at_the_next_step_and_clean_up_runs(engine: Engine) -> None:
    seen: list[str] = []

    def work(_: Count, run: LongRun) -> Count:
        def cancel() -> Count:
            engine.bench.store.cancel(run.id)
            engine.bench.pass_time(seconds=2)
            return Count()

        try:
            run.step("one", cancel, Count)
            return run.step("two", lambda: Count(number=len(seen)), Count)
        finally:
            seen.append("cleaned up")

    assert engine.run(work).state is State.CANCELLED
    assert seen == ["cleaned up"]


def test_a_cancel_of_a_run_that_waits_ends_its_execution_at_the_next_sweep(engine: Engine) -> None:
    def work(_: Count, run: LongRun) -> Count:
        return Count(number=int(run.ask("may", "May I?", timedelta(days=2)).yes))

    job_id = engine.started()
    execution = engine.begin(work, job_id)
    engine.waits(job_id)
    engine.bench.store.cancel(job_id)
    assert engine.settle(job_id) == "cancelled"
    assert engine.bench.store.get(job_id).state is State.CANCELLED
    assert engine.status(execution) is ExecutionStatus.STOPPED


def test_a_second_execution_of_an_attempt_is_refused_and_changes_nothing(engine: Engine) -> None:
    ran: list[str] = []

    def work(_: Count, run: LongRun) -> Count:
        ran.append(run.id)
        return Count(number=int(run.ask("may", "May I?", timedelta(days=2)).yes))

    job_id = engine.started()
    engine.begin(work, job_id)
    engine.until(job_id, lambda job: job.question is not None)
    second = Engine(engine.bench)
    execution = second.begin(work, job_id)
    ends = time.monotonic() + PATIENCE
    while second.status(execution) is ExecutionStatus.RUNNING:
        assert time.monotonic() < ends
        time.sleep(0.02)
    second.runners[-1].close()  # type: ignore[no-untyped-call]
    assert len(set(ran)) == len(ran) == 1
    assert engine.bench.store.get(job_id).state is State.RUNNING


def test_a_job_whose_execution_ended_without_a_result_is_tried_again_when_its_lease_ends(engine: Engine) -> None:
    def work(_: Count, run: LongRun) -> Count:
        return Count(number=int(run.ask("may", "May I?", timedelta(days=2)).yes))

    job_id = engine.started()
    execution = engine.begin(work, job_id)
    engine.waits(job_id)
    engine.bench.pass_time(minutes=16)
    assert engine.settle(job_id) == "goes on"
    engine.stop(execution)
    engine.bench.pass_time(minutes=16)
    engine.settle(job_id)
    job = engine.bench.store.get(job_id)
    assert (job.state, job.history[-1].why) == (State.WAITING, "its durable execution has ended without a result")
    assert job.question is None


def test_a_run_that_ends_gives_its_slot_to_the_next_in_line(engine: Engine) -> None:
    bench = engine.bench
    first = bench.submit(LIMITED, Count(number=7))
    bench.pass_time(seconds=1)
    second = bench.submit(LIMITED, Count(number=7))
    until = bench.time + timedelta(minutes=2)
    assert bench.store.start(LIMITED, first, 1, until)
    assert bench.store.start(LIMITED, second, 1, until) == NotStarted("order")
    bench.nudges(LIMITED)
    engine.begin(lambda given, run: run.step("one", lambda: given, Count), first, kind=LIMITED)
    assert engine.until(first, lambda job: job.state.ended).result == Raw(b'{"number":7}')
    ends, nudges = time.monotonic() + PATIENCE, list[str]()
    # It is woken after the first one has ended.
    while not (nudges := bench.nudges(LIMITED)):
        assert time.monotonic() < ends
        time.sleep(0.02)
    assert [json.loads(nudge) for nudge in nudges] == [{"job": second, "attempt": 1}]


def test_a_type_that_is_not_durable_is_refused() -> None:
    with pytest.raises(ValueError, match="job type 'short' is not durable"):
        long_job(JobType(name="short", input=Count, result=Count))


@pytest.mark.parametrize("text", ["x" * 400_000, "half of a pair: \ud83d"], ids=["large", "surrogate"])
def test_a_step_that_fails_with_any_text_ends_the_job_with_it(engine: Engine, text: str) -> None:
    tried: list[int] = []

    def fail() -> Count:
        tried.append(1)
        raise KeyError(text)

    job = engine.run(lambda _, run: run.step("one", fail, Count))
    # KeyError is permanent by the type's policy.
    assert (job.state, len(tried)) == (State.FAILED, 1)
    assert job.error
    assert job.error.startswith("step 'one': KeyError: ")
    assert len(job.error.encode()) <= 1000


def test_what_a_steps_own_code_raises_is_no_fault_of_its_result(engine: Engine) -> None:
    tried: list[int] = []

    def fail() -> Count:
        tried.append(1)
        raise TypeError("at first")

    job = engine.run(lambda _, run: run.step("one", fail, Count))
    assert (job.state, len(tried)) == (State.FAILED, 3)
    assert job.error == "step 'one': TypeError: at first"
