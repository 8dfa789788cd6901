"""Whether the operators' address is subscribed, as `offload status` says it."""

from __future__ import annotations

import json
from functools import cached_property
from io import StringIO
from typing import TYPE_CHECKING, Any

import boto3
import pytest
from botocore.stub import Stubber

from offload.cli.deployment.aws import Aws
from offload.cli.deployment.operators import Notified, Subscribed, notified
from offload.cli.deployment.resources import Deployment, Resource
from offload.cli.deployment.status import show
from offload.cli.terminal.screen import Screen

if TYPE_CHECKING:
    from offload.cli.local.process import Instance

ADDRESS = "operators@offload-clinic.net"
TOPIC = "arn:aws:sns:eu-west-1:123456789012:offload-prod-platform-OperatorsTopic2DD4C591-x"


class Deployed(Deployment):
    """A deployment that has what its test says, and asks the given AWS."""

    @cached_property
    def resources(self) -> tuple[Resource, ...]:
        return self.__dict__["found"]  # type: ignore[no-any-return]


def deployment(aws: Aws, topic: str, **subscription: Any) -> Deployment:
    made = Deployed(aws)
    given = {"TopicArn": {"Ref": "Topic"}, "Protocol": "email", "Endpoint": ADDRESS} | subscription
    made.__dict__["found"] = (
        Resource("S", "Other/Topic", "OtherTopic", "AWS::SNS::Topic", "arn:aws:sns:eu-west-1:1:other", {}),
        Resource("S", "Operators/Topic", "Topic", "AWS::SNS::Topic", topic, {}),
        Resource("S", "Operators/Topic/Subscription", "Sub", "AWS::SNS::Subscription", "sub", given),
    )
    return made


def answering(*subscriptions: dict[str, str]) -> Aws:
    """An AWS whose SNS answers as the real one does; what it answers is checked against the API's model."""
    client = boto3.client("sns", region_name="eu-west-1", aws_access_key_id="x", aws_secret_access_key="x")
    stub = Stubber(client)
    stub.add_response(
        "list_subscriptions_by_topic",
        {"Subscriptions": [{"TopicArn": TOPIC, "Owner": "123456789012", **each} for each in subscriptions]},
        {"TopicArn": TOPIC},
    )
    stub.activate()
    aws = Aws("prod")
    aws.__dict__["sns"] = client
    return aws


def email(arn: str, address: str = ADDRESS, protocol: str = "email") -> dict[str, str]:
    return {"SubscriptionArn": arn, "Protocol": protocol, "Endpoint": address}


CONFIRMED = f"{TOPIC}:6e0d7d3e-1c38-4b11-b3a0-2f6f7a5b0c11"


@pytest.mark.parametrize(
    ("subscriptions", "expected"),
    [
        ([email(CONFIRMED)], Subscribed.CONFIRMED),
        ([email("PendingConfirmation")], Subscribed.PENDING),
        ([email("Deleted")], Subscribed.MISSING),
        ([], Subscribed.MISSING),
        ([email(CONFIRMED, "somebody@else.net")], Subscribed.MISSING),
        ([email(CONFIRMED, protocol="email-json")], Subscribed.MISSING),
        ([email("PendingConfirmation"), email(CONFIRMED, ADDRESS.upper())], Subscribed.CONFIRMED),
        ([email("Deleted"), email("PendingConfirmation")], Subscribed.PENDING),
    ],
)
def test_the_address_stands_as_sns_lists_it(subscriptions: list[dict[str, str]], expected: Subscribed) -> None:
    found = notified(deployment(answering(*subscriptions), TOPIC))
    assert found == Notified(ADDRESS, TOPIC, expected)


def test_an_environment_without_the_operators_topic_has_no_alarms() -> None:
    made = Deployed(Aws("dev"))
    made.__dict__["found"] = ()
    assert notified(made) is None


@pytest.mark.parametrize("subscribed", [Subscribed.PENDING, Subscribed.MISSING])
def test_where_no_mail_arrives_the_remedy_is_a_command_with_the_topic_and_the_address(subscribed: Subscribed) -> None:
    remedy = Notified(ADDRESS, TOPIC, subscribed).remedy
    assert remedy is not None
    assert f"aws sns subscribe --topic-arn {TOPIC} --protocol email --notification-endpoint {ADDRESS}" in remedy
    assert Notified(ADDRESS, TOPIC, Subscribed.CONFIRMED).remedy is None


def test_the_subscription_is_found_on_an_aws_that_answers_and_its_absence_too(emulator: Instance) -> None:
    # The embedded AWS confirms every address by itself; how AWS lists one that is not is in the test above.
    aws = Aws("local", emulator)
    topic = aws.sns.create_topic(Name="operators")["TopicArn"]
    assert notified(deployment(aws, topic)) == Notified(ADDRESS, topic, Subscribed.MISSING)
    aws.sns.subscribe(TopicArn=topic, Protocol="email", Endpoint=ADDRESS)
    assert notified(deployment(aws, topic)) == Notified(ADDRESS, topic, Subscribed.CONFIRMED)


def shown(alarms: dict[str, Any] | None) -> str:
    console = Screen(file=StringIO(), width=80)
    show(
        {"environment": "prod", "embedded": None, "alarms": alarms, "stacks": [], "functions": [], "consumers": []},
        console,
    )
    file: Any = console.file
    return str(file.getvalue()).splitlines()[0]


def test_status_says_on_one_line_who_is_told_and_what_to_do() -> None:
    assert shown(None) == "alarms: none, for the environment has no address ([alarms] email)"
    for subscribed in Subscribed:
        told = Notified(ADDRESS, TOPIC, subscribed)
        line = shown({"address": ADDRESS, "subscription": subscribed.value, "remedy": told.remedy})
        assert line == f"alarms go to {ADDRESS}: {subscribed.value}" + (f"; {told.remedy}" if told.remedy else "")
        assert json.dumps(line)
