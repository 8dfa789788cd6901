"""The JSON Schemas of the shop's contracts: those in the repository are up to date, and true of real orders."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import pytest
from jsonschema import Draft202012Validator

from offload.cli.schemas import openapi
from offload.cli.schemas.schemas import FOLDER, envelope_schema, schema_of, schemas_of, text_of
from offload.contracts.events.event import EventData
from offload.contracts.webhooks_out.message import message_of
from shop.catalogue import CATALOGUE
from shop.contracts.orders import OrderPlaced
from shop.contracts.stock import StockLow
from shop.orders import SHIPPED_DAY, generate, read_orders


def test_the_schemas_in_the_repository_are_up_to_date() -> None:
    found = {file.name: file.read_text("utf-8") for file in FOLDER.glob("*.json")}
    assert found == {name: text_of(schema) for name, schema in schemas_of(CATALOGUE.event_types).items()}, (
        "run `make schemas`"
    )


@pytest.mark.parametrize("api", openapi.apis(CATALOGUE), ids=lambda api: api.name)
def test_the_documents_of_the_apis_are_up_to_date(api: openapi.HttpApi) -> None:
    assert api.file.read_text("utf-8") == openapi.text_of(openapi.document(api)), "run `make schemas`"


def test_the_document_of_subscriptions_has_what_subscribers_receive() -> None:
    _, subscriptions = openapi.apis(CATALOGUE)
    api = openapi.document(subscriptions)
    bodies = {**api["components"], "$schema": "https://json-schema.org/draft/2020-12/schema"}
    for name, example in CATALOGUE.outward_examples.items():
        schema = api["webhooks"][name]["post"]["requestBody"]["content"]["application/json"]["schema"]
        Draft202012Validator({**schema, "components": bodies}).validate(json.loads(message_of(example.event())))


@pytest.mark.parametrize("event_type", CATALOGUE.events)
def test_a_schema_is_valid_and_named_as_its_events_say(event_type: type[EventData]) -> None:
    schema = schema_of(event_type)
    Draft202012Validator.check_schema(schema)
    assert schema["$id"] == event_type.schema_uri()
    assert schema["title"] == event_type.TYPE
    assert schema["description"]


def test_real_and_generated_events_are_valid_by_their_schemas() -> None:
    envelope = Draft202012Validator(envelope_schema())
    data = {event_type.TYPE: Draft202012Validator(schema_of(event_type)) for event_type in CATALOGUE.event_types}
    # Every third: the validator takes a millisecond a line.
    invoices = [*read_orders(SHIPPED_DAY).invoices[::3], *generate(2, 60)]
    low = StockLow(
        product="22423", units=3, low_below=5, cause="order.placed:1", caused_at=datetime(2010, 12, 1, tzinfo=UTC)
    )
    for event in (*(invoice.event() for invoice in invoices), low.event()):
        document = json.loads(event.to_json())
        envelope.validate(document)
        data[event.type].validate(document["data"])
        assert document["dataschema"] == data[event.type].schema["$id"]  # type: ignore[index]


@pytest.mark.parametrize(
    ("field", "value"), [("quantity", "six"), ("unit_price", 2.55), ("product", ""), ("quantity", 10**10)]
)
def test_a_broken_line_is_not_valid(field: str, value: object) -> None:
    document = json.loads(next(generate(1, 1)).event().to_json())["data"]
    document["lines"][0][field] = value
    assert not Draft202012Validator(schema_of(OrderPlaced)).is_valid(document)
