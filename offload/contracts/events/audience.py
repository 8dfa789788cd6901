"""Whose an event is: who may be told of it when it leaves the house.

A contract that third parties can subscribe to declares it as its `AUDIENCE`. `offload.contracts.webhooks_out.tenants`
decides by it for a subscription.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final

from msgspec import Struct


class Whose(StrEnum):
    """Who may be told of the events of a type."""

    EVERYBODY = "everybody"
    """Every subscription."""
    TENANT = "tenant"
    """The subscriptions of the tenant that the event's data names, and the operators'."""
    OPERATORS = "operators"
    """The operators' subscriptions alone: those without a tenant."""


class Audience(Struct, frozen=True):
    """Whose the events of a type are; `field` of the data names the tenant, of those that are a tenant's."""

    whose: Whose
    field: str = ""


EVERYBODY: Final = Audience(Whose.EVERYBODY)
OPERATORS: Final = Audience(Whose.OPERATORS)


def tenant_in(field: str) -> Audience:
    """The audience of events that are the tenant's whom this field of the data names.

    The field is a text. An event in which it is None, empty or unset is the operators' alone.
    """
    return Audience(Whose.TENANT, field)
