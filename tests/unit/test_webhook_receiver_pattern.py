"""WebhookReceiver, by what it puts into templates and what it refuses."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from aws_cdk import App, Stack

from offload.contracts.webhooks.providers import GITHUB, SLACK, STANDARD_WEBHOOKS
from offload.contracts.webhooks.scheme import Provider
from offload.contracts.webhooks.stored_secret import StoredSecrets
from stacks.constructs.event_bus import EventBus
from stacks.constructs.python_function import ROOT_CONTEXT
from stacks.environment import Environment
from stacks.guardrails import guard
from stacks.patterns.webhook_receiver import UnusableProvider, WebhookReceiver
from tests.unit.test_background_job import CONTEXT

Template = dict[str, Any]


class Deployed:
    """Receivers in one stack, guarded as the app is."""

    def __init__(self, folder: Path) -> None:
        for name in ("webhook_receiver", "webhook_relay"):
            (folder / "lambdas" / name).mkdir(parents=True)
        self.app = App(
            outdir=str(folder / "out"), context=CONTEXT | {"aws:cdk:bundling-stacks": [], ROOT_CONTEXT: str(folder)}
        )
        guard(self.app)
        Environment.load("dev").attach(self.app)
        self.stack = Stack(self.app, "Shop")
        self.bus = EventBus(self.stack, "Events")

    def receive(self, name: str, provider: Provider) -> WebhookReceiver:
        return WebhookReceiver(self.stack, name, provider=provider, bus=self.bus)

    def resources(self, kind: str) -> dict[str, Any]:
        """The stack's resources of a type; raises RuntimeError when the guardrails refuse it."""
        if not hasattr(self, "_template"):
            self._template: Template = self.app.synth().get_stack_by_name("Shop").template
        return {
            name: resource["Properties"]
            for name, resource in self._template["Resources"].items()
            if resource["Type"] == kind
        }

    def named(self, kind: str, part: str) -> Any:
        [found] = [properties for name, properties in self.resources(kind).items() if part in name]
        return found


@pytest.fixture
def deployed(tmp_path: Path) -> Deployed:
    return Deployed(tmp_path)


def test_receivers_share_one_function_and_have_a_secret_and_routes_each(deployed: Deployed) -> None:
    assert deployed.receive("GitHub", GITHUB).entry is deployed.receive("Standard", STANDARD_WEBHOOKS).entry
    assert len(deployed.resources("AWS::SecretsManager::Secret")) == 2
    assert len(deployed.resources("AWS::ApiGatewayV2::Api")) == 1
    routes = {route["RouteKey"] for route in deployed.resources("AWS::ApiGatewayV2::Route").values()}
    assert routes == {
        "POST /webhooks/github",
        "POST /webhooks/github/{endpoint}",
        "POST /webhooks/standard-webhooks",
        "POST /webhooks/standard-webhooks/{endpoint}",
    }


def test_the_function_is_told_where_secrets_are_and_never_what_they_are(deployed: Deployed) -> None:
    deployed.receive("Standard", STANDARD_WEBHOOKS)
    variables = deployed.named("AWS::Lambda::Function", "WebhooksReceiver")["Environment"]["Variables"]
    assert variables["OFFLOAD_SECRET_STANDARD_WEBHOOKS"] == {
        "Ref": next(iter(deployed.resources("AWS::SecretsManager::Secret")))
    }
    [secret] = deployed.resources("AWS::SecretsManager::Secret").values()
    assert StoredSecrets.read(secret["GenerateSecretString"]["SecretStringTemplate"]).secrets == ()
    assert "Name" not in secret


def test_the_receiver_s_role_names_its_own_resources_and_actions(deployed: Deployed) -> None:
    deployed.receive("GitHub", GITHUB)
    deployed.receive("Slack", SLACK)
    policy = deployed.named("AWS::IAM::Policy", "WebhooksReceiver")
    allowed: dict[str, list[Any]] = {}
    for statement in policy["PolicyDocument"]["Statement"]:
        for action in [statement["Action"]] if isinstance(statement["Action"], str) else statement["Action"]:
            allowed.setdefault(action, []).append(statement["Resource"])
    secrets = [{"Ref": name} for name in deployed.resources("AWS::SecretsManager::Secret")]
    resources = allowed["secretsmanager:GetSecretValue"]
    flat = [each for resource in resources for each in (resource if isinstance(resource, list) else [resource])]
    assert sorted(flat, key=str) == sorted(secrets, key=str)
    assert set(allowed) == {
        "logs:CreateLogStream",
        "logs:PutLogEvents",
        "dynamodb:PutItem",
        "dynamodb:UpdateItem",
        "events:PutEvents",
        "s3:PutObject",
        "secretsmanager:GetSecretValue",
    }


def test_the_relay_reads_what_is_owed_and_nothing_else(deployed: Deployed) -> None:
    deployed.receive("GitHub", GITHUB)
    said = json.dumps(deployed.named("AWS::IAM::Policy", "WebhooksRelayRole"))
    assert "/index/owed" in said
    assert "secretsmanager" not in said
    assert "/index/recent" not in said
    [schedule] = deployed.resources("AWS::Scheduler::Schedule").values()
    assert schedule["ScheduleExpression"] == "rate(1 minute)"


def test_bursts_of_refusals_and_the_first_one_after_a_rotation_raise_an_alarm(deployed: Deployed) -> None:
    deployed.receive("GitHub", GITHUB)
    patterns = {name: each["FilterPattern"] for name, each in deployed.resources("AWS::Logs::MetricFilter").items()}
    burst = next(pattern for name, pattern in patterns.items() if "GitHubRefused" in name and "After" not in name)
    after = next(pattern for name, pattern in patterns.items() if "RefusedAfterRotation" in name)
    assert burst == '{ ($.provider = "github") && ($.outcome = "refused") }'
    assert after == '{ ($.provider = "github") && ($.after_rotation IS TRUE) }'
    alarms = deployed.resources("AWS::CloudWatch::Alarm")
    thresholds = {name: alarm["Threshold"] for name, alarm in alarms.items() if name.startswith("GitHub")}
    assert sorted(thresholds.values()) == [1, 20]
    assert all("offload webhooks" in alarms[name]["AlarmDescription"] for name in thresholds)


def test_the_gateway_lets_through_what_the_environment_says(deployed: Deployed) -> None:
    deployed.receive("GitHub", GITHUB)
    [stage] = deployed.resources("AWS::ApiGatewayV2::Stage").values()
    webhooks = Environment.load("dev").webhooks
    assert stage["DefaultRouteSettings"]["ThrottlingRateLimit"] == webhooks.requests_per_second
    assert stage["DefaultRouteSettings"]["ThrottlingBurstLimit"] == webhooks.burst
    variables = deployed.named("AWS::Lambda::Function", "WebhooksReceiver")["Environment"]["Variables"]
    assert variables["OFFLOAD_REFUSED_PER_MINUTE"] == str(webhooks.refused_per_minute)


def test_a_provider_that_the_function_would_not_find_is_refused(deployed: Deployed) -> None:
    with pytest.raises(UnusableProvider, match=r"Shop/Acme: provider 'acme' is not in PROVIDERS.*providers\.py"):
        deployed.receive("Acme", STANDARD_WEBHOOKS.named("acme"))


def test_a_provider_has_one_receiver(deployed: Deployed) -> None:
    deployed.receive("GitHub", GITHUB)
    with pytest.raises(UnusableProvider, match=r"Shop/Again: provider 'github' has a receiver already, Shop/GitHub"):
        deployed.receive("Again", GITHUB)
