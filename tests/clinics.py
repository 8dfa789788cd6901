"""The clinic of `tests/clinic`: the app that the framework's tests use, since an app's own is taken out with it."""

from __future__ import annotations

import importlib.util
import re
import shutil
import sys
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from types import ModuleType
from typing import Final

import msgspec

from clinic.contracts.visits import VisitEnded, VisitLine
from offload.project import PROJECT

CLINIC: Final = PROJECT / "tests" / "clinic"

_TOOLS: Final = (".venv", ".offload", "node_modules")
_SHARED: Final = ("__init__.py", "requirements.in")
_LOCK: Final = "lambdas/constraints.txt"
_OWN: Final = "lambdas/visit_import/requirements.txt"
_PINNED: Final = PROJECT / "offload" / "cli" / "local" / "requirements" / "durable.txt"
"""The framework's own pins, which have what the clinic's import asks for."""


def project_in(folder: Path) -> None:
    """Makes a project of it in a new folder, with the tools and the pinned packages of this one."""
    shutil.copytree(CLINIC, folder, ignore=shutil.ignore_patterns("__pycache__", "cdk.out", *_TOOLS))
    for name in _SHARED:
        shutil.copy(PROJECT / "lambdas" / name, folder / "lambdas" / name)
    (folder / _LOCK).write_text(_locked(), encoding="utf-8")
    for name in _TOOLS:
        (folder / name).symlink_to(PROJECT / name)


def _locked() -> str:
    """This project's lock with the requirement of the clinic's import, as `make lock` would have it."""
    lock, requirement = (PROJECT / _LOCK).read_text(encoding="utf-8"), (CLINIC / _OWN).read_text(encoding="utf-8")
    name = requirement.partition("==")[0]
    lock += f"# {_OWN}: {requirement}#   {name}\n"
    if not re.search(rf"^{name}==", lock, re.MULTILINE):
        pin = re.search(
            rf"^{re.escape(requirement.strip())} .*\n(    --hash.*\n)+",
            _PINNED.read_text(encoding="utf-8"),
            re.MULTILINE,
        )
        assert pin, f"{_PINNED} does not pin {requirement}"
        lock += pin[0]
    return lock


def handler_module(function: str) -> ModuleType:
    """The module of a function's handler, imported anew under the environment's variables as they are."""
    name = f"lambdas.{function}.handler"
    spec = importlib.util.spec_from_file_location(name, CLINIC / "lambdas" / function / "handler.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def visits_file(folder: Path, visits: int = 25) -> Path:
    """A file of visits, a line each, as `visit_import` takes it; every line is a patient's for `patient_groups`."""
    file = folder / "visits.jsonl"
    lines = [
        VisitEnded(
            visit=str(number),
            ended_at=datetime(2026, 3, 2, 8, tzinfo=UTC),
            ward="Eyes",
            lines=(VisitLine(item=f"item {number % 7}", quantity=1 + number % 5, unit_price=Decimal("2.55")),),
        )
        for number in range(visits)
    ]
    file.write_bytes(b"\n".join(map(msgspec.json.encode, lines)))
    return file
