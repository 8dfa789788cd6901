"""What is sent to the bus for one event: validated, encoded, measured."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple, Self

import msgspec
from msgspec import UNSET, UnsetType

from offload.contracts.events.event import BrokenContract, Envelope, Event, by_type, read_envelope

# EventBridge classic (API_PutEvents, read 2026-11-23): entries a request.
REQUEST_ENTRIES: Final = 10
# EventBridge classic: "1 MB" an entry and for a request's entries together since 2026-01-29 (AWS Compute Blog, "More
# room to build: serverless services now support payloads up to 1 MB"). Read as the smaller, decimal megabyte.
REQUEST_BYTES: Final = 1_000_000
# What an entry may have and still travel whole. SQS holds 1,048,576 bytes (quotas-messages.html, read 2026-11-23) of
# which the bus's own fields (version, id, account, time, region, names) take some 400 and the twice counted names up
# to 3 KiB: the decimal megabyte leaves 48 KB for them.
WHOLE_BYTES: Final = REQUEST_BYTES

UNREADABLE_ANSWER: Final = "UnreadableAnswer"
"""The code of what the bus said nothing of, in an answer that it did give."""

_ESCAPE_BYTES: Final = len("\\u0000")


@dataclass(frozen=True, slots=True)
class Entry:
    """One event as it goes to the bus: `detail` is its JSON, in UTF-8."""

    id: str
    source: str
    type: str
    detail: bytes

    @classmethod
    def of(cls, event: Event[Any]) -> Self:
        """The entry of an event, read back by its contract first: what is sent is what a consumer will read.

        Raises BrokenContract with the event's id and the field.
        """
        try:
            detail = _read_back(event)
        except BrokenContract as error:
            raise BrokenContract(f"event '{event.id}' ({event.type}): {error}") from error
        except (AttributeError, OverflowError, RecursionError, TypeError, ValueError) as error:
            # What msgspec raises for a value that has no JSON: an object, a 65 bit integer, a lone surrogate, a cycle.
            raise BrokenContract(f"event '{event.id}' ({event.type}): has no JSON: {error}") from error
        return cls(event.id, event.source, event.type, detail)

    @classmethod
    def read(cls, detail: bytes) -> Self:
        """The entry of an event that was encoded before; reads the envelope only. Raises BrokenContract."""
        envelope = read_envelope(detail)
        return cls(envelope.id, envelope.source, envelope.type, detail)

    def size(self) -> int:
        """Bytes of the entry, by the bus's rule for PutEvents and with room for any way of writing its JSON.

        AWS counts source, detail-type and detail in UTF-8 (eb-putevent-size.html, read 2026-11-23). Who takes the event
        apart and writes it anew, as a bus does, may escape what is not ASCII: six bytes a UTF-16 unit.
        """
        size = len(self.source.encode()) + len(self.type.encode()) + len(self.detail)
        # DEL is ASCII, and escaped all the same by some.
        size += (_ESCAPE_BYTES - 1) * self.detail.count(b"\x7f")
        if not self.detail.isascii():
            text = self.detail.decode()
            ascii_bytes = sum(character.isascii() for character in text)
            units = len(text.encode("utf-16-le")) // 2
            size += ascii_bytes + _ESCAPE_BYTES * (units - ascii_bytes) - len(self.detail)
        return size

    def data(self) -> bytes:
        """The JSON of the event's data. Raises BrokenContract when it has none."""
        data = read_envelope(self.detail).data
        if isinstance(data, UnsetType):
            raise BrokenContract(f"event '{self.id}' ({self.type}): data: missing")
        return bytes(data)

    def claimed(self, dataref: str) -> Self:
        """The entry with its data left under `dataref`."""
        envelope: Envelope = msgspec.structs.replace(read_envelope(self.detail), data=UNSET, dataref=dataref)
        return type(self)(self.id, self.source, self.type, msgspec.json.encode(envelope))

    def request(self, bus: str) -> Mapping[str, str]:
        """The PutEvents entry.

        It has no `Time`: the bus then stamps the moment it took the event, which is what an archive's retention and a
        replay's period are about. When the fact happened is the envelope's `time`.
        """
        return {"EventBusName": bus, "Source": self.source, "DetailType": self.type, "Detail": self.detail.decode()}


class NotTaken(NamedTuple):
    """Why the bus did not take an entry of a request."""

    code: str
    message: str

    def __str__(self) -> str:
        return f"{self.code} ({self.message})" if self.message else self.code


def answered(answer: Mapping[str, Any], entries: int) -> list[NotTaken | None]:
    """What PutEvents answered to so many entries: of each why the bus did not take it, None when it did.

    An answer for another number says nothing of any: none counts as taken (UNREADABLE_ANSWER).
    """
    results: Sequence[Mapping[str, Any]] = answer.get("Entries", ())
    if len(results) != entries:
        why = f"the bus answered for {len(results)} entries of {entries}"
        return [NotTaken(UNREADABLE_ANSWER, why)] * entries
    return [
        NotTaken(result["ErrorCode"], result.get("ErrorMessage", "")) if result.get("ErrorCode") else None
        for result in results
    ]


def requests(entries: Iterable[Entry]) -> Iterator[list[Entry]]:
    """The entries in their order, in requests that PutEvents takes: REQUEST_ENTRIES and REQUEST_BYTES at most.

    An entry that is over REQUEST_BYTES by itself has a request of its own, and is refused there.
    """
    batch: list[Entry] = []
    size = 0
    for entry in entries:
        more = entry.size()
        if batch and (len(batch) == REQUEST_ENTRIES or size + more > REQUEST_BYTES):
            yield batch
            batch, size = [], 0
        batch.append(entry)
        size += more
    if batch:
        yield batch


def _read_back(event: Event[Any]) -> bytes:
    contract = type(event.data)
    if event.source != contract.SOURCE:
        raise BrokenContract(f"source: '{event.source}' is not '{contract.SOURCE}'")
    return read_envelope(event.to_json()).event(by_type((contract,))).to_json()
