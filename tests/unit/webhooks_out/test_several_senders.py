"""What `offload subscriptions` and `offload deliveries` do where two stacks send webhooks, each with a real API."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from typer.testing import CliRunner

from clinic.catalogue import CATALOGUE
from offload.cli.audit.events import _deliveries
from offload.cli.deployment.failure import Failure
from offload.cli.deployment.progress import SILENT
from offload.cli.deployment.resources import Deployment, SubscriptionService
from offload.cli.main import app
from offload.cli.webhooks_out.api import subscriptions_api
from offload.cli.webhooks_out.delivery_commands import _recovery
from offload.cli.webhooks_out.sealing_key import rotate_sealing_key
from offload.contracts.webhooks_out.recovery import DELIVERY_BATCH, recovery_named
from offload.runtime.webhooks_out.items import delivery_id
from tests.misbehaving_server import MisbehavingServer
from tests.unit.webhooks_out.sending_bench import SendingBench
from tests.unit.webhooks_out.subscriptions_endpoint import api_of

pytestmark = pytest.mark.usefixtures("aws_of_module", "deployment", "partners")

RUNNER = CliRunner()
CLINIC, PARTNERS = "offload-local-clinic", "offload-local-partners"
AMBIGUOUS = f"environment local sends webhooks from 2 stacks: name one by --stack NAME, of {PARTNERS}, {CLINIC}"
_names = iter(range(10_000))


@pytest.fixture
def bench(aws_of_module: None) -> Iterator[SendingBench]:
    """The first stack's."""
    made = SendingBench()
    yield made
    made.close()


@pytest.fixture
def partners(deployment: Deployment, bench: SendingBench, monkeypatch: pytest.MonkeyPatch) -> Iterator[SendingBench]:
    """The second stack's, with an API of its own, a minute behind the first's."""
    made = SendingBench()
    with pytest.MonkeyPatch.context() as patch, api_of(made, patch) as url:
        sealing_secret = os.environ["OFFLOAD_SEALING_SECRET"]
        second = SubscriptionService(url, made.table, sealing_secret, PARTNERS, "partners_recovery")
        monkeypatch.setattr(type(deployment), "subscription_services", (second, *deployment.subscription_services))
        bench.clock.passes(minutes=1)
        yield made
    made.close()


def said(*arguments: str) -> str:
    result = RUNNER.invoke(app, arguments)
    assert result.exit_code == 0, (result.stdout, result.exception)
    return result.stdout


def document(*arguments: str) -> Any:
    return json.loads(said(*arguments, "--json"))


def failure(*arguments: str) -> str:
    result = RUNNER.invoke(app, arguments)
    assert isinstance(result.exception, Failure), (result.stdout, result.exception)
    return str(result.exception)


def url(server: MisbehavingServer) -> str:
    return server.url(f"several-{next(_names)}")


def test_a_subscription_is_made_in_the_stack_that_is_named_and_listed_with_it(server: MisbehavingServer) -> None:
    wanted = ("subscriptions", "create", "--url", url(server), "--type", "visit.ended")
    assert failure(*wanted) == AMBIGUOUS
    assert document("subscriptions", "list") == {"subscriptions": []}
    made = {stack: document(*wanted, "--stack", stack)["id"] for stack in ("clinic", PARTNERS)}
    listed = document("subscriptions", "list")["subscriptions"]
    assert {each["id"]: each["stack"] for each in listed} == {made["clinic"]: CLINIC, made[PARTNERS]: PARTNERS}
    lines = said("subscriptions", "list").splitlines()
    assert [line.split()[-1] for line in lines] == ["stack", PARTNERS, CLINIC]


def test_a_subscription_is_found_by_its_id_in_whatever_stack(
    bench: SendingBench, partners: SendingBench, server: MisbehavingServer
) -> None:
    for each in (bench, partners):
        record = each.subscribe(url(server))
        assert document("subscriptions", "show", record.id)["id"] == record.id
        assert "is paused" in said("subscriptions", "pause", record.id)
        assert "is active" in said("subscriptions", "resume", record.id)
        assert document("subscriptions", "change", record.id, "--rate", "5")["rate"] == 5
        assert said("subscriptions", "test", record.id).startswith("200 in ")
        assert document("subscriptions", "rotate", record.id)["id"] == record.id
        assert "is deleted" in said("subscriptions", "delete", record.id, "--yes")
        assert "There is no subscription of this id" in failure("subscriptions", "show", record.id)


def test_deliveries_of_all_stacks_are_listed_newest_first_and_found_by_their_ids(
    bench: SendingBench, partners: SendingBench, server: MisbehavingServer
) -> None:
    ours, theirs = bench.subscribe(url(server)), partners.subscribe(url(server))
    newer, older = bench.owe(ours), partners.owe(theirs)

    def listed(*options: str) -> list[tuple[str, str]]:
        found = document("deliveries", "list", *options)
        return [(each["event"], each["stack"]) for each in found["deliveries"]]

    assert listed() == [(newer, CLINIC), (older, PARTNERS)]
    assert listed("--limit", "1") == [(newer, CLINIC)]
    assert document("deliveries", "list", "--limit", "1")["more"]
    assert listed("--subscription", theirs.id) == [(older, PARTNERS)]
    assert [line.split()[-1] for line in said("deliveries", "list").splitlines()] == ["stack", CLINIC, PARTNERS]
    for record, event in ((ours, newer), (theirs, older)):
        name = delivery_id(record.id, "test", event)
        assert document("deliveries", "show", name)["subscription"] == record.id
    assert failure("deliveries", "show", "dlv_none").endswith("there is no delivery 'dlv_none'")


def test_an_event_is_erased_whichever_stack_sent_it(
    bench: SendingBench, partners: SendingBench, server: MisbehavingServer
) -> None:
    ours, theirs = bench.subscribe(url(server)), partners.subscribe(url(server))
    event = bench.owe(ours)
    partners.owe(theirs, event=event)
    kept = partners.owe(theirs)
    assert f"what was sent of event {event}" in said("deliveries", "erase", delivery_id(ours.id, "test", event))
    bodies = {
        (record.id, each): "body" in document("deliveries", "show", delivery_id(record.id, "test", each))
        for record, each in ((ours, event), (theirs, event), (theirs, kept))
    }
    assert bodies == {(ours.id, event): False, (theirs.id, event): False, (theirs.id, kept): True}


def test_what_can_be_subscribed_to_is_listed_once() -> None:
    names = [each["type"] for each in document("subscriptions", "event-types")["event_types"]]
    assert names == sorted(CATALOGUE.outward_examples)


def test_a_sealing_key_is_rotated_in_the_stack_that_is_named(deployment: Deployment) -> None:
    def versions() -> dict[str, Any]:
        manager = deployment.aws.secrets_manager
        found = {each.stack: each.sealing_secret for each in deployment.subscription_services}
        return {stack: manager.get_secret_value(SecretId=name)["VersionId"] for stack, name in found.items()}

    before = versions()
    assert failure("subscriptions", "rotate-sealing-key") == AMBIGUOUS
    assert versions() == before
    with subscriptions_api(deployment, "partners") as api:
        rotate_sealing_key(deployment, api, SILENT, stack="partners", settled_after=timedelta(0))
    now = versions()
    assert (now[CLINIC] == before[CLINIC], now[PARTNERS] == before[PARTNERS]) == (True, False)


def test_deliveries_are_brought_back_by_the_job_of_the_stack_or_of_the_subscription(
    deployment: Deployment, bench: SendingBench, partners: SendingBench, server: MisbehavingServer, app_: Any
) -> None:
    ours, theirs = bench.subscribe(url(server)), partners.subscribe(url(server))
    assert _recovery(deployment, None, "clinic") is DELIVERY_BATCH
    assert _recovery(deployment, None, "partners").name == "partners_recovery"
    assert _recovery(deployment, ours.id, None) is DELIVERY_BATCH
    assert _recovery(deployment, theirs.id, None).name == "partners_recovery"
    assert failure("deliveries", "recover", "--failed", "--since", "1d") == AMBIGUOUS
    without = tuple(replace(each, recovery=None) for each in deployment.subscription_services)
    app_.setattr(type(deployment), "subscription_services", without)
    assert failure("deliveries", "recover", "--failed", "--since", "1d", "--stack", "partners") == (
        f"{PARTNERS} has a sender without the job that brings deliveries back: deploy it again"
    )


@pytest.fixture
def app_(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """An app whose catalogue has the second sender's recovery."""
    catalogue = replace(CATALOGUE, jobs=(*CATALOGUE.jobs, recovery_named("partners_recovery")))
    monkeypatch.setattr("offload.cli.jobs.service.catalogue", lambda: catalogue)
    return monkeypatch


def test_the_audit_has_the_deliveries_of_every_stack(
    deployment: Deployment, bench: SendingBench, partners: SendingBench, server: MisbehavingServer
) -> None:
    for each in (bench, partners):
        each.owe(each.subscribe(url(server)))
    account = _deliveries(deployment)
    assert account is not None
    assert {(line.stack, line.owed, line.waiting) for line in account.lines} == {(CLINIC, 1, 1), (PARTNERS, 1, 1)}
