"""What the templates need against what the account may have."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from offload.cli.preflight.assembly import Assembly, NewStack
from offload.cli.preflight.facts import OldStack
from offload.cli.preflight.item import Item, Untold, not_known, ok, refused, warning

RESOURCES_A_STACK = 500
"""CloudFormation, a hard limit (UserGuide/cloudformation-limits.html; cfn-lint 1.58 holds templates to the same)."""
NEAR = 0.8
"""From this share of a limit on, there is a warning."""
UNRESERVED_AT_LEAST = 100
"""What must stay unreserved (lambda/latest/api/API_PutFunctionConcurrency.html, read 2026-11-29)."""
LOG_POLICIES = 10
"""An account and Region, without those on one log group (logs API_PutResourcePolicy.html, read 2026-11-29)."""
LOG_POLICY_CHARACTERS = 5_120
"""Of one policy by AWS's guides (step-functions/latest/dg/bp-cwl.html, read 2026-11-29)."""
LOG_POLICY_AT_MOST = 51_200
"""The same by the API's own model (PolicyDocument of PutResourcePolicy, botocore 1.43.127): beyond, it is refused."""
LOG_DELIVERY = "AWSLogDeliveryWrite20150319"
"""The name of the policy into which AWS writes the ARNs of log groups that services deliver to."""
VENDED = "/aws/vendedlogs/"
"""Groups below are covered by one entry of that policy, however many there are (the same pages)."""
BUSES = 100
"""An account and Region, by default (eventbridge/latest/userguide/eb-quota.html, read 2026-11-23)."""
RULES_A_BUS = 300
"""By default (the same page)."""


def resources(assembly: Assembly) -> list[Item]:
    """The number of resources of each stack against CloudFormation's 500."""
    items = []
    for stack in assembly.stacks:
        count = len(stack.resources)
        says = f"{stack.name}: {count} of {RESOURCES_A_STACK} resources"
        if count > RESOURCES_A_STACK:
            items.append(refused("resources", says, "move a part of it into a stack of its own"))
        elif count >= NEAR * RESOURCES_A_STACK:
            items.append(warning("resources", says, "plan a second stack before it is full"))
    return items or [
        ok(
            "resources",
            ", ".join(f"{len(stack.resources)}" for stack in assembly.stacks) + f" of {RESOURCES_A_STACK} a stack",
        )
    ]


def stacks(new: int, names: tuple[str, ...] | Untold, limits: Mapping[str, int] | Untold) -> Item:
    """The number of stacks; `new` is how many the deploy adds."""
    for untold in (names, limits):
        if isinstance(untold, Untold):
            return not_known("stacks", untold)
    assert not isinstance(names, Untold)  # noqa: S101 - the loop above has returned
    assert not isinstance(limits, Untold)  # noqa: S101
    limit = limits.get("StackLimit")
    if limit is None:
        return ok("stacks", f"{len(names)} in this account and Region; AWS names no limit")
    says = f"{len(names)} and {new} new of {limit} in this account and Region"
    if len(names) + new > limit:
        return refused("stacks", says, "delete some, or ask for more (Service Quotas, CloudFormation)")
    return ok("stacks", says)


def concurrency(
    assembly: Assembly, deployed: Mapping[str, OldStack | Untold | None], limit: Mapping[str, Any] | Untold
) -> list[Item]:
    """What the queues may start at once and what functions reserve, against the account's concurrent executions."""
    if isinstance(limit, Untold):
        return [not_known("concurrency", limit)]
    total = int(limit.get("ConcurrentExecutions", 0))
    free = int(limit.get("UnreservedConcurrentExecutions", total))
    reserved, queues, unbounded = needed(assembly)
    old = [
        NewStack(stack.name, stack.template)
        for stack in deployed.values()
        if isinstance(stack, OldStack) and not isinstance(stack.template, Untold)
    ]
    already = needed(Assembly(tuple(old)))[0]
    left = free + already - reserved
    more = "ask for more (Service Quotas, Lambda, Concurrent executions)"
    items = []
    if reserved and left < UNRESERVED_AT_LEAST:
        items.append(
            refused(
                "concurrency",
                f"{reserved} reserved would leave {left} of {total} unreserved; Lambda keeps {UNRESERVED_AT_LEAST}",
                more,
            )
        )
    if queues > left:
        says = f"full queues start {queues} at once, the account has {left}: then calls are throttled"
        items.append(warning("concurrency", says, more))
    if not items:
        rest = f"; {unbounded} mappings without a maximum" if unbounded else ""
        items.append(
            ok("concurrency", f"queues start {queues} at once, {reserved} reserved, of {left + reserved}{rest}")
        )
    return items


def needed(assembly: Assembly) -> tuple[int, int, int]:
    """What functions reserve, what the queues of the others may start, and how many mappings have no maximum."""
    reserved: dict[tuple[str, str], int] = {}
    queues = unbounded = 0
    for stack in assembly.stacks:
        for name, body in stack.resources.items():
            value = body.get("Properties", {}).get("ReservedConcurrentExecutions")
            if body["Type"] == "AWS::Lambda::Function" and isinstance(value, int | str) and str(value).isdecimal():
                reserved[stack.name, name] = int(value)
    for stack in assembly.stacks:
        for body in stack.resources.values():
            if body["Type"] != "AWS::Lambda::EventSourceMapping":
                continue
            properties = body.get("Properties", {})
            function = properties.get("FunctionName", {})
            if isinstance(function, Mapping) and (stack.name, function.get("Ref")) in reserved:
                continue
            maximum = properties.get("ScalingConfig", {}).get("MaximumConcurrency")
            if maximum is None:
                unbounded += 1
            else:
                queues += int(maximum)
    return sum(reserved.values()), queues, unbounded


def log_policies(new_groups: int, found: tuple[Mapping[str, Any], ...] | Untold, *, name_length: int = 150) -> Item:
    """The account's resource policies of CloudWatch Logs, into which the access logs of APIs are written.

    `new_groups` counts the access logs' groups that are new and not below /aws/vendedlogs/: each adds its ARN
    (`name_length` characters) to one policy of at most 5,120.
    """
    if isinstance(found, Untold):
        return not_known("log policies", found)
    counted = [each for each in found if not each.get("resourceArn")]
    delivery = next((each for each in counted if each.get("policyName") == LOG_DELIVERY), None)
    length = len(str((delivery or {}).get("policyDocument", "")))
    says = f"{len(counted)} of {LOG_POLICIES} in this account and Region"
    if delivery is None and len(counted) >= LOG_POLICIES:
        return refused("log policies", f"{says}: none is left for the APIs' access logs", "delete one (logs)")
    after = length + new_groups * name_length
    fix = f"name the access logs' groups {VENDED}…, or take old groups out of the policy"
    if new_groups and after > LOG_POLICY_AT_MOST:
        return refused("log policies", f"{LOG_DELIVERY} would come to {after} of {LOG_POLICY_AT_MOST} characters", fix)
    if new_groups and after >= NEAR * LOG_POLICY_CHARACTERS:
        return warning("log policies", f"{LOG_DELIVERY} comes to {after} of {LOG_POLICY_CHARACTERS} characters", fix)
    return ok("log policies", says)


def access_log_groups(assembly: Assembly, deployed: Mapping[str, OldStack | Untold | None]) -> int:
    """How many groups of access logs a deploy adds that are not below /aws/vendedlogs/."""
    count = 0
    for stack in assembly.stacks:
        old = deployed.get(stack.name)
        had: Mapping[str, Any] = {}
        if isinstance(old, OldStack) and isinstance(old.template, Mapping):
            had = old.template.get("Resources", {})
        for body in stack.resources.values():
            settings = body.get("Properties", {}).get("AccessLogSettings", {})
            if body["Type"] != "AWS::ApiGatewayV2::Stage" or not settings:
                continue
            match settings.get("DestinationArn"):
                case {"Fn::GetAtt": [str(group), _]} if group in stack.resources:
                    name = str(stack.resources[group].get("Properties", {}).get("LogGroupName", ""))
                    count += group not in had and VENDED not in name
    return count


def buses(
    assembly: Assembly, deployed: Mapping[str, OldStack | Untold | None], found: tuple[str, ...] | Untold
) -> Item:
    """The event buses of the account, and the rules of the app on each of its own."""
    if isinstance(found, Untold):
        return not_known("event buses", found)
    new = sum(
        body["Type"] == "AWS::Events::EventBus" and not _has(deployed.get(stack.name), name)
        for stack in assembly.stacks
        for name, body in stack.resources.items()
    )
    rules = sum(body["Type"] == "AWS::Events::Rule" for stack in assembly.stacks for body in stack.resources.values())
    says = f"{len(found)} and {new} new of {BUSES}; {rules} rules of {RULES_A_BUS} a bus"
    more = "ask for more (Service Quotas, EventBridge)"
    if len(found) + new > BUSES or rules > RULES_A_BUS:
        return warning("event buses", f"{says}, unless the account's quota was raised", more)
    return ok("event buses", says)


def _has(stack: OldStack | Untold | None, logical_id: str) -> bool:
    return (
        isinstance(stack, OldStack)
        and isinstance(stack.template, Mapping)
        and logical_id in stack.template.get("Resources", {})
    )
