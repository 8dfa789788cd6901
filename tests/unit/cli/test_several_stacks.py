"""An environment whose stacks have the same use cases: what the commands find of it, by what CloudFormation says."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from aws_cdk import App
from typer.testing import CliRunner

from clinic.catalogue import CATALOGUE
from clinic.contracts.jobs import WARD_REPORT
from clinic.contracts.supplies import SupplyLow
from offload.cdk.constructs.python_function import ROOT_CONTEXT
from offload.cdk.environment_stack import EnvironmentStack
from offload.cdk.guardrails import guard
from offload.cdk.patterns.background_job import BackgroundJob
from offload.cdk.patterns.webhook_receiver import WebhookReceiver
from offload.cdk.patterns.webhook_sender import WebhookSender
from offload.cdk.platform import Platform
from offload.cli.deployment import resources
from offload.cli.deployment.aws import Aws
from offload.cli.deployment.connect import variables
from offload.cli.deployment.failure import Failure
from offload.cli.deployment.resources import Deployment, Function
from offload.cli.integrations.integrations import set_credentials, third_parties
from offload.cli.local.process import Instance
from offload.cli.main import app
from offload.contracts.jobs.job_type import JobType
from offload.contracts.webhooks_in.providers import GITHUB, STRIPE
from offload.contracts.webhooks_out.recovery import recovery_named
from tests.assemblies import FLAGS, UNBUNDLED
from tests.environments import with_address

pytestmark = pytest.mark.synthesis

PARTNERS_RECOVERY = recovery_named("partners_recovery")
PARTNERS_REPORT = dataclasses.replace(WARD_REPORT, name="partners_report")
PARTNERS, PLATFORM, CLINIC = "offload-dev-partners", "offload-dev-platform", "offload-dev-clinic"


class UseCases(EnvironmentStack):
    """A stack with an ingress, a sender and a job, each under the name that it has in the other stack."""

    def __init__(
        self,
        app: App,
        name: str,
        platform: Platform,
        *providers: Any,
        recovery: JobType[Any, Any],
        report: JobType[Any, Any],
    ) -> None:
        super().__init__(app, name)
        for provider in providers:
            WebhookReceiver(self, provider.name, provider=provider, bus=platform.bus)
        WebhookSender(self, "Out", events=(SupplyLow,), platform=platform, recovery=recovery)
        BackgroundJob(self, "Report", source="ward_report", job=report, service=platform.jobs)


class CloudFormation:
    """What it says of stacks with these templates: a resource's physical id is its stack's name with its logical id."""

    def __init__(self, templates: Mapping[str, Any]) -> None:
        self._templates = templates

    def get_template(self, *, StackName: str, **_: str) -> dict[str, Any]:  # noqa: N803 -- AWS's name
        return {"TemplateBody": self._templates[StackName]}

    def get_paginator(self, call: str) -> Any:
        pages: Any = {"describe_stacks": self._stacks, "list_stack_resources": self._resources}[call]
        return SimpleNamespace(paginate=lambda **named: [pages(**named)])

    def _stacks(self) -> dict[str, Any]:
        return {"Stacks": [{"StackName": name, "StackStatus": "CREATE_COMPLETE"} for name in self._templates]}

    def _resources(self, *, StackName: str) -> dict[str, Any]:  # noqa: N803 -- AWS's name
        return {
            "StackResourceSummaries": [
                {"LogicalResourceId": each, "PhysicalResourceId": f"{StackName}:{each}", "ResourceStatus": "DONE"}
                for each in self._templates[StackName]["Resources"]
            ]
        }


@pytest.fixture(scope="module")
def deployment(tmp_path_factory: pytest.TempPathFactory) -> Deployment:
    folder = tmp_path_factory.mktemp("several")
    (folder / "lambdas/ward_report").mkdir(parents=True)
    return deployed(folder)


def deployed(folder: Path) -> Deployment:
    root = App(
        outdir=str(folder / "out"),
        context=FLAGS | UNBUNDLED | {ROOT_CONTEXT: str(folder), "aws:cdk:enable-path-metadata": True},
    )
    guard(root)
    with_address("dev").attach(root)
    jobs = (*CATALOGUE.jobs, PARTNERS_RECOVERY, PARTNERS_REPORT)
    platform = Platform(root, PLATFORM, catalogue=dataclasses.replace(CATALOGUE, jobs=jobs))
    clinic = {"recovery": CATALOGUE.job_types["delivery_batch"], "report": WARD_REPORT}
    UseCases(root, CLINIC, platform, GITHUB, STRIPE, **clinic)
    UseCases(root, PARTNERS, platform, GITHUB, recovery=PARTNERS_RECOVERY, report=PARTNERS_REPORT)
    templates = {stack.stack_name: stack.template for stack in root.synth().stacks}
    instance = Instance(1, 1, "http://127.0.0.1:1", "", "")
    return Deployment(
        cast(
            Aws,
            SimpleNamespace(
                environment="dev",
                instance=instance,
                cloudformation=CloudFormation(templates),
                session=SimpleNamespace(region_name="eu-west-1"),
                account="000000000000",
                region="eu-west-1",
            ),
        )
    )


def test_every_stack_s_ingress_is_found_with_what_is_its_own(deployment: Deployment) -> None:
    found = {each.stack: each for each in deployment.webhook_entries}
    assert {stack: each.providers for stack, each in found.items()} == {
        PARTNERS: ("github",),
        CLINIC: ("github", "stripe"),
    }
    for stack, each in found.items():
        for own in (each.table, each.secret, each.endpoint.rpartition("/")[2]):
            assert own.startswith(f"{stack}:"), own


def test_every_stack_s_sender_is_found_with_what_is_its_own(deployment: Deployment) -> None:
    found = {each.stack: each for each in deployment.subscription_services}
    assert {stack: each.recovery for stack, each in found.items()} == {
        PARTNERS: "partners_recovery",
        CLINIC: "delivery_batch",
    }
    for stack, each in found.items():
        for own in (each.table, each.sealing_secret, each.endpoint.rpartition("/")[2]):
            assert own.startswith(f"{stack}:"), own


def test_jobs_of_all_stacks_are_those_of_the_one_service(deployment: Deployment) -> None:
    assert deployment.job_service.table.startswith(f"{PLATFORM}:")
    twice = dict(deployment.__dict__)
    copies = [dataclasses.replace(each, stack=CLINIC) for each in deployment.resources if each.stack == PLATFORM]
    two = Deployment(deployment.aws)
    two.__dict__.update(twice, resources=(*deployment.resources, *copies))
    two.__dict__.pop("job_service", None)
    with pytest.raises(Failure, match=f"has 2 job services, in {CLINIC} and {PLATFORM}, and should have one"):
        _ = two.job_service


def test_where_several_stacks_have_one_it_is_named_by_its_stack(deployment: Deployment) -> None:
    for stack in (CLINIC, PARTNERS, "clinic", "partners"):
        assert deployment.sender_of(stack).stack.endswith(stack)
    with pytest.raises(Failure, match=f"^environment dev sends webhooks from 2 stacks: .*, of {CLINIC}, {PARTNERS}$"):
        deployment.sender_of()
    with pytest.raises(
        Failure, match=f"^--stack platform: environment dev sends .* other stacks: {CLINIC}, {PARTNERS}$"
    ):
        deployment.sender_of("platform")
    with pytest.raises(Failure, match=f"^environment dev receives webhooks in 2 stacks: .*, of {CLINIC}, {PARTNERS}$"):
        _ = deployment.webhook_entry


def test_the_monolith_is_told_the_api_of_the_stack_that_is_named(deployment: Deployment) -> None:
    with pytest.raises(Failure, match="name one by --stack NAME"):
        variables(deployment)
    url = variables(deployment, stack="partners")["OFFLOAD_SUBSCRIPTIONS_URL"]
    assert url == deployment.sender_of(PARTNERS).endpoint


def test_functions_and_consumers_of_one_name_are_told_apart_by_their_stacks(deployment: Deployment) -> None:
    names = [each.name for each in deployment.consumers()]
    assert names == ["EventJournal", "JobSubmitter", f"{CLINIC}/Out/Planner", f"{PARTNERS}/Out/Planner"]
    planners = {stack: deployment.consumer(f"{stack}/Out/Planner") for stack in (PARTNERS, CLINIC)}
    for stack, planner in planners.items():
        for own in (planner.queue_url, planner.dead_letter_queue_url, planner.function_name, planner.log_group):
            assert own.startswith(f"{stack}:"), own
        assert deployment.function(f"{stack}/Webhooks/Receiver").function_name.startswith(f"{stack}:")
    assert deployment.function("job_sweeper").stack == PLATFORM
    for name in ("webhook_receiver", "Webhooks/Receiver"):
        with pytest.raises(Failure, match=f"has 2 functions '{name}', type the name of one: {CLINIC}/Webhooks/Rec"):
            deployment.function(name)
    for name in ("delivery_planner", "Out/Planner"):
        with pytest.raises(Failure, match=f"has 2 consumers '{name}', type the name of one: {CLINIC}/Out/Planner, "):
            deployment.consumer(name)


def test_a_resource_that_several_stacks_have_is_found_by_its_stack_s_name(deployment: Deployment) -> None:
    assert deployment.table(f"{CLINIC}/Webhooks/Deliveries").startswith(f"{CLINIC}:")
    assert deployment.table(f"{PARTNERS}/Webhooks").startswith(f"{PARTNERS}:")
    both = f"{CLINIC}/Webhooks/Deliveries, .*{PARTNERS}/Webhooks/Deliveries|{PARTNERS}/Webhooks/Deliveries, .*{CLINIC}/"
    with pytest.raises(Failure, match=f"has more than one .* called 'Deliveries': ({both})"):
        deployment.table("Deliveries")


class Calling(Deployment):
    """Two stacks with a function each that calls one third party, with a rate and credentials of its stack's own."""

    def functions(self) -> tuple[Function, ...]:
        return tuple(
            Function(stack, f"lambdas/{stack.rpartition('-')[2]}", stack, "", "", stack) for stack in (PARTNERS, CLINIC)
        )


@pytest.fixture
def put() -> dict[str, str]:
    """The secrets that were put, by the functions' stacks."""
    return {}


@pytest.fixture
def calling(put: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> Calling:
    def configuration(*, FunctionName: str) -> dict[str, Any]:  # noqa: N803 -- AWS's name
        settings = {"table": FunctionName, "secret": FunctionName, "per_second": len(FunctionName)}
        return {"Environment": {"Variables": {"OFFLOAD_CALLS_CARRIER": json.dumps(settings)}}}

    aws = SimpleNamespace(
        environment="dev",
        dynamodb=SimpleNamespace(get_item=lambda **_: {}),
        lambda_=SimpleNamespace(get_function_configuration=configuration),
        secrets_manager=SimpleNamespace(
            get_secret_value=lambda SecretId: {"SecretString": put.get(SecretId, '{"unset": "generated"}')},  # noqa: N803
            put_secret_value=lambda SecretId, SecretString: put.update({SecretId: SecretString}),  # noqa: N803
        ),
    )
    found = Calling(cast(Aws, aws))
    monkeypatch.setattr(resources.Deployment, "of", lambda _: found)
    return found


def test_a_third_party_of_several_stacks_has_the_credentials_of_each(calling: Calling, put: dict[str, str]) -> None:
    with pytest.raises(Failure, match=f"^environment dev calls 'carrier' from 2 stacks: .*, of {CLINIC}, {PARTNERS}$"):
        set_credentials(calling, "carrier", "token")
    assert set_credentials(calling, "carrier", "token", stack="clinic") == ("clinic",)
    assert put == {CLINIC: "token"}
    found = [(each.name, each.stack, each.credentials, each.functions) for each in third_parties(calling)]
    assert found == [("carrier", CLINIC, "set", ("clinic",)), ("carrier", PARTNERS, "missing", ("partners",))]
    lines = CliRunner().invoke(app, ["integrations", "list"]).stdout.splitlines()
    assert [line.split()[-1] for line in lines] == ["stack", CLINIC, PARTNERS]
    with pytest.raises(Failure, match=r"no function calls 'courier': carrier$"):
        set_credentials(calling, "courier", "token")
