"""A function that is called each minute, and the alarms that say when it is not."""

from __future__ import annotations

from aws_cdk import Duration, Stack
from aws_cdk import aws_cloudwatch as cloudwatch
from aws_cdk import aws_iam as iam
from aws_cdk import aws_scheduler as scheduler
from constructs import Construct

from offload.cdk.constructs.acknowledge import acknowledge
from offload.cdk.constructs.python_function import PythonFunction
from offload.cdk.constructs.work_queue import DeadLetterQueue

_SILENT_MINUTES = 5


def call_each_minute(scope: Construct, function: PythonFunction, name: str, *, stopped: str, failed: str) -> None:
    """Lets EventBridge Scheduler call a function each minute; what a minute left undone, the next one finds.

    So nothing is tried again. `name` begins the alarms' ids and texts; `stopped` and `failed` say what it means that
    the function was not called for five minutes, or failed three times in them. There is one a scope.
    """
    function.function.configure_async_invoke(retry_attempts=0, max_event_age=Duration.minutes(1))
    role = _role(scope)
    letters = DeadLetterQueue(scope, "MissedMinutes")
    acknowledge(
        letters,
        "AwsSolutions::AwsSolutions-SQS3",
        "It is a dead-letter queue, of a schedule's target; cdk-nag knows only those of queues.",
    )
    arn = function.function.function_arn
    for action, resource in (("lambda:InvokeFunction", arn), ("sqs:SendMessage", letters.queue_arn)):
        iam.Grant.add_to_principal(grantee=role, actions=[action], resource_arns=[resource])
    schedule = scheduler.CfnSchedule(
        scope,
        "EachMinute",
        flexible_time_window=scheduler.CfnSchedule.FlexibleTimeWindowProperty(mode="OFF"),
        schedule_expression="rate(1 minute)",
        target=scheduler.CfnSchedule.TargetProperty(
            arn=arn,
            role_arn=role.role_arn,
            dead_letter_config=scheduler.CfnSchedule.DeadLetterConfigProperty(arn=letters.queue_arn),
            retry_policy=scheduler.CfnSchedule.RetryPolicyProperty(
                maximum_event_age_in_seconds=60, maximum_retry_attempts=0
            ),
        ),
    )
    # The schedule refers to the role alone, and would call before the role's policy is there: a dead letter a minute.
    schedule.node.add_dependency(role)
    letters.alarm(
        scope,
        "MissedMinutesAlarm",
        says=f"The {name.lower()} could not be called: look at its permissions and its concurrency",
    )
    _alarm_when_stopped(scope, function, f"{name}StoppedAlarm", stopped)
    function.function.metric_errors(period=Duration.minutes(5)).create_alarm(
        scope,
        f"{name}FailedAlarm",
        alarm_description=failed,
        threshold=3,
        evaluation_periods=1,
        treat_missing_data=cloudwatch.TreatMissingData.NOT_BREACHING,
    )


def _role(scope: Construct) -> iam.Role:
    # Scheduler names the group, never the schedule: cross-service-confused-deputy-prevention.html of its guide (read
    # 2026-11-29). A schedule that names no group is in `default`.
    stack = Stack.of(scope)
    group = stack.format_arn(service="scheduler", resource="schedule-group", resource_name="default")
    only_ours = {"StringEquals": {"aws:SourceAccount": stack.account, "aws:SourceArn": group}}
    return iam.Role(
        scope,
        "SchedulerRole",
        assumed_by=iam.ServicePrincipal("scheduler.amazonaws.com", conditions=only_ours),
    )


def _alarm_when_stopped(scope: Construct, function: PythonFunction, construct_id: str, says: str) -> None:
    """Tells when a function that is called each minute is no longer called.

    Lambda reports no invocations at all then, not a zero. A new alarm has no data either, and if missing data were
    breaching, it would go off as soon as it is made, however many periods it looks at: with every data point missing,
    CloudWatch goes by that setting alone (alarms-and-missing-data.html, read 2026-11-29). Left `missing`, the alarm
    begins as INSUFFICIENT_DATA, is OK after the first minute with a call, and goes back to INSUFFICIENT_DATA when all
    minutes that it looks at are missing: that change is what the operators are told of. A schedule that has never been
    able to call leaves dead letters, which have an alarm of their own.
    """
    function.function.metric_invocations(period=Duration.minutes(1)).create_alarm(
        scope,
        construct_id,
        alarm_description=says,
        comparison_operator=cloudwatch.ComparisonOperator.LESS_THAN_THRESHOLD,
        threshold=1,
        evaluation_periods=_SILENT_MINUTES,
        treat_missing_data=cloudwatch.TreatMissingData.MISSING,
    )
