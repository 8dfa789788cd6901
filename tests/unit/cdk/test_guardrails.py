"""Guardrails on small stacks, through the real plugin of a real synthesis."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import pytest
from aws_cdk import App, CfnResource, Duration, RemovalPolicies, RemovalPolicy, Stack, Validations
from aws_cdk import aws_apigatewayv2 as apigateway
from aws_cdk import aws_cloudwatch as cloudwatch
from aws_cdk import aws_cloudwatch_actions as actions
from aws_cdk import aws_events as events
from aws_cdk import aws_events_targets as targets
from aws_cdk import aws_iam as iam
from aws_cdk import aws_kms as kms
from aws_cdk import aws_lambda as lambda_
from aws_cdk import aws_lambda_event_sources as sources
from aws_cdk import aws_logs as logs
from aws_cdk import aws_s3 as s3
from aws_cdk import aws_scheduler as scheduler
from aws_cdk import aws_secretsmanager as secretsmanager
from aws_cdk import aws_sns as sns
from aws_cdk import aws_sqs as sqs
from constructs import Construct

from offload.cdk import lint, templates
from offload.cdk.constructs.acknowledge import acknowledge, acknowledge_objects, declare_signature_check
from offload.cdk.constructs.encryption import encrypt
from offload.cdk.environment import OWN_KEY, Environment
from offload.cdk.guardrails import RULES, Guardrails, guard, limits
from offload.project import PROJECT
from tests.clinics import CLINIC
from tests.environments import with_address
from tests.patience import PATIENCE

pytestmark = pytest.mark.synthesis

CONTEXT: dict[str, Any] = json.loads((PROJECT / "cdk.json").read_text(encoding="utf-8"))["context"]

STRONG = {"@aws-cdk/core:defaultCrossStackReferences": "strong"}


@dataclass(frozen=True)
class Refusal:
    rule: str
    path: str
    says: str
    fix: str


@dataclass(frozen=True)
class Report:
    plugins: list[dict[str, Any]]

    def refusals(self, plugin: str = "offload") -> list[Refusal]:
        return [
            Refusal(violation["ruleName"], place["constructPath"], violation["description"], violation["suggestedFix"])
            for report in self.plugins
            if report["pluginName"] == plugin
            for violation in report["violations"]
            for place in violation["violatingConstructs"]
        ]

    @property
    def rules(self) -> set[str]:
        return {refusal.rule for refusal in self.refusals()}

    def one(self, rule: str) -> Refusal:
        [found] = [refusal for refusal in self.refusals() if refusal.rule.partition("[")[0] == rule]
        return found


class Synthesis:
    """An app of the project's feature flags in a folder of its own."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._count = 0

    def of(self, build: Callable[[App], object], *, nag: bool = False, context: dict[str, Any] | None = None) -> Report:
        self._count += 1
        out = self._folder / str(self._count)
        app = App(outdir=str(out), context=CONTEXT | (context or {}))
        if nag:
            guard(app)
        else:
            Validations.of(app).add_plugins(Guardrails())
        build(app)
        try:
            app.synth()
        except RuntimeError as error:
            if not str(error).startswith("ValidationFailed"):
                raise
        return report_in(out)


def report_in(assembly: Path) -> Report:
    report = assembly / "validation-report.json"
    return Report(json.loads(report.read_text(encoding="utf-8"))["pluginReports"] if report.exists() else [])


@pytest.fixture
def synthesis(tmp_path: Path) -> Synthesis:
    return Synthesis(tmp_path)


def alarmed(metric: cloudwatch.IMetric, scope: Construct, name: str, **settings: Any) -> cloudwatch.Alarm:
    """An alarm that tells somebody outside of the app."""
    made = cloudwatch.Alarm(scope, name, **{"metric": metric, "threshold": 1, "evaluation_periods": 1, **settings})
    made.add_alarm_action(
        actions.SnsAction(sns.Topic.from_topic_arn(made, "Theirs", "arn:aws:sns:eu-west-1:111111111111:theirs"))
    )
    return made


def dead_letters(scope: Construct, name: str = "Dead", *, days: int = 14, alarm: bool = True) -> sqs.Queue:
    queue = sqs.Queue(scope, name, retention_period=Duration.days(days))
    if alarm:
        alarmed(queue.metric_approximate_number_of_messages_visible(), scope, f"{name}Alarm")
    return queue


def work_queue(scope: Construct, name: str = "Work", **settings: Any) -> sqs.Queue:
    if "dead_letter_queue" not in settings:
        letters = sqs.DeadLetterQueue(queue=dead_letters(scope, f"{name}Dead"), max_receive_count=5)
        settings["dead_letter_queue"] = letters
    return sqs.Queue(scope, name, **{"visibility_timeout": Duration.seconds(60), **settings})


def function(scope: Construct, name: str = "Function", **settings: Any) -> lambda_.Function:
    return lambda_.Function(
        scope,
        name,
        **{
            "runtime": lambda_.Runtime.PYTHON_3_13,
            "handler": "index.handler",
            "code": lambda_.Code.from_inline("def handler(event, context): ..."),
            "timeout": Duration.seconds(10),
            "memory_size": 256,
            "log_group": logs.LogGroup(scope, f"{name}Logs", retention=logs.RetentionDays.ONE_WEEK),
            **settings,
        },
    )


def feed(called: lambda_.IFunction, queue: sqs.IQueue, **settings: Any) -> None:
    called.add_event_source(
        sources.SqsEventSource(queue, **{"report_batch_item_failures": True, "max_concurrency": 5, **settings})
    )


def stack(app: App, name: str = "S") -> Stack:
    return Stack(app, name)


def consumer(
    app: App, *, queue: dict[str, Any] | None = None, feeding: dict[str, Any] | None = None, **of: Any
) -> Stack:
    """A consumer that breaks no rule, unless its settings say so."""
    scope = stack(app)
    feed(function(scope, **of), work_queue(scope, **(queue or {})), **(feeding or {}))
    return scope


def rule(scope: Construct, target: events.IRuleTarget) -> events.Rule:
    return events.Rule(scope, "Rule", event_pattern=events.EventPattern(source=["shop"]), targets=[target])


def role(scope: Construct, *statements: iam.PolicyStatement) -> iam.Role:
    made = iam.Role(scope, "Role", assumed_by=iam.ServicePrincipal("lambda.amazonaws.com"))
    for statement in statements:
        made.add_to_policy(statement)
    return made


def allow(*actions: str, on: str) -> iam.PolicyStatement:
    return iam.PolicyStatement(actions=list(actions), resources=[on])


def http_route(
    scope: Construct, called: lambda_.Function, *, authorization: str | None = None, waits: int | None = None
) -> apigateway.CfnRoute:
    api = apigateway.CfnApi(scope, "Api", name="api", protocol_type="HTTP")
    integration = apigateway.CfnIntegration(
        scope,
        "Integration",
        api_id=api.ref,
        integration_type="AWS_PROXY",
        integration_uri=called.function_arn,
        payload_format_version="2.0",
        timeout_in_millis=waits,
    )
    lambda_.CfnPermission(
        scope,
        "Permission",
        action="lambda:InvokeFunction",
        function_name=called.function_arn,
        principal="apigateway.amazonaws.com",
        source_arn=Stack.of(scope).format_arn(service="execute-api", resource=api.ref, resource_name="*"),
    )
    return apigateway.CfnRoute(
        scope,
        "Route",
        api_id=api.ref,
        route_key="POST /webhooks/{provider}",
        target=f"integrations/{integration.ref}",
        authorization_type=authorization,
    )


def durable(scope: Construct) -> lambda_.Function:
    return function(
        scope,
        durable_config=lambda_.DurableConfig(execution_timeout=Duration.days(1), retention_period=Duration.days(14)),
    )


def signed_webhook(app: App, *, declared: bool) -> None:
    scope = stack(app)
    called = function(scope)
    if declared:
        declare_signature_check(called, "github")
    http_route(scope, called)


def scheduled(app: App, *, letters: bool) -> None:
    scope = stack(app)
    letter_box = targets.SqsQueue(work_queue(scope), dead_letter_queue=dead_letters(scope) if letters else None)
    rule(scope, letter_box)


def logging(app: App, *, retention: int | None, named: bool) -> None:
    scope = stack(app)
    called = function(scope, log_group=None)
    if named:
        logs.CfnLogGroup(
            scope, "Logs", log_group_name=f"/aws/lambda/{called.function_name}", retention_in_days=retention
        )


def calling(app: App, reference: Callable[[lambda_.Function], lambda_.IFunction]) -> None:
    scope = stack(app)
    rule(scope, targets.LambdaFunction(reference(durable(scope)), dead_letter_queue=dead_letters(scope)))


def telling(app: App, *, lets_alarms_in: bool) -> None:
    """A topic with a policy, as the action of an alarm."""
    scope = stack(app)
    topic = sns.Topic(scope, "Topic", enforce_ssl=True)
    if lets_alarms_in:
        topic.add_to_resource_policy(
            iam.PolicyStatement(
                principals=[iam.ServicePrincipal("cloudwatch.amazonaws.com")],
                actions=["sns:Publish"],
                resources=[topic.topic_arn],
                conditions={"StringEquals": {"aws:SourceAccount": scope.account}},
            )
        )
    errors = cloudwatch.Metric(namespace="AWS/Lambda", metric_name="Errors")
    errors.create_alarm(scope, "Alarm", threshold=1, evaluation_periods=1).add_alarm_action(actions.SnsAction(topic))


def encrypted(app: App, *, lets_rules_in: bool) -> None:
    """A queue with a key of the app, as the target of a rule."""
    scope = stack(app)
    key = kms.Key(scope, "Key")
    queue = sqs.Queue.from_queue_attributes(
        scope,
        "Named",
        queue_arn=work_queue(scope, encryption_master_key=key, encryption=sqs.QueueEncryption.KMS).queue_arn,
    )
    made = rule(scope, targets.SqsQueue(queue, dead_letter_queue=dead_letters(scope)))
    queue_of = scope.node.find_child("Work")
    assert isinstance(queue_of, sqs.Queue)
    ours = {"StringEquals": {"aws:SourceAccount": scope.account}}
    principal = iam.ServicePrincipal("events.amazonaws.com", conditions=ours)
    queue_of.add_to_resource_policy(
        iam.PolicyStatement(principals=[principal], actions=["sqs:SendMessage"], resources=[queue_of.queue_arn])
    )
    if lets_rules_in:
        key.grant(principal, "kms:GenerateDataKey", "kms:Decrypt")
    assert made.rule_arn


def minutely(app: App, *, waits: bool = True, narrowed: bool = True) -> None:
    """A schedule that calls a function."""
    scope = stack(app)
    called = function(scope)
    caller = iam.Role(
        scope,
        "Role",
        assumed_by=iam.ServicePrincipal(
            "scheduler.amazonaws.com",
            conditions={"StringEquals": {"aws:SourceAccount": scope.account}} if narrowed else {},
        ),
    )
    letters = dead_letters(scope)
    for action, arn in (("lambda:InvokeFunction", called.function_arn), ("sqs:SendMessage", letters.queue_arn)):
        caller.add_to_policy(allow(action, on=arn))
    schedule = scheduler.CfnSchedule(
        scope,
        "Schedule",
        flexible_time_window=scheduler.CfnSchedule.FlexibleTimeWindowProperty(mode="OFF"),
        schedule_expression="rate(1 minute)",
        target=scheduler.CfnSchedule.TargetProperty(
            arn=called.function_arn,
            role_arn=caller.role_arn,
            dead_letter_config=scheduler.CfnSchedule.DeadLetterConfigProperty(arn=letters.queue_arn),
        ),
    )
    if waits:
        schedule.node.add_dependency(caller)


def watching(app: App, **settings: Any) -> None:
    alarmed(cloudwatch.Metric(namespace="AWS/Lambda", metric_name="Invocations"), stack(app), "Alarm", **settings)


def with_a_key(app: App, *, used: bool) -> None:
    environment = Environment.load("dev")
    data = msgspec.structs.replace(environment.data, kms_key=OWN_KEY)
    msgspec.structs.replace(environment, data=data).attach(app)
    topic = sns.Topic(stack(app), "Topic")
    if used:
        encrypt(topic)


def bucket_in(app: App, environment: str, *, lost: bool = False) -> None:
    Environment.filled_in(environment).attach(app)
    resource = s3.Bucket(stack(app), "Bucket").node.default_child
    assert isinstance(resource, CfnResource)
    if lost:
        # A later aspect than the one that decides for all.
        RemovalPolicies.of(resource).destroy(priority=900)


BUS = "arn:aws:events:eu-west-1:123456789012:event-bus/orders"
BOUND: dict[str, dict[str, Any]] = {
    "ForAllValues:StringEquals": {"events:source": ["offload.clinic"]},
    "Null": {"events:source": "false"},
}


def publishing(conditions: dict[str, dict[str, Any]], action: str = "events:PutEvents") -> iam.PolicyStatement:
    return iam.PolicyStatement(actions=[action], resources=[BUS], conditions=conditions)


# One app for each rule that breaks it, and nothing else.
BROKEN: dict[str, Callable[[App], object]] = {
    "queue-visibility": lambda app: consumer(app, queue={"visibility_timeout": Duration.seconds(59)}),
    "partial-batch-response": lambda app: consumer(app, feeding={"report_batch_item_failures": False}),
    "queue-dead-letters": lambda app: consumer(app, queue={"dead_letter_queue": None}),
    "dead-letter-retention": lambda app: [
        work_queue(
            scope := stack(app),
            dead_letter_queue=sqs.DeadLetterQueue(queue=dead_letters(scope, days=3), max_receive_count=5),
        )
    ],
    "dead-letter-alarm": lambda app: [
        work_queue(
            scope := stack(app),
            dead_letter_queue=sqs.DeadLetterQueue(queue=dead_letters(scope, alarm=False), max_receive_count=5),
        )
    ],
    "target-dead-letters": lambda app: scheduled(app, letters=False),
    "batch-size": lambda app: consumer(app, memory_size=128),
    "unbounded-concurrency": lambda app: consumer(app, feeding={"max_concurrency": None}),
    "caller-timeout": lambda app: http_route(
        scope := stack(app), function(scope, timeout=Duration.seconds(31)), authorization="AWS_IAM"
    ),
    "log-retention": lambda app: logging(app, retention=None, named=True),
    "secret-in-environment": lambda app: function(stack(app), environment={"GITHUB_TOKEN": "hunter2"}),
    "durable-version": lambda app: calling(app, lambda called: called),
    "role-wildcard": lambda app: role(stack(app), allow("xray:PutTraceSegments", on="*")),
    "unbound-source": lambda app: role(stack(app), allow("events:PutEvents", on=BUS)),
    "public-function": lambda app: signed_webhook(app, declared=False),
    "admission": lambda app: telling(app, lets_alarms_in=False),
    "key-admission": lambda app: encrypted(app, lets_rules_in=False),
    "role-before-policy": lambda app: minutely(app, waits=False),
    "confused-deputy": lambda app: minutely(app, narrowed=False),
    "alarm-action": lambda app: cloudwatch.Alarm(
        stack(app),
        "Alarm",
        metric=cloudwatch.Metric(namespace="AWS/Lambda", metric_name="Errors"),
        threshold=1,
        evaluation_periods=1,
    ),
    "alarm-on-missing-data": lambda app: watching(app, treat_missing_data=cloudwatch.TreatMissingData.BREACHING),
    "data-encrypted": lambda app: with_a_key(app, used=False),
    "kept-data": lambda app: bucket_in(app, "prod", lost=True),
}

# And the same, fixed: what a rule must leave alone.
FIXED: dict[str, Callable[[App], object]] = {
    "queue-visibility": lambda app: consumer(app, queue={"visibility_timeout": Duration.seconds(60)}),
    "partial-batch-response": consumer,
    "queue-dead-letters": consumer,
    "dead-letter-retention": lambda app: [
        work_queue(
            scope := stack(app),
            dead_letter_queue=sqs.DeadLetterQueue(queue=dead_letters(scope, days=4), max_receive_count=5),
        )
    ],
    "dead-letter-alarm": lambda app: work_queue(stack(app)),
    "target-dead-letters": lambda app: scheduled(app, letters=True),
    "batch-size": lambda app: consumer(app, memory_size=128, feeding={"batch_size": 3}),
    "unbounded-concurrency": lambda app: consumer(app, feeding={"max_concurrency": 2}),
    "caller-timeout": lambda app: http_route(
        scope := stack(app), function(scope, timeout=Duration.seconds(30)), authorization="AWS_IAM"
    ),
    "log-retention": lambda app: logging(app, retention=7, named=True),
    "secret-in-environment": lambda app: function(stack(app), environment={"GITHUB_TOKEN_NAME": "github/token"}),
    "durable-version": lambda app: calling(app, lambda called: called.current_version),
    "role-wildcard": lambda app: role(stack(app), allow("s3:GetObject", on="arn:aws:s3:::claims/*")),
    "unbound-source": lambda app: role(stack(app), publishing(BOUND)),
    "public-function": lambda app: signed_webhook(app, declared=True),
    "admission": lambda app: telling(app, lets_alarms_in=True),
    "key-admission": lambda app: encrypted(app, lets_rules_in=True),
    "role-before-policy": minutely,
    "confused-deputy": minutely,
    "alarm-action": watching,
    "alarm-on-missing-data": lambda app: watching(app, treat_missing_data=cloudwatch.TreatMissingData.MISSING),
    "data-encrypted": lambda app: with_a_key(app, used=True),
    "kept-data": lambda app: bucket_in(app, "prod"),
}


def test_every_rule_has_an_app_that_breaks_it_and_one_that_does_not() -> None:
    # Those of sizes have theirs in test_guardrails_limits.py.
    assert BROKEN.keys() == FIXED.keys() == {rule.id for rule in RULES} - {rule.id for rule in limits.RULES}


@pytest.mark.parametrize("rule_id", BROKEN)
def test_a_broken_rule_is_refused_with_its_id_its_construct_and_its_mend(synthesis: Synthesis, rule_id: str) -> None:
    report = synthesis.of(BROKEN[rule_id])
    assert {refused.partition("[")[0] for refused in report.rules} == {rule_id}
    for refusal in report.refusals():
        assert refusal.path.startswith("S/")
        assert refusal.says
        assert refusal.fix


@pytest.mark.parametrize("rule_id", FIXED)
def test_what_keeps_the_rule_is_left_alone(synthesis: Synthesis, rule_id: str) -> None:
    assert synthesis.of(FIXED[rule_id]).refusals() == []


def test_a_queue_must_hide_messages_for_six_timeouts_and_the_window(synthesis: Synthesis) -> None:
    windowed = {"max_batching_window": Duration.seconds(5)}
    found = synthesis.of(lambda app: consumer(app, feeding=windowed)).one("queue-visibility")
    assert found.path == "S/Work/Resource"
    assert "60 s" in found.says
    assert "at least 65 s" in found.fix
    enough = {"visibility_timeout": Duration.seconds(65)}
    assert synthesis.of(lambda app: consumer(app, feeding=windowed, queue=enough)).refusals() == []


def two_stacks(app: App) -> None:
    """A queue in one stack, what it feeds, its rule's dead letters and their alarm in another."""
    first, second = stack(app, "First"), stack(app, "Second")
    queue = work_queue(
        first,
        visibility_timeout=Duration.seconds(59),
        dead_letter_queue=sqs.DeadLetterQueue(queue=dead_letters(first, alarm=False), max_receive_count=3),
    )
    feed(function(second), queue)
    dead = first.node.find_child("Dead")
    assert isinstance(dead, sqs.Queue)
    alarmed(dead.metric_approximate_number_of_messages_visible(), second, "Alarm")


@pytest.mark.parametrize("context", [{}, STRONG], ids=["weak reference", "export"])
def test_references_between_stacks_are_followed(synthesis: Synthesis, context: dict[str, Any]) -> None:
    report = synthesis.of(two_stacks, context=context)
    assert report.rules == {"queue-visibility"}
    assert report.one("queue-visibility").path == "First/Work/Resource"


def test_a_queue_outside_the_app_is_not_judged_but_its_mapping_is(synthesis: Synthesis) -> None:
    def build(app: App) -> None:
        scope = stack(app)
        foreign = sqs.Queue.from_queue_arn(scope, "Foreign", "arn:aws:sqs:eu-west-1:111111111111:theirs")
        feed(function(scope), foreign, report_batch_item_failures=False)

    assert synthesis.of(build).rules == {"partial-batch-response"}


def test_a_queue_that_only_takes_a_rules_dead_letters_needs_an_alarm_and_no_dead_letter_queue(
    synthesis: Synthesis,
) -> None:
    def build(app: App) -> None:
        scope = stack(app)
        silent = dead_letters(scope, "Undeliverable", alarm=False)
        rule(scope, targets.SqsQueue(work_queue(scope), dead_letter_queue=silent))

    report = synthesis.of(build)
    assert report.rules == {"dead-letter-alarm"}
    assert report.one("dead-letter-alarm").path == "S/Undeliverable/Resource"


@pytest.mark.parametrize(
    ("environment", "refused"), [(Environment.load("dev"), set()), (with_address("dev"), {"dead-letter-alarm"})]
)
def test_a_dead_letter_queue_needs_an_alarm_only_where_somebody_is_told(
    synthesis: Synthesis, environment: Environment, refused: set[str]
) -> None:
    def build(app: App) -> None:
        environment.attach(app)
        dead = dead_letters(scope := stack(app), alarm=False)
        work_queue(scope, dead_letter_queue=sqs.DeadLetterQueue(queue=dead, max_receive_count=3))

    assert synthesis.of(build).rules == refused


def test_an_alarm_whose_actions_are_switched_off_tells_nobody(synthesis: Synthesis) -> None:
    assert synthesis.of(lambda app: watching(app, actions_enabled=False)).rules == {"alarm-action"}


def test_an_alarm_on_messages_sent_does_not_watch_dead_letters(synthesis: Synthesis) -> None:
    def build(app: App) -> None:
        scope = stack(app)
        dead = dead_letters(scope, alarm=False)
        alarmed(dead.metric_number_of_messages_sent(), scope, "Alarm")
        work_queue(scope, dead_letter_queue=sqs.DeadLetterQueue(queue=dead, max_receive_count=3))

    assert synthesis.of(build).rules == {"dead-letter-alarm"}


@pytest.mark.parametrize(
    ("batch", "window", "says"),
    [(11, None, "needs a batching window"), (10_001, 1, "at most 10000")],
)
def test_a_batch_that_lambda_would_refuse_is_refused_here(
    synthesis: Synthesis, batch: int, window: int | None, says: str
) -> None:
    def build(app: App) -> None:
        queue = work_queue(scope := stack(app), visibility_timeout=Duration.seconds(90))
        CfnResource(
            scope,
            "Mapping",
            type="AWS::Lambda::EventSourceMapping",
            properties={
                "EventSourceArn": queue.queue_arn,
                "FunctionName": function(scope).function_name,
                "BatchSize": batch,
                "FunctionResponseTypes": ["ReportBatchItemFailures"],
                "ScalingConfig": {"MaximumConcurrency": 2},
                **({"MaximumBatchingWindowInSeconds": window} if window else {}),
            },
        )

    assert says in synthesis.of(build).one("batch-size").says


def test_small_messages_need_little_memory_however_many_they_are(synthesis: Synthesis) -> None:
    small = {"max_message_size_bytes": 1024, "visibility_timeout": Duration.seconds(61)}
    many = {"batch_size": 100, "max_batching_window": Duration.seconds(1)}
    assert synthesis.of(lambda app: consumer(app, queue=small, feeding=many, memory_size=128)).refusals() == []


def test_a_function_that_reserves_less_than_its_queues_may_start_is_refused(synthesis: Synthesis) -> None:
    found = synthesis.of(lambda app: consumer(app, reserved_concurrent_executions=4)).one("unbounded-concurrency")
    assert found.path == "S/Function/Resource"
    assert "4" in found.says
    assert "5" in found.says


def test_a_caller_that_waits_for_less_is_measured_by_its_own_patience(synthesis: Synthesis) -> None:
    found = synthesis.of(lambda app: http_route(s := stack(app), function(s), authorization="AWS_IAM", waits=5000))
    assert "waits 5 s" in found.one("caller-timeout").says


def test_a_function_without_a_log_group_of_its_own_is_refused(synthesis: Synthesis) -> None:
    unmanaged = {"@aws-cdk/aws-lambda:useCdkManagedLogGroup": False}
    report = synthesis.of(lambda app: logging(app, retention=None, named=False), context=unmanaged)
    assert report.one("log-retention").path == "S/Function/Resource"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("DATABASE_PASSWORD", "x"),
        ("API_KEY", "x"),
        ("HARMLESS", "ghp_" + "a" * 36),
        ("HARMLESS", "AKIA" + "ABCDEFGHIJKLMNOP"),
    ],
)
def test_a_secret_is_known_by_its_name_or_its_looks_and_never_repeated(
    synthesis: Synthesis, name: str, value: str
) -> None:
    found = synthesis.of(lambda app: function(stack(app), environment={name: value})).one("secret-in-environment")
    assert found.rule == f"secret-in-environment[{name}]"
    assert value == "x" or value not in found.says + found.fix


def test_a_secret_that_cloudformation_writes_into_a_variable_is_refused(synthesis: Synthesis) -> None:
    def build(app: App) -> None:
        secret = secretsmanager.Secret(scope := stack(app), "Secret")
        function(scope, environment={"SIGNING": secret.secret_value.unsafe_unwrap()})

    assert synthesis.of(build).rules == {"secret-in-environment[SIGNING]"}


@pytest.mark.parametrize("name", ["SECRET_ARN", "TOKEN_TTL_SECONDS", "PASSWORD_PARAMETER", "OFFLOAD_MARKS_TABLE"])
def test_the_way_to_a_secret_is_no_secret(synthesis: Synthesis, name: str) -> None:
    assert synthesis.of(lambda app: function(stack(app), environment={name: "x"})).refusals() == []


@pytest.mark.parametrize(
    ("statement", "about"),
    [
        (allow("dynamodb:*", on="arn:aws:dynamodb:eu-west-1:1:table/a"), "dynamodb:*"),
        (allow("*", on="arn:aws:s3:::a"), "*"),
        (allow("sqs:SendMessage", on="arn:aws:sqs:*:*:*"), "sqs:SendMessage"),
        (iam.PolicyStatement(not_actions=["iam:*"], resources=["arn:aws:s3:::a"]), "NotAction"),
    ],
)
def test_a_wildcard_is_refused_by_what_it_opens(
    synthesis: Synthesis, statement: iam.PolicyStatement, about: str
) -> None:
    assert synthesis.of(lambda app: role(stack(app), statement)).rules == {f"role-wildcard[{about}]"}


def test_inline_and_managed_policies_are_read_too(synthesis: Synthesis) -> None:
    def build(app: App) -> None:
        scope = stack(app)
        document = iam.PolicyDocument(statements=[allow("sqs:ListQueues", on="*")])
        iam.Role(
            scope, "Role", assumed_by=iam.ServicePrincipal("lambda.amazonaws.com"), inline_policies={"a": document}
        )
        iam.ManagedPolicy(scope, "Managed", document=document)

    assert sorted(found.path for found in synthesis.of(build).refusals()) == ["S/Managed/Resource", "S/Role/Resource"]


@pytest.mark.parametrize(
    "conditions",
    [
        {"ForAllValues:StringEquals": BOUND["ForAllValues:StringEquals"]},
        {"Null": BOUND["Null"]},
        {**BOUND, "Null": {"events:source": "true"}},
        {"ForAnyValue:StringEquals": BOUND["ForAllValues:StringEquals"], "Null": BOUND["Null"]},
        {"ForAllValues:StringLike": {"events:source": "*"}, "Null": BOUND["Null"]},
        {"ForAllValues:StringEquals": {"events:detail-type": "visit.ended"}, "Null": BOUND["Null"]},
    ],
    ids=["without the key", "no source", "only without it", "one of several", "every source", "another key"],
)
def test_a_condition_that_leaves_other_sources_through_is_refused(
    synthesis: Synthesis, conditions: dict[str, dict[str, Any]]
) -> None:
    refusal = synthesis.of(lambda app: role(stack(app), publishing(conditions))).one("unbound-source")
    assert "EventBus.publish" in refusal.fix


def test_publishing_is_found_under_a_wildcard_too(synthesis: Synthesis) -> None:
    report = synthesis.of(lambda app: role(stack(app), publishing({}, "events:Put*")))
    assert report.rules == {"unbound-source[events:PutEvents]"}


def test_a_statement_that_denies_may_name_everything(synthesis: Synthesis) -> None:
    deny = iam.PolicyStatement(effect=iam.Effect.DENY, actions=["s3:*"], resources=["*"])
    assert synthesis.of(lambda app: role(stack(app), deny)).refusals() == []


def test_a_function_url_without_iam_is_refused(synthesis: Synthesis) -> None:
    def build(app: App) -> None:
        function(stack(app)).add_function_url(auth_type=lambda_.FunctionUrlAuthType.NONE)

    assert synthesis.of(build).one("public-function").path == "S/Function/FunctionUrl/Resource"


def test_a_durable_function_may_be_called_by_an_alias(synthesis: Synthesis) -> None:
    assert synthesis.of(lambda app: calling(app, lambda called: called.add_alias("live"))).refusals() == []


def test_a_function_that_is_not_durable_may_be_called_as_it_is(synthesis: Synthesis) -> None:
    def build(app: App) -> None:
        scope = stack(app)
        rule(scope, targets.LambdaFunction(function(scope), dead_letter_queue=dead_letters(scope)))

    assert synthesis.of(build).refusals() == []


def test_an_acknowledged_finding_passes_and_the_report_keeps_its_reason(synthesis: Synthesis) -> None:
    def build(app: App) -> None:
        excepted = role(stack(app), allow("xray:PutTraceSegments", "sqs:ListQueues", on="*")).node.find_child(
            "DefaultPolicy"
        )
        acknowledge(excepted, "offload::role-wildcard[xray:PutTraceSegments]", "X-Ray has no resources.")

    report = synthesis.of(build)
    assert report.rules == {"role-wildcard[sqs:ListQueues]"}
    [suppressed] = report.plugins[0]["suppressedViolations"]
    assert suppressed["ruleName"] == "role-wildcard[xray:PutTraceSegments]"
    assert suppressed["reason"] == "X-Ray has no resources."


def test_an_exception_for_one_resource_is_none_for_its_neighbour(synthesis: Synthesis) -> None:
    def build(app: App) -> None:
        scope = stack(app)
        acknowledge(sqs.Queue(scope, "Excepted"), "offload::queue-dead-letters", "A test.")
        sqs.Queue(scope, "Neighbour")

    assert [found.path for found in synthesis.of(build).refusals()] == ["S/Neighbour/Resource"]


@pytest.mark.parametrize(
    ("of", "rule_id", "reason", "says"),
    [
        ("stack", "offload::queue-dead-letters", "why", "the one resource"),
        ("queue", "offload::*", "why", "one rule by its id"),
        ("queue", "AwsSolutions::AwsSolutions-*", "why", "one rule by its id"),
        ("queue", "offload::queue-dead-letters", " ", "needs a reason"),
    ],
)
def test_an_exception_is_one_rule_for_one_resource_with_a_reason(of: str, rule_id: str, reason: str, says: str) -> None:
    scope = stack(App())
    queue = sqs.Queue(scope, "Queue")
    with pytest.raises(ValueError, match=says):
        acknowledge({"stack": scope, "queue": queue}[of], rule_id, reason)


@pytest.mark.parametrize("context", [{}, STRONG], ids=["weak reference", "export"])
def test_objects_of_another_stacks_bucket_are_acknowledged_where_they_are_granted(
    synthesis: Synthesis, context: dict[str, Any]
) -> None:
    def build(app: App, *, excepted: bool) -> None:
        bucket = s3.Bucket(stack(app, "First"), "Bucket", removal_policy=RemovalPolicy.DESTROY)
        reader = role(stack(app, "Second"), allow("s3:GetObject", on=bucket.arn_for_objects("claims/*")))
        if excepted:
            acknowledge_objects(reader, bucket, "claims/*", "Keys are hashes.")

    def wildcards(*, excepted: bool) -> list[str]:
        report = synthesis.of(lambda app: build(app, excepted=excepted), nag=True, context=context)
        return [
            violation["ruleName"]
            for plugin in report.plugins
            for violation in plugin["violations"]
            if "IAM5" in violation["ruleName"]
        ]

    [refused] = wildcards(excepted=False)
    assert re.fullmatch(r"AwsSolutions-IAM5\[Resource::<Bucket\w{8}\.Arn>/claims/\*\]", refused)
    assert wildcards(excepted=True) == []


def test_a_property_that_cloudformation_does_not_know_is_an_error(synthesis: Synthesis) -> None:
    def build(app: App) -> None:
        queue = work_queue(stack(app)).node.default_child
        assert isinstance(queue, CfnResource)
        queue.add_property_override("VisibiltyTimeout", 60)

    [report] = [plugin for plugin in synthesis.of(build).plugins if plugin["pluginName"] == "CloudFormation Validate"]
    assert report["conclusion"] == "failure"
    assert "VisibiltyTimeout" in report["violations"][0]["description"]


def test_what_preflight_and_the_bill_read_is_refused_too_and_what_is_linted_is_left_to_cfn_lint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def compose(app: App, _environment: Environment) -> None:
        queue = work_queue(stack(app)).node.default_child
        assert isinstance(queue, CfnResource)
        queue.add_property_override("VisibiltyTimeout", 60)

    monkeypatch.setattr(templates, "compose_of_project", lambda: compose)
    with pytest.raises(RuntimeError, match="ValidationFailed"):
        templates.assembly("dev", tmp_path)
    monkeypatch.setattr(Environment, "names", lambda *_: ("dev",))
    with pytest.raises(SystemExit, match=r"E3002 .*VisibiltyTimeout"):
        lint.main()


def test_data_that_is_kept_survives_deletion_and_replacement_alike(synthesis: Synthesis) -> None:
    def build(app: App, environment: str, attribute: str, policy: str) -> None:
        bucket_in(app, environment)
        resource = app.node.find_child("S").node.find_child("Bucket").node.default_child
        assert isinstance(resource, CfnResource)
        resource.add_override(attribute, policy)

    def refused(environment: str, attribute: str, policy: str) -> list[str]:
        return [each.rule for each in synthesis.of(lambda app: build(app, environment, attribute, policy)).refusals()]

    assert refused("prod", "DeletionPolicy", "Delete") == ["kept-data[DeletionPolicy]"]
    assert refused("prod", "UpdateReplacePolicy", "Delete") == ["kept-data[UpdateReplacePolicy]"]
    assert refused("prod", "UpdateReplacePolicy", "Snapshot") == ["kept-data[UpdateReplacePolicy]"]
    assert refused("dev", "DeletionPolicy", "Delete") == []


@pytest.mark.parametrize(
    ("app", "environment"),
    [
        *(("assembly_of", name) for name in Environment.names()),
        *(("clinic_of", name) for name in Environment.names(CLINIC / "environments")),
    ],
)
def test_the_stacks_of_this_app_and_of_the_clinic_leave_nothing_to_report(
    request: pytest.FixtureRequest, app: str, environment: str
) -> None:
    report = report_in(request.getfixturevalue(app)(environment))
    assert [violation for plugin in report.plugins for violation in plugin["violations"]] == []


def test_the_documentation_has_a_row_for_each_rule_and_no_other() -> None:
    page = (PROJECT / "docs" / "guardrails.md").read_text(encoding="utf-8")
    rows = dict(re.findall(r"^\| `offload::([a-z-]+)[^`]*` \| ([^|]+?) \|", page, flags=re.MULTILINE))
    assert rows == {rule.id: rule.refuses for rule in RULES}


REFUSED_APP = """
from aws_cdk import App, Stack, aws_sqs
from offload.cdk.guardrails import guard, synthesize
app = App()
guard(app)
aws_sqs.Queue(Stack(app, "Shop"), "Queue", enforce_ssl=True)
synthesize(app)
"""


def ended(*command: str, cwd: Path = PROJECT, **variables: str) -> subprocess.CompletedProcess[str]:
    # Under pytest the CDK reports to its caller instead of the terminal.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST")}
    # The CDK's own rules take five seconds of each synthesis; none of these tests is about them.
    environment |= {"CDK_VALIDATION": "false", "JSII_SILENCE_WARNING_UNTESTED_NODE_VERSION": "1"}
    environment |= {"PYTHONPATH": str(PROJECT), **variables}
    environment["PATH"] = f"{Path(sys.executable).parent}:{environment['PATH']}"
    return subprocess.run(
        command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=PATIENCE, check=False
    )


@pytest.mark.slow
def test_a_refused_synthesis_ends_with_one_report_and_no_traceback(tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text(REFUSED_APP, encoding="utf-8")
    run = ended(sys.executable, "app.py", cwd=tmp_path)
    assert run.returncode == 1
    assert run.stderr.count("Acknowledge with 'offload::queue-dead-letters'") == 1
    assert "Shop/Queue/Resource" in run.stderr
    assert "Traceback" not in run.stderr
    assert run.stdout == ""


@pytest.mark.slow
def test_the_command_line_refuses_too_with_one_report(tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text(REFUSED_APP, encoding="utf-8")
    cdk = PROJECT / "node_modules" / ".bin" / "cdk"
    run = ended(str(cdk), "synth", "--quiet", "--app", f"{sys.executable} app.py", cwd=tmp_path)
    assert run.returncode == 1
    said = run.stdout + run.stderr
    assert said.count("Acknowledge with 'offload::queue-dead-letters'") == 1
    assert "Traceback" not in said


def test_an_app_without_an_environment_ends_with_one_line(tmp_path: Path) -> None:
    run = ended(sys.executable, str(PROJECT / "app.py"), cwd=tmp_path)
    assert run.returncode == 1
    assert run.stderr.splitlines() == [
        "offload: no environment: say which one with -c environment=NAME (one of dev, local, prod, staging)"
    ]
