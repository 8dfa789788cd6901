"""The security page is held to the templates, of each secret who reads it, and to the tests, of each attack."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from offload.cdk.templates import assembly
from offload.contracts.functions import folder_of, source_of

PROJECT = Path(__file__).resolve().parents[2]
PAGE = (PROJECT / "docs" / "security.md").read_text(encoding="utf-8")


def rows(heading: str) -> list[list[str]]:
    """The cells of the first table below a heading."""
    section = PAGE.split(f"## {heading}\n")[1].split("\n## ")[0]
    lines = [line for line in section.splitlines() if line.startswith("| ")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


@pytest.mark.slow
def test_every_secret_is_in_the_table_with_each_function_that_may_read_it(tmp_path: Path) -> None:
    found: dict[str, set[str]] = {}
    for stack in assembly("staging", tmp_path).stacks:
        resources: dict[str, Any] = stack.template["Resources"]
        roles = {
            resource["Properties"]["Role"]["Fn::GetAtt"][0]: folder_of(source).rpartition("/")[2]
            for resource in resources.values()
            if resource["Type"] == "AWS::Lambda::Function"
            and (source := source_of(resource["Properties"].get("Handler", ""))) is not None
        }
        secrets = {
            name: place(each) for name, each in resources.items() if each["Type"] == "AWS::SecretsManager::Secret"
        }
        found |= {path: set() for path in secrets.values()}
        for policy in resources.values():
            if policy["Type"] != "AWS::IAM::Policy":
                continue
            for statement in policy["Properties"]["PolicyDocument"]["Statement"]:
                if "secretsmanager:" in json.dumps(statement["Action"]):
                    for name, path in secrets.items():
                        if name in json.dumps(statement["Resource"]):
                            found[path] |= {roles[role["Ref"]] for role in policy["Properties"]["Roles"]}
    told = {cells[0].strip("`"): set(re.findall(r"`(\w+)`", cells[2])) for cells in rows("Secrets")}
    assert told == found


def place(resource: dict[str, Any]) -> str:
    """A resource's construct below its stack: `Webhooks/Secrets`."""
    return str(resource["Metadata"]["aws:cdk:path"]).partition("/")[2].removesuffix("/Resource")


def test_every_attack_names_the_tests_that_try_it() -> None:
    named = [re.findall(r"`(tests/\S+\.py)`", cells[2]) for cells in rows("Attacks that were tried")]
    assert all(named)
    assert [path for files in named for path in files if not (PROJECT / path).exists()] == []
