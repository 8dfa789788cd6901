"""The functions of a project."""

from __future__ import annotations

from pathlib import Path

from offload.contracts.functions import APP_FUNCTIONS, OWN_FUNCTIONS, own
from offload.project import PROJECT, Project


def sources(root: Path = PROJECT) -> list[str]:
    """What PythonFunction takes as the `source` of each: those in lambdas/ and the framework's."""
    of_app, of_framework = (
        sorted(handler.parent.name for handler in Project.at(root).path_of(folder).glob("*/handler.py"))
        for folder in (APP_FUNCTIONS, OWN_FUNCTIONS)
    )
    return [*of_app, *map(own, of_framework)]
