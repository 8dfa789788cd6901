"""Our HTTP APIs as OpenAPI documents, made from the contracts: `schemas/jobs/openapi.json` and so on.

Source of the format: OpenAPI 3.1.1, https://spec.openapis.org/oas/v3.1.1.html. Of how the gateway signs, throttles and
refuses: https://docs.aws.amazon.com/apigateway/latest/developerguide/http-api-access-control-iam.html.
"""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Final

import msgspec

from offload.cli.schemas.schemas import published
from offload.contracts.catalogue import Catalogue
from offload.contracts.events.event import EventData
from offload.contracts.http_api import IDEMPOTENCY_KEY, PROBLEM, Problem, Route
from offload.contracts.jobs.api import ROUTES as JOB_ROUTES
from offload.contracts.jobs.job import Submit
from offload.contracts.jobs.job_type import JobType
from offload.contracts.webhooks_out.api import ROUTES as SUBSCRIPTION_ROUTES
from offload.contracts.webhooks_out.message import Message
from offload.project import PROJECT
from offload.runtime.jobs.refusals import REFUSALS as JOB_REFUSALS
from offload.runtime.refusals import BadRequest, BodyTooLarge, Refusal, Unavailable, UnsupportedMediaType
from offload.runtime.webhooks_out.refusals import REFUSALS as SUBSCRIPTION_REFUSALS

Part = dict[str, Any]

_SCHEMAS: Final = PROJECT / "schemas"
_PLACE: Final = "#/components/schemas/{name}"
_MEANINGS: Final = {200: "OK", 201: "Created", 204: "Done", 303: "Elsewhere"}
# What the gateway itself answers, before anything of ours runs.
_BY_THE_GATEWAY: Final = {
    403: "Forbidden: not signed with AWS Signature Version 4, or the signer may not call this route.",
    429: "Too many requests for the gateway's throttle: send it again later.",
}
_TRACEPARENT: Final = "The trace that the request belongs to, as W3C Trace Context has it; one that is not is left out."


@dataclass(frozen=True, kw_only=True)
class HttpApi:
    """One API. `more` are further bodies with a schema; `finish` has the last word on the schemas."""

    name: str
    title: str
    description: str
    server: str
    routes: Mapping[str, Route]
    refusals: Iterable[type[Refusal]]
    parameters: Mapping[str, str]
    keyed: str
    more: tuple[Any, ...] = ()
    finish: Callable[[dict[str, Part]], None] = lambda _: None
    webhooks: Callable[[], Part] = field(default=dict)

    @property
    def file(self) -> Path:
        """Where its document is."""
        return _SCHEMAS / self.name / "openapi.json"


def _inputs_by_type(types: Iterable[JobType[Any, Any]], schemas: dict[str, Part]) -> None:
    # What a submit's input is depends on its type.
    schemas[Submit.__name__]["anyOf"] = [
        {"properties": {"type": {"const": each.name}, "input": _reference(each.input)}} for each in types
    ]


def _webhooks(examples: Mapping[str, EventData]) -> Part:
    """What subscribers receive, by type: OpenAPI's own word for it is `webhooks`."""
    headers = {
        "webhook-id": "The delivery's id: the same at each attempt. Do nothing twice for it.",
        "webhook-timestamp": "When this attempt was made, in seconds since 1970. Refuse what is older than 5 minutes.",
        "webhook-signature": "Signatures of Standard Webhooks, `v1,` and base64, parted by blanks; one has to fit.",
    }
    parameters = [
        {"name": name, "in": "header", "required": True, "description": what, "schema": {"type": "string"}}
        for name, what in headers.items()
    ]
    found = {}
    for name, example in examples.items():
        schema = {
            "allOf": [
                _reference(Message),
                {"properties": {"type": {"const": name}, "data": _reference(type(example))}},
            ]
        }
        found[name] = {
            "post": {
                "summary": inspect.cleandoc(type(example).__doc__ or name).partition("\n")[0],
                "parameters": parameters,
                "requestBody": {"required": True, "content": _json(schema)},
                "responses": {
                    "2XX": {"description": "Taken."},
                    "410": {"description": "Gone: the subscription pauses, and this delivery is given up."},
                    "default": {"description": "Tried again by the schedule."},
                },
            }
        }
    return found


def jobs_api(types: Collection[JobType[Any, Any]]) -> HttpApi:
    """The API of jobs, of these types."""
    return HttpApi(
        name="jobs",
        title="Offload: jobs",
        description="Background jobs of a monolith. Every request is signed with AWS Signature Version 4, for the "
        "service `execute-api`.",
        server="The output `Url` of the JobService, in the platform's stack.",
        routes=JOB_ROUTES,
        refusals=JOB_REFUSALS,
        parameters={"id": "A job's id.", "type": "A job type's name."},
        keyed="The same key and content is the same job, however often it is sent.",
        more=tuple(part for each in types for part in (each.input, each.result)),
        finish=partial(_inputs_by_type, types),
    )


def subscriptions_api(examples: Mapping[str, EventData]) -> HttpApi:
    """The API of subscriptions and deliveries, to events such as these examples, by their types."""
    return HttpApi(
        name="subscriptions",
        title="Offload: subscriptions",
        description="Third parties that are told of events, and the deliveries that are owed to them. Every request is "
        "signed with AWS Signature Version 4, for the service `execute-api`. `webhooks` are what subscribers receive.",
        server="The output `Url` of the WebhookSender, in the stack that has it.",
        routes=SUBSCRIPTION_ROUTES,
        refusals=SUBSCRIPTION_REFUSALS,
        parameters={"id": "The id of a subscription, or of a delivery."},
        keyed="The same key and content is the same subscription, however often it is sent.",
        more=(Message, *(type(each) for each in examples.values())),
        webhooks=partial(_webhooks, examples),
    )


def apis(catalogue: Catalogue) -> tuple[HttpApi, HttpApi]:
    """Both APIs, for what an app has."""
    return jobs_api(tuple(catalogue.job_types.values())), subscriptions_api(catalogue.outward_examples)


def document(api: HttpApi) -> Part:
    """The API's OpenAPI document, as JSON."""
    schemas = _schemas(api)
    paths: dict[str, Part] = {}
    for name, route in api.routes.items():
        paths.setdefault(route.path, {})[route.method.lower()] = _operation(api, name, route, schemas)
    webhooks = api.webhooks()
    return {
        "openapi": "3.1.1",
        "info": {"title": api.title, "version": "1", "description": api.description},
        "servers": [{"url": "/", "description": api.server}],
        "security": [{"iam": []}],
        "paths": paths,
        **({"webhooks": webhooks} if webhooks else {}),
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


def write(api: HttpApi) -> bool:
    """Writes the API's document into its file; returns whether it was another."""
    text = text_of(document(api))
    if api.file.exists() and api.file.read_text("utf-8") == text:
        return False
    api.file.parent.mkdir(exist_ok=True)
    api.file.write_text(text, "utf-8")
    return True


def text_of(part: Part) -> str:
    """The document as it stands in its file."""
    return json.dumps(part, indent=2, ensure_ascii=False) + "\n"


def _bodies(api: HttpApi) -> Iterator[Any]:
    yield Problem
    for route in api.routes.values():
        yield from (each for each in (route.body, route.query) if each is not None)
        yield from (each for each in route.answers.values() if each is not None)
    yield from api.more


def _reference(body: Any) -> Part:
    [schema], _ = msgspec.json.schema_components([body], ref_template=_PLACE)
    reference: Part = published(dict(schema))
    return reference


def _schemas(api: HttpApi) -> dict[str, Part]:
    _, components = msgspec.json.schema_components(list(_bodies(api)), ref_template=_PLACE)
    schemas: dict[str, Part] = published(json.loads(json.dumps(components)))
    for schema in schemas.values():
        if "description" in schema:
            schema["description"] = inspect.cleandoc(schema["description"])
    api.finish(schemas)
    schemas["GatewayRefusal"] = {"type": "object", "properties": {"message": {"type": "string"}}}
    return dict(sorted(schemas.items()))


def _operation(api: HttpApi, name: str, route: Route, schemas: dict[str, Part]) -> Part:
    operation: Part = {
        "operationId": name,
        "summary": route.summary,
        "parameters": list(_parameters(api, route, schemas)),
    }
    if route.body is not None:
        needed = bool(schemas[route.body.__name__].get("required"))
        operation["requestBody"] = {"required": needed, "content": _json(_reference(route.body))}
    operation["responses"] = {str(status): part for status, part in sorted(_responses(api, route).items())}
    return operation


def _parameters(api: HttpApi, route: Route, schemas: dict[str, Part]) -> Iterator[Part]:
    for name in re.findall(r"{(\w+)}", route.path):
        described = api.parameters[name]
        schema = {"type": "string", "minLength": 1}
        yield {"name": name, "in": "path", "required": True, "description": described, "schema": schema}
    if route.query is not None:
        for name, schema in schemas[route.query.__name__]["properties"].items():
            yield {"name": name, "in": "query", "required": False, "schema": schema}
    if route.keyed:
        key = published({"type": "string", "pattern": IDEMPOTENCY_KEY})
        yield {
            "name": "Idempotency-Key",
            "in": "header",
            "required": False,
            "description": api.keyed,
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


def _responses(api: HttpApi, route: Route) -> dict[int, Part]:
    responses: dict[int, Part] = {}
    for status, body in route.answers.items():
        responses[status] = {"description": _MEANINGS[status]}
        if body is not None:
            responses[status]["content"] = _json(_reference(body))
        if route.located and status in (201, 303):
            responses[status]["headers"] = {"Location": {"required": True, "schema": {"type": "string"}}}
    by_status: dict[int, list[type[Refusal]]] = {}
    for refusal in _refusals(api, route):
        by_status.setdefault(refusal.status, []).append(refusal)
    responses |= {status: _problems(refusals) for status, refusals in by_status.items()}
    for status, meaning in _BY_THE_GATEWAY.items():
        refused = {"$ref": _PLACE.format(name="GatewayRefusal")}
        responses[status] = {"description": meaning, "content": _json(refused)}
    return responses


def _refusals(api: HttpApi, route: Route) -> list[type[Refusal]]:
    names = {*route.refusals, Unavailable.slug}
    if route.body is not None:
        names |= {BadRequest.slug, BodyTooLarge.slug, UnsupportedMediaType.slug}
    if route.query is not None or route.keyed:
        names.add(BadRequest.slug)
    known = {each.slug: each for each in api.refusals}
    return [known[name] for name in sorted(names)]


def _problems(refusals: Iterable[type[Refusal]]) -> Part:
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
