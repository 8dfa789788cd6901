"""Folders of functions of any content through the bundler: refused in one line, or a bundle that imports as they do.

Each module of folder and bundle is imported in this process, with the project's own modules out of the way, and of
every 500th folder by a new Python as well. No folder here has requirements that are locked: what uv installs is not
under test. `OFFLOAD_PROVE=whole` tries 100,000.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import random
import re
import shutil
import subprocess
import sys
import warnings
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Final

import pytest

from offload.cdk.bundling import Bundle, Bundler, BundlingError, Target
from tests.fuzzing import Shard, shards
from tests.odd_folders import LIBRARY, PASSWORD, Folder, a_folder, written

TARGETS: Final = (Target.of("host", "host"), Target.of("3.13", "arm64"))
FIRST_PARTY: Final = ("lambdas", "offload")
IN_A_NEW_PROCESS: Final = 500
# What docs/bundling.md says of what is left out.
TESTS: Final = re.compile(r"(^|/)(test_[^/]*\.py|[^/]*_test\.py|conftest\.py|tests?/.*)\Z", re.DOTALL)
CACHES: Final = re.compile(r"(^|/)(__pycache__/.*|\.[^/]*(/.*)?|[^/]*(\.pyc|\.pyi|~))\Z", re.DOTALL)
NOTES: Final = re.compile(r"(requirements[^/]*\.(txt|in)|README(\.[^/]*)?)\Z", re.DOTALL)


def expected(folder: Path) -> dict[str, bytes]:
    """What of a folder goes into its bundle, by the documentation."""
    found = {}
    for path in folder.rglob("*"):
        name = path.relative_to(folder).as_posix()
        if path.is_file() and not (TESTS.search(name) or CACHES.search(name) or NOTES.match(name)):
            found[name] = path.read_bytes()
    return found


@contextlib.contextmanager
def nothing_imported(root: Path) -> Iterator[None]:
    """Python as it starts in `root`, without the modules of ours."""
    kept = {name: module for name, module in sys.modules.items() if name.partition(".")[0] in FIRST_PARTY}
    before = list(sys.modules)
    for name in kept:
        del sys.modules[name]
    path, writes = list(sys.path), sys.dont_write_bytecode
    sys.path.insert(0, str(root))
    sys.dont_write_bytecode = True
    try:
        yield
    finally:
        sys.path[:], sys.dont_write_bytecode = path, writes
        for name in set(sys.modules) - set(before):
            if name.partition(".")[0] in FIRST_PARTY:
                del sys.modules[name]
        for name in [each for each in sys.modules if each.partition(".")[0] in FIRST_PARTY]:
            del sys.modules[name]
        sys.modules.update(kept)
        for name in [each for each in sys.path_importer_cache if each.startswith(str(root))]:
            del sys.path_importer_cache[name]


def imported(root: Path, modules: Iterable[str]) -> dict[str, Any]:
    """What each module defines, or why it cannot be imported."""
    found: dict[str, Any] = {}
    with nothing_imported(root), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for name in modules:
            try:
                module = importlib.import_module(name)
            except Exception as error:  # noqa: BLE001 -- whatever a module raises
                found[name] = f"{type(error).__name__}: {error}".replace(str(root), "")
            else:
                found[name] = {
                    key: repr(value)
                    for key, value in vars(module).items()
                    if not key.startswith("__") and isinstance(value, str | bytes | int | list)
                }
    return found


ALONE: Final = """
import importlib, json, sys, warnings
root, found = sys.argv[1], {}
sys.path.insert(0, root)
for name in json.loads(sys.argv[2]):
    try:
        module = importlib.import_module(name)
    except Exception as error:
        found[name] = f"{type(error).__name__}: {error}".replace(root, "")
    else:
        found[name] = {key: repr(value) for key, value in vars(module).items()
                       if not key.startswith("__") and isinstance(value, str | bytes | int | list)}
print(json.dumps(found))
"""


def imported_alone(root: Path, modules: list[str]) -> Any:
    """The same by a Python of its own, without third parties."""
    command = [sys.executable, "-I", "-S", "-B", "-W", "ignore", "-c", ALONE, str(root), json.dumps(modules)]
    return json.loads(subprocess.run(command, capture_output=True, check=True, text=True).stdout)


def is_one_line(message: str) -> None:
    """That a refusal is a line with a file and without credentials."""
    assert message.isprintable()
    assert re.match(r"(lambdas/fn|offload/)", message), message
    assert PASSWORD not in message


def is_as_the_folder(bundle: Bundle, root: Path) -> list[str]:
    """That a bundle holds what its folder does, and the library's files; gives the modules in it."""
    own = bundle.path / "lambdas/fn"
    inside = {
        path.relative_to(own).as_posix(): path.read_bytes()
        for path in own.rglob("*")
        if path.is_file() and path.parent.name != "__pycache__"
    }
    assert inside == expected(root / "lambdas/fn")
    for name, content in inside.items():
        mode = (own / name).stat().st_mode & 0o777
        assert mode == (0o755 if content.startswith((b"#!", b"\x7fELF")) else 0o644), name
    for path in bundle.path.rglob("*"):
        relative = path.relative_to(bundle.path).as_posix()
        if path.is_file() and path.parent.name != "__pycache__" and not relative.startswith("lambdas/fn/"):
            assert path.read_bytes() == LIBRARY[relative]
    modules = [
        f"lambdas.fn.{name[:-3].replace('/', '.')}".removesuffix(".__init__") for name in inside if name[-3:] == ".py"
    ]
    return ["lambdas.fn.handler", *sorted(set(modules) - {"lambdas.fn.handler"})]


# Python says of some of the modules that they will not do for ever.
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::SyntaxWarning")
@pytest.mark.slow
@shards(150)
def test_a_folder_is_refused_in_one_line_or_its_bundle_imports_as_it_does(shard: Shard, tmp_path: Path) -> None:
    chance, taken = shard.chance(), 0
    for number in range(shard.cases):
        folder = a_folder(chance)
        # Each in a place of its own: what Python found in a place, it remembers.
        root = tmp_path / str(number)
        for name, content in LIBRARY.items():
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).write_bytes(content)
        with shard.case(number, folder):
            taken += tried(root, folder, chance, alone=number % IN_A_NEW_PROCESS == 0)
        shutil.rmtree(root)
    assert taken > shard.cases / 10


def tried(root: Path, folder: Folder, chance: random.Random, *, alone: bool) -> bool:
    written(folder, root / "lambdas/fn")
    bundler, target = Bundler(root), chance.choice(TARGETS)
    try:
        bundle = bundler.bundle("fn", target)
    except BundlingError as refused:
        is_one_line(str(refused))
        return False
    modules = is_as_the_folder(bundle, root)
    assert imported(bundle.path, modules) == imported(root, modules)
    if alone:
        assert imported_alone(bundle.path, modules) == imported_alone(root, modules)
    for path in (root / "lambdas/fn").rglob("*"):
        if path.is_file():
            os.utime(path, (1, 1))
            path.chmod(0o777)
    assert Bundler(root).bundle("fn", target) == bundle
    return True
