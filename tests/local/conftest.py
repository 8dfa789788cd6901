"""The clinic, deployed."""

from __future__ import annotations

from pathlib import Path

import pytest

from clinic.catalogue import CATALOGUE
from tests.clinics import CLINIC, project_in
from tests.copies import (
    App,
    assembly,
    brought_up,
    brought_up_with_iam,
    copy,
    deployed,
    deployed_with_iam,
    folder_of_the_run,
    made_once,
    pytest_runtest_makereport,
)

__all__ = [
    "app",
    "assembly",
    "brought_up",
    "brought_up_with_iam",
    "commands_of_the_clinic",
    "copy",
    "deployed",
    "deployed_with_iam",
    "folder_of_the_run",
    "pytest_runtest_makereport",
]


@pytest.fixture(scope="session")
def app(folder_of_the_run: Path) -> App:
    """The clinic, as a project of its own."""
    return App("clinic", made_once(folder_of_the_run / "clinic", project_in), CATALOGUE.job_types.values())


@pytest.fixture(autouse=True)
def commands_of_the_clinic(monkeypatch: pytest.MonkeyPatch) -> None:
    """The app that commands find in this process is the clinic."""
    monkeypatch.setattr("offload.cli.catalogue.PROJECT", CLINIC)
