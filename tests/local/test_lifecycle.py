"""From a deploy to the end and back: environments side by side in one account of the embedded AWS."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3
import pytest

from offload.cli.deployment.aws import Aws, shell_settings
from offload.cli.deployment.failure import Failure
from offload.cli.deployment.resources import Deployment
from offload.cli.lifecycle.protection import release_failed
from offload.cli.local import deploy
from offload.cli.local.patches import apply_patches
from offload.cli.local.process import EmbeddedAws, Instance, free_port
from offload.project import PROJECT
from tests.clinics import CLINIC
from tests.copies import made_once
from tests.patience import PATIENCE

ACCOUNT, REGION = "123456789012", "eu-west-1"
WHOLE = os.environ.get("OFFLOAD_PROVE") == "whole"
# What keeps its data and what does not; the other one between them is as the first.
ENVIRONMENTS = ("dev", "staging", "prod") if WHOLE else ("dev", "prod")

Inventory = set[tuple[str, str]]

# What MiniStack's CloudFormation cannot import (its provisioners, 2026-11-29), by the property that names it.
NOT_IMPORTED_HERE = {"Name", "ArchiveName", "Id"}


def synthesize_all(folder: Path) -> None:
    """Every environment that is deployed to AWS, filled in: without its functions' code, which is not run here."""
    # Here: it starts the CDK, which every process that collects these tests would do.
    from aws_cdk import App

    from clinic.stack import compose
    from offload.cdk.environment import Environment
    from tests.assemblies import AT_CLINIC, FLAGS, UNBUNDLED

    # As the command line does it; by these paths commands find what is deployed.
    flags = FLAGS | UNBUNDLED | AT_CLINIC | {"aws:cdk:enable-path-metadata": True}
    for name in ENVIRONMENTS:
        # Without the CDK's own rules, which take 5 s of CPU to load: `make synth` and `make up` see them kept.
        app = App(outdir=str(folder / name), context=flags, builtin_cloud_formation_validation=False)
        compose(app, Environment.filled_in(name, CLINIC / "environments"))
        for template in (Path(stack.template_full_path) for stack in app.synth().stacks):
            at_rest(template)


def at_rest(path: Path) -> None:
    """Nothing calls the functions, which have no code: what still runs when it is deleted writes its log once more."""
    template = json.loads(path.read_text(encoding="utf-8"))
    for resource in template["Resources"].values():
        if resource["Type"] == "AWS::Scheduler::Schedule":
            resource["Properties"]["State"] = "DISABLED"
        elif resource["Type"] == "AWS::Lambda::EventSourceMapping":
            resource["Properties"]["Enabled"] = False
    path.write_text(json.dumps(template), encoding="utf-8")


@pytest.fixture(scope="session")
def assemblies(folder_of_the_run: Path) -> Path:
    """One folder an environment."""
    return made_once(folder_of_the_run / "lifecycle", synthesize_all)


@dataclass(frozen=True)
class Account:
    """An account of an embedded AWS, and the shell of somebody who has its credentials."""

    instance: Instance
    assemblies: Path
    folder: Path

    @property
    def shell(self) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
        path = f"{PROJECT / '.venv' / 'bin'}{os.pathsep}{os.environ.get('PATH', os.defpath)}"
        ours = shell_settings(self.instance, ACCOUNT, REGION)
        return kept | ours | {"PATH": path, "NO_PROXY": "127.0.0.1", "PYTHONPATH": str(PROJECT), "NO_COLOR": "1"}

    def aws(self, environment: str) -> Aws:
        return Aws(environment, self.instance, ACCOUNT, REGION)

    def copy(self, environment: str) -> Path:
        return self.folder / environment

    def bootstrap(self) -> None:
        deploy.copy_for_emulator(self.assemblies / "dev", self.copy("dev"))
        deploy.bootstrap(self.aws("dev"), self.copy("dev"))

    def deploy(self, environment: str) -> Deployment:
        """As `make up` deploys `local`: without what the emulator refuses, which is made by API afterwards."""
        aws, assembly = self.aws(environment), self.assemblies / environment
        deploy.copy_for_emulator(assembly, self.copy(environment), account=ACCOUNT, region=REGION)
        deploy.deploy(aws, self.copy(environment))
        apply_patches(aws, assembly)
        return Deployment(aws)

    def offload(self, *arguments: str) -> str:
        """What the `offload` command says, run as a person runs it."""
        return self._ran([sys.executable, "-c", "from offload.cli.main import main; main()", *arguments])

    def cdk(self, *arguments: str) -> str:
        """What the CDK's command line says."""
        node = PROJECT / ".venv" / "bin" / "node"
        return self._ran([str(node), str(PROJECT / "node_modules" / ".bin" / "cdk"), "--no-notices", *arguments])

    def _ran(self, command: list[str]) -> str:
        ended = subprocess.run(
            command, env=self.shell, cwd=self.folder, capture_output=True, text=True, timeout=PATIENCE, check=False
        )
        assert ended.returncode == 0, ended.stdout + ended.stderr
        return ended.stdout + ended.stderr

    def inventory(self) -> Inventory:
        """All that is in the account: the service's word for it, and its name."""
        return set(_inventory(self.aws("dev").session, self.instance))


def _inventory(session: boto3.Session, instance: Instance) -> Iterator[tuple[str, str]]:
    def client(service: Any) -> Any:
        return session.client(service, endpoint_url=instance.endpoint)

    def pages(service: str, operation: str, key: str, name: str) -> Iterator[tuple[str, str]]:
        for page in client(service).get_paginator(operation).paginate():
            for item in page.get(key, ()):
                yield key, item[name] if isinstance(item, dict) else item

    yield from pages("cloudformation", "describe_stacks", "Stacks", "StackName")
    yield from pages("dynamodb", "list_tables", "TableNames", "")
    yield from pages("sqs", "list_queues", "QueueUrls", "")
    yield from pages("logs", "describe_log_groups", "logGroups", "logGroupName")
    yield from pages("secretsmanager", "list_secrets", "SecretList", "Name")
    yield from pages("lambda", "list_functions", "Functions", "FunctionName")
    yield from pages("lambda", "list_event_source_mappings", "EventSourceMappings", "UUID")
    yield from pages("iam", "list_roles", "Roles", "RoleName")
    yield from pages("cloudwatch", "describe_alarms", "MetricAlarms", "AlarmName")
    yield from pages("ssm", "describe_parameters", "Parameters", "Name")
    yield from pages("scheduler", "list_schedules", "Schedules", "Name")
    yield from pages("sns", "list_topics", "Topics", "TopicArn")
    yield from pages("apigatewayv2", "get_apis", "Items", "ApiId")
    for service, operation, key, name in (
        ("s3", "list_buckets", "Buckets", "Name"),
        ("events", "list_event_buses", "EventBuses", "Name"),
        ("events", "list_archives", "Archives", "ArchiveName"),
    ):
        for item in getattr(client(service), operation)()[key]:
            yield key, item[name]
    for bus in client("events").list_event_buses()["EventBuses"]:
        for rule in client("events").list_rules(EventBusName=bus["Name"])["Rules"]:
            yield "Rules", f"{bus['Name']}/{rule['Name']}"


@pytest.fixture
def account(assemblies: Path, tmp_path: Path) -> Iterator[Account]:
    """An empty account, bootstrapped."""
    embedded = EmbeddedAws(tmp_path / "embedded", port=free_port(), persist=False)
    try:
        made = Account(embedded.start(), assemblies, tmp_path)
        made.bootstrap()
        yield made
    finally:
        embedded.stop()
        embedded.clear()


def fill(deployment: Deployment) -> None:
    """An item, three versions of two objects of which one is deleted, a dead letter, and an event in the archive."""
    aws, bucket = deployment.aws, deployment.bucket("Claims")
    aws.dynamodb.put_item(TableName=deployment.table("Ledger"), Item={"pk": {"S": "day"}, "sk": {"S": "1"}})
    aws.s3.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
    for key in ("claims/1", "claims/2", "claims/2"):
        aws.s3.put_object(Bucket=bucket, Key=key, Body=b"data")
    aws.s3.delete_object(Bucket=bucket, Key="claims/2")
    aws.sqs.send_message(QueueUrl=deployment.consumer("VisitLedger").dead_letter_queue_url, MessageBody="letter")
    aws.events.put_events(Entries=[{"EventBusName": deployment.bus, "Source": "a", "DetailType": "b", "Detail": "{}"}])


def holds(deployment: Deployment) -> tuple[int, bytes, str]:
    """What `fill` put there: the ledger's items, the object that is left, the dead letter."""
    aws = deployment.aws
    letters = aws.sqs.receive_message(
        QueueUrl=deployment.consumer("VisitLedger").dead_letter_queue_url, VisibilityTimeout=0
    )
    return (
        aws.dynamodb.scan(TableName=deployment.table("Ledger"))["Count"],
        aws.s3.get_object(Bucket=deployment.bucket("Claims"), Key="claims/1")["Body"].read(),
        letters["Messages"][0]["Body"],
    )


def plain(name: str) -> str:
    """A queue by its name: here its URL's host depends on who asks."""
    return name.rpartition("/")[2] if name.startswith("http") else name


def named_in(kept: Path) -> set[str]:
    return {
        plain(name)
        for file in kept.glob("*.json")
        for identifier in json.loads(file.read_text(encoding="utf-8")).values()
        for name in identifier.values()
    }


@pytest.mark.long
def test_environments_end_one_by_one_and_leave_what_they_keep_which_a_new_deployment_takes_up_again(
    account: Account,
) -> None:
    seen = [account.inventory()]
    for environment in ENVIRONMENTS:
        fill(account.deploy(environment))
        account.offload("protect", environment)
        seen.append(account.inventory())
    empty, with_dev, with_all = seen[0], seen[1], seen[-1]
    of_prod = with_all - seen[-2]

    said = account.offload("destroy", "dev", "--yes", "dev")
    assert "4 objects and versions" in said
    assert "about 1 items" in said
    assert "about 1 events" in said
    assert said.endswith("environment dev is gone, with all that it held\n")
    assert account.inventory() == with_all - (with_dev - empty)
    for environment in ENVIRONMENTS[1:-1]:
        account.offload("destroy", environment, "--yes", environment)
    assert account.inventory() == empty | of_prod

    said = account.offload("destroy", "prod", "--yes", "prod")
    kept = account.folder / "kept" / "prod"
    assert sorted(file.name for file in kept.iterdir()) == [
        "1-offload-prod-platform.json",
        "2-offload-prod-clinic.json",
    ]
    left = {plain(name) for _, name in account.inventory() - empty}
    # The archive is beside the stacks here, and no secret's name is its ARN.
    archives = account.aws("prod").events.list_archives()["Archives"]
    secrets = {secret["Name"] for secret in account.aws("prod").secrets_manager.list_secrets()["SecretList"]}
    assert left == {archive["ArchiveName"] for archive in archives} | named_in(kept)
    assert secrets <= named_in(kept)
    assert [archive["EventCount"] for archive in archives] == [1]
    assert all(name in said for name in left)
    bus = next(name for name in left if name.startswith("offloadprod"))

    # As `make restore` does it, but for the bus. On AWS it is imported; here it is made again under its name, which is
    # all that its archive knows of it.
    account.aws("prod").events.delete_event_bus(Name=bus)
    for file in sorted(kept.iterdir()):
        stack = file.stem.partition("-")[2]
        document = json.loads(file.read_text(encoding="utf-8"))
        here = {key: value for key, value in document.items() if not NOT_IMPORTED_HERE & value.keys()}
        file.write_text(json.dumps(here), encoding="utf-8")
        prod = ("--app", str(account.copy("prod")))
        account.cdk("import", stack, *prod, "--resource-mapping", str(file))
        account.cdk("deploy", stack, *prod, "--exclusively", "--require-approval", "never")
    again = account.deploy("prod")
    assert holds(again) == (1, b"data", "letter")
    assert again.bus == bus
    assert account.aws("prod").events.describe_archive(ArchiveName=again.archive)["EventCount"] == 1
    tables = {name for kind, name in account.inventory() if kind == "TableNames"}
    assert tables == {name for kind, name in of_prod if kind == "TableNames"}, "another one was made"


def test_a_first_deploy_that_fails_leaves_nothing_where_data_is_kept_and_can_be_tried_again(account: Account) -> None:
    aws, copy = account.aws("prod"), account.copy("prod")
    before = account.inventory()
    deploy.copy_for_emulator(account.assemblies / "prod", copy, account=ACCOUNT, region=REGION)
    fail_at_the_end(copy)
    with pytest.raises(Failure, match="metric math"):
        deploy.deploy(aws, copy)
    assert account.inventory() - before == {("Stacks", "offload-prod-platform")}

    # The command line would delete it, and has protected it.
    with pytest.raises(Failure, match="TerminationProtection"):
        deploy.deploy(aws, copy)
    assert release_failed(aws) == ["offload-prod-platform"]
    assert release_failed(account.aws("staging")) == []
    with pytest.raises(Failure, match="metric math"):
        deploy.deploy(aws, copy)


def fail_at_the_end(copy: Path) -> None:
    """Gives the platform a resource that cannot be made, once everything else is there."""
    path = copy / "offload-prod-platform.template.json"
    template = json.loads(path.read_text(encoding="utf-8"))
    others = [name for name in template["Resources"] if template["Resources"][name]["Type"] != "AWS::CDK::Metadata"]
    query = {"Id": "a", "Expression": "1", "ReturnData": True}
    template["Resources"]["Broken"] = {
        "Type": "AWS::CloudWatch::Alarm",
        "DependsOn": others,
        "Properties": {
            "ComparisonOperator": "GreaterThanThreshold",
            "EvaluationPeriods": 1,
            "Threshold": 1,
            "Metrics": [query],
        },
    }
    path.write_text(json.dumps(template), encoding="utf-8")
    assets = copy / "offload-prod-platform.assets.json"
    (known,) = [
        asset for asset, file in json.loads(assets.read_text())["files"].items() if file["source"]["path"] == path.name
    ]
    for file in (assets, copy / "manifest.json"):
        file.write_text(file.read_text().replace(known, "0" * 64))
