"""Who is told of an environment's alarms, and whether mail reaches them."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from offload.cli.deployment.aws import Aws
from offload.cli.deployment.resources import Deployment, Resource

_TOPIC, _SUBSCRIPTION = "AWS::SNS::Topic", "AWS::SNS::Subscription"
# The construct's path, by which offload/cdk/constructs/operators.py is found.
_PATH = "Operators/Topic"
# What ListSubscriptionsByTopic has in place of an ARN (SNS API Reference, Subscription, read 2026-11-29).
_PENDING, _DELETED = "PendingConfirmation", "Deleted"


class Subscribed(Enum):
    """How an address stands with the topic of alarms."""

    CONFIRMED = "confirmed"
    PENDING = "not confirmed"
    MISSING = "no subscription"


@dataclass(frozen=True)
class Notified:
    """The address that alarms go to, the topic's ARN, and whether mail reaches the address."""

    address: str
    topic: str
    subscribed: Subscribed

    @property
    def remedy(self) -> str | None:
        """What to do so that mail reaches the address; None when it does."""
        again = f"aws sns subscribe --topic-arn {self.topic} --protocol email --notification-endpoint {self.address}"
        match self.subscribed:
            case Subscribed.CONFIRMED:
                return None
            case Subscribed.PENDING:
                return (
                    "no alarm reaches it: open the link in the mail 'AWS Notification - Subscription Confirmation', or"
                    f" have AWS send another: {again}"
                )
            case Subscribed.MISSING:
                return f"no alarm reaches it: subscribe it again, and open the link in the mail: {again}"


def notified(deployment: Deployment) -> Notified | None:
    """Who is told of a deployment's alarms, by SNS's own answer; None where it has no address, and so no alarms."""
    for topic in deployment.every(_TOPIC):
        if f"/{topic.path}".endswith(f"/{_PATH}"):
            address = _address(deployment, topic)
            if address is not None:
                return Notified(address, topic.physical_id, _subscribed(deployment.aws, topic.physical_id, address))
    return None


def _address(deployment: Deployment, topic: Resource) -> str | None:
    for subscription in deployment.every(_SUBSCRIPTION):
        given = subscription.properties
        if (subscription.stack, given.get("TopicArn"), given.get("Protocol")) == (
            topic.stack,
            {"Ref": topic.logical_id},
            "email",
        ):
            return str(given["Endpoint"])
    return None


def _subscribed(aws: Aws, topic: str, address: str) -> Subscribed:
    found = Subscribed.MISSING
    for page in aws.sns.get_paginator("list_subscriptions_by_topic").paginate(TopicArn=topic):
        for each in page["Subscriptions"]:
            if each.get("Protocol") != "email" or each.get("Endpoint", "").lower() != address.lower():
                continue
            arn = each.get("SubscriptionArn", _DELETED)
            if arn not in (_PENDING, _DELETED):
                return Subscribed.CONFIRMED
            if arn == _PENDING:
                found = Subscribed.PENDING
    return found
