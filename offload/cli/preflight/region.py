"""Whether the Region has what the templates use: its own CloudFormation is asked, and no list of Regions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from offload.cli.preflight.calls import NO_FUNCTION
from offload.cli.preflight.item import Item, Untold, not_known, ok, refused, warning

_DURABLE = "DurableConfig"


def types(
    used: Mapping[str, frozenset[str]], schemas: Mapping[str, Mapping[str, Any] | Untold | None], region: str
) -> list[Item]:
    """The resource types and properties of the templates against the Region's schemas of them.

    One line when the Region has them all, one a type that it lacks or knows less of.
    """
    items: list[Item] = []
    untold = [schema for schema in schemas.values() if isinstance(schema, Untold)]
    for kind, properties in sorted(used.items()):
        schema = schemas.get(kind)
        if isinstance(schema, Untold):
            continue
        if schema is None:
            items.append(refused("types", f"{region} has no {kind}", "choose another Region, or leave it out"))
            continue
        lacking = sorted(properties - schema.get("properties", {}).keys())
        if lacking:
            says = f"{region} knows no {', '.join(lacking)} of {kind}"
            items.append(refused("types", says, "choose another Region, or leave it out"))
    if untold:
        items.append(not_known("types", untold[0]))
    return items or [ok("types", f"{region} has all {len(used)} resource types with the properties used")]


def durable(
    used: Mapping[str, frozenset[str]],
    schemas: Mapping[str, Mapping[str, Any] | Untold | None],
    asked: Mapping[str, Any] | Untold | None,
    region: str,
) -> Item:
    """Durable functions: CloudFormation's schema must know their setting, and Lambda the question about them.

    `asked` is the answer about a function that does not exist: None ("there is no such function") comes only from a
    Lambda that knows the question.
    """
    if _DURABLE not in used.get("AWS::Lambda::Function", frozenset()):
        return ok("durable", "the templates have no durable function")
    schema = schemas.get("AWS::Lambda::Function")
    if isinstance(schema, Mapping) and _DURABLE not in schema.get("properties", {}):
        return refused("durable", f"{region} has no durable functions", "choose another Region")
    if isinstance(asked, Untold):
        if asked.why == "denied":
            return not_known("durable", asked)
        return warning(
            "durable",
            f"Lambda in {region} does not answer for durable functions",
            "look at the Lambda page of AWS's list of services by Region, or choose another",
        )
    if asked is None:
        return ok("durable", f"Lambda in {region} answers for durable functions")
    return warning("durable", f"somebody has a function {NO_FUNCTION}", "delete it, then this can be told")
