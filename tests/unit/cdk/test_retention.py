"""What becomes of an environment's data, over the templates and the assembly of whole apps."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from offload.cdk.retention import HOLDS_DATA
from tests.assemblies import templates_in

pytestmark = pytest.mark.synthesis

HOLDS_NONE = {
    "AWS::ApiGatewayV2::Api",
    "AWS::ApiGatewayV2::Integration",
    "AWS::ApiGatewayV2::Route",
    "AWS::ApiGatewayV2::Stage",
    "AWS::CloudWatch::Alarm",
    "AWS::Events::Rule",
    "AWS::IAM::Policy",
    "AWS::IAM::Role",
    "AWS::Lambda::EventInvokeConfig",
    "AWS::Lambda::EventSourceMapping",
    "AWS::Lambda::Function",
    "AWS::Lambda::Permission",
    "AWS::Lambda::Version",
    "AWS::Logs::MetricFilter",
    "AWS::S3::BucketPolicy",
    # Its subscription is confirmed again after a new deployment.
    "AWS::SNS::Subscription",
    "AWS::SNS::Topic",
    "AWS::SNS::TopicPolicy",
    "AWS::SQS::QueuePolicy",
    # Where a job type's queues are; written by the stack itself.
    "AWS::SSM::Parameter",
    "AWS::Scheduler::Schedule",
}
"""Types of the apps that can be made again from their templates, and be as they were."""


@dataclass(frozen=True)
class Synthesized:
    """One environment: its resources, and of each stack what the CDK's command line is told."""

    resources: list[dict[str, Any]]
    stacks: dict[str, dict[str, Any]]

    @property
    def with_data(self) -> list[dict[str, Any]]:
        return [resource for resource in self.resources if resource["Type"] in HOLDS_DATA]


def read(folder: Path) -> Synthesized:
    artifacts = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))["artifacts"]
    return Synthesized(
        [resource for template in templates_in(folder).values() for resource in template["Resources"].values()],
        {key: artifact for key, artifact in artifacts.items() if artifact["type"] == "aws:cloudformation:stack"},
    )


@pytest.fixture(scope="module", params=["clinic_of", "assembly_of"])
def app(request: pytest.FixtureRequest) -> Callable[[str], Path]:
    """The clinic, and this project's app, whichever it is."""
    found: Callable[[str], Path] = request.getfixturevalue(request.param)
    return found


@pytest.fixture(scope="module")
def prod(app: Callable[[str], Path]) -> Synthesized:
    return read(app("prod"))


@pytest.fixture(scope="module")
def dev(app: Callable[[str], Path]) -> Synthesized:
    return read(app("dev"))


def policies(resources: list[dict[str, Any]]) -> set[tuple[str | None, str | None]]:
    return {(resource.get("DeletionPolicy"), resource.get("UpdateReplacePolicy")) for resource in resources}


def test_every_type_of_an_app_is_known_to_hold_data_or_to_hold_none(prod: Synthesized, dev: Synthesized) -> None:
    types = {resource["Type"] for resource in prod.resources + dev.resources}
    assert types - set(HOLDS_DATA) - HOLDS_NONE == set(), "does it hold data? add it to offload/cdk/retention.py"
    assert not set(HOLDS_DATA) & HOLDS_NONE


def test_where_data_is_kept_all_that_holds_some_stays_unless_its_creation_is_rolled_back(prod: Synthesized) -> None:
    assert policies(prod.with_data) == {("RetainExceptOnCreate", "Retain")}


def test_the_clinic_has_data_of_every_common_type(clinic_of: Callable[[str], Path]) -> None:
    assert {resource["Type"] for resource in read(clinic_of("prod")).with_data} >= {
        "AWS::DynamoDB::Table",
        "AWS::Events::Archive",
        "AWS::Events::EventBus",
        "AWS::Logs::LogGroup",
        "AWS::S3::Bucket",
        "AWS::SQS::Queue",
        "AWS::SecretsManager::Secret",
    }


def test_a_creation_that_is_rolled_back_can_take_its_tables_along(prod: Synthesized) -> None:
    protected = [each for each in prod.with_data if each["Properties"].get("DeletionProtectionEnabled")]
    assert protected == [], "DynamoDB refuses to delete them: the rollback fails and leaves them behind"


def test_where_data_is_not_kept_all_of_it_goes_with_its_stack(dev: Synthesized) -> None:
    assert policies(dev.with_data) == {("Delete", "Delete")}


def test_every_stack_of_an_environment_that_names_them_belongs_to_its_account_and_region(
    prod: Synthesized, dev: Synthesized
) -> None:
    assert {stack["environment"] for stack in prod.stacks.values()} == {"aws://123456789012/eu-west-1"}
    assert {stack["environment"] for stack in dev.stacks.values()} == {"aws://unknown-account/unknown-region"}


def test_every_stack_of_an_environment_that_keeps_data_is_protected_against_deletion(
    prod: Synthesized, dev: Synthesized
) -> None:
    assert {stack["properties"].get("terminationProtection", False) for stack in prod.stacks.values()} == {True}
    assert {stack["properties"].get("terminationProtection", False) for stack in dev.stacks.values()} == {False}
