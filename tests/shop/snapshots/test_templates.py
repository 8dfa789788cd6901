"""Every stack in every environment, as it was when someone last looked at it (`--snapshot-update` after you have)."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from aws_cdk import App, CfnResource
from aws_cdk import aws_sqs as sqs
from syrupy.assertion import SnapshotAssertion
from syrupy.extensions.json import JSONSnapshotExtension
from syrupy.location import PyTestLocation
from syrupy.types import SnapshotIndex

from app import compose
from offload.cdk.constructs.python_function import ROOT_CONTEXT
from offload.cdk.environment import Environment
from offload.project import PROJECT
from tests.assemblies import FLAGS, UNBUNDLED, Templates, templates_in

pytestmark = pytest.mark.synthesis

# The account that `filled_in` gives to an environment that belongs to one.
OWN = {"123456789012"}

# An asset is found by its content's hash, which changes with every line of code.
_ASSET = re.compile(r"\b[0-9a-f]{64}(\.zip)?\b")
# A function's version is a resource of its own with each change: its name ends in the hash of what it has.
_VERSION = re.compile(r"CurrentVersion[0-9A-F]{8}[0-9a-f]{32}\b")


def synthesized(
    environment: str, folder: Path, *, context: dict[str, Any], change: Callable[[App], None] | None = None
) -> Templates:
    """The templates of one environment by their stacks' names, as they are deployed."""
    app = App(outdir=str(folder), context=FLAGS | context)
    compose(app, Environment.filled_in(environment))
    if change:
        change(app)
    return {stack.stack_name: stack.template for stack in app.synth().stacks}


def masked(template: dict[str, Any]) -> dict[str, Any]:
    """The template without what changes with every line of code: assets' hashes, and versions' names.

    Without the constructs' paths too, which say for each resource what its name says.
    """
    text = _VERSION.sub("CurrentVersion", _ASSET.sub("ASSET", json.dumps(template)))
    without: dict[str, Any] = json.loads(text)
    for resource in without["Resources"].values():
        if resource.get("Metadata", {}).pop("aws:cdk:path", None) and not resource["Metadata"]:
            del resource["Metadata"]
    return without


def leaves(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict | list):
        for key, child in value.items() if isinstance(value, dict) else enumerate(value):
            yield from leaves(child, f"{path}/{key}")
    else:
        yield path, value


class OneFileAStack(JSONSnapshotExtension):
    """`__snapshots__/test_templates/STACK.json`, since the stack's name has its environment in it."""

    @classmethod
    def get_snapshot_name(cls, *, test_location: PyTestLocation, index: SnapshotIndex = 0) -> str:
        return str(index) if isinstance(index, str) else super().get_snapshot_name(test_location=test_location)


@pytest.fixture(scope="session")
def templates(assembly_of: Callable[[str], Path]) -> dict[str, Templates]:
    """Every environment's templates, without bundling."""
    return {name: templates_in(assembly_of(name)) for name in Environment.names()}


# A stack's name says more in a review than the name of the test that syrupy would like to see in it.
@pytest.mark.filterwarnings("ignore:.*\\n?.*Can not relate snapshot")
@pytest.mark.parametrize("environment", Environment.names())
def test_every_stack_is_as_it_was_last_reviewed(
    environment: str, templates: dict[str, Templates], snapshot: SnapshotAssertion
) -> None:
    for name, template in templates[environment].items():
        assert masked(template) == snapshot(name=name, extension_class=OneFileAStack)


def test_no_snapshot_holds_a_hash_a_path_or_an_account_of_nobodys(templates: dict[str, Templates]) -> None:
    for of_environment in templates.values():
        for name, template in of_environment.items():
            for path, value in leaves(masked(template)):
                assert not re.search(r"\b[0-9a-f]{32,}\b", str(value)), f"{name}{path}: {value} holds a hash"
                accounts = set(re.findall(r"\b\d{12}\b", str(value)))
                assert accounts <= OWN, f"{name}{path}: {value} holds an account that its environment does not name"
                assert str(Path.home()) not in str(value), f"{name}{path}: {value} holds a path"
                assert str(PROJECT) not in str(value), f"{name}{path}: {value} holds a path"


@pytest.mark.slow
def test_changing_a_handlers_code_redeploys_it_and_changes_no_snapshot(
    tmp_path: Path, templates: dict[str, Templates]
) -> None:
    for folder in ("lambdas", "offload", "schemas", "shop"):
        shutil.copytree(PROJECT / folder, tmp_path / folder, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(PROJECT / "pyproject.toml", tmp_path)
    # The smaller stack alone: every function is bundled by the same code.
    bundled = {ROOT_CONTEXT: str(tmp_path), "aws:cdk:bundling-stacks": ["offload-dev-platform"]}
    before = synthesized("dev", tmp_path / "before", context=bundled)
    with (tmp_path / "offload" / "functions" / "event_journal" / "handler.py").open("a", encoding="utf-8") as handler:
        handler.write("\nCHANGED = True\n")
    after = synthesized("dev", tmp_path / "after", context=bundled)

    now = {name: dict(leaves(template)) for name, template in after.items()}
    changed = [path for name in before for path, value in leaves(before[name]) if now[name].get(path) != value]
    assert [path for path in changed if path.endswith("/S3Key")] == changed
    assert len(changed) == 1
    assert "EventJournal" in changed[0]
    reviewed = {name: masked(template) for name, template in templates["dev"].items()}
    assert {name: masked(template) for name, template in before.items()} == reviewed
    assert {name: masked(template) for name, template in after.items()} == reviewed


def test_changing_one_queues_setting_changes_exactly_one_snapshot(
    tmp_path: Path, templates: dict[str, Templates]
) -> None:
    def delay(app: App) -> None:
        queue = app.node.find_child("offload-dev-shop").node.find_child("SalesLedger").node.find_child("Queue")
        assert isinstance(queue, sqs.Queue)
        resource = queue.node.default_child
        assert isinstance(resource, CfnResource)
        resource.add_property_override("DelaySeconds", 1)

    changed = synthesized("dev", tmp_path / "changed", context=UNBUNDLED, change=delay)
    unlike = [name for name, template in changed.items() if masked(template) != masked(templates["dev"][name])]
    assert unlike == ["offload-dev-shop"]
    elsewhere = {name for environment, of in templates.items() if environment != "dev" for name in of}
    assert not elsewhere & changed.keys()
