"""Composes the stacks of one environment."""

from __future__ import annotations

import sys
from pathlib import Path

from aws_cdk import App, Tags

from shop.catalogue import CATALOGUE
from stacks.bundling import BundlingError
from stacks.bundling.target import HOST
from stacks.environment import Environment, UnusableEnvironment
from stacks.guardrails import guard, synthesize
from stacks.patterns.background_job import UnusableJobType
from stacks.patterns.integration import Integration, UnusableIntegration
from stacks.patterns.monolith_access import UnusableMonolith
from stacks.patterns.webhook_receiver import UnusableProvider
from stacks.platform import Platform
from stacks.references import UnusableAssembly, name_outputs_by_definition
from stacks.shop import Shop


def compose(app: App, environment: Environment) -> None:
    """Adds the environment's stacks to the app."""
    environment.attach(app)
    platform = Platform(app, f"offload-{environment.name}-platform", catalogue=CATALOGUE)
    Shop(app, f"offload-{environment.name}-shop", platform=platform)
    Integration.check_unused(app)
    Tags.of(app).add("environment", environment.name)


def main() -> None:
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
    except (
        UnusableEnvironment,
        UnusableJobType,
        UnusableIntegration,
        UnusableProvider,
        UnusableMonolith,
        BundlingError,
    ) as refusal:
        sys.exit(f"offload: {refusal}")
    synthesize(app, on_aws=environment.functions.architecture != HOST)
    try:
        name_outputs_by_definition(Path(app.outdir))
    except UnusableAssembly as refusal:
        sys.exit(f"offload: {refusal}")


if __name__ == "__main__":
    main()
