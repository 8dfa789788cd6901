"""mypy follows every module that is imported: one that it skips would be `Any`, and nothing said of its use."""

from __future__ import annotations

import fnmatch
import importlib.util
import tomllib
from pathlib import Path
from typing import Any

from offload.project import PROJECT
from tests.unit.project.imports import imported


def test_no_module_that_is_imported_is_skipped() -> None:
    settings: dict[str, Any] = tomllib.loads((PROJECT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["mypy"]
    skipped, followed = (set(each["module"]) for each in settings["overrides"])
    assert [each["follow_imports"] for each in settings["overrides"]] == ["skip", "normal"]
    checked = [PROJECT / name for name in settings["files"]]
    files = [file for each in checked for file in ([each] if each.is_file() else each.rglob("*.py"))]
    used = {name for file in files for name in imported(file.read_text(encoding="utf-8"))}
    modules = {name for name in used if is_one_of(name, skipped) and is_module(name)}
    assert {name for name in modules if not is_one_of(name, followed)} == set()
    assert "aws_cdk.aws_lambda" in modules


def is_one_of(module: str, patterns: set[str]) -> bool:
    return any(fnmatch.fnmatch(module, each) for each in patterns)


def is_module(name: str) -> bool:
    """Whether a package or file of the installed packages has this name, and not a class within one."""
    top, *rest = name.split(".")
    # It finds a package without importing it.
    package = importlib.util.find_spec(top)
    assert package is not None
    assert package.submodule_search_locations
    path = Path(package.submodule_search_locations[0], *rest)
    return path.is_dir() or path.with_suffix(".py").exists()
