"""The part of pytest: records the calls of a run, says which of them the record does not have, and fails for one that
the function's role does not allow.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Final

import pytest

from offload.cdk.permissions.record import RECORD, Record, read_lines
from tests.calls.recording import FOLDER_VARIABLE, Recorder, caller

_WORKER: Final = Path(__file__).parent / "worker"
_UNASKED: Final = "OFFLOAD_CALLS_UNASKED"
_NEW: Final = pytest.StashKey[list[str]]()
_REFUSED: Final = pytest.StashKey[list[str]]()
_OWN_FOLDER: Final = pytest.StashKey[tempfile.TemporaryDirectory[str]]()
_recorders: Final[list[Recorder]] = []


def pytest_configure(config: pytest.Config) -> None:
    """Begins to record: into the folder that `make calls` or the first process of this run names, or its own."""
    if FOLDER_VARIABLE not in os.environ:
        config.stash[_OWN_FOLDER] = tempfile.TemporaryDirectory(prefix="offload-calls-")
        os.environ[FOLDER_VARIABLE] = config.stash[_OWN_FOLDER].name
        os.environ[_UNASKED] = "1"
    if not _recorders:
        _recorders.append(Recorder(os.environ[FOLDER_VARIABLE], caller))
        _recorders[0].install()
        _remember_variables(_recorders[0])


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Compares with the record, once for all processes of the run; `make calls` writes it instead."""
    folder = session.config.stash.get(_OWN_FOLDER, None)
    if folder is None or "PYTEST_XDIST_WORKER" in os.environ:
        return
    with folder:
        lines = list(read_lines(Path(folder.name)))
    del os.environ[FOLDER_VARIABLE]
    os.environ.pop(_UNASKED, None)
    record = Record.read(RECORD)
    session.config.stash[_NEW] = new = record.new(lines)
    session.config.stash[_REFUSED] = []
    if new:
        # Here: it brings the CDK, which most runs do without.
        from offload.cdk.permissions.__main__ import examined

        # A new call alone is no failure: on a slow machine functions retry and give up, which a quick one never sees.
        before, after = examined(record, record.with_known(lines))
        refused = [each for each in after.missing if each not in before.missing]
        session.config.stash[_REFUSED] = refused
        if refused and session.exitstatus == pytest.ExitCode.OK:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Says which calls are new, and what to do."""
    new = config.stash.get(_NEW, [])
    if not new:
        return
    terminalreporter.section("calls to AWS that are not in the record", yellow=True, bold=True)
    for line in new:
        terminalreporter.line(line)
    for line in config.stash[_REFUSED]:
        terminalreporter.line(line, red=True)
    terminalreporter.line(
        f"Functions made {len(new)} calls that {RECORD.name} does not have. Are they meant? Then `make calls` writes"
        " them down, and `make check-permissions` says whether the functions' roles allow them (docs/permissions.md)."
    )


def _remember_variables(recorder: Recorder) -> None:
    set_variable = pytest.MonkeyPatch.setenv

    def setenv(patch: pytest.MonkeyPatch, name: str, value: str, prepend: str | None = None) -> None:
        recorder.names.was_set(name, value)
        set_variable(patch, name, value, prepend)

    pytest.MonkeyPatch.setenv = setenv  # type: ignore[method-assign, assignment]


def tell(name: str, variable: str) -> None:
    """What a test hands to a function's code itself has its name from this variable, where it is deployed."""
    for recorder in _recorders:
        recorder.names.tell(name, variable)


def worker_variables() -> dict[str, str]:
    """What the environment of an embedded AWS needs, so that its functions' calls are recorded, as `make calls` asks.

    Other runs do without: there it would only make each cold start of a function longer.
    """
    if _UNASKED in os.environ:
        return {}
    return {"PYTHONPATH": str(_WORKER), FOLDER_VARIABLE: os.environ[FOLDER_VARIABLE]}
