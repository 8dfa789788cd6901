"""Where the code of functions is: an app's in `lambdas/NAME`, the framework's own in `offload/functions/NAME`."""

from __future__ import annotations

from typing import Final

APP_FUNCTIONS: Final = "lambdas"
"""The folder of an app's functions, in the project."""
OWN_FUNCTIONS: Final = "offload/functions"
"""The folder of the framework's functions, in its package."""


def own(name: str) -> str:
    """What PythonFunction takes as the `source` of a function of the framework's."""
    return f"{OWN_FUNCTIONS}/{name}"


def folder_of(source: str) -> str:
    """The folder of a PythonFunction's `source`: below `lambdas/`, unless it is the framework's."""
    return source if source.startswith(f"{OWN_FUNCTIONS}/") else f"{APP_FUNCTIONS}/{source}"


def handler_of(source: str) -> str:
    """Lambda's handler string: the folder stays a package, so that a handler's relative imports work."""
    return f"{folder_of(source).replace('/', '.')}.handler.handler"


def source_of(handler: str) -> str | None:
    """The `source` of the function with this handler string; None for a function that PythonFunction did not make."""
    folder, found, _ = handler.rpartition(".handler.")
    above, _, name = folder.replace(".", "/").rpartition("/")
    if not found or above not in (APP_FUNCTIONS, OWN_FUNCTIONS):
        return None
    return own(name) if above == OWN_FUNCTIONS else name
