"""Copies of the environment `local` of an app, each on an embedded AWS of its own, and nothing of them left afterwards.

The fixtures are made here once. A folder of tests takes them into its conftest.py, with a fixture `app` of its own:
those of `tests/local` are of the clinic, those of `tests/shop/local` of the shop.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from offload.cli.deployment.aws import LOCAL, Aws
from offload.cli.deployment.resources import Deployment
from offload.cli.deployment.status import depth, depths
from offload.cli.jobs.service import jobs_of
from offload.cli.local.deploy import synthesize
from offload.cli.local.place import STATE_VARIABLE
from offload.cli.local.process import EmbeddedAws, free_port
from offload.cli.local.up import bring_up
from offload.client.publisher import Retries
from offload.contracts.jobs.job_type import JobType
from offload.project import PROJECT
from tests.calls.plugin import worker_variables
from tests.patience import PATIENCE

RETRIES = Retries(deadline=PATIENCE)
"""Of a client: on a slow machine the embedded AWS takes longer for an answer than AWS ever does."""

_LOG_LINES_SHOWN = 60
_running: list[EmbeddedAws] = []
"""What a failed test's report shows the logs of."""


@dataclass(frozen=True)
class App:
    """An app that is deployed: its folders of a run are called by its name."""

    name: str
    project: Path
    job_types: Iterable[JobType[Any, Any]]


@dataclass(frozen=True)
class Copy:
    """One deployed copy: its embedded AWS, what is on it, and the command line that operates it."""

    embedded: EmbeddedAws
    deployment: Deployment
    project: Path = PROJECT
    """The app's folder."""

    def offload(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Runs the `offload` command on this copy, in the app's folder."""
        return run_offload(arguments, self.embedded.root, self.project)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Shows with a test that failed what the embedded AWS said: where it ran elsewhere, its files are gone."""
    report = yield
    if report.failed:
        for embedded in _running:
            for log in (embedded.log, embedded.durable_log):
                report.sections.append((f"end of {log}", _end_of(log)))
    return report


@pytest.fixture(scope="session")
def folder_of_the_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that all processes of this run share."""
    base = tmp_path_factory.getbasetemp()
    # pytest-xdist gives each of them a folder in a common one.
    return base.parent if "PYTEST_XDIST_WORKER" in os.environ else base


@pytest.fixture(scope="session")
def assembly(folder_of_the_run: Path, app: App) -> Path:
    """The environment `local`, synthesized once."""
    return made_once(folder_of_the_run / f"{app.name}-out", lambda folder: synthesize(folder, project=app.project))


@pytest.fixture(scope="session")
def brought_up(folder_of_the_run: Path, assembly: Path, app: App) -> Path:
    """The folder of an embedded AWS, stopped, to which the app was deployed once."""
    return made_once(folder_of_the_run / f"{app.name}-up", lambda folder: _bring_up_and_stop(folder, assembly, app))


@pytest.fixture(scope="session")
def brought_up_with_iam(folder_of_the_run: Path, assembly: Path, app: App) -> Path:
    """The same, deployed over TLS and with IAM enforced."""
    return made_once(
        folder_of_the_run / f"{app.name}-up-with-iam",
        lambda folder: _bring_up_and_stop(folder, assembly, app, auth=True),
    )


@pytest.fixture(scope="session")
def deployed(tmp_path_factory: pytest.TempPathFactory, brought_up: Path, app: App) -> Iterator[Copy]:
    """The app on an embedded AWS, shared by the tests of a session."""
    yield from a_copy(tmp_path_factory.mktemp("embedded"), brought_up, app.project)


@pytest.fixture(scope="session")
def deployed_with_iam(tmp_path_factory: pytest.TempPathFactory, brought_up_with_iam: Path, app: App) -> Iterator[Copy]:
    """The app on an embedded AWS that speaks TLS and enforces every function's role."""
    yield from a_copy(tmp_path_factory.mktemp("embedded-iam"), brought_up_with_iam, app.project, auth=True)


@pytest.fixture
def copy(tmp_path: Path, brought_up: Path, app: App) -> Iterator[Copy]:
    """The app on an embedded AWS of this test's own, with empty tables."""
    yield from a_copy(tmp_path / "embedded", brought_up, app.project)


def _end_of(log: Path) -> str:
    """The last lines of a log, without those that functions wrote."""
    try:
        lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
    except FileNotFoundError:
        return "it was not written"
    return "\n".join([line for line in lines if not line.startswith("{")][-_LOG_LINES_SHOWN:])


def run_offload(arguments: Sequence[str], state: Path, project: Path) -> subprocess.CompletedProcess[str]:
    """Runs the `offload` command as a person would in a project, on the copy whose state is in the folder."""
    return subprocess.run(
        [sys.executable, "-c", "from offload.cli.main import main; main()", *arguments],
        env=os.environ | {STATE_VARIABLE: str(state), "PYTHONPATH": str(PROJECT), "COLUMNS": "200"},
        cwd=project,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )


def settled(deployment: Deployment, *, besides: Sequence[str] = ()) -> bool:
    """Whether no consumer's queue holds anything, but for those of the consumers that are left out."""
    # While one holds something, the others need not be asked, thirty calls a look.
    consumers = [consumer for consumer in deployment.consumers() if consumer.name not in besides]
    if any(depth(deployment.aws, consumer.queue_url).all for consumer in consumers):
        return False
    return all(queues.queue.all == 0 for queues in depths(deployment) if queues.consumer not in besides)


@contextmanager
def variables_set(copy: Copy, folder: str, changes: Mapping[str, str]) -> Iterator[None]:
    """A deployed function's variables, changed for a while."""
    functions = copy.deployment.aws.lambda_
    name = copy.deployment.function(folder).function_name
    before = functions.get_function_configuration(FunctionName=name)["Environment"]["Variables"]
    functions.update_function_configuration(FunctionName=name, Environment={"Variables": {**before, **changes}})
    try:
        yield
    finally:
        functions.update_function_configuration(FunctionName=name, Environment={"Variables": before})


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


def _bring_up_and_stop(folder: Path, assembly: Path, app: App, *, auth: bool = False) -> None:
    """Deploys an assembly to an embedded AWS in the folder, and stops it, its state written.

    Jobs of the clock would be among those of a test that runs at their time.
    """
    embedded = EmbeddedAws(folder, port=free_port(), auth=auth, project=app.project, variables=worker_variables())
    try:
        deployment = bring_up(embedded, assembly=assembly)
        with jobs_of(deployment) as jobs:
            for job_type in app.job_types:
                if job_type.schedule:
                    jobs.pause(job_type.name)
    finally:
        stopped = embedded.stop()
    assert stopped is not None
    assert stopped.clean, "the embedded AWS did not write its state: nothing to copy"


def a_copy(root: Path, brought_up: Path, project: Path, *, auth: bool = False) -> Iterator[Copy]:
    """Starts an embedded AWS with a copy of what was brought up, and stops it with all of its workers in the end.

    `project` is the app's folder.
    """
    shutil.copytree(brought_up, root, symlinks=True, dirs_exist_ok=True)
    embedded = EmbeddedAws(root, port=free_port(), auth=auth, project=project, variables=worker_variables())
    _running.append(embedded)
    try:
        instance = embedded.start()
        embedded.await_durable_runner(instance)
        yield Copy(embedded, Deployment(Aws(LOCAL, instance)), project)
    finally:
        _running.remove(embedded)
        # Killed: nobody takes up a copy's state, so it need not be written.
        if running := embedded.running():
            os.kill(running.pid, signal.SIGKILL)
        embedded.stop()
        # Its logs stay; a hundred megabytes a copy do not.
        embedded.clear()
