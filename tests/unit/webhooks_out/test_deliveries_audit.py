"""The audit of deliveries: what adds up, and each way in which it does not, on a real table."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from typer.testing import CliRunner

from offload.cli.audit import events as audit
from offload.cli.audit.deliveries import DeliveryAccount, DeliveryLine, OddDelivery, draw_up
from offload.cli.audit.events import Account
from offload.cli.main import app
from offload.runtime.webhooks_out.items import Record, delivery_id, delivery_key, due_pk
from tests.misbehaving_server import Answer, MisbehavingServer
from tests.unit.webhooks_out.sending_bench import SendingBench

pytestmark = pytest.mark.usefixtures("aws_of_module")

RUNNER = CliRunner()
_names = iter(range(10_000))


@pytest.fixture
def bench(aws_of_module: None) -> Iterator[SendingBench]:
    made = SendingBench()
    yield made
    made.close()


def subscribed(bench: SendingBench, server: MisbehavingServer, *steps: Any, then: Any = None, **wish: Any) -> Record:
    place = f"audit-{next(_names)}"
    server.script(place, steps, then=then)
    return bench.subscribe(server.url(place), **wish)


def drawn_up(bench: SendingBench) -> DeliveryAccount:
    return draw_up(bench.dynamodb, bench.table, now=bench.clock())


def odd(bench: SendingBench) -> list[tuple[str, str]]:
    return [(each.what, each.delivery) for each in drawn_up(bench).odd]


def place_of(bench: SendingBench, record: Record) -> dict[str, Any]:
    """The only place that a subscription has."""
    answer = bench.dynamodb.query(
        TableName=bench.table,
        KeyConditionExpression="pk = :pk",
        ExpressionAttributeValues={":pk": due_pk(record.id)},
    )
    [item] = answer["Items"]
    return dict(item)


# -- what adds up


def test_owed_is_delivered_and_waiting_and_given_up_with_its_reasons(
    bench: SendingBench, server: MisbehavingServer
) -> None:
    record = subscribed(bench, server, Answer(200), Answer(500, {"webhook-retry": "no"}), Answer(503), tenant="acme")
    for _ in range(3):
        bench.owe(record)
        bench.work(record)
    bench.take_tokens()
    other = subscribed(bench, server)
    lines = {line.subscription: line for line in drawn_up(bench).lines}
    assert lines[record.id] == DeliveryLine(record.id, "acme", 3, 1, 1, {"receiver-said-no": 1})
    assert lines[other.id] == DeliveryLine(other.id, "default", 0, 0, 0, {})
    assert drawn_up(bench).adds_up


def test_more_than_a_page_of_deliveries_add_up(bench: SendingBench, server: MisbehavingServer) -> None:
    records = [subscribed(bench, server) for _ in range(3)]
    for _ in range(120):
        bench.owe(*records, body=b"x" * 900)
    assert [line.waiting for line in drawn_up(bench).lines] == [120, 120, 120]
    assert drawn_up(bench).adds_up


def test_what_is_owed_to_a_deleted_subscription_is_seen_until_it_is_given_up(
    bench: SendingBench, server: MisbehavingServer
) -> None:
    record = subscribed(bench, server)
    bench.owe(record)
    bench.subscribing.delete(record.id)
    assert [line.waiting for line in drawn_up(bench).lines] == [1]
    bench.work(record)
    assert drawn_up(bench).lines == ()


# -- what does not


def test_a_waiting_delivery_without_a_place_is_named(bench: SendingBench, server: MisbehavingServer) -> None:
    record = subscribed(bench, server)
    event = bench.owe(record)
    place = place_of(bench, record)
    bench.dynamodb.delete_item(TableName=bench.table, Key={"pk": place["pk"], "sk": place["sk"]})
    assert odd(bench) == [("forgotten", delivery_id(record.id, "test", event))]


def test_a_place_whose_delivery_has_ended_or_is_not_there_is_named(
    bench: SendingBench, server: MisbehavingServer
) -> None:
    record = subscribed(bench, server)
    event = bench.owe(record)
    place = place_of(bench, record)
    bench.work(record)
    bench.dynamodb.put_item(TableName=bench.table, Item=place)
    name = delivery_id(record.id, "test", event)
    assert odd(bench) == [("stray", name)]
    bench.dynamodb.delete_item(TableName=bench.table, Key=delivery_key(name))
    assert odd(bench) == [("stray", name)]


def test_what_is_due_and_nobody_comes_for_is_overdue_after_five_minutes(
    bench: SendingBench, server: MisbehavingServer
) -> None:
    record = subscribed(bench, server)
    event = bench.owe(record)
    bench.take_tokens()  # the token is lost
    bench.clock.passes(minutes=5)
    assert odd(bench) == []
    bench.clock.passes(seconds=1)
    assert odd(bench) == [("overdue", delivery_id(record.id, "test", event))]
    assert "due for 5 minutes, and nobody comes" in drawn_up(bench).odd[0].why


def test_what_is_due_to_an_endpoint_that_somebody_works_on_is_not_overdue(
    bench: SendingBench, server: MisbehavingServer
) -> None:
    record = subscribed(bench, server)
    bench.owe(record)
    bench.clock.passes(minutes=10)
    lease = bench.deliveries.take(record.id)
    assert lease is not None
    assert odd(bench) == []
    bench.clock.passes(minutes=10)
    assert [what for what, _ in odd(bench)] == ["overdue"]


def test_what_is_owed_to_a_paused_subscription_is_not_overdue(bench: SendingBench, server: MisbehavingServer) -> None:
    record = subscribed(bench, server)
    bench.owe(record)
    bench.subscribing.pause(record.id)
    bench.clock.passes(hours=10)
    assert odd(bench) == []


def test_what_a_parked_endpoint_is_owed_is_not_overdue_before_it_is_looked_at(
    bench: SendingBench, server: MisbehavingServer
) -> None:
    record = subscribed(bench, server, then=Answer(500))
    for _ in range(8):
        bench.owe(record)
    bench.work(record)
    bench.take_tokens()
    assert odd(bench) == []
    bench.clock.passes(minutes=30)
    assert {what for what, _ in odd(bench)} == {"overdue"}
    bench.wake()
    assert odd(bench) == []


def test_of_an_ordered_subscription_the_first_of_a_subject_is_overdue_and_not_those_behind_it(
    bench: SendingBench, server: MisbehavingServer
) -> None:
    record = subscribed(bench, server, ordered=True)
    first = bench.owe(record, subject="1")
    bench.clock.passes(seconds=1)
    bench.owe(record, subject="1")
    bench.take_tokens()
    bench.clock.passes(minutes=10)
    assert odd(bench) == [("overdue", delivery_id(record.id, "test", first))]


# -- what people see


def test_the_audit_shows_deliveries_and_ends_with_1_when_one_is_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    line = DeliveryLine("sub_1", "acme", 1234, 1200, 30, {"gone": 3, "expired": 1})
    fine = Account((), (), 0, deliveries=DeliveryAccount((line,), ()))
    monkeypatch.setattr(audit, "audit", lambda deployment: fine)
    monkeypatch.setattr("offload.cli.deployment.resources.Deployment.of", lambda environment: None)
    result = RUNNER.invoke(app, ["audit"])
    assert result.exit_code == 0
    row = next(text for text in result.stdout.splitlines() if "sub_1" in text)
    assert row.split() == ["sub_1", "acme", "1,234", "1,200", "30", "4", "3", "gone,", "1", "expired"]
    lost = OddDelivery("sub_1", "dlv_1", "forgotten", "it waits, and has no place among what is due")
    monkeypatch.setattr(
        audit, "audit", lambda deployment: Account((), (), 0, deliveries=DeliveryAccount((line,), (lost,)))
    )
    result = RUNNER.invoke(app, ["audit"])
    assert result.exit_code == 1
    assert "forgotten: dlv_1 to sub_1: it waits, and has no place among what is due" in result.stdout
    assert "It does not add up: deliveries are owed, and nobody will attempt them." in result.stdout
    document = json.loads(RUNNER.invoke(app, ["audit", "--json"]).stdout)["deliveries"]
    assert (document["adds_up"], document["odd"][0]["delivery"]) == (False, "dlv_1")
    assert document["lines"][0]["given_up"] == {"gone": 3, "expired": 1}
