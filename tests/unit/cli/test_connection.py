"""What the monolith's clients read from the environment."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import httpx
import pytest

from clinic.contracts.jobs import WARD_REPORT, Days
from offload.client.async_jobs import AsyncJobs
from offload.client.connection import NotConnected
from offload.client.jobs import Jobs
from offload.client.publisher import EventTooLarge, Publisher
from offload.client.subscriptions import Subscriptions
from tests.odd_server import answer as answering
from tests.odd_server import odd_server
from tests.unit.events.bus_server import serving
from tests.unit.events.test_publisher import ended
from tests.unit.jobs.job_server import CREDENTIALS, REGION, serving_jobs

CLIENTS: dict[str, Callable[[], object]] = {
    "OFFLOAD_BUS": Publisher.from_environment,
    "OFFLOAD_JOBS_URL": Jobs.from_environment,
    "OFFLOAD_SUBSCRIPTIONS_URL": Subscriptions.from_environment,
}


@pytest.fixture
def monolith(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """An environment with credentials and a Region, and no more."""
    for name in (*CLIENTS, "OFFLOAD_CLAIMS_BUCKET", "AWS_ENDPOINT_URL", "AWS_SESSION_TOKEN", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", CREDENTIALS.access_key)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", CREDENTIALS.secret_key)
    monkeypatch.setenv("AWS_REGION", REGION)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    return monkeypatch


@pytest.mark.parametrize("set_", [False, True], ids=["not set", "empty"])
@pytest.mark.parametrize("variable", CLIENTS)
def test_a_variable_that_is_missing_is_named_with_the_command_that_prints_it(
    monolith: pytest.MonkeyPatch, variable: str, set_: bool
) -> None:
    if set_:
        monolith.setenv(variable, "")
    with pytest.raises(NotConnected) as missing:
        CLIENTS[variable]()
    assert str(missing.value) == f"{variable} is not set: `offload connect ENV --format env` prints it"
    assert missing.value.variable == variable


def test_so_it_is_for_asyncio(monolith: pytest.MonkeyPatch) -> None:
    with pytest.raises(NotConnected, match=r"^OFFLOAD_JOBS_URL is not set"):
        AsyncJobs.from_environment()


def test_events_go_to_the_bus_that_is_named(monolith: pytest.MonkeyPatch) -> None:
    with serving() as bus:
        monolith.setenv("OFFLOAD_BUS", "visits")
        monolith.setenv("AWS_ENDPOINT_URL", bus.url)
        publisher = Publisher.from_environment()
        publisher.publish(ended("536365"))
        assert [entry["EventBusName"] for entry in bus.taken] == ["visits"]
        with pytest.raises(EventTooLarge, match="this publisher has no claims bucket"):
            publisher.publish(ended("536366", description="x" * 1_100_000))


def test_the_data_of_large_events_goes_to_the_bucket_that_is_named(monolith: pytest.MonkeyPatch) -> None:
    with serving() as bus, odd_server(answering(200)) as s3:
        monolith.setenv("OFFLOAD_BUS", "visits")
        monolith.setenv("OFFLOAD_CLAIMS_BUCKET", "claims-bucket")
        monolith.setenv("AWS_ENDPOINT_URL", bus.url)
        monolith.setenv("AWS_ENDPOINT_URL_S3", s3.url(""))
        sent = Publisher.from_environment().publish_many([ended("536366", description="x" * 1_100_000)])
        assert sent.claim_checks == 1
        assert s3.received[0].path.startswith("/claims-bucket/claims/visit.ended/")


def test_jobs_are_submitted_at_the_url_that_is_named(monolith: pytest.MonkeyPatch) -> None:
    with serving_jobs() as server:
        monolith.setenv("OFFLOAD_JOBS_URL", server.url)
        with Jobs.from_environment(timeout=httpx.Timeout(60.0)) as jobs:
            assert jobs.submit(WARD_REPORT, Days()).created

        async def submit() -> bool:
            async with AsyncJobs.from_environment(timeout=httpx.Timeout(60.0)) as jobs:
                return (await jobs.submit(WARD_REPORT, Days())).created

        assert asyncio.run(submit())


def test_subscriptions_are_asked_for_at_the_url_that_is_named(monolith: pytest.MonkeyPatch) -> None:
    with odd_server(answering(200, b'{"subscriptions":[],"cursor":null}')) as server:
        monolith.setenv("OFFLOAD_SUBSCRIPTIONS_URL", server.url(""))
        with Subscriptions.from_environment() as subscriptions:
            assert subscriptions.subscriptions() == []
        assert server.received[0].headers["authorization"].startswith("AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/")
