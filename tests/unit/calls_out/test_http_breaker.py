"""The circuit breaker whose state is shared, on a real table."""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import boto3
import botocore.config
import pytest

from offload.contracts.calls import CallSettings
from offload.contracts.egress import networks
from offload.runtime.http.breaker import LOOK_SECONDS, Breaker, Permit
from offload.runtime.http.client import Client
from offload.runtime.http.connect import pool
from offload.runtime.http.failures import CircuitOpen, CredentialsMissing, NotAnswered, RateLimited
from offload.runtime.http.guard import Guard
from offload.runtime.http.rate import Bucket
from tests.conftest import new_table
from tests.odd_server import OddServer, answer, odd_server, raw

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient
    from mypy_boto3_secretsmanager import SecretsManagerClient


class Clock:
    def __init__(self) -> None:
        self.now = 1_000_000_000.0

    def __call__(self) -> float:
        return self.now


class Calls:
    """A client of DynamoDB, and the actions it was asked for."""

    def __init__(self, client: DynamoDBClient) -> None:
        self._client = client
        self.made: list[str] = []
        client.meta.events.register("before-send", self._hear)

    def _hear(self, request: Any, **_: Any) -> None:
        self.made.append(request.headers["X-Amz-Target"].decode().rpartition(".")[2])

    def __call__(self) -> DynamoDBClient:
        return self._client


@pytest.fixture
def calls(dynamodb: DynamoDBClient) -> Calls:
    return Calls(dynamodb)


@pytest.fixture
def table(calls: Calls) -> str:
    name = new_table(calls(), f"calls-{uuid4().hex[:8]}", sort_key=False)
    calls.made.clear()
    return name


@pytest.fixture
def clock() -> Clock:
    return Clock()


def breaker(table: str, clock: Clock, calls: Calls, failures: int = 5) -> Breaker:
    return Breaker("third", table, failures=failures, open_seconds=30, now=clock, dynamodb=calls)


def fail(one: Breaker, times: int) -> None:
    for _ in range(times):
        one.failed(one.enter())


def opened(table: str, clock: Clock, calls: Calls) -> Breaker:
    one = breaker(table, clock, calls)
    fail(one, 5)
    with pytest.raises(CircuitOpen):
        one.enter()
    return one


def items(calls: Calls, table: str) -> list[dict[str, Any]]:
    return list(calls().scan(TableName=table)["Items"])


def test_while_all_is_well_nothing_is_written_and_little_is_read(table: str, clock: Clock, calls: Calls) -> None:
    one = breaker(table, clock, calls)
    for _ in range(10_000):
        one.succeeded(one.enter())
        clock.now += 0.01
    assert set(calls.made) == {"GetItem"}
    assert len(calls.made) == 100 / LOOK_SECONDS


def test_some_failures_among_many_answers_do_not_open_it(table: str, clock: Clock, calls: Calls) -> None:
    one = breaker(table, clock, calls)
    for number in range(1000):
        permit = one.enter()
        (one.failed if number % 3 == 0 else one.succeeded)(permit)
        clock.now += 0.01
    assert set(calls.made) == {"GetItem"}


def test_failures_that_lie_far_apart_do_not_open_it(table: str, clock: Clock, calls: Calls) -> None:
    one = breaker(table, clock, calls)
    for _ in range(20):
        fail(one, 1)
        clock.now += 10
    assert set(calls.made) == {"GetItem"}


def test_failures_in_a_row_open_it_for_everybody_by_one_write(table: str, clock: Clock, calls: Calls) -> None:
    other = breaker(table, clock, calls)
    opened(table, clock, calls)
    assert calls.made == ["GetItem", "UpdateItem"]
    with pytest.raises(CircuitOpen, match="third has failed too often lately; nothing is sent to it until") as refused:
        other.enter()
    assert refused.value.until == datetime.fromtimestamp(clock.now + 30, UTC)
    [item] = items(calls, table)
    assert int(item["expires"]["N"]) > clock.now


def test_one_that_looked_before_learns_of_it_when_it_looks_again(table: str, clock: Clock, calls: Calls) -> None:
    other = breaker(table, clock, calls)
    other.succeeded(other.enter())
    opened(table, clock, calls)
    assert other.enter() == Permit()
    clock.now += LOOK_SECONDS
    with pytest.raises(CircuitOpen):
        other.enter()


def test_twenty_that_count_the_same_failures_open_it_once(table: str, clock: Clock, calls: Calls) -> None:
    workers = [breaker(table, clock, calls) for _ in range(20)]
    for one in workers:
        one.succeeded(one.enter())
        fail(one, 4)
    permits = [one.enter() for one in workers]
    for delay, (one, permit) in enumerate(zip(workers, permits, strict=True)):
        clock.now += delay
        one.failed(permit)
    [item] = items(calls, table)
    assert float(item["until"]["N"]) == pytest.approx(1_000_000_030)


def entered(one: Breaker) -> Permit | None:
    try:
        return one.enter()
    except CircuitOpen:
        return None


def test_of_twenty_one_is_elected_to_probe(table: str, clock: Clock, calls: Calls) -> None:
    workers = [opened(table, clock, calls), *(breaker(table, clock, calls) for _ in range(19))]
    assert [entered(one) for one in workers] == [None] * 20
    clock.now += 30
    with ThreadPoolExecutor(20) as together:
        permits = list(together.map(entered, workers))
    assert sum(permit is not None and permit.probe is not None for permit in permits) == 1
    assert permits.count(None) == 19
    # Those who lost look now and then, and write no more.
    calls.made.clear()
    for _ in range(30):
        clock.now += 0.1
        assert [entered(one) for one in workers] == [None] * 20
    assert set(calls.made) == {"GetItem"}
    assert len(calls.made) <= 40


def probing(table: str, clock: Clock, calls: Calls) -> tuple[Breaker, Permit]:
    one = opened(table, clock, calls)
    clock.now += 30
    permit = one.enter()
    assert permit.probe is not None
    return one, permit


def test_a_probe_that_is_answered_closes_it_for_everybody(table: str, clock: Clock, calls: Calls) -> None:
    one, permit = probing(table, clock, calls)
    other = breaker(table, clock, calls)
    assert entered(other) is None
    one.succeeded(permit)
    assert one.enter() == Permit()
    assert items(calls, table) == []
    clock.now += 2
    assert other.enter() == Permit()
    # What failed before is forgotten.
    fail(one, 4)
    assert one.enter() == Permit()


def test_a_probe_that_fails_opens_it_again(table: str, clock: Clock, calls: Calls) -> None:
    one, permit = probing(table, clock, calls)
    one.failed(permit)
    other = breaker(table, clock, calls)
    clock.now += 29
    assert [entered(one), entered(other)] == [None, None]
    clock.now += 1
    [probe] = [found for found in (entered(one), entered(other)) if found is not None]
    assert probe.probe is not None


def test_a_probe_that_finds_out_nothing_leaves_it_to_another(table: str, clock: Clock, calls: Calls) -> None:
    one, permit = probing(table, clock, calls)
    one.left(permit)
    other = breaker(table, clock, calls)
    found = other.enter()
    assert found.probe is not None
    assert found != permit


def test_a_probe_whose_function_died_is_followed_by_another(table: str, clock: Clock, calls: Calls) -> None:
    _, permit = probing(table, clock, calls)
    other = breaker(table, clock, calls)
    clock.now += 59
    assert entered(other) is None
    clock.now += 2
    assert other.enter().probe not in (None, permit.probe)


def test_a_probe_that_comes_back_late_changes_nothing(table: str, clock: Clock, calls: Calls) -> None:
    one, late = probing(table, clock, calls)
    clock.now += 61
    other = breaker(table, clock, calls)
    probe = other.enter()
    one.succeeded(late)
    one.failed(late)
    assert [item["probe"]["S"] for item in items(calls, table)] == [probe.probe]


def unreachable() -> DynamoDBClient:
    quick = botocore.config.Config(retries={"total_max_attempts": 1}, connect_timeout=1, read_timeout=1)
    return boto3.client("dynamodb", endpoint_url="http://127.0.0.1:9", region_name="us-east-1", config=quick)


def test_without_its_table_everything_is_let_through_and_it_says_so(
    table: str, clock: Clock, calls: Calls, capsys: pytest.CaptureFixture[str]
) -> None:
    broken = Calls(unreachable())
    one = breaker(table, clock, broken)
    for _ in range(100):
        fail(one, 1)
        clock.now += 0.001
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert {line["level"] for line in lines} == {"WARNING"}
    assert {line["message"] for line in lines} == {
        "the circuit breaker's table cannot be reached, calls are let through"
    }


def test_without_its_table_it_is_let_through_at_the_election_too(table: str, clock: Clock, calls: Calls) -> None:
    one = opened(table, clock, calls)
    clock.now += 30
    one.succeeded(one.enter())
    one = opened(table, clock, calls)
    one._look_at = clock.now + 3600
    clock.now += 30
    one._dynamodb = Calls(unreachable())
    assert one.enter() == Permit()


@pytest.fixture
def server() -> Iterator[OddServer]:
    with odd_server() as running:
        yield running


GUARD = Guard(private=networks(["127.0.0.0/8"]), schemes=frozenset({"http"}), ports=None)


def client(one: Breaker | None = None, bucket: Bucket | None = None, **options: Any) -> Client:
    connections = pool(GUARD, resolve=lambda *_: ("127.0.0.1",))
    return Client("third", GUARD, connections=connections, breaker=one, bucket=bucket, sleep=lambda _: None, **options)


def test_a_client_stops_calling_what_does_not_answer_and_finds_out_when_it_does_again(
    server: OddServer, table: str, clock: Clock, calls: Calls
) -> None:
    url = f"http://third.example:{server.port}/"
    server.on("/", raw())
    calling = client(breaker(table, clock, calls))
    for _ in range(2):
        with pytest.raises(NotAnswered):
            calling.get(url)
    # Three attempts and two: the fifth opened it.
    assert len(server.received) == 5
    with pytest.raises(CircuitOpen):
        calling.get(url)
    assert len(server.received) == 5
    clock.now += 30
    server.on("/", answer(200))
    assert calling.get(url).status == 200
    assert items(calls, table) == []


@pytest.mark.parametrize(("status", "opens"), [(500, True), (503, True), (404, False), (429, False), (302, False)])
def test_failures_of_the_third_party_count_and_ours_do_not(
    server: OddServer, table: str, clock: Clock, calls: Calls, status: int, opens: bool
) -> None:
    server.on("/", answer(status))
    calling = client(breaker(table, clock, calls), attempts=1)
    for _ in range(5):
        with pytest.raises(Exception, match=f"status {status}"):
            calling.get(f"http://third.example:{server.port}/")
    assert bool(items(calls, table)) == opens


def test_a_probe_that_has_to_wait_for_its_rate_leaves_it_to_another(
    server: OddServer, table: str, clock: Clock, calls: Calls
) -> None:
    one = opened(table, clock, calls)
    clock.now += 30
    slow = Bucket("third", table, 0.01, now=clock, sleep=lambda _: None, dynamodb=calls)
    slow.acquire(within=200)
    with pytest.raises(RateLimited):
        client(one, slow).get(f"http://third.example:{server.port}/")
    assert server.connections == 0
    assert breaker(table, clock, calls).enter().probe is not None


def test_a_client_is_made_of_its_variable_and_reads_its_secret_seldom(
    server: OddServer, table: str, calls: Calls, monkeypatch: pytest.MonkeyPatch
) -> None:
    secrets: SecretsManagerClient = boto3.client("secretsmanager")
    arn = secrets.create_secret(Name=f"third-{uuid4().hex[:8]}", SecretString="first")["ARN"]
    settings = CallSettings(table=table, per_second=50, secret=arn)
    monkeypatch.setenv("OFFLOAD_CALLS_THIRD_PARTY", json.dumps({"table": table, "per_second": 50, "secret": arn}))
    monkeypatch.setenv("OFFLOAD_EGRESS_PRIVATE", "127.0.0.0/8")
    monkeypatch.setenv("OFFLOAD_EGRESS_SCHEMES", "http")
    monkeypatch.setenv("OFFLOAD_EGRESS_PORTS", "*")
    made = Client.from_environment("third-party")
    server.on("/", answer(200, b"well"))
    assert made.get(f"http://127.0.0.1:{server.port}/").body == b"well"
    assert [item["pk"]["S"] for item in items(calls, settings.table)] == ["rate#third-party"]
    assert made.secret() == "first"
    secrets.put_secret_value(SecretId=arn, SecretString="second")
    assert made.secret() == "first"
    assert made.secret(fresh=True) == "second"


def test_credentials_that_nobody_has_put_there_are_not_sent_and_are_looked_for_again(table: str, clock: Clock) -> None:
    secrets: SecretsManagerClient = boto3.client("secretsmanager")
    # As CloudFormation generates it (offload/cdk/patterns/integration.py).
    arn = secrets.create_secret(Name=f"third-{uuid4().hex[:8]}", SecretString='{"unset":"Zx!7"}')["ARN"]
    made = Client("third-party", Guard.from_environment({}), secret=arn, monotonic=clock)
    with pytest.raises(CredentialsMissing, match="offload integrations credentials third-party"):
        made.secret()
    secrets.put_secret_value(SecretId=arn, SecretString='{"user": "clinic", "token": "unset"}')
    with pytest.raises(CredentialsMissing):
        made.secret()
    clock.now += 21
    assert json.loads(made.secret())["user"] == "clinic"
