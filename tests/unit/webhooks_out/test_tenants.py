"""Which tenant may be told of which event, by the audience that its contract declares."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import ClassVar

import pytest

from clinic.catalogue import CATALOGUE
from offload.contracts.events.audience import Audience, tenant_in
from offload.contracts.events.event import EventData
from offload.contracts.webhooks_out.message import message_of
from offload.contracts.webhooks_out.tenants import (
    NO_TENANT,
    example_for,
    is_decided_by_data,
    is_told,
    is_told_by,
    may_be_told,
)


class Shipped(EventData, frozen=True, kw_only=True, rename="camel"):
    """Of a shop, when it is of one."""

    TYPE: ClassVar[str] = "parcel.shipped"
    SOURCE: ClassVar[str] = "test"
    AUDIENCE: ClassVar[Audience | None] = tenant_in("of_shop")

    parcel: str = "1"
    of_shop: str | None = None

    @property
    def key(self) -> str:
        return self.parcel

    @property
    def subject(self) -> str:
        return self.parcel

    @property
    def occurred_at(self) -> datetime:
        return datetime(2026, 11, 29, tzinfo=UTC)


class Undeclared(Shipped, frozen=True, kw_only=True, rename="camel"):
    """Nobody said whose it is."""

    TYPE: ClassVar[str] = "parcel.lost"
    AUDIENCE: ClassVar[Audience | None] = None


@pytest.mark.parametrize(
    ("data", "tenant", "told"),
    [
        (Shipped(of_shop="acme"), "acme", True),
        (Shipped(of_shop="acme"), "Acme", False),
        (Shipped(of_shop="acme"), "blue", False),
        (Shipped(of_shop="acme"), NO_TENANT, True),
        (Shipped(), "acme", False),
        (Shipped(), NO_TENANT, True),
        (Shipped(of_shop=NO_TENANT), "acme", False),
        (Undeclared(of_shop="acme"), "acme", False),
        (Undeclared(of_shop="acme"), NO_TENANT, True),
    ],
)
def test_an_event_and_its_body_are_told_to_the_same_tenants(data: EventData, tenant: str, told: bool) -> None:
    assert is_told(tenant, data) is told
    assert is_told_by(tenant, type(data), message_of(data.event())) is told


@pytest.mark.parametrize("body", [b"", b"{", b"{}", b'{"data": 1}', b'{"data": {"ofShop": 7}}', b'{"data": {}}'])
def test_a_body_that_names_no_tenant_is_for_operators_alone(body: bytes) -> None:
    assert not is_told_by("acme", Shipped, body)
    assert is_told_by(NO_TENANT, Shipped, body)


def test_of_a_type_it_is_known_whether_the_data_decide() -> None:
    assert (may_be_told("acme", Shipped), is_decided_by_data("acme", Shipped)) == (True, True)
    assert (may_be_told("acme", Undeclared), is_decided_by_data("acme", Undeclared)) == (False, False)
    assert (may_be_told(NO_TENANT, Undeclared), is_decided_by_data(NO_TENANT, Shipped)) == (True, False)


@pytest.mark.parametrize("example", CATALOGUE.outward_examples.values(), ids=CATALOGUE.outward_examples)
def test_every_type_that_goes_out_declares_whose_it_is_and_its_example_can_be_any_tenant_s(example: EventData) -> None:
    assert example.AUDIENCE is not None
    assert is_told(NO_TENANT, example)
    assert is_told("acme", example_for("acme", example)) is may_be_told("acme", type(example))
    assert example_for(NO_TENANT, example) == example
