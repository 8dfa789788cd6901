"""The state of jobs, on real tables and queues."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import boto3
import msgspec
import pytest
from msgspec import Struct

from offload.contracts.jobs.job import Job, State, Submit
from offload.contracts.jobs.job_type import JobType, OnConflict, Priority, Retention, Retry, Unique
from offload.runtime import aws
from offload.runtime.jobs import items
from offload.runtime.jobs.leases import Lease
from offload.runtime.jobs.listing import Page
from offload.runtime.jobs.refusals import (
    BadInput,
    BadTime,
    IdempotencyConflict,
    InputTooLarge,
    LostLease,
    NoSuchJob,
    NoSuchLane,
    NotDeployed,
    NotEnded,
    NotHeld,
)
from offload.runtime.jobs.registry import Registry
from offload.runtime.jobs.slots import NotStarted
from offload.runtime.jobs.store import JobStore
from tests.patience import queue_without_redelivery

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient
    from mypy_boto3_sqs import SQSClient


class Mail(Struct, frozen=True, kw_only=True):
    """A test job's input."""

    to: str = "ann"
    text: str = ""


class Sent(Struct, frozen=True):
    """A test job's result."""

    number: int


LANES = (Priority.HIGH, Priority.NORMAL, Priority.LOW)
MAIL = JobType(name="mail", input=Mail, result=Sent, retry=Retry(attempts=2), lanes=LANES)


class Service:
    """A job store with a clock that is set by hand, and the queue that its nudges go to."""

    def __init__(self, dynamodb: DynamoDBClient, sqs: SQSClient) -> None:
        name = f"jobs-{uuid4().hex[:12]}"
        string: Any = [(name, "S") for name in ("pk", "sk", "due_shard", "type_shard", "listed")] + [("due_at", "N")]
        dynamodb.create_table(
            TableName=name,
            KeySchema=[{"AttributeName": "pk", "KeyType": "HASH"}, {"AttributeName": "sk", "KeyType": "RANGE"}],
            AttributeDefinitions=[{"AttributeName": each, "AttributeType": kind} for each, kind in string],
            GlobalSecondaryIndexes=[
                {
                    "IndexName": index,
                    "KeySchema": [{"AttributeName": pk, "KeyType": "HASH"}, {"AttributeName": sk, "KeyType": "RANGE"}],
                    "Projection": {"ProjectionType": "ALL"},
                }
                for index, pk, sk in (("due", "due_shard", "due_at"), ("types", "type_shard", "listed"))
            ],
            BillingMode="PAY_PER_REQUEST",
        )
        self.queue = queue_without_redelivery(sqs, name)
        self.sqs, self.dynamodb = sqs, dynamodb
        boto3.client("events").create_event_bus(Name=name)
        boto3.client("s3").create_bucket(Bucket=name)
        queues = json.dumps({"queues": dict.fromkeys(LANES, self.queue)})
        boto3.client("ssm").put_parameter(Name=f"/{name}/mail", Value=queues, Type="String")
        self.time = datetime(2026, 11, 24, 12, tzinfo=UTC)
        self.store = JobStore(
            table=name,
            bucket=name,
            bus=name,
            registry=Registry(f"/{name}"),
            types={"mail": MAIL},
            now=lambda: self.time,
        )

    def pass_time(self, **time: float) -> None:
        """Sets the clock on."""
        self.time += timedelta(**time)

    def submit(self, job_type: JobType[Any, Any] = MAIL, /, **wish: Any) -> str:
        """Submits a job; its id."""
        given = msgspec.json.encode(wish.pop("input", Mail()))
        return self.store.submit(job_type, Submit(type="mail", input=msgspec.Raw(given), **wish)).job.id

    def start(self, job_id: str, attempt: int = 1, job_type: JobType[Any, Any] = MAIL, seconds: float = 60) -> Lease:
        """Starts an attempt that must be able to."""
        lease = self.store.start(job_type, job_id, attempt, self.time + timedelta(seconds=seconds))
        assert isinstance(lease, Lease), lease
        return lease

    def refused(self, job_id: str, attempt: int = 1, job_type: JobType[Any, Any] = MAIL) -> str:
        """Why an attempt may not start."""
        answer = self.store.start(job_type, job_id, attempt, self.time + timedelta(seconds=60))
        assert isinstance(answer, NotStarted)
        return answer.reason

    def settle(self, job_id: str, job_type: JobType[Any, Any] = MAIL) -> str | None:
        """Does what the job's time asks for."""
        return self.store.settle(job_type, job_id)

    def nudges(self) -> list[tuple[str, int]]:
        """The nudges that were sent since the last look, those that are not delayed."""
        found = []
        while messages := self.sqs.receive_message(QueueUrl=self.queue, MaxNumberOfMessages=10).get("Messages", []):
            for message in messages:
                self.sqs.delete_message(QueueUrl=self.queue, ReceiptHandle=message["ReceiptHandle"])
                body = json.loads(message["Body"])
                found.append((body["job"], body["attempt"]))
        return found

    def states(self, job_id: str) -> list[str]:
        """The states that a job went through."""
        return [entry.state.value for entry in self.store.get(job_id).history]

    def adds_up(self) -> bool:
        """Whether every accepted job is ended or open."""
        return self.store.tallies(["mail"])["mail"].missing == 0


@pytest.fixture
def service(dynamodb: DynamoDBClient, sqs: SQSClient) -> Service:
    """A job service of its own."""
    return Service(dynamodb, sqs)


def test_a_job_is_queued_nudged_run_and_succeeds(service: Service) -> None:
    job = service.submit()
    assert service.nudges() == [(job, 1)]
    service.store.succeed(MAIL, service.start(job), b'{"number":1}')
    found = service.store.get(job)
    assert (found.state, found.result, found.attempt) == (State.SUCCEEDED, msgspec.Raw(b'{"number":1}'), 1)
    assert service.states(job) == ["queued", "running", "succeeded"]
    assert service.adds_up()


def test_a_short_job_takes_six_calls(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    service.submit()
    calls: list[str] = []
    for client in (aws.dynamodb(), aws.sqs(), aws.events(), aws.ssm()):
        client.meta.events.register("before-call", lambda model, **_: calls.append(model.name))
    job = service.submit()
    service.store.succeed(MAIL, service.start(job), b"null")
    assert calls == ["TransactWriteItems", "SendMessage", "UpdateItem", "TransactWriteItems", "PutEvents", "UpdateItem"]


def test_only_one_attempt_runs_and_a_late_one_is_refused(service: Service) -> None:
    job = service.submit()
    late = service.start(job)
    assert service.refused(job) == "running"
    service.pass_time(seconds=61)
    assert service.settle(job) == "lease ended"
    service.pass_time(seconds=2)
    lease = service.start(job, 2)
    for act in (
        lambda: service.store.renew(late, lease_until=service.time),
        lambda: service.store.succeed(MAIL, late, b"1"),
        lambda: service.store.fail(MAIL, late, "late", permanent=False),
        lambda: service.store.cancelled(MAIL, late),
    ):
        with pytest.raises(LostLease):
            act()
    service.store.succeed(MAIL, lease, b"2")
    assert service.store.get(job).result == msgspec.Raw(b"2")
    assert service.refused(job) == "ended"
    assert service.adds_up()


def test_progress_keeps_the_lease(service: Service) -> None:
    job = service.submit()
    lease = service.start(job)
    service.pass_time(seconds=50)
    assert not service.store.renew(lease, lease_until=service.time + timedelta(seconds=60))
    service.pass_time(seconds=50)
    assert service.settle(job) is None
    service.store.succeed(MAIL, lease, b"null")


def test_a_failed_attempt_waits_and_the_last_one_fails_the_job(service: Service) -> None:
    job = service.submit()
    service.store.fail(MAIL, service.start(job), "no", permanent=False)
    assert service.refused(job, 2) == "early"
    service.pass_time(seconds=2)
    service.store.fail(MAIL, service.start(job, 2), "still no", permanent=False)
    found = service.store.get(job)
    assert (found.state, found.error) == (State.FAILED, "still no")
    assert service.states(job) == ["queued", "running", "waiting", "running", "failed"]
    assert service.adds_up()


def test_a_permanent_error_is_not_retried_and_a_handler_may_name_its_next_try(service: Service) -> None:
    job, other = service.submit(), service.submit()
    service.store.fail(MAIL, service.start(job), "never", permanent=True)
    assert service.store.get(job).state is State.FAILED
    service.store.fail(MAIL, service.start(other), "later", permanent=False, retry_after=timedelta(hours=1))
    assert service.store.get(other).run_at == service.time + timedelta(hours=1)


def test_the_same_idempotency_key_is_the_same_job_and_other_content_a_conflict(service: Service) -> None:
    job = service.submit(idempotency_key="k")
    assert service.submit(idempotency_key="k") == job
    with pytest.raises(IdempotencyConflict):
        service.submit(idempotency_key="k", input=Mail(to="bob"))
    assert service.store.tallies(["mail"])["mail"].accepted == 1


def test_what_cannot_be_is_refused_and_nothing_is_written(service: Service) -> None:
    with pytest.raises(BadInput, match=r"\$\.to"):
        service.store.submit(MAIL, Submit(type="mail", input=msgspec.Raw(b'{"to":1}')))
    with pytest.raises(InputTooLarge):
        service.submit(input=Mail(text="x" * 300_000))
    with pytest.raises(BadTime):
        service.submit(delay=1, run_at=service.time)
    with pytest.raises(BadTime):
        service.submit(run_at=service.time + timedelta(days=400))
    with pytest.raises(NotDeployed):
        service.submit(JobType(name="fax", input=Mail, result=Sent))
    with pytest.raises(NoSuchJob):
        service.store.get("job-none")
    assert service.store.page(types=["mail", "fax"]).jobs == []
    assert service.store.tallies(["mail"])["mail"].accepted == 0


def test_a_lane_that_the_type_has_not_is_refused(service: Service) -> None:
    narrow = boto3.client("ssm")
    narrow.put_parameter(
        Name=f"/{service.store.table}/mail",
        Value=json.dumps({"queues": {"normal": service.queue}}),
        Type="String",
        Overwrite=True,
    )
    with pytest.raises(NoSuchLane, match="normal"):
        service.submit(priority=Priority.HIGH)


def test_a_delayed_job_is_never_early_and_nudged_when_due(service: Service) -> None:
    job = service.submit(delay=3600)
    assert service.nudges() == []
    assert service.refused(job) == "early"
    service.pass_time(seconds=3540)
    assert [due.job_id for due in service.store.due(service.time + timedelta(seconds=75))] == [job]
    assert service.settle(job) == "nudged ahead"
    assert service.refused(job) == "early"
    service.pass_time(seconds=60)
    assert service.settle(job) == "nudged"
    assert (job, 1) in service.nudges()
    service.start(job)


def test_a_lost_nudge_is_sent_again(service: Service) -> None:
    job = service.submit()
    service.nudges()
    service.pass_time(seconds=61)
    assert service.settle(job) == "nudged"
    assert service.nudges() == [(job, 1)]


def test_a_queued_job_that_is_cancelled_never_runs(service: Service) -> None:
    job = service.submit()
    assert service.store.cancel(job).state is State.CANCELLED
    assert service.refused(job) == "ended"
    assert service.adds_up()


def test_a_running_job_sees_that_it_is_cancelled(service: Service) -> None:
    job = service.submit()
    lease = service.start(job)
    assert service.store.cancel(job).cancel_requested
    assert service.store.renew(lease, lease_until=service.time + timedelta(seconds=60))
    service.store.cancelled(MAIL, lease)
    assert service.store.get(job).state is State.CANCELLED
    assert service.adds_up()


def test_an_effect_that_must_not_be_repeated_is_held_when_its_outcome_is_unknown(service: Service) -> None:
    payment = JobType(name="mail", input=Mail, result=Sent, repeatable=False)
    jobs = {decision: service.submit(payment) for decision in ("done", "retry", "fail")}
    for job in jobs.values():
        service.start(job, job_type=payment)
    service.pass_time(seconds=61)
    for job in jobs.values():
        assert service.settle(job, payment) == "held"
        assert service.refused(job, 2, payment) == "held"
    assert service.adds_up()
    assert service.store.decide(payment, jobs["done"], "done", result=b"7").state is State.SUCCEEDED
    assert service.store.decide(payment, jobs["fail"], "fail", why="bank says no").state is State.FAILED
    assert service.store.decide(payment, jobs["retry"], "retry").state is State.WAITING
    with pytest.raises(NotHeld):
        service.store.decide(payment, jobs["done"], "fail")
    service.start(jobs["retry"], 2, payment)
    assert service.adds_up()


def test_a_retry_is_a_new_job_that_names_the_old_one(service: Service) -> None:
    job = service.submit()
    with pytest.raises(NotEnded):
        service.store.retry(MAIL, job)
    service.store.fail(MAIL, service.start(job), "no", permanent=True)
    again = service.store.retry(MAIL, job, b'{"to":"eve"}')
    assert again.retry_of == job
    assert msgspec.json.decode(again.input)["to"] == "eve"


def test_a_job_that_did_not_start_in_time_expires(service: Service) -> None:
    fresh = JobType(name="mail", input=Mail, result=Sent, expires=timedelta(minutes=5))
    job, swept = service.submit(fresh), service.submit(fresh)
    service.pass_time(minutes=6)
    assert service.refused(job, job_type=fresh) == "expired"
    assert service.settle(swept, fresh) == "expired"
    assert service.store.get(job).history[-1].why == "expired"
    assert service.adds_up()


@pytest.mark.parametrize("on_conflict", list(OnConflict))
def test_a_unique_job_is_kept_or_replaced(service: Service, on_conflict: OnConflict) -> None:
    unique = Unique(fields=("to",), within=timedelta(hours=1), on_conflict=on_conflict)
    once = JobType(name="mail", input=Mail, result=Sent, unique=unique)
    first = service.submit(once, input=Mail(to="ann", text="1"))
    assert service.submit(once, input=Mail(to="bob")) != first
    second = service.submit(once, input=Mail(to="ann", text="2"))
    if on_conflict is OnConflict.RETURN:
        assert second == first
    else:
        assert second != first
        assert service.store.get(first).state is State.CANCELLED
    service.pass_time(hours=2)
    assert service.submit(once, input=Mail(to="ann")) not in (first, second)
    assert service.adds_up()


def test_a_submit_may_ask_to_be_unique_where_the_type_does_not(service: Service) -> None:
    first = service.submit(input=Mail(to="ann"), unique_for=3600.0)
    assert service.submit(input=Mail(to="ann"), unique_for=3600.0) == first
    assert service.submit(input=Mail(to="bob"), unique_for=3600.0) != first
    assert service.submit(input=Mail(to="ann")) != first
    service.pass_time(hours=2)
    assert service.submit(input=Mail(to="ann"), unique_for=3600.0) != first
    with pytest.raises(BadTime, match="unique_for: more than a year"):
        service.submit(input=Mail(to="ann"), unique_for=1e308)
    assert service.adds_up()


def test_a_unique_job_that_succeeded_makes_way_for_its_own_retry(service: Service) -> None:
    once = JobType(name="mail", input=Mail, result=Sent, unique=Unique(within=timedelta(hours=1)))
    first = service.submit(once)
    service.store.succeed(once, service.start(first, job_type=once), b"null")
    assert service.submit(once) == first
    again = service.store.retry(once, first)
    assert (again.id != first, again.retry_of) == (True, first)
    assert service.submit(once) == again.id


def test_an_ended_job_is_kept_as_long_as_its_type_says_of_its_end(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    days = {"succeeded": 1, "failed": 2, "cancelled": 3}
    kept = Retention(**{state: timedelta(days=each) for state, each in days.items()})
    brief = JobType(name="mail", input=Mail, result=Sent, retention=kept)
    monkeypatch.setattr(service.store._table, "_types", {"mail": brief})
    jobs = {state: service.submit(brief) for state in days}
    service.store.succeed(brief, service.start(jobs["succeeded"], job_type=brief), b"null")
    service.store.fail(brief, service.start(jobs["failed"], job_type=brief), "no", permanent=True)
    service.store.cancel(jobs["cancelled"])
    for state, job in jobs.items():
        item = service.store._table.item(job)
        assert item["state"]["S"] == state
        assert int(item["expires"]["N"]) == int((service.time + timedelta(days=days[state])).timestamp())


def test_of_two_who_decide_at_the_same_moment_one_is_refused(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    payment = JobType(name="mail", input=Mail, result=Sent, repeatable=False)
    job = service.submit(payment)
    service.start(job, job_type=payment)
    service.pass_time(seconds=61)
    assert service.settle(job, payment) == "held"
    read = service.store._table.item

    def read_and_overtaken(job_id: str) -> Any:
        item = read(job_id)
        monkeypatch.setattr(service.store._table, "item", read)
        service.store.decide(payment, job, "fail", why="bank says no")
        return item

    monkeypatch.setattr(service.store._table, "item", read_and_overtaken)
    with pytest.raises(NotHeld, match="somebody else decided"):
        service.store.decide(payment, job, "done")
    assert service.store.get(job).state is State.FAILED


def test_no_more_run_than_the_limits_allow_and_the_next_is_woken(service: Service) -> None:
    limited = JobType(name="mail", input=Mail, result=Sent, concurrency=2, key="to", concurrency_per_key=1, lanes=LANES)
    ann, ann2, bob, eve = (service.submit(limited, input=Mail(to=to)) for to in ("ann", "ann", "bob", "eve"))
    urgent = service.submit(limited, input=Mail(to="zoe"), priority=Priority.HIGH)
    lease = service.start(ann, job_type=limited)
    assert service.refused(ann2, job_type=limited) == "limit"
    service.start(bob, job_type=limited)
    assert service.refused(eve, job_type=limited) == "limit"
    assert service.refused(urgent, job_type=limited) == "limit"
    service.nudges()
    service.store.succeed(limited, lease, b"null")
    assert set(service.nudges()) == {(urgent, 1), (ann2, 1)}
    service.start(urgent, job_type=limited)
    assert service.refused(ann2, job_type=limited) == "limit"
    assert service.adds_up()


def test_ordered_jobs_of_a_key_run_in_the_order_of_their_submits(service: Service) -> None:
    ordered = JobType(name="mail", input=Mail, result=Sent, key="to", ordered=True)
    first = service.submit(ordered)
    service.pass_time(seconds=1)
    second, other = service.submit(ordered), service.submit(ordered, input=Mail(to="bob"))
    assert service.refused(second, job_type=ordered) == "order"
    lease = service.start(first, job_type=ordered)
    service.start(other, job_type=ordered)
    service.store.fail(ordered, lease, "once more", permanent=False)
    assert service.refused(second, job_type=ordered) == "order"
    service.pass_time(seconds=5)
    service.store.succeed(ordered, service.start(first, 2, ordered), b"null")
    service.start(second, job_type=ordered)


def test_a_parent_waits_for_its_children_and_is_nudged_by_the_last(service: Service) -> None:
    parent = service.submit()
    lease = service.start(parent)
    wish = Submit(type="mail", input=msgspec.Raw(b"{}"))
    children = [service.store.submit(MAIL, wish, parent=parent, job_id=f"{parent}.{n}").job.id for n in range(2)]
    service.store.suspend(MAIL, lease, children)
    assert service.store.get(parent).children == tuple(children)
    assert service.refused(parent, 2) == "children"
    service.store.succeed(MAIL, service.start(children[0]), b"0")
    service.nudges()
    assert service.refused(parent, 2) == "children"
    service.store.fail(MAIL, service.start(children[1]), "no", permanent=True)
    assert service.nudges() == [(parent, 2)]
    service.start(parent, 2)
    assert [child.state for child in service.store.children(parent)] == [State.SUCCEEDED, State.FAILED]
    assert service.adds_up()


def test_a_whole_tree_is_cancelled(service: Service) -> None:
    parent = service.submit()
    wish = Submit(type="mail", input=msgspec.Raw(b"{}"))
    lease = service.start(parent)
    child = service.store.submit(MAIL, wish, parent=parent, job_id=f"{parent}.0").job.id
    service.store.suspend(MAIL, lease, [child])
    service.store.cancel(parent)
    assert service.store.get(parent).state is State.CANCELLED
    assert service.store.get(child).state is State.CANCELLED
    assert service.adds_up()


def test_pages_neither_skip_nor_repeat_while_jobs_are_added(service: Service) -> None:
    jobs: list[str] = []
    for _ in range(7):
        service.pass_time(seconds=1)
        jobs.append(service.submit(tags=("even",) if len(jobs) % 2 == 0 else ()))
    seen: list[str] = []
    cursor = None
    while True:
        page = service.store.page(types=["mail"], limit=3, cursor=cursor)
        seen += [job.id for job in page.jobs]
        service.pass_time(seconds=1)
        service.submit()
        if (cursor := page.cursor) is None:
            break
    assert seen == jobs[::-1]
    tagged = service.store.page(types=["mail"], tag="even")
    assert [job.id for job in tagged.jobs] == jobs[::-2]


def test_pages_have_every_job_once_and_newest_first_over_all_shards_of_a_type(service: Service) -> None:
    jobs = []
    for number in range(45):
        jobs.append(service.submit(tags=("third",) if number % 3 == 0 else ()))
        service.pass_time(seconds=number % 2)
    assert len({items.shard_of(job, items.TYPE_SHARDS) for job in jobs}) > items.TYPE_SHARDS / 2
    for tag, expected in ((None, jobs), ("third", jobs[::3])):
        for limit in (1, 7, 45, 50):
            found: list[Job] = []
            cursor = None
            while True:
                page = service.store.page(types=["mail", "fax"], limit=limit, tag=tag, cursor=cursor)
                found += page.jobs
                if (cursor := page.cursor) is None:
                    break
            assert sorted(job.id for job in found) == sorted(expected)
            assert [job.created_at for job in found] == sorted((job.created_at for job in found), reverse=True)


def test_a_page_of_large_jobs_fits_into_an_answer_and_goes_on(service: Service) -> None:
    jobs = set()
    for number in range(14):
        jobs.add(service.submit(input=Mail(to=str(number), text="x" * 250_000)))
        service.pass_time(seconds=1)
    pages, cursor = [], None
    while True:
        page = service.store.page(types=["mail"], cursor=cursor)
        pages.append(page.jobs)
        if (cursor := page.cursor) is None:
            break
    assert [len(each) for each in pages] == [9, 5]
    assert {job.id for each in pages for job in each} == jobs


def test_a_cursor_before_since_is_the_end_of_the_list(service: Service) -> None:
    service.submit()
    service.pass_time(seconds=1)
    service.submit()
    cursor = service.store.page(types=["mail"], limit=1).cursor
    service.pass_time(seconds=1)
    assert service.store.page(types=["mail"], since=service.time, cursor=cursor) == Page([], None)


def test_a_large_result_goes_to_the_bucket(service: Service) -> None:
    job = service.submit()
    service.store.succeed(MAIL, service.start(job), b'"' + b"x" * 200_000 + b'"')
    reference = service.store.get(job).result_ref
    assert reference
    body = boto3.client("s3").get_object(Bucket=service.store.bucket, Key=reference)["Body"].read()
    assert len(body) == 200_002


class Died(Exception):
    """The process ended between two writes."""


@pytest.mark.parametrize("operation", ["SendMessage", "PutEvents"])
def test_a_crash_between_two_writes_loses_nothing(service: Service, operation: str) -> None:
    client = aws.sqs() if operation == "SendMessage" else aws.events()
    service.submit()
    died = []

    def die(**_: Any) -> None:
        died.append(operation)
        raise Died

    if operation == "SendMessage":
        client.meta.events.register(f"before-call.*.{operation}", die)
        with pytest.raises(Died):
            service.submit(idempotency_key="k")
        client.meta.events.unregister(f"before-call.*.{operation}", die)
        service.nudges()
        job = service.submit(idempotency_key="k")
        assert service.nudges() == [(job, 1)]
    else:
        job = service.submit(idempotency_key="k")
        lease = service.start(job)
        client.meta.events.register(f"before-call.*.{operation}", die)
        with pytest.raises(Died):
            service.store.succeed(MAIL, lease, b"null")
        client.meta.events.unregister(f"before-call.*.{operation}", die)
        assert service.store.get(job).state is State.SUCCEEDED
        assert service.settle(job) == "announced"
        assert service.settle(job) is None
    assert died
    assert service.adds_up()


def test_an_accepted_job_that_vanishes_does_not_add_up(service: Service) -> None:
    job = service.submit()
    assert service.adds_up()
    key: Any = {"pk": {"S": f"job#{job}"}, "sk": {"S": "job"}}
    service.dynamodb.delete_item(TableName=service.store.table, Key=key)
    assert service.store.tallies(["mail"])["mail"].missing == 1


@pytest.mark.parametrize(
    ("since", "listed"),
    [
        (datetime(1, 1, 1, tzinfo=timezone(timedelta(hours=14))), True),
        (datetime(300, 1, 1, tzinfo=UTC), True),
        (datetime(9999, 12, 31, 23, tzinfo=timezone(-timedelta(hours=12))), False),
    ],
)
def test_jobs_are_listed_since_any_moment_of_the_calendar(service: Service, since: datetime, listed: bool) -> None:
    service.submit(MAIL)
    assert bool(service.store.page(types=["mail"], since=since).jobs) is listed


def test_the_same_moment_in_another_offset_is_the_same_job(service: Service) -> None:
    at = service.time + timedelta(hours=1)
    one, same, other = (
        service.store.submit(MAIL, Submit(type="mail", idempotency_key="k", run_at=moment)).job.id
        for moment in (at, at.astimezone(timezone(timedelta(hours=14))), at.astimezone(timezone(-timedelta(hours=3))))
    )
    assert one == same == other


def test_a_retry_is_unique_for_as_long_as_its_job_was(service: Service) -> None:
    def submit() -> str:
        return service.store.submit(MAIL, Submit(type="mail", unique_for=86_400.0)).job.id

    job_id = submit()
    lease = service.store.start(MAIL, job_id, 1, service.time + timedelta(minutes=1))
    assert isinstance(lease, Lease)
    service.store.fail(MAIL, lease, "no", permanent=True)
    again = service.store.retry(MAIL, job_id)
    assert submit() == again.id


def test_a_key_that_fits_into_no_key_of_the_table_is_refused_by_name(service: Service) -> None:
    keyed = JobType(name="mail", input=Mail, result=Sent, key="to", ordered=True)
    with pytest.raises(BadInput, match="input of 'mail': to: a job's key has at most 1024 bytes"):
        service.submit(keyed, input=Mail(to="€" * 400))
