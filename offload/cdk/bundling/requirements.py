"""Requirements of functions, and the one lock that pins everything they bring in."""

from __future__ import annotations

import functools
import importlib.metadata
import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from packaging.requirements import InvalidRequirement
from packaging.requirements import Requirement as Pep508
from packaging.utils import canonicalize_name

from offload.cdk.bundling.errors import BundlingError
from offload.cdk.bundling.sources import text_of
from offload.contracts.functions import APP_FUNCTIONS, OWN_FUNCTIONS

# Where the name that is imported is not the name that is installed, of what functions import often and .venv need not
# have (each project's own pages, 2026-11-29). What .venv has is asked itself.
DISTRIBUTION_OF: Mapping[str, str] = {
    "attr": "attrs",
    "bs4": "beautifulsoup4",
    "dateutil": "python-dateutil",
    "dotenv": "python-dotenv",
    "fitz": "pymupdf",
    "jose": "python-jose",
    "jwt": "pyjwt",
    "nacl": "pynacl",
    "PIL": "pillow",
    "yaml": "pyyaml",
}

# Of what Lambda's Python runtimes bring (docs.aws.amazon.com/lambda/latest/dg/lambda-python.html, 2026-11-23), the two
# that a function may import without requiring them. It installs its own when its requirements.txt says so.
IN_THE_RUNTIME = frozenset({"boto3", "botocore"})
# Left out of bundles when something only depends on them; cffi parses with pycparser only where a library is built.
_LEFT_OUT = IN_THE_RUNTIME | {"s3transfer", "pycparser"}

SHARED_INPUTS = {folder: f"{folder}/requirements.in" for folder in (OWN_FUNCTIONS, APP_FUNCTIONS)}
"""Both lists of what modules that functions share import, by the folder of functions: the framework's, the app's."""
SHARED_INPUT = SHARED_INPUTS[APP_FUNCTIONS]
OWN_INPUT = "requirements.txt"
LOCK = f"{APP_FUNCTIONS}/constraints.txt"

_PIN = re.compile(r"^(?P<name>[A-Za-z0-9][A-Za-z0-9._-]*)==\S+")


def normalised(name: str) -> str:
    """A distribution's name as indexes compare it (PEP 503)."""
    return str(canonicalize_name(name))


def installed_providers(module: str) -> frozenset[str]:
    """The distributions of this Python that provide `module` (dotted), none when it is not installed.

    Of a namespace package, whose parts come from several, those that have this module or one below it.
    """
    return frozenset(owner for owner in _owners().get(module.partition(".")[0], ()) if _has(owner, module))


@functools.cache
def _has(distribution: str, module: str) -> bool:
    files = [file.as_posix() for file in importlib.metadata.files(distribution) or ()]
    parts = module.split(".")
    for count in range(1, len(parts) + 1):
        path = "/".join(parts[:count])
        # What is below a package with an __init__, or in a module, is its own affair.
        if any(file.startswith((f"{path}/__init__.", f"{path}.")) for file in files):
            return True
    return any(file.startswith(f"{path}/") for file in files)


@functools.cache
def _owners() -> Mapping[str, frozenset[str]]:
    found = importlib.metadata.packages_distributions()
    return {top: frozenset(normalised(name) for name in names) for top, names in found.items()}


def possible_providers(module: str) -> frozenset[str]:
    """The names that a requirement for `module` may have: for `google.cloud.storage` also google-cloud-storage."""
    parts = module.split(".")
    by_name = {normalised("-".join(parts[:count])) for count in range(1, len(parts) + 1)}
    known = {DISTRIBUTION_OF[parts[0]]} if parts[0] in DISTRIBUTION_OF else set()
    return frozenset(by_name | known)


def known_provider(module: str, locked: Collection[str]) -> str | None:
    """The distribution that provides `module`, where this Python, the lock or the table above knows it; else None.

    Never a guess by the module's name: on an index that may be a stranger's package.
    """
    installed = installed_providers(module)
    if installed:
        return min(installed)
    top = module.partition(".")[0]
    if top in DISTRIBUTION_OF:
        return DISTRIBUTION_OF[top]
    pinned = sorted(possible_providers(module) & set(locked), key=len)
    return pinned[-1] if pinned else None


@dataclass(frozen=True)
class Requirement:
    """One line of a requirements file: `text` without spaces and comments, `where` as file:line."""

    name: str
    text: str
    where: str


def read_requirements(path: Path, shown: str) -> list[Requirement]:
    """The requirements of one file, [] when there is none; `shown` names it in errors.

    Raises BundlingError for a line that is no plain `NAME[EXTRAS]VERSIONS; MARKER` (PEP 508 without URLs), and for a
    file that is not UTF-8.
    """
    if not path.is_file() and not path.is_symlink():
        return []
    requirements = []
    for number, line in enumerate(text_of(path, shown).splitlines(), start=1):
        text = re.sub(r"(^|\s)#.*", "", line).strip()
        if not text:
            continue
        try:
            parsed = Pep508(text)
        except InvalidRequirement:
            parsed = None
        if parsed is None or parsed.url:
            raise BundlingError(
                f"{shown}:{number}: '{text}' is not a requirement: write NAME, NAME==VERSION or NAME[EXTRA]>=VERSION,"
                " one a line"
            )
        head, _, marker = text.partition(";")
        text = re.sub(r"\s", "", head) + (f" ; {marker.strip()}" if marker else "")
        requirements.append(Requirement(normalised(parsed.name), text, f"{shown}:{number}"))
    return requirements


@dataclass(frozen=True)
class Lock:
    """`lambdas/constraints.txt`: every pin with its hashes, and what each requirement brings with it."""

    pins: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    brings: Mapping[tuple[str, str], frozenset[str]] = field(default_factory=dict)

    @staticmethod
    def read(path: Path) -> Lock:
        """The lock in `path`; an empty one when there is none."""
        pins: dict[str, list[str]] = {}
        brings: dict[tuple[str, str], frozenset[str]] = {}
        if not path.is_file() and not path.is_symlink():
            return Lock()
        root: tuple[str, str] | None = None
        block: list[str] = []
        for line in text_of(path, LOCK).splitlines():
            if line.startswith("#   ") and root is not None:
                brings[root] = frozenset(line[1:].split())
            elif line.startswith("# ") and ": " in line:
                file, _, text = line[2:].partition(": ")
                root = (file, text)
                brings[root] = frozenset()
            elif match := _PIN.match(line):
                block = pins.setdefault(normalised(match["name"]), [])
                block.append(line)
            elif line.startswith("    --hash=") and block:
                block[-1] += f"\n{line}"
        return Lock({name: tuple(blocks) for name, blocks in pins.items()}, brings)

    def closure(self, requirements: Iterable[Requirement], file: str) -> frozenset[str]:
        """The names that `requirements` of `file` (as the lock names it) bring into a bundle, themselves included.

        Raises BundlingError for a requirement that the lock was not made from.
        """
        names: set[str] = set()
        for requirement in requirements:
            brought = self.brings.get((file, requirement.text))
            if brought is None:
                raise BundlingError(
                    f"{requirement.where}: '{requirement.text}' is not in {LOCK} as written: run make lock"
                )
            names |= brought
        return frozenset(names)

    def pinned(self, names: Iterable[str]) -> str:
        """The pins of `names` as a requirements file that uv takes, sorted."""
        return "".join(f"{block}\n" for name in sorted(names) for block in self.pins.get(name, ()))


def reached_through(edges: Mapping[str, Iterable[str]], root: str) -> frozenset[str]:
    """What installing `root` brings into a bundle: all that it depends on, save through what is left out."""
    seen: set[str] = set()
    waiting = [root]
    # A function that asks for boto3 itself gets all of it.
    left_out = frozenset() if root in _LEFT_OUT else _LEFT_OUT
    while waiting:
        name = waiting.pop()
        if name in seen or name in left_out:
            continue
        seen.add(name)
        waiting.extend(edges.get(name, ()))
    return frozenset(seen)
