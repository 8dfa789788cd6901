"""No order of what can happen to jobs reaches a state or a history that the diagram in docs/jobs.md does not show."""

from __future__ import annotations

import contextlib
import os
import re
from datetime import timedelta
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Final

import msgspec
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule, run_state_machine_as_test

from offload.contracts.jobs.job import Submit
from offload.contracts.jobs.job_type import JobType, OnConflict, Retry, Unique
from offload.project import PROJECT
from offload.runtime.jobs.leases import Lease
from offload.runtime.jobs.refusals import AlreadyEnded, IdempotencyConflict, LostLease, NotEnded, NotHeld
from offload.runtime.jobs.store import JobStore
from tests.unit.jobs.test_job_store import Mail, Sent, Service

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient
    from mypy_boto3_sqs import SQSClient

EXAMPLES: Final = 1_000 if os.environ.get("OFFLOAD_PROVE") == "whole" else 20
STEPS: Final = 50
_DOCUMENT: Final = PROJECT / "docs" / "jobs.md"
_PATIENT: Final = Retry(attempts=3, first_wait=timedelta(seconds=2))
# Which of the jobs or leases there are by then: what is drawn must not depend on what the store answered.
# The first and the last most often, so that an old lease meets its job again.
PICK: Final = st.sampled_from([0, 0, -1, -1, 1, 2])
_AN_HOUR: Final = timedelta(hours=1)
KINDS: Final[dict[str, dict[str, Any]]] = {
    "plain": {},
    "not repeatable": {"repeatable": False},
    "limited and expiring": {"concurrency": 2, "expires": timedelta(minutes=5)},
    "one at a time of a key": {"key": "to", "concurrency_per_key": 1},
    "ordered": {"key": "to", "ordered": True},
    "unique": {"unique": Unique(fields=("to",), within=_AN_HOUR, on_conflict=OnConflict.REPLACE)},
}


def diagram() -> set[tuple[str, str]]:
    """The changes of state that the document's diagram shows; `[*]` is before the first."""
    text = _DOCUMENT.read_text(encoding="utf-8")
    found = set(re.findall(r"^    (\[\*\]|\w+) --> (\w+)", text, flags=re.MULTILINE))
    assert len(found) > 10
    return found


ALLOWED: Final = diagram()


class Machine(RuleBasedStateMachine):
    """Everything that can happen to jobs of one kind, in any order, early, late and twice."""

    service: Service

    def __init__(self) -> None:
        super().__init__()
        self.jobs: list[str] = []
        self.leases: list[Lease] = []

    @initialize(kind=st.sampled_from(sorted(KINDS)))
    def begin(self, kind: str) -> None:
        """The jobs of one example are of one kind."""
        self.kind = kind
        self.type = JobType(name="mail", input=Mail, result=Sent, retry=_PATIENT, **KINDS[kind])
        shared = self.service.store
        self.store = JobStore(
            table=shared.table,
            bucket=shared.bucket,
            bus=shared.bucket,
            registry=shared.registry,
            types={"mail": self.type},
            now=lambda: self.service.time,
        )
        # Slots and lines of the example before are not this one's.
        self.names = [f"{len(_seen)}-{name}" for name in ("ann", "bob")]
        _seen.append(kind)
        # Every example has a job under way, so that no step of it is in vain.
        self.submit(who=0, delay=None, key=None)
        self.start(pick=0, off=0)

    # One rule for all: hypothesis leaves rules out of an example, and most lives of a job need most of these.
    @rule(
        what=st.sampled_from(["submit", "start", "start", "start", "go on", "go on", "act", "time", "time", "sweep"]),
        pick=PICK,
        who=st.integers(0, 1),
        delay=st.sampled_from([None, None, 1.0, 3600.0]),
        key=st.sampled_from([None, "a", "b"]),
        off=st.sampled_from([0, 0, 0, 0, -1, 1]),
        end=st.sampled_from(["renew", "succeed", "fail", "fail", "fail for good", "cancelled"]),
        wish=st.sampled_from(["cancel", "retry", "done", "retry it", "fail"]),
        seconds=st.sampled_from([1, 3, 61, 61, 400]),
    )
    def step(
        self,
        what: str,
        pick: int,
        who: int,
        delay: float | None,
        key: str | None,
        off: int,
        end: str,
        wish: str,
        seconds: int,
    ) -> None:
        """One thing that can happen."""
        match what:
            case "submit":
                self.submit(who, delay, key)
            case "start":
                self.start(pick, off)
            case "go on":
                self.go_on(pick, end)
            case "act":
                self.a_person_acts(pick, wish)
            case "time":
                self.time_passes(seconds)
            case _:
                self.sweep()

    def submit(self, who: int, delay: float | None, key: str | None) -> None:
        """With and without a key, at once and later."""
        given = msgspec.Raw(msgspec.json.encode(Mail(to=self.names[who])))
        key = f"{self.names[0]} {key}" if key else None
        with contextlib.suppress(IdempotencyConflict):
            done = self.store.submit(self.type, Submit(type="mail", input=given, delay=delay, idempotency_key=key))
            assert done.created == (done.job.id not in self.jobs)
            if done.created:
                self.jobs.append(done.job.id)

    def start(self, pick: int, off: int) -> None:
        """The right attempt, an old one and one too far."""
        if not self.jobs:
            return
        job_id = self.jobs[pick % len(self.jobs)]
        attempt = self.store.get(job_id).attempt + 1 + off
        until = self.service.time + timedelta(seconds=60)
        answer = self.store.start(self.type, job_id, attempt, until)
        if isinstance(answer, Lease):
            assert off == 0
            self.leases.append(answer)

    def go_on(self, pick: int, end: str) -> None:
        """Whoever ever held a lease goes on, late or not."""
        if not self.leases:
            return
        lease = self.leases[pick % len(self.leases)]
        with contextlib.suppress(LostLease):
            if end == "renew":
                self.store.renew(lease, lease_until=self.service.time + timedelta(seconds=60))
            elif end == "succeed":
                self.store.succeed(self.type, lease, msgspec.json.encode(lease.attempt))
            elif end == "cancelled":
                self.store.cancelled(self.type, lease)
            else:
                self.store.fail(self.type, lease, end, permanent=end != "fail")

    def a_person_acts(self, pick: int, what: str) -> None:
        """Cancel, retry, decide."""
        if not self.jobs:
            return
        job_id = self.jobs[pick % len(self.jobs)]
        with contextlib.suppress(AlreadyEnded, NotEnded, NotHeld):
            if what == "cancel":
                self.store.cancel(job_id)
            elif what == "retry":
                again = self.store.retry(self.type, job_id)
                if again.id not in self.jobs:
                    self.jobs.append(again.id)
            else:
                self.store.decide(self.type, job_id, {"done": "done", "retry it": "retry"}.get(what, "fail"))  # type: ignore[arg-type]

    def time_passes(self, seconds: int) -> None:
        """The sweeper may be late."""
        self.service.pass_time(seconds=seconds)

    def sweep(self) -> None:
        """The sweeper looks at every job."""
        for job_id in self.jobs:
            self.store.settle(self.type, job_id)

    def teardown(self) -> None:
        """Every history is a path of the diagram, and nothing was lost."""
        running: dict[str | None, int] = {}
        for job_id in self.jobs:
            job = self.store.get(job_id)
            path = ["[*]", *(entry.state.value for entry in job.history)]
            assert set(pairwise(path)) <= ALLOWED, (self.kind, path)
            assert path[-1] == job.state
            assert [entry.state.ended for entry in job.history].count(True) == job.state.ended
            attempts = [entry.attempt for entry in job.history]
            assert attempts == sorted(attempts)
            if job.state == "succeeded" and job.result != msgspec.Raw(b"null"):
                assert job.result == msgspec.Raw(str(job.attempt).encode())
            if job.state == "running":
                running[job.key] = running.get(job.key, 0) + 1
        if self.jobs:
            limit, limit_per_key = self.type.concurrency, self.type.limit_per_key
            assert limit is None or sum(running.values()) <= limit
            assert limit_per_key is None or max(running.values(), default=0) <= limit_per_key
            # The next example begins with free slots.
            for job_id in self.jobs:
                with contextlib.suppress(AlreadyEnded):
                    self.store.cancel(job_id)
            self.service.pass_time(seconds=120)
            self.sweep()
            assert all(self.store.get(job_id).state.ended for job_id in self.jobs)
            assert self.service.adds_up()


_seen: list[str] = []


@pytest.mark.slow
def test_whatever_happens_to_a_job_is_in_the_diagram(dynamodb: DynamoDBClient, sqs: SQSClient) -> None:
    service = Service(dynamodb, sqs)

    class OnOneTable(Machine):
        pass

    OnOneTable.service = service
    run_state_machine_as_test(
        OnOneTable,
        settings=settings(
            max_examples=EXAMPLES,
            stateful_step_count=STEPS,
            deadline=None,
            database=None,
            derandomize=True,
            suppress_health_check=list(HealthCheck),
        ),
    )
    assert len(set(_seen)) > 1
