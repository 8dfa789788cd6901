"""Our HTTP APIs keep their OpenAPI documents, whatever they are sent: schemathesis, against the deployed app."""

from __future__ import annotations

import os
import zlib
from collections.abc import Iterator
from datetime import timedelta
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pytest
import requests
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from requests.auth import AuthBase

from clinic.catalogue import CATALOGUE
from clinic.contracts.jobs import WARD_REPORT, Days
from offload.cli.jobs.service import jobs_of
from offload.cli.schemas.openapi import HttpApi, apis, document
from offload.client.publisher import Publisher
from tests.copies import RETRIES, App, Copy, a_copy
from tests.local.subscribers import Subscribers
from tests.local.test_deliveries import low
from tests.patience import PATIENCE, until

JOBS, SUBSCRIPTIONS = apis(CATALOGUE)

# schemathesis is imported by the tests as they run: every process that collects them would take a second for it.
if TYPE_CHECKING:
    import schemathesis
    from schemathesis.schemas import BaseSchema

WHOLE: Final = os.environ.get("OFFLOAD_PROVE") == "whole"
# Nobody listens there.
NOWHERE: Final = "http://127.0.0.1:9/webhooks"


@cache
def schema(name: str) -> BaseSchema:
    """What schemathesis makes of an API's document."""
    import schemathesis

    return schemathesis.openapi.from_dict(document(next(api for api in (JOBS, SUBSCRIPTIONS) if api.name == name)))


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
def fuzzed(tmp_path_factory: pytest.TempPathFactory, brought_up: Path, app: App) -> Iterator[Copy]:
    """The app on an embedded AWS of these tests' own: the jobs that they start are in nobody's way."""
    yield from a_copy(tmp_path_factory.mktemp("fuzzed"), brought_up, app.project)


@pytest.fixture(scope="module")
def known(fuzzed: Copy) -> list[str]:
    """The ids of jobs: one that has succeeded, one that waits, one that was cancelled."""
    with jobs_of(fuzzed.deployment) as jobs:
        done = jobs.submit(WARD_REPORT, Days())
        done.wait(PATIENCE)
        waits = jobs.submit(WARD_REPORT, Days(), delay=timedelta(days=1))
        cancelled = jobs.submit(WARD_REPORT, Days(), delay=timedelta(days=1))
        cancelled.cancel()
        return [done.id, waits.id, cancelled.id]


@pytest.fixture(scope="module")
def subscribed(fuzzed: Copy) -> list[str]:
    """The ids of subscriptions (one is paused), and of a delivery that waits and one that was given up."""
    subscribers = Subscribers(fuzzed)
    names = [
        subscribers.subscribe(NOWHERE, ["supply.low"], filter={"item": [item]})["subscription"]["id"]
        for item in ("waits", "given up", "kept")
    ]
    Publisher(fuzzed.deployment.bus, events=fuzzed.deployment.aws.events, retries=RETRIES).publish(
        low("waits", 1), low("given up", 2)
    )
    subscribers.until(lambda: len(list(subscribers.deliveries())) == 2, "the deliveries")
    assert subscribers.call("POST", f"/subscriptions/{names[0]}/pause")[0] == 200
    assert subscribers.call("DELETE", f"/subscriptions/{names[1]}")[0] == 204
    subscribers.until(lambda: any(True for _ in subscribers.deliveries("&state=given_up")), "the deleted one's")
    return [names[0], names[2], *(delivery["id"] for delivery in subscribers.deliveries())]


@pytest.mark.parametrize(
    ("api", "name"),
    [pytest.param(api, name, id=f"{api.name}-{name}") for api in (JOBS, SUBSCRIPTIONS) for name in api.routes],
)
def test_a_route_answers_as_its_document_says(
    fuzzed: Copy, known: list[str], subscribed: list[str], api: HttpApi, name: str
) -> None:
    import schemathesis
    from hypothesis import HealthCheck, given, settings
    from schemathesis.generation import GenerationMode
    from schemathesis.specs.openapi import checks

    kept = [
        schemathesis.checks.not_a_server_error,
        checks.status_code_conformance,
        checks.content_type_conformance,
        checks.response_headers_conformance,
        checks.response_schema_conformance,
    ]
    route = api.routes[name]
    operation = schema(api.name)[route.path][route.method]
    # Of each route: 10,000 in all, or enough to find what is plainly wrong.
    count = -(-10_000 // len(api.routes)) if WHOLE else 8
    deployment = fuzzed.deployment
    endpoint = (deployment.job_service if api is JOBS else deployment.subscription_service).endpoint
    wanted = "dlv_" if route.path.startswith("/deliveries") else "sub_"
    ids = known if api is JOBS else [each for each in subscribed if each.startswith(wanted)]
    if name == "delete":
        # The others are still needed.
        ids = [Subscribers(fuzzed).subscribe(NOWHERE, ["supply.low"])["subscription"]["id"]]
    cases = operation.as_strategy()
    if route.body or route.query or route.keyed:
        cases = cases | operation.as_strategy(generation_mode=GenerationMode.NEGATIVE)
    session = requests.Session()
    session.auth = Signed("eu-west-2")
    seen: set[int] = set()

    # So few that chance would sometimes bring none past the door: the same ones each time, but for the whole.
    @settings(
        max_examples=count,
        deadline=None,
        database=None,
        derandomize=not WHOLE,
        suppress_health_check=list(HealthCheck),
    )
    @given(case=cases)
    def each(case: schemathesis.Case[Any]) -> None:
        # Half of the ids are those of jobs, and of the types those with a schedule.
        for parameter, choices in (("id", ids), ("type", [WARD_REPORT.name])):
            given_one = str(case.path_parameters.get(parameter, ""))
            chosen = zlib.crc32(given_one.encode(errors="replace"))
            if given_one and chosen % 2:
                case.path_parameters[parameter] = choices[chosen // 2 % len(choices)]
        if isinstance(case.body, dict) and zlib.crc32(repr(case.body).encode(errors="replace")) % 2:
            # No generator guesses an address that may be called, or a type that there is.
            likely: dict[str, Any] = {"url": NOWHERE, "types": ["visit.*"], "filter": None, "headers": {}}
            case.body |= {name: value for name, value in likely.items() if name in case.body}
        answers: list[Any] = []

        def answered() -> bool:
            answers.append(case.call(base_url=endpoint, session=session))
            # On a machine that is slow enough the function's time is up before it answers.
            return "Task timed out" not in answers[-1].text

        until(answered, f"an answer of {name}")
        answer = answers[-1]
        seen.add(answer.status_code)
        case.validate_response(answer, checks=kept)

    each()
    # A conflict is what two of the routes say of every job here: none is held, and none asks.
    # Of the deliveries here none can be sent again: one waits, and the other one's subscription is gone.
    assert seen & {*route.answers, 409, *([404] if name == "resend" else [])}, (
        f"none of {count} cases came past the door: {sorted(seen)}"
    )
    assert 403 not in seen
