"""A function that is called each minute, and the alarms that say when it is not."""

from __future__ import annotations

from aws_cdk import Duration
from aws_cdk import aws_cloudwatch as cloudwatch
from aws_cdk import aws_iam as iam
from aws_cdk import aws_scheduler as scheduler
from constructs import Construct

from stacks.constructs.acknowledge import acknowledge
from stacks.constructs.python_function import PythonFunction
from stacks.constructs.work_queue import DeadLetterQueue


def call_each_minute(scope: Construct, function: PythonFunction, name: str, *, stopped: str, failed: str) -> None:
    """Lets EventBridge Scheduler call a function each minute; what a minute left undone, the next one finds.

    So nothing is tried again. `name` begins the alarms' ids and texts; `stopped` and `failed` say what it means that
    the function was not called for five minutes, or failed three times in them. There is one a scope.
    """
    function.function.configure_async_invoke(retry_attempts=0, max_event_age=Duration.minutes(1))
    role = iam.Role(scope, "SchedulerRole", assumed_by=iam.ServicePrincipal("scheduler.amazonaws.com"))
    letters = DeadLetterQueue(scope, "MissedMinutes")
    acknowledge(
        letters,
        "AwsSolutions::AwsSolutions-SQS3",
        "It is a dead-letter queue, of a schedule's target; cdk-nag knows only those of queues.",
    )
    arn = function.function.function_arn
    for action, resource in (("lambda:InvokeFunction", arn), ("sqs:SendMessage", letters.queue_arn)):
        iam.Grant.add_to_principal(grantee=role, actions=[action], resource_arns=[resource])
    scheduler.CfnSchedule(
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
    letters.metric_approximate_number_of_messages_visible(statistic="Maximum").create_alarm(
        scope,
        "MissedMinutesAlarm",
        alarm_description=f"The {name.lower()} could not be called: look at its permissions and its concurrency",
        threshold=1,
        evaluation_periods=1,
        treat_missing_data=cloudwatch.TreatMissingData.NOT_BREACHING,
    )
    function.function.metric_invocations(period=Duration.minutes(5)).create_alarm(
        scope,
        f"{name}StoppedAlarm",
        alarm_description=stopped,
        comparison_operator=cloudwatch.ComparisonOperator.LESS_THAN_THRESHOLD,
        threshold=1,
        evaluation_periods=1,
        treat_missing_data=cloudwatch.TreatMissingData.BREACHING,
    )
    function.function.metric_errors(period=Duration.minutes(5)).create_alarm(
        scope,
        f"{name}FailedAlarm",
        alarm_description=failed,
        threshold=3,
        evaluation_periods=1,
        treat_missing_data=cloudwatch.TreatMissingData.NOT_BREACHING,
    )
