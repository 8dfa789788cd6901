"""What docs/security.md says, and which functions of an environment's templates may read which secret."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from typing import Any, Final

from offload.contracts.functions import folder_of, source_of
from offload.project import PROJECT

PAGE: Final = (PROJECT / "docs" / "security.md").read_text(encoding="utf-8")


def _rows(heading: str) -> list[list[str]]:
    """The cells of the first table below a heading."""
    section = PAGE.split(f"## {heading}\n")[1].split("\n## ")[0]
    lines = [line for line in section.splitlines() if line.startswith("| ")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


def readers_told() -> dict[str, set[str]]:
    """The functions that the page says may read a secret, by the secret's place."""
    return {cells[0].strip("`"): set(re.findall(r"`(\w+)`", cells[2])) for cells in _rows("Secrets")}


def files_named() -> list[list[str]]:
    """The files of tests that each attack of the page is tried by."""
    return [re.findall(r"`(tests/\S+\.py)`", cells[2]) for cells in _rows("Attacks that were tried")]


def readers_in(templates: Iterable[dict[str, Any]]) -> dict[str, set[str]]:
    """The same of templates; a secret's place is its construct below its stack: `Webhooks/Secrets`."""
    found: dict[str, set[str]] = {}
    for template in templates:
        resources: dict[str, Any] = template["Resources"]
        roles = {
            resource["Properties"]["Role"]["Fn::GetAtt"][0]: folder_of(source).rpartition("/")[2]
            for resource in resources.values()
            if resource["Type"] == "AWS::Lambda::Function"
            and (source := source_of(resource["Properties"].get("Handler", ""))) is not None
        }
        secrets = {
            name: _place(each) for name, each in resources.items() if each["Type"] == "AWS::SecretsManager::Secret"
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
    return found


def _place(resource: dict[str, Any]) -> str:
    return str(resource["Metadata"]["aws:cdk:path"]).partition("/")[2].removesuffix("/Resource")
