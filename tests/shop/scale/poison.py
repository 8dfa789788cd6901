"""Orders that no consumer can read: one kind for each fault that was found by fuzzing or by a user.

Each kind is outside the published contract of order.placed, so it must end as a dead letter of every consumer that
reads orders, and must not cost the events beside it anything. The journal reads the envelope alone, and its text.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple

from offload.contracts.events.claim import claim_key, claim_reference
from offload.runtime.reasons import Reason
from shop.contracts.orders import Invoice, OrderPlaced

READERS: Final = ("SalesLedger", "StockLevels", "WebhooksOut/Planner")
"""The consumers that read orders: each has each good event done, and each poison event dead."""
JOURNAL: Final = "EventJournal"
_EMOJI: Final = "\U0001f600"
_MARK: Final = re.compile(r"scale-poison-(\d+)-")


class Poison(NamedTuple):
    """A broken event: its `detail` is JSON for the bus, and says `mark_of(number)` whatever else is broken."""

    number: int
    kind: str
    detail: str


def mark_of(number: int) -> str:
    """What the dead letters of a poison event are found by."""
    return f"scale-poison-{number}-"


def number_in(body: str) -> int | None:
    """The number of the poison event whose message has this body; None where it is of another event."""
    found = _MARK.search(body)
    return int(found[1]) if found else None


def letters_of(number: int) -> set[tuple[str, int, str]]:
    """The dead letters that a poison event must leave: consumer, its number, reason."""
    match KINDS[number % len(KINDS)]:
        case kind if kind == HALF_A_PAIR:
            return {(each, number, Reason.UNDECODABLE.value) for each in (*READERS, JOURNAL)}
        case kind if kind == MISSING_CLAIM:
            return {(each, number, Reason.CLAIM_MISSING.value) for each in READERS}
    return {(each, number, Reason.BROKEN_CONTRACT.value) for each in READERS}


def poison(number: int, invoice: Invoice, claims_bucket: str) -> Poison:
    """The `number`th poison event, made from a good invoice; the kinds take turns."""
    kind = KINDS[number % len(KINDS)]
    envelope: dict[str, Any] = json.loads(invoice.event().to_json())
    mark = mark_of(number)
    envelope |= {
        "id": f"{OrderPlaced.TYPE}:{mark}",
        "type": OrderPlaced.TYPE,
        "dataschema": OrderPlaced.schema_uri(),
        "subject": mark,
    }
    envelope["data"]["invoice"] = mark
    if kind == MISSING_CLAIM:
        del envelope["data"]
        # The name of content that nobody stored: its hash is of this event's id.
        envelope["dataref"] = claim_reference(claims_bucket, claim_key(OrderPlaced.TYPE, envelope["id"].encode()))
    else:
        _BROKEN[kind](envelope)
    return Poison(number, kind, json.dumps(envelope))


def _deep(levels: int) -> Any:
    found: Any = 0
    for _ in range(levels):
        found = [found]
    return found


def _set(path: str, value: Any) -> Callable[[dict[str, Any]], None]:
    """Puts the value at a place such as `data.lines.0.quantity`."""

    def put(envelope: dict[str, Any]) -> None:
        *holders, last = path.split(".")
        holder: Any = envelope
        for step in holders:
            holder = holder[int(step)] if isinstance(holder, list) else holder[step]
        holder[last] = value

    return put


def _without(field: str) -> Callable[[dict[str, Any]], None]:
    def take(envelope: dict[str, Any]) -> None:
        del envelope[field]

    return take


def _no_envelope(envelope: dict[str, Any]) -> None:
    mark = envelope["subject"]
    envelope.clear()
    envelope |= {"order": mark, "status": "placed"}


HALF_A_PAIR: Final = "an id with half a surrogate pair"
_LINE: Final = "data.lines.0"
_BROKEN: Final[Mapping[str, Callable[[dict[str, Any]], None]]] = {
    "no envelope": _no_envelope,
    "no id": _without("id"),
    "no data": _without("data"),
    "no source": _without("source"),
    "an id of 256 emoji": _set("id", _EMOJI * 256),
    "a source of 256 emoji": _set("source", _EMOJI * 256),
    "an id of 3,000 characters": _set("id", "x" * 3_000),
    HALF_A_PAIR: _set("id", "x\ud83d"),
    "an id that is a number": _set("id", 7),
    "an empty id": _set("id", ""),
    "a time in year 1, east of Greenwich": _set("time", "0001-01-01T00:00:00+14:00"),
    "a time at the end of 9999, west of it": _set("time", "9999-12-31T23:59:59-14:00"),
    "another version of CloudEvents": _set("specversion", "2.0"),
    "a version of the contract that nobody knows": _set("dataschema", "urn:offload:order.placed:999"),
    "data that is null": _set("data", None),
    "data that is a list": _set("data", []),
    "data that is 300 lists deep": _set("data", _deep(300)),
    "no lines": _set("data.lines", []),
    "an invoice of 256 emoji": _set("data.invoice", _EMOJI * 256),
    "an invoice in year 1": _set("data.invoiced_at", "0001-01-01T00:00:00+14:00"),
    "an invoice at a moment without offset": _set("data.invoiced_at", "2010-12-01T08:26:00"),
    "no country": _set("data.country", None),
    "a quantity in words": _set(f"{_LINE}.quantity", "six"),
    "a quantity of 400 digits": _set(f"{_LINE}.quantity", 10**400),
    "a quantity of 1e308": _set(f"{_LINE}.quantity", 1e308),
    "a quantity that is true": _set(f"{_LINE}.quantity", True),
    "a price that is not a number": _set(f"{_LINE}.unit_price", "NaN"),
    "a price of 1e1000000": _set(f"{_LINE}.unit_price", "1e1000000"),
    "a price of 400 digits": _set(f"{_LINE}.unit_price", "9" * 400),
    "a price of 1e-1000000": _set(f"{_LINE}.unit_price", "1e-1000000"),
    "a product of 257 characters": _set(f"{_LINE}.product", "x" * 257),
    "a line in year 1": _set(f"{_LINE}.invoiced_at", "0001-01-01T00:00:00+14:00"),
}
MISSING_CLAIM: Final = "a claim check of nothing"
KINDS: Final = (*_BROKEN, MISSING_CLAIM)
"""What is wrong with poison events."""
