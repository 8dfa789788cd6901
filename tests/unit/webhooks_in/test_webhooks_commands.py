"""What `offload webhooks` and its part of `offload audit` say and do, on a real receiver, table and secrets."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from clinic.contracts.laboratory import LABORATORY
from clinic.providers import PROVIDERS
from offload.cli.audit import events as audit
from offload.cli.audit.events import Account, owed_webhooks
from offload.cli.deployment import resources
from offload.cli.deployment.aws import Aws
from offload.cli.deployment.failure import Failure
from offload.cli.deployment.resources import Deployment, WebhookEntry
from offload.cli.local.process import Instance
from offload.cli.main import app
from offload.cli.webhooks_in import received as webhooks
from offload.cli.webhooks_in import secrets as webhook_secrets
from offload.cli.webhooks_in.received import Owed
from offload.contracts.webhooks_in.providers import GITHUB, SHOPIFY, STANDARD_WEBHOOKS, STRIPE
from offload.contracts.webhooks_in.scheme import Provider
from offload.contracts.webhooks_in.stored_secret import LONGEST_DOCUMENT, MOST_SECRETS, StoredSecret, StoredSecrets
from offload.runtime.webhooks_in.secrets import Secret, keyring
from tests.odd_server import Behaviour, Received, answer, by_request, odd_server
from tests.unit.webhooks_in.webhook_bench import SECRETS, Bench, Context, a_receiver, client, gateway_event

pytestmark = pytest.mark.usefixtures("aws_of_module")

RUNNER = CliRunner()
PUBLIC_KEY = "whpk_ZlN4eg7dSSqi0moX9hQUk3orrOouK3QVQSlJa248c/g="
OUTSIDER = "203.0.113.66"
CLINIC = "offload-local-clinic"


@pytest.fixture
def bench(aws_of_module: None) -> Iterator[Bench]:
    """A receiver with an empty table, whose bus takes everything."""
    with pytest.MonkeyPatch.context() as patch, a_receiver(patch) as bench:
        yield bench


@pytest.fixture
def deployment(bench: Bench, emulator: Instance, monkeypatch: pytest.MonkeyPatch) -> Iterator[Deployment]:
    """The commands pointed at the receiver, which is behind HTTP; only the look-up is not real."""
    # In its own process it has its own stdout.
    silent = SimpleNamespace(info=lambda *_, **__: None, warning=lambda *_, **__: None)
    monkeypatch.setattr(bench.receiver, "log", silent)
    with door(bench) as url:

        class Found(Deployment):
            webhook_entries = (WebhookEntry(url, bench.table, bench.secret, tuple(sorted(PROVIDERS)), CLINIC),)

        found = Found(Aws("local", emulator))
        monkeypatch.setattr(resources.Deployment, "of", lambda environment: found)
        yield found


@contextmanager
def door(bench: Bench) -> Iterator[str]:
    """The receiver behind HTTP, as an API of API Gateway has it."""

    def behaviour(request: Received) -> Behaviour:
        _, _, provider, *endpoint = request.path.split("/")
        event = gateway_event(provider, request.body, request.headers, endpoint="/".join(endpoint))
        given = bench.receiver.handler(event, Context())
        return answer(given["statusCode"], given["body"].encode(), given["headers"])

    with odd_server(by_request(behaviour)) as server:
        yield server.url("")


def call(*arguments: str, stdin: str | None = None) -> Result:
    """Runs a command; a Failure is the result's exception."""
    return RUNNER.invoke(app, ["webhooks", *arguments], input=stdin)


def document(*arguments: str, stdin: str | None = None, code: int = 0) -> Any:
    result = call(*arguments, "--json", stdin=stdin)
    assert result.exit_code == code, (result.stdout, result.stderr, result.exception)
    return json.loads(result.stdout)


def failure(*arguments: str, stdin: str | None = None) -> str:
    result = call(*arguments, stdin=stdin)
    assert isinstance(result.exception, Failure), (result.stdout, result.exception)
    assert "\n" not in str(result.exception)
    return str(result.exception)


def stored(bench: Bench, provider: str) -> tuple[StoredSecret, ...]:
    return bench.document().of(provider).secrets


def refuse_the_bus(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench.receiver.receiver._bus, "put", lambda *_, **__: ["Throttled: later"])


# -- what came


@pytest.mark.usefixtures("deployment")
def test_providers_are_shown_with_url_secrets_and_their_last_day(
    bench: Bench, deployment: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.send(STRIPE, b'{"id": "evt_1", "type": "charge.settled"}')
    bench.send(STRIPE, b'{"id": "evt_1", "type": "charge.settled"}')
    bench.send(STRIPE, b'{"id": "evt_2", "type": "charge.settled"}', secret="a forger's")
    bench.send(STRIPE, b'{"id": "evt_3", "type": "charge.settled"}', headers={"Stripe-Signature": "t=1"})
    refuse_the_bus(bench, monkeypatch)
    bench.send(STRIPE, b'{"id": "evt_4", "type": "charge.settled"}')
    bench.set_secrets("slack")
    found = {each["name"]: each for each in document("providers")["providers"]}
    assert set(found) == set(PROVIDERS)
    assert found["stripe"] == {
        "name": "stripe",
        "stack": CLINIC,
        "title": "Stripe",
        "url": f"{deployment.webhook_entry.endpoint}/webhooks/stripe",
        "schemes": ["stripe"],
        "secrets": [{"key_id": "first", "since": None, "until": None}],
        "troubles": [],
        "last_24h": {
            "accepted": 2,
            "duplicates": 1,
            "refused": {"bad-signature": 1, "no-signature": 1},
            "complete": True,
        },
        "owed": 1,
    }
    text = call("providers").stdout
    assert f"POST {deployment.webhook_entry.endpoint}/webhooks/stripe\n  secret first\n" in text
    assert "  24 h: 2 accepted, 1 duplicates, 2 refused (1 bad-signature, 1 no-signature); 1 owed to the bus\n" in text
    assert "Slack (slack)" in text
    assert "no active secret: offload webhooks rotate slack" in text
    assert not any(value in text for value in SECRETS.values())


@pytest.mark.usefixtures("deployment")
def test_a_secret_that_can_verify_nothing_is_told_and_not_shown(bench: Bench) -> None:
    bench.set_secrets("svix", StoredSecret(key_id="typed", value="whsec_typed-by-hand"))
    (svix,) = [each for each in document("providers")["providers"] if each["name"] == "svix"]
    assert "secret 'typed' of Svix: is not base64 after 'whsec_'" in svix["troubles"][0]
    bench.put_secrets(json.dumps({"providers": {"svix": {"secrets": "torn"}, "github": "typed by hand"}}))
    found = {each["name"]: each for each in document("providers")["providers"]}
    assert (found["svix"]["secrets"], "is not one of webhook secrets" in found["svix"]["troubles"][0]) == ([], True)
    assert ([each["key_id"] for each in found["github"]["secrets"]], found["github"]["troubles"]) == (["secret"], [])
    bench.put_secrets("{torn")
    assert all("is not a document" in each["troubles"][0] for each in document("providers")["providers"])
    assert "typed-by-hand" not in call("providers").stdout


@pytest.mark.usefixtures("deployment")
def test_what_came_is_listed_newest_first_over_all_providers(bench: Bench) -> None:
    bench.send(GITHUB, b'{"action": "published"}', delivery_id="g-1", event_type="release", endpoint="eyes")
    bench.send(STRIPE, b'{"id": "evt_1", "type": "charge.settled"}')
    bench.send(SHOPIFY, b'{"id": 7}', delivery_id="s-1", secret="a forger's", source=OUTSIDER)
    found = document("recent")["webhooks"]
    assert [(each["provider"], each["outcome"], each["event_type"]) for each in found] == [
        ("shopify", "refused", ""),
        ("stripe", "accepted", "charge.settled"),
        ("github", "accepted", "release.published"),
    ]
    assert (found[0]["reason"], found[0]["status"], found[0]["source"]) == ("bad-signature", 401, OUTSIDER)
    assert found[1]["event_id"] == "webhook.received:stripe:evt_1"
    assert (found[2]["delivery_id"], found[2]["endpoint"], found[2]["key_id"]) == ("g-1", "eyes", "first")
    lines = call("recent").stdout.splitlines()
    assert lines[0].split("  ")[0] == "at (UTC)"
    assert lines[1].split()[2:] == ["shopify", "bad-signature", found[0]["id"], OUTSIDER]
    assert "github/eyes" in lines[3]


@pytest.mark.usefixtures("deployment")
def test_what_came_is_found_by_provider_outcome_and_reason(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(3):
        bench.send(STRIPE, b'{"id": "evt_%d", "type": "a"}' % number)
    bench.send(STRIPE, b'{"id": "evt_1", "type": "a"}')
    bench.send(STRIPE, b"{}", secret="a forger's")
    bench.send(GITHUB, b"[torn", event_type="release")
    refuse_the_bus(bench, monkeypatch)
    bench.send(LABORATORY, b'{"type": "sample.tested"}')

    def ids(*options: str) -> list[str]:
        return [
            each["event_id"].rpartition(":")[2] or each["reason"] for each in document("recent", *options)["webhooks"]
        ]

    assert ids("--provider", "stripe", "--outcome", "accepted") == ["evt_2", "evt_1", "evt_0"]
    assert ids("--provider", "stripe", "--limit", "2") == ["bad-signature", "evt_2"]
    assert ids("--outcome", "refused") == ["malformed-body", "bad-signature"]
    assert ids("--outcome", "malformed-body") == ["malformed-body"]
    assert ids("--outcome", "duplicate") == ["evt_1"]
    assert [each["provider"] for each in document("recent", "--outcome", "owed")["webhooks"]] == ["laboratory"]
    assert ids("--outcome", "stale") == []
    assert "--since looks further back" in call("recent", "--outcome", "stale").stdout
    assert "has no webhook provider 'git': github, laboratory, shopify" in failure("recent", "--provider", "git")
    assert "is none of accepted, refused, duplicate, owed, nor a reason: " in failure("recent", "--outcome", "lost")


@pytest.mark.usefixtures("deployment")
def test_a_list_of_many_is_read_page_by_page(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(webhooks, "_PAGE", 2)
    for number in range(7):
        bench.send((STRIPE, LABORATORY)[number % 2], b'{"id": "evt_%d", "type": "n%d"}' % (number, number))
    types = [each["event_type"] for each in document("recent")["webhooks"]]
    assert types == [f"n{number}" for number in reversed(range(7))]


@pytest.mark.usefixtures("deployment")
def test_one_is_shown_by_delivery_id_event_id_or_key_and_without_signature_or_secret(bench: Bench) -> None:
    bench.send(GITHUB, b'{"action": "published"}', delivery_id="g-1", event_type="release")
    whole = document("show", "g-1")
    assert (whole["provider"], whole["delivery_id"], whole["scheme"], whole["bytes"]) == ("github", "g-1", "github", 23)
    assert (whole["type"], whole["owed"]) == ("webhook.received.github.release.published", False)
    assert whole["published_at"] >= whole["received_at"]
    assert document("show", whole["event_id"]) == whole
    assert document("show", whole["id"]) == whole
    text = call("show", "g-1").stdout
    assert "event_type      release.published\n" in text
    assert not {"receipt", "entry", "pk", "listed"} & set(whole)
    assert SECRETS["github"] not in text


@pytest.mark.usefixtures("deployment")
def test_a_refusal_is_shown_by_its_id_with_what_was_wrong(bench: Bench) -> None:
    bench.send(STRIPE, b"{}", secret="a forger's")
    (refused,) = document("recent")["webhooks"]
    whole = document("show", refused["id"])
    assert (whole["outcome"], whole["reason"], whole["status"]) == ("refused", "bad-signature", 401)
    assert whole["detail"] == "none of 1 active secrets makes the signature in Stripe-Signature"
    assert whole["expires"] > whole["received_at"]


@pytest.mark.usefixtures("deployment")
def test_of_what_the_bus_has_not_got_the_event_is_shown(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    refuse_the_bus(bench, monkeypatch)
    bench.send(STRIPE, b'{"id": "evt_1", "type": "a", "n": 5}')
    whole = document("show", "evt_1")
    assert whole["owed"] is True
    assert whole["event"]["data"]["payload"]["n"] == 5
    assert '"n": 5' in call("show", "evt_1").stdout


@pytest.mark.usefixtures("deployment")
def test_an_id_that_nothing_has_is_said_with_what_to_type(bench: Bench) -> None:
    assert "knows no webhook 'g-2': type the sender's delivery id, an event id" in failure("show", "g-2")
    for body in (b'{"a": 1}', b'{"a": 2}'):
        bench.send(GITHUB, body, delivery_id="twice", event_type="push")
    assert "'twice' is the id of 2 webhooks: type the event id of one, webhook.received:github:" in failure(
        "show", "twice"
    )


# -- secrets


@pytest.mark.usefixtures("deployment")
@pytest.mark.parametrize("provider", ["github", "standard-webhooks", "svix", "laboratory"])
def test_a_new_secret_has_the_form_that_the_provider_s_settings_take(bench: Bench, provider: str) -> None:
    bench.set_secrets(provider)
    made = document("rotate", provider)
    [key] = keyring(PROVIDERS[provider], [Secret("made", made["secret"])])
    assert len(key.content) >= 32
    assert [each.value for each in stored(bench, provider)] == [made["secret"]]
    assert made["secret"].startswith("whsec_") is (provider in {"standard-webhooks", "svix"})
    assert document("test", provider)["key_id"] == made["key_id"]


@pytest.mark.usefixtures("deployment")
def test_the_old_secret_counts_for_the_overlap_and_then_is_gone(bench: Bench) -> None:
    before = datetime.now(UTC)
    first = document("rotate", "github", "--overlap", "2h")
    new, old = stored(bench, "github")
    assert (new.key_id, new.until) == (first["key_id"], None)
    assert (old.key_id, old.value) == ("first", SECRETS["github"])
    assert old.until is not None
    assert timedelta(hours=2, seconds=-1) <= old.until - before < timedelta(hours=2, seconds=20)
    assert first["old"] == [{"key_id": "first", "until": f"{old.until:%Y-%m-%dT%H:%M:%SZ}"}]
    for secret in (first["secret"], SECRETS["github"]):
        body = json.dumps({"signed by": secret}).encode()
        assert bench.send(GITHUB, body, secret=secret, event_type="push")["statusCode"] == 200
    document("rotate", "github", "--overlap", "30d")
    assert stored(bench, "github")[2].until == old.until, "a longer overlap gives an old secret no longer life"
    bench.set_secrets(
        "github",
        StoredSecret(key_id="gone", value="a", until=before - timedelta(minutes=1)),
        *stored(bench, "github")[:1],
    )
    document("rotate", "github")
    assert "gone" not in {each.key_id for each in stored(bench, "github")}


@pytest.mark.usefixtures("deployment")
def test_a_new_secret_is_printed_once_and_one_that_was_given_never(bench: Bench) -> None:
    text = call("rotate", "laboratory").stdout
    (new, old) = stored(bench, "laboratory")
    assert text.splitlines() == [
        f"laboratory: {new.key_id} is the newest secret, from now on",
        f"laboratory: first counts until {old.until:%Y-%m-%dT%H:%M:%SZ}",
        "Put this into the sender's settings; it is not shown again:",
        new.value,
    ]
    given = call("rotate", "stripe", "--secret-file", "-", stdin="whsec_from_stripe\n")
    assert stored(bench, "stripe")[0].value == "whsec_from_stripe"
    assert "whsec_from_stripe" not in given.stdout
    assert "whsec_from_stripe" not in repr(stored(bench, "stripe"))


@pytest.mark.usefixtures("deployment")
def test_a_public_key_is_taken_where_the_scheme_has_one(bench: Bench, tmp_path: Path) -> None:
    file = tmp_path / "key"
    file.write_text(PUBLIC_KEY)
    assert "secret" not in document("rotate", "standard-webhooks", "--secret-file", str(file))
    assert [each.value for each in stored(bench, "standard-webhooks")] == [PUBLIC_KEY, SECRETS["standard-webhooks"]]
    assert document("test", "standard-webhooks")["key_id"] == "first"
    bench.set_secrets("standard-webhooks", stored(bench, "standard-webhooks")[0])
    assert "has a public key only" in failure("test", "standard-webhooks")


@pytest.mark.usefixtures("deployment")
def test_a_leaked_secret_is_retired_at_once(bench: Bench) -> None:
    assert document("rotate", "github", "--revoke")["revoked"] is True
    assert len(stored(bench, "github")) == 1
    assert bench.send(GITHUB, b'{"leaked": 1}', event_type="push")["statusCode"] == 401
    assert (
        "is retired: warm functions forget it within 30 s"
        in call("rotate", "github", "--revoke", "--overlap", "0").stdout
    )
    bench.put_secrets('{"providers": {"github": {"secrets": "torn"}, "stripe": {"secrets": []}, "unknown": 7}}')
    assert "is no entry of webhook secrets" in failure("rotate", "github")
    assert document("rotate", "github", "--revoke")["old"] == []
    assert {name: bytes(entry) for name, entry in bench.document().providers.items() if name != "github"} == {
        "stripe": b'{"secrets": []}',
        "unknown": b"7",
    }


@pytest.mark.usefixtures("deployment")
def test_a_document_that_is_none_is_not_replaced_as_the_secrets_of_all_providers_would_be_lost(bench: Bench) -> None:
    bench.put_secrets("{torn")
    assert "labelled AWSPREVIOUS" in failure("rotate", "github", "--revoke")
    assert client("secretsmanager").get_secret_value(SecretId=bench.secret)["SecretString"] == "{torn"


@pytest.mark.usefixtures("deployment")
def test_secrets_that_secrets_manager_would_not_take_are_refused_before_they_are_stored(bench: Bench) -> None:
    filling = StoredSecret(key_id="long", value="x" * LONGEST_DOCUMENT)
    full = bench.document().with_secrets("unknown", StoredSecrets((filling,))).to_json()
    room = LONGEST_DOCUMENT - (len(full) - LONGEST_DOCUMENT)
    filled = StoredSecret(key_id="long", value="x" * room)
    bench.put_secrets(bench.document().with_secrets("unknown", StoredSecrets((filled,))).to_json())
    assert "and Secrets Manager takes 65,536" in failure("rotate", "github")
    assert [each.key_id for each in stored(bench, "github")] == ["first"]


@pytest.mark.usefixtures("deployment")
@pytest.mark.parametrize(
    ("arguments", "stdin", "told"),
    [
        (("github", "--overlap", "30s"), None, "--overlap: at least 1m, since warm functions read secrets every 30 s"),
        (("github", "--overlap", "0"), None, "--revoke retires a leaked secret at once"),
        (("github", "--overlap", "31d"), None, "--overlap: at most 30d"),
        (("github", "--overlap", "1h", "--revoke"), None, "give one of the two"),
        (("github", "--overlap", "soon"), None, "'soon' is no duration"),
        (("gitlab",), None, "has no webhook provider 'gitlab': github, laboratory, shopify"),
        (("stripe",), None, "Stripe makes its secrets itself; give it by --secret-file FILE, or - for stdin."),
        (("slack",), None, "Basic Information, App Credentials: Signing Secret"),
        (("shopify",), None, "the app's client secret in the Dev Dashboard"),
        (("svix", "--secret-file", "-"), "whsec_c2hvcnQ=\n", "is 5 bytes, and has to be 24 to 75: copy it whole"),
        (("svix", "--secret-file", "-"), "from elsewhere", "has to begin with 'whsec_' or 'whpk_'"),
        (("github", "--secret-file", "-"), "x\n", "is 1 bytes, which can be guessed: have at least 16"),
        (("laboratory", "--secret-file", "-"), "fifteen-bytes-a\n", "is 15 bytes, which can be guessed"),
        (("github", "--secret-file", "-"), "\n", "is empty: copy it from the sender's settings"),
        (("github", "--secret-file", "nowhere"), None, "--secret-file: nowhere: No such file or directory"),
        (("stripe", "--secret-file", "-"), SECRETS["stripe"], "is the secret of Stripe already, as 'first'"),
    ],
)
def test_what_is_wrong_with_a_rotation_is_said_and_nothing_is_stored(
    bench: Bench, arguments: tuple[str, ...], stdin: str | None, told: str
) -> None:
    assert told in failure("rotate", *arguments, stdin=stdin)
    for provider in PROVIDERS:
        assert [each.key_id for each in stored(bench, provider)] == ["first"]


@pytest.mark.usefixtures("deployment")
def test_there_are_never_more_secrets_than_a_request_is_tried_with(bench: Bench) -> None:
    for _ in range(MOST_SECRETS - 1):
        document("rotate", "github")
    assert len(stored(bench, "github")) == MOST_SECRETS
    assert "has 5 active secrets, and 5 is the most: rotate again after 20" in failure("rotate", "github")
    document("rotate", "github", "--revoke")
    assert len(stored(bench, "github")) == 1


def test_rotations_at_the_same_moment_lose_no_secret(bench: Bench, deployment: Deployment) -> None:
    count = MOST_SECRETS - 1
    together = threading.Barrier(count)

    def rotated(_: int) -> str | None:
        together.wait()
        return webhook_secrets.rotate(deployment, "github", overlap=timedelta(hours=1)).made

    with ThreadPoolExecutor(count) as threads:
        made = set(threads.map(rotated, range(count)))
    assert {each.value for each in stored(bench, "github")} == {*made, SECRETS["github"]}
    assert [each.until is None for each in stored(bench, "github")] == [True, False, False, False, False]


def test_rotations_of_two_providers_at_the_same_moment_lose_neither(bench: Bench, deployment: Deployment) -> None:
    names = ("github", "laboratory", "svix", "standard-webhooks")
    together = threading.Barrier(len(names))

    def rotated(name: str) -> str | None:
        together.wait()
        return webhook_secrets.rotate(deployment, name, overlap=timedelta(hours=1)).made

    with ThreadPoolExecutor(len(names)) as threads:
        made = dict(zip(names, threads.map(rotated, names), strict=True))
    for name in names:
        assert [each.value for each in stored(bench, name)] == [made[name], SECRETS[name]], name


def test_a_rotation_that_another_overtakes_is_done_again_on_what_is_there_then(
    bench: Bench, deployment: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    manager, others = deployment.aws.secrets_manager, list[Any]()
    put = manager.put_secret_value

    def overtaken(**settings: Any) -> Any:
        answer = put(**settings)
        if not others:
            others.append(StoredSecret(key_id="of another", value="another's"))
            bench.set_secrets("github", *others, *stored(bench, "github"))
        return answer

    monkeypatch.setattr(manager, "put_secret_value", overtaken)
    done = webhook_secrets.rotate(deployment, "github", overlap=timedelta(hours=1))
    assert [each.key_id for each in stored(bench, "github")] == [done.key_id, "of another", "first"]
    assert [key_id for key_id, _ in done.old] == ["of another", "first"]


# -- a test


@pytest.mark.usefixtures("deployment")
@pytest.mark.parametrize("provider", PROVIDERS.values(), ids=PROVIDERS)
def test_a_test_is_signed_as_the_provider_does_and_is_another_event_each_time(bench: Bench, provider: Provider) -> None:
    first = document("test", provider.name, "--event", "sample.tested")
    assert (first["status"], first["outcome"], first["key_id"]) == (200, "accepted", "first")
    again = document("test", provider.name, "--event", "sample.tested")
    assert (again["outcome"], again["event_id"] == first["event_id"]) == ("accepted", False)
    came = {event["id"]: event for event in bench.events(2)}
    assert came[first["event_id"]]["type"] == f"webhook.received.{provider.name}.sample.tested"
    assert came[first["event_id"]]["data"]["delivery_id"] == first["delivery_id"]


@pytest.mark.usefixtures("deployment")
def test_a_test_says_what_was_answered(bench: Bench, deployment: Deployment) -> None:
    lines = call("test", "github", "--event", "release.published", "--endpoint", "eyes").stdout.splitlines()
    assert lines[0].startswith("200 accepted in ")
    assert lines[0].endswith(f" bytes to {deployment.webhook_entry.endpoint}/webhooks/github/eyes, signed with first")
    assert lines[1].startswith("event webhook.received:github:sha256-")
    [event] = bench.events(1)
    assert (event["data"]["endpoint"], event["data"]["payload"]["action"]) == ("eyes", "published")
    assert document("test", "stripe")["event_type"] == "test"


@pytest.mark.usefixtures("deployment")
def test_a_test_that_is_refused_says_why_and_ends_with_1(bench: Bench, tmp_path: Path) -> None:
    file = tmp_path / "payload.json"
    file.write_text("[torn")
    result = call("test", "github", "--event", "push", "--payload", str(file))
    assert result.exit_code == 1
    lines = result.stdout.splitlines()
    assert lines[0].startswith("400 refused in ")
    assert lines[1].startswith("malformed-body: the body is not JSON")
    told = document("test", "github", "--event", "push", "--payload", str(file), code=1)
    assert (told["status"], told["reason"], told["event_id"]) == (400, "malformed-body", "")


@pytest.mark.usefixtures("deployment")
def test_a_payload_is_sent_as_it_stands_with_the_sender_s_headers(bench: Bench, tmp_path: Path) -> None:
    file = tmp_path / "release.json"
    file.write_text('{"action":  "published", "release": {"name": "1.0 \u00e9"}}', encoding="utf-8")
    for event in ("release", "release.published"):
        told = document("test", "github", "--event", event, "--payload", str(file))
        assert told["status"] == 200
    [event_] = bench.events(1)
    assert event_["type"] == "webhook.received.github.release.published"
    assert told["outcome"] == "duplicate", "the same body is the same event"
    assert "says 'published' at `action`" in failure(
        "test", "github", "--event", "release.deleted", "--payload", str(file)
    )
    assert "names the event in the header X-GitHub-Event: give --event" in failure(
        "test", "github", "--payload", str(file)
    )
    stripe = tmp_path / "stripe.json"
    stripe.write_text('{"id": "evt_77", "type": "charge.settled"}')
    told = document("test", "stripe", "--payload", str(stripe))
    assert (told["event_id"], told["delivery_id"]) == ("webhook.received:stripe:evt_77", "evt_77")


@pytest.mark.usefixtures("deployment")
def test_a_test_with_nothing_to_sign_with_or_nobody_there_is_a_failure(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.set_secrets("github")
    assert failure("test", "github") == "GitHub has no active secret: `offload webhooks rotate github`"
    bench.set_secrets("svix", StoredSecret(key_id="typed", value="whsec_typed"))
    assert "secret 'typed' of Svix: is not base64" in failure("test", "svix")
    nowhere = WebhookEntry("http://127.0.0.1:1", bench.table, bench.secret, tuple(PROVIDERS), CLINIC)
    monkeypatch.setattr(type(resources.Deployment.of("local")), "webhook_entries", (nowhere,))
    assert "http://127.0.0.1:1/webhooks/stripe does not answer" in failure("test", "stripe")


# -- what never came


def listed(guid: str, number: int, **more: Any) -> dict[str, Any]:
    """A delivery as GitHub's API lists it."""
    at = datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
    return {
        "id": number, "guid": guid, "delivered_at": at, "redelivery": False, "duration": 0.4, "status": "OK",
        "status_code": 200, "event": "release", "action": "published", **more,
    }  # fmt: skip


@pytest.fixture
def lacking(bench: Bench, deployment: Deployment, tmp_path: Path) -> Path:
    """A list of five deliveries by GitHub, one of which never came, and one with the body of another."""
    for number in (1, 2):
        bench.send(GITHUB, b'{"n": %d}' % number, delivery_id=f"g-{number}", event_type="release")
    bench.send(GITHUB, b'{"n": 2}', delivery_id="g-2-again", event_type="release")
    deliveries = [
        listed("g-1", 11),
        listed("g-2", 12),
        listed("g-2-again", 13),
        listed("g-3", 14, status="Invalid HTTP Response: 503", status_code=503),
        listed("g-3", 15, status="timed out", status_code=0, delivered_at="2026-11-01T10:00:00Z"),
    ]
    file = tmp_path / "deliveries.json"
    file.write_text(json.dumps(deliveries))
    return file


def test_what_the_sender_sent_and_we_have_not_is_named_and_ends_with_1(lacking: Path) -> None:
    told = document("missing", "github", "--deliveries", str(lacking), code=1)
    assert (told["listed"], told["have"]) == (4, 3)
    assert [(each["delivery_id"], each["answered"], each["listed_id"]) for each in told["missing"]] == [
        ("g-3", 503, "14")
    ]
    assert told["missing"][0]["event"] == "release.published"
    assert told["send_again"].startswith("POST /repos/OWNER/REPO/hooks/HOOK/deliveries/ID/attempts")
    text = call("missing", "github", "--deliveries", str(lacking)).stdout
    assert "1 of 4 deliveries are missing\n" in text
    assert "To have them sent again: POST /repos/" in text


def test_what_came_from_another_hook_under_the_same_id_is_missing_at_its_endpoint(
    bench: Bench, deployment: Deployment
) -> None:
    bench.send(GITHUB, b'{"n": 3}', delivery_id="of-both", event_type="push", endpoint="repository")
    bench.send(GITHUB, b'{"n": 4}', delivery_id="of-one", event_type="push")

    def left_of(endpoint: str | None) -> list[str]:
        found = webhooks.missing(deployment, "github", ["of-both", "of-one"], endpoint=endpoint)
        return [each.delivery_id for each in found.missing]

    assert left_of(None) == []
    assert left_of("organization") == ["of-both", "of-one"]
    assert left_of("repository") == ["of-one"]
    assert left_of("") == ["of-both"]
    given = "of-both"
    options = ("--deliveries", "-", "--endpoint", "organization")
    assert "1 of 1 deliveries are missing" in call("missing", "github", *options, stdin=given).stdout
    assert "--endpoint: Stripe signs the ids" in failure("missing", "stripe", *options, stdin=given)


def test_a_list_of_which_we_have_all_ends_with_0(lacking: Path) -> None:
    lines = "\n".join(json.dumps(each) for each in json.loads(lacking.read_text())[:2])
    for given in (lines, lines.replace("\n", ""), "g-1\n\ng-2\n", f"[[{listed_text('g-1')}],[]]"):
        result = call("missing", "github", "--deliveries", "-", stdin=given)
        assert (result.exit_code, "is missing" in result.stdout) == (0, True), result.stdout
    assert document("missing", "github", "--deliveries", "-", stdin="[]")["listed"] == 0


def listed_text(guid: str) -> str:
    return json.dumps(listed(guid, 1))


def test_ids_that_the_sender_signs_are_looked_up_and_not_listed(bench: Bench, deployment: Deployment) -> None:
    bench.send(STRIPE, b'{"id": "evt_1", "type": "a"}')
    bench.send(STANDARD_WEBHOOKS, b'{"type": "a"}', delivery_id=(long := "m" * 200))
    found = webhooks.missing(deployment, "stripe", lambda: [{"id": "evt_1"}, {"id": "evt_2", "type": "charge.settled"}])
    assert [(each.delivery_id, each.event) for each in found.missing] == [("evt_2", "charge.settled")]
    assert webhooks.missing(deployment, "standard-webhooks", iter([long])).missing == ()


@pytest.mark.usefixtures("deployment")
@pytest.mark.parametrize(
    ("given", "told"),
    [
        ('[{"guid": "a"}', "--deliveries: value 1 is no JSON"),
        ("[5]", "delivery 1 of the list is neither an id nor an object"),
        ('[{"guid": "a"}, {"id": 7}]', "delivery 2 of the list has no text in `guid`, `delivery_id` or `id`"),
        ('[{"guid": "a", "delivered_at": "soon"}]', "delivery 1 of the list: `delivered_at` is no time: soon"),
    ],
)
def test_a_list_that_is_none_is_refused(given: str, told: str) -> None:
    assert told in failure("missing", "github", "--deliveries", "-", stdin=given)


# -- the audit


def test_what_is_stored_and_not_on_the_bus_for_five_minutes_is_named(
    bench: Bench, deployment: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    refuse_the_bus(bench, monkeypatch)
    bench.send(STRIPE, b'{"id": "evt_1", "type": "a"}')
    now = datetime.now(UTC)
    assert owed_webhooks(deployment, now=now + timedelta(minutes=4)) == ()
    (late,) = owed_webhooks(deployment, now=now + timedelta(minutes=6))
    assert (late.provider, late.key) == ("stripe", "evt_1")


def test_an_audit_with_an_owed_webhook_names_it_and_does_not_add_up(monkeypatch: pytest.MonkeyPatch) -> None:
    late = Owed("stripe", "evt_1", datetime(2026, 11, 27, 10, tzinfo=UTC), CLINIC)
    monkeypatch.setattr(resources.Deployment, "of", lambda environment: None)
    monkeypatch.setattr(audit, "audit", lambda deployment: Account((), (), 0, webhooks=(late,)))
    result = RUNNER.invoke(app, ["audit"])
    assert result.exit_code == 1
    assert (
        "owed: a webhook of stripe in offload-local-clinic, evt_1, stored at 2026-11-27 10:00:00Z and not on the bus"
        in result.stdout
    )
    assert "It does not add up: webhooks are stored" in result.stdout
    (owed,) = json.loads(RUNNER.invoke(app, ["audit", "--json"]).stdout)["webhooks_owed"]
    assert owed == {"provider": "stripe", "key": "evt_1", "since": "2026-11-27T10:00:00+00:00", "stack": CLINIC}


# -- several stacks


PARTNERS = "offload-local-partners"


@pytest.fixture
def other(deployment: Deployment, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    """The receiver of a second stack, for two of the first one's providers."""
    with pytest.MonkeyPatch.context() as patch, a_receiver(patch) as other:
        silent = SimpleNamespace(info=lambda *_, **__: None, warning=lambda *_, **__: None)
        patch.setattr(other.receiver, "log", silent)
        with door(other) as url:
            second = WebhookEntry(url, other.table, other.secret, ("github", "stripe"), PARTNERS)
            monkeypatch.setattr(type(deployment), "webhook_entries", (second, *deployment.webhook_entries))
            yield other


AMBIGUOUS = (
    "environment local receives webhooks of 'github' in 2 stacks: name one by --stack NAME, of "
    "offload-local-partners, offload-local-clinic"
)


def test_the_providers_of_every_stack_are_shown_with_its_name_and_its_own_figures(bench: Bench, other: Bench) -> None:
    bench.send(STRIPE, b'{"id": "evt_1", "type": "charge.settled"}')
    for number in (2, 3):
        other.send(STRIPE, b'{"id": "evt_%d", "type": "charge.settled"}' % number)
    other.set_secrets("github")
    bench.set_secrets("slack")
    found = {(each["stack"], each["name"]): each for each in document("providers")["providers"]}
    assert {name for stack, name in found if stack == PARTNERS} == {"github", "stripe"}
    assert {name for stack, name in found if stack == CLINIC} == set(PROVIDERS)
    accepted = {stack: found[stack, "stripe"]["last_24h"]["accepted"] for stack in (CLINIC, PARTNERS)}
    assert accepted == {CLINIC: 1, PARTNERS: 2}
    text = call("providers").stdout
    assert f"Stripe (stripe) in {CLINIC}\n" in text
    assert f"no active secret: offload webhooks rotate github --stack {PARTNERS}\n" in text
    assert "no active secret: offload webhooks rotate slack\n" in text


def test_what_came_to_any_stack_is_listed_and_found(bench: Bench, other: Bench) -> None:
    bench.send(STRIPE, b'{"id": "evt_1", "type": "a"}')
    other.send(STRIPE, b'{"id": "evt_2", "type": "a"}')
    bench.send(LABORATORY, b'{"type": "sample.tested"}')

    def listed(*options: str) -> list[tuple[str, str]]:
        return [(each["provider"], each["stack"]) for each in document("recent", *options)["webhooks"]]

    assert listed() == [("laboratory", CLINIC), ("stripe", PARTNERS), ("stripe", CLINIC)]
    assert listed("--provider", "stripe") == [("stripe", PARTNERS), ("stripe", CLINIC)]
    assert listed("--stack", "partners", "--provider", "stripe") == [("stripe", PARTNERS)]
    assert listed("--limit", "1") == [("laboratory", CLINIC)]
    assert failure("recent", "--provider", "slack", "--stack", "partners") == (
        f"stack {PARTNERS} has no webhook provider 'slack': github, stripe"
    )
    lines = call("recent").stdout.splitlines()
    assert lines[0].split()[-1] == "stack"
    assert [line.split()[-1] for line in lines[1:]] == [CLINIC, PARTNERS, CLINIC]
    assert document("show", "evt_2")["stack"] == PARTNERS
    assert f"stack           {PARTNERS}\n" in call("show", "evt_2").stdout


def test_a_webhook_that_came_to_two_stacks_is_shown_of_the_one_that_is_named(bench: Bench, other: Bench) -> None:
    for each in (bench, other):
        each.send(GITHUB, b'{"n": 1}', delivery_id="g-1", event_type="push")
    told = f"came in 2 stacks: name one by --stack NAME, of {PARTNERS}, {CLINIC}"
    event = document("recent", "--limit", "1")["webhooks"][0]["event_id"]
    for id_ in ("g-1", event):
        assert failure("show", id_) == f"'{id_}' {told}"
        assert document("show", id_, "--stack", CLINIC)["stack"] == CLINIC


def test_a_secret_is_rotated_in_the_stack_that_has_the_provider_or_is_named(bench: Bench, other: Bench) -> None:
    assert document("rotate", "slack", "--secret-file", "-", stdin="a secret of slack's own")["stack"] == CLINIC
    before = stored(bench, "github")
    assert failure("rotate", "github") == AMBIGUOUS
    assert (stored(bench, "github"), stored(other, "github")) == (before, before)
    made = document("rotate", "github", "--stack", "partners")
    assert made["stack"] == PARTNERS
    assert [stored(other, "github")[0].key_id, stored(bench, "github")] == [made["key_id"], before]
    assert f"github in {PARTNERS}: " in call("rotate", "github", "--stack", PARTNERS).stdout
    assert failure("rotate", "github", "--stack", "elsewhere") == (
        f"--stack elsewhere: environment local receives webhooks in other stacks: {PARTNERS}, {CLINIC}"
    )
    assert "has no webhook provider 'git': github, laboratory, shopify" in failure("rotate", "git")


def test_a_test_and_a_comparison_are_of_the_stack_that_is_named(bench: Bench, other: Bench) -> None:
    assert failure("test", "github") == AMBIGUOUS
    sent = document("test", "github", "--stack", "partners")
    other.send(GITHUB, b'{"n": 1}', delivery_id="g-1", event_type="push")
    assert sent["status"] == 200
    assert {each["stack"] for each in document("recent", "--provider", "github")["webhooks"]} == {PARTNERS}
    assert failure("missing", "github", "--deliveries", "-", stdin="g-1") == AMBIGUOUS
    assert document("missing", "github", "--deliveries", "-", "--stack", PARTNERS, stdin="g-1")["missing"] == []
    assert document("missing", "github", "--deliveries", "-", "--stack", CLINIC, stdin="g-1", code=1)["missing"]


def test_what_any_stack_owes_is_in_the_audit(
    bench: Bench, other: Bench, deployment: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number, each in enumerate((bench, other)):
        refuse_the_bus(each, monkeypatch)
        each.send(STRIPE, b'{"id": "evt_%d", "type": "a"}' % number)
    late = owed_webhooks(deployment, now=datetime.now(UTC) + timedelta(minutes=6))
    assert [(each.stack, each.key) for each in late] == [(CLINIC, "evt_0"), (PARTNERS, "evt_1")]
