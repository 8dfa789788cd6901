"""A request as its sender would sign it: for tests, and for whoever tries an endpoint."""

from __future__ import annotations

import binascii

from offload.contracts.webhooks_in.scheme import Algorithm, Encoding, Header, Scheme, Unit
from offload.runtime.webhooks_in.secrets import Key
from offload.runtime.webhooks_in.verify import content_to_sign, mac


def signed_headers(
    scheme: Scheme, key: Key, body: bytes, *, now: float, delivery_id: str, event_type: str = ""
) -> dict[str, str]:
    """The headers of a webhook: signature, and time, id and type where the scheme has them in headers.

    `now` is in seconds since 1970. A type that has several headers is cut at its first full stops.

    Raises ValueError for a key of no version of the scheme, and for a public key: only the sender can sign with its
    other half.
    """
    version = next((signature for signature in scheme.signatures if signature.key == key.form), None)
    if version is None or version.algorithm is Algorithm.ED25519:
        raise ValueError(f"scheme '{scheme.name}': key '{key.key_id}' is none to sign with: take an HMAC secret")
    headers: dict[str, str] = {}
    for parts in scheme.delivery_id[:1]:
        headers |= {place.name: delivery_id for place in parts if isinstance(place, Header)}
    for parts in scheme.event_type:
        names = [place.name for place in parts if isinstance(place, Header)]
        texts = event_type.split(".", len(names) - 1)
        if event_type and len(names) == len(parts) == len(texts):
            headers |= dict(zip(names, texts, strict=True))
            break
    time = scheme.timestamp
    written = "" if time is None else str(int(now if time.unit is Unit.SECONDS else now * 1000))
    if time is not None and time.header:
        headers[time.header] = written
    content = mac(version.algorithm, key.content, content_to_sign(scheme, delivery_id, written, body))
    signature = version.prefix + _encoded(content, version.encoding)
    in_list = time is not None and time.item
    headers[scheme.header] = f"{time.item}{written}{scheme.separator}{signature}" if time and in_list else signature
    return headers


def _encoded(content: bytes, encoding: Encoding) -> str:
    match encoding:
        case Encoding.HEX:
            return content.hex()
        case Encoding.HEX_UPPER:
            return content.hex().upper()
        case _:
            return binascii.b2a_base64(content, newline=False).decode()
