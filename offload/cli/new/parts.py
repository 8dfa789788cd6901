"""An app's parts, and what `offload new` does with the files of one.

What is written is decided before anything is: a file that is there already, or a place that is not found, refuses all.
"""

from __future__ import annotations

import keyword
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from offload.cli.deployment.failure import Failure
from offload.cli.new.edit import defines_subclass, with_call, with_import, with_item, with_row
from offload.cli.new.source import calls
from offload.cli.new.templates import OWN_FOLDERS, filled
from offload.contracts.catalogue import Catalogue
from offload.contracts.functions import APP_FUNCTIONS
from offload.project import FRAMEWORK, Project

_NAME: Final = re.compile(r"[a-z][a-z0-9]*(_[a-z0-9]+)*")
_STACK: Final = "EnvironmentStack"
_HEADER: Final = "| part | name | where |"
"""Of the table in an app's README that says what it has."""


@dataclass(frozen=True)
class App:
    """The app of a project: where its catalogue, its stacks and its tests are."""

    project: Project
    catalogue: Catalogue

    @classmethod
    def of(cls, project: Project) -> App:
        """The project's app; raises Failure where pyproject.toml names no catalogue."""
        if project.settings.catalogue is None:
            raise Failure(
                f"{project.root}: pyproject.toml names no catalogue ([tool.offload] catalogue): run it in an app's "
                "folder, or begin with `offload new app`"
            )
        return cls(project, project.catalogue())

    @property
    def package(self) -> str:
        """The app's package."""
        return self.catalogue.module.partition(".")[0]

    @property
    def own(self) -> frozenset[str]:
        """The packages that are its own to a formatter; in a checkout of the framework, that too."""
        checkout = (self.project.root / FRAMEWORK).is_dir()
        return frozenset({self.package, *OWN_FOLDERS, *((FRAMEWORK,) if checkout else ())})

    @property
    def tests(self) -> Path:
        """The folder of its unit tests: `tests/PACKAGE/unit` or `tests/unit` where there is one, or `tests`."""
        folder = self.project.root / "tests"
        found = (folder / self.package / "unit", folder / "unit")
        return next((each for each in found if each.is_dir()), folder)

    def catalogue_file(self) -> Path:
        """The module of its catalogue."""
        return self.project.root / f"{self.catalogue.module.replace('.', '/')}.py"

    def stack_file(self, named: str | None) -> Path:
        """The module of the stack to add to: the one there is, or the one that was named."""
        if named is not None:
            found = [self.project.root / "stacks" / f"{named}.py"]
        else:
            found = [
                path
                for path in self.stack_files()
                if defines_subclass(path.read_text(encoding="utf-8"), _STACK, f"stacks/{path.name}")
            ]
        if len(found) != 1 or not found[0].is_file():
            there = ", ".join(path.stem for path in found) or "none"
            raise Failure(f"stacks/: say to which stack it goes: --stack NAME ({there})")
        return found[0]

    def stack_files(self) -> list[Path]:
        """The modules in stacks/."""
        return sorted((self.project.root / "stacks").glob("*.py"))

    def function(self, name: str) -> Path:
        """The folder of a function."""
        return self.project.root / APP_FUNCTIONS / name

    def contracts(self, kind: str) -> Path:
        """The folder of its contracts of a kind: of that name in `contracts`, where there is one."""
        folder = self.project.root / self.package / "contracts"
        return folder / kind if (folder / kind).is_dir() else folder

    def shown(self, path: Path) -> str:
        """A file as people know it: from the project's folder."""
        return path.relative_to(self.project.root).as_posix()

    def module(self, path: Path) -> str:
        """A file as it is imported."""
        return self.shown(path).removesuffix(".py").replace("/", ".")


class Part:
    """What becomes of an app's files; nothing is written before `write`.

    `added` and `changed` are their new texts, `removed` those that go; `todo` is left to a person.
    """

    def __init__(self, app: App) -> None:
        self.app = app
        self.added: dict[Path, str] = {}
        self.changed: dict[Path, str] = {}
        self.removed: list[Path] = []
        self.unlisted: set[tuple[str, str]] = set()
        """What the catalogue no longer has and its module still has: module and name."""
        self.todo: list[str] = []

    def add(self, template: str, values: Mapping[str, str]) -> None:
        """Adds the files of a template; raises Failure where one of them is there already."""
        app = self.app
        places = {"package": app.package, "catalogue": app.catalogue.module, "tests": app.shown(app.tests)}
        for name, text in filled(template, {**places, **values}, app.own):
            path = app.project.root / name
            if path.exists():
                raise Failure(f"{path}: is there already: choose another name, or remove it first")
            self.added[path] = text

    def text(self, path: Path) -> str:
        """A file as it will be."""
        return self.added.get(path) or self.changed.get(path) or path.read_text(encoding="utf-8")

    def edit(self, path: Path, change: Callable[..., str], *arguments: Any) -> None:
        """Makes a change of `edit` or `cut` in a file; raises its Failure."""
        text = change(self.text(path), *arguments, self.app.shown(path))
        (self.added if path in self.added else self.changed)[path] = text

    def import_name(self, path: Path, module: str, name: str) -> None:
        """Adds `from module import name` to a file."""
        self.edit(path, with_import, module, name, self.app.own)

    def in_catalogue(self, argument: str, item: str, module: str) -> None:
        """Adds an item to one of the catalogue's tuples."""
        self.edit(self.app.catalogue_file(), with_item, calls(Catalogue.__name__), argument, item)
        self.import_name(self.app.catalogue_file(), module, item)

    def in_stack(self, stack: Path, code: str, imports: Mapping[str, str]) -> None:
        """Adds a construct at the end of a stack; `imports` are names by their modules."""
        self.edit(stack, with_call, code)
        for module, name in imports.items():
            self.import_name(stack, module, name)

    def in_readme(self, kind: str, name: str, where: Path) -> None:
        """Adds a row to the table of the README that says what the app has, if it has that table."""
        row = f"| {kind} | `{name}` | `{self.app.shown(where)}` |"
        self._change_readme(lambda text: with_row(text, _HEADER, row))

    def out_of_readme(self, kinds: str, name: str) -> None:
        """Takes the row of that name out of the table; `kinds` are the words that it may begin with, as `a|b`."""
        row = re.compile(rf"(?m)^\| ({kinds}) \| `{re.escape(name)}` \| `[^`]*` \|\n")
        self._change_readme(lambda text: row.sub("", text) if _HEADER in text else text)

    def _change_readme(self, change: Callable[[str], str]) -> None:
        readme = self.app.project.root / "README.md"
        if readme.is_file() and (after := change(before := self.text(readme))) != before:
            self.changed[readme] = after

    def remove(self, path: Path) -> None:
        """Removes a file, or a folder with all that is in it, if it is there."""
        files = sorted(path.rglob("*")) if path.is_dir() else [path]
        self.removed += [
            each for each in files if each.is_file() and each.suffix != ".pyc" and each not in self.removed
        ]

    def write(self) -> None:
        """Makes it so; where the project keeps schemas, those too. Raises Failure with what that says."""
        root = self.app.project.root
        for path, text in {**self.added, **self.changed}.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
        for path in self.removed:
            path.unlink()
            if all(each.name == "__pycache__" for each in path.parent.iterdir()):
                shutil.rmtree(path.parent)
        if (root / "schemas").is_dir():
            command = [sys.executable, "-m", "offload.cli.schemas.schemas"]
            done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
            if done.returncode != 0:
                raise Failure(f"the files are written; make schemas: {done.stderr.strip() or done.stdout.strip()}")


def module_name(name: str) -> str:
    """A name that a module may have; raises Failure for one that none may have."""
    if not _NAME.fullmatch(name) or keyword.iskeyword(name):
        raise Failure(f"'{name}': write lower-case words with underscores between, as appointment_reminder")
    return name


def class_name(module: str) -> str:
    """The class named after a module: `YearlyReport` of `yearly_report`."""
    return "".join(part.title() for part in module.split("_"))
