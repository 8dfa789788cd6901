"""The JSON Schemas of the contracts: true of real events, and guarded against breaking changes."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
from jsonschema import Draft202012Validator
from msgspec import Meta, Struct, defstruct, structs

from clinic.catalogue import CATALOGUE
from clinic.contracts.supplies import SupplyLow
from clinic.contracts.visits import VisitCancelled, VisitEnded, VisitLine
from offload.cli.schemas import openapi
from offload.cli.schemas.schemas import (
    BreakingChange,
    breaking_changes,
    envelope_schema,
    schema_of,
    write,
)
from offload.contracts.events.event import EventData
from offload.contracts.jobs.api import ROUTES
from offload.contracts.webhooks_out.api import ROUTES as SUBSCRIPTION_ROUTES
from offload.contracts.webhooks_out.message import message_of

JOBS, SUBSCRIPTIONS = openapi.apis(CATALOGUE)
ENDED_AT = datetime(2026, 3, 2, 8, 26, tzinfo=UTC)


class Colour(StrEnum):
    RED = "red"
    BLUE = "blue"


class Part(Struct):
    name: str
    weight: Annotated[int, Meta(ge=0, le=10)]


class PartWithSize(Struct):
    name: str
    weight: Annotated[int, Meta(ge=0, le=10)]
    size: int = 0


class PartWithoutWeight(Struct):
    name: str


Field = tuple[str, Any] | tuple[str, Any, Any]
FIELDS: dict[str, Field] = {
    "name": ("name", str),
    "count": ("count", Annotated[int, Meta(ge=1, le=100)]),
    "colour": ("colour", Literal["red", "blue"]),
    "note": ("note", str | None, None),
    "parts": ("parts", tuple[Part, ...]),
}


def contract(changes: Mapping[str, Field | None] | None = None, version: int = 1) -> type[EventData]:
    """A contract with FIELDS; `changes` replaces, adds or (None) removes fields."""
    fields = [field for field in ({**FIELDS, **(changes or {})}).values() if field is not None]
    made: Any = defstruct(
        "ThingMade",
        fields,
        bases=(EventData,),
        namespace={"TYPE": "thing.made", "VERSION": version},
        kw_only=True,
        frozen=True,
    )
    return made  # type: ignore[no-any-return]


def test_the_job_service_s_document_says_of_every_refusal_what_it_is() -> None:
    api = openapi.document(JOBS)
    refused = api["paths"]["/jobs/{id}/retry"]["post"]["responses"]["409"]
    assert "urn:offload:problem:not-ended" in json.dumps(refused["content"]["application/problem+json"])
    assert set(api["paths"]) == {route.path for route in ROUTES.values()}


def test_the_document_of_subscriptions_has_what_subscribers_receive() -> None:
    api = openapi.document(SUBSCRIPTIONS)
    assert set(api["paths"]) == {route.path for route in SUBSCRIPTION_ROUTES.values()}
    bodies = {**api["components"], "$schema": "https://json-schema.org/draft/2020-12/schema"}
    for name, example in CATALOGUE.outward_examples.items():
        schema = api["webhooks"][name]["post"]["requestBody"]["content"]["application/json"]["schema"]
        Draft202012Validator({**schema, "components": bodies}).validate(json.loads(message_of(example.event())))


@pytest.mark.parametrize("event_type", CATALOGUE.event_types)
def test_a_schema_is_valid_and_named_as_its_events_say(event_type: type[EventData]) -> None:
    schema = schema_of(event_type)
    Draft202012Validator.check_schema(schema)
    assert schema["$id"] == event_type.schema_uri()
    assert schema["title"] == event_type.TYPE
    assert schema["description"]


def visit_ended(number: int = 1) -> VisitEnded:
    """A visit with what a visit may have; each number's is another one."""
    lines = tuple(
        VisitLine(
            item=f"8512{nth}A",
            quantity=6 - nth,
            unit_price=Decimal(number * nth) / 8,
            description='white \u2603, "held"' if nth % 2 else None,
            used_at=ENDED_AT if nth % 3 else None,
        )
        for nth in range(1 + number % 5)
    )
    ended_at = ENDED_AT + timedelta(hours=number, microseconds=number % 2)
    return VisitEnded(
        visit=str(number), ended_at=ended_at, ward="Eyes", patient="17850" if number % 4 else None, lines=lines
    )


def test_events_are_valid_by_their_schemas() -> None:
    envelope = Draft202012Validator(envelope_schema())
    data = {event_type.TYPE: Draft202012Validator(schema_of(event_type)) for event_type in CATALOGUE.event_types}
    ended = [visit_ended(number) for number in range(60)]
    cancelled = [VisitCancelled(**structs.asdict(visit)) for visit in ended[::5]]
    low = SupplyLow(item="22423", units=3, low_below=5, cause="visit.ended:1", caused_at=ENDED_AT)
    examples = CATALOGUE.outward_examples.values()
    for event in (each.event() for each in (*ended, *cancelled, low, *examples)):
        document = json.loads(event.to_json())
        envelope.validate(document)
        data[event.type].validate(document["data"])
        assert document["dataschema"] == data[event.type].schema["$id"]  # type: ignore[index]


@pytest.mark.parametrize(
    ("field", "value"), [("quantity", "six"), ("unit_price", 2.55), ("item", ""), ("quantity", 10**10)]
)
def test_a_broken_line_is_not_valid(field: str, value: object) -> None:
    document = json.loads(visit_ended().event().to_json())["data"]
    document["lines"][0][field] = value
    assert not Draft202012Validator(schema_of(VisitEnded)).is_valid(document)


def test_an_event_without_data_and_without_a_reference_to_it_is_not_valid() -> None:
    document = json.loads(visit_ended().event().to_json())
    del document["data"]
    validator = Draft202012Validator(envelope_schema())
    assert not validator.is_valid(document)
    assert validator.is_valid(document | {"dataref": "s3://claims/1"})


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        pytest.param({"name": None}, "name: removed", id="removed"),
        pytest.param({"note": None}, "note: removed", id="optional one removed"),
        pytest.param({"name": ("title", str)}, "name: removed", id="renamed"),
        pytest.param({"name": ("name", int)}, "name: was string and is integer", id="retyped"),
        pytest.param({"name": ("name", Decimal)}, "name: was string and is string (decimal)", id="another format"),
        pytest.param({"name": ("name", str | None)}, "name: was string and is string or null", id="nullable"),
        pytest.param({"note": ("note", str, "")}, "note: was string or null and is string", id="not nullable"),
        pytest.param({"size": ("size", int)}, "size: new and required", id="new required"),
        pytest.param({"name": ("name", str, "x")}, "name: no longer required", id="optional"),
        pytest.param({"note": ("note", str | None)}, "note: required now", id="required"),
        pytest.param({"note": ("note", str | None, "x")}, "note: default was None and is 'x'", id="default"),
        pytest.param(
            {"count": ("count", Annotated[int, Meta(ge=2, le=100)])}, "count: minimum was 1 and is 2", id="narrower"
        ),
        pytest.param(
            {"count": ("count", Annotated[int, Meta(ge=1, le=200)])}, "count: maximum was 100 and is 200", id="wider"
        ),
        pytest.param(
            {"name": ("name", Annotated[str, Meta(max_length=9)])}, "name: maxLength was absent and is 9", id="bound"
        ),
        pytest.param({"colour": ("colour", Literal["red"])}, "colour: no longer allows ['blue']", id="enum narrower"),
        pytest.param(
            {"colour": ("colour", Literal["red", "blue", "green"])}, "colour: newly allows ['green']", id="enum wider"
        ),
        pytest.param({"parts": ("parts", tuple[PartWithoutWeight, ...])}, "parts[].weight: removed", id="in a part"),
        pytest.param({"parts": ("parts", Part)}, "parts: was array and is object", id="no list any more"),
        pytest.param(
            {"parts": ("parts", Annotated[tuple[Part, ...], Meta(min_length=1)])},
            "parts: minItems was absent",
            id="length",
        ),
    ],
)
def test_a_change_that_breaks_consumers_is_refused(
    tmp_path: Path, changes: dict[str, Field | None], reason: str
) -> None:
    write(tmp_path, [contract()])
    before = {file.name: file.read_bytes() for file in tmp_path.iterdir()}
    with pytest.raises(BreakingChange) as refused:
        write(tmp_path, [contract(changes), VisitEnded])
    assert any(line.startswith(f"thing.made.json: {reason}") for line in refused.value.reasons), refused.value.reasons
    assert {file.name: file.read_bytes() for file in tmp_path.iterdir()} == before, "a refused change writes nothing"


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({}, id="nothing"),
        pytest.param({"size": ("size", int, 0)}, id="new with a default"),
        pytest.param({"size": ("size", int | None, None)}, id="new and nullable"),
        pytest.param({"parts": ("parts", tuple[PartWithSize, ...])}, id="new in a part"),
        pytest.param(
            {"colour": ("colour", Annotated[Literal["red", "blue"], Meta(description="x")])}, id="description"
        ),
        pytest.param({"colour": ("colour", Colour)}, id="the same values by another name"),
    ],
)
def test_a_change_that_breaks_nobody_is_written(tmp_path: Path, changes: dict[str, Field | None]) -> None:
    write(tmp_path, [contract()])
    write(tmp_path, [contract(changes)])
    assert json.loads((tmp_path / "thing.made.json").read_text()) == schema_of(contract(changes))


def test_a_raised_version_may_change_everything_and_a_lowered_one_nothing(tmp_path: Path) -> None:
    write(tmp_path, [contract()])
    write(tmp_path, [contract({"name": None, "count": ("count", Decimal)}, version=2)])
    with pytest.raises(BreakingChange, match="VERSION went back from 2 to 1"):
        write(tmp_path, [contract()])


def test_a_new_type_is_written_and_a_type_without_a_contract_is_told(tmp_path: Path) -> None:
    assert write(tmp_path, [contract()]).new == ("event.json", "thing.made.json")
    assert write(tmp_path, [contract(), VisitEnded]).new == ("visit.ended.json",)
    with pytest.raises(BreakingChange, match=r"thing\.made\.json: no contract of that name any more"):
        write(tmp_path, [VisitEnded])


def test_a_type_that_holds_itself_is_compared_to_its_end() -> None:
    def tree(leaf: str) -> dict[str, Any]:
        node = {"type": "object", "properties": {"next": {"$ref": "#/$defs/Node"}, "leaf": {"type": leaf}}}
        return {"$id": "urn:x:1", "$defs": {"Node": node}, **node}

    assert breaking_changes(tree("string"), tree("string")) == []
    assert "leaf: was string and is integer" in breaking_changes(tree("string"), tree("integer"))
