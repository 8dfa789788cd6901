"""What the monolith's role, or the policy on the role that it has, allows."""

from __future__ import annotations

import fnmatch
import json
from pathlib import Path
from typing import Any

import msgspec
import pytest
from aws_cdk import App, Stack

from clinic.catalogue import CATALOGUE
from clinic.contracts.visits import VisitCancelled, VisitEnded
from clinic.stack import compose
from offload.cdk.constructs.event_bus import EventBus
from offload.cdk.constructs.job_service import JobService
from offload.cdk.environment import OWN_KEY, Environment, Monolith
from offload.cdk.guardrails import guard
from offload.cdk.guardrails.templates import Resource, Templates, listed
from offload.cdk.patterns.monolith_access import JOBS, SUBSCRIPTIONS, MonolithAccess, UnusableMonolith
from offload.contracts.jobs.api import ROUTES as JOB_ROUTES
from offload.contracts.webhooks_out.api import ROUTES as SUBSCRIPTION_ROUTES
from offload.project import PROJECT
from tests.unit.cdk.keyed import filled_in, synthesized, with_key

pytestmark = pytest.mark.synthesis

ROLE = "arn:aws:iam::123456789012:role/team/clinic"
ECS = Monolith(principal="ecs-tasks.amazonaws.com")


def of_the_monolith(environment: Environment, monolith: Monolith) -> Environment:
    return msgspec.structs.replace(environment, monolith=monolith)


def small(app: App, environment: Environment, **permitted: Any) -> MonolithAccess:
    environment.attach(app)
    scope = Stack(app, "S")
    bus = EventBus(scope, "Bus", catalogue=CATALOGUE)
    chosen: dict[str, dict[str, Any]] = {
        "bus": {"bus": bus},
        "publishes": {"bus": bus, "publishes": (VisitEnded, VisitCancelled)},
        "claims": {"bus": bus, "claims": True},
        "jobs": {"jobs": JobService(scope, "Jobs", bus=bus)} if permitted.get("jobs") else {},
    }
    arguments = {name: value for each in permitted for name, value in chosen[each].items()}
    return MonolithAccess(scope, "Monolith", monolith=environment.monolith, **arguments)


def statements_of(templates: Templates) -> list[dict[str, Any]]:
    """What the role or the managed policy of the monolith allows."""
    return [
        statement
        for policy in templates.of_type("AWS::IAM::Policy", "AWS::IAM::ManagedPolicy")
        if policy.logical_id.startswith("Monolith")
        for statement in policy.properties["PolicyDocument"]["Statement"]
    ]


def actions(templates: Templates) -> list[str]:
    return [action for statement in statements_of(templates) for action in listed(statement["Action"])]


@pytest.mark.parametrize(
    ("permitted", "allows"),
    [
        ("publishes", ["events:PutEvents"]),
        ("claims", ["s3:PutObject"]),
        ("jobs", ["execute-api:Invoke"]),
    ],
)
def test_each_permission_is_asked_for_by_itself(tmp_path: Path, permitted: str, allows: list[str]) -> None:
    def build(app: App, environment: Environment) -> None:
        small(app, environment, **{permitted: True})

    templates = synthesized(of_the_monolith(Environment.load("dev"), ECS), tmp_path, build)
    assert actions(templates) == allows


@pytest.fixture(scope="module")
def clinic(tmp_path_factory: pytest.TempPathFactory) -> Templates:
    """The clinic's `dev` with a monolith on ECS."""
    return synthesized(of_the_monolith(filled_in("dev"), ECS), tmp_path_factory.mktemp("clinic"))


def test_it_publishes_its_own_sources_on_this_bus_alone(clinic: Templates) -> None:
    [put] = [each for each in statements_of(clinic) if each["Action"] == "events:PutEvents"]
    [policy] = [each for each in clinic.of_type("AWS::IAM::Policy") if each.logical_id.startswith("Monolith")]
    bus = clinic.target(policy, put["Resource"])
    assert bus is not None
    assert bus.type == "AWS::Events::EventBus"
    assert put["Condition"] == {
        "ForAllValues:StringEquals": {"events:source": [VisitEnded.SOURCE]},
        "Null": {"events:source": "false"},
    }


def test_it_puts_claims_and_no_other_object(clinic: Templates) -> None:
    [put] = [each for each in statements_of(clinic) if each["Action"] == "s3:PutObject"]
    [policy] = [each for each in clinic.of_type("AWS::IAM::Policy") if each.logical_id.startswith("Monolith")]
    bucket = clinic.target(policy, put["Resource"])
    assert bucket is not None
    assert bucket.logical_id.startswith("EventsClaims")
    assert put["Resource"]["Fn::Join"][1][-1] == "/claims/*"


def callable_routes(clinic: Templates) -> dict[str, set[tuple[str, str]]]:
    """By the logical id of each API, the routes (method, path) that the monolith may call."""
    [policy] = [each for each in clinic.of_type("AWS::IAM::Policy") if each.logical_id.startswith("Monolith")]
    patterns: list[tuple[Resource, str]] = []
    for statement in statements_of(clinic):
        if statement["Action"] == "execute-api:Invoke":
            for resource in listed(statement["Resource"]):
                api = clinic.target(policy, resource)
                assert api is not None
                assert api.type == "AWS::ApiGatewayV2::Api"
                patterns.append((api, resource["Fn::Join"][1][-1].lstrip("/")))
    found: dict[str, set[tuple[str, str]]] = {}
    for routes in (JOB_ROUTES, SUBSCRIPTION_ROUTES):
        for route in routes.values():
            called = f"$default/{route.method}{route.path.replace('{id}', 'x1').replace('{type}', 'report')}"
            for api, pattern in patterns:
                if fnmatch.fnmatchcase(called, pattern):
                    found.setdefault(api.logical_id, set()).add((route.method, route.path))
    return found


def test_it_calls_the_routes_of_a_client_and_none_of_an_operator(clinic: Templates) -> None:
    found = callable_routes(clinic)
    [jobs] = [routes for api, routes in found.items() if api.startswith("Jobs")]
    [subscriptions] = [routes for api, routes in found.items() if api.startswith("WebhooksOut")]
    assert jobs == {(JOB_ROUTES[name].method, JOB_ROUTES[name].path) for name in JOBS}
    assert subscriptions == {
        (SUBSCRIPTION_ROUTES[name].method, SUBSCRIPTION_ROUTES[name].path) for name in SUBSCRIPTIONS
    }
    assert ("POST", "/jobs/{id}/decide") not in jobs
    assert ("POST", "/subscriptions/{id}/reseal") not in subscriptions


def test_a_service_or_a_principal_assumes_the_role(tmp_path: Path) -> None:
    def trust(principal: str) -> dict[str, Any]:
        folder = tmp_path / principal.replace("/", "-").replace(":", "-")

        def build(app: App, environment: Environment) -> None:
            small(app, environment, claims=True)

        environment = of_the_monolith(Environment.load("dev"), Monolith(principal=principal))
        templates = synthesized(environment, folder, build)
        [role] = [each for each in templates.of_type("AWS::IAM::Role") if each.logical_id.startswith("MonolithRole")]
        profiles = list(templates.of_type("AWS::IAM::InstanceProfile"))
        assert len(profiles) == (principal == "ec2.amazonaws.com")
        [statement] = role.properties["AssumeRolePolicyDocument"]["Statement"]
        return dict(statement)

    # It starts tasks for every account; without the condition, another one's could be started with this role.
    ecs = trust("ecs-tasks.amazonaws.com")
    assert ecs["Principal"] == {"Service": "ecs-tasks.amazonaws.com"}
    assert ecs["Condition"] == {"StringEquals": {"aws:SourceAccount": {"Ref": "AWS::AccountId"}}}
    assert trust("ec2.amazonaws.com")["Principal"] == {"Service": "ec2.amazonaws.com"}
    pods = trust("pods.eks.amazonaws.com")
    assert sorted(pods["Action"]) == ["sts:AssumeRole", "sts:TagSession"]
    assert trust(ROLE)["Principal"] == {"AWS": ROLE}


def test_a_role_that_exists_gets_a_managed_policy_that_fits_and_no_other_role_is_made(tmp_path: Path) -> None:
    environment = of_the_monolith(with_key("dev", OWN_KEY), Monolith(role=ROLE))
    templates = synthesized(environment, tmp_path)
    [policy] = templates.of_type("AWS::IAM::ManagedPolicy")
    assert policy.properties["Roles"] == ["clinic"]
    assert not [each for each in templates.of_type("AWS::IAM::Role") if each.logical_id.startswith("Monolith")]
    # IAM: 6,144 characters without white space ("IAM and AWS STS quotas", read 2026-11-29). A reference is shorter
    # than what is counted here for it.
    document = json.dumps(policy.properties["PolicyDocument"], separators=(",", ":"))
    for statement in policy.properties["PolicyDocument"]["Statement"]:
        for resource in listed(statement["Resource"]):
            document = document.replace(json.dumps(resource, separators=(",", ":")), '"' + "x" * 130 + '"')
    assert len(document) < 6_144
    # A claim is encrypted by the environment's key, which the bucket asks for in the monolith's name.
    [use] = [each for each in statements_of(templates) if "kms" in json.dumps(each["Action"])]
    assert use["Action"] == "kms:GenerateDataKey"
    assert "s3." in json.dumps(use["Condition"]["StringEquals"]["kms:ViaService"])


def test_nothing_is_made_where_the_environment_names_nobody(tmp_path: Path) -> None:
    def build(app: App, environment: Environment) -> None:
        small(app, environment, claims=True)

    templates = synthesized(Environment.load("dev"), tmp_path, build)
    assert not [each for each in templates.of_type(*templates.types) if each.logical_id.startswith("Monolith")]


@pytest.mark.parametrize("permitted", [{}, {"bus": True}], ids=["without", "with a bus"])
def test_access_to_nothing_is_refused(tmp_path: Path, permitted: dict[str, bool]) -> None:
    def build(app: App, environment: Environment) -> None:
        small(app, environment, **permitted)

    with pytest.raises(UnusableMonolith, match="S/Monolith: nothing is permitted"):
        synthesized(of_the_monolith(Environment.load("dev"), ECS), tmp_path, build)


def test_publishing_without_a_bus_is_refused() -> None:
    app = App()
    of_the_monolith(Environment.load("dev"), ECS).attach(app)
    with pytest.raises(UnusableMonolith, match="say to which bus"):
        MonolithAccess(Stack(app, "S"), "Monolith", monolith=ECS, publishes=(VisitEnded,))


@pytest.mark.parametrize("monolith", [ECS, Monolith(role=ROLE)], ids=["principal", "role"])
def test_every_rule_of_synthesis_passes_with_a_monolith_and_a_key(tmp_path: Path, monolith: Monolith) -> None:
    def build(app: App, environment: Environment) -> None:
        guard(app)
        compose(app, environment)

    synthesized(of_the_monolith(with_key("prod", OWN_KEY), monolith), tmp_path, build)
    report = json.loads((tmp_path / "validation-report.json").read_text(encoding="utf-8"))
    assert [violation for plugin in report["pluginReports"] for violation in plugin["violations"]] == []


def test_the_documents_list_exactly_what_it_may_do() -> None:
    page = (PROJECT / "docs" / "security-defaults.md").read_text(encoding="utf-8")
    _, _, section = page.partition("## The monolith's role")
    section = section.partition("\n## ")[0]
    for routes, names in ((JOB_ROUTES, JOBS), (SUBSCRIPTION_ROUTES, SUBSCRIPTIONS)):
        for name, route in routes.items():
            shown = f"`{route.method} {route.path}`"
            allowed, _, refused = section.partition("It may not")
            assert (shown in allowed) == (name in names), shown
            assert (shown in refused) == (name not in names), shown
    for action in ("events:PutEvents", "s3:PutObject", "execute-api:Invoke"):
        assert f"`{action}`" in section
