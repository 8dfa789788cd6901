"""Bundles of whole apps' functions, and Python with nothing else to import."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any, Final

from offload.cdk.bundling import Bundler, Target, modules_named_by
from offload.contracts.functions import folder_of, source_of
from tests.assemblies import templates_in
from tests.patience import PATIENCE

ARM: Final = Target.of("3.13", "arm64")

# What Lambda's own boto3 consists of.
_RUNTIME_PACKAGES: Final = ("boto3", "botocore", "s3transfer", "jmespath", "dateutil", "urllib3", "six.py")


def runtime_in(folder: Path) -> Path:
    """Fills a folder with boto3, what it needs and nothing else, as Lambda's runtime has it."""
    import boto3

    installed = Path(boto3.__file__).parents[1]
    for name in _RUNTIME_PACKAGES:
        (folder / name).symlink_to(installed / name)
    return folder


def run_bare(code: str, *paths: Path, variables: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    """Runs `code` where the standard library and `paths` are all there is to import."""
    start = f"import sys; sys.path[:0] = {[str(path) for path in paths]!r}\n"
    return subprocess.run(
        [sys.executable, "-I", "-S", "-B", "-c", start + code],
        env={"AWS_REGION": "us-east-1", "AWS_DEFAULT_REGION": "us-east-1", **(variables or {})},
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )


def variables_in(assembly: Path) -> dict[str, dict[str, str]]:
    """By function, the environment variables that the app gives it; what only a deployment knows is "deployed"."""
    found: dict[str, dict[str, str]] = {}
    for template in templates_in(assembly).values():
        for resource in template.get("Resources", {}).values():
            properties: dict[str, Any] = resource.get("Properties", {})
            if source := source_of(str(properties.get("Handler", ""))):
                variables = properties.get("Environment", {}).get("Variables", {})
                found[source] = {name: _known(value) for name, value in variables.items()}
    return found


def _known(value: Any) -> str:
    """A variable's value, with "deployed" for each part of it that only a deployment knows."""
    if isinstance(value, str):
        return value
    return "".join(map(_known, value["Fn::Join"][1])) if "Fn::Join" in value else "deployed"


def check_that_it_imports(root: Path, source: str, variables: dict[str, str], runtime: Path) -> None:
    """The bundle of a function of the project in `root` imports its handler, beside the runtime's boto3 alone."""
    bundle = Bundler(root).bundle(source, Target.of("host", "host"), reaches=modules_named_by(variables))
    module, _, name = bundle.handler.rpartition(".")
    code = f"import importlib\nassert callable(importlib.import_module({module!r}).{name})"
    done = run_bare(code, bundle.path, runtime, variables=variables)
    assert done.returncode == 0, done.stderr


def check_its_wheels(root: Path, source: str) -> None:
    """A function's bundle for AWS has its handler, and boto3 where the function asks for its own."""
    bundler = Bundler(root)
    path = bundler.bundle(source, ARM).path
    assert (path / folder_of(source) / "handler.py").is_file()
    asks = bundler.project.path_of(f"{folder_of(source)}/requirements.txt")
    asked = asks.is_file() and "boto3==" in asks.read_text(encoding="utf-8")
    assert (path / "boto3").exists() == asked


def held(bundle: Path, package: str) -> set[str]:
    """The modules of a package that a bundle has."""
    return {path.relative_to(bundle).as_posix() for path in (bundle / package).rglob("*.py")}
