"""WebhookSender, by what it puts into templates."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest
from aws_cdk import App
from msgspec.structs import replace

from clinic.catalogue import CATALOGUE
from clinic.contracts.supplies import SupplyLow
from offload.cdk.constructs.python_function import ROOT_CONTEXT
from offload.cdk.environment import Queues
from offload.cdk.environment_stack import EnvironmentStack
from offload.cdk.guardrails import guard
from offload.cdk.patterns.webhook_sender import UnusableSender, WebhookSender
from offload.cdk.platform import Platform
from offload.contracts.catalogue import Catalogue
from offload.contracts.events.audience import tenant_in
from offload.contracts.events.event import EventData
from offload.contracts.webhooks_out.api import ROUTES
from offload.contracts.webhooks_out.policy import Policy
from offload.contracts.webhooks_out.recovery import recovery_named
from tests.environments import with_address
from tests.unit.jobs.test_background_job import CONTEXT

pytestmark = pytest.mark.synthesis

BOUNDED = Queues()
QUEUE = "arn:aws:sqs:eu-west-1:111122223333:visits"
BUS = "arn:aws:events:eu-west-1:111122223333:event-bus/visits"


def platform_of(
    folder: Path, queues: Queues = BOUNDED, *, catalogue: Catalogue = CATALOGUE, **sending: Any
) -> Platform:
    """The platform of an app that is guarded as every app is."""
    app = App(outdir=str(folder / "out"), context=CONTEXT | {"aws:cdk:bundling-stacks": [], ROOT_CONTEXT: str(folder)})
    guard(app)
    environment = with_address("dev")
    replace(environment, queues=queues, sending=replace(environment.sending, **sending)).attach(app)
    return Platform(app, "Platform", catalogue=catalogue)


def a_stack(platform: Platform, name: str) -> EnvironmentStack:
    return EnvironmentStack(app_of(platform), name)


def app_of(platform: Platform) -> App:
    app = platform.node.root
    assert isinstance(app, App)
    return app


def resources(platform: Platform, stack: str) -> dict[str, Any]:
    found: dict[str, Any] = app_of(platform).synth().get_stack_by_name(stack).template["Resources"]
    return found


def template_of(
    folder: Path, queues: Queues = BOUNDED, *, events: Sequence[type[EventData]] = (SupplyLow,), **sending: Any
) -> dict[str, Any]:
    platform = platform_of(folder, queues, **sending)
    WebhookSender(a_stack(platform, "Clinic"), "Out", events=events, platform=platform)
    return resources(platform, "Clinic")


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return template_of(tmp_path_factory.mktemp("sender"), destinations=(QUEUE, BUS), concurrency=7)


class Undeclared(SupplyLow, frozen=True, kw_only=True):
    TYPE = "undeclared.event"
    AUDIENCE = None


class ByNumber(SupplyLow, frozen=True, kw_only=True):
    TYPE = "by.number"
    AUDIENCE = tenant_in("units")


class ByNothing(SupplyLow, frozen=True, kw_only=True):
    TYPE = "by.nothing"
    AUDIENCE = tenant_in("clinic")


class ByText(SupplyLow, frozen=True, kw_only=True):
    TYPE = "by.text"
    AUDIENCE = tenant_in("clinic")

    clinic: str | None = None


@pytest.mark.parametrize(
    ("contract", "says"),
    [
        (Undeclared, r"Clinic/Out: event type 'undeclared.event' \(Undeclared\) may go out .* set its AUDIENCE"),
        (ByNumber, r"'by.number' .* its field 'units', which is no field of it, or no text"),
        (ByNothing, r"'by.nothing' .* its field 'clinic', which is no field of it, or no text"),
    ],
)
def test_a_type_that_does_not_say_whose_it_is_may_not_go_out(
    tmp_path: Path, contract: type[EventData], says: str
) -> None:
    with pytest.raises(ValueError, match=says):
        template_of(tmp_path, events=(SupplyLow, contract))


def test_a_type_may_name_its_tenant_in_a_text_that_can_be_left_out(tmp_path: Path) -> None:
    assert template_of(tmp_path, events=(*CATALOGUE.outward_types, ByText))


def test_a_sender_has_the_job_that_brings_deliveries_back(template: dict[str, Any]) -> None:
    [function] = of_type(template, "AWS::Lambda::Function", "DeliveryBatch").values()
    variables = function["Environment"]["Variables"]
    [rule] = of_type(template, "AWS::Events::Rule", "OutPlanner")
    assert variables["OFFLOAD_JOB"] == "delivery_batch"
    assert variables["OFFLOAD_PLANNER_RULE"] == {"Fn::GetAtt": [rule, "Arn"]}
    assert {"OFFLOAD_JOURNAL_TABLE", "OFFLOAD_ARCHIVE", "OFFLOAD_SUBSCRIPTIONS_TABLE"} <= variables.keys()
    [place] = of_type(template, "AWS::SSM::Parameter").values()
    assert place["Name"] == "/offload/dev/jobs/delivery_batch"


def test_an_app_that_sends_no_webhooks_has_neither_the_job_nor_a_sender(tmp_path: Path) -> None:
    platform = platform_of(tmp_path, catalogue=Catalogue("clinic.catalogue"))
    assert not platform.jobs.types
    with pytest.raises(UnusableSender, match=r"^Clinic/Out: the catalogue says .*: give clinic\.catalogue outward="):
        WebhookSender(a_stack(platform, "Clinic"), "Out", events=(), platform=platform)


def test_an_app_may_send_events_of_the_framework_alone(tmp_path: Path) -> None:
    platform = platform_of(tmp_path, catalogue=Catalogue("clinic.catalogue", outward=()))
    WebhookSender(
        a_stack(platform, "Clinic"),
        "Out",
        events=platform.bus.catalogue.outward_types,
        platform=platform,
    )
    assert of_type(resources(platform, "Clinic"), "AWS::Lambda::Function", "DeliveryBatch")


def test_a_second_sender_has_a_stack_and_a_recovery_of_its_own(tmp_path: Path) -> None:
    partners = recovery_named("partners_recovery")
    catalogue = dataclasses.replace(CATALOGUE, jobs=(*CATALOGUE.jobs, partners))
    platform = platform_of(tmp_path, catalogue=catalogue)
    clinic = a_stack(platform, "Clinic")
    WebhookSender(clinic, "Out", events=(SupplyLow,), platform=platform)
    with pytest.raises(
        UnusableSender, match=r"^Clinic/Again: its stack has a sender already, Clinic/Out: put this one"
    ):
        WebhookSender(clinic, "Again", events=(SupplyLow,), platform=platform)
    with pytest.raises(
        UnusableSender, match=r"'delivery_batch', is that of Clinic/DeliveryBatch already: .*recovery=…"
    ):
        WebhookSender(a_stack(platform, "Other"), "Out", events=(SupplyLow,), platform=platform)
    second = WebhookSender(
        a_stack(platform, "Partners"), "Out", events=(SupplyLow,), platform=platform, recovery=partners
    )
    assert second.recovery.job is partners
    assert platform.jobs.places == {
        "delivery_batch": "Clinic/DeliveryBatch",
        "partners_recovery": "Partners/DeliveryBatch",
    }


def of_type(template: dict[str, Any], kind: str, part: str = "") -> dict[str, Any]:
    return {
        name: resource["Properties"] for name, resource in template.items() if resource["Type"] == kind and part in name
    }


def statements(template: dict[str, Any], part: str) -> list[Any]:
    [policy] = of_type(template, "AWS::IAM::Policy", part).values()
    found: list[Any] = policy["PolicyDocument"]["Statement"]
    return found


def actions(template: dict[str, Any], part: str) -> set[str]:
    return {
        action
        for statement in statements(template, part)
        for action in ([statement["Action"]] if isinstance(statement["Action"], str) else statement["Action"])
    }


def test_both_lanes_are_worked_off_in_batches_with_partial_failures_and_a_limit(template: dict[str, Any]) -> None:
    mappings = of_type(template, "AWS::Lambda::EventSourceMapping", "Sender")
    assert len(mappings) == 2
    for mapping in mappings.values():
        assert mapping["BatchSize"] == 10
        assert mapping["FunctionResponseTypes"] == ["ReportBatchItemFailures"]
        assert mapping["ScalingConfig"] == {"MaximumConcurrency": 7}


def test_where_lambda_chooses_no_queue_has_a_maximum_for_which_it_would_poll_more(tmp_path: Path) -> None:
    mappings = of_type(template_of(tmp_path, Queues(concurrency="any")), "AWS::Lambda::EventSourceMapping")
    assert len(mappings) == 4
    assert all("ScalingConfig" not in mapping for mapping in mappings.values())


def test_one_lane_has_one_queue_under_both_names(tmp_path: Path) -> None:
    template = template_of(tmp_path, Queues(lanes="one"))
    [mapping] = of_type(template, "AWS::Lambda::EventSourceMapping", "Sender").values()
    [queue] = of_type(template, "AWS::SQS::Queue", "WellTokens")
    assert not of_type(template, "AWS::SQS::Queue", "TroubleTokens")
    assert mapping["EventSourceArn"] == {"Fn::GetAtt": [queue, "Arn"]}
    for function in of_type(template, "AWS::Lambda::Function", "Out").values():
        variables = function["Environment"]["Variables"]
        assert variables["OFFLOAD_SENDER_QUEUE_URL"] == variables["OFFLOAD_SENDER_TROUBLE_QUEUE_URL"] == {"Ref": queue}


def test_every_route_is_signed_with_iam(template: dict[str, Any]) -> None:
    routes = of_type(template, "AWS::ApiGatewayV2::Route")
    assert {route["RouteKey"] for route in routes.values()} == {f"{r.method} {r.path}" for r in ROUTES.values()}
    assert {route["AuthorizationType"] for route in routes.values()} == {"AWS_IAM"}


def test_no_secret_is_in_the_template_and_only_who_needs_it_reads_the_key(template: dict[str, Any]) -> None:
    [key] = of_type(template, "AWS::SecretsManager::Secret").values()
    assert "SecretString" not in key
    readers = [part for part in ("PlannerFunction", "SenderRole", "TimekeeperRole", "ApiRole")
               if "secretsmanager:GetSecretValue" in actions(template, part)]  # fmt: skip
    assert readers == ["SenderRole", "ApiRole"]


def test_no_role_names_everything(template: dict[str, Any]) -> None:
    for policy in of_type(template, "AWS::IAM::Policy").values():
        for statement in policy["PolicyDocument"]["Statement"]:
            assert statement["Resource"] != "*"
            assert "*" not in statement["Action"]


def test_the_timekeeper_only_reads_and_the_planner_changes_nothing_that_is_there(template: dict[str, Any]) -> None:
    assert not {"dynamodb:PutItem", "dynamodb:UpdateItem", "dynamodb:DeleteItem"} & actions(template, "TimekeeperRole")
    own = [each for each in statements(template, "PlannerFunction") if "Subscriptions" in json.dumps(each["Resource"])]
    allowed = {action for each in own for action in each["Action"]}
    assert allowed == {"dynamodb:GetItem", "dynamodb:BatchGetItem", "dynamodb:Query", "dynamodb:PutItem"}


def test_destinations_in_aws_are_named_one_by_one(template: dict[str, Any], tmp_path: Path) -> None:
    def allowed_on(resources: dict[str, Any], arn: str) -> set[str]:
        found: set[str] = set()
        for each in statements(resources, "SenderRole"):
            if arn == each["Resource"] or (isinstance(each["Resource"], list) and arn in each["Resource"]):
                found |= {each["Action"]} if isinstance(each["Action"], str) else set(each["Action"])
        return found

    assert allowed_on(template, QUEUE) == {"sqs:SendMessage", "sqs:GetQueueUrl"}
    assert allowed_on(template, BUS) == {"events:PutEvents"}
    assert allowed_on(template_of(tmp_path), QUEUE) == set()


def test_the_functions_know_the_promise_and_where_they_may_call(template: dict[str, Any]) -> None:
    [sender] = of_type(template, "AWS::Lambda::Function", "OutSender").values()
    variables = sender["Environment"]["Variables"]
    assert msgspec.json.decode(variables["OFFLOAD_SENDING"], type=Policy) == Policy()
    assert variables["OFFLOAD_EGRESS_SCHEMES"] == "https"
    # An attempt, its record, and what comes before: or a sender is stopped in the middle of one.
    assert sender["Timeout"] >= Policy().timeout_seconds + 20


def test_warnings_pauses_and_recoveries_are_metrics(template: dict[str, Any]) -> None:
    metrics = {
        each["MetricTransformations"][0]["MetricName"]: each["FilterPattern"]
        for each in of_type(template, "AWS::Logs::MetricFilter").values()
    }
    for name in ("failing", "paused", "recovered"):
        assert metrics[f"Deliveries{name.capitalize()}-dev"] == f'{{ $.message = "subscription {name}" }}'


def test_alarms_say_what_to_look_at(template: dict[str, Any]) -> None:
    said = {each["AlarmDescription"] for each in of_type(template, "AWS::CloudWatch::Alarm", "Out").values()}
    for what in ("is paused", "given up", "are due", "fails again and again"):
        assert any(what in text and "offload " in text for text in said), what


@pytest.mark.parametrize(
    ("fields", "says"),
    [({"payload_days": 5}, "expire_days"), ({"record_days": 20}, "payload_days")],
)
def test_a_promise_that_contradicts_itself_is_refused(fields: dict[str, int], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        Policy(**fields)  # type: ignore[arg-type]
