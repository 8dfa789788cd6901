"""The line between the framework and the shop: a team that takes the shop out finds no trace of it in the framework."""

from __future__ import annotations

from typing import Final

from offload import public
from offload.project import PROJECT, Project
from tests.unit.project.imports import imported_of_the_framework
from tests.unit.project.test_faces import PUBLIC
from tests.unit.project.words import mentions_in_the_framework, names_of

# Groups of commands whose names are words that the framework needs too.
_GENERAL: Final = frozenset({"orders", "rates"})


def test_the_framework_names_nothing_of_the_shop() -> None:
    names = names_of(Project.at(PROJECT), *(PROJECT / "stacks").glob("*.py")) - _GENERAL
    assert {"OrderPlaced", "order.placed", "sales_report", "SALES_REPORT", "SalesLedger", "team_notifier"} <= names
    assert {"shop", "Shop", "Ledger"} <= names
    assert list(mentions_in_the_framework(names)) == []


def test_what_the_shop_imports_is_public() -> None:
    """Its commands are left out: the framework's command line has no face yet."""
    files = [file for folder in ("lambdas", "stacks", "shop/contracts") for file in (PROJECT / folder).rglob("*.py")]
    found = {
        (file.relative_to(PROJECT).as_posix(), name)
        for file in files
        for name in imported_of_the_framework(file.read_text(encoding="utf-8"))
    }
    assert {"offload.cdk", *public.CONTRACTS} & {name for _, name in found}
    assert len(found) > 50
    assert sorted((where, name) for where, name in found if name not in PUBLIC) == []
