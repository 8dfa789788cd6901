"""What wakes the senders of webhooks each minute, as Lambda loads it, on a real table and real queues."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from types import ModuleType
from typing import Any

import msgspec
import pytest

from tests.misbehaving_server import MisbehavingServer
from tests.unit.webhooks_out.sending_bench import Clock, SendingBench

_NAME = "offload.functions.delivery_sweeper.handler"


class Context:
    """What the handler asks of Lambda's context."""

    aws_request_id = "request-1"

    @staticmethod
    def get_remaining_time_in_millis() -> int:
        return 50_000


@pytest.fixture
def bench(aws_of_module: None) -> Iterator[SendingBench]:
    """A table, two lanes and a clock that shows a full ten minutes."""
    made = SendingBench(clock=Clock(datetime(2026, 11, 27, 12, 10, tzinfo=UTC)))
    yield made
    made.close()


@pytest.fixture
def sweeper(bench: SendingBench, monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """The function on the bench's table, queues and clock."""
    for variable, value in {
        "OFFLOAD_SUBSCRIPTIONS_TABLE": bench.table,
        "OFFLOAD_SENDING": msgspec.json.encode(bench.policy).decode(),
        "OFFLOAD_SENDER_QUEUE_URL": bench.well,
        "OFFLOAD_SENDER_TROUBLE_QUEUE_URL": bench.trouble,
    }.items():
        monkeypatch.setenv(variable, value)
    monkeypatch.delitem(sys.modules, _NAME, raising=False)
    module = importlib.import_module(_NAME)
    for part in (module.subscriptions, module.deliveries):
        monkeypatch.setattr(part, "_now", bench.clock)
    monkeypatch.setattr(module, "utc_now", bench.clock)
    yield module
    sys.modules.pop(_NAME, None)


def test_what_waits_although_its_token_was_lost_is_woken_within_ten_minutes(bench: SendingBench, sweeper: Any) -> None:
    record = bench.subscribe("http://127.0.0.1:9/lost")
    bench.owe(record)
    bench.take_tokens()
    bench.clock.passes(minutes=10)
    sweeper.handler({}, Context())
    assert bench.take_tokens() == [record.id]


def test_an_endpoint_that_was_well_is_woken_in_the_lane_of_those_that_are(
    bench: SendingBench, sweeper: Any, server: MisbehavingServer
) -> None:
    record = bench.subscribe(server.url("well"))
    bench.owe(record)
    bench.work(record)
    bench.owe(record)
    bench.take_tokens()
    bench.clock.passes(minutes=10)
    sweeper.handler({}, Context())
    assert (len(bench.taken(bench.well)), bench.taken(bench.trouble)) == (1, [])
