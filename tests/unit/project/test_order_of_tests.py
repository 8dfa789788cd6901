"""How the tests of a run are laid out for its processes (tests/conftest.py)."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any, cast

import pytest

from tests.conftest import in_blocks


@dataclass(frozen=True)
class A:
    """A test of a folder, with markers."""

    nodeid: str
    markers: frozenset[str] = field(default=frozenset())

    def get_closest_marker(self, name: str) -> object:
        return name if name in self.markers else None


def some(number: int, name: str, *markers: str) -> list[A]:
    return [A(f"{name}::{each}", frozenset(markers)) for each in range(number)]


SYNTHESIS = some(20, "tests/unit/test_templates.py", "synthesis")
LONG = some(5, "tests/local/test_lifecycle.py", "long")
EMBEDDED = [*some(30, "tests/local/test_jobs.py"), *some(10, "tests/conformance/test_all.py")]
REST = some(235, "tests/unit/test_local.py")


def laid_out(tests: list[A], workers: int) -> list[A]:
    return cast(list[A], in_blocks(cast(Any, tests), workers))


@pytest.mark.parametrize("workers", [1, 2, 3, 6, 16, 500])
@pytest.mark.parametrize("tests", [[*REST, *EMBEDDED, *LONG, *SYNTHESIS], EMBEDDED, LONG, SYNTHESIS, REST, []])
def test_each_test_is_there_once(tests: list[A], workers: int) -> None:
    assert Counter(laid_out(tests, workers)) == Counter(tests)


def test_of_six_processes_one_synthesizes_and_four_begin_with_an_embedded_aws_and_its_longest_tests() -> None:
    found = laid_out([*REST, *EMBEDDED, *LONG, *SYNTHESIS], 6)
    blocks = [found[at : at + 50] for at in range(0, 300, 50)]
    assert blocks[0][:20] == SYNTHESIS
    assert set(blocks[1]) <= set(REST)
    assert [block[0] for block in blocks[2:]] == LONG[:4]
    for block in blocks[2:]:
        begins = [test for test in block if test not in REST]
        assert block[: len(begins)] == begins
        assert len(begins) in {11, 12}
    assert [test for test in found if test in REST] == REST
