"""What `offload new app` writes, and what it refuses; tests/package runs such an app."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from offload.cli.deployment.failure import Failure
from offload.cli.main import app
from offload.cli.new import app as new
from offload.project import PROJECT, Project

WANTED = "offload[cli]==1.0"


def ran(*arguments: str) -> Any:
    return CliRunner().invoke(app, ["new", "app", *arguments])


def test_an_app_is_named_by_its_folder(tmp_path: Path) -> None:
    contents = new.files(tmp_path / "front-desk", WANTED)
    inside = {path.relative_to(tmp_path / "front-desk").as_posix(): text for path, text in contents.items()}
    assert {"app.py", "cdk.json", "front_desk/catalogue.py", "stacks/front_desk.py", "environments/prod.toml"} <= set(
        inside
    )
    assert "class FrontDesk(EnvironmentStack):" in inside["stacks/front_desk.py"]
    assert inside["requirements.txt"].startswith(f"{WANTED}\n")
    assert not re.search(r"\{\{\w+\}\}", "".join([*inside, *inside.values()]))


def test_its_project_has_its_package(tmp_path: Path) -> None:
    for path, text in new.files(tmp_path / "clinic", WANTED).items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    assert Project.at(tmp_path / "clinic").packages == ("offload", "clinic")
    for file in (tmp_path / "clinic").rglob("*.py"):
        compile(file.read_text(), str(file), "exec")


@pytest.mark.parametrize("name", ["Clinic", "front_desk", "1st", "-desk", "front--desk", ""])
def test_a_name_of_which_nothing_can_be_named_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(Failure, match=r"an app is named by lower-case words with hyphens between"):
        new.names_of(Path(f"/x/{name}/") if name else Path("/"))


@pytest.mark.parametrize("name", ["offload", "stacks", "lambdas", "class", "email"])
def test_a_name_that_a_module_has_is_refused(name: str) -> None:
    with pytest.raises(Failure, match=f"'{name}': a module has that name already: choose another"):
        new.names_of(Path(name))


def test_a_folder_that_is_not_empty_is_left_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "clinic").mkdir()
    (tmp_path / "clinic" / "notes.txt").write_text("mine")
    ended = ran(str(tmp_path / "clinic"))
    assert isinstance(ended.exception, Failure)
    assert str(ended.exception) == f"{tmp_path / 'clinic'}: is there and not empty: name a new folder"
    assert [path.name for path in (tmp_path / "clinic").iterdir()] == ["notes.txt"]


def test_a_dry_run_says_what_it_would_write_and_writes_nothing(tmp_path: Path) -> None:
    ended = ran(str(tmp_path / "clinic"), "--dry-run")
    assert "clinic/lambdas/note_log/handler.py" in ended.stdout.splitlines()
    assert not (tmp_path / "clinic").exists()


def test_an_app_begins_with_the_versions_and_flags_that_the_framework_is_tested_with(tmp_path: Path) -> None:
    contents = {path.name: text for path, text in new.files(tmp_path / "clinic", WANTED).items()}
    ours = {
        name: json.loads((PROJECT / name).read_text()) for name in ("cdk.json", "package.json", "package-lock.json")
    }
    assert json.loads(contents["cdk.json"])["context"] == ours["cdk.json"]["context"]
    command_line = ours["package.json"]["devDependencies"]["aws-cdk"]
    assert json.loads(contents["package.json"])["devDependencies"] == {"aws-cdk": command_line}
    packages = json.loads(contents["package-lock.json"])["packages"]
    assert packages["node_modules/aws-cdk"] == ours["package-lock.json"]["packages"]["node_modules/aws-cdk"]


def test_the_framework_is_required_as_it_was_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    class Installed:
        version = "1.2"

        def __init__(self, origin: dict[str, Any] | None) -> None:
            self._origin = origin

        def read_text(self, name: str) -> str | None:
            return json.dumps(self._origin) if self._origin else None

    def required(origin: dict[str, Any] | None) -> str:
        monkeypatch.setattr(new, "distribution", lambda _: Installed(origin))
        return new.requirement()

    assert required(None) == "offload[cli]==1.2"
    assert required({"url": "file:///dist/o.whl", "archive_info": {}}) == "offload[cli] @ file:///dist/o.whl"
    origin = {"url": "https://host/offload", "vcs_info": {"vcs": "git", "commit_id": "abc"}}
    assert required(origin) == "offload[cli] @ git+https://host/offload@abc"
