"""An app of the last release, with a team's edits, takes this one: its tests pass, and no data is replaced."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.apps import printed
from tests.package.previous import FILE, with_data

KEPT: dict[str, Any] = json.loads(FILE.read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("previous") / "clinic"
    for name, text in KEPT["files"].items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text, encoding="utf-8")
    return folder


@pytest.mark.slow
def test_its_tests_pass(app: Path) -> None:
    # Of the environments `prod` alone is synthesized: the others differ in settings.
    assert " passed" in printed(app, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-k", "not dev and not local")


@pytest.mark.slow
def test_nothing_that_holds_data_is_lost_or_replaced(app: Path) -> None:
    now = with_data(app)
    then: dict[str, dict[str, Any]] = KEPT["with_data"]
    assert sum(map(len, then.values())) > 40
    for stack, resources in then.items():
        for logical_id, before in resources.items():
            assert now[stack].get(logical_id) == before, f"{stack}: {logical_id}"
