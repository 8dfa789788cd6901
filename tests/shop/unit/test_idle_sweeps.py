"""What an idle call of each of the shop's scheduled functions does is what the bill counts (`shop/catalogue.py`)."""

from __future__ import annotations

import boto3
import msgspec
import pytest

from offload.cli.costs.sweeps import idle_calls
from offload.contracts.calls import CallSettings, variable_of
from offload.contracts.egress import variables
from shop.catalogue import CATALOGUE
from tests.conftest import new_table
from tests.unit.cli.minutes import MINUTES, assert_line, imported, metered
from tests.unit.jobs.job_bench import Invocation

pytestmark = pytest.mark.usefixtures("aws_environment")


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
