"""Small changes of an app's own modules: an import, an item of a tuple, a statement at the end of a constructor.

Each reads the module's syntax tree for the place and changes the text there, so that comments and layout stay.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Collection, Sequence

from offload.cli.deployment.failure import Failure

_WIDTH = 120


def with_sorted_imports(text: str, own: Collection[str]) -> str:
    """A new module with its imports in sections, each sorted: standard, third parties, `own` packages, relative.

    Every import is one line, and they stand together.
    """
    lines = text.splitlines(keepends=True)
    nodes = [node for node in ast.parse(text).body if isinstance(node, ast.Import | ast.ImportFrom)]
    nodes = [node for node in nodes if not (isinstance(node, ast.ImportFrom) and node.module == "__future__")]
    if not nodes:
        return text
    sections: dict[int, list[tuple[int, str, str]]] = {}
    for node in nodes:
        module = (node.module or "") if isinstance(node, ast.ImportFrom) else node.names[0].name
        top = module.partition(".")[0]
        relative = isinstance(node, ast.ImportFrom) and node.level > 0
        section = 3 if relative else 0 if top in sys.stdlib_module_names else 2 if top in own else 1
        kind = int(isinstance(node, ast.ImportFrom))
        sections.setdefault(section, []).append((kind, module, lines[node.lineno - 1]))
    blocks = ["".join(line for *_, line in sorted(sections[number])) for number in sorted(sections)]
    return "".join([*lines[: nodes[0].lineno - 1], "\n".join(blocks), *lines[nodes[-1].end_lineno :]])


def with_import(text: str, module: str, name: str, where: str, *, apart: bool = False) -> str:
    """The module with `from module import name`, in its place among the sorted imports of its section.

    `apart` says that the app's package is in a section of its own, as it is where the framework is installed.
    """
    tree = _parsed(text, where)
    lines = text.splitlines(keepends=True)
    imports = [node for node in tree.body if isinstance(node, ast.ImportFrom) and not node.level and node.module]
    for node in imports:
        if node.module == module and not any(each.asname for each in node.names):
            names = sorted({name, *(each.name for each in node.names)}, key=_order)
            lines[node.lineno - 1 : node.end_lineno] = [_import(module, names)]
            return "".join(lines)
    top = module.partition(".")[0]
    section = [node for node in imports if str(node.module).partition(".")[0] == top]
    if not section and not apart:
        section = _last_block(imports)
    if not section and imports:
        lines.insert(imports[-1].end_lineno or 0, f"\n{_import(module, [name])}")
        return "".join(lines)
    if not section:
        raise Failure(f"{where}: has no imports to put `from {module} import {name}` among: add it by hand")
    after = [node for node in section if str(node.module) < module]
    at = (after[-1].end_lineno or 0) if after else section[0].lineno - 1
    lines.insert(at, _import(module, [name]))
    return "".join(lines)


def with_item(text: str, call: str, keyword: str, item: str, where: str) -> str:
    """The module with `item` at the end of the tuple that the call of `call` takes as `keyword`.

    The keyword is added where the call does not have it. Raises Failure where there is no such call, or no tuple.
    """
    for node in ast.walk(_parsed(text, where)):
        if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == call):
            continue
        found = next((each.value for each in node.keywords if each.arg == keyword), None)
        if found is None:
            whole = _segment(text, node)
            inside = whole[:-1].rstrip()
            comma = "" if inside.endswith((",", "(")) else ","
            return _replaced(text, node, f"{inside}{comma} {keyword}=({item},))")
        if not isinstance(found, ast.Tuple):
            raise Failure(f"{where}: `{keyword}` of {call} is no tuple: add {item} to it by hand")
        inside = _segment(text, found)[1:-1].rstrip()
        lined = "\n" in _segment(text, found)
        comma = "" if inside.endswith(",") or not inside else ","
        if lined:
            indent = " " * found.elts[-1].col_offset
            return _replaced(text, found, f"({inside}{comma}\n{indent}{item},\n{indent[4:]})")
        items = f"{inside}{comma} {item}" if inside else item
        single = not found.elts
        return _replaced(text, found, f"({items.rstrip(',')}{',' if single else ''})")
    raise Failure(f"{where}: calls no {call}: add {item} to its `{keyword}` by hand")


def with_call(text: str, code: str, where: str) -> str:
    """The module with a statement at the end of the constructor of its last class.

    `code` is one call in one line, not indented. Raises Failure where there is no class with a constructor.
    """
    classes = [node for node in _parsed(text, where).body if isinstance(node, ast.ClassDef)]
    makers = [
        each for node in classes for each in node.body if isinstance(each, ast.FunctionDef) and each.name == "__init__"
    ]
    if not makers:
        raise Failure(f"{where}: has no class with a constructor: add the construct by hand")
    last = makers[-1].body[-1]
    indent = " " * last.col_offset
    if len(indent) + len(code) > _WIDTH:
        # As ruff lays it out: the arguments on a line of their own.
        opening, _, rest = code.partition("(")
        code = f"{opening}(\n    {rest.removesuffix(')')}\n)"
    lines = text.splitlines(keepends=True)
    lines.insert(last.end_lineno or len(lines), "".join(f"{indent}{line}\n" for line in code.splitlines()))
    return "".join(lines)


def defines_subclass(text: str, base: str, where: str) -> bool:
    """Whether the module defines a class of that base. Raises Failure where it is not Python."""
    return any(
        isinstance(node, ast.ClassDef) and any(isinstance(each, ast.Name) and each.id == base for each in node.bases)
        for node in _parsed(text, where).body
    )


def _last_block(imports: Sequence[ast.ImportFrom]) -> list[ast.ImportFrom]:
    """The imports that stand together at the end: those of our own packages."""
    block: list[ast.ImportFrom] = []
    for node in reversed(imports):
        if node.module == "__future__" or (block and (node.end_lineno or 0) + 1 != block[0].lineno):
            break
        block.insert(0, node)
    return block


def _order(name: str) -> tuple[int, str]:
    """Constants, then classes, then the rest: as ruff and isort sort the names of an import."""
    return (0 if name.isupper() else 1 if name[:1].isupper() else 2), name


def _import(module: str, names: Sequence[str]) -> str:
    line = f"from {module} import {', '.join(names)}\n"
    if len(line) <= _WIDTH + 1:
        return line
    return f"from {module} import (\n" + "".join(f"    {name},\n" for name in names) + ")\n"


def _parsed(text: str, where: str) -> ast.Module:
    try:
        return ast.parse(text)
    except SyntaxError as error:
        raise Failure(f"{where}:{error.lineno}: this is not Python ({error.msg}): correct it first") from error


def _segment(text: str, node: ast.expr) -> str:
    found = ast.get_source_segment(text, node)
    if found is None:  # every node of a parsed text has its place
        raise Failure("a part of the module has no place in its text")
    return found


def _replaced(text: str, node: ast.expr, by: str) -> str:
    lines = text.splitlines(keepends=True)
    # Columns are counted in bytes of UTF-8.
    before = "".join(lines[: node.lineno - 1]).encode() + lines[node.lineno - 1].encode()[: node.col_offset]
    end_line = node.end_lineno or node.lineno
    after = lines[end_line - 1].encode()[node.end_col_offset :] + "".join(lines[end_line:]).encode()
    return (before + by.encode() + after).decode()
