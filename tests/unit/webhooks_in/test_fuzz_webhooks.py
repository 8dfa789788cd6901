"""Webhooks of any body and headers, through the receiver's Lambda handler, each followed by one that is good.

Whatever comes, it is answered, and never with a 5xx. What is rightly signed and can be an event is one event on the
bus, however often it comes; what is not rightly signed is nothing in the table or on the bus; neither secret nor
signature is answered or logged. The table, the bus and the secrets are in memory, with AWS's limits; on the emulator
they are in `test_webhook_receiver.py`. `OFFLOAD_PROVE=whole` tries 100,000.
"""

from __future__ import annotations

import base64
import io
import json
import random
import time
import uuid
from collections import Counter
from contextlib import redirect_stdout, suppress
from dataclasses import dataclass
from typing import Any, Final

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from clinic.providers import PROVIDERS
from offload.contracts.events.event import read_envelope
from offload.contracts.webhooks_in.providers import GITHUB, SLACK, STANDARD_WEBHOOKS, plain_hmac
from offload.contracts.webhooks_in.received import WebhookReceived
from offload.contracts.webhooks_in.scheme import Provider, Scheme
from offload.runtime.webhooks_in.body import DEEPEST
from offload.runtime.webhooks_in.secrets import Secret, keyring
from offload.runtime.webhooks_in.sign import signed_headers
from offload.runtime.webhooks_in.verify import content_to_sign
from tests import extremes
from tests.fuzzing import Shard, shards
from tests.unit.webhooks_in.receiver_in_memory import InMemory, receiver_in_memory
from tests.unit.webhooks_in.webhook_bench import SECRETS, gateway_event
from tests.webhook_mutations import ODD

MOST_BYTES: Final = 4 * 1024 * 1024
FORM: Final = "application/x-www-form-urlencoded"
PRIVATE: Final = Ed25519PrivateKey.from_private_bytes(b"k" * 32)
PLAIN: Final = plain_hmac("plain", header="X-Signature")
# The same provider under another name, as only one of its keys is tried here.
ASYMMETRIC: Final = msgspec.structs.replace(STANDARD_WEBHOOKS, name="standard-v1a")
ALL: Final[dict[str, Provider]] = {**PROVIDERS, "plain": PLAIN, "standard-v1a": ASYMMETRIC}
ALL_SECRETS: Final = {
    **SECRETS,
    "plain": "secret of plain",
    "standard-v1a": "whpk_" + base64.b64encode(PRIVATE.public_key().public_bytes_raw()).decode(),
}
WAYS: Final = [
    (provider, scheme) for provider in ALL.values() if provider is not ASYMMETRIC for scheme in provider.schemes
]
TYPES: Final = ("application/json", "application/json; charset=utf-8", "APPLICATION/CLOUDEVENTS+JSON", "", FORM)
ODD_TYPES: Final = ("text/xml", "multipart/form-data; boundary=x", "application/json\x00", ";", "json", "a" * 5_000)
BODIES: Final = (
    b"", b" ", b"{", b"}", b"null", b"true", b'""', b"0", b"-0", b"NaN", b"[Infinity]", b"1e999999", b"-1e400",
    b"9" * 4_000, b"9" * 5_000, b"[" * 99 + b"]" * 99, b"[" * 101 + b"]" * 101, b"[" * 5_000 + b"]" * 5_000,
    b"[" * 200_000, b'{"a":' * 150, b"\x00", b'{"a":"\x00"}', b'{"a":"\\u0000"}', b"\xff", b"\xfe\xff\x00{\x00}",
    b"\xef\xbb\xbf{}", b'{"a":"\xe9"}', b'{"id":"1","id":"2","type":"a","type":"b"}', b'{"a":"\\ud83d"}',
    b'{"a":"\xc3\xa9\\ud83d"}', b'{"\\ud83d":1}', b'{"id":"\\ud83d","type":"\\udc00"}', b'{"a":"\xed\xa0\xbd"}',
    b"{'a':1}", b'{"a":1,}', b'{"a":1}{"b":2}', b'\t\r\n {"a": 1} \n', b"\x1f\x8b\x08\x00", b"a=1&b=2",
    b"payload=%7B%22a%22%3A1%7D", b"payload=%7B", b"payload=%ff", b"a=%00&a=%ff", b"a=1&" * 300,
    b"payload={}&payload=[]", b"&&&==", b"<xml/>", b'{"type":"url_verification"}',
    b'{"type":"url_verification","challenge":1}', b'{"type":"url_verification","challenge":"abc"}',
    b'{"type":"url_verification","challenge":"\\n"}', b'{"type":{"type":[]}}',
)  # fmt: skip


@dataclass(frozen=True)
class Sent:
    """A request as its sender made it: `signed` says whether rightly, `plain` whether nothing but the body is odd."""

    provider: Provider
    scheme: Scheme
    body: bytes
    headers: tuple[tuple[str, str], ...]
    signed: bool
    plain: bool
    endpoint: str = ""

    def event(self) -> dict[str, Any]:
        """As the gateway hands it over."""
        event = gateway_event(self.provider.name, self.body, {}, endpoint=self.endpoint)
        return {**event, "headers": dict(self.headers)}

    def header(self, name: str) -> str:
        return next((value for each, value in self.headers if each.lower() == name), "")


def headers_of(
    provider: Provider, scheme: Scheme, body: bytes, *, delivery_id: str, event_type: str, at: float, secret: str
) -> dict[str, str]:
    """What its sender sends with a body."""
    if provider is not ASYMMETRIC:
        [key] = keyring(provider, [Secret("first", secret)])
        return signed_headers(scheme, key, body, now=at, delivery_id=delivery_id, event_type=event_type)
    private = PRIVATE if secret == ALL_SECRETS[provider.name] else Ed25519PrivateKey.from_private_bytes(b"x" * 32)
    content = b"".join(content_to_sign(scheme, delivery_id, str(int(at)), body))
    signature = "v1a," + base64.b64encode(private.sign(content)).decode()
    return {"webhook-id": delivery_id, "webhook-timestamp": str(int(at)), "webhook-signature": signature}


def a_body(chance: random.Random) -> bytes:
    kind = chance.random()
    if kind < 0.4:
        return chance.choice(BODIES)
    if kind < 0.402:
        size = MOST_BYTES + chance.choice((-1, 0, 1, 400_000))
        return b'{"a":"' + chance.choice((b"x", b"\x7f")) * (size - 8) + b'"}'
    if kind < 0.45:
        return chance.randbytes(chance.choice((1, 10, 2_000)))
    document = {
        "id": "evt_1",
        "type": "a.b",
        "event_id": "Ev1",
        "event": {"type": "c"},
        "team": {"id": "T"},
        "action": "d",
    }
    text = json.dumps(extremes.changed(document, chance), ensure_ascii=chance.random() < 0.7)
    return text.encode(chance.choice(("utf-8",) * 9 + ("utf-16",)), errors="surrogatepass")


def a_name(chance: random.Random) -> str:
    """An id or a type that a sender may write into a header."""
    if chance.random() < 0.7:
        return chance.choice(
            (uuid.UUID(int=chance.getrandbits(128)).hex, "push", "order.paid", "a/b", "~" * 256, "%00")
        )
    text = chance.choice((*extremes.TEXTS, *ODD))
    return text.encode(errors="replace").decode()


def odd_headers(headers: dict[str, str], chance: random.Random) -> tuple[tuple[str, str], ...]:
    """The headers with some more, doubled, taken away, in another case or changed."""
    pairs = list(headers.items())
    for _ in range(chance.randint(1, 3)):
        at = chance.randrange(len(pairs)) if pairs else 0
        match chance.randrange(5):
            case 0:
                pairs.append((a_name(chance), str(chance.choice(extremes.TEXTS))))
            case 1 if pairs:
                name, value = pairs[at]
                pairs.append((name.swapcase(), chance.choice((value, "", value + " ", "x"))))
            case 2 if pairs:
                pairs[at] = (pairs[at][0], pairs[at][1] + chance.choice(ODD))
            case 3 if pairs:
                del pairs[at]
            case _:
                pairs.append(("content-encoding", chance.choice(("gzip", "identity", "", "GZIP, br", "\x00"))))
    return tuple(pairs)


def a_request(chance: random.Random) -> Sent:
    provider, scheme = chance.choice(WAYS)
    if chance.random() < 0.01:
        provider, scheme = ASYMMETRIC, ASYMMETRIC.schemes[0]
    body = a_body(chance)
    odd, forged = chance.random() < 0.3, chance.random() < 0.35
    how = chance.choice(("secret", "body", "late", "early", "none", "random")) if forged else ""
    timed = scheme.timestamp is not None
    at = time.time() + {"late": -1_000, "early": 1_000}.get(how, 0)
    secret = ALL_SECRETS[provider.name]
    if how == "secret":
        secret = secret[:-3] + ("Aw=" if provider.name in {"standard-webhooks", "svix"} else "xyz")
    named = headers_of(
        provider,
        scheme,
        body,
        delivery_id=a_name(chance) if odd else f"id-{chance.getrandbits(64):x}",
        event_type=a_name(chance) if odd else "push",
        at=at,
        secret=secret,
    )
    if how == "body":
        body += chance.choice((b" ", b"\n", b"\x00", b"x"))
    if how == "none":
        del named[scheme.header]
    if how == "random":
        named[scheme.header] = chance.choice((chance.randbytes(32).hex(), "v1," + "A" * 43 + "=", "t=1,v1=00", *ODD))
    kind = chance.choice(ODD_TYPES) if odd and chance.random() < 0.3 else chance.choice(TYPES)
    headers = {"content-type": kind, **({} if chance.random() < 0.5 else {"x-forwarded-for": "1"}), **named}
    return Sent(
        provider,
        scheme,
        body,
        odd_headers(headers, chance) if odd else tuple((name.lower(), value) for name, value in headers.items()),
        signed=not forged or (how in {"late", "early"} and not timed),
        plain=not odd,
        endpoint=chance.choice(("", "", "main", "e" * 64)),
    )


def containers(values: list[Any]) -> list[Any]:
    return [each for each in values if isinstance(each, dict | list)]


def as_an_event(sent: Sent) -> Any:
    """The payload of what can be an event, by the standard library's JSON; raises ValueError for what can be none."""
    if not sent.body or len(sent.body) > MOST_BYTES:
        raise ValueError("none, or too large")
    text = sent.body.decode()
    if sent.header("content-type") == FORM:
        raise ValueError("another kind")
    try:
        found = json.loads(text, parse_constant=lambda name: float("no " + name))
    except RecursionError:
        raise ValueError("too deep") from None
    level = containers([found])
    for _ in range(DEEPEST):
        level = containers([each for inner in level for each in (inner.values() if isinstance(inner, dict) else inner)])
    if level:
        raise ValueError("too deep")
    return found


def changed_by_the_gateway(event: dict[str, Any], chance: random.Random) -> dict[str, Any]:
    """What no gateway sends: parts that are missing or of another kind, and a body that is not what the flag says."""
    match chance.randrange(9):
        case 0:
            return {**event, "isBase64Encoded": not event["isBase64Encoded"]}
        case 1:
            return {
                **event,
                "isBase64Encoded": True,
                "body": chance.choice(("A", "====", "\x00", "é", "QQ=Q", "Q Q = =")),
            }
        case 2 | 3:
            without = chance.choice(list(event))
            return {name: value for name, value in event.items() if name != without}
        case 4:
            return {**event, "requestContext": chance.choice((None, {}, {"http": None}, {"http": {}}, [], "x", 1))}
        case 5:
            source = chance.choice((None, "", "unknown", "::1", "1.2.3", "a" * 3_000, 7, "fe80::1%eth0", "\ud83d"))
            return {**event, "requestContext": {"http": {"sourceIp": source}}}
        case 6:
            headers: Any = chance.choice(
                (None, {}, [], {"content-type": None}, {"": ""}, {"a": ["b"]}, {"\ud83d": "\ud83d"}, "x")
            )
            return {**event, "headers": headers}
        case 7:
            return {
                **event,
                "rawPath": chance.choice((None, 1, "", "/", "/webhooks/../github", "/webhooks/github\n", "\ud83d")),
            }
        case _:
            return {**event, "body": chance.choice((None, 1, [], {}, "\ud83d", "x\udc00y"))}


def is_answered(answer: dict[str, Any]) -> str:
    """What the answer says became of it; fails for an answer that the gateway could not send."""
    assert isinstance(answer["statusCode"], int)
    assert 200 <= answer["statusCode"] < 500, answer
    assert isinstance(answer["body"], str)
    assert all(name.isascii() and value.isascii() and value.isprintable() for name, value in answer["headers"].items())
    json.dumps(answer).encode()
    if answer["statusCode"] >= 400:
        problem = json.loads(answer["body"])
        assert problem["status"] == answer["statusCode"]
        return "refused"
    return str(answer["headers"]["offload-outcome"])


def is_one_event(memory: InMemory, sent: Sent, answer: dict[str, Any]) -> None:
    """That a delivery which was taken is one event, and stays one when it comes again."""
    [kept], [event] = memory.kept(), memory.events()
    assert event["id"] == answer["headers"]["offload-event-id"] == kept["event_id"]["S"]
    assert "owed" not in kept
    read_envelope(memory.entries[0]["Detail"].encode())
    data = msgspec.json.decode(json.dumps(event["data"]), type=WebhookReceived)
    assert event["id"] == f"webhook.received:{data.key}"
    assert isinstance(data.text, str) == ("payload" not in event["data"])
    if isinstance(data.text, str):
        assert data.text.encode() == sent.body
    with suppress(ValueError):
        payload = as_an_event(sent)
        assert (
            event["data"]["payload"] if "payload" in event["data"] else json.loads(event["data"]["text"])
        ) == payload
    again = memory.answer(sent.event())
    assert is_answered(again) in {"duplicate", "handshake"}
    assert again["headers"]["offload-event-id"] == event["id"]
    assert len(memory.events()) == len(memory.kept()) == 1


@pytest.mark.slow
@shards(500)
def test_whatever_comes_is_answered_and_only_what_is_signed_is_an_event(shard: Shard) -> None:
    chance = shard.chance()
    outcomes: Counter[str] = Counter()
    with receiver_in_memory(ALL, ALL_SECRETS) as memory, redirect_stdout(io.StringIO()) as printed:
        for number in range(shard.cases):
            sent = a_request(chance)
            with shard.case(number, (sent.provider.name, sent.signed, sent.headers, sent.body)):
                outcomes[tried(memory, sent, chance)] += 1
                if chance.random() < 0.3:
                    is_answered(memory.answer(changed_by_the_gateway(sent.event(), chance)))
                memory.clear()
                is_well(memory, sent.provider, number)
                memory.clear()
                says_no_secret(printed.getvalue(), sent)
            printed.seek(0)
            printed.truncate()
    assert outcomes["accepted"] > shard.cases / 10
    assert outcomes["refused"] > shard.cases / 5


def tried(memory: InMemory, sent: Sent, chance: random.Random) -> str:
    answer = memory.answer(sent.event())
    outcome = is_answered(answer)
    says_no_secret(json.dumps(answer), sent)
    if not sent.signed:
        assert outcome == "refused"
    if outcome == "refused":
        assert not memory.kept()
        assert not memory.entries
    elif outcome == "accepted" or (outcome == "handshake" and sent.provider is GITHUB):
        is_one_event(memory, sent, answer)
    else:
        assert (outcome, sent.provider) == ("handshake", SLACK)
        assert not memory.entries
    if sent.signed and sent.plain:
        try:
            as_an_event(sent)
        except ValueError:
            return outcome
        wants_an_answer = sent.provider is SLACK and b"url_verification" in sent.body
        assert outcome == "accepted" or wants_an_answer, answer
    return outcome


def is_well(memory: InMemory, provider: Provider, number: int) -> None:
    """That a good delivery of the same sender is an event."""
    scheme = provider.schemes[0]
    body = b'{"id":"evt_%d","type":"good","event_id":"Ev%d"}' % (number, number)
    headers = headers_of(
        provider,
        scheme,
        body,
        delivery_id=f"good-{number}",
        event_type="good",
        at=time.time(),
        secret=ALL_SECRETS[provider.name],
    )
    answer = memory.answer(gateway_event(provider.name, body, headers))
    assert is_answered(answer) == "accepted"
    [event] = memory.events()
    assert event["data"]["payload"] == json.loads(body)


def says_no_secret(text: str, sent: Sent) -> None:
    """That neither a secret nor the signature is in a text."""
    assert not any(secret in text for secret in ALL_SECRETS.values())
    signature = sent.header(sent.scheme.header.lower())
    assert len(signature) < 40 or signature[-40:] not in text
