"""`python -m offload.cli.schemas.schemas` writes the contracts' JSON Schemas into schemas/, unless one would break.

Two sides read an event by a contract that is not the publisher's own: a consumer that was deployed before the change,
and one deployed after it that gets an event from the archive, a queue or a dead letter. So a field that exists stays
what it is, bounds and default included, and a new one has a default. Anything else is a new `VERSION`.
Source of the dialect: JSON Schema 2020-12, https://json-schema.org/draft/2020-12.
"""

from __future__ import annotations

import inspect
import json
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import msgspec

from offload.cli import terminal
from offload.contracts.events.event import Envelope, EventData
from offload.project import PROJECT

Schema = dict[str, Any]

DIALECT: Final = "https://json-schema.org/draft/2020-12/schema"
FOLDER: Final = PROJECT / "schemas"
ENVELOPE_FILE: Final = "event.json"
ENVELOPE_URI: Final = "urn:offload:event:1"
# What only explains: it may change freely.
_ANNOTATIONS: Final = frozenset({"$schema", "$id", "$defs", "title", "description", "examples", "$comment"})


class BreakingChange(Exception):
    """Contracts changed so that consumers break; `reasons` has one line a change, and so has `str()`."""

    def __init__(self, reasons: Sequence[str]) -> None:
        self.reasons = tuple(reasons)
        super().__init__("\n".join(self.reasons))


@dataclass(frozen=True)
class Written:
    """What `write` did, by file name."""

    new: tuple[str, ...]
    changed: tuple[str, ...]
    unchanged: tuple[str, ...]


def schema_of(contract: type[EventData]) -> Schema:
    """The schema of the data of one event type; its `$id` is the `dataschema` of the type's events."""
    return {
        "$schema": DIALECT,
        "$id": contract.schema_uri(),
        **_inlined(msgspec.json.schema(contract)),
        "title": contract.TYPE,
    }


def envelope_schema() -> Schema:
    """The schema of what travels: the CloudEvents envelope with its data, or a reference to it (claim check)."""
    schema = _inlined(msgspec.json.schema(Envelope))
    schema["properties"]["data"] = {"type": "object"}
    return {
        "$schema": DIALECT,
        "$id": ENVELOPE_URI,
        **schema,
        "title": "event",
        "anyOf": [{"required": ["data"]}, {"required": ["dataref"]}],
    }


def schemas_of(contracts: Iterable[type[EventData]]) -> dict[str, Schema]:
    """Every schema by its file's name."""
    return {ENVELOPE_FILE: envelope_schema()} | {f"{contract.TYPE}.json": schema_of(contract) for contract in contracts}


def text_of(schema: Mapping[str, Any]) -> str:
    """A schema as it stands in its file."""
    return json.dumps(schema, indent=2, ensure_ascii=False) + "\n"


def breaking_changes(old: Schema, new: Schema) -> list[str]:
    """What of the way from `old` to `new` breaks consumers, one line each; empty when nothing does.

    A raised version breaks nothing, since its events say so in `dataschema`.
    """
    before, after = _version(old), _version(new)
    if after > before:
        return []
    if after < before:
        return [f"VERSION went back from {before} to {after}"]
    return [f"{where or 'data'}: {what}" for where, what in _differences(old, new, "", _Definitions(old, new), set())]


def write(folder: Path, contracts: Iterable[type[EventData]]) -> Written:
    """Writes the schemas of `contracts` into `folder`: all of them, or none.

    Raises BreakingChange when one would break consumers of what stands in the folder.
    """
    schemas = schemas_of(contracts)
    new: list[str] = []
    changed: list[str] = []
    unchanged: list[str] = []
    reasons: list[str] = []
    for name, schema in schemas.items():
        file = folder / name
        if not file.exists():
            new.append(name)
            continue
        # As it would stand there: in Python a default may be a tuple.
        written = json.loads(text_of(schema))
        reasons += [f"{name}: {reason}" for reason in breaking_changes(json.loads(file.read_text("utf-8")), written)]
        (unchanged if file.read_text("utf-8") == text_of(schema) else changed).append(name)
    reasons += [
        f"{file.name}: no contract of that name any more; delete the file once nobody listens to the type"
        for file in sorted(folder.glob("*.json"))
        if file.name not in schemas
    ]
    if reasons:
        raise BreakingChange(reasons)
    folder.mkdir(exist_ok=True)
    for name in (*new, *changed):
        (folder / name).write_text(text_of(schemas[name]), "utf-8")
    return Written(tuple(new), tuple(changed), tuple(unchanged))


def main() -> int:
    """Writes schemas/ and says what changed; 1 when a change would break consumers."""
    # Not above: openapi uses this module.
    from offload.cli.catalogue import catalogue
    from offload.cli.schemas import job_steps, openapi

    app = catalogue()
    try:
        written = write(FOLDER, app.event_types)
    except BreakingChange as error:
        for reason in error.reasons:
            terminal.line(f"schemas/{reason}", stderr=True)
        terminal.line(
            "Nothing was written. Give new fields a default and leave the others, or raise VERSION.", stderr=True
        )
        return 1
    for word, names in (("new", written.new), ("changed", written.changed)):
        for name in names:
            terminal.line(f"schemas/{name}: {word}")
    for api in openapi.apis(app):
        if openapi.write(api):
            terminal.line(f"schemas/{api.name}/{api.file.name}: written")
    for version in job_steps.write(app.job_types.values()):
        terminal.line(f"schemas/jobs/{job_steps.FILE.name}: new: {version}")
    terminal.line(f"schemas/: {len(written.unchanged)} unchanged")
    return 0


def _inlined(schema: Schema) -> Schema:
    """The schema with its root in place of a reference to it."""
    definitions: Schema = dict(schema["$defs"])
    name = schema["$ref"].removeprefix("#/$defs/")
    root: Schema = definitions[name]
    if f'"{schema["$ref"]}"' not in json.dumps(definitions):
        del definitions[name]
    result = {**root, "$defs": definitions} if definitions else dict(root)
    for part in (result, *definitions.values()):
        if "description" in part:
            part["description"] = inspect.cleandoc(part["description"])
    inlined: Schema = published(result)
    return inlined


def published(part: Any) -> Any:
    r"""The part of a schema with patterns as JSON Schema has them: in ECMA-262 the end of a text is `$`, and no `\Z`.

    JSON Schema 2020-12 validation, section 6.3.3 (read 2026-11-29).
    """
    if isinstance(part, list):
        return [published(each) for each in part]
    if not isinstance(part, dict):
        return part
    changed = {name: published(value) for name, value in part.items()}
    pattern = changed.get("pattern")
    if isinstance(pattern, str) and pattern.endswith(r"\Z"):
        changed["pattern"] = pattern.removesuffix(r"\Z") + "$"
    return changed


def _version(schema: Mapping[str, Any]) -> int:
    return int(str(schema["$id"]).rpartition(":")[2])


class _Definitions:
    """Looks up the references of both schemas."""

    def __init__(self, old: Schema, new: Schema) -> None:
        self._old, self._new = old, new

    def resolved(self, old: Schema, new: Schema) -> tuple[Schema, Schema]:
        return _resolved(old, self._old), _resolved(new, self._new)


def _resolved(part: Schema, root: Schema) -> Schema:
    if "$ref" not in part:
        return part
    definition: Schema = root["$defs"][part["$ref"].removeprefix("#/$defs/")]
    return {**definition, **{key: value for key, value in part.items() if key != "$ref"}}


def _differences(
    old: Schema, new: Schema, where: str, definitions: _Definitions, seen: set[tuple[str, str]]
) -> Iterator[tuple[str, str]]:
    references = (old.get("$ref", ""), new.get("$ref", ""))
    if all(references):
        if references in seen:
            return  # a type that holds itself
        seen = seen | {references}
    old, new = definitions.resolved(old, new)
    if _kind(old) != _kind(new):
        yield where, f"was {_kind(old)} and is {_kind(new)}"
        return
    for key in sorted((old.keys() | new.keys()) - _ANNOTATIONS - {"type", "properties", "required", "items", "anyOf"}):
        if old.get(key) != new.get(key) or (key in old) != (key in new):
            yield where, _changed(key, old.get(key), new.get(key))
    if "items" in old and "items" in new:
        yield from _differences(old["items"], new["items"], f"{where}[]", definitions, seen)
    for before, after in zip(old.get("anyOf", ()), new.get("anyOf", ()), strict=False):
        yield from _differences(before, after, where, definitions, seen)
    yield from _field_differences(old, new, where, definitions, seen)


def _field_differences(
    old: Schema, new: Schema, where: str, definitions: _Definitions, seen: set[tuple[str, str]]
) -> Iterator[tuple[str, str]]:
    fields_before, fields_after = old.get("properties", {}), new.get("properties", {})
    for name, before in fields_before.items():
        path = f"{where}.{name}".lstrip(".")
        if name not in fields_after:
            yield path, "removed; deployed consumers still read it"
            continue
        if name in old.get("required", ()) and name not in new.get("required", ()):
            yield path, "no longer required; deployed consumers refuse events without it"
        if name not in old.get("required", ()) and name in new.get("required", ()):
            yield path, "required now; events already published may lack it"
        yield from _differences(before, fields_after[name], path, definitions, seen)
    for name in fields_after.keys() - fields_before.keys():
        if name in new.get("required", ()):
            yield f"{where}.{name}".lstrip("."), "new and required; events already published lack it: give it a default"


def _kind(schema: Schema) -> str:
    """What a value is, for people: `string`, `string (date-time)`, `string or null`."""
    if "anyOf" in schema and "type" not in schema:
        return " or ".join(_kind(choice) for choice in schema["anyOf"])
    if "$ref" in schema:
        return "object"
    kind = schema.get("type", "one of a list" if "enum" in schema else "anything")
    name = " or ".join(kind) if isinstance(kind, list) else str(kind)
    return f"{name} ({schema['format']})" if "format" in schema else name


def _changed(key: str, before: object, after: object) -> str:
    if key == "enum" and isinstance(before, list) and isinstance(after, list):
        gone = [value for value in before if value not in after]
        added = [value for value in after if value not in before]
        told = [f"no longer allows {gone}; events already published may have it"] if gone else []
        told += [f"newly allows {added}; deployed consumers refuse it"] if added else []
        return " and ".join(told) or "the order of its values changed"
    if key == "default":
        return (
            f"default was {before!r} and is {after!r}; it is left out of events, so deployed consumers read the old one"
        )
    return f"{key} was {_told(before)} and is {_told(after)}; the other side refuses what only one of them allows"


def _told(value: object) -> str:
    return "absent" if value is None else json.dumps(value)


if __name__ == "__main__":
    sys.exit(main())
