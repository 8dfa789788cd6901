"""Composes the stacks of one environment."""

from __future__ import annotations

from aws_cdk import App

from offload.cdk import Environment, Platform, composition, run
from shop.catalogue import CATALOGUE
from stacks.shop import Shop


@composition
def compose(app: App, environment: Environment) -> None:
    """Adds the environment's stacks to the app."""
    platform = Platform(app, f"offload-{environment.name}-platform", catalogue=CATALOGUE)
    Shop(app, f"offload-{environment.name}-shop", platform=platform)


if __name__ == "__main__":
    run(compose)
