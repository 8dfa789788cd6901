"""A resource of the platform is replaced: the clinic's functions follow in the same `cdk deploy`."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

from clinic.contracts.visits import VisitEnded, VisitLine
from offload.cli.deployment.resources import Deployment
from offload.cli.local.up import bring_up
from offload.client.publisher import Publisher
from tests.clinics import CLINIC
from tests.copies import RETRIES, Copy
from tests.local.ledger import ledger_of
from tests.patience import PATIENCE

PLATFORM, STACK = "offload-local-platform", "offload-local-clinic"
# By construct below the platform: a property that cannot be changed in place, and what the clinic's functions call it.
REPLACED = {
    "Events/Bus": ("Name", "another-bus", "OFFLOAD_BUS"),
    "Events/Claims": ("BucketName", "another-claims", "OFFLOAD_CLAIMS_BUCKET"),
    "Jobs/Jobs": ("TableName", "another-jobs", "OFFLOAD_JOBS_TABLE"),
}


def with_replaced_resources(project: Path, into: Path) -> Path:
    """The environment `local` as it is, but for a property of each resource in REPLACED."""
    # Here: it starts the CDK, which every process that collects this test would do.
    from aws_cdk import App, CfnResource

    from clinic.stack import compose
    from offload.cdk.constructs.python_function import ROOT_CONTEXT
    from offload.cdk.environment import Environment
    from offload.cdk.references import name_outputs_by_definition
    from tests.assemblies import FLAGS

    # The command line sets it: `offload` finds a resource by its construct's path.
    context = FLAGS | {ROOT_CONTEXT: str(project), "aws:cdk:enable-path-metadata": True}
    # Without the CDK's own rules, which take 5 s of CPU to load: `make synth` and `make up` see them kept.
    app = App(outdir=str(into), context=context, builtin_cloud_formation_validation=False)
    compose(app, Environment.load("local", CLINIC / "environments"))
    for path, (name, value, _) in REPLACED.items():
        construct = app.node.find_child(PLATFORM)
        for child in path.split("/"):
            construct = construct.node.find_child(child)
        resource = construct.node.default_child
        assert isinstance(resource, CfnResource)
        resource.add_property_override(name, value)
    app.synth()
    name_outputs_by_definition(into)
    return into


def clinic_variables(deployment: Deployment) -> Iterator[tuple[str, str]]:
    """Every variable of every function of the clinic."""
    for function in deployment.every("AWS::Lambda::Function"):
        if function.stack == STACK:
            found = deployment.aws.lambda_.get_function_configuration(FunctionName=function.physical_id)
            yield from found.get("Environment", {}).get("Variables", {}).items()


def clinic_policies(deployment: Deployment) -> str:
    """All that the policies of the clinic's roles say."""
    iam = deployment.aws.iam
    roles = [role.physical_id for role in deployment.every("AWS::IAM::Role") if role.stack == STACK]
    return json.dumps(
        [
            iam.get_role_policy(RoleName=role, PolicyName=name)["PolicyDocument"]
            for role in roles
            for name in iam.list_role_policies(RoleName=role)["PolicyNames"]
        ]
    )


def test_the_clinics_functions_follow_what_is_replaced_in_the_platform_by_one_deploy(
    copy: Copy, tmp_path: Path
) -> None:
    new = {variable: name for _, name, variable in REPLACED.values()}
    old = {variable: value for variable, value in clinic_variables(copy.deployment) if variable in new}
    assert old.keys() == new.keys()

    after = bring_up(copy.embedded, assembly=with_replaced_resources(copy.project, tmp_path / "cdk.out"))

    found = [(variable, value) for variable, value in clinic_variables(after) if variable in new]
    assert {variable for variable, _ in found} == new.keys()
    assert found == [(variable, new[variable]) for variable, _ in found]
    policies = clinic_policies(after)
    for variable, name in new.items():
        assert name in policies, f"no role of the clinic may use {name}"
        assert old[variable] not in policies, f"a role of the clinic still names {old[variable]}"
    assert after.bus == new["OFFLOAD_BUS"]
    visit = VisitEnded(
        visit="900001",
        patient="17850",
        ward="Eyes",
        ended_at=datetime(2010, 12, 1, 8, 26, tzinfo=UTC),
        lines=(VisitLine(item="85123A", description="LIGHT", quantity=3, unit_price=Decimal("2.50")),),
    )
    Publisher(after.bus, events=after.aws.events, retries=RETRIES).publish(visit.event())
    ends = time.monotonic() + PATIENCE
    while ledger_of(after).visits != 1:
        assert time.monotonic() < ends, "the visit that was published on the new bus is not in the ledger"
        time.sleep(0.25)
