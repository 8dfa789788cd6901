"""Compiles `lambdas/constraints.txt`: `python -m offload.cdk.bundling.lock`, which is `make lock`.

One resolution over the `requirements.in` and every `*/requirements.txt` of the framework's functions and of the app's,
for all systems and Pythons, pins each package once. Above the pins stands what every single requirement brings with it,
so that a bundle installs exactly that and its hash sees no other pin.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import uv

from offload.cdk.bundling.errors import BundlingError, one_line, why_no_answer
from offload.cdk.bundling.requirements import (
    LOCK,
    OWN_INPUT,
    SHARED_INPUTS,
    Requirement,
    normalised,
    reached_through,
    read_requirements,
)
from offload.project import PROJECT, Project

# The oldest Python that runs a bundle; pins that differ for newer ones are forked by marker.
OLDEST_PYTHON = "3.11"
_PATIENCE_SECONDS = 300
_HEADER = (
    "# Compiled by `make lock` from the files named below, with what each requirement brings. Change those, not this.\n"
)


def inputs(root: Path) -> Iterator[tuple[str, list[Requirement]]]:
    """The files that the lock is made from, each with its requirements: the framework's, then the app's."""
    project = Project.at(root)
    for folder, shared in SHARED_INPUTS.items():
        found = [path.parent.name for path in sorted(project.path_of(folder).glob(f"*/{OWN_INPUT}"))]
        for name in (shared, *(f"{folder}/{each}/{OWN_INPUT}" for each in found)):
            path = project.path_of(name)
            if path.is_file() or path.is_symlink():
                yield name, read_requirements(path, name)


def compile_lock(root: Path) -> str:
    """The text of the lock for the project in `root`; keeps the pins of the lock that is there where they still fit.

    Raises BundlingError when a file is malformed or the requirements do not resolve.
    """
    files = [(name, requirements) for name, requirements in inputs(root) if requirements]
    if not files:
        return _HEADER
    with tempfile.TemporaryDirectory() as scratch:
        # uv sees the same names on every machine, wherever the framework is installed: so are its messages the same.
        for name, requirements in files:
            copy = Path(scratch, name)
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.write_text("".join(f"{each.text}\n" for each in requirements), encoding="utf-8")
        names = [name for name, _ in files]
        compiled = Path(scratch, "compiled.txt")
        # uv keeps the pins that it finds in its output file where they still fit.
        if (root / LOCK).is_file():
            shutil.copyfile(root / LOCK, compiled)
        try:
            _uv_compile(scratch, ["--generate-hashes", "--no-annotate", "--output-file", compiled.name, *names])
        except _NoAnswer:
            raise
        except BundlingError as error:
            named = [r for _, requirements in files for r in requirements if re.search(rf"\b{r.name}\b", str(error))]
            where = ", ".join(requirement.where for requirement in named) or ", ".join(names)
            raise BundlingError(f"{where}: does not resolve: {error} Correct the versions.") from error
        lines = [_HEADER]
        brought: dict[str, str] = {}
        for file, requirements in files:
            for requirement in requirements:
                if requirement.text not in brought:
                    arguments = ["--annotation-style", "line", "--constraint", compiled.name, "-"]
                    edges = _edges(_uv_compile(scratch, arguments, requirement.text))
                    brought[requirement.text] = " ".join(sorted(reached_through(edges, requirement.name)))
                lines.append(f"# {file}: {requirement.text}\n#   {brought[requirement.text]}\n")
        return "".join([*lines, compiled.read_text(encoding="utf-8")])


class _NoAnswer(BundlingError):
    """The package index, and no version, is what is wrong."""


def _uv_compile(folder: str, arguments: list[str], standard_input: str | None = None) -> str:
    """What `uv pip compile` prints; BundlingError with its reason, and no place, when it fails."""
    command = [uv.find_uv_bin(), "pip", "compile", "--quiet", "--universal", "--no-header", "--color", "never"]
    command += ["--python", sys.executable, "--python-version", OLDEST_PYTHON, *arguments]
    try:
        done = subprocess.run(
            command,
            cwd=folder,
            input=standard_input,
            capture_output=True,
            text=True,
            timeout=_PATIENCE_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise _NoAnswer(f"uv did not answer within {_PATIENCE_SECONDS} s: is the package index reachable?") from error
    if done.returncode != 0:
        said = one_line(done.stderr)
        if (remedy := why_no_answer(said)) is not None:
            raise _NoAnswer(f"{remedy}. uv says: {said}")
        raise BundlingError(said)
    return done.stdout


def _edges(annotated: str) -> dict[str, list[str]]:
    """From `name==1.0  # via a, b`: who depends on what."""
    edges: dict[str, list[str]] = {}
    for line in annotated.splitlines():
        if match := re.fullmatch(r"([A-Za-z0-9._-]+)==.*# via (.+)", line):
            for parent in match[2].split(","):
                edges.setdefault(normalised(parent.strip()), []).append(normalised(match[1]))
    return edges


def main() -> None:
    """Writes the lock of the project that holds this file."""
    root = PROJECT
    try:
        text = compile_lock(root)
    except BundlingError as error:
        sys.exit(f"make lock: {error}")
    file = root / LOCK
    if not file.is_file() or file.read_text(encoding="utf-8") != text:
        file.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
