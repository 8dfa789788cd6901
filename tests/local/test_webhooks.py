"""Webhooks through the deployed app: every sender's own signature, a bus that fails, secrets that change, forgeries."""

from __future__ import annotations

import base64
import hmac
import http.client
import json
import os
import random
import subprocess
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from itertools import count
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import pytest
import standardwebhooks
import stripe
from nacl.signing import SigningKey
from slack_sdk.signature import SignatureVerifier

from clinic.providers import PROVIDERS
from offload.cli.webhooks_in import received as webhooks
from offload.contracts.webhooks_in.received import body_key, event_id, variant_of
from offload.contracts.webhooks_in.stored_secret import SecretDocument, StoredSecret, StoredSecrets
from offload.project import PROJECT
from tests.copies import Copy, variables_set
from tests.odd_server import Behaviour, Received, answer, by_request, odd_server, raw
from tests.patience import PATIENCE, until
from tests.webhook_mutations import MUTATIONS, Case

WHOLE: Final = os.environ.get("OFFLOAD_PROVE") == "whole"
EXAMPLES: Final = PROJECT / "node_modules/@octokit/webhooks-examples/api.github.com/index.json"
SEED: Final = bytes(range(32))
SECRETS: Final[Mapping[str, tuple[str, ...]]] = {
    "github": ("It's a Secret to Everybody",),
    "stripe": ("whsec_test_secret",),
    "slack": ("8f742231b10e8888abcd99yyyzzz85a5",),
    "shopify": ("test-webhook-secret",),
    "standard-webhooks": (
        "whsec_" + base64.b64encode(b"standard webhooks key, 32 bytes.").decode(),
        "whpk_" + base64.b64encode(bytes(SigningKey(SEED).verify_key)).decode(),
    ),
    "svix": ("whsec_" + base64.b64encode(b"svix's key, of thirty-two bytes.").decode(),),
    "laboratory": ("samples",),
}
Headers = dict[str, str]


@dataclass(frozen=True)
class Door:
    """The deployed receiver."""

    copy: Copy

    @property
    def endpoint(self) -> str:
        return self.copy.deployment.webhook_entry.endpoint

    def post(self, provider: str, headers: Any, body: bytes, *, path: str = "") -> tuple[int, Mapping[str, str], bytes]:
        """One request on a connection of its own; headers in the order and spelling given."""
        address = urlsplit(self.endpoint)
        connection = http.client.HTTPConnection(address.hostname or "", address.port, timeout=PATIENCE)
        try:
            connection.putrequest("POST", f"{address.path}/webhooks/{provider}{path}", skip_accept_encoding=True)
            pairs = list(headers.items() if isinstance(headers, dict) else headers)
            if not any(name.lower() == "content-type" for name, _ in pairs):
                pairs.append(("content-type", "application/json"))
            for name, value in [*pairs, ("content-length", str(len(body)))]:
                connection.putheader(name, value.encode("latin-1"))
            connection.endheaders(body)
            answer = connection.getresponse()
            said = {name.lower(): value for name, value in answer.getheaders()}
            return answer.status, said, answer.read()
        finally:
            connection.close()

    def set_secrets(self, provider: str, *values: str) -> None:
        secrets = tuple(StoredSecret(key_id=f"test-{number}", value=value) for number, value in enumerate(values))
        manager, arn = self.copy.deployment.aws.secrets_manager, self.copy.deployment.webhook_entry.secret
        document = SecretDocument.read(manager.get_secret_value(SecretId=arn)["SecretString"])
        changed = document.with_secrets(provider, StoredSecrets(secrets))
        manager.put_secret_value(SecretId=arn, SecretString=changed.to_json())


class Tap:
    """A queue that gets every webhook's event, as any consumer's would."""

    def __init__(self, copy: Copy) -> None:
        aws, name = copy.deployment.aws, f"tap-{uuid.uuid4().hex[:8]}"
        self._sqs = aws.sqs
        self._url = self._sqs.create_queue(QueueName=name)["QueueUrl"]
        arn = self._sqs.get_queue_attributes(QueueUrl=self._url, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
        bus = copy.deployment.bus
        aws.events.put_rule(Name=name, EventBusName=bus, EventPattern=json.dumps({"source": ["offload.webhooks"]}))
        aws.events.put_targets(Rule=name, EventBusName=bus, Targets=[{"Id": "queue", "Arn": arn}])
        self.events: list[dict[str, Any]] = []

    def drain(self) -> list[dict[str, Any]]:
        """All events so far."""
        while messages := self._sqs.receive_message(QueueUrl=self._url, MaxNumberOfMessages=10).get("Messages"):
            for message in messages:
                self.events.append(json.loads(message["Body"])["detail"])
                self._sqs.delete_message(QueueUrl=self._url, ReceiptHandle=message["ReceiptHandle"])
        return self.events

    def ids(self) -> Counter[str]:
        """How often each event came."""
        return Counter(event["id"] for event in self.drain())


@pytest.fixture(scope="module")
def door(deployed: Copy) -> Door:
    """The receiver of the shared copy, with its secrets set."""
    door = Door(deployed)
    for provider, values in SECRETS.items():
        door.set_secrets(provider, *values)
    return door


@pytest.fixture
def tap(door: Door) -> Tap:
    return Tap(door.copy)


STORED: Final = 202
"""Kept, and not yet on the bus: it took longer than the receiver may wait, as on a slow machine."""

UNAVAILABLE: Final = 503


def github(body: bytes, event: str = "issues", secret: str = SECRETS["github"][0]) -> Headers:
    """As GitHub documents it, by the standard library alone."""
    signature = hmac.new(secret.encode(), body, "sha256").hexdigest()
    return {
        "X-Hub-Signature-256": f"sha256={signature}",
        "X-GitHub-Delivery": str(uuid.uuid4()),
        "X-GitHub-Event": event,
    }


def stripes(body: bytes) -> Headers:
    signature = stripe.WebhookSignature.generate_signature_header(
        payload=body.decode(), secret=SECRETS["stripe"][0], timestamp=int(time.time())
    )
    return {"Stripe-Signature": signature}


def slack(body: bytes) -> Headers:
    now = str(int(time.time()))
    signature = SignatureVerifier(SECRETS["slack"][0]).generate_signature(timestamp=now, body=body)
    assert signature is not None
    return {"X-Slack-Signature": signature, "X-Slack-Request-Timestamp": now}


def shopify(body: bytes, prefix: str = "X-") -> Headers:
    signature = base64.b64encode(hmac.digest(SECRETS["shopify"][0].encode(), body, "sha256")).decode()
    return {
        f"{prefix}Shopify-Hmac-Sha256": signature,
        f"{prefix}Shopify-Webhook-Id": str(uuid.uuid4()),
        f"{prefix}Shopify-Topic": "orders/create",
    }


def standard(body: bytes, prefix: str = "webhook", secret: str = SECRETS["standard-webhooks"][0]) -> Headers:
    name, now = f"msg_{uuid.uuid4().hex}", datetime.now(UTC)
    signature = standardwebhooks.Webhook(secret).sign(name, now, body.decode())
    return {f"{prefix}-id": name, f"{prefix}-timestamp": str(int(now.timestamp())), f"{prefix}-signature": signature}


def ed25519(body: bytes) -> Headers:
    headers = standard(body)
    content = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + body
    mine = base64.b64encode(SigningKey(SEED).sign(content).signature).decode()
    return {**headers, "webhook-signature": f"v1,{'A' * 43}= v1a,{mine}"}


def laboratory(body: bytes) -> Headers:
    now = str(int(time.time()))
    signature = hmac.new(SECRETS["laboratory"][0].encode(), f"{now}.".encode() + body, "sha256").hexdigest()
    return {
        "X-Laboratory-Signature": f"sha256={signature}",
        "X-Laboratory-Timestamp": now,
        "X-Laboratory-Delivery": str(uuid.uuid4()),
    }


SIGNERS: Final[Mapping[str, tuple[str, Callable[[bytes], Headers]]]] = {
    "github": ("github", github),
    "stripe": ("stripe", stripes),
    "slack": ("slack", slack),
    "shopify": ("shopify", shopify),
    "shopify-events": ("shopify", lambda body: shopify(body, prefix="")),
    "standard-webhooks": ("standard-webhooks", standard),
    "standard-webhooks-v1a": ("standard-webhooks", ed25519),
    "svix": ("svix", lambda body: standard(body, prefix="svix", secret=SECRETS["svix"][0])),
    "laboratory": ("laboratory", laboratory),
}


def a_body(**fields: Any) -> bytes:
    """A body that no test sends twice, with the names that the schemes look for."""
    name = uuid.uuid4().hex
    return json.dumps({"id": f"evt_{name}", "event_id": f"Ev{name}", "type": "made.up", **fields}).encode()


def test_what_each_sender_s_own_library_signs_becomes_one_event(door: Door, tap: Tap) -> None:
    assert {provider for provider, _ in SIGNERS.values()} == set(PROVIDERS)
    wanted: Counter[str] = Counter()
    for name, (provider, signer) in SIGNERS.items():
        for number in range(3):
            body = a_body(text="ünï 💶" * number)
            headers = signer(body)
            if number == 2:
                headers = {header.upper(): value for header, value in headers.items()}
            status, said, content = door.post(provider, headers, body)
            assert (status, content) == (200, b""), (name, content)
            assert said["offload-outcome"] == "accepted"
            wanted[said["offload-event-id"]] += 1
    until(lambda: len(tap.ids()) >= len(wanted), "the events")
    assert tap.ids() == wanted


@pytest.mark.skipif(not EXAMPLES.exists(), reason="node_modules is not installed: make toolchain")
def test_github_s_example_payloads_pass_each_once(door: Door, tap: Tap) -> None:
    examples = json.loads(EXAMPLES.read_text(encoding="utf-8"))
    sent = [
        (each["name"], json.dumps(example, ensure_ascii=False).encode())
        for each in examples
        for example in each["examples"]
    ]
    assert len(sent) == 329
    signatures = octokit_signs([body.decode() for _, body in sent])

    def deliver(number: int) -> tuple[int, str]:
        name, body = sent[number]
        headers = {**github(body, name), "X-Hub-Signature-256": signatures[number]}
        status, said, _ = door.post("github", headers, body)
        return status, said.get("offload-event-id", "")

    with ThreadPoolExecutor(8) as threads:
        answers = list(threads.map(deliver, range(len(sent))))
    assert {status for status, _ in answers} <= {200, STORED}
    # The set has five payloads twice, to the byte. Who has one could send it again: of one topic it is one event.
    ids = {id_of(name, body) for name, body in sent}
    assert {event for _, event in answers} == ids
    until(lambda: len(tap.ids()) >= len(ids), "the events")
    assert set(tap.ids()) == ids
    # What the receiver had no time to hear of from the bus, the relay publishes, under the same id.
    assert set(tap.ids() - Counter(ids)) <= {event for status, event in answers if status == STORED}
    payloads = {event["id"]: event["data"]["payload"] for event in tap.events}
    for name, body in sent:
        assert payloads[id_of(name, body)] == json.loads(body), name


def id_of(name: str, body: bytes) -> str:
    """The id of the event that a delivery of GitHub becomes."""
    action = json.loads(body).get("action")
    variant = variant_of("", f"{name}.{action}" if action else name, "")
    return event_id("github", body_key(sha256(body).hexdigest(), variant))


def octokit_signs(bodies: list[str]) -> list[str]:
    """What GitHub's own library makes of the bodies."""
    request = {"github": [{"secret": SECRETS["github"][0], "body": body} for body in bodies], "shopify": []}
    done = subprocess.run(
        ["node", PROJECT / "tests/unit/webhooks_in/webhook_signers.mjs"],
        input=json.dumps(request),
        capture_output=True,
        text=True,
        check=True,
        cwd=PROJECT,
    )
    signatures: list[str] = json.loads(done.stdout)["github"]
    return signatures


@pytest.mark.parametrize("name", SIGNERS)
def test_no_mutation_of_a_signed_delivery_is_taken_or_breaks_the_door(door: Door, name: str) -> None:
    provider, signer = SIGNERS[name]
    tries = 100_000 // len(SIGNERS) + 1 if WHOLE else 40
    rng = random.Random(f"door {name}")
    outcomes: Counter[int] = Counter()

    def one(seed: int) -> int | None:
        own = random.Random(seed)
        body = a_body(seed=seed)
        case = Case(PROVIDERS[provider], "", tuple(signer(body).items()), body, time.time())
        mutated = case
        for _ in range(own.choice((1, 1, 1, 2, 3))):
            mutated = own.choice(MUTATIONS)(mutated, own)
        try:
            status, said, content = door.post(provider, mutated.headers, mutated.body)
        except (ValueError, UnicodeError):
            return None  # no client could send it
        assert status < 500 or json.loads(content)["type"].endswith(("no-active-secret",)), content
        if status == 200:
            # What is still taken is a change of what nobody signs.
            assert mutated.body == body
            right = next(value for _, value in case.headers)
            assert said["offload-outcome"] in {"accepted", "duplicate"}, right
        return status

    with ThreadPoolExecutor(8) as threads:
        for status in threads.map(one, [rng.randrange(2**60) for _ in range(tries)]):
            if status is not None:
                outcomes[status] += 1
    assert outcomes.total() > tries / 2
    assert sum(number for status, number in outcomes.items() if 400 <= status < 500) > tries / 3


@pytest.mark.parametrize(
    ("body", "headers", "statuses"),
    [
        (b"", {}, {400}),
        (b'{"a": ', {}, {400}),
        # The emulator hands on other bytes than it got where JSON is not UTF-8: then the signature is wrong.
        (b'{"a": "\xff"}', {}, {400, 401, 429}),
        (b"[" * 100_000 + b"]" * 100_000, {}, {400}),
        (b"<xml/>", {"content-type": "text/xml"}, {415}),
        (b'{"a": 1}', {"content-encoding": "gzip"}, {415}),
        (b'{"a": "' + b"x" * (4 * 1024 * 1024 - 9) + b'"}', {}, {200}),
        (b'{"a": "' + b"x" * (4 * 1024 * 1024 - 8) + b'"}', {}, {413}),
        (b"\xff" * (4 * 1024 * 1024 + 1), {"content-type": "application/octet-stream"}, {413}),
    ],
    ids=["empty", "half", "not UTF-8", "deep", "XML", "compressed", "at the limit", "over", "over, in base64"],
)
def test_a_body_that_cannot_be_an_event_is_refused_clearly_and_the_door_stays_open(
    door: Door, body: bytes, headers: Headers, statuses: set[int]
) -> None:
    status, _, content = door.post("github", {**github(body), **headers}, body)
    assert status in statuses, content
    if status != 200:
        assert json.loads(content)["detail"]
    body = a_body()
    assert door.post("github", github(body), body)[0] == 200


# Seconds; the receiver waits for the bus for one (offload/functions/webhook_receiver/receiving.py).
_LATE: Final = 0.3


class BusInTrouble:
    """Stands before the embedded AWS's EventBridge: refuses, throttles, hangs, and loses answers, by turns."""

    def __init__(self, endpoint: str, seed: int) -> None:
        self._address = urlsplit(endpoint)
        self._rng = random.Random(seed)
        self.troubled = threading.Event()
        self.seen: Counter[str] = Counter()
        self.late = 0
        """Answers that may have come when nobody waited for them any more."""
        self._lock = threading.Lock()

    def forward(self, headers: Mapping[str, str], body: bytes) -> tuple[int, bytes]:
        connection = http.client.HTTPConnection(self._address.hostname or "", self._address.port, timeout=PATIENCE)
        try:
            connection.request("POST", "/", body, dict(headers))
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()

    def answer(self, headers: Mapping[str, str], body: bytes) -> tuple[int, bytes] | None:
        """None is a connection that breaks."""
        with self._lock:
            trouble = self._rng.choice(("refuses", "throttles", "hangs", "loses the answer", "well"))
            trouble = trouble if self.troubled.is_set() else "well"
            self.seen[trouble] += 1
        match trouble:
            case "refuses":
                count = len(json.loads(body)["Entries"])
                failed = [{"ErrorCode": "InternalFailure", "ErrorMessage": "made up"}] * count
                return 200, json.dumps({"FailedEntryCount": count, "Entries": failed}).encode()
            case "throttles":
                return 400, b'{"__type": "ThrottlingException", "message": "Rate exceeded"}'
            case "hangs":
                threading.Event().wait(1.5)
                return None
            case "loses the answer":
                self.forward(headers, body)
                return None
            case _:
                began = time.monotonic()
                forwarded = self.forward(headers, body)
                with self._lock:
                    self.late += time.monotonic() - began > _LATE
                return forwarded


@contextmanager
def bus_in_trouble(copy: Copy, seed: int) -> Iterator[BusInTrouble]:
    """Puts itself between the two functions and the bus."""
    instance = copy.deployment.aws.instance
    assert instance is not None
    bus = BusInTrouble(instance.endpoint, seed)

    def behaviour(request: Received) -> Behaviour:
        given = bus.answer({name: value for name, value in request.headers.items() if name != "host"}, request.body)
        return raw() if given is None else answer(*given)

    functions = copy.deployment.aws.lambda_
    before: dict[str, dict[str, str]] = {}
    with odd_server(by_request(behaviour)) as server:
        try:
            for folder in ("webhook_receiver", "webhook_relay"):
                name = copy.deployment.function(folder).function_name
                before[name] = functions.get_function_configuration(FunctionName=name)["Environment"]["Variables"]
                own = {**before[name], "AWS_ENDPOINT_URL_EVENTBRIDGE": server.url("")}
                functions.update_function_configuration(FunctionName=name, Environment={"Variables": own})
            yield bus
        finally:
            for name, variables in before.items():
                functions.update_function_configuration(FunctionName=name, Environment={"Variables": variables})


def owed(copy: Copy) -> int:
    """How many deliveries the bus does not have yet."""
    return len(list(webhooks.owed(copy.deployment, before=datetime.now(UTC) + timedelta(minutes=1))))


def all_published(copy: Copy) -> bool:
    """Lets the relay look now; whether the bus has every delivery after it."""
    relay = copy.deployment.function("webhook_relay").function_name
    copy.deployment.aws.lambda_.invoke(FunctionName=relay, Payload=b"{}")
    return owed(copy) == 0


def test_while_the_bus_fails_every_delivery_becomes_one_event(door: Door) -> None:
    count = 2_000 if WHOLE else 200
    copy = door.copy
    # What an earlier test sent is not to come out now.
    until(lambda: all_published(copy), "what was owed before")
    tap = Tap(copy)
    bodies = [a_body(number=number) for number in range(count)]
    events: dict[int, str] = {}
    attempts: Counter[str] = Counter()

    def deliver(number: int) -> int:
        body = bodies[number]
        # GitHub asks once. Stripe comes again, with a new signature, until it is told 2xx.
        provider, signer, tries = ("github", github, 1) if number % 2 else ("stripe", stripes, 20)
        for _ in range(tries):
            status, said, _ = door.post(provider, signer(body), body)
            attempts[f"{provider} {status}"] += 1
            if 200 <= status < 300:
                events[number] = said["offload-event-id"]
                break
        return number

    with bus_in_trouble(copy, seed=5) as bus, ThreadPoolExecutor(8) as threads:
        for number in threads.map(deliver, range(count)):
            if number == count // 4:
                bus.troubled.set()
            if number == count * 3 // 4:
                bus.troubled.clear()
        bus.troubled.clear()
        assert len(events) == count, attempts
        until(lambda: all_published(copy), "the relay")
        for trouble in ("refuses", "throttles", "hangs", "loses the answer"):
            assert bus.seen[trouble], bus.seen
    until(lambda: len(tap.ids()) >= count, "the events")
    ids = tap.ids()
    assert set(ids) == set(events.values())
    assert len(set(events.values())) == count
    # An answer that is lost or late is the one way to an event that is on the bus twice, and it is the same event.
    assert sum(ids.values()) - count <= bus.seen["loses the answer"] + bus.late


def test_a_secret_that_is_rotated_under_load_refuses_no_valid_delivery(door: Door) -> None:
    old, enough, senders, rate = "the old secret", 500 if WHOLE else 100, 16, 50
    door.set_secrets("github", old)
    new: list[str] = []
    refused: list[bytes] = []
    used: Counter[str] = Counter()
    numbers, finished = count(), threading.Event()

    def deliver() -> None:
        while not finished.wait(senders / rate):
            number = next(numbers)
            # Half of the senders take the new secret as soon as there is one.
            secret = new[0] if new and number % 2 else old
            body = a_body(number=number)
            status, _, content = door.post("github", github(body, secret=secret), body)
            if status in {200, STORED}:
                used["new" if secret != old else "old"] += 1
            # What a slow machine cannot keep in time is to be sent again, and is not refused.
            elif status != UNAVAILABLE:
                refused.append(content)

    try:
        with ThreadPoolExecutor(senders) as threads:
            done = [threads.submit(deliver) for _ in range(senders)]
            try:
                until(lambda: used["old"] > enough, "deliveries before the rotation")
                told = door.copy.offload("webhooks", "rotate", "github", "--overlap", "24h", "--json")
                assert told.returncode == 0, told.stderr
                new.append(json.loads(told.stdout)["secret"])
                until(lambda: used["new"] > enough, "deliveries with the new secret")
            finally:
                finished.set()
            for each in done:
                each.result()
        assert refused == []
    finally:
        door.set_secrets("github", *SECRETS["github"])


def test_each_role_allows_what_its_function_does(deployed_with_iam: Copy) -> None:
    door = Door(deployed_with_iam)
    told = door.copy.offload("webhooks", "rotate", "github", "--json")
    assert told.returncode == 0, told.stderr
    for payload in ({"small": 1}, {"large": "x" * 1_100_000}):
        file = Path(door.copy.embedded.root) / "payload.json"
        file.write_text(json.dumps(payload), encoding="utf-8")
        sent = door.copy.offload("webhooks", "test", "github", "--event", "push", "--payload", str(file), "--json")
        assert sent.returncode == 0, sent.stdout + sent.stderr
        assert json.loads(sent.stdout)["outcome"] in {"accepted", "stored"}
    until(lambda: all_published(door.copy), "what was stored to be published")
    wrong = door.copy.offload("webhooks", "recent", "--outcome", "refused", "--json")
    assert wrong.returncode == 0, wrong.stderr


def test_a_flood_of_forgeries_gets_429_and_true_deliveries_pass(copy: Copy) -> None:
    door = Door(copy)
    door.set_secrets("github", *SECRETS["github"])
    statuses: Counter[int] = Counter()
    # So few that any machine sends more in a minute.
    with variables_set(copy, "webhook_receiver", {"OFFLOAD_REFUSED_PER_MINUTE": "3"}):
        for number in range(150):
            forged = {**github(a_body()), "X-Hub-Signature-256": "sha256=" + "0" * 64}
            statuses[door.post("github", forged, a_body())[0]] += 1
            if number % 10 == 0:
                body = a_body()
                assert door.post("github", github(body), body)[0] in {200, STORED}
    assert set(statuses) == {401, 429}
    assert statuses[401] >= 3
    assert statuses[429] >= 20
