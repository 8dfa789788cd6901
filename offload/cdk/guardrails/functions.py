"""Guardrails of functions: their callers, their logs, their variables, their versions."""

from __future__ import annotations

import re
from collections.abc import Iterator

from offload.cdk.guardrails.rule import Finding, Rule
from offload.cdk.guardrails.templates import Resource, Templates, Value, listed, number, text

FUNCTION = "AWS::Lambda::Function"

# Integration and authorizer timeouts: API Gateway Developer Guide, "Quotas for HTTP APIs" and "Quotas for REST APIs",
# read 2026-11-23. The HTTP API's cannot be raised.
HTTP_API_SECONDS = 30.0
REST_API_SECONDS = 29.0
AUTHORIZER_SECONDS = 10.0

_DEFAULT_TIMEOUT_SECONDS = 3

# A variable's name that promises a secret, unless its last word says that it is only the way to one.
_SECRET_NAME = re.compile(
    r"(^|_)(SECRET|TOKEN|PASSWORD|PASSWD|PASSPHRASE|CREDENTIALS?|API_?KEY|PRIVATE_?KEY|ACCESS_?KEY|SIGNING_?KEY)S?(\Z|_)"
)
_WAY_TO_A_SECRET = re.compile(
    r"_(ARN|NAME|ID|PARAMETER|PATH|PREFIX|URL|URI|SECONDS|DAYS|TTL|LENGTH|COUNT|LIMIT|BUDGET|ALGORITHM|HEADER|TABLE|BUCKET)S?\Z"
)
# Values that are secrets under any name: AWS access keys, GitHub, Slack and Stripe tokens, private keys.
_SECRET_VALUE = re.compile(
    r"\b(AKIA|ASIA)[0-9A-Z]{16}\b|\bgh[pousr]_\w{20,}|\bxox[bap]-\w|\bsk_live_\w|-----BEGIN [A-Z ]*PRIVATE"
)


def called_function(templates: Templates, caller: Resource, value: Value) -> Resource | None:
    """The function that a reference calls, through a version or an alias; None where it is outside the app."""
    target = templates.target(caller, value)
    while target is not None and target.type in ("AWS::Lambda::Alias", "AWS::Lambda::Version"):
        target = templates.target(target, target.properties.get("FunctionName"))
    return target if target is not None and target.type == FUNCTION else None


def integrated_function(templates: Templates, route: Resource) -> Resource | None:
    """The function behind a route of an HTTP API."""
    integration = templates.target(route, route.properties.get("Target"))
    if integration is None or integration.type != "AWS::ApiGatewayV2::Integration":
        return None
    return called_function(templates, integration, integration.properties.get("IntegrationUri"))


def _callers(templates: Templates) -> Iterator[tuple[Resource, Value, str, float]]:
    """What waits for a function's answer: the caller, its reference, its name for people, its seconds."""
    for integration in templates.of_type("AWS::ApiGatewayV2::Integration"):
        waits = (number(integration.properties.get("TimeoutInMillis")) or HTTP_API_SECONDS * 1000) / 1000
        yield integration, integration.properties.get("IntegrationUri"), "An HTTP API", min(waits, HTTP_API_SECONDS)
    for method in templates.of_type("AWS::ApiGateway::Method"):
        integration_of = method.properties.get("Integration", {})
        waits = (number(integration_of.get("TimeoutInMillis")) or REST_API_SECONDS * 1000) / 1000
        yield method, integration_of.get("Uri"), "A REST API", waits
    for authorizer in templates.of_type("AWS::ApiGatewayV2::Authorizer", "AWS::ApiGateway::Authorizer"):
        yield authorizer, authorizer.properties.get("AuthorizerUri"), "An API's authorizer", AUTHORIZER_SECONDS


def _caller_timeout(templates: Templates) -> Iterator[Finding]:
    for caller, reference, name, waits in _callers(templates):
        function = called_function(templates, caller, reference)
        timeout = None if function is None else function.number("Timeout", _DEFAULT_TIMEOUT_SECONDS)
        if function is not None and timeout is not None and timeout > waits:
            yield Finding(
                function,
                f"{name} waits {waits:g} s for this function ({caller}), but it may run for {timeout} s: the caller has"
                " its error while the work goes on.",
                f"Set Timeout to {waits:g} s or less; work that takes longer is a job.",
                "Properties/Timeout",
                about=str(caller),
            )


def _log_retention(templates: Templates) -> Iterator[Finding]:
    of_function: set[int] = set()
    for group in templates.of_type("AWS::Logs::LogGroup"):
        name = group.properties.get("LogGroupName")
        owner = templates.target(group, name.removeprefix("/aws/lambda/") if isinstance(name, str) else name)
        if owner is not None and owner.type == FUNCTION:
            of_function.add(id(owner))
        if group.properties.get("RetentionInDays") is None:
            yield Finding(
                group,
                "The log group keeps its events for ever.",
                "Set RetentionInDays (retention=...).",
                "Properties/RetentionInDays",
            )
    for function in templates.of_type(FUNCTION):
        named = function.properties.get("LoggingConfig", {}).get("LogGroup")
        if named is None and id(function) not in of_function:
            yield Finding(
                function,
                "The function's log group is not in the template: Lambda makes one at the first call, which keeps its"
                " events for ever.",
                "Give it a log group with a retention (log_group=...).",
                "Properties/LoggingConfig",
            )


def _secret_in_environment(templates: Templates) -> Iterator[Finding]:
    for function in templates.of_type(FUNCTION):
        for name, value in function.properties.get("Environment", {}).get("Variables", {}).items():
            literal = text(value)
            promised = _SECRET_NAME.search(name.upper()) and not _WAY_TO_A_SECRET.search(name.upper())
            resolved = "{{resolve:secretsmanager:" in literal or "{{resolve:ssm-secure:" in literal
            written = isinstance(value, str) and value != "" and promised
            if written or resolved or _SECRET_VALUE.search(literal):
                # The value itself is never repeated: a report is read by more people than a secret.
                yield Finding(
                    function,
                    f"The environment variable {name} holds what looks like a secret: everyone who may see the function"
                    " or its template can read it.",
                    "Put the secret into Secrets Manager, hand over its name, and read it at the cold start.",
                    f"Properties/Environment/Variables/{name}",
                    about=name,
                )


def _invocations(templates: Templates) -> Iterator[tuple[Resource, Value, Value, str]]:
    """Where something is set up to call a function: the caller, its reference, a qualifier apart, the property."""
    for called in templates.of_type("AWS::Lambda::EventSourceMapping", "AWS::Lambda::Permission"):
        yield called, called.properties.get("FunctionName"), None, "Properties/FunctionName"
    for url in templates.of_type("AWS::Lambda::Url"):
        yield url, url.properties.get("TargetFunctionArn"), url.properties.get("Qualifier"), "Properties/Qualifier"
    for rule in templates.of_type("AWS::Events::Rule"):
        for index, target in enumerate(listed(rule.properties.get("Targets"))):
            yield rule, target.get("Arn"), None, f"Properties/Targets/{index}/Arn"
    for schedule in templates.of_type("AWS::Scheduler::Schedule"):
        yield schedule, schedule.properties.get("Target", {}).get("Arn"), None, "Properties/Target/Arn"
    for subscription in templates.of_type("AWS::SNS::Subscription"):
        yield subscription, subscription.properties.get("Endpoint"), None, "Properties/Endpoint"
    for integration in templates.of_type("AWS::ApiGatewayV2::Integration"):
        yield integration, integration.properties.get("IntegrationUri"), None, "Properties/IntegrationUri"
    for method in templates.of_type("AWS::ApiGateway::Method"):
        yield method, method.properties.get("Integration", {}).get("Uri"), None, "Properties/Integration/Uri"


def _qualified(templates: Templates, caller: Resource, value: Value, qualifier: Value) -> bool:
    """Whether a reference to a function names one of its versions or aliases."""
    target = templates.target(caller, value)
    if target is None or target.type != FUNCTION:
        return True
    if qualifier is not None:
        return bool(qualifier != "$LATEST")
    written = text(value)
    if isinstance(value, str):
        _, arn, name = written.partition(":function:")
        written = name if arn else written
    suffix = written.rpartition(":")[2] if ":" in written else ""
    # In an API's URI the function's ARN is in the middle: `…:lambda:path/2015-03-31/functions/ARN/invocations`.
    return bool(suffix) and not suffix.endswith("/invocations") and suffix != "$LATEST"


def _durable_version(templates: Templates) -> Iterator[Finding]:
    for caller, reference, qualifier, location in _invocations(templates):
        function = called_function(templates, caller, reference)
        if function is None or "DurableConfig" not in function.properties:
            continue
        if not _qualified(templates, caller, reference, qualifier):
            yield Finding(
                caller,
                f"The durable function {function} is called as $LATEST: a deployment changes the code under its"
                " running executions, whose steps then no longer match.",
                "Refer to a version or an alias of it (function.current_version).",
                location,
                about=str(function),
            )


RULES = (
    Rule(
        "caller-timeout",
        "a function that may run longer than its caller waits: HTTP API 30 s, REST API 29 s, an API's authorizer 10 s",
        _caller_timeout,
    ),
    Rule(
        "log-retention", "a function whose log group is not in the app, a log group without retention", _log_retention
    ),
    Rule(
        "secret-in-environment",
        "a function's environment variable that holds a secret by its name or its looks",
        _secret_in_environment,
    ),
    Rule("durable-version", "a durable function that is called as `$LATEST`", _durable_version),
)
"""The rules of this module."""
