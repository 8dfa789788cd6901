"""Small changes of an app's own modules: an import, an item of a tuple, a statement of a constructor is added."""

from __future__ import annotations

import ast
import sys
from collections.abc import Collection

from offload.cli.deployment.failure import Failure
from offload.cli.new.source import Match, arguments, call, fitted, import_line, parsed, replaced, segment, statement_of


def with_sorted_imports(text: str, own: Collection[str]) -> str:
    """A new module with its imports in sections, each sorted: standard, third parties, `own` packages, relative.

    Every import is one line, and they stand together.
    """
    lines = text.splitlines(keepends=True)
    nodes = [node for node in ast.parse(text).body if isinstance(node, ast.Import | ast.ImportFrom)]
    places = [(*_place(node, own), lines[node.lineno - 1]) for node in nodes]
    sections: dict[int, list[str]] = {}
    for number, _, line in sorted(places):
        sections.setdefault(number, []).append(line)
    if not nodes:
        return text
    block = "\n".join("".join(sections[number]) for number in sorted(sections))
    return "".join([*lines[: nodes[0].lineno - 1], block, *lines[nodes[-1].end_lineno :]])


def with_import(text: str, module: str, name: str, own: Collection[str], where: str) -> str:
    """The module with `from module import name`, in its place among the sorted imports of its section.

    `own` are the packages that are the app's own, whose imports are a section by themselves.
    """
    lines = text.splitlines(keepends=True)
    imports = [node for node in parsed(text, where).body if isinstance(node, ast.Import | ast.ImportFrom)]
    for node in imports:
        if not isinstance(node, ast.ImportFrom) or node.module != module or node.level:
            continue
        if not any(each.asname for each in node.names):
            names = {name, *(each.name for each in node.names)}
            lines[node.lineno - 1 : node.end_lineno] = [import_line(module, names)]
            return "".join(lines)
    if not imports:
        raise Failure(f"{where}: has no imports to put `from {module} import {name}` among: add it by hand")
    section, line = _section(module, own), import_line(module, [name])
    places = [(*_place(each, own), each) for each in imports]
    before = [node for number, of, node in places if (number, of) < (section, (1, module))]
    same = [node for number, _, node in places if number == section]
    if before and before[-1] in same:
        lines.insert(before[-1].end_lineno or 0, line)
    elif same:
        lines.insert(same[0].lineno - 1, line)
    elif before:
        lines.insert(before[-1].end_lineno or 0, f"\n{line}")
    else:
        lines.insert(imports[0].lineno - 1, f"{line}\n")
    return "".join(lines)


def with_item(text: str, match: Match, keyword: str, item: str, where: str) -> str:
    """The module with `item` at the end of the tuple that the call takes as `keyword`.

    The keyword is added where the call does not have it. Raises Failure where there is no such call, or no tuple.
    """
    node = call(text, match, f"add {item} to its `{keyword}`", where)
    found = next((each.value for each in node.keywords if each.arg == keyword), None)
    if found is None:
        return _with_argument(text, node, f"{keyword}=({item},)")
    if not isinstance(found, ast.Tuple):
        raise Failure(f"{where}:{found.lineno}: `{keyword}` is no tuple: add {item} to it by hand")
    inside = segment(text, found)[1:-1].rstrip()
    lined = "\n" in segment(text, found)
    comma = "" if inside.endswith(",") or not inside else ","
    if lined:
        indent = " " * found.elts[-1].col_offset
        return replaced(text, found, f"({inside}{comma}\n{indent}{item},\n{indent[4:]})")
    items = f"{inside}{comma} {item}" if inside else item
    single = not found.elts
    return fitted(replaced(text, found, f"({items.rstrip(',')}{',' if single else ''})"), found.lineno)


def with_argument(text: str, match: Match, argument: str, where: str) -> str:
    """The module with one more argument at the end of a call; raises Failure where there is no such call."""
    return _with_argument(text, call(text, match, f"add {argument} to it", where), argument)


def with_call(text: str, code: str, where: str) -> str:
    """The module with a statement at the end of the constructor of its last class.

    `code` is one call in one line, not indented. Raises Failure where there is no class with a constructor.
    """
    classes = [node for node in parsed(text, where).body if isinstance(node, ast.ClassDef)]
    makers = [
        each for node in classes for each in node.body if isinstance(each, ast.FunctionDef) and each.name == "__init__"
    ]
    if not makers:
        raise Failure(f"{where}: has no class with a constructor: add the construct by hand")
    last = makers[-1].body[-1]
    return _inserted(text, last.end_lineno or last.lineno, last.col_offset, code)


def with_call_before(text: str, match: Match, code: str, where: str) -> str:
    """The module with a statement before the one that has the call; raises Failure where there is no such call."""
    statement = statement_of(text, call(text, match, f"write `{code}` before it", where))
    return _inserted(text, statement.lineno - 1, statement.col_offset, code)


def defines_subclass(text: str, base: str, where: str) -> bool:
    """Whether the module defines a class of that base. Raises Failure where it is not Python."""
    return any(
        isinstance(node, ast.ClassDef) and any(isinstance(each, ast.Name) and each.id == base for each in node.bases)
        for node in parsed(text, where).body
    )


def _with_argument(text: str, node: ast.Call, argument: str) -> str:
    whole, given = segment(text, node), arguments(node)
    inside = whole[:-1].rstrip()
    end = whole[len(inside) :]
    if not given:
        return fitted(replaced(text, node, f"{inside}{argument})"), node.lineno)
    if inside.endswith(",") and "\n" in end:
        # One argument a line.
        indent = " " * (given[-1].col_offset)
        return fitted(replaced(text, node, f"{inside}\n{indent}{argument},{end}"), (node.end_lineno or 0))
    text = replaced(text, node, f"{inside.removesuffix(',')}, {argument}{end}")
    return fitted(text, given[-1].end_lineno or node.lineno)


def _inserted(text: str, after: int, column: int, code: str) -> str:
    lines = text.splitlines(keepends=True)
    lines.insert(after, f"{' ' * column}{code}\n")
    return fitted("".join(lines), after + 1)


def with_row(text: str, header: str, row: str) -> str:
    """The Markdown text with one more row of the table that has this header; as it is where it has no such table."""
    lines = text.splitlines(keepends=True)
    heads = [number for number, line in enumerate(lines) if line.rstrip("\n") == header]
    if not heads:
        return text
    end = heads[0]
    while end < len(lines) and lines[end].startswith("|"):
        end += 1
    return "".join([*lines[:end], f"{row}\n", *lines[end:]])


def _place(node: ast.Import | ast.ImportFrom, own: Collection[str]) -> tuple[int, tuple[int, str]]:
    """An import's section, and its order in that: `import` before `from`, then by the module."""
    if isinstance(node, ast.Import):
        return _section(node.names[0].name, own), (0, node.names[0].name)
    module = "." * node.level + (node.module or "")
    return _section(module, own), (1, module)


def _section(module: str, own: Collection[str]) -> int:
    top = module.partition(".")[0]
    if not top:
        return 4
    if top == "__future__":
        return 0
    return 1 if top in sys.stdlib_module_names else 3 if top in own else 2
