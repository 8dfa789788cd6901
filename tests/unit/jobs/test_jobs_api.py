"""The job service's API as Lambda loads it, on real tables and queues: what its routes do to jobs of other kinds.

What every route answers is in tests/local/test_http_apis.py.
"""

from __future__ import annotations

import importlib
import json
import sys
import urllib.request
from collections.abc import Iterator
from datetime import timedelta
from types import ModuleType
from typing import Any

import pytest
from msgspec import Struct

from offload.contracts.jobs.job_type import JobType
from offload.runtime.jobs.ending import LONGEST_RESULT
from offload.runtime.jobs.leases import Lease
from tests.unit.jobs.job_bench import Invocation, JobBench

_NAME = "offload.functions.jobs_api.handler"


class Customer(Struct, frozen=True):
    """Whose turn it is."""

    name: str = "Ann"


class Text(Struct, frozen=True):
    """A result of any size."""

    text: str = ""


IN_TURN = JobType(name="in_turn", input=Customer, result=Text, key="name", ordered=True)


@pytest.fixture
def bench(aws_of_module: None, monkeypatch: pytest.MonkeyPatch) -> JobBench:
    return JobBench(monkeypatch, IN_TURN)


@pytest.fixture
def api(bench: JobBench, monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """The function on the bench's clock and type."""
    sys.modules.pop(_NAME, None)
    module = importlib.import_module(_NAME)
    monkeypatch.setattr(module, "store", bench.new_store())
    monkeypatch.setattr(module, "JOB_TYPES", bench.types)
    yield module
    sys.modules.pop(_NAME, None)


def call(api: Any, route: str, job_id: str) -> tuple[int, dict[str, str], Any]:
    """Status, headers and content of one answer about a job."""
    method, _, pattern = route.partition(" ")
    request = {
        "routeKey": route,
        "rawPath": pattern.format(id=job_id),
        "pathParameters": {"id": job_id},
        "requestContext": {"http": {"method": method}},
    }
    answer = api.handler(request, Invocation())
    return answer["statusCode"], answer["headers"], json.loads(answer["body"])


def test_a_job_that_is_cancelled_leaves_its_line_and_the_next_one_is_told(bench: JobBench, api: ModuleType) -> None:
    first = bench.submit(IN_TURN, Customer())
    bench.pass_time(seconds=1)
    second = bench.submit(IN_TURN, Customer())
    bench.nudges(IN_TURN)
    status, _, job = call(api, "POST /jobs/{id}/cancel", first)
    assert (status, job["state"]) == (200, "cancelled")
    assert [json.loads(body) for body in bench.nudges(IN_TURN)] == [{"job": second, "attempt": 1}]


def test_a_large_result_is_where_the_answer_leads(bench: JobBench, api: ModuleType) -> None:
    job_id = bench.submit(IN_TURN, Customer())
    lease = bench.store.start(IN_TURN, job_id, 1, bench.time + timedelta(minutes=1))
    assert isinstance(lease, Lease)
    large = json.dumps({"text": "x" * LONGEST_RESULT}).encode()
    bench.store.succeed(IN_TURN, lease, large)
    status, headers, elsewhere = call(api, "GET /jobs/{id}/result", job_id)
    assert (status, headers["location"]) == (303, elsewhere["url"])
    with urllib.request.urlopen(elsewhere["url"]) as found:  # noqa: S310 -- the emulator
        assert found.read() == large


def test_an_id_that_is_longer_than_any_is_not_there(api: ModuleType) -> None:
    for route in ("GET /jobs/{id}", "POST /jobs/{id}/cancel", "GET /jobs/{id}/result"):
        status, _, problem = call(api, route, "j" * 3000)
        assert (status, problem["detail"]) == (404, "no name in a path is longer than 1024 bytes")
