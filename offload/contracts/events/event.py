"""The event: a CloudEvents 1.0 envelope around typed data.

Source of the attributes: CloudEvents 1.0.2, https://github.com/cloudevents/spec (spec.md; of its extensions
distributed-tracing.md and dataref.md).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from hashlib import sha256
from typing import Annotated, ClassVar, Final, Generic, Literal, Self, TypeAlias, TypeVar

import msgspec
from msgspec import UNSET, Meta, Raw, Struct, UnsetType

from offload.contracts.events.audience import Audience

DataT_co = TypeVar("DataT_co", bound="EventData", covariant=True)

Id = Annotated[str, Meta(min_length=1, max_length=256)]
"""A name of 1 to 256 characters. `check_name` bounds its bytes, which a type cannot say."""
Count = Annotated[int, Meta(ge=0)]
"""A number of things."""
Moment = Annotated[datetime, Meta(tz=True)]
"""A point in time with its offset. `check_moment` bounds its year, which a type cannot say."""

# A partition key of DynamoDB has at most 2,048 bytes (Constraints.html, read 2026-11-29). An event's key has its id and
# its source, in which each "#" and "%" takes three bytes.
LONGEST_NAME_BYTES: Final = 400
FIRST_MOMENT: Final = datetime(1900, 1, 1, tzinfo=UTC)
LAST_MOMENT: Final = datetime(9000, 1, 1, tzinfo=UTC)
"""A moment outside cannot be converted to every time zone, or added to."""
# An event's id is its type, a colon and this, and has 256 characters.
_LONGEST_DERIVED_BYTES: Final = 180
_SHOWN_BYTES: Final = 100
_DIGEST_LENGTH: Final = 32


class BrokenContract(Exception):
    """An event that does not keep its contract; `str()` says which field and why, never the field's value."""


class EventData(Struct, frozen=True, kw_only=True):
    """What an event of one type says. A subclass is a contract: its name, its version and its fields.

    Fields may be added with a default. Removing or retyping one, or adding a required one, breaks consumers that
    are already deployed: that is a new `VERSION` and, while both are published, a new `TYPE`.
    """

    TYPE: ClassVar[str]
    SOURCE: ClassVar[str]
    VERSION: ClassVar[int] = 1
    AUDIENCE: ClassVar[Audience | None] = None
    """Who may be told of it outside; None while it may not leave the house."""

    @property
    def key(self) -> str:
        """What makes the event the same event when it is published again; its id follows from it."""
        raise NotImplementedError

    @property
    def subject(self) -> str:
        """What the event is about."""
        raise NotImplementedError

    @property
    def occurred_at(self) -> datetime:
        """When it happened."""
        raise NotImplementedError

    @classmethod
    def schema_uri(cls) -> str:
        """The name of the contract's version, as the envelope's `dataschema`."""
        return f"urn:offload:{cls.TYPE}:{cls.VERSION}"

    def event(self, *, traceparent: str | None = None) -> Event[Self]:
        """The event that says this: the same data always makes the same id."""
        return Event(
            id=f"{self.TYPE}:{self.key}",
            source=self.SOURCE,
            type=self.TYPE,
            subject=self.subject,
            time=self.occurred_at,
            dataschema=self.schema_uri(),
            data=self,
            traceparent=traceparent or UNSET,
        )


Contracts: TypeAlias = Mapping[str, type[EventData]]


class Event(Struct, Generic[DataT_co], frozen=True, kw_only=True):
    """A fact that has happened. `(source, id)` names it: published twice, it is still one event."""

    id: Id
    source: Id
    type: Id
    time: Moment
    dataschema: str
    data: DataT_co
    subject: str | UnsetType = UNSET
    traceparent: str | UnsetType = UNSET
    specversion: Literal["1.0"] = "1.0"
    datacontenttype: Literal["application/json"] = "application/json"

    @property
    def key(self) -> str:
        """What everything is keyed by that is about this event: `event_key` of its source and id."""
        return event_key(self.source, self.id)

    def to_json(self) -> bytes:
        """The structured form, as it travels; it ends with the data."""
        return msgspec.json.encode(self)


class Envelope(Struct, frozen=True, kw_only=True):
    """An event as it arrives: its data not yet read, or left in a store under `dataref` (a claim check)."""

    id: Id
    source: Id
    type: Id
    time: Moment
    specversion: Literal["1.0"]
    dataschema: str | UnsetType = UNSET
    datacontenttype: str | UnsetType = UNSET
    subject: str | UnsetType = UNSET
    traceparent: str | UnsetType = UNSET
    dataref: str | UnsetType = UNSET
    data: Raw | UnsetType = UNSET

    def __post_init__(self) -> None:
        for field in ("id", "source", "type"):
            check_name(field, getattr(self, field))
        check_moment("time", self.time)

    def event(self, types: Contracts, data: bytes | None = None) -> Event[EventData]:
        """Reads the data by the contract of the event's type.

        `types` are the contracts by type name; `data` is the JSON that `dataref` stood for. Raises BrokenContract.
        """
        contract = types.get(self.type)
        if contract is None:
            raise BrokenContract(f"type: '{self.type}' is not one of {', '.join(sorted(types))}")
        if not isinstance(self.dataschema, UnsetType) and self.dataschema != contract.schema_uri():
            raise BrokenContract(f"dataschema: '{self.dataschema}' is not {contract.schema_uri()}")
        content: bytes | Raw | UnsetType = self.data if data is None else data
        if isinstance(content, UnsetType):
            raise BrokenContract("data: missing")
        return Event(
            id=self.id,
            source=self.source,
            type=self.type,
            time=self.time,
            dataschema=contract.schema_uri(),
            data=_read(content, contract, "data"),
            subject=self.subject,
            traceparent=self.traceparent,
        )


_StructT = TypeVar("_StructT", bound=Struct)


def data_digest(envelope: Envelope) -> str:
    """A hash by which the data of two copies of an event can be compared, whatever has written their JSON since.

    Of a claim check it is the name of what was stored, which is its content's hash.
    """
    if not isinstance(envelope.dataref, UnsetType):
        return sha256(envelope.dataref.rpartition("/")[2].encode()).hexdigest()[:_DIGEST_LENGTH]
    if isinstance(envelope.data, UnsetType):
        return ""
    try:
        content = msgspec.json.encode(msgspec.json.decode(envelope.data), order="sorted")
    except (msgspec.MsgspecError, UnicodeError, RecursionError, ValueError):
        # A number that only a contract can read, for one: then the text itself is compared.
        content = bytes(envelope.data)
    return sha256(content).hexdigest()[:_DIGEST_LENGTH]


def event_key(source: str, event_id: str) -> str:
    """The one name of the event `(source, event_id)`: two events have two keys, whatever characters they consist of."""
    return f"{_escaped(source, '#')}#{event_id}"


def split_event_key(key: str) -> tuple[str, str]:
    """The source and the id that `event_key` made a key of."""
    source, _, event_id = key.partition("#")
    return source.replace("%23", "#").replace("%25", "%"), event_id


def derived_key(*parts: str) -> str:
    """The `key` of an event that follows from something else: one for these parts in this order, and for no others.

    It is the parts with a colon between them, as long as an event's id has room for that; else it ends in their hash.
    """
    *firsts, last = parts
    # Only a key that ends in a hash has a tilde.
    plain = ":".join([*(_escaped(part, ":~") for part in firsts), _escaped(last, "~")])
    content = plain.encode()
    if len(content) <= _LONGEST_DERIVED_BYTES:
        return plain
    return f"{content[:_SHOWN_BYTES].decode(errors='ignore')}~{sha256(content).hexdigest()}"


def check_name(field: str, value: str) -> None:
    """Raises ValueError for a name over LONGEST_NAME_BYTES in UTF-8; for the `__post_init__` of a contract."""
    if not isinstance(value, str):  # refused by its type, once the event is read
        return
    size = len(value.encode())
    if size > LONGEST_NAME_BYTES:
        raise ValueError(f"{field} has {size} bytes, over {LONGEST_NAME_BYTES}")


def check_moment(field: str, value: datetime | None) -> None:
    """Raises ValueError for a moment before FIRST_MOMENT or after LAST_MOMENT; for a contract's `__post_init__`."""
    # Anything else is refused by its type, once the event is read.
    if not isinstance(value, datetime) or value.tzinfo is None:
        return
    if not FIRST_MOMENT <= value <= LAST_MOMENT:
        raise ValueError(f"{field} is not between the years {FIRST_MOMENT.year} and {LAST_MOMENT.year}")


def read_envelope(content: bytes | Raw) -> Envelope:
    """Reads an event's envelope from its JSON; raises BrokenContract."""
    return _read(content, Envelope, "envelope")


def by_type(types: Iterable[type[EventData]]) -> Contracts:
    """The contracts by their type's name."""
    return {contract.TYPE: contract for contract in types}


def _read(content: bytes | Raw, kind: type[_StructT], what: str) -> _StructT:
    try:
        return msgspec.json.decode(content, type=kind)
    except msgspec.ValidationError as error:
        reason, separator, where = str(error).rpartition(" - at `$")
        raise BrokenContract(f"{what}{where.rstrip('`')}: {reason}" if separator else f"{what}: {error}") from error
    except msgspec.DecodeError as error:
        raise BrokenContract(f"{what}: not JSON ({error})") from error
    except UnicodeDecodeError as error:
        raise BrokenContract(f"{what}: not UTF-8 at byte {error.start}") from error
    except RecursionError as error:
        raise BrokenContract(f"{what}: nested too deep") from error
    except Exception as error:
        # A contract's own check may raise anything on a value that it does not expect; to read is to do nothing else,
        # so the same event is refused by every retry.
        raise BrokenContract(f"{what}: cannot be read by its contract ({type(error).__name__})") from error


def _escaped(text: str, separators: str) -> str:
    for character in f"%{separators}":
        text = text.replace(character, f"%{ord(character):02X}")
    return text
