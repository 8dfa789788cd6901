"""An app of one environment's stacks: what app.py runs, and what checks of its templates find in it."""

from __future__ import annotations

import functools
import importlib
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Final, TypeAlias

from aws_cdk import App, Tags

from offload.cdk.bundling.target import HOST
from offload.cdk.environment import Environment
from offload.cdk.guardrails import guard, synthesize
from offload.cdk.patterns.integration import Integration
from offload.cdk.references import name_outputs_by_definition
from offload.cdk.refusal import Unusable
from offload.project import PROJECT, Project

Compose: TypeAlias = Callable[[App, Environment], None]

_FILE: Final = "app.py"


def composition(stacks: Compose) -> Compose:
    """Makes a function that adds an environment's stacks to an app into the composition of that app.

    The stacks are in the environment, tagged with its name; what the environment's file says of integrations is held
    to those that there are.
    """

    @functools.wraps(stacks)
    def compose(app: App, environment: Environment) -> None:
        environment.attach(app)
        stacks(app, environment)
        Integration.check_unused(app)
        Tags.of(app).add("environment", environment.name)

    return compose


def run(compose: Compose) -> None:
    """Synthesizes the environment that `-c environment=NAME` names.

    A refusal is its report or its one line, and exit code 1.
    """
    app = App()
    guard(app)
    try:
        environment = Environment.load(app.node.try_get_context("environment"))
        if missing := environment.missing():
            sys.exit("\n".join(f"offload: {line}" for line in missing))
        compose(app, environment)
        synthesize(app, on_aws=environment.functions.architecture != HOST)
        name_outputs_by_definition(Path(app.outdir))
    except Unusable as refusal:
        sys.exit(f"offload: {refusal}")


def compose_of_project() -> Compose:
    """The `compose` of the project's app.py; raises Unusable when there is none."""
    file = PROJECT / _FILE
    if not file.is_file():
        raise Unusable(f"{file}: there is no such file: run it in the folder of an app")
    Project.at(PROJECT).make_importable()
    compose: Compose | None = getattr(importlib.import_module(file.stem), "compose", None)
    if compose is None:
        raise Unusable(f"{file}: defines no `compose`: write a function of (app, environment) with @composition")
    return compose
