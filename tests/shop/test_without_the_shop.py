"""Taking the shop out of a clone: folders are deleted, a few lines are edited, and the framework's tests pass."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import pytest

from offload.project import PROJECT
from tests.apps import variables
from tests.patience import PATIENCE

WHOLE: Final = os.environ.get("OFFLOAD_PROVE") == "whole"

FOLDERS: Final = ("shop", "stacks", "lambdas", "schemas", "bench", "tests/shop")
"""What is the shop's."""
KEPT: Final = (
    "lambdas/__init__.py",
    "lambdas/requirements.in",
    "lambdas/constraints.txt",
    "schemas/permissions/calls.json",
)
"""What is in these folders and is every app's: the recorded calls are of the framework's functions too."""

EDITS: Final[Mapping[str, Mapping[str, str]]] = {
    # file: a line, and what becomes of it; without a text it is deleted
    "app.py": {
        "from shop.catalogue import CATALOGUE": "from offload.contracts.catalogue import Catalogue",
        "from stacks.shop import Shop": "",
        '    platform = Platform(app, f"offload-{environment.name}-platform", catalogue=CATALOGUE)': (
            '    Platform(app, f"offload-{environment.name}-platform", catalogue=Catalogue(""))'
        ),
        '    Shop(app, f"offload-{environment.name}-shop", platform=platform)': "",
    },
    "environments/dev.toml": {'unused = ["slack"]': ""},
    "pyproject.toml": {'catalogue = "shop.catalogue"': ""},
}
MOST_LINES: Final = 10

_TOOLS: Final = (".venv", ".offload", "node_modules")

FRACTION: Final = (
    "tests/unit/project/test_catalogue.py",
    "tests/unit/project/test_framework_and_app.py",
    "tests/unit/events/test_consumer.py",
    "tests/unit/jobs/test_jobs_client.py",
    "tests/unit/webhooks_in/test_webhook_verify.py",
    "tests/unit/webhooks_out/test_tenants.py",
    "tests/unit/cdk/test_recorded_calls.py",
)
"""Tests of each area; `make prove` runs all."""


def taken_out(folder: Path) -> Path:
    """A clone of this project as it is on disk, without the shop."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=PROJECT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.splitlines()
    for name in listed:
        if name not in KEPT and name.startswith(tuple(f"{each}/" for each in FOLDERS)):
            continue
        if (source := PROJECT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, folder / name, follow_symlinks=False)
    for tool in _TOOLS:
        (folder / tool).symlink_to(PROJECT / tool)
    for file, edits in EDITS.items():
        lines = (folder / file).read_text(encoding="utf-8").splitlines()
        assert edits.keys() <= set(lines), f"{file} has not all of the lines that are edited"
        edited = [edits.get(line, line) for line in lines if edits.get(line) != ""]
        (folder / file).write_text("\n".join(edited) + "\n", encoding="utf-8")
    return folder


def pytest_in(folder: Path, *arguments: str) -> str:
    """What pytest says in the folder; it must succeed."""
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *arguments],
        cwd=folder,
        env=variables() | {"PYTHONPATH": str(folder), "JSII_SILENCE_WARNING_UNTESTED_NODE_VERSION": "1"},
        capture_output=True,
        text=True,
        timeout=None if WHOLE else PATIENCE,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-20_000:] + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def without_the_shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return taken_out(tmp_path_factory.mktemp("without-the-shop"))


def test_it_is_a_few_lines() -> None:
    assert sum(map(len, EDITS.values())) <= MOST_LINES


@pytest.mark.slow
def test_every_test_of_the_framework_can_be_imported(without_the_shop: Path) -> None:
    listed = pytest_in(without_the_shop, "--collect-only", "tests")
    assert "tests/unit/events/test_consumer.py::" in listed
    assert "tests/local/test_jobs.py::" in listed
    assert "tests/shop" not in listed


@pytest.mark.slow
def test_the_tests_of_the_framework_pass(without_the_shop: Path) -> None:
    said = pytest_in(without_the_shop, *(["-n", "6", "tests"] if WHOLE else FRACTION))
    assert " passed" in said
