"""The end of an environment, on small stacks of an embedded AWS: what is said, what goes, what stays."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from cfnlint.schema import PROVIDER_SCHEMA_MANAGER  # type: ignore[import-untyped]
from typer.testing import CliRunner, Result

from offload.cdk.retention import HOLDS_DATA
from offload.cli.deployment import aws
from offload.cli.deployment.aws import Aws, shell_settings
from offload.cli.deployment.failure import Failure
from offload.cli.deployment.progress import SILENT
from offload.cli.deployment.resources import DeployedStack, Deployment
from offload.cli.lifecycle import destroy as end
from offload.cli.lifecycle.destroy import Holding, Plan
from offload.cli.lifecycle.protection import protect_tables
from offload.cli.local.process import Instance
from offload.cli.main import app

ACCOUNT, REGION = "444455556666", "eu-west-1"
BUCKET, TABLE = "AWS::S3::Bucket", "AWS::DynamoDB::Table"
KEYS = {
    "BillingMode": "PAY_PER_REQUEST",
    "AttributeDefinitions": [{"AttributeName": "pk", "AttributeType": "S"}],
    "KeySchema": [{"AttributeName": "pk", "KeyType": "HASH"}],
}


def resource(kind: str, policy: str, **properties: Any) -> dict[str, Any]:
    return {"Type": kind, "DeletionPolicy": policy, "Properties": properties}


@pytest.fixture
def shell(emulator: Instance, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Aws]:
    """The services of `dev`, which keeps nothing to itself, in the shell of somebody with credentials."""
    folder = tmp_path / "environments"
    folder.mkdir()
    for name in ("dev", "dev-2"):
        (folder / f"{name}.toml").write_text("")
    monkeypatch.setattr(aws, "ENVIRONMENTS", folder)
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    for name, value in shell_settings(emulator, ACCOUNT, REGION).items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(tmp_path)
    services = Aws("dev", emulator, ACCOUNT, REGION)
    yield services
    for stack in services.cloudformation.describe_stacks()["Stacks"]:
        services.cloudformation.update_termination_protection(
            StackName=stack["StackName"], EnableTerminationProtection=False
        )
        services.cloudformation.delete_stack(StackName=stack["StackName"])


def deployed(
    services: Aws, name: str, resources: dict[str, Any], *, environment: str = "dev", protected: bool = False
) -> str:
    """A stack of an environment, as the CDK would leave it."""
    cloudformation = services.cloudformation
    cloudformation.create_stack(
        StackName=name,
        TemplateBody=json.dumps({"Resources": resources}),
        EnableTerminationProtection=protected,
        Tags=[{"Key": "environment", "Value": environment}],
    )
    cloudformation.get_waiter("stack_create_complete").wait(StackName=name, WaiterConfig={"Delay": 1})
    return name


def physical(services: Aws, stack: str, logical_id: str) -> str:
    found = services.cloudformation.describe_stack_resource(StackName=stack, LogicalResourceId=logical_id)
    return found["StackResourceDetail"]["PhysicalResourceId"]


def stacks_of(services: Aws) -> set[str]:
    return {stack["StackName"] for stack in services.cloudformation.describe_stacks()["Stacks"]}


def destroy(*arguments: str, typed: str = "") -> Result:
    return CliRunner().invoke(app, ["destroy", "dev", *arguments], input=typed)


def fill(services: Aws, bucket: str) -> None:
    """Three versions of two objects, and a delete marker."""
    services.s3.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
    for key in ("a", "b", "b"):
        services.s3.put_object(Bucket=bucket, Key=key, Body=b"data")
    services.s3.delete_object(Bucket=bucket, Key="b")


def test_what_goes_is_emptied_and_goes_and_what_stays_is_named_and_written_down(shell: Aws, tmp_path: Path) -> None:
    stack = deployed(
        shell,
        "offload-dev-clinic",
        {"Goes": resource(BUCKET, "Delete"), "Stays": resource(TABLE, "RetainExceptOnCreate", **KEYS)},
        protected=True,
    )
    bucket, table = physical(shell, stack, "Goes"), physical(shell, stack, "Stays")
    fill(shell, bucket)
    shell.dynamodb.put_item(TableName=table, Item={"pk": {"S": "1"}})
    ended = destroy(typed="dev\n")
    assert ended.exit_code == 0, (ended.output, ended.exception)
    assert "Goes with what it holds: 1 Bucket\n" in ended.output
    assert f"4 objects and versions  {bucket}" in ended.output
    assert "Stays: 1 Table\n" in ended.output
    assert f"about 1 items  {table}" in ended.output
    assert stacks_of(shell) == set()
    assert bucket not in {each["Name"] for each in shell.s3.list_buckets()["Buckets"]}
    assert shell.dynamodb.scan(TableName=table)["Count"] == 1
    written = tmp_path / "kept" / "dev" / f"1-{stack}.json"
    assert json.loads(written.read_text()) == {"Stays": {"TableName": table}}
    shell.dynamodb.delete_table(TableName=table)


@pytest.mark.parametrize(("arguments", "typed"), [((), "prod\n"), (("--yes", "staging"), "")])
def test_without_the_environments_own_name_nothing_is_deleted(
    shell: Aws, arguments: tuple[str, ...], typed: str
) -> None:
    stack = deployed(shell, "offload-dev-clinic", {"Goes": resource(BUCKET, "Delete")}, protected=True)
    ended = destroy(*arguments, typed=typed)
    assert isinstance(ended.exception, Failure)
    assert str(ended.exception).startswith("nothing is deleted: ")
    [found] = shell.cloudformation.describe_stacks(StackName=stack)["Stacks"]
    assert (found["StackStatus"], found["EnableTerminationProtection"]) == ("CREATE_COMPLETE", True)


def test_an_environment_whose_name_begins_alike_is_left_alone(shell: Aws) -> None:
    deployed(shell, "offload-dev-clinic", {"Goes": resource(BUCKET, "Delete")})
    neighbour = deployed(shell, "offload-dev-2-clinic", {"Goes": resource(BUCKET, "Delete")}, environment="dev-2")
    assert destroy("--yes", "dev").exit_code == 0
    assert stacks_of(shell) == {neighbour}


def test_a_table_that_was_protected_once_and_goes_now_goes(shell: Aws) -> None:
    stack = deployed(
        shell,
        "offload-dev-clinic",
        {"Goes": resource(TABLE, "Delete", **KEYS), "Stays": resource(TABLE, "Retain", **KEYS)},
    )
    goes, stays = physical(shell, stack, "Goes"), physical(shell, stack, "Stays")
    for name in (goes, stays):
        shell.dynamodb.update_table(TableName=name, DeletionProtectionEnabled=True)
    assert destroy("--yes", "dev").exit_code == 0
    assert shell.dynamodb.list_tables()["TableNames"] == [stays]
    assert shell.dynamodb.describe_table(TableName=stays)["Table"]["DeletionProtectionEnabled"]
    shell.dynamodb.update_table(TableName=stays, DeletionProtectionEnabled=False)
    shell.dynamodb.delete_table(TableName=stays)


def test_tables_that_are_kept_are_protected_after_a_deploy_and_no_others(shell: Aws) -> None:
    stays = resource(TABLE, "Retain", **KEYS) | {"Metadata": {"aws:cdk:path": "offload-dev-clinic/Stays/Resource"}}
    goes = resource(TABLE, "Delete", **KEYS) | {"Metadata": {"aws:cdk:path": "offload-dev-clinic/Goes/Resource"}}
    stack = deployed(shell, "offload-dev-clinic", {"Stays": stays, "Goes": goes})
    name = physical(shell, stack, "Stays")
    assert protect_tables(Deployment(shell)) == [name]
    assert protect_tables(Deployment(shell)) == []
    assert not shell.dynamodb.describe_table(TableName=physical(shell, stack, "Goes"))["Table"].get(
        "DeletionProtectionEnabled"
    )
    shell.dynamodb.update_table(TableName=name, DeletionProtectionEnabled=False)
    assert destroy("--yes", "dev").exit_code == 0
    shell.dynamodb.delete_table(TableName=name)


class RefusingCloudFormation:
    """Answers of CloudFormation where a table may not be deleted; the embedded AWS deletes it all the same."""

    def describe_stacks(self, StackName: str) -> dict[str, Any]:  # noqa: N803 - as CloudFormation's client has it
        return {"Stacks": [{"StackName": StackName, "StackId": "id", "StackStatus": "DELETE_FAILED"}]}

    def delete_stack(self, StackName: str) -> None:  # noqa: N803
        assert StackName == "id"

    def get_paginator(self, operation: str) -> RefusingCloudFormation:
        assert operation == "list_stack_resources"
        return self

    def paginate(self, StackName: str) -> list[dict[str, Any]]:  # noqa: N803
        assert StackName == "id"
        gone = {"LogicalResourceId": "Gone", "ResourceStatus": "DELETE_COMPLETE"}
        left = {"LogicalResourceId": "Left", "ResourceStatus": "DELETE_FAILED", "ResourceStatusReason": "protected"}
        return [{"StackResourceSummaries": [gone, left]}]


def test_what_cannot_be_deleted_is_named_with_cloudformations_reason() -> None:
    services = Aws("dev")
    services.__dict__["cloudformation"] = RefusingCloudFormation()
    plan = Plan((a_stack("offload-dev-clinic"),), ())
    with pytest.raises(Failure) as refused:
        end.destroy(Deployment(services), plan, SILENT, poll_seconds=0)
    assert str(refused.value) == (
        "offload-dev-clinic is not deleted; see to what is named, and run it again:\n  Left: protected"
    )


def test_a_bucket_that_a_function_still_writes_to_is_emptied_again(shell: Aws, monkeypatch: pytest.MonkeyPatch) -> None:
    stack = deployed(shell, "offload-dev-clinic", {"Goes": resource(BUCKET, "Delete")})
    bucket = physical(shell, stack, "Goes")
    delete = end._deleted
    refused: list[str] = []

    def as_aws_does(services: Aws, name: str, *others: Any) -> dict[str, str]:
        """The embedded AWS deletes a bucket with objects in it; AWS does not."""
        if not refused:
            services.s3.put_object(Bucket=bucket, Key="late", Body=b"data")
        if services.s3.list_objects_v2(Bucket=bucket)["KeyCount"]:
            refused.append(name)
            return {"Goes": "The bucket you tried to delete is not empty"}
        return delete(services, name, *others)

    monkeypatch.setattr(end, "_deleted", as_aws_does)
    end.destroy(Deployment(shell), end.plan(Deployment(shell)), SILENT, poll_seconds=0.05)
    assert refused == [stack]
    assert stacks_of(shell) == set()


# -- decisions


def a_stack(name: str, *, takes: object = None, exports: str | None = None) -> DeployedStack:
    outputs = {"O": {"Value": "v", "Export": {"Name": exports}}} if exports else {}
    return DeployedStack(
        name, "CREATE_COMPLETE", {"Resources": {"R": {"Properties": {"P": [takes]}}}, "Outputs": outputs}
    )


@pytest.mark.parametrize(
    "takes",
    [{"Fn::GetStackOutput": {"StackName": "b", "OutputName": "O"}}, {"Fn::Join": ["", [{"Fn::ImportValue": "b:O"}]]}],
    ids=["weak reference", "export"],
)
def test_a_stack_goes_before_those_that_it_takes_values_from(takes: object) -> None:
    stacks = [a_stack("b", exports="b:O"), a_stack("c", takes=takes), a_stack("a")]
    names = [stack.name for stack in end._in_order(stacks)]
    assert names.index("c") < names.index("b")
    assert sorted(names) == ["a", "b", "c"]


def test_stacks_that_take_values_from_each_other_go_all_the_same() -> None:
    def takes(name: str) -> object:
        return {"Fn::GetStackOutput": {"StackName": name, "OutputName": "O"}}

    stacks = [a_stack("a", takes=takes("b")), a_stack("b", takes=takes("a"))]
    assert {stack.name for stack in end._in_order(stacks)} == {"a", "b"}


def a_holding(kind: str, amount: int, *, about: bool = False, stays: bool = True) -> Holding:
    return Holding("offload-dev-clinic", "Ledger/Sums", "Sums", kind, "sums-1", stays, amount, "things", about)


def test_counts_say_how_sure_they_are() -> None:
    assert a_holding(BUCKET, 1_204).holds() == "1,204 things"
    assert a_holding(BUCKET, 100_001).holds() == "over 100,000 things"
    assert a_holding(TABLE, 1_000_000, about=True).holds() == "about 1,000,000 things"


def test_what_stays_comes_back_in_the_opposite_order_of_its_going(tmp_path: Path) -> None:
    kept = tuple(replace(a_holding(TABLE, 1), stack=name) for name in ("b", "a"))
    plan = Plan((a_stack("a"), a_stack("nothing"), a_stack("b")), kept)
    assert [path.name for path in end.write_mappings(plan, tmp_path)] == ["1-b.json", "2-a.json"]


def test_what_was_kept_of_another_deployment_is_never_written_over(tmp_path: Path) -> None:
    stacks = (a_stack("offload-dev-clinic"),)
    plan = Plan(stacks, (a_holding(TABLE, 1), a_holding(BUCKET, 1, stays=False)))
    [path] = end.write_mappings(plan, tmp_path)
    assert json.loads(path.read_text()) == {"Sums": {"TableName": "sums-1"}}
    assert end.write_mappings(plan, tmp_path) == [path]
    other = Plan(stacks, (replace(a_holding(TABLE, 1), physical_id="sums-2"),))
    with pytest.raises(Failure, match="of another deployment"):
        end.write_mappings(other, tmp_path)
    assert json.loads(path.read_text()) == {"Sums": {"TableName": "sums-1"}}


def test_what_an_app_keeps_is_what_is_named_and_counted_at_its_end() -> None:
    assert set(end.IMPORTED_BY) == set(HOLDS_DATA)


@pytest.mark.parametrize("kind", HOLDS_DATA)
def test_everything_that_holds_data_can_be_imported_by_what_cloudformation_calls_it(kind: str) -> None:
    schema = PROVIDER_SCHEMA_MANAGER.get_resource_schema(REGION, kind).schema
    assert schema["primaryIdentifier"] == [f"/properties/{end.IMPORTED_BY[kind]}"]
    assert "read" in schema["handlers"], "CloudFormation imports what it can read"
