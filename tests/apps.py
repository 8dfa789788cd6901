"""Apps that generators wrote into a folder, run with this framework."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any, Final

from offload.project import PROJECT
from tests.patience import PATIENCE

_SYNTH: Final = """
import json, sys
from aws_cdk import App
from app import compose
from offload.cdk import Environment, guard
flags = json.load(open("cdk.json"))["context"] | {"aws:cdk:bundling-stacks": []}
app = App(context=flags)
guard(app)
compose(app, Environment.filled_in(sys.argv[1]))
print(json.dumps({stack.stack_name: stack.template["Resources"] for stack in app.synth().stacks}))
"""


OFFLOAD: Final = ("-c", "from offload.cli.main import main; main()")
"""The command, as arguments of Python's."""


def variables() -> dict[str, str]:
    """This process's environment without what is this project's own."""
    ours = ("OFFLOAD_", "AWS_", "PYTEST_", "PYTHONPATH", "VIRTUAL_ENV")
    return {name: value for name, value in os.environ.items() if not name.startswith(ours)}


def python(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Runs Python in an app's folder, with the app and this framework on its path."""
    return subprocess.run(
        [sys.executable, "-P", *arguments],
        cwd=folder,
        env=variables() | {"PYTHONPATH": f"{folder}:{PROJECT}", "JSII_SILENCE_WARNING_UNTESTED_NODE_VERSION": "1"},
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )


def printed(folder: Path, *arguments: str) -> str:
    """What Python prints in an app's folder; it must succeed."""
    done = python(folder, *arguments)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def resources_of(folder: Path, environment: str) -> dict[str, dict[str, Any]]:
    """The resources of an app's stacks in an environment, as the guardrails take them."""
    found: dict[str, dict[str, Any]] = json.loads(printed(folder, "-c", _SYNTH, environment).splitlines()[-1])
    return found
