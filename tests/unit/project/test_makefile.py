"""The Makefile: a clone in a folder with a space, and a file whose time changes while its content does not."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import pytest

from offload.project import PROJECT

READY = (".venv", "node_modules", ".offload/embedded", ".offload/durable", ".offload/moto")
TARGETS = ("toolchain", "up", "down", "test", "check", "calls", "synth", "diff", "deploy", "destroy", "lock", "bench")


@pytest.fixture(params=["a b", "it's $HOME; (x)"])
def clone(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """What make reads of a clone, in a folder whose name a shell would take apart."""
    folder = tmp_path / str(request.param)
    for name in (
        "Makefile",
        "package.json",
        "package-lock.json",
        "requirements.txt",
        "cdk.json",
        "offload/cli/start",
    ):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(PROJECT / name, folder / name)
    for locks in ("requirements", "offload/cli/local/requirements"):
        shutil.copytree(PROJECT / locks, folder / locks)
    shutil.copytree(PROJECT / "environments", folder / "environments")
    return folder


def make(clone: Path, *arguments: str) -> str:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MFLAGS"))}
    command = ["make", "--no-print-directory", "PYTHON=./stub", *arguments]
    done = subprocess.run(command, cwd=clone, env=kept, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


# Stands for Python, uv and npm: it makes the folders that they would make, and installs nothing.
STUB = r"""#!/bin/sh
case "$*" in
  -VV) cat version ;;
  "-m venv .venv") mkdir -p .venv/bin; for name in python uv npm; do cp stub .venv/bin/$name; done ;;
  venv*) for last; do :; done; mkdir -p "$last" ;;
  *offload\ down) ls -d .offload/*/marker >> stopped ;;
  *"$(cat changes)"*--output-file*) for last; do :; done; echo "# new" >> "$last" ;;
esac
"""


@pytest.fixture
def installed(clone: Path) -> Path:
    """The clone after `make toolchain`, with a marker in every folder that it installed."""
    (clone / "stub").write_text(STUB, encoding="utf-8")
    (clone / "stub").chmod(0o755)
    (clone / "version").write_text("Python 3.13.0\n", encoding="utf-8")
    (clone / "changes").write_text("nothing\n", encoding="utf-8")
    for file in (clone / "package.json", clone / "package-lock.json", *clone.glob("**/*.txt")):
        os.utime(file, (1, 1))
    (clone / "node_modules").mkdir()
    make(clone, "toolchain")
    for folder in READY:
        (clone / folder / "marker").touch()
    return clone


def newer(path: Path) -> None:
    """Gives a file a time after every other's, whatever the clock's grain."""
    os.utime(path, (2**31, 2**31))


def installed_again(clone: Path) -> set[str]:
    """What `make toolchain` takes away and installs."""
    make(clone, "toolchain")
    return {folder for folder in READY if not (clone / folder / "marker").exists()}


@pytest.mark.parametrize("clone", ["a b"], indirect=True)
@pytest.mark.parametrize("target", TARGETS)
def test_a_command_line_has_the_clone_s_path_as_one_word(clone: Path, target: str) -> None:
    (clone / "kept/dev").mkdir(parents=True)
    printed = make(clone, "--dry-run", target, "ENV=dev")
    for line in printed.splitlines():
        if str(clone) in line:
            assert any(str(clone) in word for word in shlex.split(line)), line


def test_offload_starts_in_any_folder_and_through_a_link(clone: Path, tmp_path: Path) -> None:
    """On the real Python, with the packages of the tests."""
    venv.EnvBuilder(symlinks=True).create(clone / ".venv")
    started = clone / ".venv/bin/offload"
    shutil.copy(clone / "offload/cli/start", started)
    started.chmod(0o755)
    link = tmp_path / "linked"
    link.symlink_to(started)
    paths = os.pathsep.join([str(PROJECT), sysconfig.get_paths()["purelib"], sysconfig.get_paths()["platlib"]])
    for command in (started, link):
        done = subprocess.run(
            [command, "target", "local"],
            env={**os.environ, "PYTHONPATH": paths},
            capture_output=True,
            text=True,
            check=False,
        )
        assert "environment local is the embedded AWS on this machine" in done.stderr
        assert done.returncode == 1


def test_offload_starts_where_a_shebang_would_be_too_long(tmp_path: Path) -> None:
    folder = tmp_path / ("long " * 30) / ("path " * 30)
    (folder / "bin").mkdir(parents=True)
    (folder / "bin/python").symlink_to(sys.executable)
    start = (PROJECT / "offload/cli/start").read_text(encoding="utf-8")
    (folder / "bin/offload").write_text(start.replace("from offload", "print(__file__)\nraise SystemExit\n# "))
    (folder / "bin/offload").chmod(0o755)
    said = subprocess.run([folder / "bin/offload"], capture_output=True, text=True, check=True).stdout
    assert said == f"{folder}/bin/offload\n"


def test_the_cdk_starts_the_app_by_a_path_that_has_no_folder_of_the_clone_in_it(clone: Path) -> None:
    assert '"app": ".venv/bin/python app.py"' in (clone / "cdk.json").read_text(encoding="utf-8")


# What is installed again

ONE = pytest.mark.parametrize("clone", ["a b"], indirect=True)


def test_the_toolchain_installs_in_any_folder_and_once(installed: Path) -> None:
    assert installed_again(installed) == set()
    assert (installed / ".venv/bin/offload").stat().st_mode & 0o111


@ONE
def test_a_lock_that_changes_nothing_leaves_every_file_s_time_and_nothing_is_installed(installed: Path) -> None:
    files = [installed / "requirements.txt", *installed.rglob("requirements/*.txt")]
    before = {file: file.stat().st_mtime for file in files}
    make(installed, "lock")
    assert {file: file.stat().st_mtime for file in files} == before
    assert installed_again(installed) == set()


@ONE
def test_a_lock_that_changes_one_file_installs_what_that_file_lists(installed: Path) -> None:
    (installed / "changes").write_text("moto.in", encoding="utf-8")
    make(installed, "lock")
    newer(installed / "requirements/moto.txt")
    assert (installed / "requirements/moto.txt").read_text(encoding="utf-8").endswith("# new\n")
    assert installed_again(installed) == {".offload/moto"}


@ONE
def test_other_packages_of_the_command_line_leave_the_emulators_alone(installed: Path) -> None:
    newer(installed / "requirements/dev.txt")
    assert installed_again(installed) == {".venv"}
    assert not (installed / "stopped").exists()


@ONE
def test_another_python_installs_everything_that_runs_on_it(installed: Path) -> None:
    (installed / "version").write_text("Python 3.14.0\n", encoding="utf-8")
    newer(installed / "requirements/dev.txt")
    assert installed_again(installed) >= {".venv", ".offload/embedded", ".offload/durable", ".offload/moto"}


@ONE
@pytest.mark.parametrize("name", ["embedded", "durable"])
def test_a_running_emulator_is_stopped_before_its_environment_goes(installed: Path, name: str) -> None:
    newer(installed / f"offload/cli/local/requirements/{name}.txt")
    assert installed_again(installed) == {f".offload/{name}"}
    assert f".offload/{name}/marker" in (installed / "stopped").read_text(encoding="utf-8").splitlines()
