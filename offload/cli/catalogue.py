"""What the app of this project has."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from offload.cli.deployment.failure import Failure
from offload.contracts.catalogue import Catalogue, UnusableCatalogue
from offload.project import PROJECT, Project, UnusableProject


def catalogue() -> Catalogue:
    """The catalogue that pyproject.toml names; raises Failure when there is none to be read."""
    return _catalogue_at(PROJECT)


@cache
def _catalogue_at(root: Path) -> Catalogue:
    try:
        return Project.at(root).catalogue()
    except (UnusableProject, UnusableCatalogue) as error:
        raise Failure(str(error)) from error
