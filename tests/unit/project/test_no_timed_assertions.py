"""No test fails because its machine is slow: none asserts that something took less than some seconds.

A wait with a generous deadline may (`assert time.monotonic() < deadline` in a loop), and so may what is compared with
another time of the same run.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from typing import Final

import pytest

from offload.project import PROJECT

TESTS: Final = PROJECT / "tests"
CLOCKS: Final = frozenset({"time", "monotonic", "perf_counter", "process_time"})


def is_clock(node: ast.AST) -> bool:
    match node:
        case ast.Call(func=ast.Attribute(value=ast.Name(id="time"), attr=name)):
            return name.removesuffix("_ns") in CLOCKS
    return False


def timed(function: ast.AST) -> Iterator[int]:
    """The lines of a function that assert that a span of the clock is below a number."""
    clocked: set[str] = set()

    def by_the_clock(node: ast.AST) -> bool:
        return any(is_clock(each) or (isinstance(each, ast.Name) and each.id in clocked) for each in ast.walk(node))

    assigned = [node for node in ast.walk(function) if isinstance(node, ast.Assign)]
    for _ in assigned:
        for node in assigned:
            if by_the_clock(node.value):
                clocked |= {
                    each.id for target in node.targets for each in ast.walk(target) if isinstance(each, ast.Name)
                }
    for asserted in ast.walk(function):
        if not isinstance(asserted, ast.Assert):
            continue
        for compared in ast.walk(asserted.test):
            match compared:
                case ast.Compare(left=span, ops=[ast.Lt() | ast.LtE()], comparators=[bound]):
                    pass
                case ast.Compare(left=bound, ops=[ast.Gt() | ast.GtE()], comparators=[span]):
                    pass
                case _:
                    continue
            spans = [each for each in ast.walk(span) if isinstance(each, ast.BinOp) and isinstance(each.op, ast.Sub)]
            if any(by_the_clock(each) for each in spans) and isinstance(bound, ast.Constant | ast.BinOp | ast.UnaryOp):
                yield asserted.lineno


def found_in(source: str) -> list[int]:
    functions = [
        node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    ]
    return sorted({line for function in functions for line in timed(function)})


def test_no_test_asserts_how_long_something_took() -> None:
    found = {
        f"{path.relative_to(TESTS.parent)}:{line}"
        for path in sorted(TESTS.rglob("*.py"))
        for line in found_in(path.read_text(encoding="utf-8"))
    }
    assert found == set(), "wait for a condition with a generous deadline, or inject the time"


@pytest.mark.parametrize(
    ("body", "lines"),
    [
        ("began = time.monotonic()\n    work()\n    assert time.monotonic() - began < 1", [5]),
        ("began = time.time()\n    took = time.time() - began\n    assert 5 > time.time() - began", [5]),
        ("began = time.perf_counter()\n    assert time.perf_counter() - began >= 0.2", []),
        ("deadline = time.monotonic() + 60\n    while busy():\n        assert time.monotonic() < deadline", []),
        ("assert len(found) - 1 < 3", []),
    ],
)
def test_an_assertion_on_seconds_is_told_from_others(body: str, lines: list[int]) -> None:
    assert found_in(f"import time\ndef test() -> None:\n    {body}\n") == lines
