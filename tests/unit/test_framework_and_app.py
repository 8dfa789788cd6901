"""The line between the framework and the app: a team that takes the shop out finds no trace of it in the framework."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from offload.project import PROJECT
from shop.catalogue import CATALOGUE

# Groups of commands whose names are words that the framework needs too.
_GENERAL: Final = frozenset({"orders", "rates"})


def names_of_the_app() -> set[str]:
    """What the shop calls its own: functions, constructs, contracts, event types, job types, groups of commands."""
    functions = [path.parent.name for path in (PROJECT / "lambdas").glob("*/handler.py")]
    constructs = ["".join(part.title() for part in name.split("_")) for name in functions]
    contracts = [name for each in CATALOGUE.events for name in (each.__name__, each.TYPE)]
    jobs = [name for each in CATALOGUE.jobs for name in (each.name, each.name.upper())]
    return {*functions, *constructs, *contracts, *jobs, *CATALOGUE.commands, "shop", "Shop", "Ledger"} - _GENERAL


def mentions(names: set[str]) -> Iterator[str]:
    word = re.compile(rf"(?<![\w.-])({'|'.join(map(re.escape, sorted(names, key=len, reverse=True)))})(?![\w-])")
    for path in sorted((PROJECT / "offload").rglob("*")):
        if path.suffix not in {".py", ".in", ".txt", ""} or not path.is_file():
            continue
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
            yield from (f"{path.relative_to(PROJECT)}:{number}: {found[1]}" for found in word.finditer(line))


def test_the_framework_names_nothing_of_the_app() -> None:
    names = names_of_the_app()
    assert {"OrderPlaced", "order.placed", "sales_report", "SALES_REPORT", "SalesLedger", "team_notifier"} <= names
    assert list(mentions(names)) == []
