"""The templates that a deploy would bring, as the CDK writes them."""

from __future__ import annotations

import json
import os
import subprocess
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from offload.cli.deployment.failure import Failure
from offload.project import PROJECT

SYNTH_WITHIN = 600.0
"""Seconds; seen 6 to 20 on an idle machine, 250 on one with ten times its cores' work."""


@dataclass(frozen=True)
class Kept:
    """What the environment's file says of its place and its data; None is not said.

    `others` are the environments whose names begin with this one's: `dev-2` of `dev`.
    """

    environment: str
    account: str | None = None
    region: str | None = None
    email: str | None = None
    keep: bool = False
    others: tuple[str, ...] = ()


@dataclass(frozen=True)
class NewStack:
    """One stack as it would be deployed."""

    name: str
    template: Mapping[str, Any]
    termination_protection: bool = False

    @property
    def resources(self) -> Mapping[str, Mapping[str, Any]]:
        """Its resources by logical id."""
        found: Mapping[str, Mapping[str, Any]] = self.template.get("Resources", {})
        return found


@dataclass(frozen=True)
class Assembly:
    """What a deploy would bring: stacks, and the version of the CDK's bootstrap that they need, by its parameter."""

    stacks: tuple[NewStack, ...] = ()
    bootstrap: Mapping[str, int] | None = None

    def types(self) -> dict[str, frozenset[str]]:
        """Every resource type of AWS's own in the templates, with the properties that they set."""
        found: dict[str, frozenset[str]] = {}
        for stack in self.stacks:
            for body in stack.resources.values():
                kind = str(body["Type"])
                if kind.startswith("AWS::") and kind not in {
                    "AWS::CDK::Metadata",
                    "AWS::CloudFormation::CustomResource",
                }:
                    found[kind] = found.get(kind, frozenset()) | frozenset(body.get("Properties", {}))
        return found


def of_file(environment: str, *, project: Path = PROJECT) -> Kept:
    """What `environments/NAME.toml` says; raises Failure when there is none or it is not TOML.

    Its other settings are checked by the synthesis.
    """
    folder = project / "environments"
    path = folder / f"{environment}.toml"
    known = sorted(each.stem for each in folder.glob("*.toml"))
    if not path.is_file():
        raise Failure(f"no environment '{environment}' (known: {', '.join(known)})")
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise Failure(f"environments/{path.name}: {error}") from error
    aws, alarms, data = content.get("aws", {}), content.get("alarms", {}), content.get("data", {})
    return Kept(
        environment,
        account=aws.get("account"),
        region=aws.get("region"),
        email=alarms.get("email"),
        keep=data.get("keep") is True,
        others=tuple(name for name in known if name.startswith(f"{environment}-")),
    )


def synthesize(environment: str, into: Path, *, project: Path = PROJECT) -> None:
    """Synthesizes an environment into the folder `into`, without bundling the functions' code and without credentials.

    Raises Failure with the app's own lines when it refuses.
    """
    flags = json.loads((project / "cdk.json").read_text(encoding="utf-8"))["context"]
    context = flags | {"environment": environment, "aws:cdk:bundling-stacks": []}
    python = project / ".venv" / "bin" / "python"
    without_aws = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "CDK_"))}
    try:
        done = subprocess.run(
            [python, "app.py"],
            cwd=project,
            env=without_aws
            | {
                "PATH": f"{project / '.venv' / 'bin'}{os.pathsep}{os.environ.get('PATH', os.defpath)}",
                "CDK_OUTDIR": str(into),
                "CDK_CONTEXT_JSON": json.dumps(context),
                "JSII_SILENCE_WARNING_UNTESTED_NODE_VERSION": "1",
            },
            capture_output=True,
            text=True,
            timeout=SYNTH_WITHIN,
            check=False,
        )
    except subprocess.TimeoutExpired as late:
        raise Failure(f"the synthesis of {environment} was not done after {SYNTH_WITHIN:.0f} s") from late
    if done.returncode != 0:
        said = [line for line in done.stderr.splitlines() if line.strip()]
        own = [line.removeprefix("offload: ") for line in said if line.startswith("offload: ")]
        raise Failure("\n".join(own or said[-20:]) or f"app.py ended with exit code {done.returncode}")


def read(folder: Path, environment: str) -> Assembly:
    """Reads an assembly; raises Failure when the folder has none, or one of another environment."""
    try:
        manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise Failure(f"{folder}: no assembly of the CDK ({error}); run `make synth ENV={environment}`") from error
    stacks: list[NewStack] = []
    bootstrap: dict[str, int] = {}
    for name, artifact in manifest["artifacts"].items():
        properties = artifact.get("properties", {})
        if parameter := properties.get("bootstrapStackVersionSsmParameter"):
            needed = int(properties.get("requiresBootstrapStackVersion", 0))
            bootstrap[parameter] = max(needed, bootstrap.get(parameter, 0))
        if artifact["type"] == "aws:cloudformation:stack":
            template = json.loads((folder / properties["templateFile"]).read_text(encoding="utf-8"))
            stack = str(properties.get("stackName", name))
            stacks.append(NewStack(stack, template, properties.get("terminationProtection") is True))
    prefix = f"offload-{environment}-"
    others = [stack.name for stack in stacks if not stack.name.startswith(prefix)]
    if others or not stacks:
        has = ", ".join(others) or "no stack"
        raise Failure(f"{folder}: not an assembly of {environment}: it has {has}; run `make synth ENV={environment}`")
    return Assembly(tuple(stacks), bootstrap)
