"""Whether a webhook is what its sender signed: pure functions over the request's bytes, its headers and the keys.

Nothing that a request holds raises anything but a refusal. HMACs are compared by `hmac.compare_digest` on the decoded
bytes, which takes as long wherever the first difference is; every active key is tried.
"""

from __future__ import annotations

import hmac
import json
import re
from collections.abc import Iterable, Sequence
from hashlib import sha256
from typing import Final, NamedTuple

import msgspec
from msgspec import Raw, Struct

from offload.contracts.webhooks_in.scheme import (
    Algorithm,
    Alternatives,
    BodyField,
    BodyHash,
    Header,
    Place,
    Provider,
    Scheme,
    Signature,
    Timestamp,
    Unit,
)
from offload.runtime.webhooks_in.refusals import (
    BadSignature,
    FromTheFuture,
    MalformedHandshake,
    MalformedHeader,
    MalformedSignature,
    MalformedTimestamp,
    NoActiveSecret,
    NoDeliveryId,
    NoSignature,
    NoTimestamp,
    RepeatedHeader,
    Stale,
)
from offload.runtime.webhooks_in.secrets import Key, decoded

# What a signature header may hold, in characters and signatures: two live secrets make two, and every one costs a
# comparison or, for ed25519, some milliseconds.
LONGEST_SIGNATURES: Final = 2048
MOST_SIGNATURES: Final = 8
# An id or a type in a header or the body, in characters; events have the same bound.
LONGEST_NAME: Final = 256

# A comma in it would be two headers that a proxy has joined.
_NAME: Final = re.compile(r"[!-+\--~]{1,256}")
_SIGNATURES: Final = re.compile(r"[ -~]{1,2048}")
_SECONDS: Final = re.compile(r"[0-9]{1,12}")
_MILLISECONDS: Final = re.compile(r"[0-9]{1,15}")
_ECHO: Final = re.compile(r"[ -~]{1,1024}")
# A form that Slack or GitHub sends has at most some thirty fields.
_MOST_FIELDS: Final = 200
_FORM_PAYLOAD: Final = "payload"
_DIGESTS: Final = {Algorithm.HMAC_SHA256: "sha256", Algorithm.HMAC_SHA512: "sha512"}


class Answer(Struct, frozen=True):
    """What a handshake is answered with, under status 200; `event` says whether it is an event all the same."""

    content_type: str
    body: bytes
    event: bool


class Verified(Struct, frozen=True, kw_only=True):
    """What was verified, and by which key.

    `timestamp` is in seconds since 1970, None where the scheme signs none. `delivery_id`, `event_type` and `account`,
    which is empty where there is none, are as the sender wrote them; where `..._signed` is false they are in a header
    that anybody can change who has one signed request. `body_sha256` is in hex. `handshake` is there when the request
    wants this answer.
    """

    provider: str
    scheme: str
    key_id: str
    delivery_id: str
    delivery_id_signed: bool
    event_type: str | None
    event_type_signed: bool
    account: str
    account_signed: bool
    timestamp: int | None
    body_sha256: str
    handshake: Answer | None = None


def verify(
    provider: Provider, keys: Sequence[Key], headers: Iterable[tuple[str, str]], body: bytes, *, now: float
) -> Verified:
    """What of a request is verified by one of `keys` (from `keyring`).

    `headers` are the request's, in any case, with repetitions as they came; `body` is its raw bytes; `now` is in
    seconds since 1970. Raises a WebhookRefused, and nothing else whatever the request holds. The signature is looked
    at before the time: what is stale was signed by the sender.
    """
    if not keys:
        raise NoActiveSecret(f"{provider.title} has no active secret")
    request = _Request(headers, body)
    scheme = next((scheme for scheme in provider.schemes if request.has(scheme.header)), None)
    if scheme is None:
        names = " or ".join(scheme.header for scheme in provider.schemes)
        raise NoSignature(f"there is no header {names}")
    signed = _signed(scheme, request)
    key = _key(signed, keys, body)
    if key is None:
        raise BadSignature(f"none of {len(keys)} active secrets makes the signature in {scheme.header}")
    seconds = _in_time(scheme.timestamp, signed.timestamp, now) if scheme.timestamp else None
    delivery_id = _named(scheme.delivery_id, request)
    if delivery_id is None:
        raise NoDeliveryId(f"there is no {_places(scheme.delivery_id)}")
    event_type = _named(scheme.event_type, request)
    account = _named(scheme.account, request)
    return Verified(
        provider=provider.name,
        scheme=scheme.name,
        key_id=key.key_id,
        delivery_id=delivery_id.text,
        delivery_id_signed=not delivery_id.in_header or "{id}" in scheme.pieces(),
        event_type=event_type.text if event_type else None,
        event_type_signed=event_type is not None and not event_type.in_header,
        account=account.text if account else "",
        account_signed=account is not None and not account.in_header,
        timestamp=seconds,
        body_sha256=request.body_sha256(),
        handshake=_handshake(provider, request),
    )


def content_to_sign(scheme: Scheme, delivery_id: str, timestamp: str, body: bytes) -> list[bytes]:
    """What the scheme signs, in pieces: the body, which may be large, is not copied."""
    values = {"{id}": delivery_id.encode(), "{timestamp}": timestamp.encode(), "{body}": body}
    return [values.get(piece, piece.encode()) for piece in scheme.pieces()]


def mac(algorithm: Algorithm, key: bytes, content: Iterable[bytes]) -> bytes:
    """The HMAC of the content's pieces, one after the other."""
    made = hmac.new(key, digestmod=_DIGESTS[algorithm])
    for piece in content:
        made.update(piece)
    return made.digest()


class _Request:
    """The request as schemes read it."""

    def __init__(self, headers: Iterable[tuple[str, str]], body: bytes) -> None:
        self._headers: dict[str, list[str]] = {}
        for name, value in headers:
            # Of other letters some have an ASCII one as their lower case: the Kelvin sign, for one.
            if name.isascii():
                self._headers.setdefault(name.lower(), []).append(value.strip(" \t"))
        self.body = body
        self._document: dict[str, Raw] | dict[str, str] | None = None
        self._body_sha256 = ""

    def has(self, name: str) -> bool:
        return any(self._headers.get(name.lower(), ()))

    def all(self, name: str) -> list[str]:
        return self._headers.get(name.lower(), [])

    def one(self, name: str) -> str | None:
        """A header that may come once; None when it is not there or empty. Raises RepeatedHeader, MalformedHeader."""
        values = self.all(name)
        if len(values) > 1:
            raise RepeatedHeader(f"{name} came {len(values)} times")
        if not values or not values[0]:
            return None
        if not _NAME.fullmatch(values[0]):
            raise MalformedHeader(
                f"{name} is longer than {LONGEST_NAME}, or not printable ASCII without spaces and commas"
            )
        return values[0]

    def body_sha256(self) -> str:
        if not self._body_sha256:
            self._body_sha256 = sha256(self.body).hexdigest()
        return self._body_sha256

    def field(self, path: tuple[str, ...], shape: re.Pattern[str]) -> str | None:
        """The text at a path of the body when it has this shape, else None."""
        if self._document is None:
            self._document = _document(self.body)
        value: Raw | str | None = self._document.get(path[0])
        for name in path[1:]:
            value = _object(bytes(value)).get(name) if isinstance(value, Raw) else None
        if isinstance(value, Raw):
            value = _scalar(value)
        return value if value is not None and shape.fullmatch(value) else None

    def text(self, place: Place) -> str | None:
        match place:
            case Header():
                return self.one(place.name)
            case BodyField():
                return self.field(place.path, _NAME)
            case BodyHash():
                return self.body_sha256()


class _Signed(NamedTuple):
    """What a request says was signed, and the signatures, decoded."""

    scheme: Scheme
    delivery_id: str
    timestamp: str
    signatures: tuple[tuple[Signature, bytes], ...]


def _signed(scheme: Scheme, request: _Request) -> _Signed:
    items = _items(scheme, request)
    pieces = scheme.pieces()
    delivery_id = ""
    if "{id}" in pieces:
        place = scheme.delivery_id[0][0]
        delivery_id = request.text(place) or ""
        if not delivery_id:
            raise NoDeliveryId(f"there is no {_places(scheme.delivery_id)}")
        after = "".join(pieces[pieces.index("{id}") + 1 :])[:1]
        # With it, one signature would be good for two ways of cutting what was signed (Standard Webhooks,
        # "Signature scheme": the id must "not be allowed to include any `.`").
        if after and after in delivery_id:
            raise MalformedHeader(f"{_places(scheme.delivery_id)} has '{after}', which ends it in what is signed")
    timestamp = _timestamp(scheme.timestamp, items, request) if scheme.timestamp else ""
    known = [
        (signature, item.removeprefix(signature.prefix))
        for item in items
        for signature in scheme.signatures
        if item.startswith(signature.prefix) and not _is_time(scheme.timestamp, item)
    ]
    if not known:
        if not scheme.separator:
            raise MalformedSignature(f"{scheme.header} does not begin with '{scheme.signatures[0].prefix}'")
        prefixes = " or ".join(f"'{signature.prefix}'" for signature in scheme.signatures)
        raise NoSignature(f"{scheme.header} has no item that begins with {prefixes}")
    if len(known) > MOST_SIGNATURES:
        raise MalformedSignature(
            f"{scheme.header} has {len(known)} signatures; at most {MOST_SIGNATURES} are looked at"
        )
    # Beside one that holds, what is none is passed over, as the senders' own libraries do.
    signatures = tuple(
        (signature, content)
        for signature, text in known
        if (content := decoded(text, signature.encoding)) is not None
        and len(content) == signature.algorithm.signature_bytes
    )
    if not signatures:
        signature = known[0][0]
        length = signature.algorithm.signature_bytes
        raise MalformedSignature(f"{scheme.header}: a signature is not {length} bytes in {signature.encoding}")
    return _Signed(scheme, delivery_id, timestamp, signatures)


def _items(scheme: Scheme, request: _Request) -> list[str]:
    values = request.all(scheme.header)
    # Only a comma separated list may be sent in several lines of one name (RFC 9110, 5.3).
    if len(values) > 1 and scheme.separator != ",":
        raise RepeatedHeader(f"{scheme.header} came {len(values)} times")
    value = ",".join(values)
    if not _SIGNATURES.fullmatch(value):
        raise MalformedSignature(f"{scheme.header} is longer than {LONGEST_SIGNATURES}, or not printable ASCII")
    if not scheme.separator:
        return [value]
    return [item for each in value.split(scheme.separator) if (item := each.strip(" "))]


def _is_time(timestamp: Timestamp | None, item: str) -> bool:
    return bool(timestamp and timestamp.item and item.startswith(timestamp.item))


def _timestamp(timestamp: Timestamp, items: list[str], request: _Request) -> str:
    """The timestamp as written, which is how it was signed."""
    if timestamp.header:
        text = request.one(timestamp.header)
    else:
        found = [item.removeprefix(timestamp.item) for item in items if _is_time(timestamp, item)]
        if len(found) > 1:
            raise MalformedTimestamp(f"there are {len(found)} items '{timestamp.item}'")
        text = found[0] if found else None
    where = timestamp.header or f"item '{timestamp.item}'"
    if text is None:
        raise NoTimestamp(f"there is no {where}")
    shape = _SECONDS if timestamp.unit is Unit.SECONDS else _MILLISECONDS
    if not shape.fullmatch(text):
        raise MalformedTimestamp(f"{where} is not a whole number of {timestamp.unit} since 1970")
    return text


def _key(signed: _Signed, keys: Sequence[Key], body: bytes) -> Key | None:
    """The first key by which a signature holds. A version's signatures are held against keys of its form alone."""
    content = content_to_sign(signed.scheme, signed.delivery_id, signed.timestamp, body)
    for key in keys:
        for version in signed.scheme.signatures:
            if version.key != key.form:
                continue
            candidates = [content for signature, content in signed.signatures if signature is version]
            if candidates and _holds(version.algorithm, key, candidates, content):
                return key
    return None


def _holds(algorithm: Algorithm, key: Key, candidates: list[bytes], content: list[bytes]) -> bool:
    if algorithm is Algorithm.ED25519:
        # Here, so that it costs those alone whose sender uses it.
        from offload.runtime.webhooks_in import ed25519

        message = b"".join(content)
        return any(ed25519.verify(key.content, candidate, message) for candidate in candidates)
    expected = mac(algorithm, key.content, content)
    return any(hmac.compare_digest(expected, candidate) for candidate in candidates)


def _in_time(timestamp: Timestamp, text: str, now: float) -> int:
    seconds = int(text) / (1 if timestamp.unit is Unit.SECONDS else 1000)
    if seconds < now - timestamp.past:
        raise Stale(f"signed more than {timestamp.past} s ago")
    if seconds > now + timestamp.future:
        raise FromTheFuture(f"signed more than {timestamp.future} s ahead of our clock")
    return int(seconds)


class _Name(NamedTuple):
    text: str
    in_header: bool


def _named(alternatives: Alternatives, request: _Request) -> _Name | None:
    for parts in alternatives:
        texts = [request.text(place) for place in parts]
        found = [text for text in texts if text is not None]
        if len(found) == len(parts):
            return _Name(".".join(found), any(isinstance(place, Header) for place in parts))
    return None


def _handshake(provider: Provider, request: _Request) -> Answer | None:
    for handshake in provider.handshakes:
        if request.text(handshake.where) != handshake.equals:
            continue
        answer: str | None = handshake.answer
        if handshake.echo:
            answer = request.field(handshake.echo, _ECHO)
        if answer is None:
            raise MalformedHandshake(f"{handshake.equals}: there is no '{'.'.join(handshake.echo)}' to be echoed")
        return Answer(handshake.content_type, answer.encode(), handshake.event)
    return None


def _places(alternatives: Alternatives) -> str:
    """The places for a message: `webhook-id`."""
    names = []
    for place in (place for parts in alternatives for place in parts):
        match place:
            case Header():
                names.append(place.name)
            case BodyField():
                names.append(f"'{'.'.join(place.path)}' in the body")
            case BodyHash():
                pass
    return " or ".join(names)


def _document(body: bytes) -> dict[str, Raw] | dict[str, str]:
    """The body's fields, by what the body is and not by what an unsigned Content-Type says. Empty when it has none."""
    if body[:64].lstrip()[:1] == b"{":
        return _object(body)
    if not body.isascii() or b"=" not in body[:LONGEST_NAME]:
        return {}
    from urllib.parse import parse_qsl

    try:
        fields = dict(parse_qsl(body.decode("ascii"), max_num_fields=_MOST_FIELDS))
    except ValueError:
        return {}
    payload = fields.get(_FORM_PAYLOAD, "")
    return _object(payload.encode(errors="replace")) if payload.lstrip()[:1] == "{" else fields


def _object(content: bytes) -> dict[str, Raw]:
    try:
        return msgspec.json.decode(content, type=dict[str, Raw])
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        pass
    # Half a surrogate pair, anywhere, is JSON (RFC 8259, 8.2) but not for msgspec: no text in a body may hide its type.
    try:
        fields = json.loads(content)
        return {name: Raw(json.dumps(value).encode()) for name, value in fields.items()} if type(fields) is dict else {}
    except (ValueError, RecursionError):
        return {}


def _scalar(value: Raw) -> str | None:
    try:
        return str(msgspec.json.decode(value, type=str | int))
    except (msgspec.DecodeError, RecursionError, UnicodeError, ValueError):
        return None
