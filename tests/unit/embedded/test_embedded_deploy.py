"""What is taken out of the assembly's copy for the emulator, and what the app's own templates keep."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from offload.cli.deployment.failure import Failure
from offload.cli.local.deploy import copy_for_emulator

BUS = {"Type": "AWS::Events::EventBus", "Properties": {"Name": "b"}}
ARCHIVE = {
    "Type": "AWS::Events::Archive",
    "Properties": {"SourceArn": {"Fn::GetAtt": ["Bus", "Arn"]}},
    "Metadata": {"aws:cdk:path": "offload-local-x/Events/Archive/Resource"},
}


def an_assembly(folder: Path, template: dict[str, Any]) -> Path:
    folder.mkdir()
    content = json.dumps(template)
    name = "offload-local-x.template.json"
    asset = hashlib.sha256(content.encode()).hexdigest()
    (folder / name).write_text(content)
    (folder / "offload-local-x.assets.json").write_text(json.dumps({"files": {asset: {"source": {"path": name}}}}))
    (folder / "manifest.json").write_text(json.dumps({"url": f"s3://bucket/{asset}.json"}))
    (folder / "asset.1").mkdir()
    (folder / "asset.1" / "handler.py").write_text("pass\n")
    return folder


def copied(tmp_path: Path, template: dict[str, Any]) -> dict[str, Any]:
    copy_for_emulator(an_assembly(tmp_path / "out", template), tmp_path / "copy")
    content: dict[str, Any] = json.loads((tmp_path / "copy" / "offload-local-x.template.json").read_text())
    return content


def test_the_archive_is_taken_out_by_name_and_the_synthesized_template_keeps_it(tmp_path: Path) -> None:
    assembly = an_assembly(tmp_path / "out", {"Resources": {"Bus": BUS, "Archive": ARCHIVE}})
    before = (assembly / "offload-local-x.template.json").read_text()
    (taken,) = copy_for_emulator(assembly, tmp_path / "copy")
    assert (taken.stack, taken.path, taken.type) == ("offload-local-x", "Events/Archive", "AWS::Events::Archive")
    assert (assembly / "offload-local-x.template.json").read_text() == before
    template = json.loads((tmp_path / "copy" / "offload-local-x.template.json").read_text())
    assert template["Resources"] == {"Bus": BUS}


def test_the_copy_is_uploaded_under_a_name_of_its_own_and_its_assets_are_the_same_files(tmp_path: Path) -> None:
    copied(tmp_path, {"Resources": {"Bus": BUS, "Archive": ARCHIVE}})
    copy = tmp_path / "copy"
    hash_ = hashlib.sha256((copy / "offload-local-x.template.json").read_bytes()).hexdigest()
    assert list(json.loads((copy / "offload-local-x.assets.json").read_text())["files"]) == [hash_]
    assert json.loads((copy / "manifest.json").read_text()) == {"url": f"s3://bucket/{hash_}.json"}
    assert (copy / "asset.1" / "handler.py").read_text() == "pass\n"


def test_a_second_copy_replaces_the_first_and_leaves_the_assembly_whole(tmp_path: Path) -> None:
    assembly = an_assembly(tmp_path / "out", {"Resources": {"Bus": BUS}})
    copy_for_emulator(assembly, tmp_path / "copy")
    copy_for_emulator(assembly, tmp_path / "copy")
    assert (assembly / "asset.1" / "handler.py").exists()


def test_what_was_packed_for_one_copy_is_packed_for_the_next(tmp_path: Path) -> None:
    assembly = an_assembly(tmp_path / "out", {"Resources": {"Bus": BUS}})
    for name in ("first", "second"):
        copy_for_emulator(assembly, tmp_path / name)
    # Where the CDK's command line puts it.
    (tmp_path / "first" / ".cache" / "1.zip").write_bytes(b"packed")
    assert (tmp_path / "second" / ".cache" / "1.zip").read_bytes() == b"packed"


def test_of_the_metadata_the_copy_has_what_names_resources_and_warns(tmp_path: Path) -> None:
    assembly = an_assembly(tmp_path / "out", {"Resources": {"Bus": BUS}})
    named: Any = {"type": "aws:cdk:logicalId", "data": "Bus"}
    warning: Any = {"type": "aws:cdk:warning", "data": "x"}
    metadata = {
        "/offload-local-x": [{"type": "aws:cdk:creationStack", "data": ["x"]}, warning],
        "/offload-local-x/Bus": [{"type": "aws:cdk:analytics:construct", "data": {}}, named],
        "/offload-local-x/Other": [{"type": "aws:cdk:analytics:method", "data": {}}],
    }
    (assembly / "offload-local-x.metadata.json").write_text(json.dumps(metadata))
    copy_for_emulator(assembly, tmp_path / "copy")
    assert json.loads((tmp_path / "copy" / "offload-local-x.metadata.json").read_text()) == {
        "/offload-local-x": [warning],
        "/offload-local-x/Bus": [named],
    }
    assert json.loads((assembly / "offload-local-x.metadata.json").read_text()) == metadata


def test_what_only_waited_for_a_taken_out_resource_stays_without_the_wait(tmp_path: Path) -> None:
    after = {"Type": "AWS::SQS::Queue", "DependsOn": ["Archive", "Bus"]}
    last = {"Type": "AWS::SQS::Queue", "DependsOn": "Archive"}
    resources = copied(tmp_path, {"Resources": {"Bus": BUS, "Archive": ARCHIVE, "A": after, "B": last}})["Resources"]
    assert resources["A"]["DependsOn"] == ["Bus"]
    assert "DependsOn" not in resources["B"]


def test_an_output_about_a_taken_out_resource_goes_with_it_and_others_stay(tmp_path: Path) -> None:
    outputs = {"Gone": {"Value": {"Fn::GetAtt": ["Archive", "Id"]}}, "Stays": {"Value": {"Ref": "Bus"}}}
    template = copied(tmp_path, {"Resources": {"Bus": BUS, "Archive": ARCHIVE}, "Outputs": outputs})
    assert list(template["Outputs"]) == ["Stays"]


def test_who_asks_for_the_arn_of_an_archive_is_given_the_one_that_it_will_have(tmp_path: Path) -> None:
    arn = {"Fn::GetAtt": ["Archive", "Arn"]}
    reader = {"Type": "AWS::SSM::Parameter", "Properties": {"Value": {"Fn::Join": ["", ["of ", arn]]}}}
    resources = {"Bus": BUS, "Archive": ARCHIVE, "Reader": reader}
    template = copied(tmp_path, {"Resources": resources, "Outputs": {"Arn": {"Value": arn, "Export": {"Name": "a"}}}})
    expected = "arn:aws:events:us-east-1:000000000000:archive/offload-local-x-Archive"
    assert template["Resources"]["Reader"]["Properties"]["Value"] == {"Fn::Join": ["", ["of ", expected]]}
    assert template["Outputs"]["Arn"]["Value"] == expected


@pytest.mark.parametrize(
    "reference",
    [
        {"Ref": "Archive"},
        {"Fn::GetAtt": ["Archive", "Id"]},
        {"Fn::GetAtt": "Archive.Arn"},
        {"Fn::Sub": "arn:${Archive.Arn}/x"},
        {"Fn::Join": ["", ["a", {"Ref": "Archive"}]]},
    ],
)
def test_a_resource_that_needs_a_taken_out_one_is_refused_with_both_names(tmp_path: Path, reference: Any) -> None:
    needy = {"Type": "AWS::SSM::Parameter", "Properties": {"Value": reference}}
    with pytest.raises(Failure, match="offload-local-x: Needy refers to Archive, which the embedded AWS cannot have"):
        copied(tmp_path, {"Resources": {"Bus": BUS, "Archive": ARCHIVE, "Needy": needy}})


def test_an_exported_output_of_a_taken_out_resource_is_refused_since_another_stack_may_need_it(tmp_path: Path) -> None:
    outputs = {"Arn": {"Value": {"Ref": "Archive"}, "Export": {"Name": "arn"}}}
    with pytest.raises(Failure, match="output Arn refers to Archive"):
        copied(tmp_path, {"Resources": {"Bus": BUS, "Archive": ARCHIVE}, "Outputs": outputs})


def test_an_alarm_with_metric_math_is_taken_out_and_a_plain_one_stays(tmp_path: Path) -> None:
    math = {"Type": "AWS::CloudWatch::Alarm", "Properties": {"Metrics": []}}
    plain = {"Type": "AWS::CloudWatch::Alarm", "Properties": {"MetricName": "Errors"}}
    assert copied(tmp_path, {"Resources": {"Math": math, "Plain": plain}})["Resources"] == {"Plain": plain}


def test_a_condition_that_the_emulator_would_deny_is_left_out_and_the_rest_of_the_statement_stays(
    tmp_path: Path,
) -> None:
    bound: dict[str, Any] = {
        "Effect": "Allow",
        "Action": "events:PutEvents",
        "Resource": "*",
        "Condition": {
            "ForAllValues:StringEquals": {"events:source": ["offload.jobs"]},
            "Null": {"events:source": "false"},
        },
    }
    both = {**bound, "Condition": {**bound["Condition"], "Bool": {"aws:SecureTransport": "true"}}}
    policy = {"Type": "AWS::IAM::Policy", "Properties": {"PolicyDocument": {"Statement": [bound, both]}}}
    assembly = an_assembly(tmp_path / "out", {"Resources": {"Policy": policy}})
    copy_for_emulator(assembly, tmp_path / "copy")
    template = json.loads((tmp_path / "copy" / "offload-local-x.template.json").read_text())
    plain = {key: value for key, value in bound.items() if key != "Condition"}
    assert template["Resources"]["Policy"]["Properties"]["PolicyDocument"]["Statement"] == [
        plain,
        {**plain, "Condition": {"Bool": {"aws:SecureTransport": "true"}}},
    ]
    assert "events:source" in (assembly / "offload-local-x.template.json").read_text()
