"""`offload subscriptions` and `offload deliveries` as a person types them; every function has its own role alone."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

from standardwebhooks import Webhook

from clinic.contracts.supplies import SupplyLow
from offload.cli.deployment.progress import SILENT
from offload.cli.webhooks_out.api import subscriptions_api
from offload.cli.webhooks_out.sealing_key import rotate_sealing_key
from offload.client.publisher import Publisher
from offload.runtime.webhooks_out.items import delivery_key
from tests.copies import RETRIES, Copy
from tests.local.subscribers import Subscribers
from tests.misbehaving_server import Answer, MisbehavingServer


def said(copy: Copy, *arguments: str) -> Any:
    done = copy.offload(*arguments, "--json")
    assert done.returncode == 0, (done.stdout, done.stderr)
    return json.loads(done.stdout)


def states(copy: Copy, subscription: str) -> list[str]:
    found = said(copy, "deliveries", "list", "--subscription", subscription)["deliveries"]
    return sorted(each["state"] for each in found)


def publish(copy: Copy, *items: str) -> None:
    publisher = Publisher(copy.deployment.bus, events=copy.deployment.aws.events, retries=RETRIES)
    for item in items:
        low = SupplyLow(item=item, units=1, low_below=9, cause="typed", caused_at=datetime.now(UTC))
        publisher.publish(low.event())


def lose(copy: Copy, delivery: str) -> None:
    """As a planner that had a fault would leave it."""
    table = copy.deployment.subscription_service.table
    copy.deployment.aws.dynamodb.delete_item(TableName=table, Key=delivery_key(delivery))


def test_a_person_subscribes_an_endpoint_and_sends_again_what_failed(
    deployed_with_iam: Copy, server: MisbehavingServer
) -> None:
    copy, subscribers = deployed_with_iam, Subscribers(deployed_with_iam)
    server.script("typed", [Answer(202, body=b"hello"), Answer(500, headers={"webhook-retry": "no"})])
    options = ("--url", server.url("typed"), "--type", "supply.*", "--tenant", "typed", "--rate", "100")
    made = said(copy, "subscriptions", "create", *options)
    name = made["id"]
    assert made["secret"].startswith("whsec_")
    assert said(copy, "subscriptions", "test", name)["attempt"]["body"] == "hello"
    publish(copy, "one", "two", "three")
    subscribers.until(lambda: states(copy, name) == ["delivered", "delivered", "given_up"], "three deliveries to end")
    [failed] = said(copy, "deliveries", "list", "--subscription", name, "--state", "given_up")["deliveries"]
    assert said(copy, "deliveries", "show", failed["id"])["tries"][0]["status"] == 500
    recover = ("deliveries", "recover", "--since", "1h", "--subscription", name)
    assert said(copy, *recover, "--failed", "--yes")["recovered"]["done"] == 1
    subscribers.until(lambda: states(copy, name) == ["delivered"] * 3, "what failed to be delivered")
    # Its replay cannot be had here: of StartReplay the emulator asks for a permission on everything, and AWS does not.
    lose(copy, failed["id"])
    assert said(copy, *recover, "--missing", "--dry-run")["counted"]["found"] == 1
    assert copy.offload("subscriptions", "delete", name, "--yes").returncode == 0


def test_a_person_brings_back_what_is_missing_by_a_replay_of_the_archive(
    deployed: Copy, server: MisbehavingServer
) -> None:
    subscribers = Subscribers(deployed)
    name = said(deployed, "subscriptions", "create", "--url", server.url("missing"), "--type", "supply.low")["id"]
    publish(deployed, "four")
    subscribers.until(lambda: states(deployed, name) == ["delivered"], "the delivery")
    [found] = said(deployed, "deliveries", "list", "--subscription", name)["deliveries"]
    lose(deployed, found["id"])
    recover = ("deliveries", "recover", "--missing", "--since", "1h", "--subscription", name, "--yes")
    assert said(deployed, *recover)["recovered"]["done"] == 1
    subscribers.until(lambda: states(deployed, name) == ["delivered"], "what was missing to be delivered")
    sent = [{key.lower(): value for key, value in each.headers} for each in server.received("missing")]
    assert [each["webhook-id"] for each in sent] == [found["id"]] * 2
    audit = json.loads(deployed.offload("audit", "--json").stdout)["deliveries"]
    assert [odd for odd in audit["odd"] if odd["subscription"] == name] == []
    assert deployed.offload("subscriptions", "delete", name, "--yes").returncode == 0


def test_the_sealing_key_is_rotated_while_events_come_and_every_delivery_is_signed(
    deployed_with_iam: Copy, server: MisbehavingServer
) -> None:
    copy, subscribers = deployed_with_iam, Subscribers(deployed_with_iam)
    made = said(copy, "subscriptions", "create", "--url", server.url("sealed"), "--type", "supply.low")
    publish(copy, "before")
    server.wait_for("sealed", 1)  # a worker is warm, with the old key
    published = 1

    def meanwhile(_: float) -> None:
        nonlocal published
        publish(copy, "under-way")
        published += 1
        server.wait_for("sealed", published)

    with subscriptions_api(copy.deployment) as api:
        rotated = rotate_sealing_key(copy.deployment, api, SILENT, sleep=meanwhile)
    assert rotated.sealed_anew == rotated.subscriptions >= 1
    assert rotated.lost == ()
    publish(copy, "after")
    received = server.wait_for("sealed", published + 1)
    for each in received:
        Webhook(made["secret"]).verify(each.body, {name.lower(): value for name, value in each.headers})
    subscribers.until(lambda: states(copy, made["id"]) == ["delivered"] * 3, "three deliveries to end")
    assert copy.offload("subscriptions", "delete", made["id"], "--yes").returncode == 0
