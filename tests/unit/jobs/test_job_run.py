"""How a function runs jobs, on real tables and queues, by a clock that is set by hand."""

from __future__ import annotations

import json
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Annotated, Any

import msgspec
import pytest
from msgspec import Meta, Struct

from offload.contracts.jobs.job import State
from offload.contracts.jobs.job_type import JobType, Retry
from offload.runtime import aws, invocation
from offload.runtime.jobs.run import Cancelled, Permanent, RetryAfter, Run, job
from offload.runtime.settings import MissingSetting
from tests.patience import PATIENCE
from tests.unit.jobs.job_bench import JobBench


class Mail(Struct, frozen=True, kw_only=True):
    """A test job's input."""

    to: str = "ann"


class Sent(Struct, frozen=True, kw_only=True):
    """A test job's result."""

    number: Annotated[int, Meta(ge=0)] = 1
    text: str = ""


MAIL = JobType(
    name="mail", input=Mail, result=Sent, retry=Retry(attempts=2, permanent=("LookupError",), first_wait=timedelta(0))
)
NEWSLETTER = JobType(name="newsletter", input=Mail, result=Sent, timeout=timedelta(minutes=2))
TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


@pytest.fixture
def bench(aws_of_module: None, monkeypatch: pytest.MonkeyPatch) -> JobBench:
    """A job service with two types."""
    return JobBench(monkeypatch, MAIL, NEWSLETTER)


def lines(capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    """The canonical log lines since the last look."""
    logged = [json.loads(text) for text in capsys.readouterr().out.splitlines()]
    return [line for line in logged if line["message"] == "attempt"]


def test_a_job_gets_its_input_and_ends_with_what_the_handler_returns(
    bench: JobBench, capsys: pytest.CaptureFixture[str]
) -> None:
    seen: list[Any] = []

    def work(mail: Mail, run: Run) -> Sent:
        seen.extend([mail, run.input, run.id, run.attempt, run.traceparent])
        # What a call out within it goes by.
        assert invocation.traceparent() == TRACE
        assert 0 < (invocation.remaining_ms() or 0) <= 60_000
        return Sent(number=7)

    job_id = bench.submit(MAIL, Mail(to="secret"), traceparent=TRACE)
    found = bench.run(bench.handler(MAIL, work), job_id)
    assert seen == [Mail(to="secret"), Mail(to="secret"), job_id, 1, TRACE]
    assert (found.state, found.result) == (State.SUCCEEDED, msgspec.Raw(b'{"number":7,"text":""}'))
    out = capsys.readouterr()
    (line,) = [json.loads(text) for text in out.out.splitlines()]
    said = {name: line[name] for name in ("job_id", "job_type", "attempt", "outcome", "trace_id", "request_id")}
    assert said == {
        "job_id": job_id,
        "job_type": "mail",
        "attempt": 1,
        "outcome": "succeeded",
        "trace_id": TRACE.split("-")[1],
        "request_id": "request-1",
    }
    assert line["service"] == "mail"
    assert "secret" not in out.out


@pytest.mark.slow
def test_no_more_handlers_run_at_once_than_the_type_and_the_key_allow(
    aws_of_module: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    limited = JobType(name="mail", input=Mail, result=Sent, concurrency=3, key="to", concurrency_per_key=1)
    bench, lock = JobBench(monkeypatch, limited), threading.Lock()
    inside: Counter[str] = Counter()
    most: Counter[str] = Counter()
    runs: Counter[str] = Counter()

    def work(mail: Mail, run: Run) -> Sent:
        with lock:
            runs[run.id] += 1
            inside[mail.to] += 1
            most["of a key"] = max(most["of a key"], inside[mail.to])
            most["in all"] = max(most["in all"], inside.total())
            if inside.total() == limited.concurrency:
                together.set()
        # The first ones stay until as many as may be are here, whatever the machine does meanwhile.
        together.wait(10)
        done.wait(0.02)
        with lock:
            inside[mail.to] -= 1
        return Sent()

    done, together = threading.Event(), threading.Event()
    handler = bench.handler(limited, work)
    jobs = {bench.submit(limited, Mail(to=f"customer {number % 5}")) for number in range(40)}
    ends = time.monotonic() + PATIENCE

    def worker(_: int) -> None:
        while len(runs) < len(jobs) or inside.total():
            assert time.monotonic() < ends, f"{len(runs)} of {len(jobs)} jobs ran"
            for body in bench.nudges(limited):
                # What the handler leaves to SQS comes again.
                if bench.invoke(handler, body)["batchItemFailures"]:
                    bench.sqs.send_message(QueueUrl=bench.queues[limited.name], MessageBody=body)

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(worker, range(8)))
    assert runs == Counter(jobs)
    assert most == {"of a key": 1, "in all": 3}
    assert {bench.store.get(each).state for each in jobs} == {State.SUCCEEDED}


def test_a_nudge_that_comes_twice_runs_the_job_once(bench: JobBench, capsys: pytest.CaptureFixture[str]) -> None:
    runs: list[str] = []

    def work(_: Mail, run: Run) -> Sent:
        runs.append(run.id)
        return Sent()

    handler, job_id = bench.handler(MAIL, work), bench.submit(MAIL, Mail())
    bodies = bench.nudges(MAIL)
    assert bench.invoke(handler, *bodies, *bodies, json.dumps({"job": "job-nobody", "attempt": 1})) == {
        "batchItemFailures": []
    }
    assert runs == [job_id]
    assert [(line["outcome"], line.get("reason")) for line in lines(capsys)] == [
        ("succeeded", None),
        ("not-started", "ended"),
        ("not-started", "gone"),
    ]


@pytest.mark.parametrize("body", ["no JSON", "[1]", '{"job": "job-1"}', '{"job": "job-1", "attempt": 0}', "[" * 5000])
def test_what_is_no_nudge_goes_to_the_dead_letters_with_its_reason_and_the_next_one_runs(
    bench: JobBench, body: str
) -> None:
    handler, job_id = bench.handler(MAIL, lambda *_: Sent()), bench.submit(MAIL, Mail())
    assert bench.invoke(handler, body, *bench.nudges(MAIL)) == {"batchItemFailures": []}
    (letter,) = bench.dead_letters()
    assert (letter["body"], letter["reason"], letter["consumer"]) == (body, "undecodable", "mail")
    assert letter["detail"].startswith("not a nudge: ")
    assert bench.store.get(job_id).state is State.SUCCEEDED


def test_a_nudge_stays_in_the_queue_while_the_store_cannot_be_reached(
    bench: JobBench, capsys: pytest.CaptureFixture[str]
) -> None:
    handler, job_id = bench.handler(MAIL, lambda *_: Sent()), bench.submit(MAIL, Mail())
    aws.dynamodb().delete_table(TableName=bench.name)
    answer = bench.invoke(handler, json.dumps({"job": job_id, "attempt": 1}))
    assert answer == {"batchItemFailures": [{"itemIdentifier": "m0"}]}
    assert [(line["outcome"], line["reason"]) for line in lines(capsys)] == [("retry", "store-unavailable")]


def test_an_undecodable_nudge_stays_in_the_queue_while_the_dead_letters_cannot_be_reached(bench: JobBench) -> None:
    handler = bench.handler(MAIL, lambda *_: Sent())
    bench.sqs.delete_queue(QueueUrl=bench.dead)
    assert bench.invoke(handler, "no JSON") == {"batchItemFailures": [{"itemIdentifier": "m0"}]}


def test_a_large_result_goes_to_the_bucket(bench: JobBench) -> None:
    handler = bench.handler(MAIL, lambda *_: Sent(text="x" * 300_000))
    found = bench.run(handler, bench.submit(MAIL, Mail()))
    assert (found.state, found.result) == (State.SUCCEEDED, None)
    stored = bench.s3.get_object(Bucket=bench.name, Key=found.result_ref or "")["Body"].read()
    assert msgspec.json.decode(stored, type=Sent) == Sent(text="x" * 300_000)


def test_a_job_that_raises_is_tried_again_as_its_type_says_and_then_has_failed(
    bench: JobBench, capsys: pytest.CaptureFixture[str]
) -> None:
    def work(*_: Any) -> Sent:
        raise ZeroDivisionError("by nought")

    handler, job_id = bench.handler(MAIL, work), bench.submit(MAIL, Mail())
    assert bench.run(handler, job_id, 1).state is State.WAITING
    found = bench.run(handler, job_id, 2)
    assert (found.state, found.error) == (State.FAILED, "ZeroDivisionError: by nought")
    first, _ = lines(capsys)
    assert (first["outcome"], first["reason"], first["level"]) == ("failed", "may-pass", "ERROR")
    assert "ZeroDivisionError: by nought" in first["exception"]


class NotThere(LookupError):
    """A subclass of what the type calls permanent."""


@pytest.mark.parametrize(
    ("error", "said"), [(Permanent("no such file"), "no such file"), (NotThere("gone"), "NotThere: gone")]
)
def test_a_permanent_error_is_not_tried_again(bench: JobBench, error: Exception, said: str) -> None:
    def work(*_: Any) -> Sent:
        raise error

    found = bench.run(bench.handler(MAIL, work), bench.submit(MAIL, Mail()))
    assert (found.state, found.error) == (State.FAILED, said)


def test_a_handler_names_its_own_next_try(bench: JobBench) -> None:
    def work(_: Mail, run: Run) -> Sent:
        if run.attempt == 1:
            raise RetryAfter(3600, "the bank is closed")
        return Sent()

    handler, job_id = bench.handler(MAIL, work), bench.submit(MAIL, Mail())
    found = bench.run(handler, job_id, 1)
    assert (found.state, found.run_at) == (State.WAITING, bench.time + timedelta(hours=1))
    assert found.history[-1].why == "the bank is closed"
    bench.pass_time(minutes=59)
    assert bench.run(handler, job_id, 2).state is State.WAITING
    bench.pass_time(minutes=1)
    assert bench.run(handler, job_id, 2).state is State.SUCCEEDED


def test_an_input_that_no_longer_keeps_its_contract_fails_the_job_and_names_the_field(bench: JobBench) -> None:
    class StricterMail(Struct, frozen=True):
        to: int

    newer = JobType(name="mail", input=StricterMail, result=Sent)
    job_id = bench.submit(MAIL, Mail())
    found = bench.run(bench.handler(newer, lambda *_: Sent()), job_id)
    assert found.state is State.FAILED
    assert found.error == "input: Expected `int`, got `str` - at `$.to`"


@pytest.mark.parametrize("result", [None, {"number": "one"}, Sent(number=-1), object()])
def test_a_result_that_breaks_its_contract_fails_the_job(bench: JobBench, result: Any) -> None:
    found = bench.run(bench.handler(MAIL, lambda *_: result), bench.submit(MAIL, Mail()))
    assert found.state is State.FAILED
    assert (found.error or "").startswith(f"result: the handler's {type(result).__name__} breaks its contract: ")


def test_a_run_has_its_lease_until_a_second_after_the_invocations_deadline(bench: JobBench) -> None:
    leases: list[Any] = []

    def work(_: Mail, run: Run) -> Sent:
        leases.append(bench.store.get(run.id).lease_until)
        bench.pass_time(seconds=20)
        run.check()
        leases.append(bench.store.get(run.id).lease_until)
        return Sent()

    deadline = bench.time + timedelta(seconds=45)
    bench.run(bench.handler(MAIL, work), bench.submit(MAIL, Mail()), seconds=45)
    assert leases == [deadline + timedelta(seconds=1)] * 2


def test_progress_is_written_once_a_second_with_an_estimate_of_its_end(bench: JobBench) -> None:
    written: list[Any] = []

    def work(_: Mail, run: Run) -> Sent:
        for _number in run.each(range(40)):
            progress = bench.store.get(run.id).progress
            if progress not in written:
                written.append(progress)
            bench.pass_time(seconds=0.25)
        return Sent()

    begin = bench.time
    bench.run(bench.handler(MAIL, work), bench.submit(MAIL, Mail()))
    assert written[0] is None
    assert [progress.done for progress in written[1:]] == list(range(4, 40, 4))
    assert {progress.total for progress in written[1:]} == {40}
    assert {progress.finish_at for progress in written[1:]} == {begin + timedelta(seconds=10)}


def test_a_run_that_goes_on_from_the_middle_estimates_by_its_own_rate(bench: JobBench) -> None:
    def work(_: Mail, run: Run) -> Sent:
        for done in (800, 850, 900):
            bench.pass_time(seconds=10)
            run.progress(done, 1000, f"row {done}")
        progress = bench.store.get(run.id).progress
        assert progress is not None
        assert (progress.message, progress.finish_at) == ("row 900", bench.time + timedelta(seconds=20))
        return Sent()

    assert bench.run(bench.handler(MAIL, work), bench.submit(MAIL, Mail())).state is State.SUCCEEDED


def test_a_running_job_sees_a_cancel_at_its_next_checkpoint_and_cleans_up(bench: JobBench) -> None:
    done: list[Any] = []

    def work(_: Mail, run: Run) -> Sent:
        try:
            for number in run.each(range(100)):
                done.append(number)
                if number == 2:
                    bench.store.cancel(run.id)
                bench.pass_time(seconds=0.6)
        except Exception:  # noqa: BLE001 -- a handler that holds every error does not hold this
            done.append("held")
        finally:
            done.append("cleaned up")
        return Sent()

    found = bench.run(bench.handler(MAIL, work), bench.submit(MAIL, Mail()))
    assert found.state is State.CANCELLED
    assert done == [0, 1, 2, 3, "cleaned up"]


def test_after_a_cancel_was_seen_every_checkpoint_says_so(bench: JobBench) -> None:
    raised: list[str] = []

    def work(_: Mail, run: Run) -> Sent:
        bench.store.cancel(run.id)
        bench.pass_time(seconds=1)
        for _turn in range(2):
            try:
                run.check()
            except Cancelled:
                raised.append("cancelled")
        return Sent(number=5)

    found = bench.run(bench.handler(MAIL, work), bench.submit(MAIL, Mail()))
    assert raised == ["cancelled"] * 2
    # It finished all the same: what is done is not called cancelled.
    assert found.state is State.SUCCEEDED


def test_a_clean_up_that_fails_is_the_jobs_error(bench: JobBench) -> None:
    def work(_: Mail, run: Run) -> Sent:
        bench.store.cancel(run.id)
        bench.pass_time(seconds=1)
        try:
            run.check()
        finally:
            raise OSError("the disk is full")

    found = bench.run(bench.handler(MAIL, work), bench.submit(MAIL, Mail()))
    assert found.state is State.FAILED
    assert found.error == "its clean-up after a cancel failed: OSError: the disk is full"


def test_a_job_that_was_cancelled_during_an_attempt_that_failed_does_not_run_again(bench: JobBench) -> None:
    attempts: list[int] = []

    def work(_: Mail, run: Run) -> Sent:
        attempts.append(run.attempt)
        bench.store.cancel(run.id)
        raise OSError("elsewhere")

    handler, job_id = bench.handler(MAIL, work), bench.submit(MAIL, Mail())
    bench.run(handler, job_id, 1)
    assert bench.run(handler, job_id, 2).state is State.CANCELLED
    assert attempts == [1]


@pytest.mark.parametrize("ending", ["return", "raise", "checkpoint", "held checkpoint"])
def test_a_rescued_worker_whose_lease_was_lost_writes_nothing(
    bench: JobBench, ending: str, capsys: pytest.CaptureFixture[str]
) -> None:
    def late(_: Mail, run: Run) -> Sent:
        bench.pass_time(seconds=70)
        assert bench.store.settle(MAIL, run.id) == "lease ended"
        assert bench.run(bench.handler(MAIL, lambda *_: Sent(number=2)), run.id, 2).state is State.SUCCEEDED
        if ending == "raise":
            raise OSError("late")
        if ending == "checkpoint":
            run.check()
        if ending == "held checkpoint":
            try:
                run.check()
            except BaseException:  # noqa: BLE001 -- the worst a handler can do
                with pytest.raises(BaseException):  # noqa: B017, PT011
                    run.put("file", b"late", "text/plain")
        return Sent(number=1)

    found = bench.run(bench.handler(MAIL, late), bench.submit(MAIL, Mail()), seconds=60)
    assert (found.state, found.attempt, found.result) == (State.SUCCEEDED, 2, msgspec.Raw(b'{"number":2,"text":""}'))
    assert [entry.state for entry in found.history].count(State.SUCCEEDED) == 1
    assert lines(capsys)[-1]["outcome"] == "lost"
    assert "Contents" not in bench.s3.list_objects_v2(Bucket=bench.name)


def test_a_file_of_a_job_has_its_attempt_in_its_key(bench: JobBench) -> None:
    def work(_: Mail, run: Run) -> Sent:
        if run.attempt == 1:
            run.put("a/report.html", b"first", "text/html")
            raise OSError("then it broke")
        return Sent(text=run.put("a/report.html", b"second", "text/html"))

    handler, job_id = bench.handler(MAIL, work), bench.submit(MAIL, Mail())
    bench.run(handler, job_id, 1)
    bench.run(handler, job_id, 2)
    keys = [entry["Key"] for entry in bench.s3.list_objects_v2(Bucket=bench.name)["Contents"]]
    assert keys == [f"results/{job_id}/{attempt}/a/report.html" for attempt in (1, 2)]
    answer = bench.s3.get_object(Bucket=bench.name, Key=keys[1])
    assert (answer["Body"].read(), answer["ContentType"]) == (b"second", "text/html")


@pytest.mark.parametrize("name", ["", "/etc", "../other", "a/../../b"])
def test_a_file_stays_in_its_jobs_folder(bench: JobBench, name: str) -> None:
    found = bench.run(
        bench.handler(MAIL, lambda _, run: Sent(text=run.put(name, b"", "text/plain"))), bench.submit(MAIL, Mail())
    )
    assert (found.state, found.attempt) == (State.WAITING, 1)
    assert found.history[-1].why.startswith(f"ValueError: '{name}' is no name")


# Children


def number_of(mail: Mail, _: Run) -> Sent:
    """A child's work: its number, or it fails."""
    if mail.to == "nobody":
        raise Permanent("nobody lives there")
    return Sent(number=int(mail.to))


def children(bench: JobBench, parent: str) -> list[str]:
    """The ids of a job's children, by the listing."""
    return sorted(each.id for each in bench.store.page(types=["mail"]).jobs if each.parent == parent)


def test_a_job_gathers_its_childrens_results_in_order(bench: JobBench) -> None:
    turns: list[int] = []

    def work(_: Mail, run: Run) -> Sent:
        turns.append(run.attempt)
        first = run.gather(MAIL, [Mail(to=str(number)) for number in (3, 1, 2)])
        second = run.gather(MAIL, [Mail(to=str(sum(sent.number for sent in first)))])
        return Sent(text=",".join(str(sent.number) for sent in (*first, *second)))

    parent = bench.submit(NEWSLETTER, Mail(), traceparent=TRACE)
    newsletter, mail = bench.handler(NEWSLETTER, work), bench.handler(MAIL, number_of)
    found = bench.run(newsletter, parent)
    assert (found.state, len(children(bench, parent))) == (State.WAITING, 3)
    assert {bench.store.get(child).traceparent for child in children(bench, parent)} == {TRACE}
    bench.work(mail, newsletter)
    found = bench.store.get(parent)
    assert (found.state, found.result) == (State.SUCCEEDED, msgspec.Raw(b'{"number":1,"text":"3,1,2,6"}'))
    assert turns == [1, 2, 3]
    assert children(bench, parent) == [f"{parent}-0-0", f"{parent}-0-1", f"{parent}-0-2", f"{parent}-1-0"]
    assert [child.id for child in bench.store.children(parent)] == children(bench, parent)


def test_a_childs_large_result_is_read_from_the_bucket(bench: JobBench) -> None:
    parent = bench.submit(NEWSLETTER, Mail())
    newsletter = bench.handler(
        NEWSLETTER, lambda _, run: Sent(number=sum(len(sent.text) for sent in run.gather(MAIL, [Mail()])))
    )
    bench.work(newsletter, bench.handler(MAIL, lambda *_: Sent(text="x" * 300_000)))
    assert bench.store.get(parent).result == msgspec.Raw(b'{"number":300000,"text":""}')


@pytest.mark.parametrize(
    ("need", "state", "said"),
    [
        ("all", State.FAILED, "its child 1, {parent}-0-1, failed: nobody lives there"),
        ("succeeded", State.SUCCEEDED, None),
    ],
)
def test_a_failed_child_fails_its_parent_unless_it_takes_what_succeeded(
    bench: JobBench, need: Any, state: State, said: str | None
) -> None:
    def work(_: Mail, run: Run) -> Sent:
        sent = run.gather(MAIL, [Mail(to=to) for to in ("4", "nobody", "5")], need=need)
        return Sent(text=str([each.number for each in sent]))

    parent = bench.submit(NEWSLETTER, Mail())
    bench.work(bench.handler(NEWSLETTER, work), bench.handler(MAIL, number_of))
    found = bench.store.get(parent)
    assert (found.state, found.error) == (state, said and said.format(parent=parent))
    if state is State.SUCCEEDED:
        assert found.result == msgspec.Raw(b'{"number":1,"text":"[4, 5]"}')


def test_a_job_that_dies_between_starting_its_children_and_waiting_for_them_starts_none_twice(bench: JobBench) -> None:
    class Killed(BaseException):
        """As if the process had been killed: nobody catches it."""

    class Dying(list[Mail]):
        """Two inputs, after the second of which the process is killed the first time."""

        def __iter__(self) -> Iterator[Mail]:
            yield from super().__iter__()
            if bench.store.get(parent).attempt == 1:
                raise Killed

    def work(_: Mail, run: Run) -> Sent:
        return Sent(number=sum(sent.number for sent in run.gather(MAIL, Dying([Mail(to="1"), Mail(to="2")]))))

    parent = bench.submit(NEWSLETTER, Mail())
    newsletter, mail = bench.handler(NEWSLETTER, work), bench.handler(MAIL, number_of)
    with pytest.raises(Killed):
        bench.run(newsletter, parent)
    assert bench.store.get(parent).state is State.RUNNING
    bench.pass_time(seconds=62)
    assert bench.store.settle(NEWSLETTER, parent) == "lease ended"
    bench.pass_time(seconds=10)
    bench.run(newsletter, parent, 2)
    bench.work(mail, newsletter)
    assert bench.store.get(parent).result == msgspec.Raw(b'{"number":3,"text":""}')
    assert children(bench, parent) == [f"{parent}-0-0", f"{parent}-0-1"]


def test_a_cancel_while_children_are_being_started_cancels_them_too(bench: JobBench) -> None:
    class Slow(list[Mail]):
        """Inputs that take time, during which the parent is cancelled."""

        def __iter__(self) -> Iterator[Mail]:
            for number, mail in enumerate(super().__iter__()):
                if number == 2:
                    bench.store.cancel(parent)
                    bench.pass_time(seconds=2)
                yield mail

    parent = bench.submit(NEWSLETTER, Mail())
    newsletter = bench.handler(NEWSLETTER, lambda _, run: run.gather(MAIL, Slow([Mail()] * 5))[0])
    assert bench.run(newsletter, parent).state is State.CANCELLED
    started = [bench.store.get(child) for child in children(bench, parent)]
    assert [child.state for child in started] == [State.CANCELLED] * 3


def test_a_cancel_just_before_the_parent_waits_cancels_the_whole_tree(bench: JobBench) -> None:
    class Last(list[Mail]):
        """Inputs after the last of which the parent is cancelled, with no checkpoint due any more."""

        def __iter__(self) -> Iterator[Mail]:
            yield from super().__iter__()
            bench.store.cancel(parent)

    parent = bench.submit(NEWSLETTER, Mail())
    newsletter = bench.handler(NEWSLETTER, lambda _, run: run.gather(MAIL, Last([Mail()] * 2))[0])
    assert bench.run(newsletter, parent).state is State.CANCELLED
    assert [bench.store.get(child).state for child in children(bench, parent)] == [State.CANCELLED] * 2


def test_other_inputs_than_the_first_time_fail_the_job(bench: JobBench) -> None:
    def work(_: Mail, run: Run) -> Sent:
        return run.gather(MAIL, [Mail(to=str(run.attempt))] * run.attempt)[0]

    parent = bench.submit(NEWSLETTER, Mail())
    newsletter, mail = bench.handler(NEWSLETTER, work), bench.handler(MAIL, number_of)
    bench.run(newsletter, parent)
    bench.work(mail)
    bench.run(newsletter, parent, 2)
    assert [entry.state for entry in bench.store.get(parent).history][-1] is State.FAILED
    assert "gather 0" in (bench.store.get(parent).error or "")


# Wiring


def test_a_function_refuses_the_settings_of_another_type(bench: JobBench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OFFLOAD_JOB", "newsletter")
    with pytest.raises(MissingSetting, match="OFFLOAD_JOB is 'newsletter', and the handler runs 'mail'"):
        job(MAIL)(number_of)
    monkeypatch.setenv("OFFLOAD_JOB", "mail")
    assert job(MAIL)(number_of).work is number_of
    monkeypatch.delenv("OFFLOAD_DEAD_LETTER_QUEUE_URL")
    with pytest.raises(MissingSetting, match="OFFLOAD_DEAD_LETTER_QUEUE_URL"):
        job(MAIL)(number_of)


def test_a_durable_type_is_refused() -> None:
    durable = JobType(name="long", input=Mail, result=Sent, durable=True, steps=("send",))
    with pytest.raises(ValueError, match="job type 'long' is durable"):
        job(durable)
