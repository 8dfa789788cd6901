"""Small changes of an app's own modules: a statement, an item or an import is taken out."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from offload.cli.deployment.failure import Failure
from offload.cli.new.source import (
    Argument,
    Match,
    argument_text,
    arguments,
    call,
    fitted,
    import_line,
    names,
    parsed,
    reads_of,
    replaced,
    segment,
    statement_of,
)


def without_call(text: str, match: Match, where: str) -> str:
    """The module without the statement that is the call, or gives it a name that nothing else uses then.

    What is said of it in comments above goes along. Raises Failure where there is no such call, where it is part of a
    larger statement, where it is all that a block has, and where the name is used.
    """
    node = call(text, match, "remove what there is", where)
    statement = statement_of(text, node)
    value = getattr(statement, "value", None)
    if not isinstance(value, ast.expr) or _place(value) != _place(node):
        raise Failure(f"{where}:{node.lineno}: the call is part of a larger statement: take it out by hand")
    tree = parsed(text, where)
    for name in _assigned(statement):
        if used := reads_of(text, name, where):
            raise Failure(f"{where}:{used[0]}: uses `{name}`, which would be removed: take that out first")
    if any([_place(each) for each in block] == [_place(statement)] for block in _blocks(tree)):
        raise Failure(f"{where}:{statement.lineno}: a block would be empty: take it out by hand")
    lines = text.splitlines(keepends=True)
    first = statement.lineno - 1
    while lines[first - 1].strip().startswith("#"):
        first -= 1
    return "".join([*lines[:first], *lines[statement.end_lineno :]])


def unnamed(text: str, match: Match, where: str) -> str:
    """The module in which a call that is given a name nothing uses is a statement by itself."""
    node = call(text, match, "leave it unnamed", where)
    statement = statement_of(text, node)
    given = _assigned(statement)
    if not given or any(reads_of(text, name, where) for name in given):
        return text
    lines = text.splitlines(keepends=True)
    line = lines[statement.lineno - 1]
    lines[statement.lineno - 1] = line[: statement.col_offset] + line[node.col_offset :]
    return "".join(lines)


def without_item(text: str, match: Match, item: str, where: str) -> str:
    """The module without a name, or an attribute of one, among the arguments of a call or in a tuple among them.

    A keyword whose tuple is empty then goes along. Raises Failure where the call, or the item in it, is not found.
    """
    node = call(text, match, f"take {item} out of it", where)
    for argument in arguments(node):
        value = argument.value if isinstance(argument, ast.keyword) else argument
        if ast.unparse(value) == item:
            return _without(text, node, argument)
        if not isinstance(value, ast.Tuple):
            continue
        for each in value.elts:
            if ast.unparse(each) != item:
                continue
            if len(value.elts) == 1:
                return _without(text, node, argument)
            kept = [segment(text, other) for other in value.elts if other is not each]
            if "\n" in segment(text, value):
                lines = text.splitlines(keepends=True)
                if lines[each.lineno - 1].strip().rstrip(",") == item:
                    return "".join([*lines[: each.lineno - 1], *lines[each.lineno :]])
            return replaced(text, value, f"({', '.join(kept)}{',' if len(kept) == 1 else ''})")
    raise Failure(f"{where}:{node.lineno}: does not have {item}: take it out by hand where it is")


def without_unused_imports(before: str, after: str, where: str) -> str:
    """The module `after` without the imported names that it used `before` its change and no longer uses."""
    used = names(before, where) - names(after, where)
    for node in reversed([each for each in parsed(after, where).body if isinstance(each, ast.ImportFrom)]):
        kept = [each for each in node.names if (each.asname or each.name) not in used]
        if len(kept) == len(node.names):
            continue
        lines = after.splitlines(keepends=True)
        left = [f"{each.name} as {each.asname}" if each.asname else each.name for each in kept]
        module = "." * node.level + (node.module or "")
        first, last = node.lineno - 1, node.end_lineno or node.lineno
        if not left and lines[first - 1].isspace() and lines[last].isspace():
            last += 1  # the section was this import
        lines[first:last] = [import_line(module, left)] if left else []
        after = "".join(lines)
    return after


def _without(text: str, node: ast.Call, argument: Argument) -> str:
    lines = text.splitlines(keepends=True)
    whole = lines[argument.lineno - 1 : argument.end_lineno]
    if whole[0][: argument.col_offset].strip() == "" and whole[-1].rstrip().endswith(","):
        return "".join([*lines[: argument.lineno - 1], *lines[argument.end_lineno :]])
    inside = ", ".join(argument_text(text, each) for each in arguments(node) if each is not argument)
    return fitted(replaced(text, node, f"{segment(text, node.func)}({inside})"), node.lineno)


def _place(node: ast.expr | ast.stmt) -> tuple[int, int, int | None, int | None]:
    return node.lineno, node.col_offset, node.end_lineno, node.end_col_offset


def _blocks(tree: ast.Module) -> Iterator[list[ast.stmt]]:
    for node in ast.walk(tree):
        for name in ("body", "orelse", "finalbody"):
            block = getattr(node, name, None)
            if isinstance(block, list):
                yield block


def _assigned(statement: ast.stmt) -> list[str]:
    targets = statement.targets if isinstance(statement, ast.Assign) else ()
    return [each.id for each in targets if isinstance(each, ast.Name)]
