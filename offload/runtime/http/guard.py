"""Whom we may call: what is refused of a URL as it is written, and of an address once its name is resolved.

A URL that a stranger gives us must not reach what only we can reach. Two tiers, since a guard that only says no gets
switched off: addresses that nothing allows, and private ones, which the environment's file allows by network
(`offload.contracts.egress` has both). A host is taken in its one usual spelling alone; other spellings are how filters
are passed. Addresses of IPv4 within those of IPv6 follow the same rules.
"""

from __future__ import annotations

import os
import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address
from typing import Final, Self, TypeVar

from offload.contracts.egress import (
    ANY_PORT,
    NEVER,
    PORTS_VARIABLE,
    PRIVATE,
    PRIVATE_VARIABLE,
    SCHEMES_VARIABLE,
    Address,
    Network,
    UnusableEgress,
    networks,
)
from offload.runtime.http.failures import CallFailed
from offload.runtime.settings import MissingSetting

_Value = TypeVar("_Value")

# Longer ones are refused by many servers and proxies (RFC 9110 section 4.1 asks for 8000 at least; a webhook's endpoint
# or an API's address is a fraction of this).
LONGEST_URL: Final = 2048
# RFC 1035 section 2.3.4: a name, without the last dot, and one of its labels.
_LONGEST_HOST: Final = 253
_LONGEST_LABEL: Final = 63

_DEFAULT_PORTS: Final = {"http": 80, "https": 443}
_HIGHEST_PORT: Final = 65535

_URL: Final = re.compile(r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]*)://(?P<authority>[^/?#]*)(?P<path>[^#]*)(?:#.*)?")
_AUTHORITY: Final = re.compile(r"(?:\[(?P<six>[^\[\]]*)\]|(?P<host>[^:\[\]]*))(?::(?P<port>[^:]*))?")
# As the schemes that people know are: `mailto`, `javascript`.
_WORD: Final = re.compile(r"[A-Za-z]{1,12}")
_PORT: Final = re.compile(r"[1-9][0-9]{0,4}")
_LABEL: Final = re.compile(r"(?!-)[a-z0-9_-]+(?<!-)")
# What some resolver takes for a number: decimal, octal, hexadecimal (WHATWG URL, "ends in a number").
_NUMBER: Final = re.compile(r"[0-9]+|0x[0-9a-f]*")

_MAPPED: Final = IPv6Network("::ffff:0:0/96")
_COMPATIBLE: Final = IPv6Network("::/96")
_TRANSLATED: Final = IPv6Network("::ffff:0:0:0/96")
_NAT64: Final = IPv6Network("64:ff9b::/96")
_LOCAL_NAT64: Final = IPv6Network("64:ff9b:1::/48")
_SIX_TO_FOUR: Final = IPv6Network("2002::/16")
_TEREDO: Final = IPv6Network("2001::/32")
_LOOPBACK: Final = IPv6Address("::1")
_UNSPECIFIED: Final = IPv6Address("::")
# All that is assigned to be reached globally (RFC 4291 section 2.4, IANA's ipv6-address-space).
_GLOBAL_UNICAST: Final = IPv6Network("2000::/3")
_PROTOCOLS: Final = IPv6Network("2001::/23")
_UNIQUE_LOCAL: Final = IPv6Network("fc00::/7")
# RFC 5214 section 6.1: the interface is 0000:5efe or 0200:5efe and the IPv4 address.
_ISATAP: Final = 0x00005EFE
_ISATAP_GLOBAL_BIT: Final = 0x02000000


class AddressRefused(CallFailed):
    """The guard refuses the URL or an address of its host; nothing was sent, and trying again changes nothing.

    `rule` is the guard's rule, a short name that does not change. `subject` is what was refused: an address, a host, a
    port, a scheme. `fix` is what to do. `private` says whether the environment's file can allow the address.
    """

    def __init__(self, rule: str, subject: str, why: str, fix: str, *, private: bool = False) -> None:
        self.rule = rule
        self.subject = subject
        self.fix = fix
        self.private = private
        super().__init__(f"refused by rule {rule}: {_shown(subject)}: {why}; {fix}")


@dataclass(frozen=True)
class Target:
    """Where a request goes: `host` in lower-case ASCII (IPv6 without brackets), `path` with its query, never empty."""

    scheme: str
    host: str
    port: int
    path: str

    @property
    def authority(self) -> str:
        """The value of the request's `Host`: the port only where it is not the scheme's own."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == _DEFAULT_PORTS[self.scheme] else f"{host}:{self.port}"

    @property
    def origin(self) -> tuple[str, str, int]:
        """Who is asked: what belongs to one origin is not told another (RFC 9110 section 4.3.1)."""
        return (self.scheme, self.host, self.port)


@dataclass(frozen=True)
class Guard:
    """What may be called: `private` networks, `schemes`, `ports` (None is any)."""

    private: tuple[Network, ...] = ()
    schemes: frozenset[str] = frozenset({"https"})
    ports: frozenset[int] | None = frozenset({443})

    @classmethod
    def from_environment(cls, variables: Mapping[str, str] | None = None) -> Self:
        """The guard that the function's variables describe; where one is missing, the strict default holds.

        Raises MissingSetting with the variable's name where its value is wrong.
        """
        found = os.environ if variables is None else variables
        strict = cls()
        return cls(
            private=_read(found, PRIVATE_VARIABLE, networks, strict.private),
            schemes=_read(found, SCHEMES_VARIABLE, _schemes, strict.schemes),
            ports=_read(found, PORTS_VARIABLE, _ports, strict.ports),
        )

    def target(self, url: str) -> Target:
        """The parts of `url`, absolute and at most 2048 characters long.

        Raises AddressRefused for all that can be seen before its host is resolved; an address that stands in the URL is
        checked.
        """
        if len(url) > LONGEST_URL:
            raise AddressRefused("url-length", str(len(url)), "characters are too many", f"have at most {LONGEST_URL}")
        for character in url:
            if character == "\\" or character.isspace() or unicodedata.category(character)[0] == "C":
                raise AddressRefused("url-characters", repr(character), "is in no URL", "write it percent-encoded")
        match = _URL.fullmatch(url)
        if match is None:
            # No more of it: a path can be a credential, and so can what was pasted in place of a URL.
            scheme, colon, _ = url.partition(":")
            subject = scheme if colon and _WORD.fullmatch(scheme) else "the text"
            raise AddressRefused("url", subject, "begins no absolute URL", "write https://HOST/PATH")
        scheme = match["scheme"].lower()
        if scheme not in self.schemes or scheme not in _DEFAULT_PORTS:
            known = ", ".join(sorted(self.schemes))
            raise AddressRefused("scheme", scheme, f"only {known} may be called", _mend("schemes"))
        host, port = self._host_and_port(match["authority"], scheme)
        path = match["path"]
        if not path.isascii():
            odd = next(character for character in path if not character.isascii())
            raise AddressRefused("url-characters", repr(odd), "is in no URL", "write it percent-encoded")
        return Target(scheme, host, port, path if path.startswith("/") else f"/{path}")

    def _host_and_port(self, authority: str, scheme: str) -> tuple[str, int]:
        if "@" in authority:
            raise AddressRefused("userinfo", "@", "a URL with a name or password", "put credentials into a header")
        if "%" in authority:
            raise AddressRefused("host-spelling", authority, "percent-encoding or a zone", "write the host itself")
        match = _AUTHORITY.fullmatch(authority)
        if match is None:
            raise AddressRefused("host", authority, "is no host and port", "write HOST or HOST:PORT")
        port = _DEFAULT_PORTS[scheme] if match["port"] is None else _port(match["port"])
        self._allow_port(port)
        if match["six"] is None:
            return self._name(match["host"]), port
        try:
            address = IPv6Address(match["six"])
        except ValueError as error:
            raise AddressRefused("host", authority, "is no IPv6 address", "write it as RFC 5952 does") from error
        self.check(address)
        return address.compressed, port

    def _allow_port(self, port: int) -> None:
        if self.ports is not None and port not in self.ports:
            known = ", ".join(str(each) for each in sorted(self.ports))
            raise AddressRefused("port", str(port), f"only {known} may be called", _mend("ports"))

    def _name(self, host: str) -> str:
        name = _ascii(host).lower()
        if name.endswith("."):
            raise AddressRefused("host-spelling", host, "ends in a dot", "leave the dot out")
        labels = name.split(".")
        if _NUMBER.fullmatch(labels[-1]):
            try:
                address = IPv4Address(name)
            except ValueError as error:
                raise AddressRefused(
                    "host-spelling", host, "is a number, and no IPv4 address as usually written", "write a.b.c.d"
                ) from error
            self.check(address)
            return name
        if len(name) > _LONGEST_HOST or any(len(label) > _LONGEST_LABEL for label in labels):
            fix = f"have at most {_LONGEST_HOST} characters, {_LONGEST_LABEL} between dots (RFC 1035)"
            raise AddressRefused("host", host, "is too long", fix)
        if not all(_LABEL.fullmatch(label) for label in labels):
            raise AddressRefused("host", host, "is no name of a host", "use letters, digits, hyphens and dots")
        return name

    def checked(self, host: str, port: int, addresses: Iterable[str]) -> tuple[Address, ...]:
        """Each of the `addresses` that `host` was resolved to, once, in their order.

        Raises AddressRefused where the port, or any one of them, is refused: whoever answers for a name that leads
        inside as well as outside means no good, or it is a mistake.
        """
        self._allow_port(port)
        found: dict[Address, None] = {}
        for text in addresses:
            try:
                found[self.check(text)] = None
            except AddressRefused as error:
                if text == host:
                    raise
                raise AddressRefused(
                    error.rule,
                    error.subject,
                    f"'{_shown(host)}' has this address, and with one of its addresses a host is refused",
                    error.fix,
                    private=error.private,
                ) from error
        return tuple(found)

    def check(self, address: str | Address) -> Address:
        """The address, typed, if it may be called; raises AddressRefused with the rule, the address and the fix."""
        try:
            typed = ip_address(address) if isinstance(address, str) else address
        except ValueError as error:
            raise AddressRefused("host", str(address), "is no address", "write it as RFC 5952 does") from error
        if isinstance(typed, IPv6Address):
            if typed.scope_id is not None:
                raise AddressRefused("zone", str(typed), "an address with a zone is of one link", "nothing allows it")
            inner, outer = _embedded(typed)
            for each in inner:
                self._apply(each, typed)
            if not outer:
                return typed
        self._apply(typed, typed)
        return typed

    def _apply(self, address: Address, whole: Address) -> None:
        subject = str(whole) if address == whole else f"{whole} (in it {address})"
        for network, rule, what in NEVER:
            if address in network:
                raise AddressRefused(rule, subject, what, "nothing allows it")
        if isinstance(address, IPv6Address) and not (
            address in _GLOBAL_UNICAST or address in _UNIQUE_LOCAL or address in _LOCAL_NAT64 or address == _LOOPBACK
        ):
            raise AddressRefused("reserved", subject, "reserved (RFC 4291)", "nothing allows it")
        if any(address in network for network in self.private):
            return
        fix = f"to allow it, add {address}/{address.max_prefixlen} or its network to [egress] private"
        fix += " in environments/NAME.toml"
        for network, rule, what in PRIVATE:
            if address in network:
                raise AddressRefused(rule, subject, what, fix, private=True)
        # What the tables do not have, and the interpreter's registry does.
        if not address.is_global or address in _PROTOCOLS:
            raise AddressRefused("not-global", subject, "not globally reachable (RFC 6890)", fix, private=True)


def _embedded(address: IPv6Address) -> tuple[tuple[IPv4Address, ...], bool]:
    """The IPv4 addresses within `address`, and whether it has to be checked itself too."""
    number = int(address)
    low = IPv4Address(number & 0xFFFFFFFF)
    if address in (_UNSPECIFIED, _LOOPBACK):
        return (), True
    if any(address in network for network in (_MAPPED, _COMPATIBLE, _TRANSLATED, _NAT64)):
        return (low,), False
    interface = number >> 32 & 0xFFFFFFFF
    isatap = (low,) if interface & ~_ISATAP_GLOBAL_BIT == _ISATAP else ()
    if address in _SIX_TO_FOUR:
        return (IPv4Address(number >> 80 & 0xFFFFFFFF), *isatap), False
    if address in _TEREDO:
        return (IPv4Address(number >> 64 & 0xFFFFFFFF), IPv4Address(~number & 0xFFFFFFFF), *isatap), False
    if address in _LOCAL_NAT64:
        return tuple(_translated(number)), True
    return isatap, True


def _translated(number: int) -> Iterator[IPv4Address]:
    """What an address of the local prefix may mean: how long the operator's own prefix is cannot be seen."""
    # RFC 6052 section 2.2: bits 64 to 71 are none of the address's, and what follows the address is zero.
    if number & 0xFFFFFF:
        yield IPv4Address(number & 0xFFFFFFFF)
        return
    packed = number.to_bytes(16, "big")
    for octets in (packed[6:8] + packed[9:11], packed[7:8] + packed[9:12], packed[9:13], packed[12:16]):
        if any(octets):
            yield IPv4Address(octets)


def _ascii(host: str) -> str:
    """The name as resolvers take it; only letters that ASCII has no like of may be others."""
    if host.isascii():
        return host
    # Full-width digits, ideographic dots, letters in circles: they become ASCII, and are a disguise of it.
    plain = unicodedata.normalize("NFKC", host).replace("。", ".")
    if plain.isascii():
        raise AddressRefused("host-spelling", host, "is another spelling of ASCII", f"write {plain}")
    # Digits of other scripts stay what they are here, and are numbers to some programs.
    digits = "".join(str(unicodedata.digit(each)) if each.isdigit() else each for each in plain)
    if _NUMBER.fullmatch(digits.rstrip(".").rpartition(".")[2].lower()):
        raise AddressRefused("host-spelling", host, "is another spelling of an address", "write a.b.c.d")
    try:
        return host.encode("idna").decode("ascii")
    except UnicodeError as error:
        raise AddressRefused("host", host, f"is no international name ({error})", "write it as xn--") from error


def _port(text: str) -> int:
    if not _PORT.fullmatch(text) or int(text) > _HIGHEST_PORT:
        raise AddressRefused("port", text or "''", "is no port", f"write 1 to {_HIGHEST_PORT}, or leave the colon out")
    return int(text)


def _mend(key: str) -> str:
    return f"to allow it, add it to [egress] {key} in environments/NAME.toml"


def _shown(text: str) -> str:
    """The text, as a log can take it: strangers write URLs."""
    return text.encode("ascii", "backslashreplace").decode("ascii")[:300]


def _schemes(texts: list[str]) -> frozenset[str]:
    wrong = [text for text in texts if text not in _DEFAULT_PORTS]
    if wrong or not texts:
        raise UnusableEgress(f"'{','.join(texts)}': http and https are known")
    return frozenset(texts)


def _ports(texts: list[str]) -> frozenset[int] | None:
    if texts == [ANY_PORT]:
        return None
    if not texts or not all(_PORT.fullmatch(text) and int(text) <= _HIGHEST_PORT for text in texts):
        raise UnusableEgress(f"'{','.join(texts)}': write ports of 1 to {_HIGHEST_PORT}, or {ANY_PORT} for any")
    return frozenset(int(text) for text in texts)


def _read(found: Mapping[str, str], name: str, read: Callable[[list[str]], _Value], default: _Value) -> _Value:
    if name not in found:
        return default
    try:
        return read([text.strip() for text in found[name].split(",") if text.strip()])
    except UnusableEgress as error:
        raise MissingSetting(f"the environment variable {name}: {error}") from error
