"""What the security page says of the shop's secrets, and which of the shop's tests it names."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from offload.project import PROJECT
from tests.assemblies import templates_in
from tests.unit.project.security_page import files_named, readers_in, readers_told


@pytest.mark.slow
def test_every_secret_is_in_the_table_with_each_function_that_may_read_it(assembly_of: Callable[[str], Path]) -> None:
    assert readers_told() == readers_in(templates_in(assembly_of("staging")).values())


def test_every_test_that_is_named_is_there() -> None:
    named = [path for files in files_named() for path in files]
    assert any(path.startswith("tests/shop/") for path in named)
    assert [path for path in named if not (PROJECT / path).exists()] == []
