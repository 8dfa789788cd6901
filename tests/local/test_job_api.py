"""The job service's API keeps its OpenAPI document, whatever it is sent: schemathesis, against the deployed app."""

from __future__ import annotations

import os
import zlib
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

import pytest
import requests
import schemathesis
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from hypothesis import HealthCheck, given, settings
from requests.auth import AuthBase
from schemathesis.generation import GenerationMode
from schemathesis.specs.openapi import checks

from offload.contracts.jobs.api import ROUTES
from offload.contracts.jobs.shop import SALES_REPORT, Period
from offload.operate.jobs import jobs_of
from offload.operate.openapi import JOBS, document
from tests.local.conftest import Copy, a_copy

WHOLE: Final = os.environ.get("OFFLOAD_PROVE") == "whole"
# Of each route: 10,000 in all, or enough to find what is plainly wrong.
CASES: Final = -(-10_000 // len(ROUTES)) if WHOLE else 15
API: Final = schemathesis.openapi.from_dict(document(JOBS))
KEPT: Final = [
    schemathesis.checks.not_a_server_error,
    checks.status_code_conformance,
    checks.content_type_conformance,
    checks.response_headers_conformance,
    checks.response_schema_conformance,
]


class Signed(AuthBase):
    """Signs requests as the clients do."""

    def __init__(self, region: str) -> None:
        self._region = region

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        signed = AWSRequest(request.method, request.url, data=request.body, headers={})
        SigV4Auth(Credentials("test", "test"), "execute-api", self._region).add_auth(signed)
        request.headers.update(dict(signed.headers.items()))
        return request


@pytest.fixture(scope="module")
def fuzzed(tmp_path_factory: pytest.TempPathFactory, assembly: Path) -> Iterator[Copy]:
    """The app on an embedded AWS of these tests' own: the jobs that they start are in nobody's way."""
    yield from a_copy(tmp_path_factory.mktemp("fuzzed"), assembly)


@pytest.fixture(scope="module")
def known(fuzzed: Copy) -> list[str]:
    """The ids of jobs: one that has succeeded, one that waits, one that was cancelled."""
    with jobs_of(fuzzed.deployment) as jobs:
        done = jobs.submit(SALES_REPORT, Period())
        done.wait(60)
        waits = jobs.submit(SALES_REPORT, Period(), delay=timedelta(days=1))
        cancelled = jobs.submit(SALES_REPORT, Period(), delay=timedelta(days=1))
        cancelled.cancel()
        return [done.id, waits.id, cancelled.id]


@pytest.mark.parametrize("name", ROUTES)
def test_a_route_answers_as_its_document_says(fuzzed: Copy, known: list[str], name: str) -> None:
    route = ROUTES[name]
    operation = API[route.path][route.method]
    cases = operation.as_strategy()
    if route.body or route.query or route.keyed:
        cases = cases | operation.as_strategy(generation_mode=GenerationMode.NEGATIVE)
    session = requests.Session()
    session.auth = Signed("eu-west-2")
    seen: set[int] = set()

    @settings(max_examples=CASES, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(case=cases)
    def each(case: schemathesis.Case[Any]) -> None:
        # Half of the ids are those of jobs, and of the types those with a schedule.
        for parameter, choices in (("id", known), ("type", [SALES_REPORT.name])):
            given_one = str(case.path_parameters.get(parameter, ""))
            chosen = zlib.crc32(given_one.encode(errors="replace"))
            if given_one and chosen % 2:
                case.path_parameters[parameter] = choices[chosen // 2 % len(choices)]
        answer = case.call(base_url=fuzzed.deployment.job_service.endpoint, session=session)
        seen.add(answer.status_code)
        case.validate_response(answer, checks=KEPT)

    each()
    # A conflict is what two of the routes say of every job here: none is held, and none asks.
    assert seen & {*route.answers, 409}, f"none of {CASES} cases came past the door: {sorted(seen)}"
    assert 403 not in seen
