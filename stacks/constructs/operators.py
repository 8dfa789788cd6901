"""Where alarms go."""

from __future__ import annotations

from aws_cdk import aws_cloudwatch as cloudwatch
from aws_cdk import aws_cloudwatch_actions as actions
from aws_cdk import aws_sns as sns
from aws_cdk import aws_sns_subscriptions as subscriptions
from constructs import Construct

from stacks.environment import Environment


class Operators(Construct):
    """The topic that tells the operators, at the environment's address; no topic where it has none."""

    def __init__(self, scope: Construct, construct_id: str) -> None:
        super().__init__(scope, construct_id)
        self.topic: sns.Topic | None = None
        email = Environment.of(self).alarms.email
        if email:
            self.topic = sns.Topic(self, "Topic", enforce_ssl=True)
            self.topic.add_subscription(subscriptions.EmailSubscription(email))

    def hear_of(self, scope: Construct) -> None:
        """Sends every alarm below `scope` to the operators, when it goes off and when it is over."""
        if self.topic is None:
            return
        action = actions.SnsAction(self.topic)
        for child in scope.node.find_all():
            if isinstance(child, cloudwatch.Alarm):
                child.add_alarm_action(action)
                child.add_ok_action(action)
