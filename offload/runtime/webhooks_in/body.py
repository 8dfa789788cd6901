"""What a verified webhook's body is: JSON, a form with JSON in it, or text."""

from __future__ import annotations

import json
from typing import Any, Final, NamedTuple
from urllib.parse import parse_qsl

import msgspec
from msgspec import UNSET, Raw, UnsetType

from offload.runtime.webhooks_in.refusals import EmptyBody, MalformedBody, UnsupportedBody

# Ours: no sender of the table nests deeper than a dozen. Deeper, a reader of the event might not bear it.
DEEPEST: Final = 100
_FORM: Final = "application/x-www-form-urlencoded"
_PAYLOAD: Final = "payload"
_MOST_FIELDS: Final = 200


class Body(NamedTuple):
    """One of the two is set."""

    payload: Raw | UnsetType = UNSET
    text: str | UnsetType = UNSET


def read_body(content: bytes, content_type: str, content_encoding: str) -> Body:
    """Reads a body by its media type; without one it has to be JSON.

    Raises EmptyBody, MalformedBody and UnsupportedBody. Nothing is unpacked: the signature was made over these bytes.
    """
    if not content:
        raise EmptyBody("the body has 0 bytes")
    if content_encoding.strip().lower() not in {"", "identity"}:
        raise UnsupportedBody("Content-Encoding: the body is compressed")
    kind = content_type.partition(";")[0].strip().lower()
    if kind == _FORM:
        return _form(content)
    if kind and kind != "application/json" and not kind.endswith("+json"):
        raise UnsupportedBody("Content-Type is neither JSON nor a form")
    return _json(content)


def _form(content: bytes) -> Body:
    try:
        text = content.decode("ascii")
        fields = dict(parse_qsl(text, max_num_fields=_MOST_FIELDS, keep_blank_values=True))
    except ValueError as error:
        raise MalformedBody(f"the body is no form: not ASCII, or over {_MOST_FIELDS} fields") from error
    payload = fields.get(_PAYLOAD, "")
    return _json(payload.encode(errors="replace")) if payload.lstrip()[:1] == "{" else Body(text=text)


def _json(content: bytes) -> Body:
    try:
        document: Any = msgspec.json.decode(content)
        raw = True
    except (msgspec.MsgspecError, UnicodeError, RecursionError) as error:
        # Half a surrogate pair is JSON (RFC 8259, 8.2), and an emoji that was cut makes one. It travels as text.
        try:
            text = content.decode()
        except UnicodeDecodeError:
            raise MalformedBody(f"the body is not JSON in UTF-8: {_reason(error)}") from error
        try:
            document = json.loads(text, parse_constant=_no_constant)
        except (ValueError, RecursionError):
            raise MalformedBody(f"the body is not JSON: {_reason(error)}") from error
        raw = False
    if content.count(b"{") + content.count(b"[") > DEEPEST and _too_deep(document):
        raise MalformedBody(f"the body's JSON is nested deeper than {DEEPEST}")
    return Body(payload=Raw(content)) if raw else Body(text=content.decode())


def _reason(error: Exception) -> str:
    return "nested too deep" if isinstance(error, RecursionError) else str(error)


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


def _too_deep(document: Any) -> bool:
    level = [document]
    for _ in range(DEEPEST):
        level = [
            inner
            for each in level
            for inner in (each.values() if isinstance(each, dict) else each)
            if isinstance(inner, dict | list)
        ]
        if not level:
            return False
    return True
