"""The line between the framework and the app: a team that takes the app out finds no trace of it in the framework."""

from __future__ import annotations

import pytest

from offload.project import PROJECT, Project
from tests.clinics import CLINIC
from tests.unit.project.imports import imported
from tests.unit.project.words import mentions_in_the_framework, names_of

_APPS = ("tests/shop", "tests/clinic")
"""Tests of the app that is taken out, and the app that the framework's tests use."""


def parts_of_the_app() -> tuple[str, ...]:
    """The packages that go with the app of this project; none of the shop's is back where another app has its place."""
    _, *packages = Project.at(PROJECT).packages
    return tuple(sorted({*packages, "shop", "stacks", "lambdas", "bench", "tests.shop"}))


def taken_from(source: str, parts: tuple[str, ...]) -> list[str]:
    """The modules of these packages that a file imports."""
    return sorted({name for name in imported(source) if f"{name}.".startswith(tuple(f"{each}." for each in parts))})


def test_the_framework_names_nothing_of_an_app() -> None:
    names = names_of(Project.at(CLINIC), CLINIC / "clinic" / "stack.py")
    assert {"VisitEnded", "visit.ended", "ward_report", "WARD_REPORT", "VisitLedger", "Ledger", "clinic"} <= names
    assert list(mentions_in_the_framework(names)) == []


def test_no_test_of_the_framework_imports_the_app() -> None:
    files = [path.relative_to(PROJECT).as_posix() for path in sorted((PROJECT / "tests").rglob("*.py"))]
    framework = [name for name in files if not name.startswith(tuple(f"{each}/" for each in _APPS))]
    assert {"tests/conftest.py", "tests/local/test_jobs.py", "tests/unit/events/test_consumer.py"} <= set(framework)
    parts = parts_of_the_app()
    found = {name: taken_from((PROJECT / name).read_text(encoding="utf-8"), parts) for name in framework}
    assert {name: modules for name, modules in found.items() if modules} == {}


@pytest.mark.parametrize(
    ("source", "modules"),
    [
        ("import shop", ["shop"]),
        ("def test() -> None:\n    import shop.ledger as ledger", ["shop.ledger"]),
        ("from stacks.shop import Shop", ["stacks.shop", "stacks.shop.Shop"]),
        ("from lambdas.sales import handler", ["lambdas.sales", "lambdas.sales.handler"]),
        ("from tests import shop, clinics", ["tests.shop"]),
        ("import shops\nfrom shop_window import shop\nfrom clinic import stack", []),
    ],
)
def test_an_import_of_the_app_is_told_from_others(source: str, modules: list[str]) -> None:
    assert taken_from(source, ("lambdas", "shop", "stacks", "tests.shop")) == modules
