"""The whole app of an environment, synthesized for the tests that only read what comes of it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from aws_cdk import App

from app import compose
from offload.cdk.environment import Environment
from offload.cdk.guardrails import guard

PROJECT = Path(__file__).resolve().parents[1]
# An App under pytest does not read cdk.json, and would synthesize other templates than a deployment.
FLAGS: dict[str, Any] = json.loads((PROJECT / "cdk.json").read_text(encoding="utf-8"))["context"]
UNBUNDLED: dict[str, Any] = {"aws:cdk:bundling-stacks": []}

Templates = dict[str, dict[str, Any]]


def synthesize(environment: str, folder: Path) -> Path:
    """Synthesizes a filled-in environment into the folder, without bundling; returns the folder.

    It is under its guardrails and with the constructs' paths, as the command line has it. What a guardrail refuses is
    in `validation-report.json` and raises nothing: a test of its own reads that.
    """
    app = App(outdir=str(folder), context=FLAGS | UNBUNDLED | {"aws:cdk:enable-path-metadata": True})
    guard(app)
    compose(app, Environment.filled_in(environment))
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
