"""Tenants: which subscription may be told of which event, by the audience that the event's contract declares.

A subscription names its tenant, or none. One without a tenant is the operators': it may be told of everything, which is
also all that an application without tenants has. One of a tenant is told of what is everybody's and of what is that
tenant's. What declares no audience is the operators' alone; synthesis refuses to send it out at all.
"""

from __future__ import annotations

from typing import Final, TypeVar

import msgspec
from msgspec import Raw, Struct
from msgspec.structs import replace

from offload.contracts.events.audience import OPERATORS, Audience, Whose
from offload.contracts.events.event import EventData

NO_TENANT: Final = "default"
"""What stands for the tenant of a subscription that names none."""

_DataT = TypeVar("_DataT", bound=EventData)


class _Body(Struct, frozen=True):
    data: dict[str, Raw]


def may_be_told(tenant: str, contract: type[EventData]) -> bool:
    """Whether a tenant's subscription may be told of some event of this type."""
    return tenant == NO_TENANT or _audience(contract).whose is not Whose.OPERATORS


def is_decided_by_data(tenant: str, contract: type[EventData]) -> bool:
    """Whether it depends on an event's data that a tenant's subscription may be told of it."""
    return tenant != NO_TENANT and _audience(contract).whose is Whose.TENANT


def is_told(tenant: str, data: EventData) -> bool:
    """Whether a tenant's subscription may be told of this event."""
    audience = _audience(type(data))
    return _includes(audience, tenant, getattr(data, audience.field, None) if audience.field else None)


def is_told_by(tenant: str, contract: type[EventData], body: bytes) -> bool:
    """Whether a tenant's subscription may be told of the event of this type that a webhook's body tells of.

    A body that names no tenant where its type's events are a tenant's is the operators' alone.
    """
    audience = _audience(contract)
    if not is_decided_by_data(tenant, contract):
        return _includes(audience, tenant, None)
    names = dict(zip(contract.__struct_fields__, contract.__struct_encode_fields__, strict=True))
    try:
        named = msgspec.json.decode(body, type=_Body).data[names[audience.field]]
        return _includes(audience, tenant, msgspec.json.decode(named, type=str))
    except (msgspec.MsgspecError, UnicodeError, RecursionError, KeyError):
        return False


def example_for(tenant: str, example: _DataT) -> _DataT:
    """The example of a type as it would be the tenant's own."""
    audience = _audience(type(example))
    return replace(example, **{audience.field: tenant}) if audience.whose is Whose.TENANT else example


def _includes(audience: Audience, tenant: str, named: object) -> bool:
    if tenant == NO_TENANT or audience.whose is Whose.EVERYBODY:
        return True
    return audience.whose is Whose.TENANT and tenant == named


def _audience(contract: type[EventData]) -> Audience:
    return contract.AUDIENCE or OPERATORS
