"""Texts of strangers, where commands show them, and what of them would steer a terminal or forge a line."""

from __future__ import annotations

import ast
import json
import sys
import types
import typing
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import is_dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from enum import Enum
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest
import typer
from typer.testing import CliRunner, Result

from offload.cli.deployment import resources
from offload.cli.deployment.failure import Failure
from offload.cli.main import SUB_COMMANDS, app
from offload.contracts.catalogue import Catalogue

STEERS = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})
# A clipboard write, a hidden link, a C1 control, overrides, a zero width, a tag, line ends, and a line of its own.
HOSTILE = (
    "\x1b]52;c;QUJD\x07\x1b]8;;http://evil\x1b\\\x9b31m\u202ea\u2066b\u200bc\U000e0041\x00\x7f\rd\x85\u2028"
    "\nFORGED It adds up.[red]:smile:[/nope][link=http://evil]"
)
NOW = datetime(2026, 11, 29, 12, tzinfo=UTC)


def steering(text: str) -> set[str]:
    """What is left in an output that a terminal, or a reader, could take otherwise than as its characters."""
    return {character for character in text if character != "\n" and unicodedata.category(character) in STEERS}


# -- an answer with the text in every field


def filled(kind: Any) -> Any:
    """A value of the type with HOSTILE in every field of text, however deep."""
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin is typing.Annotated:
        return filled(arguments[0])
    if origin is typing.Literal:
        return arguments[0]
    if origin in (typing.Union, types.UnionType):
        return filled(next(each for each in arguments if each not in (type(None), msgspec.UnsetType)))
    if origin is tuple:
        return (filled(arguments[0]),) if arguments[-1] is ... else tuple(filled(each) for each in arguments)
    if origin is list or origin is Sequence:
        return [filled(arguments[0])]
    if origin in (dict, Mapping) or (isinstance(origin, type) and issubclass(origin, Mapping)):
        return {filled(arguments[0]): filled(arguments[1])}
    plain: dict[Any, Any] = {
        str: HOSTILE, int: 1, float: 1.0, bool: True, bytes: HOSTILE.encode(), datetime: NOW, date: NOW.date(),
        Decimal: Decimal(1), Any: HOSTILE, object: HOSTILE, timedelta: timedelta(1),
        msgspec.Raw: msgspec.Raw(json.dumps({HOSTILE: HOSTILE}, ensure_ascii=False).encode()),
    }  # fmt: skip
    if kind in plain:
        return plain[kind]
    assert isinstance(kind, type), kind
    if issubclass(kind, Enum):
        return next(iter(kind))
    assert is_dataclass(kind) or issubclass(kind, msgspec.Struct | tuple), kind
    return kind(**{name: filled(of) for name, of in typing.get_type_hints(kind).items()})


class Answering:
    """Stands for a client: each of its methods answers with what its annotation says, filled."""

    def __init__(self, of: type, **said: Callable[..., Any]) -> None:
        self._of = of
        self._said = said

    def __getattr__(self, name: str) -> Callable[..., Any]:
        if name in self._said:
            return self._said[name]
        method = getattr(self._of, name)
        names = {**vars(sys.modules[method.__module__])}
        kind = eval(method.__annotations__["return"], names)  # noqa: S307 - our own annotations
        return lambda *_, **__: filled(kind)


def given(value: Any) -> Callable[..., Any]:
    return lambda *_, **__: value


def entered(value: Any) -> Callable[..., Any]:
    @contextmanager
    def enter(*_: Any, **__: Any) -> Iterator[Any]:
        yield value

    return enter


def deployment_of_strangers(monkeypatch: pytest.MonkeyPatch) -> None:
    """What commands find deployed."""
    monkeypatch.setenv("COLUMNS", "2000")
    deployment = SimpleNamespace(
        environment="local",
        aws=SimpleNamespace(s3=None, instance=None, dynamodb=None),
        bucket=given("bucket"),
        table=given("table"),
        function=given(filled(resources.Function)),
        # Of several stacks the commands say which.
        webhook_entries=(None, None),
    )
    monkeypatch.setattr(resources.Deployment, "of", staticmethod(given(deployment)))


# -- the commands


def commands_with(catalogue: Catalogue) -> set[str]:
    """The names of all commands, with those of the catalogue of the app that commands find."""
    group: Any = typer.main.get_command(app)
    groups = SUB_COMMANDS.keys() | catalogue.commands.keys()
    return {
        f"{name} {each}" if name in groups else name
        for name in group.list_commands(None)
        for each in (group.get_command(None, name).commands if name in groups else [""])
    }


def ran(command: str, *arguments: str) -> Result:
    """Runs a command, of one word or two."""
    return CliRunner().invoke(app, [*command.split(), *arguments], input="")


def assert_shows_escapes(command: str, *arguments: str) -> None:
    """The command shows HOSTILE, its controls as escapes and in one line."""
    result = ran(command, *arguments)
    assert result.exception is None or isinstance(result.exception, SystemExit | Failure), result.exception
    assert steering(result.output) == set()
    assert ("\\u001b]52;c;QUJD\\u0007" if command == "jobs result" else "\\x1b]52;c;QUJD\\x07") in result.output
    assert not [line for line in result.output.split("\n") if line.startswith("FORGED")]


def assert_escapes_in_json(command: str, *arguments: str) -> None:
    """The command's document has HOSTILE, and its controls are escapes."""
    result = ran(command, *arguments, "--json")
    assert result.exception is None or isinstance(result.exception, SystemExit | Failure), result.exception
    assert steering(result.output) == set()
    assert "\\u001b]52;c;QUJD\\u0007" in result.stdout
    lines = result.stdout.splitlines() if command == "logs" else [result.stdout]
    assert any(HOSTILE in text for line in lines for text in texts(json.loads(line)))


def texts(document: Any) -> Iterator[str]:
    match document:
        case str():
            yield document
        case dict():
            for name, value in document.items():
                yield name
                yield from texts(value)
        case list():
            for value in document:
                yield from texts(value)


# -- the sources


def past_the_terminal(files: Iterable[Path]) -> list[str]:
    """Each place in the files that prints past `offload.cli.terminal`."""
    return [f"{file}:{place}" for file in sorted(files) for place in around(ast.parse(file.read_text("utf-8")))]


def around(tree: ast.AST) -> Iterator[str]:
    """Each place in a source that prints past `offload.cli.terminal`, as line: what."""
    for node in ast.walk(tree):
        match node:
            case ast.Call(func=ast.Name(id="print" | "input" | "breakpoint" as name)):
                yield f"{node.lineno}: {name}()"
            case ast.Attribute(
                value=ast.Name(id="typer" | "click"),
                attr="echo" | "secho" | "echo_via_pager" | "confirm" | "prompt" | "launch" | "progressbar" as name,
            ):
                yield f"{node.lineno}: {name}"
            case ast.Attribute(
                value=ast.Name(id="sys"), attr="stdout" | "stderr" | "__stdout__" | "__stderr__" as name
            ):
                yield f"{node.lineno}: sys.{name}"
            case ast.Attribute(value=ast.Name(id="os"), attr="write" | "writev" | "dup2" | "system" as name):
                yield f"{node.lineno}: os.{name}"
            case ast.Attribute(value=ast.Name(id="logging"), attr="StreamHandler" | "basicConfig" as name):
                yield f"{node.lineno}: logging.{name}"
            case ast.Attribute(attr="from_markup" | "from_ansi" as name):
                yield f"{node.lineno}: {name}"
            case ast.Constant(value=str() as text) if text.startswith(("/dev/tty", "/dev/std", "/dev/fd")):
                yield f"{node.lineno}: {text}"
            case ast.ImportFrom(module=str() as module, names=names):
                for each in names:
                    if f"{module}.{each.name}" in FORBIDDEN or module in FORBIDDEN - {"rich"}:
                        yield f"{node.lineno}: {module}.{each.name}"
            case ast.Import(names=names):
                yield from (f"{node.lineno}: {each.name}" for each in names if each.name in FORBIDDEN)
            case ast.Call(func=ast.Name(id="Progress" | "Live" as name), keywords=keywords) if not any(
                each.arg == "console" for each in keywords
            ):
                yield f"{node.lineno}: {name}() on a console of rich's own"
            case ast.Call(func=ast.Attribute(value=ast.Name(id="subprocess")), keywords=keywords):
                names_given = {each.arg for each in keywords}
                if "capture_output" not in names_given and not {"stdout", "stderr"} <= names_given:
                    yield f"{node.lineno}: a process that prints where we do"


FORBIDDEN = {
    "rich", "rich.console", "rich.console.Console", "rich.get_console", "rich.print", "rich.print_json", "rich.prompt",
    "rich.pretty", "rich.traceback", "rich.logging", "rich.markdown", "rich.text", "rich.live", "typer.echo",
    "typer.secho", "typer.confirm", "typer.prompt", "click", "sys.stdout", "sys.stderr", "getpass", "curses", "pprint",
}  # fmt: skip
