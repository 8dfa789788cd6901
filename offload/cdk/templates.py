"""The templates of environments, without a bundle or a guardrail: `python -m offload.cdk.templates NAME …` prints them.

What an environment's file leaves open is filled in (`Environment.filled_in`).
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path
from typing import Any

from aws_cdk import App
from aws_cdk.cx_api import CloudAssembly

from offload.cdk.app import compose_of_project
from offload.cdk.environment import Environment
from offload.cdk.refusal import Unusable
from offload.project import PROJECT


def assembly(environment: str, folder: Path, *, validated: bool = True) -> CloudAssembly:
    """Synthesizes the environment of this name into `folder`; raises UnusableEnvironment, and as `assembly_of` does."""
    return assembly_of(Environment.filled_in(environment), folder, validated=validated)


def assembly_of(environment: Environment, folder: Path, *, validated: bool = True) -> CloudAssembly:
    """Synthesizes an environment, as it is, into `folder`.

    Raises RuntimeError for what CloudFormation would refuse by the CDK's own rules, unless `validated` is False: they
    take five seconds of a process, which one that compares or lints the templates need not spend.
    """
    # An App outside of the command line does not read cdk.json.
    settings = PROJECT / "cdk.json"
    flags: dict[str, Any] = json.loads(settings.read_text(encoding="utf-8"))["context"]
    # With the constructs' paths, as the command line has them in what it deploys.
    context = flags | {"aws:cdk:bundling-stacks": [], "aws:cdk:enable-path-metadata": True}
    app = App(outdir=str(folder), context=context, builtin_cloud_formation_validation=validated)
    compose_of_project()(app, environment)
    return app.synth()


def main() -> None:
    """Prints a JSON object: for each environment of the arguments its templates by the stacks' names."""
    found: dict[str, dict[str, Any]] = {}
    try:
        with tempfile.TemporaryDirectory() as folder:
            for name in sys.argv[1:]:
                stacks = assembly(name, Path(folder, name)).stacks
                found[name] = {stack.stack_name: stack.template for stack in stacks}
    except Unusable as refusal:
        sys.exit(str(refusal))
    json.dump(found, sys.stdout)


if __name__ == "__main__":
    main()
