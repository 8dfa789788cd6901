"""The receiver of webhooks on real tables, secrets and a real bus: every sender, and whatever goes wrong half way."""

from __future__ import annotations

import gzip
import json
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import Any, Final

import boto3
import msgspec
import pytest

from clinic.contracts.laboratory import LABORATORY
from clinic.providers import PROVIDERS
from offload.contracts.events.event import by_type, read_envelope
from offload.contracts.webhooks_in.providers import GITHUB, SHOPIFY, SLACK, STANDARD_WEBHOOKS, STRIPE
from offload.contracts.webhooks_in.received import (
    LONGEST_TYPE,
    MOST_VARIANTS,
    WebhookReceived,
    body_key,
    event_id,
    received_type,
)
from offload.contracts.webhooks_in.scheme import Provider
from offload.contracts.webhooks_in.shards import SHARDS, listed_in
from offload.contracts.webhooks_in.stored_secret import SecretDocument, StoredSecret
from offload.runtime.lean_aws import AwsRefused, AwsUnreachable
from tests.unit.webhooks_in.webhook_bench import SECRETS, Bench, Context, a_receiver, client, gateway_event, sign

pytestmark = pytest.mark.usefixtures("aws_of_module")

BODY = b'{"id": "evt_1", "type": "payment.settled", "event_id": "Ev1", "amount": 12.50}'


@pytest.fixture(scope="module")
def module_bench(aws_of_module: None) -> Iterator[Bench]:
    """One receiver for the module."""
    with pytest.MonkeyPatch.context() as patch, a_receiver(patch) as bench:
        yield bench


@pytest.fixture
def bench(module_bench: Bench) -> Bench:
    """The module's receiver, with an empty queue and nothing known of secrets."""
    module_bench.events()
    module_bench.receiver.receiver._secrets._known.clear()
    module_bench.receiver.receiver._secrets._document = None
    module_bench.receiver.receiver._secrets._looks.clear()
    return module_bench


def problem(answer: dict[str, Any]) -> tuple[int, str]:
    """Status and name of a refusal."""
    document = json.loads(answer["body"])
    assert answer["headers"]["content-type"] == "application/problem+json"
    assert document["status"] == answer["statusCode"]
    return answer["statusCode"], document["type"].removeprefix("urn:offload:problem:")


@pytest.mark.parametrize("provider", PROVIDERS.values(), ids=PROVIDERS)
def test_every_sender_s_delivery_becomes_one_event_with_its_payload(bench: Bench, provider: Provider) -> None:
    body = json.dumps({**json.loads(BODY), "id": f"evt_{time.time_ns()}", "event_id": f"Ev{time.time_ns()}"}).encode()
    answer = bench.send(provider, body, event_type="payment.settled", endpoint="main")
    assert (answer["statusCode"], answer["body"]) == (200, "")
    [event] = bench.events(1)
    assert event["id"] == answer["headers"]["offload-event-id"]
    assert event["type"] == f"webhook.received.{provider.name}.payment.settled"
    assert (event["data"]["payload"], event["data"]["endpoint"]) == (json.loads(body), "main")
    assert (event["data"]["key_id"], event["data"]["scheme"]) == ("first", provider.schemes[0].name)
    data = msgspec.json.decode(json.dumps(event["data"]), type=WebhookReceived)
    assert event["id"] == f"webhook.received:{data.key}"
    assert SECRETS[provider.name] not in json.dumps(event)
    assert sha256(body).hexdigest() == event["data"]["body_sha256"]


def test_a_consumer_reads_the_event_by_a_contract_that_only_names_its_type(bench: Bench) -> None:
    class Settled(WebhookReceived, frozen=True, kw_only=True):
        TYPE = received_type("stripe", "payment.settled")

    bench.send(STRIPE, b'{"id": "evt_read", "type": "payment.settled", "amount": 12.5}')
    [event] = bench.events(1)
    read = read_envelope(json.dumps(event).encode()).event(by_type((Settled,)))
    assert isinstance(read.data, Settled)
    assert read.data.read(dict[str, Any])["amount"] == 12.5


def test_a_second_delivery_is_answered_2xx_and_makes_no_second_event(bench: Bench) -> None:
    body = b'{"id": "evt_twice", "type": "a"}'
    first, second = bench.send(STRIPE, body), bench.send(STRIPE, body)
    assert [each["headers"]["offload-outcome"] for each in (first, second)] == ["accepted", "duplicate"]
    assert first["headers"]["offload-event-id"] == second["headers"]["offload-event-id"]
    assert second["statusCode"] == 200
    assert len(bench.events(1)) + len(bench.events()) == 1
    assert bench.item("stripe", "evt_twice")["duplicates"]["N"] == "1"


def test_of_copies_at_the_same_moment_one_makes_the_event(bench: Bench) -> None:
    event = gateway_event("stripe", body := b'{"id": "evt_race", "type": "a"}', sign(STRIPE, body))
    with pytest.MonkeyPatch.context() as patch, a_receiver(patch) as other, ThreadPoolExecutor(2) as threads:
        # Another execution environment of the same function.
        other.receiver.receiver._deliveries, other.receiver.receiver._bus = (
            bench.receiver.receiver._deliveries.__class__(bench.table, other.receiver.dynamodb),
            bench.receiver.receiver._bus.__class__(bench.bus, other.receiver.events),
        )
        answers = list(threads.map(lambda each: each.receiver.handler(event, Context()), (bench, other)))
    assert {each["statusCode"] for each in answers} == {200}
    assert sorted(each["headers"]["offload-outcome"] for each in answers) == ["accepted", "duplicate"]
    assert len(bench.events(1)) + len(bench.events()) == 1


def test_what_was_kept_when_the_first_died_is_published_by_the_relay_and_the_second_is_a_duplicate(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Died(BaseException):
        pass

    def dies(*_: Any, **__: Any) -> None:
        raise Died

    body = b'{"id": "evt_died", "type": "a"}'
    with monkeypatch.context() as patch:
        patch.setattr(bench.receiver.receiver._bus, "put", dies)
        with pytest.raises(Died):
            bench.send(STRIPE, body)
    assert bench.send(STRIPE, body)["headers"]["offload-outcome"] == "duplicate"
    assert bench.events() == []
    monkeypatch.setattr(bench.relay, "_SETTLED", 0)
    bench.relay.handler({}, Context())
    [event] = bench.events(1)
    assert event["id"] == "webhook.received:stripe:evt_died"
    item = bench.item("stripe", "evt_died")
    assert "owed" not in item
    assert "entry" not in item
    bench.relay.handler({}, Context())
    assert bench.events() == []


def test_a_replayer_with_another_delivery_id_gets_no_second_event(bench: Bench) -> None:
    for provider in (GITHUB, SHOPIFY):
        body = b'{"captured": "' + provider.name.encode() + b'"}'
        assert bench.send(provider, body, delivery_id="true")["headers"]["offload-outcome"] == "accepted"
        assert bench.send(provider, body, delivery_id="replayed")["headers"]["offload-outcome"] == "duplicate"
        assert len(bench.events(1)) == 1


def test_a_replayer_with_a_known_delivery_id_suppresses_no_true_event(bench: Bench) -> None:
    assert bench.send(GITHUB, b'{"old": 1}', delivery_id="id-of-the-next")["headers"]["offload-outcome"] == "accepted"
    assert bench.send(GITHUB, b'{"next": 1}', delivery_id="id-of-the-next")["headers"]["offload-outcome"] == "accepted"
    assert [event["data"]["payload"] for event in bench.events(2)] == [{"old": 1}, {"next": 1}]


ONE_BODY: Final = b'{"id": 788032119674292922, "title": "Example T-Shirt"}'


@pytest.mark.parametrize(
    ("provider", "deliveries"),
    [
        pytest.param(
            SHOPIFY,
            [{"event_type": "products/create"}, {"event_type": "products/update"}],
            id="two topics",
        ),
        pytest.param(
            SHOPIFY,
            [
                {"event_type": "products/update", "headers": {"X-Shopify-Shop-Domain": "one.myshopify.com"}},
                {"event_type": "products/update", "headers": {"X-Shopify-Shop-Domain": "two.myshopify.com"}},
            ],
            id="two shops",
        ),
        pytest.param(
            GITHUB,
            [
                {
                    "event_type": "push",
                    "delivery_id": "one-for-both",
                    "headers": {
                        "X-GitHub-Hook-Installation-Target-Type": kind,
                        "X-GitHub-Hook-Installation-Target-ID": "79929171",
                    },
                }
                for kind in ("organization", "repository")
            ],
            id="the hooks of organization and repository",
        ),
        pytest.param(GITHUB, [{"endpoint": "eyes"}, {"endpoint": "teeth"}], id="two endpoints"),
        # Slack signs no id in what has neither an event nor a trigger.
        pytest.param(SLACK, [{"endpoint": "eyes"}, {"endpoint": "teeth"}], id="known by the hash of the body"),
    ],
)
def test_one_body_that_its_sender_sends_twice_over_is_two_events_and_each_only_once(
    bench: Bench, provider: Provider, deliveries: list[dict[str, Any]], request: pytest.FixtureRequest
) -> None:
    body = json.dumps({**json.loads(ONE_BODY), "of": request.node.name}).encode()
    first = [bench.send(provider, body, **each)["headers"] for each in deliveries]
    assert [each["offload-outcome"] for each in first] == ["accepted", "accepted"]
    again = [bench.send(provider, body, **each)["headers"] for each in deliveries]
    assert [each["offload-outcome"] for each in again] == ["duplicate", "duplicate"]
    ids = [each["offload-event-id"] for each in first]
    assert [each["offload-event-id"] for each in again] == ids
    events = {event["id"]: event for event in bench.events(2)}
    assert list(events) == ids or list(events) == ids[::-1]
    assert bench.events() == []


def test_the_shop_is_in_the_event_and_said_to_be_unsigned(bench: Bench) -> None:
    shop = {"X-Shopify-Shop-Domain": "one.myshopify.com"}
    answer = bench.send(SHOPIFY, b'{"id": 1, "shop": "told"}', event_type="orders/create", headers=shop)
    [event] = bench.events(1)
    assert (event["data"]["account"], event["data"]["account_signed"]) == ("one.myshopify.com", False)
    key = answer["headers"]["offload-event-id"].rpartition(":")[2]
    assert bench.item("shopify", key)["account"]["S"] == "one.myshopify.com"
    bench.send(SLACK, b'{"event_id": "EvTeam", "team_id": "T1"}')
    [event] = bench.events(1)
    assert (event["data"]["account"], event["data"]["account_signed"]) == ("T1", True)


def test_a_replayer_gains_a_bounded_number_of_events_by_other_topics_shops_and_endpoints(bench: Bench) -> None:
    body = b'{"id": 2, "captured": "and sent again"}'
    captured = sign(SHOPIFY, body, event_type="orders/create")

    def replayed(number: int) -> dict[str, Any]:
        forged = {"X-Shopify-Topic": f"forged/{number}", "X-Shopify-Shop-Domain": f"shop-{number}.example"}
        return bench.request("shopify", body, captured | forged, endpoint=f"path-{number}")

    assert bench.request("shopify", body, captured)["headers"]["offload-outcome"] == "accepted"
    answers = [replayed(number) for number in range(MOST_VARIANTS + 5)]
    assert [each["statusCode"] for each in answers] == [200] * (MOST_VARIANTS - 1) + [409] * 6
    assert {problem(each) for each in answers[MOST_VARIANTS - 1 :]} == {(409, "too-many-variants")}
    assert len(bench.events(MOST_VARIANTS)) == MOST_VARIANTS
    # What was taken is known all the same, and no other body suffers.
    assert bench.request("shopify", body, captured)["headers"]["offload-outcome"] == "duplicate"
    assert replayed(0)["headers"]["offload-outcome"] == "duplicate"
    assert bench.send(SHOPIFY, b'{"id": 3}', event_type="orders/create")["headers"]["offload-outcome"] == "accepted"
    assert len(bench.events(1)) == 1
    reasons = [each["reason"]["S"] for each in recent(bench, "shopify") if "reason" in each]
    assert reasons.count("too-many-variants") == 6


def test_a_delivery_that_was_kept_under_its_body_alone_is_still_known(bench: Bench) -> None:
    body = b'{"id": 4, "kept": "by the version before"}'
    before = body_key(sha256(body).hexdigest())
    client("dynamodb").put_item(
        TableName=bench.table,
        Item={
            "pk": {"S": f"delivery#shopify#{before}"},
            "sk": {"S": "delivery"},
            "outcome": {"S": "accepted"},
            "receipt": {"S": "of then"},
            "delivery_id": {"S": "id of then"},
            "event_type": {"S": "orders/create"},
            "event_id": {"S": event_id("shopify", before)},
        },
    )
    for _ in range(2):
        answer = bench.send(SHOPIFY, body, event_type="orders/create")
        assert (answer["statusCode"], answer["headers"]["offload-outcome"]) == (200, "duplicate")
        assert answer["headers"]["offload-event-id"] == event_id("shopify", before)
    assert bench.item("shopify", before)["duplicates"]["N"] == "2"
    assert bench.events() == []
    assert bench.send(SHOPIFY, body, event_type="orders/paid")["headers"]["offload-outcome"] == "accepted"
    assert len(bench.events(1)) == 1


def test_what_signs_no_time_is_remembered_for_ever_and_the_rest_longer_than_its_sender_retries(bench: Bench) -> None:
    answer = bench.send(GITHUB, body := b'{"kept": "for ever"}')
    whole = body_key(sha256(body).hexdigest())
    assert "expires" not in bench.item("github", answer["headers"]["offload-event-id"].rpartition(":")[2])
    assert bench.item("github", whole)["variants"]
    assert "expires" not in bench.item("github", whole)
    bench.send(STRIPE, b'{"id": "evt_remembered"}')
    expires = int(bench.item("stripe", "evt_remembered")["expires"]["N"])
    assert expires > time.time() + STRIPE.sender.retries_for
    answer = bench.send(LABORATORY, body := b'{"kept": "for a while"}')
    for key in (answer["headers"]["offload-event-id"].rpartition(":")[2], body_key(sha256(body).hexdigest())):
        assert int(bench.item("laboratory", key)["expires"]["N"]) > time.time() + LABORATORY.sender.retries_for


@pytest.mark.parametrize("error", [AwsUnreachable("timed out"), None], ids=["no answer", "refused"])
def test_while_the_bus_does_not_take_it_the_sender_is_told_2xx_and_the_relay_publishes_it(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, error: Exception | None
) -> None:
    def troubled(*_: Any, **__: Any) -> dict[str, Any]:
        if error:
            raise error
        return {"FailedEntryCount": 1, "Entries": [{"ErrorCode": "ThrottlingException", "ErrorMessage": "slow down"}]}

    kind = "silent" if error else "refusing"
    ids = {f"evt_{kind}_{number}" for number in range(12)}
    with monkeypatch.context() as patch:
        patch.setattr(bench.receiver.events, "call", troubled)
        patch.setattr(bench.relay.events, "call", troubled)
        for each in ids:
            answer = bench.send(STRIPE, json.dumps({"id": each, "type": "a"}).encode())
            assert (answer["statusCode"], answer["headers"]["offload-outcome"]) == (202, "stored")
        patch.setattr(bench.relay, "_SETTLED", 0)
        bench.relay.handler({}, Context())
    assert bench.events() == []
    monkeypatch.setattr(bench.relay, "_SETTLED", 0)
    bench.relay.handler({}, Context())
    assert {event["data"]["delivery_id"] for event in bench.events(12)} == ids


def test_what_cannot_be_kept_is_to_be_sent_again(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    def troubled(*_: Any, **__: Any) -> dict[str, Any]:
        raise AwsRefused("dynamodb", "PutItem", 500, {})

    monkeypatch.setattr(bench.receiver.dynamodb, "call", troubled)
    answer = bench.send(GITHUB, b'{"lost": false}')
    assert problem(answer) == (503, "unavailable")
    assert answer["headers"]["retry-after"]
    monkeypatch.undo()
    assert bench.events() == []
    assert bench.send(GITHUB, b'{"lost": false}')["headers"]["offload-outcome"] == "accepted"


def test_a_write_whose_answer_was_lost_finds_itself(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    once = bench.receiver.dynamodb._once
    lost: list[str] = []

    def loses_the_answer(action: str, body: bytes, within: float) -> Any:
        answer = once(action, body, within)
        if action == "PutItem" and not lost:
            lost.append(action)
            raise AwsUnreachable("lost")
        return answer

    monkeypatch.setattr(bench.receiver.dynamodb, "_once", loses_the_answer)
    assert bench.send(STRIPE, b'{"id": "evt_lost", "type": "a"}')["headers"]["offload-outcome"] == "accepted"
    assert lost
    assert len(bench.events(1)) == 1


def test_a_handshake_is_answered_and_only_github_s_is_an_event(bench: Bench) -> None:
    challenge = b'{"type": "url_verification", "challenge": "abc"}'
    answer = bench.send(SLACK, challenge)
    assert (answer["statusCode"], answer["body"], answer["headers"]["offload-outcome"]) == (200, "abc", "handshake")
    assert bench.events() == []
    ping = bench.send(GITHUB, b'{"zen": "Design for failure."}', event_type="ping")
    assert (ping["statusCode"], ping["body"]) == (200, "")
    assert [event["type"] for event in bench.events(1)] == ["webhook.received.github.ping"]
    assert bench.send(SLACK, challenge, secret="another")["statusCode"] == 401


@pytest.mark.parametrize(
    ("body", "headers", "status", "slug"),
    [
        (b"", {}, 400, "empty-body"),
        (b'{"a": ', {}, 400, "malformed-body"),
        (b'{"a": NaN}', {}, 400, "malformed-body"),
        (b'{"a": "\xff"}', {}, 400, "malformed-body"),
        (b"[" * 50_000 + b"]" * 50_000, {}, 400, "malformed-body"),
        (b'{"a":' * 200 + b"1" + b"}" * 200, {}, 400, "malformed-body"),
        (b"<xml/>", {"content-type": "text/xml"}, 415, "unsupported-body"),
        (b'{"a": 1}', {"content-type": "multipart/form-data; boundary=x"}, 415, "unsupported-body"),
        (gzip.compress(b"0" * 10_000_000), {"content-encoding": "gzip"}, 415, "unsupported-body"),
        (gzip.compress(b"0" * 10_000_000), {}, 400, "malformed-body"),
        (b"a=%ff&" * 300, {"content-type": "application/x-www-form-urlencoded"}, 400, "malformed-body"),
        (b" " * (4 * 1024 * 1024) + b"1", {}, 413, "body-too-large"),
        (b"\xff" * (4 * 1024 * 1024 + 1), {}, 413, "body-too-large"),
    ],
)
def test_a_body_that_cannot_be_an_event_is_refused_clearly_and_the_function_lives(
    bench: Bench, body: bytes, headers: dict[str, str], status: int, slug: str
) -> None:
    assert problem(bench.send(GITHUB, body, headers=headers)) == (status, slug)
    # Who does not sign is told nothing of the body.
    unsigned = bench.request("github", body, {"X-Hub-Signature-256": "sha256=" + "0" * 64, **headers})
    assert problem(unsigned) in {(401, "bad-signature"), (413, "body-too-large"), (429, "too-often")}
    assert bench.events() == []
    assert bench.send(GITHUB, json.dumps({"after": str(time.time_ns())}).encode())["statusCode"] == 200


@pytest.mark.parametrize("size", [4 * 1024 * 1024 - 1, 4 * 1024 * 1024])
def test_a_body_up_to_the_limit_is_taken_and_a_large_one_leaves_its_data_in_the_bucket(bench: Bench, size: int) -> None:
    start = b'{"size": %d, "filler": "' % size
    body = start + b"x" * (size - len(start) - 2) + b'"}'
    answer = bench.send(GITHUB, body)
    assert answer["statusCode"] == 200
    [event] = bench.events(1)
    assert "data" not in event
    bucket, _, key = event["dataref"].removeprefix("s3://").partition("/")
    left = boto3.client("s3").get_object(Bucket=bucket, Key=key)["Body"].read()
    assert json.loads(left)["payload"]["size"] == size


def test_a_body_that_does_not_pack_leaves_its_data_in_the_bucket(bench: Bench) -> None:
    import random

    noise = random.Random(1).randbytes(400_000).hex()
    assert bench.send(GITHUB, json.dumps({"noise": noise}).encode())["statusCode"] == 200
    assert "dataref" in bench.events(1)[0]


def test_a_form_is_text_and_the_json_in_a_form_is_the_payload(bench: Bench) -> None:
    form = {"content-type": "application/x-www-form-urlencoded"}
    bench.send(SLACK, b"command=%2Fweather&text=94070&trigger_id=1.2", headers=form)
    [event] = bench.events(1)
    assert event["type"] == "webhook.received.slack.weather"
    assert (event["data"]["event_type"], event["data"]["text"]) == (
        "/weather",
        "command=%2Fweather&text=94070&trigger_id=1.2",
    )
    bench.send(GITHUB, b"payload=%7B%22action%22%3A%22opened%22%7D", headers=form, event_type="issues")
    [event] = bench.events(1)
    assert (event["type"], event["data"]["payload"]) == ("webhook.received.github.issues.opened", {"action": "opened"})


def test_half_a_surrogate_pair_is_no_reason_to_lose_an_event(bench: Bench) -> None:
    bench.send(GITHUB, b'{"title": "cut \\ud83d"}')
    [event] = bench.events(1)
    assert event["data"]["text"] == '{"title": "cut \\ud83d"}'


def test_half_a_surrogate_pair_beside_other_letters_is_no_reason_to_lose_an_event(bench: Bench) -> None:
    body = '{"title": "Caf\u00e9, cut \\ud83d"}'.encode()
    assert bench.send(GITHUB, body)["headers"]["offload-outcome"] == "accepted"
    [event] = bench.events(1)
    assert event["data"]["text"] == body.decode()


def test_a_field_s_name_that_is_not_utf_8_is_refused_and_nothing_is_raised(bench: Bench) -> None:
    body = b'{"id": "evt_1", "type": "a", "event": {"\xed\xa0\x80": 1}}'
    assert problem(bench.send(SLACK, body)) == (400, "malformed-body")


@pytest.mark.parametrize(
    "changed",
    [
        {"requestContext": None},
        {"requestContext": {"http": {"sourceIp": "x" * 3_000}}},
        {"requestContext": {"http": {"sourceIp": "fe80::1%\ud83d"}}},
        {"headers": None},
        {"body": 1},
        {"rawPath": None},
        {"isBase64Encoded": True, "body": "Q"},
    ],
)
def test_a_request_that_no_gateway_makes_is_refused_and_nothing_is_raised(
    bench: Bench, changed: dict[str, Any]
) -> None:
    event = {**gateway_event("github", b"{}", sign(GITHUB, b'{"other": 1}')), **changed}
    assert 400 <= bench.receiver.handler(event, Context())["statusCode"] < 500
    assert bench.events() == []


def test_a_body_that_is_not_in_base64_though_the_gateway_says_so_is_taken_as_it_is(bench: Bench) -> None:
    body = b'{"base64": false, "at": "%d"}' % time.time_ns()
    event = {**gateway_event("github", body, sign(GITHUB, body)), "isBase64Encoded": True}
    assert bench.receiver.handler(event, Context())["headers"]["offload-outcome"] == "accepted"
    assert bench.events(1)[0]["data"]["payload"]["base64"] is False


def test_a_content_type_with_half_a_surrogate_pair_is_kept_as_its_escape(bench: Bench) -> None:
    body = b'{"kind": "odd", "at": "%d"}' % time.time_ns()
    bench.send(GITHUB, body, headers={"content-type": "application/json; a=\ud83d"})
    assert bench.events(1)[0]["data"]["content_type"] == "application/json; a=\\ud83d"


def test_a_type_that_the_bus_cannot_carry_is_unknown_and_stays_in_the_data(bench: Bench) -> None:
    bench.send(STRIPE, json.dumps({"id": "evt_long", "type": "x" * 200}).encode())
    [event] = bench.events(1)
    assert (event["type"], event["data"]["event_type"]) == ("webhook.received.stripe.unknown", "x" * 200)
    assert received_type("shopify", "orders/create") == "webhook.received.shopify.orders.create"
    assert received_type("shopify", None) == received_type("shopify", "///") == "webhook.received.shopify.unknown"
    assert len(received_type("x" * 40, "y" * 300)) <= LONGEST_TYPE


def test_a_new_secret_counts_at_once_and_the_old_one_until_its_time(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert bench.send(GITHUB, b'{"rotated": 0}')["statusCode"] == 200
    until = datetime.now(UTC) + timedelta(hours=1)
    old = StoredSecret(key_id="first", value=SECRETS["github"], until=until)
    bench.set_secrets("github", StoredSecret(key_id="second", value="new one", since=datetime.now(UTC)), old)
    try:
        assert bench.send(GITHUB, b'{"rotated": 1}', secret="new one")["statusCode"] == 200
        assert bench.send(GITHUB, b'{"rotated": 2}')["statusCode"] == 200
        assert [event["data"]["key_id"] for event in bench.events(3)] == ["first", "second", "first"]
        monkeypatch.setattr(bench.receiver.receiver._secrets, "_clock", lambda: until.timestamp() + 1)
        assert problem(bench.send(GITHUB, b'{"rotated": 3}')) == (401, "bad-signature")
        refused = recent(bench, "github")[0]
        assert (refused["reason"]["S"], refused["after_rotation"]["BOOL"]) == ("bad-signature", True)
    finally:
        bench.set_secrets("github", StoredSecret(key_id="first", value=SECRETS["github"]))


def test_a_bad_secret_does_not_take_the_others_with_it(bench: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    good = StoredSecret(key_id="first", value=SECRETS["standard-webhooks"])
    bench.set_secrets("standard-webhooks", StoredSecret(key_id="slip", value="whsec_ not base64"), good)
    try:
        assert bench.send(STANDARD_WEBHOOKS, b'{"type": "a"}')["statusCode"] == 200
        said = capsys.readouterr().out
        assert "secret 'slip' of Standard Webhooks" in said
        assert "not base64" not in said.replace("is not base64", "")
    finally:
        bench.set_secrets("standard-webhooks", good)


def test_without_an_active_secret_the_sender_is_asked_to_come_again(bench: Bench) -> None:
    bench.set_secrets("shopify")
    try:
        assert problem(bench.send(SHOPIFY, b'{"none": 1}')) == (503, "no-active-secret")
    finally:
        bench.set_secrets("shopify", StoredSecret(key_id="first", value=SECRETS["shopify"]))
    assert bench.send(SHOPIFY, b'{"none": 1}')["statusCode"] == 200


def test_one_read_of_the_secrets_serves_every_provider(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    manager, reads = bench.receiver.secrets_manager, list[str]()
    call = manager.call

    def counted(action: str, *arguments: Any, **settings: Any) -> dict[str, Any]:
        reads.append(action)
        answer: dict[str, Any] = call(action, *arguments, **settings)
        return answer

    monkeypatch.setattr(manager, "call", counted)
    assert bench.send(GITHUB, b'{"shared": 1}')["statusCode"] == 200
    assert bench.send(SHOPIFY, b'{"shared": 1}')["statusCode"] == 200
    assert reads == ["GetSecretValue"]


def test_an_entry_that_is_none_is_one_provider_s_trouble(bench: Bench) -> None:
    whole = bench.document()
    bench.put_secrets(json.dumps({"providers": {"github": {"secrets": "torn"}, "shopify": SECRETS["shopify"]}}))
    try:
        assert problem(bench.send(GITHUB, b'{"torn": 1}')) == (503, "unavailable")
        assert bench.send(SHOPIFY, b'{"torn": 1}')["statusCode"] == 200
    finally:
        bench.put_secrets(whole.to_json())


def test_while_secrets_manager_does_not_answer_the_known_secrets_serve(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert bench.send(GITHUB, b'{"known": 1}')["statusCode"] == 200

    def troubled(*_: Any, **__: Any) -> dict[str, Any]:
        raise AwsUnreachable("no answer")

    monkeypatch.setattr(bench.receiver.secrets_manager, "call", troubled)
    now = time.time()
    monkeypatch.setattr(bench.receiver.receiver._secrets, "_clock", lambda: now + 60)
    assert bench.send(GITHUB, b'{"known": 2}')["statusCode"] == 200
    monkeypatch.setattr(bench.receiver.receiver._secrets, "_clock", lambda: now + 3600)
    assert problem(bench.send(GITHUB, b'{"known": 3}')) == (503, "unavailable")


@pytest.mark.parametrize(
    "path", ["/webhooks/unknown", "/webhooks/GITHUB", "/webhooks/github/a/b", "/webhooks/github/%2e", "/", "/webhooks/"]
)
def test_a_path_without_a_receiver_is_not_found(bench: Bench, path: str) -> None:
    event = gateway_event("github", b"{}", {})
    assert problem(bench.receiver.handler({**event, "rawPath": path}, Context())) == (404, "no-such-provider")


def test_a_source_that_has_a_network_of_addresses_is_counted_as_one() -> None:
    with pytest.MonkeyPatch.context() as patch, a_receiver(patch, refused_per_minute=5) as bench:
        now = time.time() // 60 * 60 + 1
        patch.setattr(bench.receiver.receiver, "_clock", lambda: now)
        statuses = [
            bench.request("github", b"{}", {}, source=f"2001:db8:1:2:{each}::{each}")["statusCode"] for each in range(8)
        ]
        assert statuses == [401] * 5 + [429] * 3
        assert bench.request("github", b"{}", {}, source="2001:db8:1:3::1")["statusCode"] == 401
        statuses = [
            bench.request("github", b"{}", {}, source=source)["statusCode"]
            for source in ["198.51.100.7", "::ffff:198.51.100.7"] * 4
        ]
        assert statuses == [401] * 5 + [429] * 3


def test_a_source_that_is_refused_too_often_gets_429_and_what_is_rightly_signed_passes() -> None:
    with pytest.MonkeyPatch.context() as patch, a_receiver(patch, refused_per_minute=5) as bench:
        # The window is a minute of the clock: this test must not lie across two.
        now = time.time() // 60 * 60 + 1
        patch.setattr(bench.receiver.receiver, "_clock", lambda: now)
        statuses = [bench.request("github", b"{}", {}, source="198.51.100.9")["statusCode"] for _ in range(8)]
        assert statuses == [401] * 5 + [429] * 3
        answer = bench.request("github", b"{}", {}, source="198.51.100.9")
        assert int(answer["headers"]["retry-after"]) > 0
        assert len(recent(bench, "github")) == 5
        assert bench.request("github", b"{}", {}, source="198.51.100.10")["statusCode"] == 401
        body = b'{"id": "evt_neighbour", "type": "a"}'
        assert bench.send(STRIPE, body, source="198.51.100.9")["statusCode"] == 200
        # Who signs is told what is wrong, and what is too large is so whoever sends it.
        assert problem(bench.send(STRIPE, b"{", source="198.51.100.9")) == (400, "malformed-body")
        large = b" " * (4 * 1024 * 1024 + 1)
        assert problem(bench.request("github", large, {}, source="198.51.100.9")) == (413, "body-too-large")


def test_neither_secret_nor_signature_nor_payload_is_logged(bench: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    body = b'{"id": "evt_log", "type": "a", "patient": "Ann Example"}'
    headers = sign(STRIPE, body)
    bench.request("stripe", body, headers)
    bench.request("stripe", body + b" ", headers)
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["outcome"] for line in lines] == ["accepted", "refused"]
    for word in (SECRETS["stripe"], headers["Stripe-Signature"].partition("v1=")[2], "Ann Example"):
        assert word not in json.dumps(lines)


def test_a_document_of_secrets_never_shows_a_value() -> None:
    stored = SecretDocument.read(
        '{"providers": {"a": {"secrets": [{"key_id": "a", "value": "hidden"}]}, "b": "hidden", '
        '"c": {"secrets": [{"key_id": "a", "value": 1, "x": "hidden"}]}}, "unused": "x"}'
    )
    assert "hidden" not in repr(stored)
    assert "hidden" not in repr(stored.of("a"))
    assert stored.of("b").secrets[0].value == "hidden"
    assert stored.of("d").secrets == ()
    with pytest.raises(ValueError, match="rotate c") as refused:
        stored.of("c")
    assert "hidden" not in str(refused.value)
    with pytest.raises(ValueError, match="not a document") as torn:
        SecretDocument.read('{"providers": ["hidden"]}')
    assert "hidden" not in str(torn.value)


def recent(bench: Bench, provider: str) -> list[dict[str, Any]]:
    """The newest items of a provider."""
    client, items = boto3.client("dynamodb"), list[dict[str, Any]]()
    for shard in range(SHARDS):
        found = client.query(
            TableName=bench.table,
            IndexName="recent",
            KeyConditionExpression="shown = :partition",
            ExpressionAttributeValues={":partition": {"S": listed_in(provider, shard)}},
        )
        items += [dict(item) for item in found["Items"]]
    return sorted(items, key=lambda item: str(item["listed"]["S"]), reverse=True)
