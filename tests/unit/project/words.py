"""What an app calls its own, and where the framework says so."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from offload.project import PROJECT, Project


def names_of(project: Project, *stacks: Path) -> set[str]:
    """An app's functions, constructs, contracts, event types, job types, groups of commands, and its package.

    Also the classes of the modules of its stacks.
    """
    catalogue = project.catalogue()
    _, package = project.packages
    functions = [path.parent.name for path in (project.root / "lambdas").glob("*/handler.py")]
    constructs = ["".join(part.title() for part in name.split("_")) for name in functions]
    contracts = [name for each in catalogue.events for name in (each.__name__, each.TYPE)]
    jobs = [name for each in catalogue.jobs for name in (each.name, each.name.upper())]
    classes = [
        node.name
        for file in stacks
        for node in ast.parse(file.read_text(encoding="utf-8")).body
        if isinstance(node, ast.ClassDef)
    ]
    return {*functions, *constructs, *contracts, *jobs, *classes, *catalogue.commands, package, package.title()}


def mentions_in_the_framework(names: set[str]) -> Iterator[str]:
    """The places in the framework's files where one of the names is."""
    word = re.compile(rf"(?<![\w.-])({'|'.join(map(re.escape, sorted(names, key=len, reverse=True)))})(?![\w-])")
    for path in sorted((PROJECT / "offload").rglob("*")):
        if path.suffix not in {".py", ".in", ".txt", ""} or not path.is_file():
            continue
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
            yield from (f"{path.relative_to(PROJECT)}:{number}: {found[1]}" for found in word.finditer(line))
