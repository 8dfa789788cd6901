"""Guardrails of size: what AWS refuses in the middle of a deployment, refused some use cases before."""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping
from typing import Final

from offload.cdk.guardrails.functions import called_function
from offload.cdk.guardrails.queues import queue_mappings
from offload.cdk.guardrails.rule import Finding, Rule
from offload.cdk.guardrails.templates import Resource, Templates, Value, listed, number

STACK_RESOURCES: Final = 500
"""Resources of a template (CloudFormation's cloudformation-limits.html, read 2026-11-29)."""
ROLE_CHARACTERS: Final = 10_240
"""Of a role's inline policies together, without white space (IAM's reference_iam-quotas.html, read 2026-11-29)."""
FUNCTION_POLICY_BYTES: Final = 20_480
"""Of the policy that says who may call a function (Lambda's gettingstarted-limits.html, read 2026-11-29)."""
BUS_RULES: Final = 300
"""Of one bus; can be raised (EventBridge's eb-quota.html, read 2026-11-29)."""
RULE_TARGETS: Final = 5
"""Of one rule; cannot be raised (eb-quota.html, read 2026-11-29)."""
NEW_ACCOUNT_CONCURRENCY: Final = 10
"""Concurrent executions of a new account, as people report it; AWS's gettingstarted-limits.html (read 2026-11-29) says
that they are "reduced", and names 1,000 as the usual quota."""

_WARNED: Final = 0.9
"""The part of a limit from which on the app is refused: a limit that is met is met in the middle of a deployment."""

# What only a deployment knows, at its longest: ap-southeast-2, an account, and a random end of 13 characters.
_PSEUDO: Final[Mapping[str, str]] = {
    "AWS::Partition": "aws",
    "AWS::Region": "r" * 14,
    "AWS::AccountId": "1" * 12,
    "AWS::URLSuffix": "amazonaws.com",
}
_RANDOM: Final = 13
_SUBSTITUTED: Final = re.compile(r"\$\{[^}]+\}")
# Names that services bound (each service's API reference, read 2026-11-29); of others CloudFormation's are shorter.
_LONGEST_NAME: Final[Mapping[str, int]] = {
    "AWS::SQS::Queue": 80,
    "AWS::Lambda::Function": 64,
    "AWS::IAM::Role": 64,
    "AWS::S3::Bucket": 63,
}
_SHORTEST_ARN: Final = len("arn:aws:s3:::")


def _stack_resources(templates: Templates) -> Iterator[Finding]:
    for template, resources in templates.by_template():
        if len(resources) > STACK_RESOURCES * _WARNED:
            yield Finding(
                resources[0],
                f"The stack {template.stack} has {len(resources)} resources, and CloudFormation takes"
                f" {STACK_RESOURCES}: some use cases more, and no deployment of it succeeds.",
                "Put some of its use cases into another stack on the same platform, beside it in app.py.",
                "Type",
            )


def _role_policy_size(templates: Templates) -> Iterator[Finding]:
    documents: dict[int, list[tuple[Resource, Value]]] = defaultdict(list)
    roles = list(templates.of_type("AWS::IAM::Role"))
    for role in roles:
        documents[id(role)] += [(role, each.get("PolicyDocument")) for each in listed(role.properties.get("Policies"))]
    for policy in templates.of_type("AWS::IAM::Policy", "AWS::IAM::RolePolicy"):
        holders = listed(policy.properties.get("Roles")) + listed(policy.properties.get("RoleName"))
        for holder in holders:
            held = templates.target(policy, holder)
            if held is not None:
                documents[id(held)].append((policy, policy.properties.get("PolicyDocument")))
    for role in roles:
        characters = sum(_rendered_length(templates, source, document) for source, document in documents[id(role)])
        if characters > ROLE_CHARACTERS * _WARNED:
            yield Finding(
                role,
                f"The role's {len(documents[id(role)])} inline policies have some {characters:,} characters, and IAM"
                f" takes {ROLE_CHARACTERS:,} of a role.",
                "Split the function, or put what all its use cases share into an AWS::IAM::ManagedPolicy (6,144"
                " characters each, 10 of them a role).",
                "Properties",
            )


def _function_policy_size(templates: Templates) -> Iterator[Finding]:
    permissions: dict[int, list[Resource]] = defaultdict(list)
    functions: dict[int, Resource] = {}
    for permission in templates.of_type("AWS::Lambda::Permission"):
        function = called_function(templates, permission, permission.properties.get("FunctionName"))
        if function is not None:
            functions[id(function)] = function
            permissions[id(function)].append(permission)
    for key, function in functions.items():
        size = sum(_statement_length(templates, permission) for permission in permissions[key])
        if size > FUNCTION_POLICY_BYTES * _WARNED:
            yield Finding(
                function,
                f"{len(permissions[key])} permissions to call the function have some {size:,} bytes, and Lambda takes"
                f" {FUNCTION_POLICY_BYTES:,} of a function.",
                "Give one permission for all routes of an API (scope_permission_to_route=False), and let rules send to"
                " a queue of the function's instead of calling it.",
                "Properties",
            )


def _bus_rules(templates: Templates) -> Iterator[Finding]:
    rules: dict[int, int] = defaultdict(int)
    buses: dict[int, Resource] = {}
    # An archive has a rule of its own, made by EventBridge.
    for kind, name in (("AWS::Events::Rule", "EventBusName"), ("AWS::Events::Archive", "SourceArn")):
        for rule in templates.of_type(kind):
            bus = templates.target(rule, rule.properties.get(name))
            if bus is not None:
                buses[id(bus)] = bus
                rules[id(bus)] += 1
    for key, bus in buses.items():
        if rules[key] > BUS_RULES * _WARNED:
            yield Finding(
                bus,
                f"{rules[key]} rules listen to the bus, and EventBridge takes {BUS_RULES}.",
                "Let consumers share a rule's queue or a function, or have the quota 'Number of rules' raised and"
                " acknowledge this.",
                "Properties",
            )


def _rule_targets(templates: Templates) -> Iterator[Finding]:
    for rule in templates.of_type("AWS::Events::Rule"):
        targets = listed(rule.properties.get("Targets"))
        if len(targets) > RULE_TARGETS:
            yield Finding(
                rule,
                f"The rule has {len(targets)} targets, and EventBridge takes {RULE_TARGETS}.",
                "Make a second rule of the same pattern.",
                "Properties/Targets",
            )


def concurrency_note(templates: Templates) -> str | None:
    """A line for people when the app's queues may start more than a new account runs; None when they may not."""
    most, unbounded = most_at_once(templates), sum(bound is None for bound in _bounds(templates))
    if most <= NEW_ACCOUNT_CONCURRENCY and not unbounded:
        return None
    without = f", {unbounded} of them without a bound," if unbounded else ""
    return (
        f"queues{without} may start {most or 'any number of'} invocations at once, and a new AWS account has"
        f" {NEW_ACCOUNT_CONCURRENCY} for all its functions: see Concurrent executions in Service Quotas"
        " (docs/guardrails.md)"
    )


def most_at_once(templates: Templates) -> int:
    """How many invocations the app's queues may start at once; a queue without a bound counts as none."""
    return sum(bound or 0 for bound in _bounds(templates))


def _bounds(templates: Templates) -> list[int | None]:
    """How many invocations each queue's mapping may start at once; None where it says no number."""
    scaling = (mapping.properties.get("ScalingConfig", {}) for mapping, _ in queue_mappings(templates))
    return [number(each.get("MaximumConcurrency")) for each in scaling]


def _statement_length(templates: Templates, permission: Resource) -> int:
    """The bytes of the statement that Lambda makes of a permission."""
    known = permission.properties
    statement = {
        "Sid": f"{permission.template.stack}-{permission.logical_id}-{'r' * _RANDOM}",
        "Effect": "Allow",
        "Principal": {"Service": known.get("Principal")},
        "Action": known.get("Action"),
        "Resource": known.get("FunctionName"),
        "Condition": {
            operator: {key: known[name]}
            for operator, key, name in (
                ("ArnLike", "AWS:SourceArn", "SourceArn"),
                ("StringEquals", "AWS:SourceAccount", "SourceAccount"),
            )
            if name in known
        },
    }
    return _rendered_length(templates, permission, statement)


def _rendered_length(templates: Templates, source: Resource, value: Value) -> int:
    """How long a part of a policy is, without white space, once CloudFormation has put names and ARNs in."""
    return len(json.dumps(_rendered(templates, source, value), separators=(",", ":")))


def _rendered(templates: Templates, source: Resource, value: Value) -> Value:
    if isinstance(value, list):
        return [_rendered(templates, source, item) for item in value]
    if not isinstance(value, Mapping):
        return value
    match value:
        case {"Ref": str() as name} if name in _PSEUDO:
            return _PSEUDO[name]
        case {"Fn::Join": [str() as separator, list() as parts]}:
            return separator.join(str(_rendered(templates, source, part)) for part in parts)
        case {"Ref": _} | {"Fn::GetAtt": _} | {"Fn::GetStackOutput": _} | {"Fn::ImportValue": _}:
            found = templates.target(source, value)
            return _arn(found) if found else "x" * _LONGEST_NAME["AWS::SQS::Queue"]
        case {"Fn::Sub": pattern}:
            return _SUBSTITUTED.sub("x" * _LONGEST_NAME["AWS::SQS::Queue"], str(listed(pattern)[0]))
    return {key: _rendered(templates, source, item) for key, item in value.items()}


def _arn(resource: Resource) -> str:
    """A resource's ARN at its longest."""
    name = f"{resource.template.stack}-{resource.logical_id}-{'r' * _RANDOM}"
    name = name[: _LONGEST_NAME.get(resource.type, len(name))]
    if resource.type == "AWS::S3::Bucket":
        return f"{'a' * _SHORTEST_ARN}{name}"
    service, kind = resource.type.removeprefix("AWS::").split("::")
    return f"arn:aws:{service.lower()}:{_PSEUDO['AWS::Region']}:{_PSEUDO['AWS::AccountId']}:{kind.lower()}/{name}"


RULES = (
    Rule("stack-resources", "a stack of more than 450 resources", _stack_resources),
    Rule("role-policy-size", "a role whose inline policies have more than 9,216 characters", _role_policy_size),
    Rule(
        "function-policy-size",
        "a function whose permissions to be called have more than 18,432 bytes",
        _function_policy_size,
    ),
    Rule("bus-rules", "a bus that more than 270 rules listen to", _bus_rules),
    Rule("rule-targets", "a rule of more than 5 targets", _rule_targets),
)
