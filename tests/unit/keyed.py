"""Environments whose files name a customer-managed key, synthesized as they are deployed but without bundling."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec
from aws_cdk import App

from app import compose
from offload.cdk.environment import Environment
from offload.cdk.guardrails.templates import Resource, Template, Templates, listed

PROJECT = Path(__file__).resolve().parents[2]
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


def with_key(name: str, key: str | None) -> Environment:
    """An environment as it is filled in, with `[data] kms_key`."""
    environment = Environment.filled_in(name)
    return msgspec.structs.replace(environment, data=msgspec.structs.replace(environment.data, kms_key=key))


def synthesized(
    environment: Environment, folder: Path, build: Callable[[App, Environment], object] = compose
) -> Synthesized:
    """What CloudFormation gets of the environment's app."""
    app = App(outdir=str(folder), context=CONTEXT | UNBUNDLED)
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
