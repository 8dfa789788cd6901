"""Where alarms go."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import jsii
from aws_cdk import ArnFormat, AspectPriority, Aspects, CfnResource, CfnWaitConditionHandle, IAspect, Stack
from aws_cdk import aws_cloudwatch as cloudwatch
from aws_cdk import aws_cloudwatch_actions as actions
from aws_cdk import aws_iam as iam
from aws_cdk import aws_logs as logs
from aws_cdk import aws_sns as sns
from aws_cdk import aws_sns_subscriptions as subscriptions
from constructs import Construct, IConstruct

from offload.cdk.constructs.encryption import encrypt
from offload.cdk.environment import Environment

_ALARMS = (cloudwatch.CfnAlarm, cloudwatch.CfnCompositeAlarm)
_WHOLE = (cloudwatch.AlarmBase, logs.MetricFilter)
# What an alarm says of minutes without a value (PutMetricAlarm, TreatMissingData).
_MISSING = "missing"
_Metric = tuple[str, str]


class Operators(Construct):
    """The topic that tells the operators, at the environment's address; no topic where it has none.

    Every alarm of the app is theirs, wherever it stands and whenever it is added: with an address it gets the topic as
    its action, without one it is left out of the templates. There is one an app.
    """

    def __init__(self, scope: Construct, construct_id: str) -> None:
        super().__init__(scope, construct_id)
        self.topic: sns.Topic | None = None
        email = Environment.of(self).alarms.email
        if email:
            self.topic = sns.Topic(self, "Topic", enforce_ssl=True)
            self._let_alarms_publish(self.topic)
            encrypt(self.topic)
            self.topic.add_subscription(subscriptions.EmailSubscription(email))
        # Tags are put on at this priority too, and whatever only looks comes after it. On the app, the aspect would be
        # called for each construct: 1,400 calls between Node and Python in an app of 700.
        Aspects.of(self).add(AlarmActions(self, self.topic), priority=AspectPriority.MUTATING)

    def _let_alarms_publish(self, topic: sns.Topic) -> None:
        # A policy takes the place of SNS's default, which lets in whatever the account has. This one has AWS's form:
        # repost.aws/knowledge-center/cloudwatch-receive-sns-for-alarm-trigger (read 2026-11-29). A topic's key must let
        # alarms in too: kms:GenerateDataKey* and kms:Decrypt (sns-key-management.html, read 2026-11-29).
        stack = Stack.of(self)
        topic.add_to_resource_policy(
            iam.PolicyStatement(
                sid="AllowAlarms",
                principals=[iam.ServicePrincipal("cloudwatch.amazonaws.com")],
                actions=["sns:Publish"],
                resources=[topic.topic_arn],
                conditions={
                    "StringEquals": {"aws:SourceAccount": stack.account},
                    "ArnLike": {
                        "aws:SourceArn": stack.format_arn(
                            service="cloudwatch",
                            resource="alarm",
                            resource_name="*",
                            arn_format=ArnFormat.COLON_RESOURCE_NAME,
                        )
                    },
                },
            )
        )


@jsii.implements(IAspect)
class AlarmActions:
    """Gives every alarm of an app `topic` as its action, when it goes off and when it is over.

    One that says `treat_missing_data=MISSING` tells of silence too, once it has had data.

    Without a topic nobody would be told: alarms are left out of the templates, and with them the metric filters whose
    metrics they watch, since such a metric is paid for while a log feeds it.
    """

    def __init__(self, operators: Construct, topic: sns.ITopic | None) -> None:
        self._operators = operators
        self._topic = topic

    def visit(self, node: IConstruct) -> None:
        """Changes everything in the app when `node` is its operators; the CDK visits what is below them too."""
        if node is not self._operators:
            return
        everything = node.node.root.node.find_all()
        if self._topic is None:
            _take_out(everything)
            return
        action = actions.SnsAction(self._topic)
        for each in everything:
            if isinstance(each, cloudwatch.AlarmBase):
                _tell(action, each)
            elif isinstance(each, _ALARMS) and not isinstance(each.node.scope, cloudwatch.AlarmBase):
                _tell_resource(self._topic.topic_arn, each)


def _tell(action: actions.SnsAction, alarm: cloudwatch.AlarmBase) -> None:
    alarm.add_alarm_action(action)
    alarm.add_ok_action(action)
    resource = alarm.node.default_child
    if isinstance(resource, cloudwatch.CfnAlarm) and resource.treat_missing_data == _MISSING:
        alarm.add_insufficient_data_action(action)


def _tell_resource(topic_arn: str, alarm: cloudwatch.CfnAlarm | cloudwatch.CfnCompositeAlarm) -> None:
    """Does the same to an alarm that is written as its resource."""
    alarm.alarm_actions = [*(alarm.alarm_actions or ()), topic_arn]
    alarm.ok_actions = [*(alarm.ok_actions or ()), topic_arn]
    if isinstance(alarm, cloudwatch.CfnAlarm) and alarm.treat_missing_data == _MISSING:
        alarm.insufficient_data_actions = [*(alarm.insufficient_data_actions or ()), topic_arn]


def _take_out(everything: Sequence[IConstruct]) -> None:
    watched = {metric for each in everything if isinstance(each, cloudwatch.CfnAlarm) for metric in _watched(each)}
    touched: dict[str, Stack] = {}
    for each in everything:
        if isinstance(each, _ALARMS) or (isinstance(each, logs.CfnMetricFilter) and set(_made(each)) <= watched):
            # The construct whose resource it is, where there is one.
            whole = each.node.scope if isinstance(each.node.scope, _WHOLE) else each
            touched.setdefault(each.stack.node.path, each.stack)
            if whole.node.scope is not None:
                whole.node.scope.node.try_remove_child(whole.node.id)
    for stack in touched.values():
        if not any(isinstance(each, CfnResource) for each in stack.node.find_all()):
            # CloudFormation takes no stack without a resource; this one does nothing and costs nothing.
            CfnWaitConditionHandle(stack, "NoAlarms")


def _watched(alarm: cloudwatch.CfnAlarm) -> Iterator[_Metric]:
    """The metrics that an alarm looks at: its namespace and name, or those of its expression."""
    if alarm.namespace and alarm.metric_name:
        yield alarm.namespace, alarm.metric_name
    for query in Stack.of(alarm).resolve(alarm.metrics) or ():
        if metric := query.get("metricStat", {}).get("metric"):
            yield metric["namespace"], metric["metricName"]


def _made(metric_filter: logs.CfnMetricFilter) -> Iterator[_Metric]:
    for made in Stack.of(metric_filter).resolve(metric_filter.metric_transformations):
        yield made["metricNamespace"], made["metricName"]
