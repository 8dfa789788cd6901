"""The shop, deployed."""

from __future__ import annotations

import pytest

from offload.project import PROJECT
from shop.catalogue import CATALOGUE
from tests.copies import (
    App,
    assembly,
    brought_up,
    brought_up_with_iam,
    copy,
    deployed,
    deployed_with_iam,
    folder_of_the_run,
    pytest_runtest_makereport,
)

__all__ = [
    "app",
    "assembly",
    "brought_up",
    "brought_up_with_iam",
    "copy",
    "deployed",
    "deployed_with_iam",
    "folder_of_the_run",
    "pytest_runtest_makereport",
]


@pytest.fixture(scope="session")
def app() -> App:
    """The shop."""
    return App("shop", PROJECT, CATALOGUE.job_types.values())
