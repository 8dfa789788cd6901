"""`offload new app DIR`: an app that works, with one event, one consumer and one job."""

from __future__ import annotations

import json
import keyword
import re
import sys
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import Final

from offload.cdk.bundling import BundlingError
from offload.cdk.bundling.lock import compile_lock
from offload.cdk.bundling.requirements import LOCK
from offload.cli.deployment.failure import Failure
from offload.cli.new.parts import class_name
from offload.cli.new.templates import OWN_FOLDERS, filled
from offload.project import FRAMEWORK

_NAME: Final = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")
_EXTRA: Final = "cli"
# Its package cannot be named like one of these.
_TAKEN: Final = frozenset({*OWN_FOLDERS, "tests", "environments", FRAMEWORK})


def names_of(folder: Path) -> Mapping[str, str]:
    """What an app is called, by its folder's name: `slug`, `package` and `Class`.

    Raises Failure for a name of which no Python package and no stack can be named.
    """
    slug = folder.name
    package = slug.replace("-", "_")
    if not _NAME.fullmatch(slug):
        raise Failure(f"'{slug}': an app is named by lower-case words with hyphens between, as front-desk")
    if package in _TAKEN or keyword.iskeyword(package) or package in sys.stdlib_module_names:
        raise Failure(f"'{slug}': a module has that name already: choose another")
    return {"slug": slug, "package": package, "Class": class_name(package)}


def requirement() -> str:
    """What a requirements file has to say for the framework that runs here, with its command line."""
    try:
        installed = distribution(FRAMEWORK)
    except PackageNotFoundError:
        # A checkout that is on the path and not installed.
        return f"{FRAMEWORK}[{_EXTRA}] @ {Path(__file__).resolve().parents[3].as_uri()}"
    origin = json.loads(installed.read_text("direct_url.json") or "{}")
    if "url" not in origin:
        return f"{FRAMEWORK}[{_EXTRA}]=={installed.version}"
    vcs = origin.get("vcs_info", {})
    url = f"{vcs['vcs']}+{origin['url']}@{vcs['commit_id']}" if vcs else origin["url"]
    return f"{FRAMEWORK}[{_EXTRA}] @ {url}"


def files(folder: Path, wanted: str | None = None) -> dict[Path, str]:
    """The files of a new app in `folder`, apart from its lock; `wanted` is the requirement for the framework.

    Raises Failure, and nothing is written then, for a name that cannot be and for a folder that is not empty.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise Failure(f"{folder}: is there and not empty: name a new folder")
    values = {**names_of(folder), "requirement": wanted or requirement()}
    return {folder / name: text for name, text in filled("app", values, {values["package"], *OWN_FOLDERS})}


def write(contents: Mapping[Path, str], folder: Path) -> Path:
    """Writes an app's files and pins what its functions import; returns the lock.

    Raises Failure when that does not resolve; the files are there then, and `make lock` does the rest.
    """
    for path, text in contents.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    lock = folder / LOCK
    try:
        lock.write_text(compile_lock(folder), encoding="utf-8")
    except BundlingError as error:
        raise Failure(f"{error} The app is written; pin what its functions import with `make lock`.") from error
    return lock
