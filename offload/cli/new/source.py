"""An app's module as text and as a syntax tree: finding a call, replacing a part, laying out a line that is too long.

Changes are made in the text at the places that the tree names, so that comments and layout stay.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Collection
from typing import Final, TypeAlias

from offload.cli.deployment.failure import Failure

Match: TypeAlias = Callable[[ast.Call], bool]
"""Which call is meant."""
Argument: TypeAlias = ast.expr | ast.keyword

_WIDTH: Final = 120


def calls(name: str) -> Match:
    """Finds the calls of a function or class by its name."""
    return lambda node: isinstance(node.func, ast.Name) and node.func.id == name


def has(keyword: str, value: str) -> Match:
    """Finds the calls that have a keyword with this value: a string, or a name."""
    return lambda node: any(each.arg == keyword and _is(each.value, value) for each in node.keywords)


def _is(node: ast.expr, value: str) -> bool:
    if isinstance(node, ast.Constant):
        return bool(node.value == value)
    return isinstance(node, ast.Name) and node.id == value


def parsed(text: str, where: str) -> ast.Module:
    """The module's syntax tree; raises Failure where it is not Python."""
    try:
        return ast.parse(text)
    except SyntaxError as error:
        raise Failure(f"{where}:{error.lineno}: this is not Python ({error.msg}): correct it first") from error


def call(text: str, match: Match, otherwise: str, where: str) -> ast.Call:
    """The first call that is meant; raises Failure, with what to do `otherwise`, where there is none."""
    for node in ast.walk(parsed(text, where)):
        if isinstance(node, ast.Call) and match(node):
            return node
    raise Failure(f"{where}: does not have the call that is looked for: {otherwise} by hand")


def has_call(text: str, match: Match, where: str) -> bool:
    """Whether the module has such a call."""
    return any(isinstance(node, ast.Call) and match(node) for node in ast.walk(parsed(text, where)))


def names(text: str, where: str) -> set[str]:
    """Every name that the module uses or gives."""
    return {node.id for node in ast.walk(parsed(text, where)) if isinstance(node, ast.Name)}


def reads_of(text: str, name: str, where: str) -> list[int]:
    """The lines in which the module reads a name."""
    return [
        node.lineno
        for node in ast.walk(parsed(text, where))
        if isinstance(node, ast.Name) and node.id == name and isinstance(node.ctx, ast.Load)
    ]


def statement_of(text: str, node: ast.Call) -> ast.stmt:
    """The innermost statement that a call is in."""
    found = [
        each
        for each in ast.walk(ast.parse(text))
        if isinstance(each, ast.stmt)
        and (each.lineno, each.col_offset) <= (node.lineno, node.col_offset)
        and (node.end_lineno or 0) <= (each.end_lineno or 0)
    ]
    return max(found, key=lambda each: (each.lineno, each.col_offset))


def segment(text: str, node: ast.expr) -> str:
    """The text of an expression, as it is written."""
    found = ast.get_source_segment(text, node)
    if found is None:  # every node of a parsed text has its place
        raise Failure("a part of the module has no place in its text")
    return found


def arguments(node: ast.Call) -> list[Argument]:
    """A call's arguments in their order."""
    return [*node.args, *node.keywords]


def argument_text(text: str, argument: Argument) -> str:
    """The text of an argument, with its keyword."""
    if isinstance(argument, ast.expr):
        return segment(text, argument)
    value = segment(text, argument.value)
    return f"{argument.arg}={value}" if argument.arg else f"**{value}"


def replaced(text: str, node: ast.expr, by: str) -> str:
    """The module with another text in place of an expression."""
    lines = text.splitlines(keepends=True)
    # Columns are counted in bytes of UTF-8.
    before = "".join(lines[: node.lineno - 1]).encode() + lines[node.lineno - 1].encode()[: node.col_offset]
    end_line = node.end_lineno or node.lineno
    after = lines[end_line - 1].encode()[node.end_col_offset :] + "".join(lines[end_line:]).encode()
    return (before + by.encode() + after).decode()


def fitted(text: str, number: int) -> str:
    """The module with that line laid out as ruff does it, where it is too long and holds a call or a tuple.

    A call's arguments go on a line of their own, or one a line; a tuple's items one a line.
    """
    lines = text.splitlines()
    line = lines[number - 1]
    if len(line) <= _WIDTH:
        return text
    nodes = [each for each in ast.walk(ast.parse(text)) if isinstance(each, ast.Call | ast.Tuple)]
    # A call whose arguments have this line to themselves is laid out as a whole.
    around: list[ast.Call | ast.Tuple] = [
        each
        for each in nodes
        if isinstance(each, ast.Call)
        and each.lineno < number
        and arguments(each)
        and all(given.lineno == given.end_lineno == number for given in arguments(each))
    ]
    whole = around or [each for each in nodes if each.lineno == each.end_lineno == number]
    if not whole:
        return text
    node = min(whole, key=lambda each: (each.col_offset, -(each.end_col_offset or 0)))
    indent = " " * (len(line) - len(line.lstrip()) + (0 if around else 4))
    if isinstance(node, ast.Tuple):
        parts, opening = [segment(text, each) for each in node.elts], "("
    else:
        parts, opening = [argument_text(text, each) for each in arguments(node)], f"{segment(text, node.func)}("
    if isinstance(node, ast.Call) and len(indent) + len(", ".join(parts)) <= _WIDTH:
        return replaced(text, node, f"{opening}\n{indent}{', '.join(parts)}\n{indent[4:]})")
    number = node.lineno
    text = replaced(text, node, "\n".join([opening, *(f"{indent}{each}," for each in parts), f"{indent[4:]})"]))
    for at in range(len(parts), 0, -1):
        text = fitted(text, number + at)
    return text


def import_line(module: str, names: Collection[str]) -> str:
    """An import of these names, sorted, in one line or one name a line."""
    names = sorted(names, key=_order)
    line = f"from {module} import {', '.join(names)}\n"
    if len(line) <= _WIDTH + 1:
        return line
    return f"from {module} import (\n" + "".join(f"    {name},\n" for name in names) + ")\n"


def _order(name: str) -> tuple[int, str]:
    """Constants, then classes, then the rest: as ruff and isort sort the names of an import."""
    return (0 if name.isupper() else 1 if name[:1].isupper() else 2), name
