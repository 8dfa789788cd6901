"""The clinic's environments, with a customer-managed key or none, synthesized as they are deployed but unbundled."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec
from aws_cdk import App

from clinic.stack import compose as compose_clinic
from offload.cdk.constructs.python_function import ROOT_CONTEXT
from offload.cdk.environment import Environment
from offload.cdk.guardrails.templates import Resource, Template, Templates, listed
from offload.project import PROJECT
from tests.clinics import CLINIC

CONTEXT: dict[str, Any] = json.loads((PROJECT / "cdk.json").read_text(encoding="utf-8"))["context"]
UNBUNDLED: dict[str, Any] = {"aws:cdk:bundling-stacks": []}
EXISTING = "arn:aws:kms:eu-west-1:123456789012:key/11111111-2222-3333-4444-555555555555"


class Synthesized(Templates):
    """The templates of one app, and each of them."""

    def __init__(self, each: Sequence[Template], *, kms_key: str | None) -> None:
        super().__init__(each, kms_key=kms_key)
        self.each = list(each)

    @property
    def types(self) -> list[str]:
        """The CloudFormation types of all resources."""
        return sorted({body["Type"] for template in self.each for body in template.body["Resources"].values()})


def filled_in(name: str, root: Path = CLINIC) -> Environment:
    """An environment of the app in `root`, as it is filled in."""
    return Environment.filled_in(name, root / "environments")


def with_key(name: str, key: str | None, root: Path = CLINIC) -> Environment:
    """The same with `[data] kms_key`."""
    environment = filled_in(name, root)
    return msgspec.structs.replace(environment, data=msgspec.structs.replace(environment.data, kms_key=key))


def synthesized(
    environment: Environment,
    folder: Path,
    build: Callable[[App, Environment], object] = compose_clinic,
    root: Path = CLINIC,
    *,
    validated: bool = True,
) -> Synthesized:
    """What CloudFormation gets of the environment's app, whose project is in `root`; as `assembly_of` validates it."""
    context = CONTEXT | UNBUNDLED | {ROOT_CONTEXT: str(root)}
    app = App(outdir=str(folder), context=context, builtin_cloud_formation_validation=validated)
    build(app, environment)
    return Synthesized(
        [Template(stack.template_full_path, stack.stack_name, stack.template) for stack in app.synth().stacks],
        kms_key=environment.data.kms_key,
    )


def roles_of(templates: Templates, policy: Resource) -> Iterator[Resource]:
    """The app's roles that have a policy."""
    for name in listed(policy.properties.get("Roles")):
        role = templates.target(policy, name)
        if role is not None:
            yield role
