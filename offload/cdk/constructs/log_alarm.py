"""Metrics of what a function's log says, and alarms on them."""

from __future__ import annotations

from aws_cdk import Duration
from aws_cdk import aws_cloudwatch as cloudwatch
from aws_cdk import aws_logs as logs
from constructs import Construct

from offload.cdk.environment import Environment

_AT_LEAST = cloudwatch.ComparisonOperator.GREATER_THAN_OR_EQUAL_TO_THRESHOLD


def metric_of_log(
    scope: Construct,
    name: str,
    *,
    log_group: logs.LogGroup,
    pattern: logs.IFilterPattern,
    metric: str,
    value: str = "1",
) -> logs.MetricFilter:
    """Makes a metric of the lines that fit a pattern.

    `name` is the metric filter's id. The metric is called `metric` and the environment's name, in the namespace
    Offload; its `value` is 1 a line, or a field of the line (`$.oldest_seconds`).
    """
    return logs.MetricFilter(
        scope,
        name,
        log_group=log_group,
        filter_pattern=pattern,
        metric_namespace="Offload",
        metric_name=f"{metric}-{Environment.of(scope).name}",
        metric_value=value,
    )


def alarm_on_log(
    scope: Construct,
    name: str,
    *,
    log_group: logs.LogGroup,
    pattern: logs.IFilterPattern,
    metric: str,
    says: str,
    threshold: float,
    within: Duration,
    statistic: str,
    value: str = "1",
    alarm: str | None = None,
    periods: int = 1,
    comparison: cloudwatch.ComparisonOperator = _AT_LEAST,
) -> cloudwatch.Alarm:
    """Makes a metric of the lines that fit a pattern, as `metric_of_log` does, and an alarm on it.

    `alarm` is the alarm's id (`name` and `Alarm`). It goes off when the `statistic` of the metric reaches `threshold`,
    or compares otherwise, in each of so many `periods` of `within`; no line is no trouble. `says` is for who is woken.
    """
    return (
        metric_of_log(scope, name, log_group=log_group, pattern=pattern, metric=metric, value=value)
        .metric(statistic=statistic, period=within)
        .create_alarm(
            scope,
            alarm or f"{name}Alarm",
            alarm_description=says,
            threshold=threshold,
            comparison_operator=comparison,
            evaluation_periods=periods,
            treat_missing_data=cloudwatch.TreatMissingData.NOT_BREACHING,
        )
    )
