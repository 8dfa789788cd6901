"""Integration, by what it puts into templates and what it refuses."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest
from aws_cdk import App, Duration, Stack
from msgspec.structs import replace

from clinic.catalogue import CATALOGUE
from offload.cdk.constructs.event_bus import EventBus
from offload.cdk.constructs.operators import Operators
from offload.cdk.constructs.python_function import ROOT_CONTEXT
from offload.cdk.environment import Environment, Integrations
from offload.cdk.guardrails import guard
from offload.cdk.patterns.event_consumer import EventConsumer
from offload.cdk.patterns.integration import Integration, UnusableIntegration
from offload.contracts.calls import CallSettings
from offload.project import PROJECT

pytestmark = pytest.mark.synthesis

CONTEXT: dict[str, Any] = json.loads((PROJECT / "cdk.json").read_text(encoding="utf-8"))["context"]

Template = dict[str, Any]


class Deployed:
    """A bus in one stack and consumers in another, guarded as the app is."""

    def __init__(self, folder: Path, environment: str = "dev", *, unused: tuple[str, ...] = ()) -> None:
        (folder / "lambdas" / "rates").mkdir(parents=True)
        self.app = App(
            outdir=str(folder / "out"), context=CONTEXT | {"aws:cdk:bundling-stacks": [], ROOT_CONTEXT: str(folder)}
        )
        guard(self.app)
        replace(Environment.filled_in(environment), integrations=Integrations(unused)).attach(self.app)
        platform = Stack(self.app, "Platform")
        self.bus = EventBus(platform, "Events", catalogue=CATALOGUE)
        Operators(platform, "Operators")
        self.clinic = Stack(self.app, "Clinic")

    def consumer(self, name: str, *integrations: Integration, **options: Any) -> EventConsumer:
        grants = tuple(integration.call for integration in integrations)
        options = {"timeout": Duration.seconds(210)} | options
        return EventConsumer(self.clinic, name, source="rates", events=(), bus=self.bus, grants=grants, **options)

    def template(self) -> Template:
        template: Template = self.app.synth().get_stack_by_name("Clinic").template
        return template


@pytest.fixture
def deployed(tmp_path: Path) -> Deployed:
    return Deployed(tmp_path)


def resources(template: Template, kind: str) -> dict[str, Any]:
    return {name: found for name, found in template["Resources"].items() if found["Type"] == kind}


def variables(template: Template, prefix: str) -> dict[str, Any]:
    [function] = [
        found
        for name, found in resources(template, "AWS::Lambda::Function").items()
        if name.startswith(prefix) and "Environment" in found["Properties"]
    ]
    found: dict[str, Any] = function["Properties"]["Environment"]["Variables"]
    return found


def joined(value: Any) -> str:
    """A variable's text, with the logical ids of what it refers to in place of their values."""
    if isinstance(value, str):
        return value
    return "".join(
        part if isinstance(part, str) else part.get("Ref", "<not a reference>") for part in value["Fn::Join"][1]
    )


def statements(template: Template, prefix: str, resource: str) -> set[str]:
    """The actions that the function's policy allows on a resource."""
    allowed: set[str] = set()
    for name, policy in resources(template, "AWS::IAM::Policy").items():
        if name.startswith(prefix):
            for statement in policy["Properties"]["PolicyDocument"]["Statement"]:
                if resource in json.dumps(statement["Resource"]):
                    actions = statement["Action"]
                    allowed |= {actions} if isinstance(actions, str) else set(actions)
    return allowed


def test_a_function_is_told_what_was_agreed_and_where_it_may_call(deployed: Deployed) -> None:
    rates = Integration(deployed.clinic, "ExchangeRates", third_party="exchange-rates", per_second=2, attempts=5)
    deployed.consumer("Rates", rates)
    template = deployed.template()
    told = variables(template, "Rates")
    [table] = [name for name in resources(template, "AWS::DynamoDB::Table") if name.startswith("Calls")]
    settings = msgspec.json.decode(joined(told["OFFLOAD_CALLS_EXCHANGE_RATES"]), type=CallSettings)
    assert settings == CallSettings(table=table, per_second=2, attempts=5)
    assert {name: told[name] for name in told if name.startswith("OFFLOAD_EGRESS")} == {
        "OFFLOAD_EGRESS_PRIVATE": "",
        "OFFLOAD_EGRESS_SCHEMES": "https",
        "OFFLOAD_EGRESS_PORTS": "443",
    }


def test_a_function_may_keep_rates_and_breakers_and_nothing_else(deployed: Deployed) -> None:
    deployed.consumer("Rates", Integration(deployed.clinic, "ExchangeRates", third_party="ecb"))
    deployed.consumer("Silent")
    template = deployed.template()
    assert statements(template, "Rates", "Calls") == {"dynamodb:GetItem", "dynamodb:UpdateItem", "dynamodb:DeleteItem"}
    assert statements(template, "Silent", "Calls") == set()
    assert resources(template, "AWS::SecretsManager::Secret") == {}
    assert not any(name.startswith("OFFLOAD_CALLS") for name in variables(template, "Silent"))


def test_the_integrations_of_a_stack_share_one_table_that_costs_nothing_idle(deployed: Deployed) -> None:
    first = Integration(deployed.clinic, "ExchangeRates", third_party="ecb")
    second = Integration(deployed.clinic, "TeamChat", third_party="team-chat")
    assert first.table is second.table
    deployed.consumer("Rates", first, second)
    template = deployed.template()
    [table] = [found for name, found in resources(template, "AWS::DynamoDB::Table").items() if name.startswith("Calls")]
    assert table["Properties"]["BillingMode"] == "PAY_PER_REQUEST"
    assert table["Properties"]["TimeToLiveSpecification"] == {"AttributeName": "expires", "Enabled": True}
    assert table["Properties"]["KeySchema"] == [{"AttributeName": "pk", "KeyType": "HASH"}]
    assert {"OFFLOAD_CALLS_ECB", "OFFLOAD_CALLS_TEAM_CHAT"} <= variables(template, "Rates").keys()


def test_a_secret_is_read_by_who_calls_and_named_in_its_settings(deployed: Deployed) -> None:
    chat = Integration(deployed.clinic, "TeamChat", third_party="team-chat", secret=True, secret_path=True)
    deployed.consumer("Rates", chat)
    deployed.consumer("Other", Integration(deployed.clinic, "ExchangeRates", third_party="ecb"))
    template = deployed.template()
    [secret] = resources(template, "AWS::SecretsManager::Secret")
    assert statements(template, "Rates", secret) == {"secretsmanager:GetSecretValue"}
    assert statements(template, "Other", secret) == set()
    settings = msgspec.json.decode(joined(variables(template, "Rates")["OFFLOAD_CALLS_TEAM_CHAT"]), type=CallSettings)
    assert (settings.secret, settings.secret_path) == (secret, True)


def test_local_may_call_this_machine(tmp_path: Path) -> None:
    deployed = Deployed(tmp_path, "local")
    deployed.consumer("Rates", Integration(deployed.clinic, "ExchangeRates", third_party="ecb"))
    told = variables(deployed.template(), "Rates")
    assert told["OFFLOAD_EGRESS_PRIVATE"] == "127.0.0.0/8,::1/128"
    assert told["OFFLOAD_EGRESS_PORTS"] == "*"


def test_what_the_environment_does_without_is_not_used_and_cannot_be_made(tmp_path: Path) -> None:
    deployed = Deployed(tmp_path, unused=("ecb",))
    assert not Integration.is_used(deployed.clinic, "ecb")
    assert Integration.is_used(deployed.clinic, "slack")
    with pytest.raises(
        UnusableIntegration, match=r"Clinic/Rates: environments/dev\.toml: integrations\.unused has 'ecb'"
    ):
        Integration(deployed.clinic, "Rates", third_party="ecb")
    Integration.check_unused(deployed.app)


def test_a_name_that_the_app_does_not_call_is_refused_among_the_unused(tmp_path: Path) -> None:
    deployed = Deployed(tmp_path, unused=("slak",))
    assert Integration.is_used(deployed.clinic, "slack")
    Integration(deployed.clinic, "Rates", third_party="ecb")
    with pytest.raises(UnusableIntegration) as refused:
        Integration.check_unused(deployed.app)
    assert str(refused.value) == (
        "environments/dev.toml: integrations.unused has 'slak', and the app calls no such third party: "
        "write one of ecb, slack, or take it out"
    )


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"third_party": "ECB"}, "third_party 'ECB': write lower-case words with hyphens"),
        ({"third_party": "a b"}, "third_party 'a b'"),
        ({"third_party": ""}, "third_party ''"),
        ({"per_second": 0}, "per_second: Expected `float` >= 0.001"),
        ({"per_second": 100_000}, "per_second: Expected `float` <= 500"),
        ({"attempts": 0}, "attempts: Expected `int` >= 1"),
        ({"total_seconds": 1000}, "total_seconds: Expected `float` <= 900"),
        ({"connect_seconds": 0}, "connect_seconds: Expected `float` > 0"),
        ({"longest_body": 0}, "longest_body: Expected `int` >= 1"),
        ({"breaker_failures": 0}, "breaker_failures: Expected `int` >= 1"),
    ],
)
def test_what_cannot_be_is_one_line_with_the_path_and_the_argument(
    deployed: Deployed, settings: dict[str, Any], says: str
) -> None:
    with pytest.raises(UnusableIntegration) as refused:
        Integration(deployed.clinic, "ExchangeRates", **{"third_party": "ecb", **settings})
    message = str(refused.value)
    assert message.startswith("Clinic/ExchangeRates: ")
    assert says in message
    assert "\n" not in message


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (
            {"timeout": Duration.seconds(60)},
            "Clinic/Rates: a batch makes up to 10 calls of 'ecb', "
            "which take 20 s each at the most, and its function has",
        ),
        ({"patience": Duration.days(4)}, "Clinic/Rates: patience: its queue keeps events for four days: three at most"),
    ],
)
def test_times_that_do_not_fit_are_refused_with_the_numbers(
    deployed: Deployed, options: dict[str, Any], says: str
) -> None:
    with pytest.raises(UnusableIntegration, match=f"^{says}"):
        deployed.consumer("Rates", Integration(deployed.clinic, "Ecb", third_party="ecb"), **options)


@pytest.mark.parametrize("options", [{"batch_size": 2}, {"calls": 2}, {"timeout": Duration.seconds(202)}])
def test_times_that_fit_are_taken(deployed: Deployed, options: dict[str, Any]) -> None:
    options = {"timeout": Duration.seconds(42)} | options
    deployed.consumer("Rates", Integration(deployed.clinic, "Ecb", third_party="ecb"), **options)


def test_an_event_may_wait_for_a_third_party_and_is_received_as_often_as_that_takes(deployed: Deployed) -> None:
    ecb = Integration(deployed.clinic, "Ecb", third_party="ecb")
    deployed.consumer("Rates", ecb, patience=Duration.hours(2))
    deployed.consumer("Hasty", ecb, patience=None)
    deployed.consumer("Silent")
    template = deployed.template()
    received = {
        name[:5]: queue["Properties"]["RedrivePolicy"]["maxReceiveCount"]
        for name, queue in resources(template, "AWS::SQS::Queue").items()
        if "RedrivePolicy" in queue["Properties"]
    }
    # Ten tries in the first quarter of an hour, then one in 450 seconds at the most, and five that count.
    assert received == {"Rates": 31, "Hasty": 5, "Silen": 5}
    told = {name: variables(template, name).get("OFFLOAD_PATIENCE_SECONDS") for name in ("Rates", "Hasty", "Silent")}
    assert told == {"Rates": "7200", "Hasty": None, "Silent": None}
    expiring = [
        name
        for name, table in resources(template, "AWS::DynamoDB::Table").items()
        if name.startswith(("Rates", "Hasty", "Silent")) and "TimeToLiveSpecification" in table["Properties"]
    ]
    assert [name[:10] for name in expiring] == ["RatesMarks"]
