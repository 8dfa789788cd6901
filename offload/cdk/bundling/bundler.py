"""Makes bundles: what Lambda runs, from what the project holds; each found again by the hash of its inputs."""

from __future__ import annotations

import errno
import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import uv

from offload.cdk.bundling.bytecode import compile_modules, compiles_for
from offload.cdk.bundling.errors import BundlingError, one_line, why_no_answer
from offload.cdk.bundling.imports import External, Trace, imports_of, trace
from offload.cdk.bundling.readings import Readings
from offload.cdk.bundling.requirements import (
    IN_THE_RUNTIME,
    LOCK,
    OWN_INPUT,
    SHARED_INPUT,
    SHARED_INPUTS,
    Lock,
    installed_providers,
    known_provider,
    normalised,
    possible_providers,
    read_requirements,
)
from offload.cdk.bundling.sources import content_of, refuse_name, refuse_unreadable
from offload.cdk.bundling.target import Target
from offload.contracts.catalogue import CATALOGUE_VARIABLE
from offload.contracts.functions import OWN_FUNCTIONS, folder_of, handler_of
from offload.contracts.webhooks_in.stored_secret import PROVIDERS_MODULE
from offload.project import Project

# The largest a function may be when unzipped, its layers included:
# docs.aws.amazon.com/lambda/latest/dg/gettingstarted-limits.html "Deployment package", 2026-11-23.
MAX_UNZIPPED_BYTES = 250 * 1024 * 1024

# Counts up when the same inputs come to another bundle.
_FORMAT = "3"
_PATIENCE_SECONDS = 300
_ABANDONED_AFTER_SECONDS = 3600
_UNUSED_AFTER_SECONDS = 14 * 24 * 3600
_PARTIAL = ".partial-"

_TESTS = re.compile(r"^(test_.*\.py|.*_test\.py|conftest\.py)\Z")
_TEST_FOLDERS = frozenset({"test", "tests"})
_NOTES = re.compile(r"^(requirements.*\.(txt|in)|README(\..*)?)\Z")
# What the kernel runs (execve(2), read 2026-11-29): a script by its first line, a program by its header. The bits of a
# checkout differ from machine to machine; these do not.
_PROGRAMS = (b"#!", b"\x7fELF")
_MODULE_ENDINGS = (".py", ".so", ".pyc")
_SOURCE_NAME = re.compile(r"^[a-z_][a-z0-9_]*\Z")


@dataclass(frozen=True)
class Bundle:
    """A finished bundle: its folder, the hash of its inputs (64 hex digits), and Lambda's handler string for it."""

    path: Path
    hash: str
    handler: str


@dataclass(frozen=True)
class _Plan:
    """What a bundle will hold: files by their names in it, a requirements file of pins, and the trace; and of the
    pinned distributions those that the function's own requirements bring. `tests` are folders of tests that the
    function imports from packages; `shown` is the function's folder, as errors name it.
    """  # noqa: D205

    shown: str
    own_names: frozenset[str]
    files: tuple[tuple[str, bytes], ...]
    pins: str
    locked: frozenset[str]
    tests: tuple[str, ...]
    trace: Trace
    target: Target

    @property
    def packages_key(self) -> str:
        return _digest([_FORMAT, self.target.identity, self.pins, *self.tests])

    @property
    def hash(self) -> str:
        contents = [part for path, content in self.files for part in (path, hashlib.sha256(content).hexdigest())]
        return _digest([_FORMAT, self.target.identity, self.pins, *contents])


class Bundler:
    """Bundles the functions of the project in `root`.

    Finished bundles are kept in `cache` (default `.offload/bundles` of the project), one folder a hash; so are the
    installed packages, one folder for each set of pins, which bundles share by hard links.
    """

    def __init__(self, root: Path, *, cache: Path | None = None, max_bytes: int = MAX_UNZIPPED_BYTES) -> None:
        self.root = root.resolve()
        self.project = Project.at(self.root)
        self.cache = cache if cache is not None else self.root / ".offload" / "bundles"
        self.max_bytes = max_bytes

    def bundle(self, source: str, target: Target, *, reaches: Sequence[str] = ()) -> Bundle:
        """The bundle of a function for `target`, made unless it is there; `source` as PythonFunction takes it.

        `reaches` names library modules that import tracing cannot see. Raises BundlingError, one line with the folder,
        the file and the fix, when it cannot be made.
        """
        plan = self._plan(source, target, reaches)
        Readings.kept_in(self.cache).save()
        path = self.cache / plan.hash
        if path.is_dir():
            os.utime(path)
        else:
            self.cache.mkdir(parents=True, exist_ok=True)
            self._remove_abandoned()
            packages = self._packages(plan)
            self._refuse_unprovided(plan, packages)
            self._made(path, lambda partial: self._assemble(plan, packages, partial))
        return Bundle(path, plan.hash, handler_of(source))

    def placeholder(self) -> Path:
        """A folder that stands for a bundle where bundling is switched off."""
        path = self.cache / "placeholder"
        path.mkdir(parents=True, exist_ok=True)
        (path / "README").write_text("Bundling was switched off for this stack.\n", encoding="utf-8")
        return path

    def _plan(self, source: str, target: Target, reaches: Sequence[str]) -> _Plan:
        shown = folder_of(source)
        if not _SOURCE_NAME.match(source.removeprefix(f"{OWN_FUNCTIONS}/")):
            raise BundlingError(f"{shown}: a function's folder is named like a Python module (lower case, digits, _)")
        folder = self.project.path_of(shown)
        if not folder.is_dir():
            raise BundlingError(f"{shown}: there is no such folder: make it, with a handler.py")
        if (folder / "handler.py").is_symlink():
            refuse_unreadable(folder / "handler.py", f"{shown}/handler.py")
        if not (folder / "handler.py").is_file():
            raise BundlingError(f"{shown}: has no handler.py: write one that defines `handler`")
        own = self._own_files(shown)
        readings = Readings.kept_in(self.cache)
        traced = trace(self.project, source, own, reaches, target.python, readings.read)
        handler = f"{shown}/handler.py"
        if "handler" not in readings.read(content_of(folder / "handler.py", handler), handler).binds:
            raise BundlingError(
                f"{shown}/handler.py: defines no `handler`: name the function that Lambda calls `handler`"
            )
        lock = Lock.read(self.root / LOCK)
        own_names, shared_names = self._required(shown, traced, lock)
        above = [f"{each.as_posix()}/__init__.py" for each in Path(shown).parents[:-1]]
        names = {*own, *traced.library, *(each for each in above if self.project.path_of(each).is_file())}
        files = tuple((name, content_of(self.project.path_of(name), name)) for name in sorted(names))
        pins, tests = lock.pinned(own_names | shared_names), tuple(sorted(_tests_in(traced.externals)))
        return _Plan(shown, own_names, files, pins, frozenset(lock.pins), tests, traced, target)

    def _own_files(self, shown: str) -> list[str]:
        """The folder's files that go into the bundle, by their names in it."""
        folder = self.project.path_of(shown)
        found = []
        for directory, folders, names in os.walk(folder):
            here = Path(directory)
            inside = here.relative_to(self.project.home(shown)).as_posix()
            for name in [*folders]:
                if (here / name).is_symlink():
                    raise BundlingError(
                        f"{inside}/{name}: is a link to a folder, which a bundle cannot hold: copy the folder"
                    )
                refuse_name(f"{inside}/{name}")
            folders[:] = [n for n in folders if n not in _TEST_FOLDERS and n != "__pycache__" and not n.startswith(".")]
            found += [
                f"{inside}/{name}"
                for name in names
                if not (_TESTS.match(name) or name.startswith(".") or name.endswith((".pyc", ".pyi", "~")))
                and not (here == folder and _NOTES.match(name))
            ]
        for relative in found:
            refuse_name(relative)
            refuse_unreadable(self.project.path_of(relative), relative)
        return sorted(found)

    def _required(self, shown: str, traced: Trace, lock: Lock) -> tuple[frozenset[str], frozenset[str]]:
        """The distributions that go in: those the function lists, and those the library modules it reaches import."""
        own_file = f"{shown}/{OWN_INPUT}"
        own = read_requirements(self.project.path_of(own_file), own_file)
        shared = {file: read_requirements(self.project.path_of(file), file) for file in SHARED_INPUTS.values()}
        listed = {each.name for requirements in shared.values() for each in requirements} - IN_THE_RUNTIME
        at_hand = listed | {requirement.name for requirement in own}
        by_library = [external for external in traced.externals if external.by_library]
        imported: set[str] = set()
        for module in {module for external in by_library for module in external.modules}:
            # Another name than the module's is looked up only where none is listed: that reads all of .venv.
            imported |= at_hand & possible_providers(module) or installed_providers(module)
        brought: set[str] = set()
        for file, requirements in shared.items():
            brought |= lock.closure([each for each in requirements if each.name in imported], file)
        return lock.closure(own, own_file), frozenset(brought)

    def _refuse_unprovided(self, plan: _Plan, packages: Path | None) -> None:
        for external in plan.trace.externals:
            if external.optional or external.top in IN_THE_RUNTIME:
                continue
            module = _unprovided(external, packages)
            if module is None:
                continue
            file = SHARED_INPUT if external.by_library else f"{plan.shown}/{OWN_INPUT}"
            name = known_provider(module, plan.locked)
            # A guess by the module's name may be a stranger's package.
            add = name or f"the distribution that has it (not known here, and {external.top} may be a stranger's name)"
            raise BundlingError(
                f"{external.file}:{external.line}: {plan.shown} imports {module}, which nothing"
                f" provides: add {add} to {file} and run make lock"
            )

    def _packages(self, plan: _Plan) -> Path | None:
        """The folder of the installed packages, made unless it is there; None when there are none."""
        if not plan.pins:
            return None
        path = self.cache / f"packages-{plan.packages_key}"
        if path.is_dir():
            os.utime(path)
        else:
            self._made(path, lambda partial: self._install(plan, partial))
        return path

    def _install(self, plan: _Plan, into: Path) -> None:
        pins = into.with_name(f"{into.name}.txt")
        pins.write_text(plan.pins, encoding="utf-8")
        command = [uv.find_uv_bin(), "pip", "install", "--quiet", "--color", "never", "--python", sys.executable]
        command += ["--target", str(into), "--no-deps", "--require-hashes", "--only-binary", ":all:"]
        command += ["--requirement", str(pins)]
        if plan.target.uv_platform is not None:
            command += ["--python-platform", plan.target.uv_platform, "--python-version", plan.target.python]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=_PATIENCE_SECONDS, check=False)
        except subprocess.TimeoutExpired as error:
            raise BundlingError(
                f"{plan.shown}: uv did not finish within {_PATIENCE_SECONDS} s: is the package index reachable?"
            ) from error
        finally:
            pins.unlink()
        if done.returncode != 0:
            raise BundlingError(_why_not_installed(plan, done.stderr))
        _strip(into, plan.tests)
        if compiles_for(plan.target.python):
            compile_modules(into, [path.relative_to(into).as_posix() for path in into.rglob("*.py")])

    def _assemble(self, plan: _Plan, packages: Path | None, into: Path) -> None:
        if packages is not None:
            _link_tree(packages, into)
        for relative, content in plan.files:
            path = into / relative
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
            path.chmod(0o755 if content.startswith(_PROGRAMS) else 0o644)
        if compiles_for(plan.target.python):
            compile_modules(into, [relative for relative, _ in plan.files])
        for directory, _, _ in os.walk(into):
            Path(directory).chmod(0o755)
        sizes = _sizes(into)
        total = sum(sizes.values())
        if total > self.max_bytes:
            largest = sorted(sizes, key=lambda name: -sizes[name])[:3]
            said = ", ".join(f"{name} {sizes[name] / 2**20:.1f} MB" for name in largest)
            raise BundlingError(
                f"{plan.shown}: {total / 2**20:.1f} MB unzipped, and Lambda takes"
                f" {self.max_bytes / 2**20:.0f} MB (largest: {said}): take requirements out of {OWN_INPUT}, or split it"
            )

    def _made(self, path: Path, make: Callable[[Path], None]) -> None:
        """Has `make` fill a folder beside `path` that becomes `path` in one rename: it is whole, or it is not there."""
        partial = Path(tempfile.mkdtemp(prefix=_PARTIAL, dir=self.cache))
        try:
            partial.chmod(0o755)
            make(partial)
            try:
                partial.rename(path)
            except OSError as error:
                # Another synth was first; the same inputs made the same bundle.
                if error.errno not in {errno.ENOTEMPTY, errno.EEXIST} or not path.is_dir():
                    raise
        finally:
            shutil.rmtree(partial, ignore_errors=True)

    def _remove_abandoned(self) -> None:
        """Takes away what interrupted runs left, and what no synth has used for two weeks."""
        now = time.time()
        for entry in self.cache.iterdir():
            keep = _ABANDONED_AFTER_SECONDS if entry.name.startswith(_PARTIAL) else _UNUSED_AFTER_SECONDS
            try:
                old = now - entry.stat().st_mtime > keep
            except FileNotFoundError:
                continue  # another synth's, and done
            if old:
                shutil.rmtree(entry, ignore_errors=True) if entry.is_dir() else entry.unlink(missing_ok=True)


def modules_named_by(variables: Mapping[str, str]) -> tuple[str, ...]:
    """The modules that a function's environment variables name and import tracing cannot see: the app's catalogue."""
    return tuple(variables[each] for each in (CATALOGUE_VARIABLE, PROVIDERS_MODULE) if each in variables)


def _digest(parts: Sequence[str]) -> str:
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()


def _why_not_installed(plan: _Plan, output: str) -> str:
    said = one_line(output)
    no_wheel = re.search(r"([A-Za-z0-9._-]+)==(\S+?) has no (?:usable wheels|wheels with a matching)", said)
    if no_wheel:
        own = normalised(no_wheel[1]) in plan.own_names
        return (
            f"{f'{plan.shown}/{OWN_INPUT}' if own else SHARED_INPUT}: {plan.shown} needs"
            f" {no_wheel[1]} {no_wheel[2]}, which has no wheel for {plan.target.label}:"
            " require a version that has one and run make lock, or do without it"
        )
    if (remedy := why_no_answer(said)) is not None:
        return f"{plan.shown}: {remedy}. uv says: {said}"
    return f"{plan.shown}: uv cannot install what {LOCK} pins: {said}"


def _strip(tree: Path, tests: Sequence[str]) -> None:
    """Takes out what a function never runs, and lets everyone read the rest, as Lambda does."""
    (tree / ".lock").unlink(missing_ok=True)
    shutil.rmtree(tree / "bin", ignore_errors=True)
    kept = _imported_tests(tree, tests)
    for directory, folders, names in os.walk(tree):
        here = Path(directory)
        if here.suffix == ".dist-info":
            _reduce_metadata(here)
            folders.clear()
            continue
        for name in [*folders]:
            relative = (here / name).relative_to(tree).as_posix()
            is_left_out = name in _TEST_FOLDERS and not f"{relative}/".startswith(tuple(f"{each}/" for each in kept))
            if is_left_out or name == "__pycache__":
                shutil.rmtree(here / name)
                folders.remove(name)
        for name in names:
            path = here / name
            if name.endswith((".pyi", ".pyc")) or name == "py.typed":
                path.unlink()
            else:
                _make_readable(path)


def _make_readable(path: Path) -> None:
    mode = path.stat().st_mode
    wanted = 0o755 if mode & 0o100 else 0o644
    if wanted & ~mode:
        # Never chmod in place: the file may be uv's own, by a hard link.
        copy = path.with_name(f"{path.name}.readable")
        shutil.copyfile(path, copy)
        copy.chmod(wanted)
        copy.replace(path)


def _reduce_metadata(folder: Path) -> None:
    """Keeps what `importlib.metadata` reads at run time: name, version, entry points."""
    headers = (folder / "METADATA").read_text(encoding="utf-8").partition("\n\n")[0].splitlines()
    kept = [line for line in headers if line.startswith(("Metadata-Version:", "Name:", "Version:"))]
    for path in list(folder.iterdir()):
        if path.is_dir():
            shutil.rmtree(path)
        elif path.name != "entry_points.txt":
            path.unlink()
    (folder / "METADATA").write_text("\n".join(kept) + "\n", encoding="utf-8")
    for path in folder.iterdir():
        _make_readable(path)


def _imported_tests(tree: Path, wanted: Sequence[str]) -> frozenset[str]:
    """The outermost folders of tests that must stay: those of `wanted`, and those that modules which stay import."""
    left_out = {}
    for directory, folders, _ in os.walk(tree):
        for name in [each for each in folders if each in _TEST_FOLDERS]:
            left_out[Path(directory, name).relative_to(tree).as_posix()] = Path(directory, name)
            folders.remove(name)
    if not left_out:
        return frozenset()
    kept = {folder for folder in left_out if any(f"{each}/".startswith(f"{folder}/") for each in wanted)}
    waiting = [path for path in tree.rglob("*.py") if not any(path.is_relative_to(each) for each in left_out.values())]
    waiting += [path for folder in kept for path in left_out[folder].rglob("*.py")]
    while waiting:
        path = waiting.pop()
        for folder in _tests_imported_by(path, path.relative_to(tree).as_posix()):
            found = {each for each in left_out if each not in kept and f"{folder}/".startswith(f"{each}/")}
            kept |= found
            waiting += [inner for each in found for inner in left_out[each].rglob("*.py")]
    return frozenset(kept)


def _tests_imported_by(path: Path, relative: str) -> set[str]:
    content = path.read_bytes()
    if not any(name.encode() in content for name in _TEST_FOLDERS):
        return set()
    try:
        found = imports_of(content, relative, strict=False)
    except BundlingError:
        return set()  # of another Python: importing it, if anybody does, says why
    return _tests_in(External(each.module, each.names, relative, each.line, each.optional) for each in found)


def _tests_in(externals: Iterable[External]) -> set[str]:
    """The folders of tests that imports go through, below the packages: `alone/tests` of `alone.tests.data`."""
    found = set()
    for external in externals:
        for module in external.modules:
            parts = module.split(".")
            found |= {"/".join(parts[: at + 1]) for at, part in enumerate(parts) if part in _TEST_FOLDERS}
    return found


def _unprovided(external: External, packages: Path | None) -> str | None:
    """The first module that an import names and no package has; None when all of it is there.

    What a package defines, rather than has as a file, cannot be seen: below a package with an `__init__` all is there.
    """
    if packages is None:
        return external.top
    here = packages
    parts = external.module.split(".")
    for at, part in enumerate(parts):
        if _is_module(here, part) or any(here.joinpath(part).glob("__init__.*")):
            return None
        here /= part
        if not here.is_dir():
            return ".".join(parts[: at + 1])
    # A namespace: only its parts have files.
    lacking = [
        name for name in external.names if name != "*" and not _is_module(here, name) and not (here / name).is_dir()
    ]
    return f"{external.module}.{lacking[0]}" if lacking else None


def _is_module(folder: Path, name: str) -> bool:
    return any(path.name.endswith(_MODULE_ENDINGS) for path in folder.glob(f"{name}.*"))


def _link_tree(tree: Path, into: Path) -> None:
    for directory, _, names in os.walk(tree):
        here = into / Path(directory).relative_to(tree)
        here.mkdir(exist_ok=True)
        for name in names:
            try:
                os.link(Path(directory, name), here / name)
            except OSError:
                # A file system without hard links, or too many of them on one file.
                shutil.copy2(Path(directory, name), here / name)


def _sizes(tree: Path) -> dict[str, int]:
    """Bytes by top-level entry."""
    sizes: dict[str, int] = {}
    for directory, _, names in os.walk(tree):
        for name in names:
            path = Path(directory, name)
            top = path.relative_to(tree).parts[0]
            sizes[top] = sizes.get(top, 0) + path.stat().st_size
    return sizes
