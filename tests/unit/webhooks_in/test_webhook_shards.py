"""The deliveries' indexes are spread over shards, and everything that reads them finds all of it, in order."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest

from clinic.providers import PROVIDERS
from offload.cdk.constructs.webhook_entry import _SHOWN
from offload.cdk.environment import Environment
from offload.cli.deployment.aws import Aws
from offload.cli.deployment.resources import Deployment, WebhookEntry
from offload.cli.local.process import Instance
from offload.cli.webhooks_in import received as webhooks
from offload.contracts.webhooks_in.providers import GITHUB, SHOPIFY, STRIPE
from offload.contracts.webhooks_in.received import MOST_VARIANTS, variant_of
from offload.contracts.webhooks_in.shards import (
    MOST_A_SECOND,
    PARTITION_UNITS,
    SHARDS,
    UNITS_PER_WEBHOOK,
    owed_in,
    shard_of,
)
from offload.runtime.webhooks_in.deliveries import Deliveries, Delivery
from tests.meter import item_size
from tests.unit.webhooks_in.webhook_bench import Bench, a_receiver, client

pytestmark = pytest.mark.usefixtures("aws_of_module")

NOW = 1_790_000_000_000
"""Milliseconds since 1970."""


@pytest.fixture(scope="module")
def bench(aws_of_module: None) -> Iterator[Bench]:
    with pytest.MonkeyPatch.context() as patch, a_receiver(patch) as bench:
        yield bench


@pytest.fixture
def deliveries(bench: Bench) -> Deliveries:
    """The functions' side of the table, emptied before."""
    table = client("dynamodb")
    for page in table.get_paginator("scan").paginate(TableName=bench.table):
        for item in page["Items"]:
            table.delete_item(TableName=bench.table, Key={"pk": item["pk"], "sk": item["sk"]})
    found: Deliveries = bench.relay.deliveries
    return found


@pytest.fixture
def deployment(bench: Bench, emulator: Instance) -> Deployment:
    class Found(Deployment):
        webhook_entries = (
            WebhookEntry("http://127.0.0.1", bench.table, bench.secret, tuple(PROVIDERS), "offload-local-clinic"),
        )

    return Found(Aws("local", emulator))


def kept(deliveries: Deliveries, count: int, *providers: str) -> list[Delivery]:
    """Deliveries that the bus does not have yet, some at the same millisecond, written in no order."""
    made = [
        Delivery(
            provider=providers[number % len(providers)],
            key=f"key-{number}",
            endpoint="",
            delivery_id=f"id-{number}",
            event_type="push",
            account="",
            event_id=f"webhook.received:github:key-{number}",
            type="webhook.received.github.push",
            scheme="github",
            key_id="k",
            body_sha256="0" * 64,
            bytes=2,
            source="203.0.113.7",
            received_at=NOW + number // 3,
            expires=None,
        )
        for number in range(count)
    ]
    for each in random.Random(7).sample(made, count):
        deliveries.keep(each, b"packed", within=10)
    return made


@pytest.fixture
def short_pages(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Pages of three items, where DynamoDB's have 1 MB; the partitions that were asked for."""
    asked: list[str] = []
    call = bench.relay.deliveries._call

    def short(action: str, request: dict[str, Any], within: float) -> Any:
        if action == "Query":
            asked.append(request["ExpressionAttributeValues"][":owed"]["S"])
            request = {**request, "Limit": 3}
        return call(action, request, within)

    monkeypatch.setattr(bench.relay.deliveries, "_call", short)
    monkeypatch.setattr(webhooks, "_PAGE", 3)
    return asked


def test_the_relay_is_given_all_that_is_owed_the_oldest_first_over_all_shards_and_pages(
    deliveries: Deliveries, short_pages: list[str]
) -> None:
    made = kept(deliveries, 90, "github", "stripe")
    found = list(deliveries.owed(before=NOW + 20, within=60))
    due = [each for each in made if each.received_at < NOW + 20]
    assert [each.since for each in found] == [each.received_at for each in due]
    assert sorted(each.keys["pk"]["S"] for each in found) == sorted(each.keys["pk"]["S"] for each in due)
    assert Counter(short_pages).keys() == {owed_in(shard) for shard in range(SHARDS)}
    assert len(short_pages) > 2 * SHARDS


def test_what_the_relay_publishes_meanwhile_costs_no_other_delivery(
    deliveries: Deliveries, short_pages: list[str]
) -> None:
    made = kept(deliveries, 60, "github")
    found = []
    for each in deliveries.owed(before=NOW + 1_000, within=60):
        deliveries.published(each.keys, at=NOW + 2_000, within=5)
        found.append(each.keys["pk"]["S"])
    assert sorted(found) == sorted(each.keys["pk"]["S"] for each in made)
    assert list(deliveries.owed(before=NOW + 1_000, within=60)) == []


def test_commands_list_all_that_came_newest_first_over_all_shards_pages_and_providers(
    deliveries: Deliveries, deployment: Deployment, short_pages: list[str]
) -> None:
    made = kept(deliveries, 90, "github", "stripe", "shopify")
    for number in range(6):
        refusal = {"provider": "github", "endpoint": "", "reason": "stale", "status": 401, "detail": "", "source": "s"}
        deliveries.refused({**refusal, "after_rotation": False}, at=NOW + 10 * number, within=5)
    found = webhooks.recent(deployment, limit=1_000)
    assert len(found) == 96
    assert [each.at for each in found] == sorted((each.at for each in found), reverse=True)
    assert {each.id for each in found if each.outcome == "accepted"} == {each.key for each in made}
    assert {each.provider for each in found} == {"github", "stripe", "shopify"}
    newest = webhooks.recent(deployment, limit=10)
    assert [each.at for each in newest] == [each.at for each in found[:10]]
    since = datetime.fromtimestamp((NOW + 20) / 1000, UTC)
    some = webhooks.recent(deployment, provider="stripe", outcome="owed", since=since, limit=1_000)
    wanted = [each.key for each in made if each.provider == "stripe" and each.received_at >= NOW + 20]
    assert sorted(each.id for each in some) == sorted(wanted)


def test_commands_count_and_name_all_that_is_owed_the_oldest_first(
    deliveries: Deliveries, deployment: Deployment, short_pages: list[str]
) -> None:
    made = kept(deliveries, 45, "github", "stripe")
    before = datetime.fromtimestamp((NOW + 1_000) / 1000, UTC)
    found = list(webhooks.owed(deployment, before=before))
    assert [each.since for each in found] == sorted(each.since for each in found)
    assert {(each.provider, each.key) for each in found} == {(each.provider, each.key) for each in made}
    overview = {each.provider.name: each for each in webhooks.overviews(deployment, now=before)}
    assert (overview["github"].owed, overview["stripe"].owed, overview["shopify"].owed) == (23, 22, 0)
    assert (overview["github"].last_day.accepted, overview["stripe"].last_day.accepted) == (23, 22)


def test_keys_are_spread_evenly() -> None:
    counted = Counter(shard_of(f"sha256-{number:064x}") for number in range(8_000))
    assert sorted(counted) == list(range(SHARDS))
    assert max(counted.values()) < 1.2 * 8_000 / SHARDS


def test_the_sums_of_the_documents_are_those_of_the_items(bench: Bench, deliveries: Deliveries) -> None:
    for provider in (GITHUB, STRIPE, SHOPIFY):
        body = b'{"id": "evt_1", "type": "charge.settled", "action": "published"}'
        assert bench.send(provider, body, event_type="release")["statusCode"] == 200
    found = client("dynamodb").scan(TableName=bench.table)["Items"]
    items = [item for item in found if "shown" in item]
    assert len(items) == 3
    # One unit of an item a body whose sender signs no id, and none of an index.
    bodies = [item for item in found if "shown" not in item]
    assert [set(item) for item in bodies] == [{"pk", "sk", "variants"}] * 2
    keys = max(len(item["pk"]["S"]) for item in bodies) + len("pkskdeliveryvariantsexpires") + 8
    assert keys + MOST_VARIANTS * (len(variant_of("", "", "")) + 1) < 1024
    for item in items:
        recent = {name: value for name, value in item.items() if name in {"pk", "sk", "shown", "listed", *_SHOWN}}
        # Two writes of it, each of one unit: put, and changed when the bus had it.
        assert item_size(recent) < 700
    assert UNITS_PER_WEBHOOK == 2


@pytest.mark.parametrize("name", ["dev", "staging", "prod", "local"])
def test_each_environment_s_rate_leaves_half_of_a_partition(name: str) -> None:
    rate = Environment.load(name).webhooks.requests_per_second
    assert rate * UNITS_PER_WEBHOOK / SHARDS <= PARTITION_UNITS / 2
    assert rate <= MOST_A_SECOND
