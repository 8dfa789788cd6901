"""What an idle call of each scheduled function does is what the bill counts (`offload/cli/costs/sweeps.py`)."""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import boto3
import msgspec
import pytest

from bench.ledger.meter import Meter
from offload.cli.costs.sweeps import idle_calls
from offload.contracts.calls import CallSettings, variable_of
from offload.contracts.egress import variables
from offload.contracts.functions import handler_of, own
from offload.contracts.idle import COMMON_FIELDS, IdleCall
from offload.contracts.webhooks_out.policy import Policy
from offload.runtime import aws
from shop.catalogue import CATALOGUE
from tests.conftest import new_table
from tests.unit.job_bench import Invocation, JobBench
from tests.unit.sending_bench import sending_table
from tests.unit.webhook_bench import a_receiver

MINUTES = 10
"""As many as it takes until everything that is looked at now and then has been looked at as often as it is."""

pytestmark = pytest.mark.usefixtures("aws_environment")


def imported(source: str) -> Any:
    """A function's module, made again as at a cold start."""
    module = handler_of(source).rpartition(".")[0]
    sys.modules.pop(module, None)
    return importlib.import_module(module)


def metered() -> Meter:
    """Counts what the functions' client for DynamoDB does from now on."""
    looking, meter = boto3.client("dynamodb"), Meter()

    def look(table: str, keys: Sequence[Any]) -> list[Any]:
        return [looking.get_item(TableName=table, Key=key)["Item"] for key in keys]

    meter.attach(aws.dynamodb(), look)
    return meter


def assert_line(lines: str, sweep: IdleCall) -> None:
    """Each minute one line, no longer than is counted, with no field that is not known to be there."""
    found = lines.splitlines()
    assert len(found) == MINUTES
    assert max(len(line.encode()) for line in found) <= sweep.log_bytes
    assert {field for line in found for field in json.loads(line)} - COMMON_FIELDS == sweep.fields


def minutes(at: datetime) -> list[Callable[[], datetime]]:
    """The clocks of so many minutes, one after the other."""
    return [partial(at.__add__, timedelta(minutes=number)) for number in range(MINUTES)]


def test_the_sweep_of_jobs(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    bench = JobBench(monkeypatch, *CATALOGUE.job_types.values())
    module = imported(own("job_sweeper"))
    monkeypatch.setattr(module, "store", bench.store)
    # The first one begins the schedules.
    module.handler({}, Invocation())
    meter, sweep = metered(), idle_calls(CATALOGUE)[own("job_sweeper")]
    capsys.readouterr()
    for _ in range(MINUTES):
        bench.pass_time(minutes=1)
        assert module.handler({}, Invocation()) == {}
    assert meter.read / MINUTES == pytest.approx(sweep.read_units)
    assert meter.units / MINUTES == pytest.approx(sweep.write_units)
    assert_line(capsys.readouterr().out, sweep)


def test_the_sweep_of_deliveries(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("OFFLOAD_SUBSCRIPTIONS_TABLE", sending_table(boto3.client("dynamodb")))
    monkeypatch.setenv("OFFLOAD_SENDING", msgspec.json.encode(Policy()).decode())
    monkeypatch.setenv("OFFLOAD_SENDER_QUEUE_URL", "https://sqs.invalid/well")
    monkeypatch.setenv("OFFLOAD_SENDER_TROUBLE_QUEUE_URL", "https://sqs.invalid/trouble")
    module = imported(own("delivery_sweeper"))
    # A new worker reads the subscriptions once.
    module.subscriptions.all()
    meter, sweep = metered(), idle_calls(CATALOGUE)[own("delivery_sweeper")]
    capsys.readouterr()
    for now in minutes(datetime(2026, 11, 29, 12, tzinfo=UTC)):
        monkeypatch.setattr(module, "utc_now", now)
        module.handler({}, Invocation())
    assert meter.read / MINUTES == pytest.approx(sweep.read_units)
    assert meter.units == sweep.write_units == 0
    assert_line(capsys.readouterr().out, sweep)


def test_the_sweep_of_webhooks_that_the_bus_did_not_take(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with a_receiver(monkeypatch) as bench:
        calls: list[str] = []
        call = bench.relay.dynamodb.call

        def counted(action: str, request: dict[str, Any], **settings: Any) -> Any:
            calls.append(f"{action} {request.get('IndexName')}")
            assert "ConsistentRead" not in request
            return call(action, request, **settings)

        monkeypatch.setattr(bench.relay.dynamodb, "call", counted)
        sweep = idle_calls(CATALOGUE)[own("webhook_relay")]
        capsys.readouterr()
        for _ in range(MINUTES):
            bench.relay.handler({}, Invocation())
    # An eventually consistent read of nothing is half a unit.
    assert set(calls) == {"Query owed"}
    assert (len(calls) / 2 / MINUTES, 0) == (sweep.read_units, sweep.write_units)
    assert_line(capsys.readouterr().out, sweep)


def test_the_sweep_of_the_team_s_notices(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    client = boto3.client("dynamodb")
    call = CallSettings(table="unused", secret="unused", secret_path=True)
    for name, value in {
        "OFFLOAD_CONSUMER": "TeamNotifier",
        "OFFLOAD_QUEUE_URL": "https://sqs.invalid/queue",
        "OFFLOAD_DEAD_LETTER_QUEUE_URL": "https://sqs.invalid/dead",
        "OFFLOAD_MARKS_TABLE": "unused",
        "OFFLOAD_CLAIMS_BUCKET": "unused",
        "OFFLOAD_ATTEMPTS": "3",
        "NOTICES_TABLE": new_table(client, "notices-idle", sort_key=False),
        variable_of("slack"): msgspec.json.encode(call).decode(),
        **variables([], ["https"], [443]),
    }.items():
        monkeypatch.setenv(name, value)
    module = imported("team_notifier")
    meter, sweep = metered(), idle_calls(CATALOGUE)["team_notifier"]
    capsys.readouterr()
    for _ in range(MINUTES):
        module.handler({}, Invocation())
    assert meter.read / MINUTES == pytest.approx(sweep.read_units)
    assert meter.units == sweep.write_units == 0
    assert_line(capsys.readouterr().out, sweep)
