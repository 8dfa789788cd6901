"""`offload remove NAME`: a part of an app is taken out, and what stays of its data is said.

It takes out what `offload new` writes; what else uses a part is named, and nothing is changed then.
"""

from __future__ import annotations

import ast
import importlib
import re
import tomllib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from offload.cli.deployment.failure import Failure
from offload.cli.new.cut import unnamed, without_call, without_item, without_unused_imports
from offload.cli.new.parts import App, Part, class_name
from offload.cli.new.source import Match, calls, has, has_call, parsed, reads_of
from offload.contracts.catalogue import Catalogue
from offload.contracts.jobs.job_type import JobType
from offload.contracts.webhooks_in.scheme import Providers

_QUEUES: Final = "its queue with what waits in it, its dead letters, its log"


def remove(app: App, name: str, kind: str | None = None) -> Part:
    """Takes out the function, event type, provider or table of that name.

    Raises Failure where there is none, where several kinds have the name and no `kind` is given, and where a module
    that stays uses it.
    """
    kinds: Mapping[str, tuple[bool, Callable[[Part, str], None]]] = {
        "function": ((app.function(name) / "handler.py").is_file(), _function),
        "event": (name in {each.TYPE for each in app.catalogue.events}, _event),
        "provider": (name in app.catalogue.providers, _provider),
        "table": (_is_table(app, name), _table),
    }
    found = [each for each, (there, _) in kinds.items() if there and kind in (None, each)]
    if len(found) > 1:
        raise Failure(f"'{name}': is the name of several: say which, --kind {' or --kind '.join(found)}")
    if not found:
        raise Failure(
            f"'{name}': is no function in lambdas/, no event type and no provider of the catalogue, no table in stacks/"
        )
    part = Part(app)
    kinds[found[0]][1](part, name)
    before = {path: path.read_text(encoding="utf-8") for path in part.changed if path.suffix == ".py"}
    for path, text in before.items():
        part.changed[path] = without_unused_imports(text, part.changed[path], app.shown(path))
    _refuse_used(part)
    part.todo += _still_named(part, name)
    return part


def _function(part: Part, name: str) -> None:
    app = part.app
    _without_constructs(part, has("source", name))
    part.out_of_readme("consumer|job|integration", name)
    part.remove(app.function(name))
    part.remove(app.tests / f"test_{name}.py")
    if name in app.catalogue.job_types:
        constant = _constant(app.catalogue.module, lambda each: isinstance(each, JobType) and each.name == name)
        _without_contract(part, constant, app.catalogue_file(), calls(Catalogue.__name__))
        part.todo.append(
            f"before the deployment: `offload jobs list --type {name}`, and cancel what is not to run; what is known "
            "of its jobs stays in the table of jobs until it expires"
        )
    else:
        part.todo.append("before the deployment: `offload dead-letters list`, and redrive or drop what it has")
    part.todo += _stays(app, _QUEUES)


def _event(part: Part, name: str) -> None:
    app = part.app
    contract = next(each for each in app.catalogue.events if name == each.TYPE)
    _without_contract(part, contract.__name__, app.catalogue_file(), calls(Catalogue.__name__))
    part.out_of_readme("event", name)
    part.remove(app.project.root / "schemas" / f"{name}.json")
    part.todo.append("events of this type stay in the archive of the bus until they are too old for it")


def _provider(part: Part, name: str) -> None:
    app = part.app
    module = app.catalogue.providers.module
    constant = _constant(module, lambda each: each is app.catalogue.providers[name])
    _without_constructs(part, has("provider", constant))
    file = app.project.root / f"{module.replace('.', '/')}.py"
    _without_contract(part, constant, file, calls(Providers.__name__))
    part.out_of_readme("provider", name)
    part.todo += [
        "take the URL out of the provider's settings: from the deployment on it is answered 404",
        "its secrets stay in the secret of all providers, and its deliveries in their table until they expire",
    ]


def _table(part: Part, name: str) -> None:
    app, title = part.app, class_name(name)
    for file in app.stack_files():
        if not has_call(part.text(file), calls(title), app.shown(file)):
            continue
        for access in ("write", "read"):
            while has_call(part.text(file), _granted(f"{name}.{access}"), app.shown(file)):
                part.edit(file, without_item, _granted(f"{name}.{access}"), f"{name}.{access}")
        part.edit(file, without_call, calls(title))
    part.out_of_readme("table", name)
    part.remove(app.project.root / "stacks" / f"{name}.py")
    part.remove(app.tests / f"test_{name}.py")
    for folder in sorted((app.project.root / "lambdas").iterdir()):
        part.remove(folder / f"{name}.py")
    part.todo += _stays(app, "the table with its items")


def _is_table(app: App, name: str) -> bool:
    file = app.project.root / "stacks" / f"{name}.py"
    if not file.is_file():
        return False
    tree = parsed(file.read_text(encoding="utf-8"), app.shown(file))
    return any(
        isinstance(node, ast.ClassDef)
        and node.name == class_name(name)
        and any(isinstance(base, ast.Name) and base.id == "Construct" for base in node.bases)
        for node in tree.body
    )


def _granted(access: str) -> Match:
    """Finds the calls whose `grants` have it."""
    return lambda node: any(
        each.arg == "grants" and access in {ast.unparse(item) for item in getattr(each.value, "elts", ())}
        for each in node.keywords
    )


def _without_constructs(part: Part, match: Match) -> None:
    """Takes the constructs out of the stacks; an Integration goes with the last that called it."""
    found = False
    for file in part.app.stack_files():
        where = part.app.shown(file)
        while has_call(part.text(file), match, where):
            found = True
            granted = _owners(part.text(file), match, where)
            part.edit(file, without_call, match)
            for owner in granted:
                assigned = _assigned_to(part.text(file), owner, where)
                if assigned is not None and not reads_of(part.text(file), owner, where):
                    change = without_call if calls("Integration")(assigned) else unnamed
                    part.edit(file, change, _at(assigned))
    if not found:
        raise Failure("stacks/: the construct is not found: take it out by hand, and the rest then")


def _owners(text: str, match: Match, where: str) -> list[str]:
    """The names whose attributes a construct is granted: `carrier` of `carrier.call`."""
    return [
        item.value.id
        for node in ast.walk(parsed(text, where))
        if isinstance(node, ast.Call) and match(node)
        for each in node.keywords
        if each.arg == "grants" and isinstance(each.value, ast.Tuple)
        for item in each.value.elts
        if isinstance(item, ast.Attribute) and isinstance(item.value, ast.Name)
    ]


def _assigned_to(text: str, name: str, where: str) -> ast.Call | None:
    return next(
        (
            node.value
            for node in ast.walk(parsed(text, where))
            if isinstance(node, ast.Assign)
            and isinstance(node.value, ast.Call)
            and [ast.unparse(each) for each in node.targets] == [name]
        ),
        None,
    )


def _at(call: ast.Call) -> Match:
    return lambda node: (node.lineno, node.col_offset) == (call.lineno, call.col_offset)


def _constant(module: str, is_it: Callable[[Any], bool]) -> str:
    return next(name for name, each in vars(importlib.import_module(module)).items() if is_it(each))


def _without_contract(part: Part, constant: str, file: Path, match: Match) -> None:
    """Takes a contract out of the catalogue's call, and its module if nothing else of that is used."""
    app = part.app
    imported = _imported_from(part.text(file), constant, app.shown(file))
    part.edit(file, without_item, match, constant)
    path = app.project.root / f"{imported.replace('.', '/')}.py"
    if imported.partition(".")[0] != app.package or not path.is_file():
        return
    others = {*_public(path.read_text(encoding="utf-8"), app.shown(path))} - {constant}
    if any(others & _taken_from(imported, text) for _, text in _modules(part)):
        part.unlisted.add((imported, constant))
        part.todo.append(f"{constant} is still in {app.shown(path)}, with others: take it out there")
        return
    part.remove(path)
    part.remove(app.tests / f"test_{path.stem}.py")


def _imported_from(text: str, name: str, where: str) -> str:
    for node in parsed(text, where).body:
        if isinstance(node, ast.ImportFrom) and any(each.name == name for each in node.names):
            return node.module or ""
    return ""


def _public(text: str, where: str) -> Iterator[str]:
    for node in parsed(text, where).body:
        if isinstance(node, ast.ClassDef):
            yield node.name
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            yield from (each.id for each in targets if isinstance(each, ast.Name))


def _taken_from(module: str, text: str) -> set[str]:
    """The names that a text imports from a module."""
    return {
        each.name
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.ImportFrom) and node.module == module
        for each in node.names
    }


def _modules(part: Part) -> Iterator[tuple[Path, str]]:
    """The app's modules as they will be."""
    root = part.app.project.root
    for folder in (root / part.app.package, root / "lambdas", root / "stacks", root / "tests"):
        for path in sorted(folder.rglob("*.py")):
            if path not in part.removed:
                yield path, part.text(path)


def _refuse_used(part: Part) -> None:
    """Raises Failure where a module that stays imports one that goes, or what the catalogue no longer has."""
    gone = {part.app.module(path).removesuffix(".__init__") for path in part.removed if path.suffix == ".py"}
    for path, text in _modules(part):
        where = part.app.shown(path)
        for node in ast.walk(parsed(text, where)):
            if isinstance(node, ast.ImportFrom):
                above = part.app.module(path).split(".")[: -node.level] if node.level else []
                module = ".".join([*above, *filter(None, [node.module])])
                wanted = {module, *(f"{module}.{each.name}" for each in node.names)}
                if unlisted := sorted(each.name for each in node.names if (module, each.name) in part.unlisted):
                    raise Failure(f"{where}:{node.lineno}: uses {unlisted[0]} of {module}: take that out first")
            elif isinstance(node, ast.Import):
                wanted = {each.name for each in node.names}
            else:
                continue
            if used := sorted(wanted & gone):
                raise Failure(f"{where}:{node.lineno}: imports {used[0]}, which would be removed: take that out first")


def _still_named(part: Part, name: str) -> list[str]:
    root = part.app.project.root
    files = [path for path, _ in _modules(part)] + sorted(root.glob("*.md")) + sorted((root / "docs").rglob("*.md"))
    word = re.compile(rf"(?<![\w.-]){re.escape(name)}(?![\w-])")
    found = []
    for path in files:
        for number, line in enumerate(part.text(path).splitlines(), 1):
            if word.search(line):
                found.append(f"it is still named in {part.app.shown(path)}:{number}")
                break
    return found


def _stays(app: App, what: str) -> list[str]:
    """What becomes of the data of a construct that is taken out, by environment."""
    kept: list[str] = []
    lost: list[str] = []
    for file in sorted((app.project.root / "environments").glob("*.toml")):
        # Environment reads more of it, and loads the CDK for that: seconds.
        keeps = tomllib.loads(file.read_text(encoding="utf-8")).get("data", {}).get("keep", False)
        (kept if keeps else lost).append(file.stem)
    said = []
    if kept:
        said.append(f"{', '.join(kept)}: left in the account, outside of the stack, until a person deletes it: {what}")
    if lost:
        said.append(f"{', '.join(lost)}: deleted by the deployment: {what}")
    return said
