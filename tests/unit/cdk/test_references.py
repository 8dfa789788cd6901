"""References between stacks: what reads a resource of another stack changes when that resource may be replaced."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from aws_cdk import App, CfnOutput, CfnResource, Fn, Stack
from aws_cdk import aws_sqs as sqs

from offload.cdk.references import UnusableAssembly, definition, name_outputs_by_definition
from offload.project import PROJECT

pytestmark = pytest.mark.synthesis

FLAGS: dict[str, Any] = json.loads((PROJECT / "cdk.json").read_text(encoding="utf-8"))["context"]
PLATFORM, CLINIC = "offload-dev-platform", "offload-dev-clinic"
# A property of each type that CloudFormation replaces the resource for: `createOnlyProperties` of its resource schemas.
REPLACING: dict[str, tuple[str, Any]] = {
    "AWS::DynamoDB::Table": ("TableName", "another"),
    "AWS::Events::Archive": ("ArchiveName", "another"),
    "AWS::Events::EventBus": ("Name", "another"),
    "AWS::IAM::Role": ("Path", "/another/"),
    "AWS::S3::Bucket": ("BucketName", "another"),
}

Template = dict[str, Any]
Templates = dict[str, Template]


def templates_in(folder: Path) -> Templates:
    return {
        path.name.removesuffix(".template.json"): json.loads(path.read_text(encoding="utf-8"))
        for path in folder.glob("*.template.json")
    }


@pytest.fixture(scope="module")
def synthesized(clinic_of: Callable[[str], Path]) -> Path:
    """The assembly of the clinic's `dev` as the CDK writes it."""
    return clinic_of("dev")


def deployed_as(folder: Path, synthesized: Path, change: Callable[[Template], None] | None = None) -> Templates:
    """The templates of `dev` as the command line finds them, where the platform's was synthesized with a change."""
    shutil.copytree(synthesized, folder)
    if change:
        path = folder / f"{PLATFORM}.template.json"
        template = json.loads(path.read_text(encoding="utf-8"))
        change(template)
        path.write_text(json.dumps(template), encoding="utf-8")
    name_outputs_by_definition(folder)
    return templates_in(folder)


def with_property(logical_id: str, name: str, value: object) -> Callable[[Template], None]:
    def change(template: Template) -> None:
        template["Resources"][logical_id].setdefault("Properties", {})[name] = value

    return change


def reads(value: Any) -> Iterator[str]:
    """The names of the outputs that a part of a template reads."""
    if isinstance(value, list):
        for item in value:
            yield from reads(item)
    elif isinstance(value, dict):
        for key, argument in value.items():
            if key == "Fn::GetStackOutput":
                yield argument["OutputName"]
            else:
                yield from reads(argument)


def referred(value: Any) -> str:
    """The resource that an output's value is a Ref or an attribute of."""
    return str(value["Ref"] if "Ref" in value else value["Fn::GetAtt"][0])


def readers(templates: Templates, resources: set[str]) -> set[str]:
    """The clinic's resources that read an output about one of these resources of the platform."""
    outputs = templates[PLATFORM]["Outputs"]
    about = {name for name, output in outputs.items() if referred(output["Value"]) in resources}
    return {name for name, body in templates[CLINIC]["Resources"].items() if about & set(reads(body))}


def changed(before: Template, after: Template) -> set[str]:
    """The logical ids of the resources whose text is another one."""
    assert before["Resources"].keys() == after["Resources"].keys()
    return {name for name, body in before["Resources"].items() if after["Resources"][name] != body}


@pytest.fixture(scope="module")
def dev(tmp_path_factory: pytest.TempPathFactory, synthesized: Path) -> Templates:
    return deployed_as(tmp_path_factory.mktemp("dev") / "assembly", synthesized)


def read_by_the_clinic(templates: Templates) -> set[str]:
    outputs = templates[PLATFORM]["Outputs"]
    return {referred(outputs[name]["Value"]) for name in reads(templates[CLINIC])}


def test_what_reads_a_resource_of_the_platform_changes_with_whatever_replaces_it_and_nothing_else(
    dev: Templates, synthesized: Path, tmp_path: Path
) -> None:
    resources = dev[PLATFORM]["Resources"]
    read = read_by_the_clinic(dev)
    assert {resources[name]["Type"] for name in read} == REPLACING.keys()
    for logical_id in sorted(read):
        name, value = REPLACING[resources[logical_id]["Type"]]
        after = deployed_as(tmp_path / logical_id, synthesized, with_property(logical_id, name, value))
        # What is made from the resource, as the archive from its bus, is replaced with it.
        followers = {
            other
            for other in read
            if other == logical_id or f'"{logical_id}"' in json.dumps(resources[other].get("Properties", {}))
        }
        expected = readers(dev, followers)
        assert expected, f"nothing of the clinic reads {logical_id}: this shows nothing"
        assert changed(dev[CLINIC], after[CLINIC]) == expected, logical_id


def test_an_archive_whose_bus_is_replaced_is_another_one_too(dev: Templates, synthesized: Path, tmp_path: Path) -> None:
    resources = dev[PLATFORM]["Resources"]
    (bus,) = [name for name, body in resources.items() if body["Type"] == "AWS::Events::EventBus"]
    (archive,) = [name for name, body in resources.items() if body["Type"] == "AWS::Events::Archive"]
    after = deployed_as(tmp_path / "another", synthesized, with_property(bus, "Name", "another"))
    assert after[PLATFORM]["Resources"][archive] == resources[archive]
    assert readers(dev, {archive}) <= changed(dev[CLINIC], after[CLINIC])


def test_new_code_of_a_function_of_the_platform_changes_nothing_that_the_clinic_reads(
    dev: Templates, synthesized: Path, tmp_path: Path
) -> None:
    functions = [name for name, body in dev[PLATFORM]["Resources"].items() if body["Type"] == "AWS::Lambda::Function"]

    def change(template: Template) -> None:
        for name in functions:
            template["Resources"][name]["Properties"]["Code"]["S3Key"] = "another.zip"

    after = deployed_as(tmp_path / "another", synthesized, change)
    assert changed(dev[PLATFORM], after[PLATFORM]) == set(functions)
    assert after[CLINIC] == dev[CLINIC]


def test_every_output_that_is_read_is_there_by_its_name(dev: Templates) -> None:
    names = set(reads(dev[CLINIC]))
    assert names
    assert names <= dev[PLATFORM]["Outputs"].keys()


def test_an_output_that_people_know_by_its_name_keeps_it(dev: Templates) -> None:
    assert "JobsUrl1F655D21" in dev[PLATFORM]["Outputs"]


def test_the_templates_hashes_are_those_of_the_templates_that_are_uploaded(synthesized: Path, tmp_path: Path) -> None:
    folder = tmp_path / "assembly"
    deployed_as(folder, synthesized)
    manifest = (folder / "manifest.json").read_text(encoding="utf-8")
    for path in folder.glob("*.template.json"):
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        assets = json.loads((folder / path.name.replace(".template.", ".assets.")).read_text(encoding="utf-8"))
        assert assets["files"][digest]["source"]["path"] == path.name
        assert f"{digest}.json" in json.dumps(assets["files"][digest]["destinations"])
        assert f"/{digest}.json" in manifest


# -- apps of a few resources


def app_of(folder: Path, *names: str) -> tuple[App, list[Stack]]:
    app = App(outdir=str(folder), context=FLAGS)
    return app, [Stack(app, name) for name in names]


def passed_on(folder: Path, *, queue_name: str | None = None) -> Templates:
    """A queue of the first stack is a property of a resource of the second, which the third reads."""
    app, (first, second, third) = app_of(folder, "First", "Second", "Third")
    queue = sqs.CfnQueue(first, "Queue", queue_name=queue_name)
    topic = CfnResource(second, "Topic", type="AWS::SNS::Topic", properties={"TopicName": queue.attr_queue_name})
    CfnResource(third, "Reader", type="AWS::SNS::Topic", properties={"DisplayName": topic.get_att("TopicName")})
    app.synth()
    name_outputs_by_definition(folder)
    return templates_in(folder)


def test_a_replacement_is_followed_through_every_stack_that_passes_it_on(tmp_path: Path) -> None:
    before = passed_on(tmp_path / "before")
    after = passed_on(tmp_path / "after", queue_name="another")
    assert changed(before["Second"], after["Second"]) == {"Topic"}
    assert changed(before["Third"], after["Third"]) == {"Reader"}


def test_an_output_of_the_apps_own_that_a_stack_reads_is_there_under_both_names(tmp_path: Path) -> None:
    app, (first, second) = app_of(tmp_path, "First", "Second")
    queue = sqs.CfnQueue(first, "Queue")
    CfnOutput(first, "Url", value=queue.ref, description="Where orders go")
    second.add_dependency(first)
    CfnResource(
        second, "Topic", type="AWS::SNS::Topic", properties={"DisplayName": Fn.get_stack_output("First", "Url")}
    )
    app.synth()
    new = name_outputs_by_definition(tmp_path)["First", "Url"]
    templates = templates_in(tmp_path)
    assert templates["First"]["Outputs"]["Url"]["Description"] == "Where orders go"
    assert templates["First"]["Outputs"][new]["Value"] == {"Ref": "Queue"}
    assert list(reads(templates["Second"]["Resources"])) == [new]


def test_an_output_of_a_stack_outside_of_the_app_is_left_alone(tmp_path: Path) -> None:
    app, (first,) = app_of(tmp_path, "First")
    outside = Fn.get_stack_output("Elsewhere", "Name")
    CfnResource(first, "Topic", type="AWS::SNS::Topic", properties={"DisplayName": outside})
    app.synth()
    assert name_outputs_by_definition(tmp_path) == {}
    assert list(reads(templates_in(tmp_path)["First"])) == ["Name"]


def test_an_assembly_of_another_shape_is_refused_rather_than_deployed_half_renamed(tmp_path: Path) -> None:
    app, (first, second) = app_of(tmp_path, "First", "Second")
    queue = sqs.CfnQueue(first, "Queue")
    CfnResource(second, "Topic", type="AWS::SNS::Topic", properties={"DisplayName": queue.attr_queue_name})
    app.synth()
    assets = tmp_path / "First.assets.json"
    assets.write_text(json.dumps({"files": {}}))
    with pytest.raises(UnusableAssembly, match=r"First\.template\.json: .*pin the version of aws-cdk-lib"):
        name_outputs_by_definition(tmp_path)


@pytest.mark.parametrize(
    ("value", "part"),
    [
        ({"Ref": "Size"}, ("Parameters", "Size", {"Type": "String", "Default": "2"})),
        ({"Fn::Sub": "${Size}-${Queue.Arn}"}, ("Parameters", "Size", {"Type": "String", "Default": "2"})),
        ({"Fn::Sub": ["${Name}", {"Name": {"Ref": "Queue"}}]}, ("Resources", "Queue", {"Type": "AWS::SNS::Topic"})),
        ({"Fn::GetAtt": "Queue.Arn"}, ("Resources", "Queue", {"Type": "AWS::SNS::Topic"})),
        ({"Fn::FindInMap": ["Sizes", "a", "b"]}, ("Mappings", "Sizes", {"a": {"b": "2"}})),
        ({"Fn::If": ["Large", "a", "b"]}, ("Conditions", "Large", {"Fn::Equals": ["b", "b"]})),
    ],
)
def test_whatever_a_value_is_made_of_is_in_its_definition(value: Any, part: tuple[str, str, Any]) -> None:
    template: Template = {
        "Parameters": {"Size": {"Type": "String", "Default": "1"}},
        "Mappings": {"Sizes": {"a": {"b": "1"}}},
        "Conditions": {"Large": {"Fn::Equals": ["a", "b"]}},
        "Resources": {"Queue": {"Type": "AWS::SQS::Queue"}},
    }
    section, name, body = part
    another = {**template, section: {**template[section], name: body}}
    assert definition({"Stack": template}, "Stack", value) != definition({"Stack": another}, "Stack", value)
