"""Copies of the environment `local`, each on an embedded AWS of its own, and nothing of them left afterwards."""

from __future__ import annotations

import fcntl
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from offload.cli.deployment.aws import LOCAL, Aws
from offload.cli.deployment.resources import Deployment
from offload.cli.jobs.service import jobs_of
from offload.cli.local.deploy import synthesize
from offload.cli.local.place import STATE_VARIABLE
from offload.cli.local.process import EmbeddedAws, free_port
from offload.cli.local.up import bring_up
from offload.client.publisher import Retries
from offload.project import PROJECT
from shop.catalogue import CATALOGUE
from tests.calls.plugin import worker_variables
from tests.patience import PATIENCE

RETRIES = Retries(deadline=PATIENCE)
"""Of a client: on a slow machine the embedded AWS takes longer for an answer than AWS ever does."""

_LOG_LINES_SHOWN = 60
_running: list[EmbeddedAws] = []
"""What a failed test's report shows the logs of."""


@dataclass(frozen=True)
class Copy:
    """One deployed copy: its embedded AWS, what is on it, and the command line that operates it."""

    embedded: EmbeddedAws
    deployment: Deployment

    def offload(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Runs the `offload` command on this copy."""
        return run_offload(arguments, self.embedded.root)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Shows with a test that failed what the embedded AWS said: where it ran elsewhere, its files are gone."""
    report = yield
    if report.failed:
        for embedded in _running:
            for log in (embedded.log, embedded.durable_log):
                report.sections.append((f"end of {log}", _end_of(log)))
    return report


def _end_of(log: Path) -> str:
    """The last lines of a log, without those that functions wrote."""
    try:
        lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
    except FileNotFoundError:
        return "it was not written"
    return "\n".join([line for line in lines if not line.startswith("{")][-_LOG_LINES_SHOWN:])


def run_offload(arguments: Sequence[str], state: Path) -> subprocess.CompletedProcess[str]:
    """Runs the `offload` command as a person would, on the copy whose state is in the folder."""
    return subprocess.run(
        [sys.executable, "-c", "from offload.cli.main import main; main()", *arguments],
        env=os.environ | {STATE_VARIABLE: str(state), "PYTHONPATH": str(PROJECT), "COLUMNS": "200"},
        cwd=PROJECT,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )


@pytest.fixture(scope="session")
def folder_of_the_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that all processes of this run share."""
    base = tmp_path_factory.getbasetemp()
    # pytest-xdist gives each of them a folder in a common one.
    return base.parent if "PYTEST_XDIST_WORKER" in os.environ else base


@pytest.fixture(scope="session")
def assembly(folder_of_the_run: Path) -> Path:
    """The environment `local`, synthesized once."""
    return made_once(folder_of_the_run / "cdk.out", synthesize)


@pytest.fixture(scope="session")
def brought_up(folder_of_the_run: Path, assembly: Path) -> Path:
    """The folder of an embedded AWS, stopped, to which the app was deployed once."""
    return made_once(folder_of_the_run / "brought-up", lambda folder: bring_up_and_stop(folder, assembly))


@pytest.fixture(scope="session")
def brought_up_with_iam(folder_of_the_run: Path, assembly: Path) -> Path:
    """The same, deployed over TLS and with IAM enforced."""
    if shutil.which("openssl", path="/usr/bin:/bin") is None:
        pytest.skip("the emulator makes its certificate with openssl, which is not installed")
    folder = folder_of_the_run / "brought-up-with-iam"
    return made_once(folder, lambda folder: bring_up_and_stop(folder, assembly, auth=True))


def made_once(folder: Path, make: Callable[[Path], None]) -> Path:
    """The folder, made by the first process that asks for it, for which the others wait."""
    with folder.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not folder.exists():
            draft = folder.with_suffix(".draft")
            # Of a process that asked before and failed.
            shutil.rmtree(draft, ignore_errors=True)
            make(draft)
            draft.rename(folder)
    return folder


def bring_up_and_stop(folder: Path, assembly: Path, *, auth: bool = False) -> None:
    """Deploys an assembly to an embedded AWS in the folder, and stops it, its state written."""
    embedded = EmbeddedAws(folder, port=free_port(), auth=auth, variables=worker_variables())
    try:
        deployment = bring_up(embedded, assembly=assembly)
        # Jobs of the clock would be among those of a test that runs at their time.
        with jobs_of(deployment) as jobs:
            for job_type in CATALOGUE.job_types.values():
                if job_type.schedule:
                    jobs.pause(job_type.name)
    finally:
        stopped = embedded.stop()
    assert stopped is not None
    assert stopped.clean, "the embedded AWS did not write its state: nothing to copy"


@pytest.fixture(scope="session")
def deployed(tmp_path_factory: pytest.TempPathFactory, brought_up: Path) -> Iterator[Copy]:
    """The app on an embedded AWS, shared by the tests of a session."""
    yield from a_copy(tmp_path_factory.mktemp("embedded"), brought_up)


@pytest.fixture(scope="session")
def deployed_with_iam(tmp_path_factory: pytest.TempPathFactory, brought_up_with_iam: Path) -> Iterator[Copy]:
    """The app on an embedded AWS that speaks TLS and enforces every function's role."""
    yield from a_copy(tmp_path_factory.mktemp("embedded-iam"), brought_up_with_iam, auth=True)


@pytest.fixture
def copy(tmp_path: Path, brought_up: Path) -> Iterator[Copy]:
    """The app on an embedded AWS of this test's own, with empty tables."""
    yield from a_copy(tmp_path / "embedded", brought_up)


def a_copy(root: Path, brought_up: Path, *, auth: bool = False) -> Iterator[Copy]:
    """Starts an embedded AWS with a copy of what was brought up, and stops it with all of its workers in the end."""
    shutil.copytree(brought_up, root, symlinks=True, dirs_exist_ok=True)
    embedded = EmbeddedAws(root, port=free_port(), auth=auth, variables=worker_variables())
    _running.append(embedded)
    try:
        instance = embedded.start()
        embedded.await_durable_runner(instance)
        yield Copy(embedded, Deployment(Aws(LOCAL, instance)))
    finally:
        _running.remove(embedded)
        # Killed: nobody takes up a copy's state, so it need not be written.
        if running := embedded.running():
            os.kill(running.pid, signal.SIGKILL)
        embedded.stop()
        # Its logs stay; a hundred megabytes a copy do not.
        embedded.clear()
