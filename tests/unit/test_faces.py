"""What a team may import: the names of a package's face, the same for people, for mypy and at run time."""

from __future__ import annotations

import ast
import importlib
import re
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from offload import public
from offload.project import PROJECT

FACES = ("offload.cdk", "offload.client")


@pytest.mark.synthesis
@pytest.mark.parametrize("name", FACES)
def test_every_name_of_a_face_is_there_typed_and_documented(name: str) -> None:
    face: Any = importlib.import_module(name)
    tree = ast.parse(Path(face.__file__).read_text(encoding="utf-8"))
    typed = {
        each.name: str(node.module)
        for block in tree.body
        if isinstance(block, ast.If)
        for node in block.body
        if isinstance(node, ast.ImportFrom)
        for each in node.names
    }
    assert sorted(typed) == sorted(face.__all__) == sorted(face._WHERE)
    for each in face.__all__:
        found = getattr(face, each)
        assert found is getattr(importlib.import_module(typed[each]), each)
        assert found.__doc__, each


@pytest.mark.parametrize("name", FACES)
def test_another_name_is_none(name: str) -> None:
    with pytest.raises(AttributeError, match=f"module {name} has no attribute Nothing"):
        importlib.import_module(name).Nothing  # noqa: B018


def code_of_teams() -> Iterator[tuple[str, str]]:
    """The Python that a team writes or reads: the documents' examples, the generators' templates, the shop's functions.

    By where it is. The shop's commands are left out: the framework's command line has no face yet.
    """
    for document in [PROJECT / "README.md", *sorted((PROJECT / "docs").rglob("*.md"))]:
        for example in re.findall(r"(?ms)^ *```python\n(.*?)^ *```$", document.read_text(encoding="utf-8")):
            yield document.relative_to(PROJECT).as_posix(), textwrap.dedent(example)
    for template in sorted((PROJECT / "offload/cli/new/templates").rglob("*.py.tmpl")):
        text = re.sub(r"\{\{\w+\}\}", "each", template.read_text(encoding="utf-8"))
        yield template.relative_to(PROJECT).as_posix(), text
    for folder in ("lambdas", "stacks", "shop/contracts"):
        for path in sorted((PROJECT / folder).rglob("*.py")):
            yield path.relative_to(PROJECT).as_posix(), path.read_text(encoding="utf-8")


def imported_in(text: str) -> Iterator[str]:
    for statement in re.findall(r"(?m)^(?:from offload\S* import (?:\([^)]*\)|.*)|import offload.*)$", text):
        for node in ast.parse(statement).body:
            if isinstance(node, ast.Import):
                yield from (each.name for each in node.names)
            elif isinstance(node, ast.ImportFrom) and node.module:
                below = {*public.CONTRACTS, *public.RUNTIME}
                for each in node.names:
                    name = f"{node.module}.{each.name}"
                    yield name if name in below else node.module


def test_what_teams_import_is_public() -> None:
    allowed = {*FACES, *public.CONTRACTS, *public.RUNTIME}
    # Django finds an app by its module.
    allowed |= {"offload.client.django.models", "offload.client.django.outbox"}
    found = {(where, name) for where, text in code_of_teams() for name in imported_in(text)}
    assert len(found) > 100
    assert sorted((where, name) for where, name in found if name not in allowed) == []


@pytest.mark.parametrize("name", [*public.CONTRACTS, *public.RUNTIME])
def test_a_public_module_is_there_and_documented(name: str) -> None:
    module = importlib.import_module(name)
    assert module.__doc__
