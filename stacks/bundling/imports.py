"""Static import tracing: which first-party modules a function reaches, and what else it imports."""

from __future__ import annotations

import ast
import functools
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from stacks.bundling.errors import BundlingError

LIBRARY = "offload"
FUNCTIONS = "lambdas"

# Standard modules that a later Python took away (PEP 594, PEP 632; docs.python.org/3/whatsnew, 2026-11-23): the Python
# that synthesizes may still have them where the function's own does not.
_REMOVED_IN_3_12 = frozenset({"asynchat", "asyncore", "distutils", "imp", "smtpd"})
_REMOVED_IN_3_13 = frozenset(
    {"aifc", "audioop", "cgi", "cgitb", "chunk", "crypt", "imghdr", "lib2to3", "mailcap", "msilib", "nis", "nntplib"}
    | {"ossaudiodev", "pipes", "sndhdr", "spwd", "sunau", "telnetlib", "uu", "xdrlib"}
)
_REMOVED: dict[str, frozenset[str]] = {
    "3.12": _REMOVED_IN_3_12,
    "3.13": _REMOVED_IN_3_12 | _REMOVED_IN_3_13,
    # 3.14 removed none.
    "3.14": _REMOVED_IN_3_12 | _REMOVED_IN_3_13,
}


@dataclass(frozen=True)
class Import:
    """One import as written: `module` absolute and dotted; `names` what `from module import …` takes from it;
    `optional` when its failure is caught or it depends on the Python version or system.
    """  # noqa: D205

    module: str
    names: tuple[str, ...]
    line: int
    optional: bool

    @property
    def top(self) -> str:
        """The first part of the name: what a distribution provides."""
        return self.module.partition(".")[0]


@dataclass(frozen=True)
class External:
    """An import of something that is neither first-party nor of the standard library, and where it stands."""

    top: str
    file: str
    line: int
    optional: bool

    @property
    def by_library(self) -> bool:
        """Whether a module of the library imports it, rather than the function's own folder."""
        return self.file.startswith(f"{LIBRARY}/")


@dataclass(frozen=True)
class Trace:
    """What a function reaches: library files relative to the project's root, and the imports of third parties."""

    library: frozenset[str]
    externals: tuple[External, ...]


def standard_modules(python: str) -> frozenset[str]:
    """The top-level names of the standard library of `python` ("3.13"), as far as this Python knows them."""
    return (sys.stdlib_module_names | {"__future__"}) - _REMOVED.get(python, frozenset())


def defines(path: Path, name: str, where: str) -> bool:
    """Whether the module at `path` binds `name` at its top level; `where` names it in errors."""
    for node in _parsed(path.read_bytes(), where).body:
        match node:
            case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
                bound = [node.name]
            case ast.Import() | ast.ImportFrom():
                bound = [alias.asname or alias.name for alias in node.names]
            case ast.Assign():
                bound = [part.id for target in node.targets for part in ast.walk(target) if isinstance(part, ast.Name)]
            case ast.AnnAssign(target=ast.Name(id=bound_name), value=value) if value is not None:
                bound = [bound_name]
            case _:
                bound = []
        if name in bound:
            return True
    return False


def trace(root: Path, source: str, own: Iterable[str], reaches: Iterable[str], python: str) -> Trace:
    """Follows the imports of a function's `own` files (relative to `root`) and of the library modules `reaches` names.

    Raises BundlingError for a syntax error, a first-party module that does not exist, a function that imports another
    function, and a `reaches` that names no library module.
    """
    tracer = _Tracer(root, source, standard_modules(python))
    for relative in own:
        if relative.endswith(".py"):
            tracer.follow(relative)
    for module in reaches:
        if not module.startswith(f"{LIBRARY}.") or not tracer.reach(module):
            raise BundlingError(
                f'{FUNCTIONS}/{source}: reaches="{module}" names no module of {LIBRARY}/: correct it at the construct'
            )
    tracer.finish()
    return Trace(frozenset(tracer.library), tuple(tracer.externals))


class _Tracer:
    """The modules seen so far and those still to be read."""

    def __init__(self, root: Path, source: str, standard: frozenset[str]) -> None:
        self.root = root
        self.own_package = f"{FUNCTIONS}.{source}"
        self.standard = standard
        self.library: set[str] = set()
        self.externals: list[External] = []
        self._waiting: list[str] = []

    def finish(self) -> None:
        while self._waiting:
            self.follow(self._waiting.pop())

    def reach(self, module: str) -> bool:
        """Takes in a library module and the packages above it; whether there is such a module or package."""
        parts = module.split(".")
        found = self._file_of(module)
        if found is None and not self.root.joinpath(*parts).is_dir():
            return False
        for depth in range(1, len(parts)):
            self._take("/".join([*parts[:depth], "__init__.py"]))
        if found is not None:
            self._take(found)
        return True

    def follow(self, relative: str) -> None:
        """Reads one file's imports."""
        for found in imports_of((self.root / relative).read_bytes(), relative):
            if found.top == LIBRARY:
                self._first_party(found, relative)
            elif found.top == FUNCTIONS:
                self._own(found, relative)
            elif found.top not in self.standard:
                self.externals.append(External(found.top, relative, found.line, found.optional))

    def _first_party(self, found: Import, relative: str) -> None:
        is_package = self.root.joinpath(*found.module.split(".")).is_dir()
        if not self.reach(found.module) and not found.optional:
            raise BundlingError(
                f"{relative}:{found.line}: imports {found.module}, and there is no such module: correct the name"
            )
        if not is_package:
            return
        for name in found.names:
            is_module = name != "*" and self.reach(f"{found.module}.{name}")
            if not is_module and self._file_of(found.module) is None and not found.optional:
                raise BundlingError(
                    f"{relative}:{found.line}: imports {name} from {found.module}, which has no such module:"
                    " correct the name"
                )

    def _own(self, found: Import, relative: str) -> None:
        """Imports of the function's own modules are files of its folder anyway; another function's are refused."""
        full = [found.module]
        is_folder = self._file_of(found.module) is None and self.root.joinpath(*found.module.split(".")).is_dir()
        if found.names and (is_folder or found.module == FUNCTIONS):
            full = [f"{found.module}.{name}" for name in found.names if name != "*"]
        for module in full:
            if module != self.own_package and not module.startswith(f"{self.own_package}."):
                raise BundlingError(
                    f"{relative}:{found.line}: imports {module}: a function never imports another function;"
                    f" move what they share into {LIBRARY}/"
                )
            if self._file_of(module) is None and not self.root.joinpath(*module.split(".")).is_dir():
                raise BundlingError(
                    f"{relative}:{found.line}: imports {module}, and there is no such module: correct the name"
                )

    def _take(self, relative: str) -> None:
        if relative not in self.library and (self.root / relative).is_file():
            self.library.add(relative)
            self._waiting.append(relative)

    def _file_of(self, module: str) -> str | None:
        base = module.replace(".", "/")
        for candidate in (f"{base}/__init__.py", f"{base}.py"):
            if (self.root / candidate).is_file():
                return candidate
        return None


@functools.lru_cache(maxsize=4096)
def imports_of(content: bytes, relative: str) -> tuple[Import, ...]:
    """Every import of a module, relative ones made absolute; `relative` is its path from the project's root."""
    package = Path(relative).parent.parts
    return tuple(_imports_in(_parsed(content, relative).body, package, relative, optional=False))


@functools.lru_cache(maxsize=4096)
def _parsed(content: bytes, relative: str) -> ast.Module:
    try:
        return ast.parse(content, filename=relative)
    except (SyntaxError, ValueError) as error:
        line = getattr(error, "lineno", None) or 1
        message = getattr(error, "msg", None) or str(error)
        raise BundlingError(f"{relative}:{line}: this is not Python ({message}): correct it") from error


def _imports_in(
    nodes: Iterable[ast.AST], package: tuple[str, ...], relative: str, *, optional: bool
) -> Iterator[Import]:
    for node in nodes:
        match node:
            case ast.Import():
                for alias in node.names:
                    yield Import(alias.name, (), node.lineno, optional)
            case ast.ImportFrom():
                module = _absolute(node, package, relative)
                yield Import(module, tuple(alias.name for alias in node.names), node.lineno, optional)
            case ast.If() if _is_type_checking(node.test):
                yield from _imports_in(node.orelse, package, relative, optional=optional)
            case ast.If() if _depends_on_the_system(node.test):
                yield from _imports_in(ast.iter_child_nodes(node), package, relative, optional=True)
            case ast.Try() if any(_catches_import_error(handler) for handler in node.handlers):
                yield from _imports_in(node.body, package, relative, optional=True)
                rest = [*node.handlers, *node.orelse, *node.finalbody]
                yield from _imports_in(rest, package, relative, optional=optional)
            case ast.Call(args=[ast.Constant(value=str(module)), *_]) if _is_dynamic_import(node.func):
                if not module.startswith("."):
                    yield Import(module, (), node.lineno, optional)
            case _:
                yield from _imports_in(ast.iter_child_nodes(node), package, relative, optional=optional)


def _absolute(node: ast.ImportFrom, package: tuple[str, ...], relative: str) -> str:
    if node.level == 0:
        return node.module or ""
    if node.level > len(package):
        raise BundlingError(f"{relative}:{node.lineno}: this relative import leaves the project: correct it")
    base = package[: len(package) - node.level + 1]
    return ".".join([*base, *([node.module] if node.module else [])])


def _is_type_checking(test: ast.expr) -> bool:
    match test:
        case ast.Name(id="TYPE_CHECKING") | ast.Attribute(attr="TYPE_CHECKING"):
            return True
        case _:
            return False


def _depends_on_the_system(test: ast.expr) -> bool:
    for part in ast.walk(test):
        match part:
            case ast.Attribute(value=ast.Name(id="sys"), attr="version_info" | "platform"):
                return True
            case ast.Attribute(value=ast.Name(id="os"), attr="name"):
                return True
            case _:
                pass
    return False


def _catches_import_error(handler: ast.ExceptHandler) -> bool:
    if handler.type is None:
        return True
    caught = handler.type.elts if isinstance(handler.type, ast.Tuple) else [handler.type]
    names = {"ImportError", "ModuleNotFoundError", "Exception", "BaseException"}
    return any(isinstance(one, ast.Name) and one.id in names for one in caught)


def _is_dynamic_import(called: ast.expr) -> bool:
    match called:
        case ast.Name(id="import_module" | "__import__") | ast.Attribute(attr="import_module"):
            return True
        case _:
            return False
