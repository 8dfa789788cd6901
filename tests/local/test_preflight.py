"""The preflight against the embedded AWS: what is deployed, what is missing, what is in the way."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from offload.cli.deployment.aws import LOCAL, Aws
from offload.cli.local.process import ACCOUNT, EmbeddedAws, free_port
from offload.cli.preflight import report
from offload.cli.preflight.assembly import Assembly, Kept, NewStack, read
from offload.cli.preflight.calls import CALLS, Reader
from offload.cli.preflight.facts import Identity, identity
from offload.cli.preflight.item import Item
from tests.copies import Copy
from tests.patience import PATIENCE

PLACE = "/offload/local/jobs/ward_report"
ADDRESS = "operators@offload-clinic.net"
STACK = "offload-local-platform"
WITHIN: Any = {"Delay": 1, "MaxAttempts": int(PATIENCE)}
TABLES = ("AWS::DynamoDB::Table", "AWS::DynamoDB::GlobalTable")


@pytest.fixture(scope="module")
def empty(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Aws]:
    """An embedded AWS with nothing on it, not even the CDK's bootstrap."""
    embedded = EmbeddedAws(tmp_path_factory.mktemp("empty"), port=free_port(), persist=False)
    try:
        yield Aws(LOCAL, embedded.start())
    finally:
        embedded.stop()


@pytest.fixture
def templates(assembly: Path) -> Assembly:
    return read(assembly, LOCAL)


def examined(aws: Aws, templates: Assembly, kept: Kept | None = None) -> dict[str, list[Item]]:
    reader = Reader(aws)
    who = identity(reader)
    assert isinstance(who, Identity)
    found: dict[str, list[Item]] = {}
    for item in report.examine(reader, who, templates, kept or Kept(LOCAL)):
        found.setdefault(item.name, []).append(item)
    return found


def a_stack_with(aws: Aws, resources: dict[str, Any], name: str = STACK) -> str:
    """Makes a stack by API and waits for its end; returns its status."""
    cloudformation = aws.cloudformation
    tags: Any = [{"Key": "environment", "Value": LOCAL}]
    cloudformation.create_stack(StackName=name, TemplateBody=json.dumps({"Resources": resources}), Tags=tags)
    cloudformation.get_waiter("stack_create_complete").wait(StackName=name, WaiterConfig=WITHIN)
    return str(cloudformation.describe_stacks(StackName=name)["Stacks"][0]["StackStatus"])


def gone(aws: Aws, name: str = STACK) -> None:
    aws.cloudformation.delete_stack(StackName=name)
    aws.cloudformation.get_waiter("stack_delete_complete").wait(StackName=name, WaiterConfig=WITHIN)


def test_what_is_deployed_is_ready_to_be_deployed_again_by_calls_of_the_list_alone(
    deployed: Copy, templates: Assembly
) -> None:
    aws = Aws(LOCAL, deployed.embedded.running())
    made: set[tuple[str, str]] = set()
    aws.session.events.register(
        "before-call", lambda model, **_: made.add((model.service_model.service_name, model.name))
    )
    found = examined(aws, templates)
    assert [item for items in found.values() for item in items if item.level == "refused"] == []
    assert [item.says for item in found["stack"]] == [
        "offload-local-platform: CREATE_COMPLETE",
        "offload-local-clinic: CREATE_COMPLETE",
    ]
    assert "data" not in found
    assert "deletes" not in found
    assert made <= {(call.service, call.operation) for call in CALLS}
    assert ("cloudformation", "GetTemplate") in made


def test_the_command_says_so_with_exit_code_0(deployed: Copy, assembly: Path) -> None:
    done = deployed.offload("preflight", "local", "--assembly", str(assembly))
    assert done.returncode == 0, done.stdout + done.stderr
    assert "local: ready to deploy: 0 refused" in done.stdout


def test_a_resource_that_the_app_no_longer_has_would_be_deleted(deployed: Copy, templates: Assembly) -> None:
    stacks = []
    for stack in templates.stacks:
        tables = {name for name, body in stack.resources.items() if body["Type"] in TABLES}
        resources = {name: body for name, body in stack.resources.items() if name not in tables}
        stacks.append(NewStack(stack.name, {"Resources": resources}))
    found = examined(
        Aws(LOCAL, deployed.embedded.running()), Assembly(tuple(stacks), templates.bootstrap), Kept(LOCAL, keep=True)
    )
    deleted = [item for item in found["data"] if item.level == "refused"]
    assert any("the deploy deletes AWS::DynamoDB::" in item.says for item in deleted)


def test_an_account_without_bootstrap_is_refused(empty: Aws, templates: Assembly) -> None:
    (item,) = examined(empty, templates)["bootstrap"]
    assert (item.level, item.fix) == ("refused", "make bootstrap ENV=local")


def test_the_wrong_account_is_refused_before_anything_else_is_asked(
    empty: Aws, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(report, "of_file", lambda environment: Kept(environment, account="210987654321", keep=True))
    monkeypatch.setattr(report, "_aws", lambda environment: Aws(environment, empty.instance))
    items, aws = report.run(LOCAL, given=Path("/nowhere"))
    assert [item.name for item in items] == ["account", "region"]
    assert f"the credentials are of account {ACCOUNT}" in items[0].says
    assert aws.instance == empty.instance


def test_a_name_that_an_earlier_deploy_left_is_refused_until_it_is_deleted(empty: Aws, templates: Assembly) -> None:
    ssm = empty.client("ssm")
    ssm.put_parameter(Name=PLACE, Value="left", Type="String")
    try:
        (item,) = examined(empty, templates)["names"]
    finally:
        ssm.delete_parameter(Name=PLACE)
    assert (item.level, item.name) == ("refused", "names")
    assert PLACE in item.says
    assert examined(empty, templates)["names"][0].level == "ok"


def test_a_table_that_outlived_its_stack_is_an_orphan(empty: Aws, templates: Assembly) -> None:
    keys: Any = [{"AttributeName": "pk", "KeyType": "HASH"}]
    table = {
        "Type": "AWS::DynamoDB::Table",
        "DeletionPolicy": "Retain",
        "Properties": {
            "KeySchema": keys,
            "AttributeDefinitions": [{"AttributeName": "pk", "AttributeType": "S"}],
            "BillingMode": "PAY_PER_REQUEST",
            "Tags": [{"Key": "environment", "Value": LOCAL}],
        },
    }
    a_stack_with(empty, {"Kept": table})
    assert examined(empty, templates)["orphans"][0].level == "ok"
    gone(empty)
    (item,) = examined(empty, templates)["orphans"]
    for name in empty.dynamodb.list_tables()["TableNames"]:
        empty.dynamodb.delete_table(TableName=name)
    assert (item.level, item.says) == ("warning", "1 resources of earlier stacks remain: 1 dynamodb table")


def test_an_address_is_found_at_the_topic_of_the_stack_where_the_emulator_confirms_it_at_once(
    empty: Aws, templates: Assembly
) -> None:
    a_stack_with(empty, {"Topic": {"Type": "AWS::SNS::Topic", "Properties": {}}})
    try:
        resources = empty.cloudformation.list_stack_resources(StackName=STACK)["StackResourceSummaries"]
        sns = empty.client("sns")
        sns.subscribe(TopicArn=resources[0]["PhysicalResourceId"], Protocol="email", Endpoint=ADDRESS)
        (item,) = examined(empty, templates, Kept(LOCAL, email=ADDRESS))["address"]
        (other,) = examined(empty, templates, Kept(LOCAL, email="new@offload-clinic.net"))["address"]
    finally:
        gone(empty)
    assert item.says == f"{ADDRESS} has confirmed"
    assert other.says == "new@offload-clinic.net is new: SNS asks it to confirm after the deploy"


def test_a_stack_that_the_app_no_longer_has_is_named(empty: Aws, templates: Assembly) -> None:
    a_stack_with(empty, {"Topic": {"Type": "AWS::SNS::Topic", "Properties": {}}}, "offload-local-forgotten")
    try:
        named = [item.says for item in examined(empty, templates)["stack"]]
    finally:
        gone(empty, "offload-local-forgotten")
    assert "offload-local-forgotten: deployed, and not in the app any more" in named
