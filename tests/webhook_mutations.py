"""A signed request, and what may be changed of one: bytes, headers, names, repetitions, the key, the time."""

from __future__ import annotations

import base64
import random
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Final

from offload.contracts.webhooks_in.scheme import Provider
from offload.runtime.webhooks_in.refusals import REFUSALS
from offload.runtime.webhooks_in.secrets import BadSecret, Secret, keyring
from offload.runtime.webhooks_in.verify import Verified, verify

Headers = tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Case:
    """A request that its sender signed at `now`."""

    provider: Provider
    secret: str
    headers: Headers
    body: bytes
    now: float = 1_700_000_000

    def verify(self, *others: str, now: float | None = None) -> Verified:
        secrets = [Secret(f"key-{number}", secret) for number, secret in enumerate((*others, self.secret))]
        at = self.now if now is None else now
        return verify(self.provider, keyring(self.provider, secrets), self.headers, self.body, now=at)

    def having(self, **headers: str | None) -> Case:
        """The same with these headers instead (`webhook_id=...`); None takes one away."""
        names = {name.replace("_", "-").lower(): value for name, value in headers.items()}
        kept = tuple(pair for pair in self.headers if pair[0].lower() not in names)
        return replace(self, headers=kept + tuple((name, value) for name, value in names.items() if value is not None))

    def plus(self, name: str, value: str) -> Case:
        return replace(self, headers=(*self.headers, (name, value)))

    def header(self, name: str) -> str:
        return dict(self.headers)[name]


def _in_bytes(content: bytes, rng: random.Random) -> bytes:
    """One byte, or the end, or the order of the content changed."""
    if not content:
        return rng.randbytes(rng.randrange(1, 4))
    at = rng.randrange(len(content))
    match rng.randrange(6):
        case 0:
            return content[:at] + bytes([content[at] ^ 1 << rng.randrange(8)]) + content[at + 1 :]
        case 1:
            return content[:at]
        case 2:
            return content[:at] + rng.randbytes(rng.randrange(1, 9)) + content[at:]
        case 3:
            return content[:at] + content[at + 1 :]
        case 4:
            return content + rng.choice((b"\0", b"\n", b" ", b"\r\n", content))
        case _:
            return content[at:] + content[:at]


ODD: Final[tuple[str, ...]] = (
    *"\0\n\r\t ,;=.:%+/-_\x7f\x80\xff",
    *"\u0130\u017f\u212a\uff11\u0661\u200b\u202e\ud800\udfff\ufeff\U0001f4b6",
    *("e", "0x", "%00", "==", "v1,", "v1=", "t=", "sha1=", "sha512=", "0" * 64, "9" * 30, "a" * 5000, "A", "z"),
)


def _in_text(text: str, rng: random.Random) -> str:
    at = rng.randrange(len(text) + 1)
    match rng.randrange(9):
        case 0 | 1:
            changed = _in_bytes(text.encode(errors="replace"), rng)
            return changed.decode("latin-1")
        case 2:
            return text[:at] + rng.choice(ODD) + text[at:]
        case 3:
            return text[:at] + rng.choice(ODD) + text[at + 1 :]
        case 4:
            return rng.choice((text.upper(), text.lower(), text.swapcase(), text[::-1], ""))
        case 5:
            return rng.choice((f"{text},{text}", f"{text} {text}", f'"{text}"', text.rstrip("="), text + "="))
        case 6:
            # The same signature in the other encoding.
            head, _, tail = text.rpartition(rng.choice(",="))
            try:
                return f"{head}={base64.b64encode(bytes.fromhex(tail)).decode()}"
            except ValueError:
                return text.replace("+", "-").replace("/", "_")
        case 7:
            return rng.choice(("sha1=", "sha512=", "v0,", "v1,", "v1a,", "v2,", "v0=", "V1=")) + text.rpartition("=")[2]
        case _:
            return str(rng.choice((-1, 0, 2**31, 2**63, 10**18, 1e300, "NaN", "1700000000.0", int(time.time()))))


def _body(case: Case, rng: random.Random) -> Case:
    return replace(case, body=_in_bytes(case.body, rng))


def _secret(case: Case, rng: random.Random) -> Case:
    return replace(case, secret=_in_text(case.secret, rng))


def _now(case: Case, rng: random.Random) -> Case:
    return replace(case, now=case.now + rng.choice((-1e9, -301, 301, 1e9)))


def _value(case: Case, rng: random.Random) -> Case:
    if not case.headers:
        return case
    at = rng.randrange(len(case.headers))
    name, value = case.headers[at]
    return replace(case, headers=(*case.headers[:at], (name, _in_text(value, rng)), *case.headers[at + 1 :]))


def _name(case: Case, rng: random.Random) -> Case:
    if not case.headers:
        return case
    at = rng.randrange(len(case.headers))
    name, value = case.headers[at]
    return replace(case, headers=(*case.headers[:at], (_in_text(name, rng), value), *case.headers[at + 1 :]))


def _repeat(case: Case, rng: random.Random) -> Case:
    if not case.headers:
        return case
    name, value = rng.choice(case.headers)
    headers = [*case.headers, (name.swapcase(), rng.choice((value, _in_text(value, rng), "")))]
    rng.shuffle(headers)
    return replace(case, headers=tuple(headers))


def _drop(case: Case, rng: random.Random) -> Case:
    if not case.headers:
        return case
    at = rng.randrange(len(case.headers))
    return replace(case, headers=case.headers[:at] + case.headers[at + 1 :])


MUTATIONS: Final[Sequence[Callable[[Case, random.Random], Case]]] = (
    _body,
    _body,
    _value,
    _value,
    _value,
    _name,
    _secret,
    _now,
    _repeat,
    _drop,
)


def outcomes_of_mutations(case: Case, count: int) -> Counter[str]:
    """How often mutations of a signed request were `verified`, and refused by which slug; the same in every run.

    Fails when something else was verified than what was signed. A refusal that tells the secret counts as `tells`.
    """
    rng = random.Random(f"webhooks {case.provider.name} {'whpk' in case.secret}")
    outcomes: Counter[str] = Counter()
    for _ in range(count):
        mutated = case
        for _ in range(rng.choice((1, 1, 1, 2, 3))):
            mutated = rng.choice(MUTATIONS)(mutated, rng)
        outcomes[_outcome(case, mutated)] += 1
    return outcomes


def _outcome(case: Case, mutated: Case) -> str:
    """`verified` or the refusal's slug; fails when something else was verified than what was signed."""
    try:
        keys = keyring(mutated.provider, [Secret("key", mutated.secret)])
    except BadSecret:
        return "bad-secret"
    try:
        found = verify(mutated.provider, keys, mutated.headers, mutated.body, now=mutated.now)
    except REFUSALS as refused:
        return "tells" if len(mutated.secret) > 8 and mutated.secret in str(refused) else refused.slug
    was = verify(
        case.provider, keyring(case.provider, [Secret("key", case.secret)]), case.headers, case.body, now=case.now
    )
    assert mutated.body == case.body
    assert mutated.secret == case.secret
    assert found.body_sha256 == was.body_sha256
    assert found.timestamp == was.timestamp
    assert found.timestamp is None or abs(mutated.now - found.timestamp) <= 300
    assert not was.delivery_id_signed or found.delivery_id == was.delivery_id
    name = case.provider.schemes[0].header.lower()
    values = ",".join(value for header, value in mutated.headers if header.lower() == name)
    right = next(value for header, value in case.headers if header.lower() == name)
    assert right.split(",v1=")[-1] in values
    return "verified"
