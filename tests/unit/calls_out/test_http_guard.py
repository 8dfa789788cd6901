"""The guard of calls out: each case is a way in that somebody tries; none of them may open a connection."""

# ruff: noqa: RUF001, S104

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from typing import Any, NamedTuple

import httpcore
import pytest

from offload.contracts.egress import NEVER, UnusableEgress, networks
from offload.runtime.http.async_connect import AsyncGuardedBackend, async_pool
from offload.runtime.http.client import Client
from offload.runtime.http.connect import GuardedBackend, pool
from offload.runtime.http.guard import AddressRefused, Guard, Target
from offload.runtime.settings import MissingSetting
from tests.odd_server import answer, odd_server

STRICT = Guard()
HERE = ip_network("127.0.0.1/32")


class Watch:
    """What was connected to, and looked up by the system, while it watched: the interpreter tells of both."""

    def __init__(self) -> None:
        self.on = False
        self.connected: list[Any] = []
        self.looked_up: list[Any] = []
        sys.addaudithook(self._hear)

    def _hear(self, event: str, arguments: tuple[Any, ...]) -> None:
        if self.on and event == "socket.connect":
            self.connected.append(arguments[1])
        elif self.on and event == "socket.getaddrinfo":
            self.looked_up.append(arguments[0])


_WATCH = Watch()


@pytest.fixture
def watch() -> Iterator[Watch]:
    _WATCH.connected, _WATCH.looked_up, _WATCH.on = [], [], True
    yield _WATCH
    _WATCH.on = False


def names(addresses: Sequence[str]) -> Callable[[str, int], Sequence[str]]:
    """A resolver that gives every host these addresses."""
    return lambda host, port: addresses


class Attempt(NamedTuple):
    """What is tried: a URL, what its host resolves to, and the rule that has to refuse it."""

    tries: str
    url: str
    rule: str
    addresses: Sequence[str] = ()


def spelled() -> Iterator[Attempt]:
    """Addresses in the URL itself, in the spellings by which filters are passed."""
    loopback = {
        "loopback as usually written": ("127.0.0.1", "loopback"),
        "another address of the loopback network": ("127.8.9.10", "loopback"),
        "the last address of the loopback network": ("127.255.255.255", "loopback"),
        "loopback as one decimal number": ("2130706433", "host-spelling"),
        "loopback as one hexadecimal number": ("0x7f000001", "host-spelling"),
        "loopback as one hexadecimal number in capitals": ("0X7F000001", "host-spelling"),
        "loopback as one octal number": ("017700000001", "host-spelling"),
        "loopback with octal parts": ("0177.0.0.1", "host-spelling"),
        "loopback with octal parts and more zeros": ("0000177.0000.0000.0001", "host-spelling"),
        "loopback with hexadecimal parts": ("0x7f.0x0.0x0.0x1", "host-spelling"),
        "loopback in two parts": ("127.1", "host-spelling"),
        "loopback in three parts": ("127.0.1", "host-spelling"),
        "loopback in hexadecimal and decimal parts": ("0x7f.1", "host-spelling"),
        "loopback with leading zeros": ("127.000.000.001", "host-spelling"),
        "loopback with a last octal part": ("127.0.0.01", "host-spelling"),
        "loopback and a dot": ("127.0.0.1.", "host-spelling"),
        "loopback and two dots": ("127.0.0.1..", "host-spelling"),
        "loopback in five parts": ("127.0.0.0.1", "host-spelling"),
        "loopback by a number that wraps around": ("6425673729", "host-spelling"),
        "loopback by a part that wraps around": ("383.0.0.1", "host-spelling"),
        "loopback in full-width digits": ("１２７.０.０.１", "host-spelling"),
        "loopback with one full-width digit": ("１27.0.0.1", "host-spelling"),
        "loopback in digits in circles": ("①②⑦.⓪.⓪.①", "host-spelling"),
        "loopback in superscript digits": ("¹²⁷.⁰.⁰.¹", "host-spelling"),
        "loopback in mathematical digits": ("𝟏𝟐𝟕.𝟎.𝟎.𝟏", "host-spelling"),
        "loopback in Arabic digits": ("١٢٧.٠.٠.١", "host-spelling"),
        "loopback with ideographic dots": ("127。0。0。1", "host-spelling"),
        "loopback with full-width dots": ("127．0．0．1", "host-spelling"),
        "loopback with half-width ideographic dots": ("127｡0｡0｡1", "host-spelling"),
        "loopback percent-encoded": ("%31%32%37.0.0.1", "host-spelling"),
        "loopback with a percent-encoded dot": ("127%2e0%2e0%2e1", "host-spelling"),
        "loopback percent-encoded twice": ("%2531%2532%2537.0.0.1", "host-spelling"),
        "zero": ("0", "host-spelling"),
        "zero in hexadecimal": ("0x0", "host-spelling"),
        "hexadecimal without digits": ("0x", "host-spelling"),
        "a name whose last label is a number": ("localhost.1", "host-spelling"),
        "a name whose last label is hexadecimal": ("example.0x1", "host-spelling"),
        "this host": ("0.0.0.0", "unspecified"),
        "this network": ("0.1.2.3", "unspecified"),
    }
    for tries, (host, rule) in loopback.items():
        yield Attempt(tries, f"https://{host}/", rule)
    metadata = {
        "metadata as usually written": ("169.254.169.254", "metadata"),
        "metadata as one decimal number": ("2852039166", "host-spelling"),
        "metadata as one hexadecimal number": ("0xa9fea9fe", "host-spelling"),
        "metadata as one octal number": ("025177524776", "host-spelling"),
        "metadata with octal parts": ("0251.0376.0251.0376", "host-spelling"),
        "metadata with hexadecimal parts": ("0xa9.0xfe.0xa9.0xfe", "host-spelling"),
        "metadata in two parts": ("169.16689662", "host-spelling"),
        "metadata in three parts": ("169.254.43518", "host-spelling"),
        "metadata in mixed parts": ("0xa9.254.0251.0xfe", "host-spelling"),
        "metadata in full-width digits": ("１６９.２５４.１６９.２５４", "host-spelling"),
        "metadata with ideographic dots": ("169。254。169。254", "host-spelling"),
        "the credentials of ECS": ("169.254.170.2", "metadata"),
        "the credentials of EKS": ("169.254.170.23", "metadata"),
        "Lambda's X-Ray daemon": ("169.254.100.1", "link-local"),
        "metadata over IPv6": ("[fd00:ec2::254]", "metadata"),
        "metadata over IPv6 in full": ("[fd00:0ec2:0000:0000:0000:0000:0000:0254]", "metadata"),
        "the name server of a VPC over IPv6": ("[fd00:ec2::253]", "metadata"),
        "metadata of Google over IPv6": ("[fd20:ce::254]", "metadata"),
        "metadata of Alibaba": ("100.100.100.200", "metadata"),
        "metadata of Oracle": ("192.0.0.192", "metadata"),
        "the machine service of Azure": ("168.63.129.16", "metadata"),
    }
    for tries, (host, rule) in metadata.items():
        yield Attempt(tries, f"https://{host}/latest/meta-data/", rule)
    six = {
        "loopback of IPv6": ("[::1]", "loopback"),
        "loopback of IPv6 in full": ("[0000:0000:0000:0000:0000:0000:0000:0001]", "loopback"),
        "loopback of IPv6 half in full": ("[0:0:0:0:0:0:0:1]", "loopback"),
        "loopback of IPv6 with a dotted end": ("[::0.0.0.1]", "loopback"),
        "the unspecified address of IPv6": ("[::]", "unspecified"),
        "mapped loopback": ("[::ffff:127.0.0.1]", "loopback"),
        "mapped loopback in hexadecimal": ("[::ffff:7f00:1]", "loopback"),
        "mapped loopback in full": ("[0:0:0:0:0:ffff:127.0.0.1]", "loopback"),
        "mapped loopback in capitals": ("[::FFFF:7F00:0001]", "loopback"),
        "mapped metadata": ("[::ffff:169.254.169.254]", "metadata"),
        "mapped metadata in hexadecimal": ("[::ffff:a9fe:a9fe]", "metadata"),
        "compatible loopback": ("[::127.0.0.1]", "loopback"),
        "compatible private": ("[::10.0.0.1]", "private"),
        "translated loopback": ("[::ffff:0:127.0.0.1]", "loopback"),
        "6to4 of loopback": ("[2002:7f00:1::]", "loopback"),
        "6to4 of metadata": ("[2002:a9fe:a9fe::1]", "metadata"),
        "Teredo to a private client": ("[2001:0:808:808:0:0:f5ff:fffe]", "private"),
        "Teredo by a private server": ("[2001:0:a00:1:0:0:f7f7:f7f7]", "private"),
        "NAT64 of loopback": ("[64:ff9b::7f00:1]", "loopback"),
        "NAT64 of metadata": ("[64:ff9b::169.254.169.254]", "metadata"),
        "local NAT64 of metadata": ("[64:ff9b:1::169.254.169.254]", "metadata"),
        "ISATAP of a private address": ("[2a00:1450::5efe:10.0.0.1]", "private"),
        "ISATAP with the global bit": ("[2a00:1450::200:5efe:192.168.0.1]", "private"),
        "link-local of IPv6": ("[fe80::1]", "link-local"),
        "a zone": ("[fe80::1%25eth0]", "host-spelling"),
        "a zone that is not encoded": ("[fe80::1%eth0]", "host-spelling"),
        "a zone on loopback": ("[::1%251]", "host-spelling"),
        "a unique local address": ("[fc00::1]", "unique-local"),
        "brackets around IPv4": ("[127.0.0.1]", "host"),
        "brackets around a name": ("[localhost]", "host"),
        "brackets around nothing": ("[]", "host"),
        "a bracket that does not close": ("[::1", "host"),
        "a bracket that does not open": ("::1]", "host"),
        "IPv6 without brackets": ("::1", "host"),
        "an address of the future": ("[v1.fe80::a]", "host"),
        "too many groups": ("[0:0:0:0:0:0:0:0:1]", "host"),
        "two gaps": ("[::7f00::1]", "host"),
        "IPv6 with an octal end": ("[::ffff:0177.0.0.1]", "host"),
    }
    for tries, (host, rule) in six.items():
        yield Attempt(tries, f"https://{host}/", rule)


def disguised() -> Iterator[Attempt]:
    """URLs that two parsers read differently, or that are no URLs of ours."""
    odd = {
        "a user before the host": ("https://user@127.0.0.1/", "userinfo"),
        "user and password before the host": ("https://a:b@example.com/", "userinfo"),
        "a host as the user": ("https://example.com@127.0.0.1/", "userinfo"),
        "an empty user": ("https://@127.0.0.1/", "userinfo"),
        "two at signs": ("https://a@b@127.0.0.1/", "userinfo"),
        "a host and port as the user": ("https://example.com:443@127.0.0.1/", "userinfo"),
        "an encoded at sign": ("https://example.com%40127.0.0.1/", "host-spelling"),
        "a backslash after the host": ("https://example.com\\@127.0.0.1/", "url-characters"),
        "a backslash for a slash": ("https:\\\\127.0.0.1/", "url-characters"),
        "a backslash in the path": ("https://example.com/a\\..\\b", "url-characters"),
        "a space before": (" https://127.0.0.1/", "url-characters"),
        "a space in the host": ("https://127.0.0.1 .example.com/", "url-characters"),
        "a tab in the host": ("https://127.0.0\t.1/", "url-characters"),
        "a line end in the host": ("https://127.0.0.1\n.example.com/", "url-characters"),
        "a second request by line ends": ("https://example.com/ HTTP/1.1\r\nHost: evil\r\n", "url-characters"),
        "a carriage return in the path": ("https://example.com/\r", "url-characters"),
        "a null byte after the host": ("https://127.0.0.1\0.example.com/", "url-characters"),
        "an escape character": ("https://example.com/\x1b[2J", "url-characters"),
        "a zero-width space": ("https://local\u200bhost/", "url-characters"),
        "a zero-width joiner": ("https://local\u200dhost/", "url-characters"),
        "a soft hyphen": ("https://local\u00adhost/", "url-characters"),
        "a right-to-left override": ("https://\u202etsohlacol/", "url-characters"),
        "a no-break space": ("https://127.0.0.1\u00a0/", "url-characters"),
        "an ideographic space": ("https://127.0.0.1\u3000/", "url-characters"),
        "a byte-order mark": ("\ufeffhttps://127.0.0.1/", "url-characters"),
        "half a surrogate pair": ("https://\ud800/", "url-characters"),
        "letters beyond ASCII in the path": ("https://example.com/ä", "url-characters"),
        "localhost in full-width letters": ("https://ｌｏｃａｌｈｏｓｔ/", "host-spelling"),
        "localhost in circled letters": ("https://ⓛⓞⓒⓐⓛⓗⓞⓢⓣ/", "host-spelling"),
        "localhost in script letters": ("https://𝓁ocalhost/", "host-spelling"),
        "a slash look-alike in the host": ("https://example.com／@127.0.0.1/", "userinfo"),
        "a question mark look-alike in the host": ("https://127.0.0.1？.example.com/", "host-spelling"),
        "a hash look-alike in the host": ("https://127.0.0.1＃.example.com/", "host-spelling"),
        "a care-of sign that becomes a slash": ("https://evil.c℀.example.com/", "host-spelling"),
        "no scheme": ("127.0.0.1/", "url"),
        "no scheme, two slashes": ("//127.0.0.1/", "url"),
        "one slash": ("https:/127.0.0.1/", "url"),
        "no slash": ("https:127.0.0.1", "url"),
        "three slashes": ("https:///127.0.0.1/", "host"),
        "no host": ("https://", "host"),
        "no host, a port": ("https://:443/", "host"),
        "nothing": ("", "url"),
        "a path alone": ("/etc/passwd", "url"),
        "plain HTTP": ("http://example.com/", "scheme"),
        "a file": ("file:///etc/passwd", "scheme"),
        "gopher": ("gopher://127.0.0.1:6379/_FLUSHALL", "scheme"),
        "dictionary": ("dict://127.0.0.1:11211/stats", "scheme"),
        "FTP": ("ftp://127.0.0.1/", "scheme"),
        "a web socket": ("wss://example.com/", "scheme"),
        "LDAP": ("ldap://127.0.0.1/", "scheme"),
        "data": ("data:text/plain,hello", "url"),
        "a script": ("javascript://example.com/%0aalert(1)", "scheme"),
        "a jar": ("jar:https://example.com!/", "url"),
        "a scheme in a scheme": ("url:https://127.0.0.1/", "url"),
        "a unix socket as scheme": ("http+unix://%2Fvar%2Frun%2Fdocker.sock/", "scheme"),
        "the port of SSH": ("https://example.com:22/", "port"),
        "the port of Redis": ("https://example.com:6379/", "port"),
        "the port of Lambda's own interface": ("https://example.com:9001/", "port"),
        "the port of plain HTTP": ("https://example.com:80/", "port"),
        "port zero": ("https://example.com:0/", "port"),
        "a port that wraps around": ("https://example.com:65979/", "port"),
        "a negative port": ("https://example.com:-443/", "port"),
        "a port with a sign": ("https://example.com:+443/", "port"),
        "a port with a leading zero": ("https://example.com:0443/", "port"),
        "a port in hexadecimal": ("https://example.com:0x1bb/", "port"),
        "a port in full-width digits": ("https://example.com:４４３/", "port"),
        "an empty port": ("https://example.com:/", "port"),
        "two ports": ("https://example.com:443:22/", "host"),
        "a name that ends in a dot": ("https://localhost./", "host-spelling"),
        "a name that begins with a dot": ("https://.localhost/", "host"),
        "a name with two dots": ("https://local..host/", "host"),
        "a label that begins with a hyphen": ("https://-a.example.com/", "host"),
        "a label that ends with a hyphen": ("https://a-.example.com/", "host"),
        "a label of 64 characters": (f"https://{'a' * 64}.example.com/", "host"),
        "a name of 254 characters": (f"https://{'.'.join(['a' * 49] * 5)}.aaaa/", "host"),
        "a star": ("https://*.example.com/", "host"),
        "a comma": ("https://127.0.0.1,example.com/", "host"),
        "a semicolon": ("https://127.0.0.1;example.com/", "host"),
        "an ampersand": ("https://127.0.0.1&example.com/", "host"),
        "a dollar": ("https://$(hostname)/", "host"),
        "braces": ("https://{localhost}/", "host"),
        "a quote": ('https://127.0.0.1"/', "host"),
        "2049 characters": (f"https://example.com/{'a' * 2029}", "url-length"),
        "an international name that is too long": (f"https://{'ä' * 64}.example/", "host"),
    }
    for tries, (url, rule) in odd.items():
        yield Attempt(tries, url, rule)


def resolved() -> Iterator[Attempt]:
    """Names that lead inside."""
    single = {
        "127.0.0.1": "loopback",
        "127.255.255.254": "loopback",
        "::1": "loopback",
        "10.0.0.1": "private",
        "10.255.255.255": "private",
        "172.16.0.1": "private",
        "172.31.255.255": "private",
        "192.168.0.1": "private",
        "192.168.255.255": "private",
        "100.64.0.1": "shared",
        "100.127.255.255": "shared",
        "198.18.0.1": "benchmarking",
        "198.19.255.255": "benchmarking",
        "fc00::1": "unique-local",
        "fdff:ffff::1": "unique-local",
        "2001:2::1": "benchmarking",
        "2001:10::1": "not-global",
        "0.0.0.0": "unspecified",
        "0.255.255.255": "unspecified",
        "::": "unspecified",
        "169.254.169.254": "metadata",
        "169.254.170.2": "metadata",
        "169.254.170.23": "metadata",
        "169.254.0.1": "link-local",
        "169.254.255.255": "link-local",
        "fe80::1": "link-local",
        "fe80::1%2": "zone",
        "febf:ffff::1": "link-local",
        "fec0::1": "reserved",
        "fd00:ec2::254": "metadata",
        "fd00:ec2::23": "metadata",
        "100.100.100.200": "metadata",
        "168.63.129.16": "metadata",
        "192.0.0.192": "metadata",
        "192.0.0.8": "reserved",
        "192.88.99.1": "reserved",
        "192.0.2.1": "documentation",
        "198.51.100.1": "documentation",
        "203.0.113.1": "documentation",
        "224.0.0.1": "multicast",
        "239.255.255.250": "multicast",
        "240.0.0.1": "reserved",
        "255.255.255.254": "reserved",
        "255.255.255.255": "broadcast",
        "ff02::1": "multicast",
        "ff05::2": "multicast",
        "2001:db8::1": "documentation",
        "3fff::1": "documentation",
        "100::1": "reserved",
        "100:0:0:1::1": "reserved",
        "5f00::1": "reserved",
        "4000::1": "reserved",
        "200::1": "reserved",
        "fe00::1": "reserved",
        "64:ff9b:1::808:808": "translation",
        "64:ff9b:1:808:8:800::": "translation",
        "64:ff9b:1:a9fe:a9:fe00::": "metadata",
        "::ffff:10.0.0.1": "private",
        "::ffff:100.64.0.1": "shared",
        "::ffff:0.0.0.0": "unspecified",
        "::ffff:224.0.0.1": "multicast",
        "::192.168.0.1": "private",
        "::169.254.169.254": "metadata",
        "::ffff:0:10.0.0.1": "private",
        "::ffff:0:169.254.169.254": "metadata",
        "2002:a00:1::": "private",
        "2002:c0a8:1::1": "private",
        "2002:a9fe:a9fe::": "metadata",
        "2001:0:7f00:1::": "loopback",
        "2001::5601:5601": "unspecified",
        "64:ff9b::10.0.0.1": "private",
        "64:ff9b::192.168.0.1": "private",
        "64:ff9b::169.254.169.254": "metadata",
        "64:ff9b::0.0.0.0": "unspecified",
        "2a00:1450::5efe:169.254.169.254": "metadata",
        "2a00:1450::200:5efe:127.0.0.1": "loopback",
        "fd12::5efe:8.8.8.8": "unique-local",
        "not an address": "host",
    }
    for address, rule in single.items():
        yield Attempt(f"a name of {address}", "https://hooks.example.com/", rule, (address,))
    for tries, addresses, rule in (
        ("a name of a public and a private address", ("93.184.215.14", "10.0.0.1"), "private"),
        ("a name of a private and a public address", ("10.0.0.1", "93.184.215.14"), "private"),
        ("a name of IPv4 outside and IPv6 inside", ("93.184.215.14", "::1"), "loopback"),
        ("a name with metadata behind eight public addresses", ("8.8.8.8",) * 8 + ("169.254.169.254",), "metadata"),
        ("a name of a public address and a mapped one", ("8.8.8.8", "::ffff:127.0.0.1"), "loopback"),
    ):
        yield Attempt(tries, "https://hooks.example.com/", rule, addresses)
    for host, address in (
        ("localhost", "127.0.0.1"),
        ("LOCALHOST", "127.0.0.1"),
        ("localhost.localdomain", "::1"),
        ("127.0.0.1.nip.example", "127.0.0.1"),
        ("7f000001.rebind.example", "127.0.0.1"),
        ("metadata.google.internal", "169.254.169.254"),
        ("instance-data.ec2.internal", "169.254.169.254"),
        ("metadata", "169.254.169.254"),
        ("xn--bcher-kva.example", "10.0.0.1"),
        ("bücher.example", "10.0.0.1"),
        ("intern_al.example", "10.0.0.1"),
    ):
        rule = {"169.254.169.254": "metadata", "10.0.0.1": "private"}.get(address, "loopback")
        yield Attempt(f"the name {host}", f"https://{host}/", rule, (address,))


ATTEMPTS = [*spelled(), *disguised(), *resolved()]


def test_there_are_two_hundred_attempts_and_each_tries_something_else() -> None:
    assert len({attempt.tries for attempt in ATTEMPTS}) == len(ATTEMPTS)
    assert len({(attempt.url, tuple(attempt.addresses)) for attempt in ATTEMPTS}) == len(ATTEMPTS) >= 200


@pytest.mark.parametrize("attempt", ATTEMPTS, ids=lambda attempt: attempt.tries)
def test_no_attempt_opens_a_connection(attempt: Attempt, watch: Watch) -> None:
    client = Client("third", STRICT, connections=pool(STRICT, resolve=names(attempt.addresses)))
    with pytest.raises(AddressRefused) as refused:
        client.get(attempt.url)
    assert watch.connected == []
    assert watch.looked_up == []
    assert refused.value.rule == attempt.rule
    message = str(refused.value)
    assert message.startswith(f"refused by rule {attempt.rule}: ")
    assert message.isascii()
    assert message.isprintable()


NAMED = [attempt for attempt in ATTEMPTS if attempt.addresses]


def test_no_name_that_leads_inside_is_connected_to_by_asyncio(watch: Watch) -> None:
    async def tried(attempt: Attempt) -> str:
        async with async_pool(STRICT, resolve=names(attempt.addresses)) as connections:
            with pytest.raises(AddressRefused) as refused:
                await connections.request("GET", "https://hooks.example.com/")
            return refused.value.rule

    for attempt in NAMED:
        watch.on = False  # a new event loop has a socket pair of its own
        rules: list[str] = []

        async def run(attempt: Attempt = attempt, rules: list[str] = rules) -> None:
            watch.on = True
            rules.append(await tried(attempt))
            watch.on = False

        asyncio.run(run())
        assert rules == [attempt.rule], attempt.tries
    assert watch.connected == []
    assert watch.looked_up == []


@pytest.mark.parametrize(
    "host",
    ["0x7f.1", "2130706433", "127.1", "0177.0.0.1", "017700000001", "localhost", "ip6-localhost", "127.0.0.1", "::1"],
)
def test_a_backend_that_is_given_a_host_past_the_guard_still_refuses_what_it_resolves_to(
    host: str, watch: Watch
) -> None:
    with pytest.raises((AddressRefused, httpcore.ConnectError)):
        GuardedBackend(STRICT).connect_tcp(host, 443, timeout=5)
    assert watch.connected == []


def test_a_backend_refuses_a_port_and_a_unix_socket_by_itself(watch: Watch) -> None:
    with pytest.raises(AddressRefused, match="rule port: 22"):
        GuardedBackend(STRICT, names(("8.8.8.8",))).connect_tcp("example.com", 22)
    with pytest.raises(AddressRefused, match="rule unix-socket"):
        GuardedBackend(STRICT).connect_unix_socket("/var/run/docker.sock")

    async def unix() -> None:
        await AsyncGuardedBackend(STRICT).connect_unix_socket("/var/run/docker.sock")

    with pytest.raises(AddressRefused, match="rule unix-socket"):
        asyncio.run(unix())
    assert [address for address in watch.connected if address == "/var/run/docker.sock"] == []


@contextmanager
def redirecting(location: str) -> Iterator[int]:
    """The port of a server on 127.0.0.1 that sends everybody on."""
    with odd_server(answer(302, headers={"location": location})) as server:
        yield server.port


@pytest.mark.parametrize(
    ("location", "rule"),
    [
        ("http://169.254.169.254/latest/meta-data/", "metadata"),
        ("//169.254.169.254/latest/meta-data/", "metadata"),
        ("http://2852039166/", "host-spelling"),
        ("http://0xa9fea9fe/", "host-spelling"),
        ("http://127.0.0.2/", "loopback"),
        ("http://127.1/", "host-spelling"),
        ("http://10.0.0.1/", "private"),
        ("http://[::1]/", "loopback"),
        ("http://[::ffff:10.0.0.1]/", "private"),
        ("http://[fd00:ec2::254]/", "metadata"),
        ("http://inside.example/", "private"),
        ("//inside.example/", "private"),
        ("https://inside.example/", "private"),
        ("http://user@inside.example/", "userinfo"),
        ("http://127.0.0.1@inside.example/", "userinfo"),
        ("http://inside.example./", "host-spelling"),
        ("file:///etc/passwd", "scheme"),
        ("gopher://127.0.0.1:6379/", "scheme"),
        ("data:text/plain,a", "url"),
        ("javascript:alert(1)", "url"),
        ("http:\\\\169.254.169.254\\", "url-characters"),
        ("http://169.254.169.254%2f/", "host-spelling"),
        ("http://" + "a" * 2100 + "/", "url-length"),
    ],
)
def test_a_redirect_goes_through_the_guard_again(location: str, rule: str, watch: Watch) -> None:
    guard = Guard(private=(HERE,), schemes=frozenset({"http", "https"}), ports=None)
    inside = {"inside.example": ("10.0.0.1",), "start.example": ("127.0.0.1",)}
    with redirecting(location) as port, pool(guard, resolve=lambda host, _: inside[host]) as connections:
        client = Client("third", guard, connections=connections)
        with pytest.raises(AddressRefused) as refused:
            client.get(f"http://start.example:{port}/")
        assert watch.connected == [("127.0.0.1", port)]
    assert refused.value.rule == rule


def test_a_name_that_answers_differently_the_second_time_leads_nowhere(watch: Watch) -> None:
    guard = Guard(private=(HERE,), schemes=frozenset({"http"}), ports=None)
    answers = iter([("127.0.0.1",), ("127.0.0.2",), ("169.254.169.254",)])
    with redirecting("/") as port, pool(guard, resolve=lambda *_: next(answers), keepalive_seconds=0) as connections:
        url = f"http://rebinding.example:{port}/"
        # What was checked is what is connected to: one look-up, one connection.
        assert connections.request("POST", url).status == 302
        assert watch.connected == [("127.0.0.1", port)]
        for rule in ("loopback", "metadata"):
            with pytest.raises(AddressRefused) as refused:
                connections.request("POST", url)
            assert refused.value.rule == rule
        assert watch.connected == [("127.0.0.1", port)]
    assert next(answers, None) is None
    assert watch.looked_up == []


def test_a_name_that_answers_differently_the_second_time_leads_nowhere_by_asyncio(watch: Watch) -> None:
    guard = Guard(private=(HERE,), schemes=frozenset({"http"}), ports=None)
    answers = iter([("127.0.0.1", "127.0.0.1"), ("127.0.0.2",)])

    async def run(port: int) -> None:
        url = f"http://rebinding.example:{port}/"
        async with async_pool(guard, resolve=lambda *_: next(answers), keepalive_seconds=0) as connections:
            assert (await connections.request("POST", url)).status == 302
            with pytest.raises(AddressRefused, match=r"rule loopback: 127\.0\.0\.2: 'rebinding"):
                await connections.request("POST", url)

    with redirecting("/") as port:
        asyncio.run(run(port))
        assert [address for address in watch.connected if isinstance(address, tuple)] == [("127.0.0.1", port)]


def test_each_checked_address_is_tried_in_turn(watch: Watch) -> None:
    guard = Guard(private=networks(["127.0.0.0/8"]), schemes=frozenset({"http"}), ports=None)
    addresses = ("127.0.0.9", "127.0.0.9", "127.0.0.8", "127.0.0.1")
    with redirecting("/") as port, pool(guard, resolve=names(addresses)) as connections:
        assert connections.request("POST", f"http://several.example:{port}/").status == 302
        assert watch.connected == [("127.0.0.9", port), ("127.0.0.8", port), ("127.0.0.1", port)]


@pytest.mark.parametrize("pasted", ["s3cret", "s3cret:x", "Bearer-s3cret", "xoxb-1-s3cret:", "hooks.example/s3cret"])
def test_what_was_pasted_in_place_of_a_url_is_not_told(pasted: str) -> None:
    with pytest.raises(AddressRefused, match=r"the text: begins no absolute URL") as refused:
        STRICT.target(pasted)
    assert refused.value.rule == "url"
    assert "s3cret" not in str(refused.value)


@pytest.mark.parametrize(
    ("url", "target"),
    [
        ("https://example.com", Target("https", "example.com", 443, "/")),
        ("HTTPS://Example.COM:443/A?b=C#d", Target("https", "example.com", 443, "/A?b=C")),
        ("https://example.com?q", Target("https", "example.com", 443, "/?q")),
        ("https://a_b.example.com/@x:y", Target("https", "a_b.example.com", 443, "/@x:y")),
        ("https://bücher.example/", Target("https", "xn--bcher-kva.example", 443, "/")),
        ("https://BÜCHER。example/", Target("https", "xn--bcher-kva.example", 443, "/")),
        ("https://8.8.8.8/", Target("https", "8.8.8.8", 443, "/")),
        ("https://[2606:4700::0:1111]/", Target("https", "2606:4700::1111", 443, "/")),
        ("https://[64:ff9b::8.8.8.8]/", Target("https", "64:ff9b::808:808", 443, "/")),
        ("https://1.example/", Target("https", "1.example", 443, "/")),
        ("https://0x7f.example/", Target("https", "0x7f.example", 443, "/")),
        (f"https://example.com/{'a' * 2028}", Target("https", "example.com", 443, f"/{'a' * 2028}")),
    ],
)
def test_what_is_written_as_usual_is_taken(url: str, target: Target) -> None:
    assert STRICT.target(url) == target


@pytest.mark.parametrize(
    "address",
    [
        "8.8.8.8", "1.1.1.1", "93.184.215.14", "9.255.255.255", "11.0.0.0", "100.63.255.255", "100.128.0.0",
        "126.255.255.255", "128.0.0.0", "169.253.255.255", "169.255.0.0", "172.15.255.255", "172.32.0.0",
        "192.167.255.255", "192.169.0.0", "198.17.255.255", "198.20.0.0", "223.255.255.255", "2606:4700::1111",
        "2a00:1450:4001:82a::200e", "2003::1", "::ffff:8.8.8.8", "64:ff9b::8.8.8.8", "2002:808:808::1",
        "2001:0:808:808::f7f7:f7f7", "2a00:1450::5efe:8.8.8.8",
    ],
)  # fmt: skip
def test_public_addresses_and_the_neighbours_of_private_networks_may_be_called(address: str) -> None:
    assert STRICT.check(address) == ip_address(address)


@pytest.mark.parametrize(
    ("cidr", "allowed", "refused"),
    [
        ("127.0.0.0/8", ["127.0.0.1", "127.9.9.9", "::ffff:127.0.0.1", "64:ff9b::7f00:1"], ["::1", "10.0.0.1"]),
        ("::1/128", ["::1"], ["127.0.0.1", "::ffff:127.0.0.1"]),
        ("10.1.0.0/16", ["10.1.2.3", "2002:a01:203::"], ["10.2.0.1", "172.16.0.1"]),
        ("fd12:3456::/32", ["fd12:3456::1"], ["fd13::1", "fd00:ec2::254"]),
        ("100.64.0.0/10", ["100.64.0.1", "100.100.100.199"], ["100.100.100.200"]),
        ("64:ff9b:1::/48", ["64:ff9b:1::808:808"], ["64:ff9b:1::10.0.0.1", "64:ff9b:1::169.254.169.254"]),
    ],
)
def test_a_private_network_is_allowed_by_its_cidr_and_nothing_else_is(
    cidr: str, allowed: list[str], refused: list[str]
) -> None:
    guard = Guard(private=networks([cidr]))
    for address in allowed:
        assert guard.check(address) == ip_address(address)
    for address in refused:
        with pytest.raises(AddressRefused):
            guard.check(address)


def test_a_refusal_of_a_private_address_says_how_it_is_allowed() -> None:
    with pytest.raises(AddressRefused) as refused:
        STRICT.checked("wiki.example", 443, ["10.0.0.8"])
    assert refused.value.private
    assert str(refused.value) == (
        "refused by rule private: 10.0.0.8: 'wiki.example' has this address, and with one of its addresses a host is"
        " refused; to allow it, add 10.0.0.8/32 or its network to [egress] private in environments/NAME.toml"
    )


def test_a_refusal_of_the_never_tier_says_that_nothing_allows_it() -> None:
    everything = Guard(private=(ip_network("0.0.0.0/0"), ip_network("::/0")), ports=None)
    for network, rule, _ in NEVER:
        for address in (network.network_address, network.broadcast_address):
            with pytest.raises(AddressRefused, match="nothing allows it") as refused:
                everything.check(address)
            # A smaller network within a larger one has the word.
            assert rule in (refused.value.rule, "reserved", "link-local")
            assert not refused.value.private


def test_no_refusal_repeats_a_path() -> None:
    for url in ("https:/hooks/T000/SECRET", "https://10.0.0.1/SECRET", "https://example.com/SECRETä", "SECRET" * 400):
        with pytest.raises(AddressRefused) as refused:
            STRICT.target(url)
        assert "SECRETSECRETSECRET/" not in str(refused.value)
        assert "/SECRET" not in str(refused.value)


def test_the_same_address_in_two_spellings_is_one() -> None:
    found = STRICT.checked("example.com", 443, ["8.8.8.8", "2606:4700::1111", "8.8.8.8", "2606:4700:0::1111"])
    assert found == (IPv4Address("8.8.8.8"), IPv6Address("2606:4700::1111"))


def test_without_variables_the_guard_is_strict() -> None:
    assert Guard.from_environment({}) == STRICT == Guard(ports=frozenset({443}), schemes=frozenset({"https"}))


def test_any_port_is_a_star() -> None:
    assert Guard.from_environment({"OFFLOAD_EGRESS_PORTS": "*"}).ports is None


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("OFFLOAD_EGRESS_PRIVATE", "10.0.0.0/33"),
        ("OFFLOAD_EGRESS_PRIVATE", "169.254.0.0/16"),
        ("OFFLOAD_EGRESS_SCHEMES", ""),
        ("OFFLOAD_EGRESS_SCHEMES", "https,ftp"),
        ("OFFLOAD_EGRESS_PORTS", ""),
        ("OFFLOAD_EGRESS_PORTS", "443,x"),
        ("OFFLOAD_EGRESS_PORTS", "65536"),
    ],
)
def test_a_wrong_variable_is_an_error_with_its_name(variable: str, value: str) -> None:
    with pytest.raises(MissingSetting, match=variable):
        Guard.from_environment({variable: value})


@pytest.mark.parametrize("cidr", [str(network) for network, _, _ in NEVER])
def test_no_network_of_the_never_tier_can_be_listed(cidr: str) -> None:
    with pytest.raises(UnusableEgress, match="nothing allows it"):
        networks([cidr])
