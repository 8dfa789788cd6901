"""Each patch against a real emulator: it sees what is wrong, sets it, and sees that it is right."""

from __future__ import annotations

import io
import json
import zipfile
from pathlib import Path
from typing import Any

import pytest

from offload.cli.deployment.aws import Aws
from offload.cli.deployment.failure import Failure
from offload.cli.local.patches import (
    EMULATOR_PATCHES,
    Archive,
    BatchGrants,
    Patch,
    ReservedConcurrency,
    SecretGrants,
    Target,
    TimeToLive,
    apply_patches,
)
from offload.cli.local.process import Instance


@pytest.fixture(scope="module")
def aws(emulator: Instance) -> Aws:
    return Aws("local", emulator)


def target(kind: str, properties: dict[str, Any], physical_id: str | None = None, **siblings: str) -> Target:
    return Target("offload-local-x", "It", kind, properties, physical_id, siblings)


def put_right(patch: Patch, aws: Aws, target: Target) -> None:
    assert patch.applies(target)
    assert patch.wrong(aws, target) is not None
    patch.set(aws, target)
    assert patch.wrong(aws, target) is None


def test_a_table_gets_its_time_to_live_and_loses_it_again(aws: Aws) -> None:
    aws.dynamodb.create_table(
        TableName="expiring",
        KeySchema=[{"AttributeName": "pk", "KeyType": "HASH"}],
        AttributeDefinitions=[{"AttributeName": "pk", "AttributeType": "S"}],
        BillingMode="PAY_PER_REQUEST",
    )
    kind = "AWS::DynamoDB::GlobalTable"
    expires = {"TimeToLiveSpecification": {"AttributeName": "expires", "Enabled": True}}
    put_right(TimeToLive(), aws, target(kind, expires, "expiring"))
    answer = aws.dynamodb.describe_time_to_live(TableName="expiring")["TimeToLiveDescription"]
    assert answer.get("AttributeName") == "expires"
    put_right(TimeToLive(), aws, target(kind, {}, "expiring"))


def test_a_function_gets_its_reserved_concurrency_and_loses_it_again(aws: Aws) -> None:
    role = aws.iam.create_role(RoleName="anyone", AssumeRolePolicyDocument="{}")["Role"]["Arn"]
    code = io.BytesIO()
    with zipfile.ZipFile(code, "w") as archive:
        archive.writestr("handler.py", "def handler(event, context): pass\n")
    aws.lambda_.create_function(
        FunctionName="bounded", Role=role, Runtime="python3.11", Handler="handler.handler",
        Code={"ZipFile": code.getvalue()},
    )  # fmt: skip
    put_right(
        ReservedConcurrency(), aws, target("AWS::Lambda::Function", {"ReservedConcurrentExecutions": 2}, "bounded")
    )
    found = aws.lambda_.get_function_concurrency(FunctionName="bounded")
    assert found["ReservedConcurrentExecutions"] == 2
    put_right(ReservedConcurrency(), aws, target("AWS::Lambda::Function", {}, "bounded"))


def test_a_bus_gets_its_archive_and_a_changed_retention(aws: Aws) -> None:
    aws.events.create_event_bus(Name="archived")
    properties = {
        "SourceArn": {"Fn::GetAtt": ["Bus", "Arn"]},
        "EventPattern": {"account": [{"Ref": "AWS::AccountId"}]},
        "RetentionDays": 1,
    }
    put_right(Archive(), aws, target("AWS::Events::Archive", properties, Bus="archived"))
    put_right(Archive(), aws, target("AWS::Events::Archive", properties | {"RetentionDays": 2}, Bus="archived"))
    found = aws.events.describe_archive(ArchiveName="offload-local-x-It")
    assert (found["RetentionDays"], json.loads(found["EventPattern"])) == (2, {"account": ["000000000000"]})


def test_a_bus_that_replaced_another_has_the_archive(aws: Aws) -> None:
    for bus in ("replaced", "replacement"):
        aws.events.create_event_bus(Name=bus)
    properties = {"SourceArn": {"Fn::GetAtt": ["Bus", "Arn"]}, "ArchiveName": "following"}
    put_right(Archive(), aws, target("AWS::Events::Archive", properties, Bus="replaced"))
    put_right(Archive(), aws, target("AWS::Events::Archive", properties, Bus="replacement"))
    found = aws.events.describe_archive(ArchiveName="following")
    assert found["EventSourceArn"].endswith(":event-bus/replacement")


def test_an_archive_without_a_pattern_takes_every_event(aws: Aws) -> None:
    aws.events.create_event_bus(Name="whole")
    properties = {"ArchiveName": "whole", "SourceArn": {"Fn::GetAtt": ["Bus", "Arn"]}}
    put_right(Archive(), aws, target("AWS::Events::Archive", properties, Bus="whole"))


def test_an_archive_of_a_bus_in_another_stack_is_refused_by_name(aws: Aws) -> None:
    properties = {"SourceArn": {"Fn::ImportValue": "elsewhere"}}
    with pytest.raises(Failure, match="the archive It must be in the stack of its bus"):
        Archive().set(aws, target("AWS::Events::Archive", properties | {"ArchiveName": "stranger"}))


def test_a_policy_names_a_secret_by_its_arn(aws: Aws) -> None:
    arn = aws.secrets_manager.create_secret(Name="sender", SecretString="{}")["ARN"]
    aws.iam.create_role(RoleName="reader", AssumeRolePolicyDocument="{}")
    statements = [
        {"Effect": "Allow", "Action": "secretsmanager:GetSecretValue", "Resource": "sender"},
        {"Effect": "Allow", "Action": ["s3:GetObject"], "Resource": "name"},
    ]
    document = json.dumps({"Statement": statements})
    aws.iam.put_role_policy(RoleName="reader", PolicyName="policy", PolicyDocument=document)
    properties = {"PolicyName": "policy", "Roles": [{"Ref": "Role"}], "PolicyDocument": {"Statement": statements}}
    put_right(SecretGrants(), aws, target("AWS::IAM::Policy", properties, Role="reader"))
    found: Any = aws.iam.get_role_policy(RoleName="reader", PolicyName="policy")["PolicyDocument"]
    assert [each["Resource"] for each in found["Statement"]] == [[arn], "name"]


def test_who_may_send_or_delete_messages_may_do_so_in_batches(aws: Aws) -> None:
    aws.iam.create_role(RoleName="writer", AssumeRolePolicyDocument="{}")
    statements = [
        {"Effect": "Allow", "Action": "sqs:SendMessage", "Resource": "one"},
        {"Effect": "Allow", "Action": ["sqs:SendMessage", "sqs:GetQueueUrl"], "Resource": "two"},
        {"Effect": "Allow", "Action": "sqs:ReceiveMessage", "Resource": "three"},
        {"Effect": "Allow", "Action": ["sqs:DeleteMessage", "sqs:SendMessage"], "Resource": "four"},
    ]
    document = json.dumps({"Statement": statements})
    aws.iam.put_role_policy(RoleName="writer", PolicyName="policy", PolicyDocument=document)
    properties = {"PolicyName": "policy", "Roles": [{"Ref": "Role"}], "PolicyDocument": {"Statement": statements}}
    put_right(BatchGrants(), aws, target("AWS::IAM::Policy", properties, Role="writer"))
    found: Any = aws.iam.get_role_policy(RoleName="writer", PolicyName="policy")["PolicyDocument"]
    assert [each["Action"] for each in found["Statement"]] == [
        ["sqs:SendMessage", "sqs:SendMessageBatch"],
        ["sqs:SendMessage", "sqs:GetQueueUrl", "sqs:SendMessageBatch"],
        "sqs:ReceiveMessage",
        ["sqs:DeleteMessage", "sqs:SendMessage", "sqs:SendMessageBatch", "sqs:DeleteMessageBatch"],
    ]


class NeverTakes(TimeToLive):
    """As if the emulator took the call and did nothing."""

    def set(self, aws: Aws, target: Target) -> None:
        del aws, target


def test_a_mend_that_does_not_take_fails_with_stack_and_resource(
    aws: Aws, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    template = {
        "Resources": {
            "Marks": {
                "Type": "AWS::DynamoDB::Table",
                "Properties": {
                    "KeySchema": [{"AttributeName": "pk", "KeyType": "HASH"}],
                    "AttributeDefinitions": [{"AttributeName": "pk", "AttributeType": "S"}],
                    "BillingMode": "PAY_PER_REQUEST",
                    "TimeToLiveSpecification": {"AttributeName": "expires", "Enabled": True},
                },
            }
        }
    }
    aws.cloudformation.create_stack(StackName="offload-local-patch", TemplateBody=json.dumps(template))
    aws.cloudformation.get_waiter("stack_create_complete").wait(
        StackName="offload-local-patch", WaiterConfig={"Delay": 1, "MaxAttempts": 20}
    )
    (tmp_path / "offload-local-patch.template.json").write_text(json.dumps(template))
    monkeypatch.setattr("offload.cli.local.patches.EMULATOR_PATCHES", (NeverTakes(),))
    with pytest.raises(
        Failure, match="offload-local-patch: time to live of Marks cannot be patched: items expire by None"
    ):
        apply_patches(aws, tmp_path)
    monkeypatch.setattr("offload.cli.local.patches.EMULATOR_PATCHES", EMULATOR_PATCHES)
    assert [each.logical_id for each in apply_patches(aws, tmp_path)] == ["Marks"]
