"""An app made by `offload new app` of the built wheel, as its README's commands run it in an empty folder."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from offload.project import PROJECT
from tests.apps import variables
from tests.package.test_package import Installed, build
from tests.patience import PATIENCE, until


class NewApp:
    """The app's folder, and its commands, with an environment that knows nothing of this project's."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        kept = variables()
        elsewhere = [each for each in kept["PATH"].split(os.pathsep) if not Path(each).is_relative_to(PROJECT)]
        self._variables = kept | {"PATH": os.pathsep.join(elsewhere), "PYTHON": sys.executable}

    def run(self, *command: str, given: str = "") -> str:
        """What a command prints; it must succeed."""
        done = subprocess.run(
            command,
            cwd=self.folder,
            env=self._variables,
            input=given,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout


@pytest.fixture(scope="module")
def clinic(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NewApp]:
    folder = tmp_path_factory.mktemp("user")
    build(folder / "dist")
    [wheel] = (folder / "dist").glob("*.whl")
    installed = Installed(folder / "venv", f"{wheel}[cli]")
    NewApp(folder).run(str(installed.python.with_name("offload")), "new", "app", "clinic")
    app = NewApp(folder / "clinic")
    try:
        yield app
    finally:
        app.run("make", "down")


@pytest.mark.long
def test_both_commands_work_at_once_and_an_event_and_a_job_go_through(clinic: NewApp) -> None:
    clinic.run("make", "up")
    offload = str(clinic.folder / ".venv" / "bin" / "offload")
    note = {"note": "n-1", "text": "Hello there", "written_at": "2026-11-30T08:00:00Z"}
    published = clinic.run(offload, "events", "publish", "note.written", "--data", "-", given=json.dumps(note))
    assert published == "published note.written:n-1\n"
    job = clinic.run(offload, "jobs", "submit", "word_count", "--input", '{"text": "Hello there"}', "--wait", "--json")
    assert json.loads(job)["result"] == {"words": 2}
    until(lambda: "note written  note=n-1" in clinic.run(offload, "logs", "NoteLog"), "the consumer's line")
    # Its tests synthesize the other environments too.
    assert "8 passed" in clinic.run("make", "test")
