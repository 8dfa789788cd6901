"""What a team may import: the names of a package's face, the same for people, for mypy and at run time."""

from __future__ import annotations

import ast
import importlib
from pathlib import Path
from typing import Any

import pytest

FACES = ("offload.cdk",)


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
