"""Composes the stacks of one environment."""

from __future__ import annotations

from aws_cdk import App, Tags

from stacks.environment import Environment
from stacks.platform import Platform
from stacks.shop import Shop


def compose(app: App, environment: Environment) -> None:
    """Adds the environment's stacks to the app."""
    environment.attach(app)
    platform = Platform(app, f"offload-{environment.name}-platform")
    Shop(app, f"offload-{environment.name}-shop", platform=platform)
    Tags.of(app).add("environment", environment.name)


def main() -> None:
    """Synthesizes the environment that `-c environment=NAME` names."""
    app = App()
    compose(app, Environment.load(app.node.try_get_context("environment")))
    app.synth()


if __name__ == "__main__":
    main()
