"""What Python files import."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

from offload import public


def imported(source: str) -> Iterator[str]:
    """The modules that a file may import: of `from a import b` both `a` and `a.b`."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (each.name for each in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module
            yield from (f"{node.module}.{each.name}" for each in node.names)


def imported_of_the_framework(text: str) -> Iterator[str]:
    """The framework's modules that a text imports, which may have other things than Python in it."""
    for statement in re.findall(r"(?m)^(?:from offload\S* import (?:\([^)]*\)|.*)|import offload.*)$", text):
        for node in ast.parse(statement).body:
            if isinstance(node, ast.Import):
                yield from (each.name for each in node.names)
            elif isinstance(node, ast.ImportFrom) and node.module:
                below = {*public.CONTRACTS, *public.RUNTIME}
                for each in node.names:
                    name = f"{node.module}.{each.name}"
                    yield name if name in below else node.module
