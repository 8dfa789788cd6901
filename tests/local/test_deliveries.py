"""Webhooks out through the deployed app: endpoints that misbehave, senders that are killed, and what becomes of it."""

from __future__ import annotations

import json
import math
import os
import time
from collections import Counter, defaultdict
from datetime import UTC, datetime, timedelta
from typing import Any, Final, Literal

import pytest

from clinic.contracts.supplies import SupplyLow
from offload.cli.deployment import logs
from offload.cli.deployment.status import depths
from offload.client.publisher import Publisher
from tests.copies import RETRIES, Copy
from tests.killed_workers import workers_killed_all_along
from tests.local.subscribers import Subscribers
from tests.misbehaving_server import (
    Answer,
    Gone,
    HalfResponse,
    Hang,
    Http10,
    HugeBody,
    HugeHeaders,
    MisbehavingServer,
    NotHttp,
    RateLimited,
    RedirectLoop,
    ResetAfter,
    ResetBefore,
    ResetIn,
    SlowBytes,
    Step,
    Tls,
    WrongLength,
)
from tests.patience import PATIENCE
from tests.standard_webhooks_verifiers import Verifiers, installed

WHOLE: Final = os.environ.get("OFFLOAD_PROVE") == "whole"
ENDPOINTS: Final = 50
SENDERS: Final = 5
"""At once in each lane: `[sending] concurrency` of the clinic's environments/local.toml."""
PLANNER: Final = "WebhooksOut/Planner"
# What the first requests to an endpoint meet; all that come later are answered.
SCRIPTS: Final[tuple[list[Step], ...]] = (
    [Hang(20)],
    [SlowBytes(every=0.01, body=b"s" * 200)],
    [ResetBefore()] * 3,
    [ResetIn(part="head"), ResetIn(part="body")],
    [ResetAfter()] * 3,
    [HalfResponse(part="head"), HalfResponse(part="body")],
    [WrongLength(declared=1000, sent=10)] * 3,
    [HugeBody(3_000_000)] * 2,
    [HugeHeaders(1_000_000)],
    [RedirectLoop()] * 2,
    [RateLimited("2")] * 2,
    [RateLimited("soon")],
    [NotHttp()] * 2,
    [Http10()] * 5,
    [Answer(500)] * (6 if WHOLE else 4),
    [Answer(503), Answer(404), Answer(301)],
    [Answer(200, after=3.0)],
)
# Whoever connects meets a certificate that is none, until its owner changes the address.
BAD_TLS: Final[dict[str, Tls]] = {"p34": "expired", "p35": "wrong-host", "p36": "self-signed"}
# Ports that bear two connections: what comes beyond is refused, reset, or let in and left alone.
NARROW: Final[dict[str, Literal["refuse", "reset", "backlog"]]] = {"p37": "refuse", "p38": "reset", "p39": "backlog"}


def low(item: str, number: int) -> Any:
    """An event for the endpoint that hears of an item."""
    cause = f"visit.ended:{item}-{number}"
    return SupplyLow(item=item, units=1, low_below=9, cause=cause, caused_at=datetime.now(UTC)).event()


def states(subscribers: Subscribers, query: str = "") -> Counter[str]:
    return Counter(each["state"] for each in subscribers.deliveries(query))


@pytest.mark.long
def test_whatever_endpoints_do_and_whoever_is_killed_each_delivery_ends_and_both_records_agree(
    copy: Copy, server: MisbehavingServer
) -> None:
    count = 5_000 if WHOLE else 100
    subscribers = Subscribers(copy)
    # The manager's word on 410, and on `no`, is final; the others recover.
    no = Answer(500, headers={"webhook-retry": "no"})
    scripts: dict[str, tuple[list[Step], Step]] = {
        f"p{number}": (list(SCRIPTS[number % len(SCRIPTS)]) if number < 34 else [], Answer(204))
        for number in range(ENDPOINTS - 2)
    }
    # A worker that nobody calls keeps its connections: whoever has room for two closes them.
    scripts |= {name: ([], Answer(204, close=True)) for name in NARROW}
    scripts |= {"p48": ([], no), "p49": ([Answer(204)], Gone())}
    ids: dict[str, str] = {}
    for name, (steps, then) in scripts.items():
        server.script(name, steps, then=then)
        url = server.own_port(name, limit=2, over=NARROW[name]) if name in NARROW else server.url(name)
        url = server.url(name, tls=BAD_TLS[name]) if name in BAD_TLS else url
        wish = subscribers.subscribe(url, ["supply.low"], filter={"item": [name]})
        ids[wish["subscription"]["id"]] = name
    publisher = Publisher(copy.deployment.bus, events=copy.deployment.aws.events, retries=RETRIES)
    with workers_killed_all_along(copy.embedded, every=1.0, seed=6, most=math.inf if WHOLE else 20) as killed:
        for number in range(count):
            event = low(f"p{number % ENDPOINTS}", number)
            publisher.publish(event, event) if number % 5 == 0 else publisher.publish(event)
        killing_ends = time.monotonic() + (120 if WHOLE else 8)
        subscribers.until(lambda: time.monotonic() > killing_ends, "the killing to end")
    assert len(killed) >= 5
    for subscription, name in ids.items():
        if name in BAD_TLS:
            give_good_address(subscribers, server, subscription, name)
    gone = next(name for name, endpoint in ids.items() if endpoint == "p49")

    def open_ones() -> int:
        found = Counter(each["state"] for each in subscribers.deliveries() if each["subscription"] != gone)
        return sum(found.values()) - found["delivered"] - found["given_up"]

    def planned() -> int:
        return sum(states(subscribers).values())

    def given_up_on() -> int:
        return next(queues.dead for queues in depths(copy.deployment) if queues.consumer == PLANNER)

    def all_planned() -> bool:
        # Killed with an event five times over, the planner has it as a dead letter, and an operator sends it again.
        if given_up_on():
            redriven = copy.offload("dead-letters", "redrive", "--consumer", PLANNER)
            assert redriven.returncode == 0, redriven.stderr
        return planned() == count

    subscribers.until(all_planned, "every event to be planned")
    subscribers.until(lambda: open_ones() == 0, "every delivery to end")
    # What waits for the one that is gone would expire in days: its owner deletes the subscription.
    assert subscribers.call("GET", f"/subscriptions/{gone}")[1]["reason"] == "gone"
    assert subscribers.call("DELETE", f"/subscriptions/{gone}")[0] == 204
    subscribers.until(lambda: states(subscribers)["waiting"] == 0, "the deleted one's deliveries")
    deliveries = [*subscribers.deliveries(), *subscribers.deliveries(f"&subscription={gone}")]
    assert len({each["id"] for each in deliveries}) == count
    agree(server, ids, deliveries)
    account = json.loads(copy.offload("audit", "--json").stdout)
    assert account["adds_up"], account


def give_good_address(subscribers: Subscribers, server: MisbehavingServer, subscription: str, name: str) -> None:
    """Waits until the endpoint's bad certificate was met, sees what was kept of that, and changes the address."""

    def tried() -> list[dict[str, Any]]:
        waiting = subscribers.deliveries(f"&subscription={subscription}&state=waiting")
        return [each for each in waiting if each.get("error")]

    subscribers.until(lambda: bool(tried()), f"an attempt at {name}")
    assert "certificate" in tried()[0]["error"].lower()
    assert server.failed_handshakes(BAD_TLS[name]) > 0
    assert not server.received(name)
    assert subscribers.call("PATCH", f"/subscriptions/{subscription}", {"url": server.url(name)})[0] == 200


def agree(server: MisbehavingServer, ids: dict[str, str], deliveries: list[dict[str, Any]]) -> None:
    """The receivers' records and ours say the same, up to answers that were lost with who waited for them."""
    ours = {each["id"]: each for each in deliveries}
    came: dict[str, list[Any]] = defaultdict(list)
    for name in ids.values():
        for received in server.received(name):
            if (delivery := received.header("webhook-id")) is not None:
                came[delivery].append(received)
    assert set(came) <= set(ours)
    for delivery, record in ours.items():
        requests = came[delivery]
        # Of a sender that was killed the headers alone may have come: of half a body the server keeps nothing.
        whole = max((each.body for each in requests), key=len, default=b"")
        assert all(each.body == whole or (not each.answered and not each.body) for each in requests)
        # Of other steps the sender may not have had the whole answer.
        taken = [each for each in requests if each.answered and each.step in (Answer(204), Answer(204, close=True))]
        # What came here and is no attempt of ours died with its sender, and the answer with it.
        lost = max(0, len(requests) - record.get("attempts", 0))
        name = ids[record["subscription"]]
        if record["state"] == "delivered":
            assert requests, record
            assert len(taken) <= 1 + lost, (record, [each.step for each in requests])
        else:
            assert record["reason"] in {"receiver-said-no", "gone", "subscription-deleted"}, record
            assert name in {"p48", "p49"}
            assert len(taken) <= lost


@pytest.mark.long
def test_endpoints_that_hang_hold_up_no_other_not_even_as_many_as_there_are_senders(
    deployed: Copy, server: MisbehavingServer
) -> None:
    subscribers = Subscribers(deployed)
    well = [f"well{number}" for number in range(8)]
    hanging = [f"hangs{number}" for number in range(SENDERS)]
    ids = {}
    for name in [*well, *hanging]:
        server.script(name, then=Hang(60) if name in hanging else Answer(204))
        wish = subscribers.subscribe(server.url(name), ["supply.low"], filter={"item": [name]})
        ids[name] = wish["subscription"]["id"]
    publisher = Publisher(deployed.deployment.bus, events=deployed.deployment.aws.events, retries=RETRIES)
    for name in hanging:
        publisher.publish(*(low(name, number) for number in range(20)))
        # One after the other, so that each of them holds a sender.
        server.wait_for(name, 1, timeout=PATIENCE)
    publisher.publish(*(low(name, number) for number in range(20) for name in well))
    for name in well:
        assert len({each.header("webhook-id") for each in server.wait_for(name, 20, timeout=PATIENCE)}) == 20
    for name in hanging:
        assert len(list(subscribers.deliveries(f"&state=waiting&subscription={ids[name]}"))) == 20
        assert server.at_once(name).requests == 1
    # A sender that hangs went on with others of its lane. It says so at its end.
    subscribers.until(lambda: any(each["taken"] for each in rounds(deployed)), "a sender that took more than its batch")
    for name in ids.values():
        assert subscribers.call("DELETE", f"/subscriptions/{name}")[0] == 204


def rounds(copy: Copy) -> list[dict[str, Any]]:
    """What the senders said of each invocation."""
    group = copy.deployment.function("delivery_sender").log_group
    [lines] = logs.read(copy.deployment, group, datetime.now(UTC) - timedelta(minutes=10), follow=False)
    said = [json.loads(line.message) for line in lines if line.message.startswith("{")]
    return [each for each in said if each["message"] == "round"]


def test_signatures_hold_in_three_libraries_and_what_is_subscribed_to_comes(
    deployed: Copy, server: MisbehavingServer
) -> None:
    if not installed():
        pytest.skip("npm's libraries are not installed")
    subscribers = Subscribers(deployed)
    made = subscribers.subscribe(
        server.url("signed"),
        ["supply.*"],
        # Of its own alone: what other tests published may still be on its way.
        filter={"units": [{"numeric": ["<", 5]}], "item": ["Zoë's Kerzen"]},
        headers={"x-token": "secret-token"},
        ed25519=True,
    )
    name = made["subscription"]["id"]
    assert "secret-token" not in json.dumps(subscribers.call("GET", f"/subscriptions/{name}")[1])
    publisher = Publisher(deployed.deployment.bus, events=deployed.deployment.aws.events, retries=RETRIES)
    event = low("Zoë's Kerzen", 1)
    publisher.publish(event, event)
    [received] = server.wait_for("signed", 1)
    assert json.loads(received.body)["data"]["item"] == "Zoë's Kerzen"
    assert received.header("x-token") == "secret-token"
    with Verifiers() as verifiers:
        assert verifiers.good(made["secret"], received.headers, received.body)
        assert verifiers.good(made["subscription"]["public_key"], received.headers, received.body)
    status, tried = subscribers.call("POST", f"/subscriptions/{name}/test", {"type": "visit.ended"})
    assert (status, tried["attempt"]["status"]) == (200, 200)
    [shown] = subscribers.deliveries(f"&subscription={name}")
    status, whole = subscribers.call("GET", f"/deliveries/{shown['id']}")
    assert [each["status"] for each in whole["tries"]] == [200]
    assert whole["body"]["id"] == event.id
    assert subscribers.call("POST", f"/deliveries/{shown['id']}/resend")[0] == 200
    assert len(server.wait_for("signed", 3)) == 3
    # What the table holds of the secret, nobody reads.
    table = deployed.deployment.subscription_service.table
    items = deployed.deployment.aws.dynamodb.scan(TableName=table)["Items"]
    assert made["secret"].removeprefix("whsec_") not in str(items)
    assert "secret-token" not in str(items)


def test_nothing_is_answered_that_is_not_signed_and_no_role_does_more_than_it_may(
    deployed_with_iam: Copy, server: MisbehavingServer
) -> None:
    subscribers = Subscribers(deployed_with_iam)
    server.script("iam", [Answer(500)])
    made = subscribers.subscribe(server.url("iam"), ["supply.low"], ed25519=True)
    publisher = Publisher(
        deployed_with_iam.deployment.bus, events=deployed_with_iam.deployment.aws.events, retries=RETRIES
    )
    publisher.publish(low("iam", 1))
    name = made["subscription"]["id"]
    # Its own alone: another test of this copy may have had deliveries too.
    subscribers.until(lambda: states(subscribers, f"&subscription={name}")["delivered"] == 1, "the retry")
    for path in ("pause", "resume", "rotate", "test"):
        assert subscribers.call("POST", f"/subscriptions/{name}/{path}", {})[0] == 200
    [shown] = subscribers.deliveries(f"&event={low('iam', 1).id}")
    assert subscribers.call("POST", f"/deliveries/{shown['id']}/erase")[0] == 200
    assert subscribers.call("POST", f"/deliveries/{shown['id']}/resend")[0] == 410
    assert subscribers.call("PATCH", f"/subscriptions/{name}", {"rate": 3})[0] == 200
    assert subscribers.call("DELETE", f"/subscriptions/{name}")[0] == 204
