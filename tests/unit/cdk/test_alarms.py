"""Alarms: who is told of them, where there are none, and when those of minute schedules go off."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from aws_cdk import App, Stack
from aws_cdk import aws_cloudwatch as cloudwatch
from aws_cdk import aws_logs as logs
from aws_cdk import aws_sns as sns
from msgspec.structs import replace

from clinic.stack import compose
from offload.cdk.constructs.operators import Operators
from offload.cdk.constructs.work_queue import DeadLetterQueue
from offload.cdk.environment import Alarms, Environment
from offload.cdk.guardrails import guard
from offload.project import PROJECT
from tests.assemblies import AT_CLINIC, UNBUNDLED
from tests.clinics import CLINIC
from tests.environments import with_address

pytestmark = pytest.mark.synthesis

CONTEXT: dict[str, Any] = json.loads((PROJECT / "cdk.json").read_text(encoding="utf-8"))["context"]
ENVIRONMENTS = CLINIC / "environments"

Resources = dict[str, dict[str, Any]]
ERRORS = cloudwatch.Metric(namespace="AWS/Lambda", metric_name="Errors")


def templates(folder: Path, environment: Environment, add: Callable[[App], None] | None = None) -> Resources:
    """The clinic's resources, with what a team adds to it after the stacks, under its guardrails."""
    app = App(outdir=str(folder), context=CONTEXT | UNBUNDLED | AT_CLINIC)
    guard(app)
    compose(app, environment)
    if add:
        add(app)
    return {
        f"{stack.stack_name}/{name}": resource
        for stack in app.synth().stacks
        for name, resource in stack.template["Resources"].items()
    }


def small(folder: Path, environment: Environment, build: Callable[[Stack], object]) -> Resources:
    """One stack with the operators first, and then what `build` adds."""
    app = App(outdir=str(folder), context=CONTEXT)
    environment.attach(app)
    stack = Stack(app, "Small")
    Operators(stack, "Operators")
    build(stack)
    found: Resources = app.synth().get_stack_by_name("Small").template["Resources"]
    return found


def of_type(resources: Resources, *kinds: str) -> Resources:
    return {name: resource.get("Properties", {}) for name, resource in resources.items() if resource["Type"] in kinds}


ALARM, COMPOSITE, FILTER = "AWS::CloudWatch::Alarm", "AWS::CloudWatch::CompositeAlarm", "AWS::Logs::MetricFilter"


def late_alarms(app: App) -> None:
    clinic = app.node.find_child("offload-dev-clinic")
    assert isinstance(clinic, Stack)
    ERRORS.create_alarm(clinic, "AddedBelow", threshold=1, evaluation_periods=1)
    ERRORS.create_alarm(Stack(app, "Theirs"), "InAnotherStack", threshold=1, evaluation_periods=1)


def every_kind(stack: Stack) -> None:
    plain = ERRORS.create_alarm(stack, "Plain", threshold=1, evaluation_periods=1)
    doubled = cloudwatch.MathExpression(expression="2 * errors", using_metrics={"errors": ERRORS})
    doubled.create_alarm(stack, "Expression", threshold=1, evaluation_periods=1)
    cloudwatch.CompositeAlarm(
        stack, "Composite", alarm_rule=cloudwatch.AlarmRule.from_alarm(plain, cloudwatch.AlarmState.ALARM)
    )
    cloudwatch.CfnAlarm(
        stack,
        "Bare",
        comparison_operator="LessThanThreshold",
        evaluation_periods=1,
        metric_name="Errors",
        namespace="AWS/Lambda",
        period=60,
        statistic="Sum",
        threshold=1,
        alarm_actions=["arn:aws:sns:eu-west-1:111111111111:theirs"],
    )


def test_an_alarm_added_after_the_stacks_and_one_in_another_stack_tell_the_operators(tmp_path: Path) -> None:
    found = templates(tmp_path, with_address("dev", ENVIRONMENTS), late_alarms)
    alarms = of_type(found, ALARM)
    assert {"AddedBelow", "InAnotherStack"} <= {name.split("/")[1][:-8] for name in alarms}
    for name, alarm in alarms.items():
        assert len(alarm["AlarmActions"]) == len(alarm["OKActions"]) == 1, name
        assert "OperatorsTopic" in json.dumps(alarm["AlarmActions"]), name


def test_a_dead_letter_queues_alarm_goes_off_with_the_first_letter_and_silence_is_no_trouble(tmp_path: Path) -> None:
    def build(stack: Stack) -> None:
        DeadLetterQueue(stack, "Letters").alarm(stack, "LettersAlarm", says="Look at them")

    found = small(tmp_path, with_address("dev"), build)
    [alarm] = of_type(found, ALARM).values()
    [queue] = of_type(found, "AWS::SQS::Queue")
    assert alarm["AlarmDescription"] == "Look at them"
    assert alarm["Dimensions"] == [{"Name": "QueueName", "Value": {"Fn::GetAtt": [queue, "QueueName"]}}]
    assert (alarm["MetricName"], alarm["Statistic"]) == ("ApproximateNumberOfMessagesVisible", "Maximum")
    assert (alarm["Threshold"], alarm["EvaluationPeriods"], alarm["TreatMissingData"]) == (1, 1, "notBreaching")
    assert alarm["ComparisonOperator"] == "GreaterThanOrEqualToThreshold"


def test_every_kind_of_alarm_tells_the_operators_beside_whom_it_tells_already(tmp_path: Path) -> None:
    alarms = of_type(small(tmp_path, with_address("dev"), every_kind), ALARM, COMPOSITE)
    assert len(alarms) == 4
    for name, alarm in alarms.items():
        [*others, operators] = alarm["AlarmActions"]
        assert "OperatorsTopic" in operators["Ref"]
        assert alarm["OKActions"] == [operators]
        assert others == (["arn:aws:sns:eu-west-1:111111111111:theirs"] if name == "Bare" else [])


def test_only_an_alarm_that_leaves_missing_data_missing_tells_of_silence(tmp_path: Path) -> None:
    def build(stack: Stack) -> None:
        for name, treated in (
            ("Silent", cloudwatch.TreatMissingData.MISSING),
            ("Sparse", cloudwatch.TreatMissingData.NOT_BREACHING),
            ("Unsaid", None),
        ):
            ERRORS.create_alarm(stack, name, threshold=1, evaluation_periods=1, treat_missing_data=treated)

    alarms = of_type(small(tmp_path, with_address("dev"), build), ALARM)
    assert {name[:6]: bool(alarm.get("InsufficientDataActions")) for name, alarm in alarms.items()} == {
        "Silent": True,
        "Sparse": False,
        "Unsaid": False,
    }


@pytest.mark.parametrize("name", ["dev", "local"])
def test_an_environment_without_an_address_has_no_alarm_and_no_metric_filter_for_one(tmp_path: Path, name: str) -> None:
    def add(app: App) -> None:
        if name == "dev":
            late_alarms(app)

    found = templates(tmp_path, Environment.load(name, ENVIRONMENTS), add)
    assert of_type(found, ALARM, COMPOSITE, "AWS::SNS::Topic") == {}
    metrics = [each["MetricTransformations"][0]["MetricName"] for each in of_type(found, FILTER).values()]
    # What nobody is woken for, and somebody may look at.
    assert sorted(metrics) == [f"DeliveriesFailing-{name}", f"DeliveriesRecovered-{name}"]


def test_a_stack_of_nothing_but_alarms_has_none_where_nobody_would_be_told(tmp_path: Path) -> None:
    found = small(tmp_path, Environment.load("dev"), every_kind)
    assert [resource["Type"] for resource in found.values()] == ["AWS::CloudFormation::WaitConditionHandle"]


def test_a_metric_filter_goes_with_the_alarm_on_its_metric_and_others_stay(tmp_path: Path) -> None:
    def build(stack: Stack) -> None:
        group = logs.LogGroup(stack, "Logs")
        watched, counted, summed = (
            logs.MetricFilter(
                stack,
                name,
                log_group=group,
                filter_pattern=logs.FilterPattern.exists("$.x"),
                metric_namespace="Ours",
                metric_name=name,
            )
            for name in ("Watched", "Counted", "Summed")
        )
        watched.metric().create_alarm(stack, "Alarm", threshold=1, evaluation_periods=1)
        doubled = cloudwatch.MathExpression(expression="2 * sum", using_metrics={"sum": summed.metric()})
        doubled.create_alarm(stack, "Doubled", threshold=1, evaluation_periods=1)
        assert counted

    def made(environment: Environment) -> set[str]:
        filters = of_type(small(tmp_path / environment.name, environment, build), FILTER).values()
        return {each["MetricTransformations"][0]["MetricName"] for each in filters}

    assert made(with_address("dev")) == {"Watched", "Counted", "Summed"}
    assert made(replace(Environment.load("local"), alarms=Alarms())) == {"Counted"}


def test_alarms_may_publish_to_the_operators_topic_from_this_account_alone(tmp_path: Path) -> None:
    found = small(tmp_path, with_address("dev"), every_kind)
    [policy] = of_type(found, "AWS::SNS::TopicPolicy").values()
    [topic] = of_type(found, "AWS::SNS::Topic")
    [allowed] = [each for each in policy["PolicyDocument"]["Statement"] if each["Effect"] == "Allow"]
    assert allowed["Principal"] == {"Service": "cloudwatch.amazonaws.com"}
    assert (allowed["Action"], allowed["Resource"]) == ("sns:Publish", {"Ref": topic})
    assert allowed["Condition"]["StringEquals"] == {"aws:SourceAccount": {"Ref": "AWS::AccountId"}}
    [source] = allowed["Condition"]["ArnLike"].values()
    written = "".join(part if isinstance(part, str) else f"{{{part['Ref']}}}" for part in source["Fn::Join"][1])
    assert written == "arn:{AWS::Partition}:cloudwatch:{AWS::Region}:{AWS::AccountId}:alarm:*"


def test_a_topic_of_somebody_elses_is_left_alone(tmp_path: Path) -> None:
    found = small(tmp_path, with_address("dev"), lambda stack: sns.Topic(stack, "Other"))
    assert len(of_type(found, "AWS::SNS::TopicPolicy")) == 1


# -- minute schedules


@pytest.fixture(scope="module")
def minutes(tmp_path_factory: pytest.TempPathFactory) -> Resources:
    """The whole clinic with an address, and every integration."""
    return templates(tmp_path_factory.mktemp("minutes"), with_address("staging", ENVIRONMENTS))


def test_each_minute_schedule_waits_for_its_roles_policy(minutes: Resources) -> None:
    schedules = [(name, each) for name, each in minutes.items() if each["Type"] == "AWS::Scheduler::Schedule"]
    assert len(schedules) == 3
    for name, schedule in schedules:
        stack, role = name.split("/")[0], schedule["Properties"]["Target"]["RoleArn"]["Fn::GetAtt"][0]
        policies = [
            other.split("/")[1]
            for other, each in minutes.items()
            if other.startswith(f"{stack}/") and {"Ref": role} in each["Properties"].get("Roles", ())
        ]
        assert policies
        assert {role, *policies} <= set(schedule["DependsOn"])


def test_scheduler_takes_a_minute_schedules_role_for_this_accounts_schedules_alone(minutes: Resources) -> None:
    roles = [
        each["Properties"]["AssumeRolePolicyDocument"]["Statement"]
        for name, each in minutes.items()
        if each["Type"] == "AWS::IAM::Role" and "SchedulerRole" in name
    ]
    assert len(roles) == 3
    for [trust] in roles:
        conditions = trust["Condition"]["StringEquals"]
        assert conditions["aws:SourceAccount"] == {"Ref": "AWS::AccountId"}
        assert conditions["aws:SourceArn"]["Fn::Join"][1][-1] == ":schedule-group/default"


Point = float | None


def state(alarm: dict[str, Any], points: Sequence[Point], *, now: str) -> str:
    """CloudWatch's evaluation of an alarm, by its documents (alarms-and-missing-data.html, read 2026-11-29).

    `points` are those of the evaluation range, the oldest first, None for a missing one; `now` is the state before.
    """
    periods = alarm["EvaluationPeriods"]
    needed = alarm.get("DatapointsToAlarm", periods)
    compare = {"LessThanThreshold": float.__lt__, "GreaterThanOrEqualToThreshold": float.__ge__}
    real = [compare[alarm["ComparisonOperator"]](float(each), float(alarm["Threshold"])) for each in points
            if each is not None]  # fmt: skip
    treated = alarm.get("TreatMissingData", "missing")
    if not real:
        return {"missing": "INSUFFICIENT_DATA", "ignore": now, "breaching": "ALARM", "notBreaching": "OK"}[treated]
    # Missing points are filled in as seldom as possible, and not at all where they count as missing.
    filled = [treated == "breaching"] * max(0, periods - len(real)) if treated != "missing" else []
    return "ALARM" if sum([*real[-periods:], *filled]) >= needed else "OK"


THREE_OF_THREE = {"ComparisonOperator": "GreaterThanOrEqualToThreshold", "Threshold": 1, "EvaluationPeriods": 3}
TWO_OF_THREE = {**THREE_OF_THREE, "DatapointsToAlarm": 2}


@pytest.mark.parametrize(
    ("alarm", "points", "missing", "breaching", "not_breaching"),
    [
        (THREE_OF_THREE, (0, None, 1, None, 1), "OK", "OK", "OK"),
        (THREE_OF_THREE, (0, None, None, None, None), "OK", "OK", "OK"),
        (THREE_OF_THREE, (None,) * 5, "INSUFFICIENT_DATA", "ALARM", "OK"),
        (THREE_OF_THREE, (0, 1, 1, None, 1), "ALARM", "ALARM", "ALARM"),
        (TWO_OF_THREE, (0, None, 1, None, 1), "ALARM", "ALARM", "ALARM"),
        (TWO_OF_THREE, (0, 0, 1, 0, 1), "ALARM", "ALARM", "ALARM"),
        (TWO_OF_THREE, (0, None, 1, None, None), "OK", "ALARM", "OK"),
        (TWO_OF_THREE, (None, None, None, None, 0), "OK", "ALARM", "OK"),
    ],
)
def test_the_evaluation_that_the_next_test_goes_by_is_that_of_cloudwatchs_documents(
    alarm: dict[str, Any], points: Sequence[Point], missing: str, breaching: str, not_breaching: str
) -> None:
    for treated, expected in (("missing", missing), ("breaching", breaching), ("notBreaching", not_breaching)):
        assert state({**alarm, "TreatMissingData": treated}, points, now="OK") == expected


def test_no_alarm_goes_off_before_there_is_any_data(minutes: Resources) -> None:
    for name, alarm in of_type(minutes, ALARM).items():
        points = [None] * (alarm["EvaluationPeriods"] + 2)
        assert state(alarm, points, now="INSUFFICIENT_DATA") in ("INSUFFICIENT_DATA", "OK"), name


def test_a_function_that_is_no_longer_called_each_minute_is_told_of_and_one_that_is_called_is_well(
    minutes: Resources,
) -> None:
    stopped = {name: alarm for name, alarm in of_type(minutes, ALARM).items() if alarm["MetricName"] == "Invocations"}
    assert len(stopped) == 3
    for alarm in stopped.values():
        seen = alarm["EvaluationPeriods"] + 2
        assert (alarm["Period"], seen) == (60, 7)
        assert state(alarm, [None] * (seen - 1) + [1], now="INSUFFICIENT_DATA") == "OK"
        assert state(alarm, [1] * seen, now="OK") == "OK"
        assert state(alarm, [1] + [None] * (seen - 1), now="OK") == "OK"
        assert state(alarm, [None] * seen, now="OK") == "INSUFFICIENT_DATA"
        assert alarm["InsufficientDataActions"] == alarm["AlarmActions"] != []
