"""Guardrails of access: what a role may do, and who may call a function."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from fnmatch import fnmatchcase

from offload.cdk.guardrails.functions import called_function, integrated_function
from offload.cdk.guardrails.rule import Finding, Rule
from offload.cdk.guardrails.templates import Resource, Templates, Value, listed, text

SIGNATURE_CHECK = "offload:signature-check"
"""The metadata of a function that checks its requests' signatures itself; its value names the scheme."""

UNUSED = "offload:permitted-unused"
"""The metadata of a policy with what it allows although no function asks for it: action, resource, reason."""

# IAM's resources that carry an identity's policies (the policies of queues, buckets and keys name their own resource).
_POLICIES = ("AWS::IAM::Policy", "AWS::IAM::ManagedPolicy", "AWS::IAM::RolePolicy")


def _statements(templates: Templates) -> Iterator[tuple[Resource, Mapping[str, Value], str]]:
    """Every statement that allows a role something: the resource, the statement, its place."""
    documents: list[tuple[Resource, Value, str]] = [
        (policy, policy.properties.get("PolicyDocument"), "Properties/PolicyDocument")
        for policy in templates.of_type(*_POLICIES)
    ]
    for role in templates.of_type("AWS::IAM::Role"):
        for index, inline in enumerate(listed(role.properties.get("Policies"))):
            documents.append((role, inline.get("PolicyDocument"), f"Properties/Policies/{index}/PolicyDocument"))
    for holder, document, place in documents:
        for index, statement in enumerate(listed((document or {}).get("Statement"))):
            if statement.get("Effect") != "Deny":
                yield holder, statement, f"{place}/Statement/{index}"


def _everything(resource: Value) -> bool:
    """Whether a statement's resource is every resource there is, or every one of a service."""
    literal = text(resource)
    return literal == "*" or (literal.startswith("arn:") and literal.split(":", 5)[-1] == "*")


def _role_wildcard(templates: Templates) -> Iterator[Finding]:
    for holder, statement, place in _statements(templates):
        for key in ("NotAction", "NotResource"):
            if key in statement:
                yield Finding(
                    holder,
                    f"The policy allows everything but what {key} names.",
                    f"Name what is needed, with {key.removeprefix('Not')}.",
                    f"{place}/{key}",
                    about=key,
                )
        actions = [str(action) for action in listed(statement.get("Action"))]
        for action in actions:
            if action == "*" or action.endswith(":*"):
                yield Finding(
                    holder,
                    f"The policy allows every action ('{action}').",
                    "Name the actions that the function takes.",
                    f"{place}/Action",
                    about=action,
                )
        if any(_everything(resource) for resource in listed(statement.get("Resource"))):
            for action in actions:
                yield Finding(
                    holder,
                    f"The policy allows {action} on every resource ('*').",
                    "Name the resource. If the action takes none (the Service Authorization Reference says so),"
                    " acknowledge this one with that reason.",
                    f"{place}/Resource",
                    about=action,
                )


def _binds_source(condition: Value) -> bool:
    """Whether a condition holds only for requests whose entries are all of named sources."""
    named = present = False
    for operator, keys in condition.items():
        for key, values in keys.items():
            if key.lower() != "events:source":
                continue
            every = operator in ("ForAllValues:StringEquals", "ForAllValues:StringLike")
            named = named or (every and not any(_everything(value) for value in listed(values)))
            present = present or (operator == "Null" and [text(value) for value in listed(values)] == ["false"])
    return named and present


def _unbound_source(templates: Templates) -> Iterator[Finding]:
    for holder, statement, place in _statements(templates):
        actions = [str(action) for action in listed(statement.get("Action"))]
        # Every action is refused by role-wildcard already.
        named = [action.lower() for action in actions if action != "*" and not action.endswith(":*")]
        publishes = any(fnmatchcase("events:putevents", action) for action in named)
        if publishes and not _binds_source(statement.get("Condition", {})):
            yield Finding(
                holder,
                "The policy allows to publish events from every source: a fault in one function, or whoever has taken"
                " it over, can publish what only others say.",
                "Grant EventBus.publish(…) with the types of the events: it binds events:source, for every entry of a"
                " request (ForAllValues:StringEquals) and only where there is one (Null: false).",
                f"{place}/Condition",
                about="events:PutEvents",
            )


def _checks_signatures(function: Resource | None) -> bool:
    return function is not None and bool(function.metadata.get(SIGNATURE_CHECK))


def _public_function(templates: Templates) -> Iterator[Finding]:
    fix = (
        "Require IAM or another authorizer; a webhook's function that checks signatures on the raw body says so with"
        " declare_signature_check(function, scheme)."
    )
    for url in templates.of_type("AWS::Lambda::Url"):
        function = called_function(templates, url, url.properties.get("TargetFunctionArn"))
        if url.properties.get("AuthType") == "NONE" and not _checks_signatures(function):
            yield Finding(url, "Anyone on the internet may call this function URL.", fix, "Properties/AuthType")
    for route in templates.of_type("AWS::ApiGatewayV2::Route"):
        function = integrated_function(templates, route)
        if route.properties.get("AuthorizationType", "NONE") == "NONE" and not _checks_signatures(function):
            key = route.properties.get("RouteKey")
            yield Finding(
                route, f"Anyone on the internet may call '{key}'.", fix, "Properties/AuthorizationType", about=str(key)
            )
    for api in templates.of_type("AWS::ApiGatewayV2::Api"):
        function = called_function(templates, api, api.properties.get("Target"))
        if "Target" in api.properties and not _checks_signatures(function):
            yield Finding(api, "The API hands every request to its target, unasked.", fix, "Properties/Target")
    for method in templates.of_type("AWS::ApiGateway::Method"):
        function = called_function(templates, method, method.properties.get("Integration", {}).get("Uri"))
        public = method.properties.get("AuthorizationType", "NONE") == "NONE"
        # A browser's preflight request carries no credentials.
        if public and method.properties.get("HttpMethod") != "OPTIONS" and not _checks_signatures(function):
            name = method.properties.get("HttpMethod")
            yield Finding(method, f"Anyone on the internet may call this {name}.", fix, "Properties/AuthorizationType")
    for permission in templates.of_type("AWS::Lambda::Permission"):
        narrowed = {"FunctionUrlAuthType", "SourceArn", "SourceAccount", "PrincipalOrgID", "InvokedViaFunctionUrl"}
        if permission.properties.get("Principal") == "*" and not narrowed & permission.properties.keys():
            yield Finding(
                permission,
                "Every AWS account may call this function.",
                "Name the principal, or narrow it with SourceArn.",
                "Properties/Principal",
            )


RULES = (
    Rule(
        "role-wildcard",
        "a role's policy that allows every action (`*`, `service:*`), or an action on every resource (`*`)",
        _role_wildcard,
    ),
    Rule(
        "unbound-source",
        "a role that may publish events (`events:PutEvents`) whose `events:source` is not bound",
        _unbound_source,
    ),
    Rule(
        "public-function",
        "a function URL or an API's route without an authorizer, whose function declares no signature check",
        _public_function,
    ),
)
"""The rules of this module."""
