"""What an idle call of each scheduled function does is what the bill counts (`offload/cli/costs/sweeps.py`)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import boto3
import msgspec
import pytest

from clinic.catalogue import CATALOGUE
from clinic.contracts.jobs import WARD_REPORT
from offload.cli.costs.sweeps import idle_calls
from offload.contracts.functions import own
from offload.contracts.webhooks_out.policy import Policy
from tests.unit.cli.minutes import MINUTES, assert_line, imported, metered
from tests.unit.jobs.job_bench import Invocation, JobBench
from tests.unit.webhooks_in.webhook_bench import a_receiver
from tests.unit.webhooks_out.sending_bench import sending_table

pytestmark = pytest.mark.usefixtures("aws_environment")


def minutes(at: datetime) -> list[Callable[[], datetime]]:
    """The clocks of so many minutes, one after the other."""
    return [partial(at.__add__, timedelta(minutes=number)) for number in range(MINUTES)]


def test_the_sweep_of_jobs(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    # A second schedule, for what is counted for each.
    twice = replace(CATALOGUE, jobs=(*CATALOGUE.jobs, replace(WARD_REPORT, name="hospital_report")))
    bench = JobBench(monkeypatch, *twice.job_types.values())
    module = imported(own("job_sweeper"))
    monkeypatch.setattr(module, "JOB_TYPES", twice.job_types)
    monkeypatch.setattr(module, "store", bench.store)
    # The first one begins the schedules.
    module.handler({}, Invocation())
    meter, sweep = metered(), idle_calls(twice)[own("job_sweeper")]
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
