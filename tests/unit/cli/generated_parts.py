"""Parts of an app as `offload new` writes them and `offload remove` takes them out, in an app's folder."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from tests.apps import OFFLOAD, printed, python

_RUFF = str(Path(sys.executable).with_name("ruff"))

PARTS: Mapping[str, tuple[str, ...]] = {
    "appointment.booked": ("event", "appointment.booked"),
    "appointment_reminder": ("consumer", "appointment_reminder", "--event", "appointment.booked"),
    "yearly_count": ("job", "yearly_count"),
    "parcel-service": ("webhook", "parcel-service"),
    "webhook.received.parcel-service.parcel_sent": ("event", "webhook.received.parcel-service.parcel_sent"),
    "carrier": ("integration", "carrier", "--event", "appointment.booked"),
    "appointments": ("table", "appointments", "--function", "appointment_reminder"),
}
"""A part of each kind, by its name, and what writes it."""


def ran(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Runs the command in an app's folder."""
    return python(folder, *OFFLOAD, *arguments)


def written(folder: Path, *arguments: str) -> list[str]:
    """What `offload new` says; it must succeed."""
    done = ran(folder, "new", *arguments)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout.splitlines()


def texts(folder: Path) -> Mapping[str, str]:
    """An app's files, by their paths."""
    kept = (path for path in folder.rglob("*") if path.is_file() and not {"__pycache__", ".offload"} & {*path.parts})
    return {path.relative_to(folder).as_posix(): path.read_text() for path in kept if path.suffix != ".gz"}


def put_in(folder: Path, package: str, made: Sequence[str]) -> None:
    """Writes parts, each in its places, and runs their tests."""
    before = texts(folder)
    for part in made:
        written(folder, *PARTS[part])
    assert set(before) < set(texts(folder))
    _laid_out_as_the_rest(folder, package)
    new = [file for file in texts(folder) if file not in before and file.partition("/")[0] == "tests"]
    assert len(new) == len(made) - 1  # all but the consumer, of which only a person knows what it decides
    printed(folder, "-m", "pytest", "-q", "-p", "no:cacheprovider", *new)


def take_out(folder: Path, package: str, made: Sequence[str], before: Mapping[str, str]) -> None:
    """Takes the same parts out again: the app is as it was `before` them."""
    refused = ran(folder, "remove", "appointment.booked")
    assert refused.returncode == 1
    assert re.search(r"lambdas/\w+/handler\.py:\d+: imports \S+, which would be removed", refused.stderr)
    said = {part: _taken_out(folder, part) for part in reversed(made)}
    assert (
        "prod: left in the account, outside of the stack, until a person deletes it: the table" in said["appointments"]
    )
    assert "deleted by the deployment: its queue with what waits in it" in said["appointment_reminder"]
    _laid_out_as_the_rest(folder, package)
    left = {file: text for file, text in texts(folder).items() if before.get(file) != text}
    # A call that was reformatted stays so, and providers have their module from the first one on.
    assert set(left) <= {f"{package}/catalogue.py", f"{package}/providers.py", "schemas/jobs/openapi.json"}
    assert not any(word in text for word in ("appointment", "carrier", "parcel") for text in left.values())


def _taken_out(folder: Path, name: str) -> str:
    done = ran(folder, "remove", name)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def _laid_out_as_the_rest(folder: Path, package: str) -> None:
    for rules in (["check", "--select", "E,F,I,W"], ["format", "--check"]):
        arguments = [_RUFF, *rules, "--line-length", "120", "--no-cache", "--isolated"]
        arguments += ["app.py", "lambdas", "stacks", "tests", package]
        done = subprocess.run(arguments, cwd=folder, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout
