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
from tests.clinics import CLINIC
from tests.unit.project.imports import imported_of_the_framework

FACES = ("offload.cdk", "offload.client")
# Django finds an app by its module.
PUBLIC = {*FACES, *public.CONTRACTS, *public.RUNTIME, "offload.client.django.models", "offload.client.django.outbox"}


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
    """The Python that a team writes or reads: the documents' examples, the generators' templates, the clinic.

    By where it is.
    """
    for document in [PROJECT / "README.md", *sorted((PROJECT / "docs").rglob("*.md"))]:
        for example in re.findall(r"(?ms)^ *```python\n(.*?)^ *```$", document.read_text(encoding="utf-8")):
            yield document.relative_to(PROJECT).as_posix(), textwrap.dedent(example)
    for template in sorted((PROJECT / "offload/cli/new/templates").rglob("*.py.tmpl")):
        text = re.sub(r"\{\{\w+\}\}", "each", template.read_text(encoding="utf-8"))
        yield template.relative_to(PROJECT).as_posix(), text
    for path in sorted(CLINIC.rglob("*.py")):
        yield path.relative_to(PROJECT).as_posix(), path.read_text(encoding="utf-8")


def test_what_teams_import_is_public() -> None:
    found = {(where, name) for where, text in code_of_teams() for name in imported_of_the_framework(text)}
    assert len(found) > 65
    assert sorted((where, name) for where, name in found if name not in PUBLIC) == []


@pytest.mark.parametrize("name", [*public.CONTRACTS, *public.RUNTIME])
def test_a_public_module_is_there_and_documented(name: str) -> None:
    module = importlib.import_module(name)
    assert module.__doc__
