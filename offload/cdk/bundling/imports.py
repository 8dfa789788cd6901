"""Static import tracing: which first-party modules a function reaches, and what else it imports."""

from __future__ import annotations

import ast
import functools
import os
import sys
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, TypeAlias

from offload.cdk.bundling.errors import BundlingError
from offload.cdk.bundling.sources import content_of, refuse_name, refuse_utf16
from offload.contracts.functions import APP_FUNCTIONS, OWN_FUNCTIONS, folder_of
from offload.project import Project

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
class ReadsBeside:
    """That a module reads files beside it: where it says so, and every text that is written in it."""

    line: int
    texts: frozenset[str]


@dataclass(frozen=True)
class Reading:
    """What tracing needs of a module: its imports, the files beside it, the names that it binds at its top level."""

    imports: tuple[Import, ...]
    beside: ReadsBeside | None
    binds: frozenset[str]


Read: TypeAlias = Callable[[bytes, str], Reading]


@dataclass(frozen=True)
class External:
    """An import of something that is neither first-party nor of the standard library, and where it stands.

    `module` and `names` as `Import` has them.
    """

    module: str
    names: tuple[str, ...]
    file: str
    line: int
    optional: bool

    @property
    def top(self) -> str:
        """The first part of the name."""
        return self.module.partition(".")[0]

    @property
    def by_library(self) -> bool:
        """Whether a module of the library imports it, rather than one of an app's function's own folder."""
        return not self.file.startswith(f"{APP_FUNCTIONS}/")

    @property
    def modules(self) -> tuple[str, ...]:
        """Every dotted name that may be a module: the one that is named, and below it what is taken from it."""
        return (self.module, *(f"{self.module}.{name}" for name in self.names if name != "*"))


@dataclass(frozen=True)
class Trace:
    """What a function reaches: library files relative to the project's root, and the imports of third parties."""

    library: frozenset[str]
    externals: tuple[External, ...]


def standard_modules(python: str) -> frozenset[str]:
    """The top-level names of the standard library of `python` ("3.13"), as far as this Python knows them."""
    return (sys.stdlib_module_names | {"__future__"}) - _REMOVED.get(python, frozenset())


def _bound_by(tree: ast.Module) -> frozenset[str]:
    """The names that a module binds at its top level."""
    bound: set[str] = set()
    for node in tree.body:
        match node:
            case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
                bound.add(node.name)
            case ast.Import() | ast.ImportFrom():
                bound |= {alias.asname or alias.name for alias in node.names}
            case ast.Assign():
                names = (part for target in node.targets for part in ast.walk(target))
                bound |= {part.id for part in names if isinstance(part, ast.Name)}
            case ast.AnnAssign(target=ast.Name(id=name), value=value) if value is not None:
                bound.add(name)
            case _:
                pass
    return frozenset(bound)


def trace(
    project: Project, source: str, own: Iterable[str], reaches: Iterable[str], python: str, reading: Read
) -> Trace:
    """Follows the imports of a function's `own` files and of the library modules that `reaches` names.

    `own` is what goes into the bundle of the function's folder; `reading` reads a module as `read` does. Raises
    BundlingError for a syntax error, a first-party module that does not exist or that is not among `own`, a function
    that imports another function, a `reaches` that names no library module, and a library module that reads files
    beside it whose names cannot be seen.
    """
    own = frozenset(own)
    tracer = _Tracer(project, source, standard_modules(python), own, reading)
    for relative in sorted(own):
        if relative.endswith(".py"):
            tracer.follow(relative)
    for module in reaches:
        if not tracer.is_library(module) or not tracer.reach(module):
            raise BundlingError(
                f'{folder_of(source)}: reaches="{module}" names no module of {_folders(project.packages)}: correct it '
                "at the construct"
            )
    tracer.finish()
    return Trace(frozenset(tracer.library), tuple(tracer.externals))


_FUNCTIONS: Final = (APP_FUNCTIONS, OWN_FUNCTIONS.replace("/", "."))


def _folders(packages: Sequence[str]) -> str:
    return " or ".join(f"{package}/" for package in packages)


class _Tracer:
    """The modules seen so far and those still to be read."""

    def __init__(
        self, project: Project, source: str, standard: frozenset[str], own: Collection[str], reading: Read
    ) -> None:
        self.project = project
        self.read = reading
        self.own = own
        self.packages = project.packages
        self.own_package = folder_of(source).replace("/", ".")
        self.standard = standard
        self.library: set[str] = set()
        self.externals: list[External] = []
        self._waiting: list[str] = []
        self._namespaces: dict[str, str] = {}
        """Folders without an __init__.py that are imported, and where."""

    def finish(self) -> None:
        while self._waiting:
            self.follow(self._waiting.pop())
        for module, where in self._namespaces.items():
            folder = f"{module.replace('.', '/')}/"
            if not any(file.startswith(folder) for file in self.library):
                raise BundlingError(
                    f"{where}: imports {module}, a folder without an __init__.py of which the function reaches no"
                    " module, so that no bundle has it: import the module that is meant"
                )

    def is_library(self, module: str) -> bool:
        """Whether the name is of a module below one of the library's packages."""
        package, _, rest = module.partition(".")
        return package in self.packages and rest != ""

    def reach(self, module: str) -> bool:
        """Takes in a library module and the packages above it; whether there is such a module or package."""
        parts = module.split(".")
        found = self._file_of(module)
        if found is None and not self._is_folder(module):
            return False
        for depth in range(1, len(parts)):
            self._take("/".join([*parts[:depth], "__init__.py"]))
        if found is not None:
            self._take(found)
        return True

    def follow(self, relative: str) -> None:
        """Reads one file's imports."""
        module = self.read(content_of(self.project.path_of(relative), relative), relative)
        if relative.partition("/")[0] in self.packages and module.beside:
            self._take_data(module.beside, relative)
        for found in module.imports:
            if any(f"{found.module}.".startswith(f"{package}.") for package in _FUNCTIONS):
                self._own(found, relative)
            elif found.top in self.packages:
                self._first_party(found, relative)
            elif found.top not in self.standard:
                self.externals.append(External(found.module, found.names, relative, found.line, found.optional))

    def _first_party(self, found: Import, relative: str) -> None:
        is_package = self._is_folder(found.module)
        if not self.reach(found.module):
            if not found.optional:
                raise BundlingError(
                    f"{relative}:{found.line}: imports {found.module}, and there is no such module: correct the name"
                )
            # Python imports the packages above it all the same, and what asks for those is to find them.
            above = found.module.rpartition(".")[0]
            while above and not self.reach(above):
                above = above.rpartition(".")[0]
        if not is_package:
            return
        self._note_namespace(found.module, f"{relative}:{found.line}")
        for name in found.names:
            is_module = name != "*" and self.reach(f"{found.module}.{name}")
            if is_module:
                self._note_namespace(f"{found.module}.{name}", f"{relative}:{found.line}")
            if not is_module and self._file_of(found.module) is None and not found.optional:
                raise BundlingError(
                    f"{relative}:{found.line}: imports {name} from {found.module}, which has no such module:"
                    " correct the name"
                )

    def _note_namespace(self, module: str, where: str) -> None:
        if self._file_of(module) is None:
            self._namespaces.setdefault(module, where)

    def _own(self, found: Import, relative: str) -> None:
        """Imports of the function's own modules are files of its folder anyway; another function's are refused."""
        full = [found.module]
        is_folder = self._file_of(found.module) is None and self._is_folder(found.module)
        if found.names and (is_folder or found.module in _FUNCTIONS):
            full = [f"{found.module}.{name}" for name in found.names if name != "*"]
        for module in full:
            if module != self.own_package and not module.startswith(f"{self.own_package}."):
                raise BundlingError(
                    f"{relative}:{found.line}: imports {module}: a function never imports another function;"
                    f" move what they share into {_folders(self.packages[-1:])}"
                )
            if self._file_of(module) is None and not self._is_folder(module):
                raise BundlingError(
                    f"{relative}:{found.line}: imports {module}, and there is no such module: correct the name"
                )
        for module in sorted({*full, *(f"{found.module}.{name}" for name in found.names)}):
            self._refuse_left_out(module, f"{relative}:{found.line}")

    def _refuse_left_out(self, module: str, where: str) -> None:
        """Of a module that Python would find in the folder, and that the bundle leaves out as a test."""
        if not module.startswith(f"{self.own_package}."):
            return
        file = self._file_of(module)
        folder = f"{module.replace('.', '/')}/"
        if file is None and self._is_folder(module) and not any(each.startswith(folder) for each in self.own):
            file = folder
        if file is not None and file not in self.own:
            raise BundlingError(
                f"{where}: imports {module}, and a bundle leaves out {file} as a test: give it another name"
            )

    def _take_data(self, found: ReadsBeside, relative: str) -> None:
        """Takes in the files beside a library module that it reads: those whose names are written in it."""
        folders = [Path(relative).parent.as_posix()]
        for package in sorted(found.texts):
            if self.is_library(package) and self._is_folder(package):
                self.reach(package)
                folders.append(package.replace(".", "/"))
        beside = sorted({file for folder in folders for file in self._data_in(folder)})
        named = [file for file in beside if any(Path(file).name in text for text in found.texts)]
        if not named:
            # A folder that is read whole, or by names that are made up.
            depth = len(Path(relative).parent.parts)
            named = [file for file in beside if found.texts & set(Path(file).parts[depth:-1])]
        if beside and not named:
            raise BundlingError(
                f"{relative}:{found.line}: reads files beside it ({beside[0]}, for one), and says nowhere which:"
                " write their names, or their folder's, out in the module"
            )
        for file in named:
            refuse_name(file)
            self.library.add(file)

    def _data_in(self, folder: str) -> Iterator[str]:
        """The files of a library folder, and of the folders in it that are no packages, that are no modules."""
        for directory, folders, names in os.walk(self.project.path_of(folder)):
            here = Path(directory)
            folders[:] = [
                name for name in folders
                if not name.startswith((".", "__")) and not any((here / name).glob("*.py"))
            ]  # fmt: skip
            for name in names:
                if not name.startswith(".") and not name.endswith((".py", ".pyc", ".pyi", "~")) and name != "py.typed":
                    yield (here / name).relative_to(self.project.home(folder)).as_posix()

    def _take(self, relative: str) -> None:
        if relative not in self.library and self.project.path_of(relative).is_file():
            self.library.add(relative)
            self._waiting.append(relative)

    def _is_folder(self, module: str) -> bool:
        return self.project.path_of(module.replace(".", "/")).is_dir()

    def _file_of(self, module: str) -> str | None:
        base = module.replace(".", "/")
        for candidate in (f"{base}/__init__.py", f"{base}.py"):
            if self.project.path_of(candidate).is_file():
                return candidate
        return None


def read(content: bytes, relative: str) -> Reading:
    """What a module says of all that tracing asks; `relative` is its path from the project's root.

    Raises BundlingError as `imports_of` does.
    """
    tree = _parsed(content, relative)
    return Reading(imports_of(content, relative), _reads_beside(tree), _bound_by(tree))


@functools.lru_cache(maxsize=4096)
def imports_of(content: bytes, relative: str, *, strict: bool = True) -> tuple[Import, ...]:
    """Every import of a module, relative ones made absolute; `relative` is its path from the project's root.

    Raises BundlingError for what is no Python, and for an import that is relative to nothing that can be seen, which is
    left out where the reading is not `strict`.
    """
    tree = _parsed(content, relative)
    try:
        return tuple(_Reader(tree, relative, strict=strict).read(tree.body))
    except RecursionError:
        raise BundlingError(f"{relative}: has a condition that is nested too deep to be read: simplify it") from None


@functools.lru_cache(maxsize=4096)
def _parsed(content: bytes, relative: str) -> ast.Module:
    refuse_utf16(content, relative)
    try:
        return ast.parse(content, filename=relative)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        # With the last two, Python's parser says that it cannot nest so deep.
        line = getattr(error, "lineno", None) or 1
        message = getattr(error, "msg", None) or str(error) or "nested too deep"
        raise BundlingError(f"{relative}:{line}: this is not Python ({message}): correct it") from error


def _reads_beside(tree: ast.Module) -> ReadsBeside | None:
    """What a module says of files beside it (`__file__`, importlib.resources, pkgutil.get_data); None if nothing."""
    lines = []
    texts = set()
    for node in ast.walk(tree):
        match node:
            case ast.Name(id="__file__") | ast.Attribute(attr="get_data" | "__file__"):
                lines.append(node.lineno)
            case ast.Import(names=names) if any(each.name in _RESOURCES for each in names):
                lines.append(node.lineno)
            case ast.ImportFrom(module=str(module), names=names):
                if module in _RESOURCES or any(f"{module}.{each.name}" in _RESOURCES for each in names):
                    lines.append(node.lineno)
            case ast.Constant(value=str(text)):
                # No file is named with half of a character, and readings are kept as UTF-8.
                texts.add(text.encode(errors="ignore").decode())
            case _:
                pass
    return ReadsBeside(min(lines), frozenset(texts)) if lines else None


_RESOURCES: Final = frozenset({"importlib.resources", "importlib_resources", "pkgutil.get_data"})
_IMPORT_ERRORS: Final = frozenset({"ImportError", "ModuleNotFoundError", "Exception", "BaseException"})
_DECIDING_MODULES: Final = frozenset({"sys", "os", "platform"})
_OF_THE_SYSTEM: Final = frozenset(
    {"sys.version_info", "sys.platform", "sys.implementation", "sys.hexversion", "os.name", "os.uname"}
)


@dataclass
class _Words:
    """What a module calls the things that decide about its imports: other names by `as`, and results in variables."""

    load: set[str] = field(default_factory=lambda: {"import_module", "__import__"})
    suppress: set[str] = field(default_factory=lambda: {"suppress"})
    checking: set[str] = field(default_factory=lambda: {"TYPE_CHECKING"})
    finds: set[str] = field(default_factory=lambda: {"find_spec"})
    system: set[str] = field(default_factory=set)


class _Reader:
    """Reads the imports of one module."""

    def __init__(self, tree: ast.Module, relative: str, *, strict: bool) -> None:
        self.relative = relative
        self.strict = strict
        self.package = Path(relative).parent.parts
        self.words = _Words()
        nodes = list(ast.walk(tree))
        for node in nodes:
            if isinstance(node, ast.ImportFrom):
                self._learn(node)
            elif isinstance(node, ast.Import):
                decide = {alias.asname for alias in node.names if alias.asname and alias.name in _DECIDING_MODULES}
                self.words.system |= decide
        for node in nodes:
            # `HAS_YAML = find_spec("yaml") is not None`, and later `if HAS_YAML:`
            match node:
                case ast.Assign(targets=targets, value=value) if self._depends(value):
                    self.words.system |= {target.id for target in targets if isinstance(target, ast.Name)}
                case _:
                    pass

    def read(self, nodes: Iterable[ast.AST]) -> Iterator[Import]:
        """The imports in these nodes, in their order; those that never run are left out."""
        # No recursion: a chain of a thousand `elif`, or of as many `+`, is as deep as it is long.
        waiting = [(iter(nodes), False)]
        while waiting:
            within, optional = waiting[-1]
            node = next(within, None)
            match node:
                case None:
                    waiting.pop()
                case ast.Import():
                    for alias in node.names:
                        yield Import(alias.name, (), node.lineno, optional)
                case ast.ImportFrom():
                    taken = tuple(alias.name for alias in node.names)
                    module = node.module or ""
                    names = self._relative(module, node.level, self.package, node.lineno) if node.level else [module]
                    yield from (Import(each, taken, node.lineno, optional) for each in names)
                case ast.If() if (runs := self._truth(node.test)) is not None:
                    waiting.append((iter(node.body if runs else node.orelse), optional))
                case ast.If(test=test) | ast.IfExp(test=test) | ast.Match(subject=test) if self._depends(test):
                    waiting.append((ast.iter_child_nodes(node), True))
                case ast.Try() | ast.TryStar() if any(self._catches(handler) for handler in node.handlers):
                    rest = [*node.handlers, *node.orelse, *node.finalbody]
                    waiting += [(iter(rest), optional), (iter(node.body), True)]
                case ast.With() | ast.AsyncWith() if any(self._suppresses(each.context_expr) for each in node.items):
                    waiting.append((iter(node.body), True))
                case ast.Call(args=[ast.Constant(value=str(name)), *_]) if self._called(node.func, self.words.finds):
                    # What is found in the checkout has to be found in the bundle.
                    if not name.startswith("."):
                        yield Import(name, (), node.lineno, optional=True)
                    waiting.append((ast.iter_child_nodes(node), optional))
                case ast.Call() if self._called(node.func, self.words.load):
                    yield from self._loaded(node, optional=optional)
                    waiting.append((ast.iter_child_nodes(node), optional))
                case _:
                    waiting.append((ast.iter_child_nodes(node), optional))

    def _learn(self, node: ast.ImportFrom) -> None:
        words = self.words
        known = {"import_module": words.load, "suppress": words.suppress, "find_spec": words.finds}
        for alias in node.names:
            bound = alias.asname or alias.name
            if alias.name == "TYPE_CHECKING":
                words.checking.add(bound)
            elif node.module == "platform" or f"{node.module}.{alias.name}" in _OF_THE_SYSTEM:
                words.system.add(bound)
            elif alias.name in known and node.module in {"importlib", "importlib.util", "contextlib"}:
                known[alias.name].add(bound)

    def _relative(self, module: str, level: int, package: Sequence[str], line: int) -> Iterator[str]:
        """The absolute name of a module that is named relative to a package; none where that leaves the project."""
        if level <= len(package):
            yield ".".join([*package[: len(package) - level + 1], *([module] if module else [])])
        elif self.strict:
            raise BundlingError(f"{self.relative}:{line}: this relative import leaves the project: correct it")

    def _loaded(self, call: ast.Call, *, optional: bool) -> Iterator[Import]:
        """What `import_module(name, package)` and `__import__(name, globals, locals, fromlist, level)` import."""
        given = {each.arg: each.value for each in call.keywords}
        name = call.args[0] if call.args else given.get("name")
        if not isinstance(name, ast.Constant) or not isinstance(name.value, str):
            return
        module = name.value.lstrip(".")
        level = len(name.value) - len(module)
        package: Sequence[str] | None = self.package
        if self._called(call.func, {"__import__"}):
            depth = call.args[4] if len(call.args) > 4 else given.get("level")
            level = depth.value if isinstance(depth, ast.Constant) and isinstance(depth.value, int) else 0
        elif level:
            package = self._package_of(call.args[1] if len(call.args) > 1 else given.get("package"))
        if package is not None:
            names = [module] if not level else self._relative(module, level, package, call.lineno)
            yield from (Import(each, (), call.lineno, optional) for each in names)
        elif self.strict:
            raise BundlingError(
                f"{self.relative}:{call.lineno}: imports '{name.value}', which is relative to a package that cannot be"
                " seen: write the whole name, or __package__ as the second argument"
            )

    def _package_of(self, said: ast.expr | None) -> Sequence[str] | None:
        """The package that the second argument of `import_module` names; None where that cannot be seen."""
        match said:
            case ast.Constant(value=str(text)):
                return text.split(".")
            case ast.Name(id="__package__") | ast.Attribute(attr="parent", value=ast.Name(id="__spec__")):
                return self.package
            case ast.Name(id="__name__") if Path(self.relative).name == "__init__.py":
                return self.package
            case _:
                return None

    def _called(self, called: ast.expr, names: set[str]) -> bool:
        match called:
            case ast.Name(id=name):
                return name in names
            case ast.Attribute(attr=name):
                return name in names & {"import_module", "__import__", "suppress", "find_spec"}
            case _:
                return False

    def _truth(self, test: ast.expr) -> bool | None:
        """What a condition is whenever the code runs; None when that depends."""
        match test:
            case ast.Constant(value=value):
                return bool(value)
            case ast.Name(id=name) if name in self.words.checking:
                return False
            case ast.Attribute(attr="TYPE_CHECKING"):
                return False
            case ast.UnaryOp(op=ast.Not(), operand=operand):
                truth = self._truth(operand)
                return None if truth is None else not truth
            case ast.BoolOp(op=op, values=values):
                truths = [self._truth(each) for each in values]
                deciding = isinstance(op, ast.Or)
                if deciding in truths:
                    return deciding
                return None if None in truths else not deciding
            case _:
                return None

    def _depends(self, test: ast.expr) -> bool:
        """Whether a condition looks at the Python, at the system, or at what is installed."""
        for part in ast.walk(test):
            match part:
                case ast.Attribute(value=ast.Name(id="platform")):
                    return True
                case ast.Attribute(value=ast.Name(id=module), attr=name) if f"{module}.{name}" in _OF_THE_SYSTEM:
                    return True
                case ast.Name(id=name) if name in self.words.system:
                    return True
                case ast.Call(func=called) if self._called(called, self.words.finds):
                    return True
                case _:
                    pass
        return False

    def _catches(self, handler: ast.ExceptHandler) -> bool:
        return handler.type is None or _is_import_error(handler.type)

    def _suppresses(self, context: ast.expr) -> bool:
        match context:
            case ast.Call(func=called, args=caught) if self._called(called, self.words.suppress):
                return any(_is_import_error(one) for one in caught)
            case _:
                return False


def _is_import_error(caught: ast.expr) -> bool:
    match caught:
        case ast.Tuple(elts=several):
            return any(_is_import_error(one) for one in several)
        case ast.Name(id=name) | ast.Attribute(attr=name):
            return name in _IMPORT_ERRORS
        case _:
            return False
