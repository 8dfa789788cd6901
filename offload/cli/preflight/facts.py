"""What an account and Region have, asked of AWS once for the whole report."""

from __future__ import annotations

import json
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from offload.cli.preflight.assembly import Assembly
from offload.cli.preflight.calls import NO_FUNCTION, Reader
from offload.cli.preflight.item import Untold

_AT_ONCE = 4  # questions; CloudFormation throttles beyond some ten a second


@dataclass(frozen=True)
class OldStack:
    """One deployed stack.

    `template` is the deployed one, `resources` what CloudFormation says of each (logical id, type, physical id).
    """

    name: str
    id: str
    status: str
    protected: bool = False
    template: Mapping[str, Any] | Untold = field(default_factory=dict)
    resources: tuple[Mapping[str, Any], ...] | Untold = ()


@dataclass(frozen=True)
class Facts:
    """Everything that was asked. A name's value is Untold where AWS did not answer, None where it has no such thing."""

    account: str
    region: str
    caller: str
    bootstrap: Mapping[str, str | Untold | None] = field(default_factory=dict)
    schemas: Mapping[str, Mapping[str, Any] | Untold | None] = field(default_factory=dict)
    durable: Mapping[str, Any] | Untold | None = None
    stacks: Mapping[str, OldStack | Untold | None] = field(default_factory=dict)
    stack_names: tuple[str, ...] | Untold = ()
    limits: Mapping[str, int] | Untold = field(default_factory=dict)
    concurrency: Mapping[str, Any] | Untold = field(default_factory=dict)
    log_policies: tuple[Mapping[str, Any], ...] | Untold = ()
    buses: tuple[str, ...] | Untold = ()
    subscriptions: Mapping[str, tuple[Mapping[str, Any], ...] | Untold | None] = field(default_factory=dict)
    parameters: frozenset[str] | Untold = frozenset()
    log_groups: frozenset[str] | Untold = frozenset()
    tagged: tuple[Mapping[str, Any], ...] | Untold = ()


@dataclass(frozen=True)
class Identity:
    """Who asks: the account of the credentials, and the caller's ARN."""

    account: str
    caller: str


def identity(reader: Reader) -> Identity | Untold:
    """Asks whose credentials these are."""
    found = reader.ask("sts", "GetCallerIdentity")
    if found is None or isinstance(found, Untold):
        return found or Untold("failed", "sts:GetCallerIdentity", "no answer")
    return Identity(str(found["Account"]), str(found["Arn"]))


def gather(
    reader: Reader, who: Identity, assembly: Assembly, environment: str, names: Mapping[str, frozenset[str]]
) -> Facts:
    """Asks everything that the report needs. `names` are the physical names that templates set, by resource type."""
    types = sorted(assembly.types())
    stack_names = _list(reader.ask_all("cloudformation", "ListStacks", "StackSummaries"))
    living: tuple[str, ...] | Untold = ()
    if isinstance(stack_names, Untold):
        living = stack_names
    else:
        living = tuple(str(each["StackName"]) for each in stack_names if each["StackStatus"] != "DELETE_COMPLETE")
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        schemas = dict(zip(types, pool.map(lambda kind: _schema(reader, kind), types), strict=True))
        stacks = dict(
            zip(
                [stack.name for stack in assembly.stacks],
                pool.map(lambda stack: _stack(reader, stack.name), assembly.stacks),
                strict=True,
            )
        )
    topics = [
        str(resource["PhysicalResourceId"])
        for stack in stacks.values()
        if isinstance(stack, OldStack) and not isinstance(stack.resources, Untold)
        for resource in stack.resources
        if resource["ResourceType"] == "AWS::SNS::Topic" and resource.get("PhysicalResourceId")
    ]
    return Facts(
        account=who.account,
        region=reader.region,
        caller=who.caller,
        bootstrap={name: _parameter(reader, name) for name in assembly.bootstrap or {}},
        schemas=schemas,
        durable=reader.ask("lambda", "ListDurableExecutionsByFunction", FunctionName=NO_FUNCTION),
        stacks=stacks,
        stack_names=living,
        limits=_limits(reader),
        concurrency=_concurrency(reader),
        log_policies=_list(reader.ask_all("logs", "DescribeResourcePolicies", "resourcePolicies")),
        buses=_named(reader.ask_all("events", "ListEventBuses", "EventBuses"), "Name"),
        subscriptions={
            topic: _list(reader.ask_all("sns", "ListSubscriptionsByTopic", "Subscriptions", TopicArn=topic))
            for topic in topics
        },
        parameters=_parameters(reader, names.get("AWS::SSM::Parameter", frozenset())),
        log_groups=_log_groups(reader, names.get("AWS::Logs::LogGroup", frozenset())),
        tagged=_list(
            reader.ask_all(
                "resourcegroupstaggingapi",
                "GetResources",
                "ResourceTagMappingList",
                TagFilters=[{"Key": "environment", "Values": [environment]}],
            )
        ),
    )


def _schema(reader: Reader, kind: str) -> Mapping[str, Any] | Untold | None:
    """The Region's own description of a resource type."""
    found = reader.ask("cloudformation", "DescribeType", Type="RESOURCE", TypeName=kind)
    if found is None or isinstance(found, Untold):
        return found
    schema: Mapping[str, Any] = json.loads(found["Schema"])
    return schema


def _stack(reader: Reader, name: str) -> OldStack | Untold | None:
    found = reader.ask("cloudformation", "DescribeStacks", StackName=name)
    if found is None or isinstance(found, Untold):
        return found
    (stack,) = found["Stacks"]
    if stack["StackStatus"] == "DELETE_COMPLETE":
        return None
    return OldStack(
        name=name,
        id=str(stack["StackId"]),
        status=str(stack["StackStatus"]),
        protected=stack.get("EnableTerminationProtection") is True,
        template=_template(reader, name),
        resources=_list(
            reader.ask_all("cloudformation", "ListStackResources", "StackResourceSummaries", StackName=name)
        ),
    )


def _template(reader: Reader, name: str) -> Mapping[str, Any] | Untold:
    found = reader.ask("cloudformation", "GetTemplate", StackName=name, TemplateStage="Original")
    if found is None or isinstance(found, Untold):
        return found or {}
    body = found.get("TemplateBody") or "{}"
    template: Mapping[str, Any] = json.loads(body) if isinstance(body, str) else body
    return template


def _parameter(reader: Reader, name: str) -> str | Untold | None:
    found = reader.ask("ssm", "GetParameter", Name=name)
    return str(found["Parameter"]["Value"]) if isinstance(found, Mapping) else found


def _limits(reader: Reader) -> Mapping[str, int] | Untold:
    found = _list(reader.ask_all("cloudformation", "DescribeAccountLimits", "AccountLimits"))
    return found if isinstance(found, Untold) else {str(each["Name"]): int(each["Value"]) for each in found}


def _concurrency(reader: Reader) -> Mapping[str, Any] | Untold:
    found = reader.ask("lambda", "GetAccountSettings")
    if isinstance(found, Untold):
        return found
    limit: Mapping[str, Any] = (found or {}).get("AccountLimit", {})
    return limit


def _parameters(reader: Reader, names: frozenset[str]) -> frozenset[str] | Untold:
    """Which of these parameters there are; their values are not read."""
    found: set[str] = set()
    # DescribeParameters: 50 values a filter (API_ParameterStringFilter, read 2026-11-29).
    for some in _slices(sorted(names), 50):
        answer = _named(
            reader.ask_all(
                "ssm",
                "DescribeParameters",
                "Parameters",
                ParameterFilters=[{"Key": "Name", "Option": "Equals", "Values": some}],
            ),
            "Name",
        )
        if isinstance(answer, Untold):
            return answer
        found |= set(answer)
    return frozenset(found)


def _log_groups(reader: Reader, names: frozenset[str]) -> frozenset[str] | Untold:
    found: set[str] = set()
    for name in sorted(names):
        answer = _named(
            reader.ask_all("logs", "DescribeLogGroups", "logGroups", logGroupNamePrefix=name), "logGroupName"
        )
        if isinstance(answer, Untold):
            return answer
        found |= {each for each in answer if each == name}
    return frozenset(found)


def _slices(values: list[str], size: int) -> list[list[str]]:
    return [values[start : start + size] for start in range(0, len(values), size)]


def _list(found: list[Any] | Untold | None) -> tuple[Any, ...] | Untold:
    return found if isinstance(found, Untold) else tuple(found or ())


def _named(found: list[Any] | Untold | None, key: str) -> tuple[str, ...] | Untold:
    listed = _list(found)
    return listed if isinstance(listed, Untold) else tuple(str(each[key]) for each in listed)
