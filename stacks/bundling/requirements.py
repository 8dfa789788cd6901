"""Requirements of functions, and the one lock that pins everything they bring in."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from stacks.bundling.errors import BundlingError

# Where the name that is imported is not the name that is installed (after normalisation: `_` and `.` as `-`).
DISTRIBUTION_OF: Mapping[str, str] = {
    "attr": "attrs",
    "bs4": "beautifulsoup4",
    "dateutil": "python-dateutil",
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

SHARED_INPUT = "requirements.in"
OWN_INPUT = "requirements.txt"
LOCK = "constraints.txt"

_REQUIREMENT = re.compile(
    r"^(?P<name>[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?)\s*(?P<extras>\[[A-Za-z0-9._\s,-]*\])?\s*"
    r"(?P<versions>(?:(?:===|==|~=|!=|<=|>=|<|>)\s*[A-Za-z0-9.*+!_-]+\s*,?\s*)*)(?P<marker>;.+)?\Z"
)
_PIN = re.compile(r"^(?P<name>[A-Za-z0-9][A-Za-z0-9._-]*)==\S+")


def normalised(name: str) -> str:
    """A distribution's name as indexes compare it (PEP 503)."""
    return re.sub(r"[-_.]+", "-", name).lower()


def distribution_of(top: str) -> str:
    """The distribution that provides the top-level module `top`."""
    return DISTRIBUTION_OF.get(top, normalised(top))


@dataclass(frozen=True)
class Requirement:
    """One line of a requirements file: `text` without spaces and comments, `where` as file:line."""

    name: str
    text: str
    where: str


def read_requirements(path: Path, shown: str) -> list[Requirement]:
    """The requirements of one file, [] when there is none; `shown` names it in errors.

    Raises BundlingError for a line that is no plain `NAME[EXTRAS]VERSIONS; MARKER`.
    """
    if not path.is_file():
        return []
    requirements = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        text = re.sub(r"(^|\s)#.*", "", line).strip()
        if not text:
            continue
        match = _REQUIREMENT.match(text)
        if match is None:
            raise BundlingError(
                f"{shown}:{number}: '{text}' is not a requirement: write NAME, NAME==VERSION or NAME[EXTRA]>=VERSION,"
                " one a line"
            )
        head, _, marker = text.partition(";")
        text = re.sub(r"\s", "", head) + (f" ; {marker.strip()}" if marker else "")
        requirements.append(Requirement(normalised(match["name"]), text, f"{shown}:{number}"))
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
        if not path.is_file():
            return Lock()
        root: tuple[str, str] | None = None
        block: list[str] = []
        for line in path.read_text(encoding="utf-8").splitlines():
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
                    f"{requirement.where}: '{requirement.text}' is not in lambdas/{LOCK} as written: run make lock"
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
