"""The package as a team gets it: built, and installed into empty environments by what it is used for."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final

import pytest
import uv

from offload.project import PROJECT
from tests.patience import PATIENCE

UV: Final = uv.find_uv_bin()
PYTHONS: Final = ("3.11", "3.12", "3.13")

CLIENT: Final = frozenset(
    {
        *("offload", "msgspec"),
        *("boto3", "botocore", "jmespath", "python-dateutil", "s3transfer", "six", "urllib3"),
        *("anyio", "certifi", "h11", "httpcore", "httpx", "idna", "typing-extensions"),
    }
)
"""What a monolith gets that publishes events and submits jobs."""
OUTBOX: Final = CLIENT | {"sqlalchemy"}

_MODULES: Final = """
import importlib, pkgutil, sys
for top in sys.argv[1].split(","):
    package = importlib.import_module(top)
    found = [each.name for each in pkgutil.walk_packages(package.__path__, f"{top}.")]
    assert found, top
    for name in found:
        if not any(f"{name}.".startswith(f"{each}.") for each in sys.argv[2].split(",")):
            importlib.import_module(name)
"""


def run(arguments: Sequence[str | Path], *, cwd: Path | None = None) -> str:
    """What a command prints; it must succeed."""
    done = subprocess.run(arguments, cwd=cwd, capture_output=True, text=True, timeout=PATIENCE, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def build(into: Path) -> dict[str, bytes]:
    """Builds the wheel and the sdist; their contents by their names."""
    run([UV, "build", "--quiet", "--no-build-isolation", "--python", sys.executable, "--out-dir", into, PROJECT])
    return {path.name: path.read_bytes() for path in into.iterdir() if path.suffix in {".whl", ".gz"}}


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dist")
    build(folder)
    return folder


@pytest.fixture(scope="module")
def wheel(built: Path) -> Path:
    [found] = built.glob("*.whl")
    return found


class Installed:
    """An environment of its own, with what was installed into it and nothing else."""

    def __init__(self, folder: Path, requirement: str, python: str = sys.executable) -> None:
        run([UV, "venv", "--quiet", "--python", python, folder])
        self.python = folder / "bin" / "python"
        run([UV, "pip", "install", "--quiet", "--python", self.python, requirement])

    @property
    def names(self) -> set[str]:
        listed = json.loads(run([UV, "pip", "list", "--format", "json", "--python", self.python]))
        return {each["name"] for each in listed}

    def imports(self, packages: Iterable[str], *, without: Iterable[str] = ()) -> None:
        """Imports every module of the packages, apart from those named and what is below them; outside of any app."""
        outside = self.python.parent
        run([self.python, "-I", "-c", _MODULES, ",".join(packages), ",".join(without)], cwd=outside)


def an_app(folder: Path) -> None:
    """Makes an app that has a group of commands of its own, `wards`."""
    files = {
        "cdk.json": "{}",
        "pyproject.toml": '[tool.offload]\ncatalogue = "desk.catalogue"\n',
        "desk/catalogue.py": (
            "from offload.contracts.catalogue import Catalogue\n"
            'CATALOGUE = Catalogue(__name__, commands={"wards": "desk.commands"})\n'
        ),
        "desk/commands.py": "import typer\napp = typer.Typer()\napp.command()(lambda: None)\n",
    }
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text, encoding="utf-8")


def pythons() -> list[str]:
    """The Pythons of this machine that the package is for, this one among them."""
    found = {f"{sys.version_info.major}.{sys.version_info.minor}": sys.executable}
    for version in PYTHONS:
        command = [UV, "python", "find", "--no-python-downloads", version]
        done = subprocess.run(command, capture_output=True, text=True, check=False, cwd="/")
        if done.returncode == 0:
            found.setdefault(version, done.stdout.strip())
    return [found[version] for version in sorted(found)]


def test_two_builds_are_the_same_to_the_byte(tmp_path: Path) -> None:
    first = build(tmp_path / "one")
    os.utime(PROJECT / "offload" / "__init__.py")
    assert {Path(name).suffix for name in first} == {".whl", ".gz"}
    assert build(tmp_path / "two") == first


@pytest.mark.parametrize("python", pythons())
def test_a_monolith_that_publishes_and_submits_gets_only_what_it_needs(
    wheel: Path, tmp_path: Path, python: str
) -> None:
    installed = Installed(tmp_path / "venv", f"{wheel}[client]", python)
    # typing-extensions stands for what newer Pythons have themselves.
    assert CLIENT - {"typing-extensions"} <= installed.names <= CLIENT
    installed.imports(
        ["offload.client", "offload.contracts"],
        without=["offload.client.outbox", "offload.client.relay", "offload.client.django"],
    )


def test_a_monolith_with_an_outbox_gets_its_library_too(wheel: Path, tmp_path: Path) -> None:
    installed = Installed(tmp_path / "venv", f"{wheel}[outbox]")
    # SQLAlchemy asks for greenlet on some processors.
    assert OUTBOX - {"typing-extensions"} <= installed.names <= OUTBOX | {"greenlet"}
    installed.imports(["offload.client", "offload.contracts"], without=["offload.client.django"])


def test_a_monolith_on_django_gets_django(wheel: Path, tmp_path: Path) -> None:
    installed = Installed(tmp_path / "venv", f"{wheel}[django]")
    assert installed.names - CLIENT == {"asgiref", "django", "sqlparse"}
    installed.imports(
        ["offload.client.django"], without=["offload.client.django.models", "offload.client.django.outbox"]
    )


def test_the_command_line_and_the_constructs_have_all_that_they_import(wheel: Path, tmp_path: Path) -> None:
    installed = Installed(tmp_path / "venv", f"{wheel}[cli]")
    installed.imports(
        ["offload.cdk", "offload.cli", "offload.client", "offload.contracts", "offload.runtime"],
        without=[
            # It has an extra of its own.
            "offload.client.django",
            # Tools of the framework's own development.
            *("offload.cdk.lint", "offload.cdk.permissions.record", "offload.cdk.permissions.compare"),
            "offload.cdk.permissions.__main__",
            # Processes of their own, in environments of their own.
            *("offload.cli.local.emulator", "offload.cli.local.fork_server", "offload.cli.local.durable_runner"),
        ],
    )
    an_app(tmp_path / "desk")
    inside, outside = (
        run([installed.python.with_name("offload"), "--help"], cwd=each) for each in (tmp_path / "desk", tmp_path)
    )
    assert "dead-letters" in inside
    assert "dead-letters" in outside
    # Outside of an app, none of its commands.
    assert "wards" in inside
    assert "wards" not in outside


def test_without_the_command_line_offload_says_what_to_install(wheel: Path, tmp_path: Path) -> None:
    installed = Installed(tmp_path / "venv", str(wheel))
    assert installed.names == {"offload", "msgspec"}
    done = subprocess.run(
        [installed.python.with_name("offload"), "status"], capture_output=True, text=True, timeout=PATIENCE, check=False
    )
    assert (done.returncode, done.stderr) == (
        1,
        "offload: the command line needs typer, which is not installed: pip install 'offload[cli]'\n",
    )


def test_every_extra_resolves_for_every_python(wheel: Path) -> None:
    command = [UV, "pip", "compile", "--quiet", "--universal", "--no-header", "--python-version", PYTHONS[0], "-"]
    for extra in ("client", "outbox", "django", "runtime", "cdk", "cli"):
        wanted = f"offload[{extra}] @ {wheel.as_uri()}"
        done = subprocess.run(command, input=wanted, capture_output=True, text=True, timeout=PATIENCE, check=False)
        assert done.returncode == 0, (extra, done.stderr)
        assert "msgspec==" in done.stdout


@pytest.mark.parametrize("kind", ["clone", "sdist", "git"])
def test_it_is_installed_from_a_clone_an_sdist_and_a_git_url(built: Path, tmp_path: Path, kind: str) -> None:
    [sdist] = built.glob("*.tar.gz")
    where = {"clone": PROJECT.as_uri(), "sdist": sdist.as_uri(), "git": f"git+{PROJECT.as_uri()}"}[kind]
    if kind == "git" and not (PROJECT / ".git").exists():
        pytest.skip("the project is no git clone here")
    installed = Installed(tmp_path / "venv", f"offload[client] @ {where}")
    assert CLIENT - {"typing-extensions"} <= installed.names <= CLIENT
    installed.imports(["offload.contracts"])
