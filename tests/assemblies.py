"""The whole app of an environment, synthesized for the tests that only read what comes of it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from aws_cdk import App

from app import compose
from clinic.stack import compose as compose_clinic
from offload.cdk.constructs.python_function import ROOT_CONTEXT
from offload.cdk.environment import Environment
from offload.cdk.guardrails import guard
from offload.project import PROJECT
from tests.clinics import CLINIC

# An App under pytest does not read cdk.json, and would synthesize other templates than a deployment.
FLAGS: dict[str, Any] = json.loads((PROJECT / "cdk.json").read_text(encoding="utf-8"))["context"]
UNBUNDLED: dict[str, Any] = {"aws:cdk:bundling-stacks": []}
AT_CLINIC: dict[str, Any] = {ROOT_CONTEXT: str(CLINIC)}
"""For the clinic's functions and steps to be found."""

_PATHS: dict[str, Any] = {"aws:cdk:enable-path-metadata": True}

Templates = dict[str, dict[str, Any]]


def synthesize(environment: str, folder: Path) -> Path:
    """Synthesizes a filled-in environment of this project into the folder, without bundling; returns the folder.

    It is under its guardrails and with the constructs' paths, as the command line has it. What a guardrail refuses is
    in `validation-report.json` and raises nothing: a test of its own reads that.
    """
    app = App(outdir=str(folder), context=FLAGS | UNBUNDLED | _PATHS)
    return _synthesized(app, compose, Environment.filled_in(environment), folder)


def synthesize_clinic(environment: str, folder: Path) -> Path:
    """The same of the clinic."""
    app = App(outdir=str(folder), context=FLAGS | UNBUNDLED | _PATHS | AT_CLINIC)
    return _synthesized(app, compose_clinic, Environment.filled_in(environment, CLINIC / "environments"), folder)


def _synthesized(app: App, build: Callable[[App, Environment], None], environment: Environment, folder: Path) -> Path:
    guard(app)
    build(app, environment)
    try:
        app.synth()
    except RuntimeError as error:
        if not str(error).startswith("ValidationFailed"):
            raise
    return folder


def templates_in(assembly: Path) -> Templates:
    """An assembly's templates by their stacks' names."""
    return {
        file.name.removesuffix(".template.json"): json.loads(file.read_text(encoding="utf-8"))
        for file in sorted(assembly.glob("*.template.json"))
    }
