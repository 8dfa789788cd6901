"""How a third party signs its webhooks, as data: `providers.py` is the table, `offload/runtime/webhooks_in` reads it.

A scheme that is not in the table is one more entry there, and no code. What an entry cannot say, and so no scheme here
may need: the request's URL or method among the signed bytes, a signature in the body, a time that is not a Unix time,
SHA-1.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from enum import StrEnum
from typing import Final, TypeAlias

import msgspec
from msgspec import Struct

_TOKEN: Final = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
_PROVIDER: Final = re.compile(r"[a-z][a-z0-9-]{0,39}")
_PLACEHOLDER: Final = re.compile(r"(\{[^{}]*\})")
_PLACEHOLDERS: Final = ("{id}", "{timestamp}", "{body}")
_SEPARATORS: Final = ("", " ", ",", ";")


class Algorithm(StrEnum):
    """What makes the signature. SHA-1 and MD5 are left out on purpose."""

    HMAC_SHA256 = "hmac-sha256"
    HMAC_SHA512 = "hmac-sha512"
    ED25519 = "ed25519"

    @property
    def signature_bytes(self) -> int:
        """How long a signature is, decoded (RFC 2104 with FIPS 180-4; RFC 8032, 5.1.6)."""
        return 32 if self is Algorithm.HMAC_SHA256 else 64


class Encoding(StrEnum):
    """How bytes are written. All of them strict: one text for one value, and nothing around it."""

    TEXT = "text"
    """The text's own UTF-8; for secrets alone."""
    HEX = "hex"
    """Lower case."""
    HEX_UPPER = "hex-upper"
    BASE64 = "base64"
    """RFC 4648, 4: the standard alphabet, with padding."""


class Unit(StrEnum):
    """What a timestamp counts since 1970."""

    SECONDS = "seconds"
    MILLISECONDS = "milliseconds"


class Header(Struct, frozen=True):
    """A header of the request; its name in any case."""

    name: str


class BodyField(Struct, frozen=True):
    """A text or an integer in the body, by its path.

    The body is a JSON object, or a form, or a form whose field `payload` is a JSON object (then the path begins in
    that).
    """

    path: tuple[str, ...]


class BodyHash(Struct, frozen=True):
    """The SHA-256 of the body, in hex."""


Place: TypeAlias = Header | BodyField | BodyHash
Alternatives: TypeAlias = tuple[tuple[Place, ...], ...]
"""Where a name is. The first alternative that is there whole counts; its parts are joined by full stops."""


class KeyForm(Struct, frozen=True, kw_only=True):
    """How the sender's settings write a secret; `shortest` and `longest` are the bytes of the key, decoded."""

    encoding: Encoding = Encoding.TEXT
    prefix: str = ""
    shortest: int = 1
    longest: int = 4096


class Signature(Struct, frozen=True, kw_only=True):
    """One version of a signature: what stands before it, how it is written and made, and the key that it takes."""

    prefix: str
    encoding: Encoding
    algorithm: Algorithm = Algorithm.HMAC_SHA256
    key: KeyForm = KeyForm()


class Timestamp(Struct, frozen=True, kw_only=True):
    """When the sender signed: in a header of its own, or an item of the signature's header that begins with `item`.

    `past` and `future` are how far from our clock it may be, in seconds, the last one included.
    """

    header: str = ""
    item: str = ""
    unit: Unit = Unit.SECONDS
    past: int = 300
    future: int = 300


class Scheme(Struct, frozen=True, kw_only=True):
    """One way of signing.

    `header` holds the signatures: one, or several apart by `separator` (`" "`, `","` or `";"`), of which one that
    holds is enough; those of no known version, and what is no signature, are passed over. `signed` is what is signed,
    with `{id}`, `{timestamp}` and `{body}` standing for the header's text and the body's bytes.

    `account` is where the sender says whose event it is: the store, the workspace, the hook's organization.

    A header that comes twice is refused, with one exception: where `separator` is a comma the header is a list by RFC
    9110 (5.3), and its repetitions are joined by commas.

    Raises ValueError for an entry that contradicts itself.
    """

    name: str
    header: str
    signatures: tuple[Signature, ...]
    delivery_id: Alternatives
    separator: str = ""
    signed: str = "{body}"
    timestamp: Timestamp | None = None
    event_type: Alternatives = ()
    account: Alternatives = ()

    def __post_init__(self) -> None:
        for name in (self.header, *(place.name for place in self._places() if isinstance(place, Header))):
            if not _TOKEN.fullmatch(name):
                raise self._wrong(f"'{name}' is no header's name")
        if self.separator not in _SEPARATORS:
            raise self._wrong(f"separator '{self.separator}' is not one of {_SEPARATORS}")
        if not self.signatures:
            raise self._wrong("has no signatures")
        if not self.separator and len(self.signatures) > 1:
            raise self._wrong("has several versions of signatures and no separator")
        if any(signature.encoding is Encoding.TEXT for signature in self.signatures):
            raise self._wrong("a signature is hex or base64, not text")
        self._check_signed()

    def _places(self) -> list[Place]:
        return [place for parts in (*self.delivery_id, *self.event_type, *self.account) for place in parts]

    def _check_signed(self) -> None:
        pieces = self.pieces()
        wrong = [piece for piece in pieces if piece.startswith("{") and piece not in _PLACEHOLDERS]
        if (
            wrong
            or not "".join(pieces).isascii()
            or len(set(_PLACEHOLDERS) & set(pieces)) != sum(piece in _PLACEHOLDERS for piece in pieces)
        ):
            raise self._wrong(
                f"signed '{self.signed}' takes {', '.join(_PLACEHOLDERS)}, each once, and ASCII around them"
            )
        if "{body}" not in pieces:
            raise self._wrong("the body has to be signed: put {body} into `signed`")
        if ("{timestamp}" in pieces) != (self.timestamp is not None):
            raise self._wrong(
                "a timestamp is worth something only when it is signed: give both, `timestamp` and {timestamp}"
            )
        if self.timestamp is not None and bool(self.timestamp.header) == bool(self.timestamp.item):
            raise self._wrong("the timestamp is in a header or an item of the signature's header: give one of them")
        if self.timestamp is not None and self.timestamp.item and not self.separator:
            raise self._wrong("a timestamp among the signatures needs a separator")
        if "{id}" in pieces and not (
            len(self.delivery_id) == 1 and len(self.delivery_id[0]) == 1 and isinstance(self.delivery_id[0][0], Header)
        ):
            raise self._wrong("a delivery id that is signed as {id} is in one header, and nowhere else")
        if "{id}" in pieces and [*pieces, "{"][pieces.index("{id}") + 1].startswith("{"):
            raise self._wrong("behind {id} there has to be text that ends it: what is signed could be cut in two ways")
        if not self.delivery_id:
            raise self._wrong("has no delivery id: where the sender gives none, it is ((BodyHash(),),)")

    def _wrong(self, what: str) -> ValueError:
        return ValueError(f"scheme '{self.name}': {what}")

    def pieces(self) -> list[str]:
        """`signed`, cut into its placeholders and the text between them."""
        return [piece for piece in _PLACEHOLDER.split(self.signed) if piece]


class Handshake(Struct, frozen=True, kw_only=True):
    """A request by which the sender only tries the endpoint: signed like any other, and answered.

    It is one when `where` says `equals`. The answer is the text at `echo` (a path in the body), else `answer`. It is an
    event too when `event` says so.
    """

    where: Place
    equals: str
    echo: tuple[str, ...] = ()
    answer: str = ""
    content_type: str = "text/plain; charset=utf-8"
    event: bool = False


class Sender(Struct, frozen=True, kw_only=True):
    """How the sender behaves, in seconds.

    `answer_within`: it takes no answer for a failure after that. `retries_for`: from its first attempt to its last; 0
    is no retry. `remember_for`: how long a delivery's id has to be remembered, which is longer than a person can have
    it sent anew.
    """

    answer_within: float
    retries_for: int
    remember_for: int


class Provider(Struct, frozen=True, kw_only=True):
    """Who sends webhooks. `name` is in the endpoint's path and in the events' types; `title` is for people.

    Of several `schemes` the first whose signature header is in the request counts, alone.

    The rest is for people. `key_shown_at`: where a sender that makes the secret itself shows it; empty where we may
    make one. `sent_again`: how to have it send a delivery anew.

    Raises ValueError for a name that does not fit into a path, and for one that forgets sooner than the sender retries.
    """

    name: str
    title: str
    schemes: tuple[Scheme, ...]
    sender: Sender
    handshakes: tuple[Handshake, ...] = ()
    key_shown_at: str = ""
    sent_again: str = ""

    def __post_init__(self) -> None:
        if not _PROVIDER.fullmatch(self.name):
            raise ValueError(
                f"provider '{self.name}': a name is a lower-case letter, then up to 39 of a-z, 0-9 and '-'"
            )
        if not self.schemes:
            raise ValueError(f"provider '{self.name}': has no scheme")
        if self.sender.remember_for < self.sender.retries_for:
            raise ValueError(f"provider '{self.name}': remember_for has to be at least retries_for")

    def named(self, name: str, title: str = "") -> Provider:
        """The same under another name: for a sender that keeps a standard, and for a second account at one sender."""
        return msgspec.structs.replace(self, name=name, title=title or self.title)


class Providers(Mapping[str, Provider]):
    """The providers of an app, by their names.

    `module` is the module whose `PROVIDERS` they are, `__name__`: the function that receives webhooks imports it, and
    nothing else of the app. Raises ValueError for two of one name.
    """

    def __init__(self, module: str = "", *providers: Provider) -> None:
        self.module: Final = module
        self._by_name = {each.name: each for each in providers}
        if len(self._by_name) < len(providers):
            names = [each.name for each in providers]
            twice = min(name for name in names if names.count(name) > 1)
            raise ValueError(f"{module}: two providers are named '{twice}': give one another name, PROVIDER.named('…')")

    def __getitem__(self, name: str) -> Provider:
        return self._by_name[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._by_name)

    def __len__(self) -> int:
        return len(self._by_name)
