"""The event: a CloudEvents 1.0 envelope around typed data.

Source of the attributes: CloudEvents 1.0.2, https://github.com/cloudevents/spec (spec.md; of its extensions
distributed-tracing.md and dataref.md).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Annotated, ClassVar, Generic, Literal, Self, TypeAlias, TypeVar

import msgspec
from msgspec import UNSET, Meta, Raw, Struct, UnsetType

DataT_co = TypeVar("DataT_co", bound="EventData", covariant=True)

Id = Annotated[str, Meta(min_length=1, max_length=256)]
Moment = Annotated[datetime, Meta(tz=True)]


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
