"""WebhookReceiver, by what it puts into templates and what it refuses."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any, cast

import msgspec
import pytest
from aws_cdk import App, CfnResource, Stack
from constructs import Construct

from clinic.catalogue import CATALOGUE
from offload.cdk.constructs.event_bus import EventBus
from offload.cdk.constructs.operators import Operators
from offload.cdk.constructs.python_function import ROOT_CONTEXT
from offload.cdk.environment import Environment
from offload.cdk.guardrails import guard
from offload.cdk.guardrails.access import SIGNATURE_CHECK
from offload.cdk.patterns.webhook_receiver import UnusableProvider, WebhookReceiver
from offload.contracts.webhooks_in.providers import GITHUB, SLACK, STANDARD_WEBHOOKS
from offload.contracts.webhooks_in.scheme import Provider
from offload.contracts.webhooks_in.shards import MOST_A_SECOND, SHARDS
from offload.contracts.webhooks_in.stored_secret import SecretDocument
from tests.environments import with_address
from tests.unit.jobs.test_background_job import CONTEXT

pytestmark = pytest.mark.synthesis

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
        with_address("dev").attach(self.app)
        self.stack = Stack(self.app, "Clinic")
        Operators(self.stack, "Operators")
        self.bus = EventBus(self.stack, "Events", catalogue=CATALOGUE)

    def receive(self, name: str, provider: Provider) -> WebhookReceiver:
        return WebhookReceiver(self.stack, name, provider=provider, bus=self.bus)

    def resources(self, kind: str) -> dict[str, Any]:
        """The stack's resources of a type; raises RuntimeError when the guardrails refuse it."""
        if not hasattr(self, "_template"):
            self._template: Template = self.app.synth().get_stack_by_name("Clinic").template
        return {
            name: resource["Properties"]
            for name, resource in self._template["Resources"].items()
            if resource["Type"] == kind
        }

    def whole(self, kind: str) -> Any:
        """The one resource of a type, with what stands beside its properties."""
        assert self.resources(kind)
        [found] = [resource for resource in self._template["Resources"].values() if resource["Type"] == kind]
        return found

    def named(self, kind: str, part: str) -> Any:
        [found] = [properties for name, properties in self.resources(kind).items() if part in name]
        return found


@pytest.fixture
def deployed(tmp_path: Path) -> Deployed:
    return Deployed(tmp_path)


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Deployed:
    """Receivers of GitHub and Standard Webhooks, for the tests that only read their template."""
    deployed = Deployed(tmp_path_factory.mktemp("two"))
    deployed.receive("GitHub", GITHUB)
    deployed.receive("Standard", STANDARD_WEBHOOKS)
    return deployed


def test_receivers_share_one_function_and_one_secret_and_have_routes_each(two: Deployed) -> None:
    assert len(two.resources("AWS::SecretsManager::Secret")) == 1
    assert len(two.resources("AWS::ApiGatewayV2::Api")) == 1
    routes = {route["RouteKey"] for route in two.resources("AWS::ApiGatewayV2::Route").values()}
    assert routes == {
        "POST /webhooks/github",
        "POST /webhooks/github/{endpoint}",
        "POST /webhooks/standard-webhooks",
        "POST /webhooks/standard-webhooks/{endpoint}",
    }


def test_the_function_is_told_where_secrets_are_and_of_whom_and_never_what_they_are(two: Deployed) -> None:
    variables = two.named("AWS::Lambda::Function", "WebhooksReceiver")["Environment"]["Variables"]
    [(name, secret)] = two.resources("AWS::SecretsManager::Secret").items()
    assert variables["OFFLOAD_WEBHOOKS_SECRET_ARN"] == {"Ref": name}
    assert variables["OFFLOAD_WEBHOOKS_PROVIDERS"] == "github,standard-webhooks"
    assert SecretDocument.read(secret["GenerateSecretString"]["SecretStringTemplate"]).of("github").secrets == ()
    assert "Name" not in secret


def test_the_generated_part_of_the_secret_never_changes_as_that_would_wipe_the_active_secrets(two: Deployed) -> None:
    [secret] = two.resources("AWS::SecretsManager::Secret").values()
    generated = secret["GenerateSecretString"]
    assert generated == {"SecretStringTemplate": '{"providers":{}}', "GenerateStringKey": "unused"}


def test_the_receiver_s_role_names_its_own_resources_and_actions(two: Deployed) -> None:
    policy = two.named("AWS::IAM::Policy", "WebhooksReceiver")
    allowed: dict[str, list[Any]] = {}
    for statement in policy["PolicyDocument"]["Statement"]:
        for action in [statement["Action"]] if isinstance(statement["Action"], str) else statement["Action"]:
            allowed.setdefault(action, []).append(statement["Resource"])
    secrets = [{"Ref": name} for name in two.resources("AWS::SecretsManager::Secret")]
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


def test_the_relay_reads_what_is_owed_and_nothing_else(two: Deployed) -> None:
    table = next(name for name in two.resources("AWS::DynamoDB::Table") if "Deliveries" in name)
    arn = {"Fn::GetAtt": [table, "Arn"]}
    statements = two.named("AWS::IAM::Policy", "WebhooksRelayRole")["PolicyDocument"]["Statement"]
    allowed = {json.dumps(each["Action"]): each["Resource"] for each in statements if "logs:" not in str(each)}
    assert allowed.pop('"events:PutEvents"')
    assert allowed == {
        '["dynamodb:GetItem", "dynamodb:UpdateItem"]': arn,
        '"dynamodb:Query"': {"Fn::Join": ["", [arn, "/index/owed"]]},
    }


def test_a_rate_that_the_shards_of_the_indexes_do_not_bear_is_refused(
    deployed: Deployed, monkeypatch: pytest.MonkeyPatch
) -> None:
    environment = Environment.load("dev")
    webhooks = msgspec.structs.replace(environment.webhooks, requests_per_second=MOST_A_SECOND + 1)
    other = msgspec.structs.replace(environment, webhooks=webhooks)
    monkeypatch.setattr(Environment, "of", lambda _: other)
    with pytest.raises(ValueError, match=rf"requests_per_second = {MOST_A_SECOND + 1}: .* {SHARDS} shards"):
        deployed.receive("GitHub", GITHUB)


def test_the_relay_is_called_each_minute_and_says_when_it_is_not_or_falls_behind(two: Deployed) -> None:
    [schedule] = two.resources("AWS::Scheduler::Schedule").values()
    assert schedule["ScheduleExpression"] == "rate(1 minute)"
    alarms = {name: alarm for name, alarm in two.resources("AWS::CloudWatch::Alarm").items() if "Refused" not in name}
    assert len(alarms) == 4
    stopped, failed, behind, missed = (
        next(alarm for name, alarm in alarms.items() if part in name)
        for part in ("RelayStopped", "RelayFailed", "Behind", "MissedMinutes")
    )
    assert (stopped["MetricName"], stopped["TreatMissingData"]) == ("Invocations", "missing")
    assert failed["MetricName"] == "Errors"
    assert (behind["MetricName"], behind["Threshold"]) == ("OldestOwedWebhook-dev", 300)
    assert missed["MetricName"] == "ApproximateNumberOfMessagesVisible"
    assert "offload logs webhook_relay" in failed["AlarmDescription"]
    assert two.named("AWS::Logs::MetricFilter", "OldestOwed")["MetricTransformations"] == [
        {"MetricName": "OldestOwedWebhook-dev", "MetricNamespace": "Offload", "MetricValue": "$.oldest_seconds"}
    ]


def test_bursts_of_refusals_and_the_first_one_after_a_rotation_raise_an_alarm(two: Deployed) -> None:
    patterns = {name: each["FilterPattern"] for name, each in two.resources("AWS::Logs::MetricFilter").items()}
    burst = next(pattern for name, pattern in patterns.items() if "Refused" in name and "After" not in name)
    after = next(pattern for name, pattern in patterns.items() if "RefusedAfterRotation" in name)
    assert burst == '{ $.outcome = "refused" }'
    assert after == "{ $.after_rotation IS TRUE }"
    alarms = two.resources("AWS::CloudWatch::Alarm")
    thresholds = {name: alarm["Threshold"] for name, alarm in alarms.items() if "Refused" in name}
    assert sorted(thresholds.values()) == [1, 20]
    assert all("offload webhooks" in alarms[name]["AlarmDescription"] for name in thresholds)


def test_a_metric_is_of_all_providers_as_each_one_costs_by_the_month(two: Deployed) -> None:
    made = [
        transformation
        for each in two.resources("AWS::Logs::MetricFilter").values()
        for transformation in each["MetricTransformations"]
    ]
    assert {each["MetricName"] for each in made} == {
        "OldestOwedWebhook-dev",
        "WebhooksRefused-dev",
        "WebhooksRefusedAfterRotation-dev",
    }
    assert not any("Dimensions" in each for each in made)


def test_routes_are_public_only_because_the_function_declares_that_it_checks_signatures(deployed: Deployed) -> None:
    function = deployed.receive("GitHub", GITHUB).entry.receiver.function
    cast("CfnResource", function.node.default_child).add_metadata(SIGNATURE_CHECK, "")
    with pytest.raises(RuntimeError, match="ValidationFailed"):
        deployed.app.synth()
    report = (Path(deployed.app.outdir) / "validation-report.json").read_text(encoding="utf-8")
    assert "public-function[POST /webhooks/github]" in report
    assert "public-function[POST /webhooks/github/{endpoint}]" in report


def test_one_permission_lets_the_gateway_call_the_function_for_every_provider(two: Deployed) -> None:
    [permission] = two.resources("AWS::Lambda::Permission").values()
    api = next(iter(two.resources("AWS::ApiGatewayV2::Api")))
    assert {"Ref": api} in permission["SourceArn"]["Fn::Join"][1]


def test_the_gateway_lets_through_what_the_environment_says(two: Deployed) -> None:
    [stage] = two.resources("AWS::ApiGatewayV2::Stage").values()
    webhooks = Environment.load("dev").webhooks
    assert stage["DefaultRouteSettings"]["ThrottlingRateLimit"] == webhooks.requests_per_second
    assert stage["DefaultRouteSettings"]["ThrottlingBurstLimit"] == webhooks.burst
    variables = two.named("AWS::Lambda::Function", "WebhooksReceiver")["Environment"]["Variables"]
    assert variables["OFFLOAD_REFUSED_PER_MINUTE"] == str(webhooks.refused_per_minute)


def test_each_route_of_a_provider_has_a_throttle_of_its_own_that_leaves_room_for_the_others(two: Deployed) -> None:
    [stage] = two.resources("AWS::ApiGatewayV2::Stage").values()
    webhooks = Environment.load("dev").webhooks
    half = {
        "ThrottlingRateLimit": math.ceil(webhooks.requests_per_second / 2),
        "ThrottlingBurstLimit": math.ceil(webhooks.burst / 2),
    }
    routes = two.resources("AWS::ApiGatewayV2::Route")
    assert len(routes) == 4
    assert stage["RouteSettings"] == {route["RouteKey"]: half for route in routes.values()}


def test_the_stage_comes_after_the_routes_that_its_settings_name(two: Deployed) -> None:
    # API Gateway refuses settings of a route that is not there.
    routes = two.resources("AWS::ApiGatewayV2::Route").keys()
    assert routes <= set(two.whole("AWS::ApiGatewayV2::Stage")["DependsOn"])


def test_an_api_is_named_after_its_stack_and_its_construct(two: Deployed) -> None:
    [http_api] = two.resources("AWS::ApiGatewayV2::Api").values()
    assert http_api["Name"] == "Clinic-Webhooks"


def test_the_access_log_is_where_services_may_write_by_one_entry_and_no_earlier_stack_has_its_name(
    two: Deployed,
) -> None:
    name = two.named("AWS::Logs::LogGroup", "WebhooksAccessLog")["LogGroupName"]["Fn::Join"][1]
    assert name[0] == "/aws/vendedlogs/Clinic/Webhooks/"
    assert '{"Ref": "AWS::StackId"}' in json.dumps(name[1])


def test_a_provider_that_the_function_would_not_find_is_refused(deployed: Deployed) -> None:
    with pytest.raises(
        UnusableProvider, match=r"Clinic/Acme: provider 'acme' is not in the catalogue.*PROVIDERS of clinic\.providers"
    ):
        deployed.receive("Acme", STANDARD_WEBHOOKS.named("acme"))


def test_a_provider_has_one_receiver(deployed: Deployed) -> None:
    deployed.receive("GitHub", GITHUB)
    told = r"Clinic/Again: provider 'github' has a receiver already, Clinic/GitHub"
    with pytest.raises(UnusableProvider, match=told):
        deployed.receive("Again", GITHUB)


def test_a_provider_in_a_construct_of_the_same_stack_has_one_receiver_too(deployed: Deployed) -> None:
    deployed.receive("Standard", STANDARD_WEBHOOKS)
    with pytest.raises(UnusableProvider, match=r"has a receiver already, Clinic/Standard: .*STANDARD_WEBHOOKS\.named"):
        WebhookReceiver(Construct(deployed.stack, "Team"), "Again", provider=STANDARD_WEBHOOKS, bus=deployed.bus)


def test_a_provider_that_was_changed_after_the_table_is_refused(deployed: Deployed) -> None:
    with pytest.raises(UnusableProvider, match="provider 'github' is not in the catalogue as it is given here"):
        deployed.receive("GitHub", GITHUB.named("github", title="Another"))


def test_the_receivers_of_a_stack_have_one_bus(deployed: Deployed) -> None:
    deployed.receive("GitHub", GITHUB)
    other = EventBus(deployed.stack, "Other", catalogue=CATALOGUE)
    with pytest.raises(UnusableProvider, match=r"Clinic/Slack: .*one bus, Clinic/Events, and not also to Clinic/Other"):
        WebhookReceiver(deployed.stack, "Slack", provider=SLACK, bus=other)
