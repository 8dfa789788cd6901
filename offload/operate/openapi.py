"""The job service's HTTP API as an OpenAPI document, made from the contracts: `schemas/jobs/openapi.json`.

Source of the format: OpenAPI 3.1.1, https://spec.openapis.org/oas/v3.1.1.html. Of how the gateway signs, throttles and
refuses: https://docs.aws.amazon.com/apigateway/latest/developerguide/http-api-access-control-iam.html.
"""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Final

import msgspec

from offload.contracts.jobs.api import IDEMPOTENCY_KEY, PROBLEM, ROUTES, Problem, Route
from offload.contracts.jobs.catalogue import JOB_TYPES
from offload.contracts.jobs.job import Submit
from offload.runtime.jobs.refusals import (
    BadRequest,
    BodyTooLarge,
    JobRefused,
    Unavailable,
    UnsupportedMediaType,
)

Part = dict[str, Any]

FILE: Final = Path(__file__).parents[2] / "schemas" / "jobs" / "openapi.json"

_PLACE: Final = "#/components/schemas/{name}"
_REFUSALS: Final = {each.slug: each for each in JobRefused.__subclasses__()}
_MEANINGS: Final = {200: "OK", 201: "Created", 303: "Elsewhere"}
_PATH_PARAMETERS: Final = {"id": "A job's id.", "type": "A job type's name."}
# What the gateway itself answers, before anything of ours runs.
_BY_THE_GATEWAY: Final = {
    403: "Forbidden: not signed with AWS Signature Version 4, or the signer may not call this route.",
    429: "Too many requests for the gateway's throttle: send it again later.",
}
_TRACEPARENT: Final = "The trace that the job belongs to, as W3C Trace Context has it; one that is not is left out."


def document() -> Part:
    """The API's OpenAPI document, as JSON."""
    schemas = _schemas()
    paths: dict[str, Part] = {}
    for name, route in ROUTES.items():
        paths.setdefault(route.path, {})[route.method.lower()] = _operation(name, route, schemas)
    return {
        "openapi": "3.1.1",
        "info": {
            "title": "Offload: jobs",
            "version": "1",
            "description": "Background jobs of a monolith. Every request is signed with AWS Signature Version 4, for "
            "the service `execute-api`.",
        },
        "servers": [{"url": "/", "description": "The output `Url` of the platform's stack."}],
        "security": [{"iam": []}],
        "paths": paths,
        "components": {
            "securitySchemes": {
                "iam": {
                    "type": "apiKey",
                    "in": "header",
                    "name": "Authorization",
                    "description": "AWS Signature Version 4",
                    "x-amazon-apigateway-authtype": "awsSigv4",
                }
            },
            "schemas": schemas,
        },
    }


def write(file: Path = FILE) -> bool:
    """Writes the document into `file`; returns whether it was another."""
    text = text_of(document())
    if file.exists() and file.read_text("utf-8") == text:
        return False
    file.parent.mkdir(exist_ok=True)
    file.write_text(text, "utf-8")
    return True


def text_of(part: Part) -> str:
    """The document as it stands in its file."""
    return json.dumps(part, indent=2, ensure_ascii=False) + "\n"


def _bodies() -> Iterator[Any]:
    yield Problem
    for route in ROUTES.values():
        yield from (each for each in (route.body, route.query) if each is not None)
        yield from route.answers.values()
    for job_type in JOB_TYPES.values():
        yield from (job_type.input, job_type.result)


def _reference(body: Any) -> Part:
    [schema], _ = msgspec.json.schema_components([body], ref_template=_PLACE)
    return dict(schema)


def _schemas() -> dict[str, Part]:
    _, components = msgspec.json.schema_components(list(_bodies()), ref_template=_PLACE)
    schemas: dict[str, Part] = json.loads(json.dumps(components))
    for schema in schemas.values():
        if "description" in schema:
            schema["description"] = inspect.cleandoc(schema["description"])
    # What a submit's input is depends on its type.
    schemas[Submit.__name__]["anyOf"] = [
        {"properties": {"type": {"const": each.name}, "input": _reference(each.input)}} for each in JOB_TYPES.values()
    ]
    schemas["GatewayRefusal"] = {"type": "object", "properties": {"message": {"type": "string"}}}
    return dict(sorted(schemas.items()))


def _operation(name: str, route: Route, schemas: dict[str, Part]) -> Part:
    operation: Part = {"operationId": name, "summary": route.summary, "parameters": list(_parameters(route, schemas))}
    if route.body is not None:
        needed = bool(schemas[route.body.__name__].get("required"))
        operation["requestBody"] = {"required": needed, "content": _json(_reference(route.body))}
    operation["responses"] = {str(status): part for status, part in sorted(_responses(route).items())}
    return operation


def _parameters(route: Route, schemas: dict[str, Part]) -> Iterator[Part]:
    for name in re.findall(r"{(\w+)}", route.path):
        described = _PATH_PARAMETERS[name]
        schema = {"type": "string", "minLength": 1}
        yield {"name": name, "in": "path", "required": True, "description": described, "schema": schema}
    if route.query is not None:
        for name, schema in schemas[route.query.__name__]["properties"].items():
            yield {"name": name, "in": "query", "required": False, "schema": schema}
    if route.keyed:
        key = {"type": "string", "pattern": IDEMPOTENCY_KEY}
        yield {
            "name": "Idempotency-Key",
            "in": "header",
            "required": False,
            "description": "The same key and content is the same job, however often it is sent.",
            "schema": key,
        }
        trace = {"type": "string"}
        yield {
            "name": "traceparent",
            "in": "header",
            "required": False,
            "description": _TRACEPARENT,
            "schema": trace,
        }


def _responses(route: Route) -> dict[int, Part]:
    responses: dict[int, Part] = {}
    for status, body in route.answers.items():
        responses[status] = {"description": _MEANINGS[status], "content": _json(_reference(body))}
        if route.located and status in (201, 303):
            responses[status]["headers"] = {"Location": {"required": True, "schema": {"type": "string"}}}
    by_status: dict[int, list[type[JobRefused]]] = {}
    for refusal in _refusals(route):
        by_status.setdefault(refusal.status, []).append(refusal)
    responses |= {status: _problems(refusals) for status, refusals in by_status.items()}
    for status, meaning in _BY_THE_GATEWAY.items():
        refused = {"$ref": _PLACE.format(name="GatewayRefusal")}
        responses[status] = {"description": meaning, "content": _json(refused)}
    return responses


def _refusals(route: Route) -> list[type[JobRefused]]:
    names = {*route.refusals, Unavailable.slug}
    if route.body is not None:
        names |= {BadRequest.slug, BodyTooLarge.slug, UnsupportedMediaType.slug}
    if route.query is not None or route.keyed:
        names.add(BadRequest.slug)
    return [_REFUSALS[name] for name in sorted(names)]


def _problems(refusals: Iterable[type[JobRefused]]) -> Part:
    told = {f"{PROBLEM}{each.slug}": each.title() for each in refusals}
    schema = {"allOf": [_reference(Problem), {"properties": {"type": {"enum": list(told)}}}]}
    response: Part = {
        "description": "\n".join(f"- `{name}`: {title}" for name, title in told.items()),
        "content": {"application/problem+json": {"schema": schema}},
    }
    if Unavailable in refusals:
        seconds = {"schema": {"type": "string"}, "description": "Seconds."}
        response["headers"] = {"Retry-After": {**seconds, "required": True}}
    return response


def _json(schema: Part) -> Part:
    return {"application/json": {"schema": schema}}
