"""Copies of the environment `local`, each on an embedded AWS of its own, and nothing of them left afterwards."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from offload.operate.embedded import PROJECT, STATE_VARIABLE
from offload.operate.embedded.deploy import synthesize
from offload.operate.embedded.process import EmbeddedAws, free_port
from offload.operate.embedded.up import bring_up
from offload.operate.resources import Deployment

_COMMAND_WITHIN = 300  # seconds


@dataclass(frozen=True)
class Copy:
    """One deployed copy: its embedded AWS, what is on it, and the command line that operates it."""

    embedded: EmbeddedAws
    deployment: Deployment

    def offload(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Runs the `offload` command on this copy."""
        return run_offload(arguments, self.embedded.root)


def run_offload(arguments: Sequence[str], state: Path) -> subprocess.CompletedProcess[str]:
    """Runs the `offload` command as a person would, on the copy whose state is in the folder."""
    return subprocess.run(
        [sys.executable, "-c", "from offload.operate.command_line import main; main()", *arguments],
        env=os.environ | {STATE_VARIABLE: str(state), "PYTHONPATH": str(PROJECT), "COLUMNS": "200"},
        cwd=PROJECT,
        capture_output=True,
        text=True,
        timeout=_COMMAND_WITHIN,
        check=False,
    )


@pytest.fixture(scope="session")
def assembly(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The environment `local`, synthesized once."""
    folder = tmp_path_factory.mktemp("assembly") / "cdk.out"
    synthesize(folder)
    return folder


@pytest.fixture(scope="session")
def deployed(tmp_path_factory: pytest.TempPathFactory, assembly: Path) -> Iterator[Copy]:
    """The app on an embedded AWS, shared by the tests of a session."""
    yield from a_copy(tmp_path_factory.mktemp("embedded"), assembly)


@pytest.fixture(scope="session")
def deployed_with_iam(tmp_path_factory: pytest.TempPathFactory, assembly: Path) -> Iterator[Copy]:
    """The app on an embedded AWS that speaks TLS and enforces every function's role."""
    yield from a_copy(tmp_path_factory.mktemp("embedded-iam"), assembly, auth=True)


def a_copy(root: Path, assembly: Path, *, auth: bool = False, persist: bool = False) -> Iterator[Copy]:
    """Brings up a copy from an assembly, hands it over, and stops it with all of its workers whatever happens."""
    if auth and shutil.which("openssl", path="/usr/bin:/bin") is None:
        pytest.skip("the emulator makes its certificate with openssl, which is not installed")
    embedded = EmbeddedAws(root, port=free_port(), auth=auth, persist=persist)
    try:
        yield Copy(embedded, bring_up(embedded, assembly=assembly))
    finally:
        embedded.stop()
