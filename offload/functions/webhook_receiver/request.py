"""The request as API Gateway hands it over (HTTP API, payload format 2.0)."""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping
from ipaddress import IPv6Network, ip_address
from typing import Any, Final

from offload.contracts.webhooks_in.scheme import Provider
from offload.runtime.webhooks_in.refusals import BodyTooLarge, NoSuchProvider

# Lambda takes 6 MB a call (gettingstarted-limits.html, read 2026-11-27), the request with its headers as JSON and a
# body that is no text in base64, a third longer: 4 MiB of it still fit. API Gateway answers for what does not.
MOST_BYTES: Final = 4 * 1024 * 1024
_PATH: Final = re.compile(r"/webhooks/([a-z][a-z0-9-]{0,39})(?:/([A-Za-z0-9_-]{1,64}))?/?")


# A site's smallest part (RFC 4291 section 2.5.4, RFC 6177): who has one address of it has 2^64.
_IPV6_PREFIX: Final = 64


def _source(said: object) -> str:
    """The address that the request came from; "unknown" for what is none."""
    # A zone, which stands behind a percent sign, may be any text.
    address = str(said).partition("%")[0]
    try:
        ip_address(address)
    except ValueError:
        return "unknown"
    return address


def _network(source: str) -> str:
    """Whose refusals are counted as one: an IPv4 address, or the /64 of an IPv6 one."""
    try:
        address = ip_address(source)
    except ValueError:
        return source
    if address.version == 4:
        return str(address)
    if address.ipv4_mapped is not None:
        return str(address.ipv4_mapped)
    return str(IPv6Network((int(address), _IPV6_PREFIX), strict=False))


class Request:
    """One request; nothing of it is trusted."""

    def __init__(self, event: Mapping[str, Any]) -> None:
        http = _mapping(_mapping(event.get("requestContext")).get("http"))
        self.source = _source(http.get("sourceIp"))
        self.network = _network(self.source)
        self.headers = [(str(name), str(value)) for name, value in _mapping(event.get("headers")).items()]
        self._path = _text(event.get("rawPath"))
        self._body = _text(event.get("body"))
        self._in_base64 = bool(event.get("isBase64Encoded"))

    def header(self, name: str) -> str:
        """A header's text, empty when it is not there."""
        return next((value for each, value in self.headers if each.lower() == name), "")

    def place(self, providers: Mapping[str, Provider]) -> tuple[Provider, str]:
        """The provider and the endpoint that the path names; raises NoSuchProvider."""
        match = _PATH.fullmatch(self._path)
        provider = providers.get(match[1]) if match else None
        if match is None or provider is None:
            raise NoSuchProvider("POST /webhooks/PROVIDER or /webhooks/PROVIDER/ENDPOINT, of a provider that is set up")
        return provider, match[2] or ""

    def body(self) -> bytes:
        """The raw bytes; raises BodyTooLarge."""
        # Before it is decoded: of four characters three bytes are left.
        if len(self._body) > (MOST_BYTES * 4 // 3 + 4 if self._in_base64 else MOST_BYTES):
            raise BodyTooLarge(f"the body has more than {MOST_BYTES} bytes")
        content = self._content()
        if len(content) > MOST_BYTES:
            raise BodyTooLarge(f"the body has {len(content)} bytes, more than {MOST_BYTES}")
        return content

    def _content(self) -> bytes:
        if self._in_base64:
            try:
                return base64.b64decode(self._body, validate=True)
            except ValueError:
                # It is not what the gateway says: whether it is the sender's, its signature will tell.
                pass
        return self._body.encode(errors="surrogatepass")


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""
