"""Compiles `lambdas/constraints.txt`: `python -m stacks.bundling.lock`, which is `make lock`.

One resolution over `lambdas/requirements.in` and every `lambdas/*/requirements.txt`, for all systems and Pythons, pins
each package once. Above the pins stands what every single requirement brings with it, so that a bundle installs exactly
that and its hash sees no other pin.
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

from stacks.bundling.errors import BundlingError, one_line, why_no_answer
from stacks.bundling.imports import FUNCTIONS
from stacks.bundling.requirements import (
    LOCK,
    OWN_INPUT,
    SHARED_INPUT,
    Requirement,
    normalised,
    reached_through,
    read_requirements,
)

# The oldest Python that runs a bundle; pins that differ for newer ones are forked by marker.
OLDEST_PYTHON = "3.11"
_PATIENCE_SECONDS = 300
_HEADER = (
    "# Compiled by `make lock` from the files named below, with what each requirement brings. Change those, not this.\n"
)


def inputs(root: Path) -> Iterator[tuple[str, list[Requirement]]]:
    """The files that the lock is made from, by their name inside `lambdas/`, each with its requirements."""
    folder = root / FUNCTIONS
    for path in [folder / SHARED_INPUT, *sorted(folder.glob(f"*/{OWN_INPUT}"))]:
        if path.is_file() or path.is_symlink():
            relative = path.relative_to(folder).as_posix()
            yield relative, read_requirements(path, f"{FUNCTIONS}/{relative}")


def compile_lock(root: Path) -> str:
    """The text of the lock for the project in `root`; keeps the pins of the lock that is there where they still fit.

    Raises BundlingError when a file is malformed or the requirements do not resolve.
    """
    files = list(inputs(root))
    # uv sees relative names alone, so that its messages and the lock are the same on every machine.
    names = [f"{FUNCTIONS}/{file}" for file, requirements in files if requirements]
    if not names:
        return _HEADER
    with tempfile.TemporaryDirectory() as scratch:
        compiled = Path(scratch, LOCK)
        # uv keeps the pins that it finds in its output file where they still fit.
        if (root / FUNCTIONS / LOCK).is_file():
            shutil.copyfile(root / FUNCTIONS / LOCK, compiled)
        try:
            _uv_compile(root, ["--generate-hashes", "--no-annotate", "--output-file", str(compiled), *names])
        except _NoAnswer:
            raise
        except BundlingError as error:
            named = [r for _, requirements in files for r in requirements if re.search(rf"\b{r.name}\b", str(error))]
            where = ", ".join(requirement.where for requirement in named) or ", ".join(names)
            raise BundlingError(f"{where}: does not resolve: {error} Correct the versions.") from error
        pins = compiled.read_text(encoding="utf-8")
        lines = [_HEADER]
        brought: dict[str, str] = {}
        for file, requirements in files:
            for requirement in requirements:
                if requirement.text not in brought:
                    arguments = ["--annotation-style", "line", "--constraint", str(compiled), "-"]
                    edges = _edges(_uv_compile(root, arguments, requirement.text))
                    brought[requirement.text] = " ".join(sorted(reached_through(edges, requirement.name)))
                lines.append(f"# {file}: {requirement.text}\n#   {brought[requirement.text]}\n")
        return "".join([*lines, pins])


class _NoAnswer(BundlingError):
    """The package index, and no version, is what is wrong."""


def _uv_compile(root: Path, arguments: list[str], standard_input: str | None = None) -> str:
    """What `uv pip compile` prints; BundlingError with its reason, and no place, when it fails."""
    command = [uv.find_uv_bin(), "pip", "compile", "--quiet", "--universal", "--no-header", "--color", "never"]
    command += ["--python", sys.executable, "--python-version", OLDEST_PYTHON, *arguments]
    try:
        done = subprocess.run(
            command,
            cwd=root,
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
    root = Path(__file__).resolve().parents[2]
    try:
        text = compile_lock(root)
    except BundlingError as error:
        sys.exit(f"make lock: {error}")
    file = root / FUNCTIONS / LOCK
    if not file.is_file() or file.read_text(encoding="utf-8") != text:
        file.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
