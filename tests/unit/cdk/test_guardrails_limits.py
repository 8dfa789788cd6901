"""Guardrails of size: an app at its limit is refused, one below it is not."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from aws_cdk import App, CfnResource, Duration, Stack
from aws_cdk import aws_events as events
from aws_cdk import aws_iam as iam
from aws_cdk import aws_lambda as lambda_

from offload.cdk.guardrails import limits
from offload.cdk.guardrails.limits import (
    NEW_ACCOUNT_CONCURRENCY,
    ROLE_CHARACTERS,
    concurrency_note,
    most_at_once,
)
from offload.cdk.guardrails.templates import Template, Templates
from tests.unit.cdk.test_guardrails import STRONG, Refusal, Synthesis

pytestmark = pytest.mark.synthesis

SERVICE = "lambda.amazonaws.com"


@pytest.fixture
def synthesis(tmp_path: Path) -> Synthesis:
    return Synthesis(tmp_path)


def refusals(synthesis: Synthesis, build: Callable[[App], object], rule: str, *, strong: bool = False) -> list[Refusal]:
    found = synthesis.of(build, context=STRONG if strong else None).refusals()
    return [refusal for refusal in found if refusal.rule == rule]


# -- resources of a stack


def topics(count: int) -> Callable[[App], None]:
    def build(app: App) -> None:
        stack = Stack(app, "Shop")
        for number in range(count):
            CfnResource(stack, f"Topic{number}", type="AWS::SNS::Topic")

    return build


def test_a_stack_that_nears_the_resources_of_a_template_is_refused(synthesis: Synthesis) -> None:
    [refusal] = refusals(synthesis, topics(451), "stack-resources")
    assert "The stack Shop has 451 resources, and CloudFormation takes 500" in refusal.says
    assert "another stack on the same platform" in refusal.fix


# -- a role's inline policies


def statement(number: int) -> iam.PolicyStatement:
    # Some 90 characters, with no two that can be merged.
    return iam.PolicyStatement(
        actions=["sqs:SendMessage"],
        resources=[f"arn:aws:sqs:eu-west-1:123456789012:queue-{number:04}"],
        conditions={"StringEquals": {"aws:SourceAccount": f"{number:012}"}},
    )


def role_of(statements: int, *, elsewhere: bool = False) -> Callable[[App], None]:
    def build(app: App) -> None:
        role = iam.Role(Stack(app, "Platform"), "Role", assumed_by=iam.ServicePrincipal(SERVICE))
        scope = Stack(app, "Shop") if elsewhere else Stack.of(role)
        for number in range(statements):
            iam.Policy(scope, f"Policy{number}", roles=[role], statements=[statement(number)])

    return build


@pytest.mark.parametrize("strong", [False, True], ids=["weak reference", "export"])
@pytest.mark.parametrize("elsewhere", [False, True], ids=["own stack", "another stack"])
def test_a_role_whose_policies_near_what_iam_takes_is_refused_wherever_they_stand(
    synthesis: Synthesis, elsewhere: bool, strong: bool
) -> None:
    [refusal] = refusals(synthesis, role_of(60, elsewhere=elsewhere), "role-policy-size", strong=strong)
    assert refusal.path == "Platform/Role/Resource"
    assert "The role's 60 inline policies have some " in refusal.says
    assert f"{ROLE_CHARACTERS:,} of a role" in refusal.says
    assert "ManagedPolicy" in refusal.fix
    assert refusals(synthesis, role_of(30, elsewhere=elsewhere), "role-policy-size", strong=strong) == []


def test_policies_within_the_role_itself_count_too(synthesis: Synthesis) -> None:
    def of(count: int) -> Callable[[App], None]:
        def build(app: App) -> None:
            document = iam.PolicyDocument(statements=[statement(number) for number in range(count)])
            iam.Role(
                Stack(app, "Shop"),
                "Role",
                assumed_by=iam.ServicePrincipal(SERVICE),
                inline_policies={"Own": document},
            )

        return build

    assert len(refusals(synthesis, of(80), "role-policy-size")) == 1
    assert refusals(synthesis, of(30), "role-policy-size") == []


def test_a_managed_policy_does_not_count(synthesis: Synthesis) -> None:
    def build(app: App) -> None:
        stack = Stack(app, "Shop")
        role = iam.Role(stack, "Role", assumed_by=iam.ServicePrincipal(SERVICE))
        for policy in range(4):
            statements = [statement(policy * 20 + number) for number in range(20)]
            iam.ManagedPolicy(stack, f"Policy{policy}", roles=[role], statements=statements)

    assert refusals(synthesis, build, "role-policy-size") == []


# -- a function's own policy


def permissions(count: int) -> Callable[[App], None]:
    def build(app: App) -> None:
        stack = Stack(app, "Shop")
        function = lambda_.Function(
            stack,
            "Function",
            runtime=lambda_.Runtime.PYTHON_3_13,
            handler="index.handler",
            code=lambda_.Code.from_inline("def handler(event, context): pass"),
            timeout=Duration.seconds(3),
        )
        for number in range(count):
            function.add_permission(
                f"Permission{number}",
                principal=iam.ServicePrincipal("events.amazonaws.com"),
                source_arn=f"arn:aws:events:eu-west-1:123456789012:rule/rule-{number}",
            )

    return build


def test_a_function_whose_callers_near_what_lambda_takes_is_refused(synthesis: Synthesis) -> None:
    [refusal] = refusals(synthesis, permissions(70), "function-policy-size")
    assert refusal.path == "Shop/Function/Resource"
    assert "70 permissions to call the function have some " in refusal.says
    assert "scope_permission_to_route=False" in refusal.fix


# -- rules and targets


def rules(count: int, *, archive: bool = False) -> Callable[[App], None]:
    def build(app: App) -> None:
        platform, shop = Stack(app, "Platform"), Stack(app, "Shop")
        bus = events.EventBus(platform, "Bus")
        if archive:
            bus.archive("Archive", event_pattern=events.EventPattern(source=["shop"]))
        for number in range(count):
            events.Rule(shop, f"Rule{number}", event_bus=bus, event_pattern=events.EventPattern(source=[str(number)]))

    return build


def test_a_bus_that_nears_the_rules_of_a_bus_is_refused_with_its_archives_counted(synthesis: Synthesis) -> None:
    [refusal] = refusals(synthesis, rules(270, archive=True), "bus-rules")
    assert refusal.path == "Platform/Bus/Resource"
    assert "271 rules listen to the bus, and EventBridge takes 300" in refusal.says


def targets(count: int) -> Callable[[App], None]:
    def build(app: App) -> None:
        given = [
            {"Id": f"target-{number}", "Arn": f"arn:aws:sqs:eu-west-1:123456789012:queue-{number}"}
            for number in range(count)
        ]
        properties = {"EventPattern": {"source": ["shop"]}, "Targets": given}
        CfnResource(Stack(app, "Shop"), "Rule", type="AWS::Events::Rule", properties=properties)

    return build


def test_a_rule_of_more_targets_than_eventbridge_takes_is_refused(synthesis: Synthesis) -> None:
    [refusal] = refusals(synthesis, targets(6), "rule-targets")
    assert "The rule has 6 targets, and EventBridge takes 5" in refusal.says


# -- every rule of sizes


# By rule: an app that breaks it, and one that keeps it.
APPS: dict[str, tuple[Callable[[App], None], Callable[[App], None]]] = {
    "stack-resources": (topics(451), topics(450)),
    "role-policy-size": (role_of(60), role_of(30)),
    "function-policy-size": (permissions(70), permissions(20)),
    "bus-rules": (rules(270, archive=True), rules(270)),
    "rule-targets": (targets(6), targets(5)),
}


def test_every_rule_has_an_app_that_breaks_it_and_one_that_keeps_it() -> None:
    assert APPS.keys() == {rule.id for rule in limits.RULES}


@pytest.mark.parametrize("rule", APPS)
def test_an_app_that_keeps_a_rule_is_not_refused_by_it_and_one_that_breaks_it_is(
    synthesis: Synthesis, rule: str
) -> None:
    breaks, keeps = APPS[rule]
    assert len(refusals(synthesis, breaks, rule)) == 1
    assert refusals(synthesis, keeps, rule) == []


# -- what a new account runs at once


def mappings(*bounds: int | None) -> Templates:
    resources = {
        f"Mapping{number}": {
            "Type": "AWS::Lambda::EventSourceMapping",
            "Properties": {
                "EventSourceArn": f"arn:aws:sqs:eu-west-1:123456789012:queue-{number}",
                "FunctionName": "function",
                **({"ScalingConfig": {"MaximumConcurrency": bound}} if bound else {}),
            },
        }
        for number, bound in enumerate(bounds)
    }
    return Templates([Template("Shop.template.json", "Shop", {"Resources": resources})])


def test_what_all_queues_may_start_together_is_said_when_a_new_account_runs_less() -> None:
    assert most_at_once(mappings(4, 6)) == NEW_ACCOUNT_CONCURRENCY
    assert concurrency_note(mappings(4, 6)) is None
    note = concurrency_note(mappings(5, 6))
    assert note is not None
    assert note.startswith("queues may start 11 invocations at once, and a new AWS account has 10 ")
    assert "Service Quotas" in note


def test_a_queue_that_may_start_any_number_is_said_too() -> None:
    assert (concurrency_note(mappings(4, None)) or "").startswith("queues, 1 of them without a bound, may start 4 ")
    assert (concurrency_note(mappings(None)) or "").startswith(
        "queues, 1 of them without a bound, may start any number"
    )
