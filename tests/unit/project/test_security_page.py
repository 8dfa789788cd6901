"""The security page is held to the templates, of each secret who reads it, and to the tests, of each attack.

What it says of this project's own functions and tests is held by the project's tests.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from offload.project import PROJECT
from tests.assemblies import templates_in
from tests.unit.project.security_page import files_named, readers_in, readers_told


@pytest.mark.slow
def test_every_secret_is_in_the_table_with_each_function_that_may_read_it(clinic_of: Callable[[str], Path]) -> None:
    framework = {handler.parent.name for handler in (PROJECT / "offload" / "functions").glob("*/handler.py")}
    found = readers_in(templates_in(clinic_of("staging")).values())
    told = {secret: readers for secret, readers in readers_told().items() if readers <= framework}
    assert told == found


def test_every_attack_names_the_tests_that_try_it() -> None:
    named = [[path for path in files if not path.startswith("tests/shop/")] for files in files_named()]
    assert named
    assert all(named)
    assert [path for files in named for path in files if not (PROJECT / path).exists()] == []
