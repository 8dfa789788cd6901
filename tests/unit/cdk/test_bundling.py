"""The bundler, on small projects with wheels of their own, installed by the real uv."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import threading
import time
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from uuid import uuid4

import pytest

from offload.cdk.bundling import MAX_UNZIPPED_BYTES, Bundler, BundlingError, Target, imports
from offload.cdk.bundling.archive import archive_of
from offload.cdk.bundling.bytecode import compile_modules
from offload.cdk.bundling.imports import Reading
from offload.cdk.bundling.lock import compile_lock
from offload.cdk.bundling.readings import Readings
from offload.project import PROJECT
from tests.odd_server import answer, odd_server
from tests.patience import PATIENCE

ARM = Target.of("3.13", "arm64")
HOST = Target.of("host", "host")
ANY = "py3-none-any"

HANDLER = "def handler(event, context):\n    return event\n"


@pytest.fixture(scope="session")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of wheels: what the package index is to these tests."""
    folder = tmp_path_factory.mktemp("wheels")
    for version in ("1.0", "2.0"):
        make_wheel(folder, "deep", version, ANY, {"deep/__init__.py": f"VERSION = '{version}'\n"})
    make_wheel(folder, "wide", "1.0", ANY, {"wide.py": "import deep\n"}, requires=["deep"])
    make_wheel(folder, "alone", "1.0", ANY, {"alone.py": "", "alone.pyi": "", "tests/test_alone.py": ""})
    make_wheel(folder, "extra", "1.0", ANY, {"extra.py": ""}, requires=["deep; extra == 'more'"])
    make_wheel(folder, "over-boto", "1.0", ANY, {"over_boto.py": "import boto3\n"}, requires=["boto3"])
    make_wheel(folder, "boto3", "1.0", ANY, {"boto3/__init__.py": ""}, requires=["jmespath"])
    make_wheel(folder, "jmespath", "1.0", ANY, {"jmespath/__init__.py": ""})
    make_wheel(folder, "intel", "1.0", "cp313-cp313-manylinux_2_17_x86_64", {"intel.py": ""})
    make_wheel(
        folder,
        "tested",
        "1.0",
        ANY,
        {
            "tested/__init__.py": "from .tests import data\n",
            "tested/tests/__init__.py": "",
            "tested/tests/data.py": "from tested.far.test import more\n",
            "tested/far/__init__.py": "",
            "tested/far/test/__init__.py": "more = 1\n",
            "tested/other/tests/test_other.py": "",
        },
    )
    make_wheel(folder, "space-one", "1.0", ANY, {"space/one/__init__.py": ""})
    make_wheel(folder, "odd-name", "1.0", ANY, {"space/two/__init__.py": ""})
    make_wheel(folder, "big", "1.0", ANY, {"big/data.bin": "0" * 3_000_000, "big/__init__.py": ""})
    return folder


@pytest.fixture(scope="session")
def local_index(wheels: Path) -> dict[str, str]:
    """The variables under which uv sees the wheels and nothing else."""
    cache = str(wheels.parent / "uv-cache")
    return {"UV_FIND_LINKS": str(wheels), "UV_NO_INDEX": "1", "UV_CACHE_DIR": cache}


@pytest.fixture(scope="session")
def locked(local_index: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The project that every test has a checkout of."""
    with pytest.MonkeyPatch.context() as environment:
        for name, value in local_index.items():
            environment.setenv(name, value)
        return make_project(tmp_path_factory.mktemp("origin") / "project")


@pytest.fixture(autouse=True)
def offline(local_index: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in local_index.items():
        monkeypatch.setenv(name, value)


@pytest.fixture
def root(locked: Path, tmp_path: Path) -> Path:
    return checkout(locked, tmp_path / "project")


def checkout(origin: Path, to: Path) -> Path:
    shutil.copytree(origin, to)
    return to


def make_wheel(
    folder: Path, name: str, version: str, tag: str, files: Mapping[str, str], requires: Sequence[str] = ()
) -> None:
    stem = f"{name.replace('-', '_')}-{version}"
    extras = "Provides-Extra: more\n" if any("extra ==" in line for line in requires) else ""
    headers = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n{extras}"
    everything = {
        **files,
        f"{stem}.dist-info/METADATA": headers
        + "".join(f"Requires-Dist: {line}\n" for line in requires)
        + "\nLong text\n",
        f"{stem}.dist-info/WHEEL": f"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: {tag}\n",
    }
    record = "".join(f"{path},,\n" for path in [*everything, f"{stem}.dist-info/RECORD"])
    with zipfile.ZipFile(folder / f"{stem}-{tag}.whl", "w") as archive:
        for path, content in {**everything, f"{stem}.dist-info/RECORD": record}.items():
            archive.writestr(path, content)


def write(root: Path, files: Mapping[str, str]) -> None:
    for relative, content in files.items():
        path = root / relative
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)


def make_project(root: Path) -> Path:
    """Functions `one`, `two` and `three` over a small library, locked."""
    write(
        root,
        {
            "lambdas/__init__.py": "",
            "lambdas/requirements.in": "wide\n",
            "lambdas/one/handler.py": f"from offload.runtime.shared import thing\nfrom .rules import rule\n{HANDLER}",
            "lambdas/one/rules.py": "rule = 1\n",
            "lambdas/one/table.csv": "a,b\n",
            "lambdas/two/handler.py": f"def lazily():\n    from offload.runtime import middle\n{HANDLER}",
            "lambdas/two/requirements.txt": "alone==1.0\n",
            "lambdas/three/handler.py": f"import alone\nfrom offload.contracts.events.event import Event\n{HANDLER}",
            "lambdas/three/requirements.txt": "alone # as in two\n",
            "offload/runtime/__init__.py": "",
            "offload/runtime/shared.py": "thing = 1\n",
            "offload/runtime/middle.py": "import importlib\nfar = importlib.import_module('offload.runtime.far')\n",
            "offload/runtime/far.py": "import wide\n",
            "offload/contracts/events/event.py": (
                "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from offload.runtime.shared import thing\n"
                "class Event: pass\n"
            ),
        },
    )
    lock(root)
    return root


def lock(root: Path) -> None:
    (root / "lambdas/constraints.txt").write_text(compile_lock(root))


def hashes(root: Path, target: Target = ARM) -> dict[str, str]:
    return {source: Bundler(root).bundle(source, target).hash for source in ("one", "two", "three")}


def changed(before: Mapping[str, str], after: Mapping[str, str]) -> set[str]:
    return {source for source in before if before[source] != after[source]}


def holds(bundle: Path) -> set[str]:
    """The bundle's files, but for the bytecode that this Python leaves in the bundles of its own version."""
    made_here = f".{sys.implementation.cache_tag}.pyc"
    files = {path.relative_to(bundle).as_posix() for path in bundle.rglob("*") if path.is_file()}
    return {name for name in files if not name.endswith(made_here)}


def refusal(root: Path, source: str = "one", target: Target = ARM, max_bytes: int = MAX_UNZIPPED_BYTES) -> str:
    """The line that refuses to bundle `source`."""
    with pytest.raises(BundlingError) as raised:
        Bundler(root, max_bytes=max_bytes).bundle(source, target)
    message = str(raised.value)
    assert "\n" not in message
    return message


# What goes in


def test_a_bundle_holds_the_functions_folder_and_exactly_the_library_modules_it_reaches(root: Path) -> None:
    assert holds(Bundler(root).bundle("one", ARM).path) == {
        "lambdas/__init__.py",
        "lambdas/one/handler.py",
        "lambdas/one/rules.py",
        "lambdas/one/table.csv",
        "offload/runtime/__init__.py",
        "offload/runtime/shared.py",
    }


def test_imports_inside_functions_and_by_literal_name_are_followed_with_what_they_require(root: Path) -> None:
    inside = holds(Bundler(root).bundle("two", ARM).path)
    assert {"offload/runtime/middle.py", "offload/runtime/far.py", "wide.py", "deep/__init__.py", "alone.py"} <= inside
    assert "offload/runtime/shared.py" not in inside


def test_imports_for_type_checking_alone_are_not_followed(root: Path) -> None:
    assert "offload/runtime/shared.py" not in holds(Bundler(root).bundle("three", ARM).path)


def test_reaches_brings_a_module_that_tracing_cannot_see_with_all_that_it_imports(root: Path) -> None:
    inside = holds(Bundler(root).bundle("one", ARM, reaches=["offload.runtime.middle"]).path)
    assert {"offload/runtime/middle.py", "offload/runtime/far.py", "wide.py"} <= inside


def test_tests_caches_requirements_and_distribution_noise_stay_out(root: Path) -> None:
    write(
        root,
        {
            "lambdas/three/test_handler.py": "",
            "lambdas/three/tests/helper.py": "import nothing_of_the_kind",
            "lambdas/three/__pycache__/handler.cpython-310.pyc": "",
            "lambdas/three/.DS_Store": "",
            "lambdas/three/README.md": "",
        },
    )
    assert holds(Bundler(root).bundle("three", ARM).path) == {
        "lambdas/__init__.py",
        "lambdas/three/handler.py",
        "offload/contracts/events/event.py",
        "alone.py",
        "alone-1.0.dist-info/METADATA",
    }


def test_what_is_left_of_a_distributions_metadata_still_tells_its_version(root: Path) -> None:
    bundle = Bundler(root).bundle("three", HOST).path
    code = f"import sys, importlib.metadata as m; sys.path.insert(0, {str(bundle)!r}); print(m.version('alone'))"
    assert subprocess.check_output([sys.executable, "-I", "-S", "-B", "-c", code], text=True) == "1.0\n"


def test_boto3_stays_out_though_a_requirement_depends_on_it_and_though_the_handler_imports_it(root: Path) -> None:
    write(root, {"lambdas/one/handler.py": f"import over_boto, boto3, botocore.config\n{HANDLER}"})
    write(root, {"lambdas/one/requirements.txt": "over-boto\n"})
    lock(root)
    inside = holds(Bundler(root).bundle("one", ARM).path)
    assert "over_boto.py" in inside
    assert not {path for path in inside if path.startswith(("boto3", "jmespath"))}


@pytest.mark.slow
def test_boto3_goes_in_whole_when_a_function_asks_for_its_own(root: Path) -> None:
    write(root, {"lambdas/one/requirements.txt": "boto3\n"})
    lock(root)
    assert {"boto3/__init__.py", "jmespath/__init__.py"} <= holds(Bundler(root).bundle("one", ARM).path)


def test_an_extra_brings_its_packages_to_the_function_that_names_it_and_to_no_other(root: Path) -> None:
    write(root, {"lambdas/one/requirements.txt": "extra[more]\n", "lambdas/three/requirements.txt": "extra\nalone\n"})
    lock(root)
    assert "deep/__init__.py" in holds(Bundler(root).bundle("one", ARM).path)
    assert "deep/__init__.py" not in holds(Bundler(root).bundle("three", ARM).path)


def test_every_file_of_a_bundle_can_be_read_by_everyone_whatever_the_makers_umask(root: Path) -> None:
    before = os.umask(0o077)
    try:
        bundle = Bundler(root).bundle("two", ARM).path
    finally:
        os.umask(before)
    assert all(path.stat().st_mode & 0o444 == 0o444 for path in bundle.rglob("*") if path.is_file())


# Bytecode


def bytecode(bundle: Path) -> set[str]:
    return {path.relative_to(bundle).as_posix() for path in bundle.rglob("*.pyc")}


def test_every_module_has_bytecode_in_a_bundle_for_the_python_that_makes_it(root: Path) -> None:
    bundle = Bundler(root).bundle("two", HOST).path
    modules = list(bundle.rglob("*.py"))
    tag = sys.implementation.cache_tag
    expected = {
        (path.parent / "__pycache__" / f"{path.stem}.{tag}.pyc").relative_to(bundle).as_posix() for path in modules
    }
    assert {"wide.py", "handler.py", "middle.py"} <= {path.name for path in modules}
    assert bytecode(bundle) == expected


def test_a_bundle_for_another_python_has_none(root: Path) -> None:
    another = "3.12" if sys.version_info[:2] == (3, 13) else "3.13"
    assert not bytecode(Bundler(root).bundle("two", Target.of(another, "arm64")).path)


def test_bytecode_says_nothing_of_the_machine_and_is_the_same_in_every_checkout(locked: Path, tmp_path: Path) -> None:
    made = [
        Bundler(checkout(locked, tmp_path / name), cache=tmp_path / f"cache-{name}").bundle("two", HOST)
        for name in ("here", "there")
    ]
    assert made[0].hash == made[1].hash
    contents = [{name: (each.path / name).read_bytes() for name in bytecode(each.path)} for each in made]
    assert contents[0] == contents[1]
    for name, content in contents[0].items():
        assert b"/var/task/" in content, name
        assert str(tmp_path).encode() not in content, name


def test_bytecode_is_taken_unseen_whatever_time_the_source_has_and_tracebacks_name_the_file(
    root: Path, tmp_path: Path
) -> None:
    unpacked = tmp_path / "task"
    shutil.copytree(Bundler(root).bundle("one", HOST).path, unpacked)
    handler = unpacked / "lambdas" / "one" / "handler.py"
    handler.write_text("raise AssertionError('compiled anew')\n", encoding="utf-8")
    os.utime(handler, (1, 1))
    code = f"import sys; sys.path.insert(0, {str(unpacked)!r}); from lambdas.one.handler import handler as h"
    said = subprocess.check_output(
        [sys.executable, "-I", "-S", "-B", "-c", f"{code}; print(h.__code__.co_filename)"], text=True
    )
    assert said.strip() == str(handler)


def test_a_file_of_a_package_that_is_no_python_of_this_version_is_left_alone(root: Path) -> None:
    write(root, {"lambdas/one/broken.py": "print 'two'\n", "lambdas/one/table.csv": "a,b\n"})
    compile_modules(root, ["lambdas/one/broken.py", "lambdas/one/table.csv"])
    assert not bytecode(root)


# Hashes


def test_two_checkouts_at_different_paths_give_equal_hashes(locked: Path, tmp_path: Path) -> None:
    here, there = checkout(locked, tmp_path / "here"), checkout(locked, tmp_path / "far" / "away" / "there")
    for path in there.rglob("*"):
        os.utime(path, (1, 1))
    write(there, {"lambdas/one/__pycache__/rules.cpython-313.pyc": "?", "lambdas/one/test_rules.py": "?"})
    (there / "lambdas/one/rules.py").chmod(0o755)
    assert hashes(here) == hashes(there)
    assert hashes(here, HOST) == hashes(there, HOST)


@pytest.mark.parametrize(
    ("file", "functions"),
    [
        ("offload/runtime/shared.py", {"one"}),
        ("offload/runtime/far.py", {"two"}),
        ("offload/contracts/events/event.py", {"three"}),
        ("offload/runtime/__init__.py", {"one", "two"}),
        ("lambdas/one/table.csv", {"one"}),
        ("lambdas/two/requirements.txt", set()),
    ],
)
def test_changing_one_file_changes_exactly_the_functions_that_reach_it(
    root: Path, file: str, functions: set[str]
) -> None:
    before = hashes(root)
    with (root / file).open("a") as text:
        text.write("# changed\n")
    assert changed(before, hashes(root)) == functions


def test_changing_a_pin_changes_exactly_the_functions_that_install_it(root: Path) -> None:
    before = hashes(root)
    assert "deep==2.0" in (root / "lambdas/constraints.txt").read_text()
    write(root, {"lambdas/requirements.in": "wide\ndeep<2\n"})
    lock(root)
    assert "deep==1.0" in (root / "lambdas/constraints.txt").read_text()
    assert changed(before, hashes(root)) == {"two"}


def test_platform_and_python_are_part_of_the_hash(root: Path) -> None:
    targets = [ARM, Target.of("3.13", "x86_64"), Target.of("3.12", "arm64"), HOST]
    assert len({Bundler(root).bundle("one", target).hash for target in targets}) == len(targets)


def test_locking_again_with_nothing_changed_gives_the_same_lock_without_a_host_or_path_in_it(
    root: Path, wheels: Path
) -> None:
    before = (root / "lambdas/constraints.txt").read_text()
    lock(root)
    assert (root / "lambdas/constraints.txt").read_text() == before
    assert "://" not in before
    assert str(wheels) not in before
    assert str(root) not in before


# Made once, whole, and found again


def test_a_finished_bundle_is_found_again_without_uv(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = Bundler(root).bundle("two", ARM)
    monkeypatch.setattr("uv.find_uv_bin", lambda: "/nonexistent/uv")
    assert Bundler(root).bundle("two", ARM) == first


@pytest.fixture
def modules_read(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The modules that are read for their imports, in order."""
    found: list[str] = []
    reads = imports.read

    def read(content: bytes, relative: str) -> Reading:
        found.append(relative)
        return reads(content, relative)

    monkeypatch.setattr(imports, "read", read)
    return found


def in_a_new_process(root: Path) -> dict[str, str]:
    """The hashes as another process finds them, which has only what is kept on disk."""
    Readings.kept_in.cache_clear()
    return hashes(root)


def test_a_module_is_read_for_its_imports_once_and_again_when_it_changes(root: Path, modules_read: list[str]) -> None:
    first = in_a_new_process(root)
    assert sorted(set(modules_read)) == sorted(modules_read)
    assert "offload/runtime/far.py" in modules_read
    modules_read.clear()
    assert in_a_new_process(root) == first
    assert modules_read == []
    write(root, {"offload/runtime/far.py": "import wide\nfrom offload.runtime import shared\n"})
    assert changed(first, in_a_new_process(root)) == {"two"}
    assert modules_read == ["offload/runtime/far.py"]


@pytest.mark.parametrize("kept", ["", "{", '{"by": "3.1 other code", "modules": {"0": 1}}', "[]", "\x00"])
def test_readings_that_this_code_did_not_write_are_made_again(root: Path, modules_read: list[str], kept: str) -> None:
    first = in_a_new_process(root)
    read_at_first = sorted(modules_read)
    (root / ".offload/bundles/readings.json").write_text(kept)
    modules_read.clear()
    assert in_a_new_process(root) == first
    assert sorted(modules_read) == read_at_first


def test_readings_of_another_version_of_the_code_that_reads_are_made_again(
    root: Path, modules_read: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    in_a_new_process(root)
    read_at_first = sorted(modules_read)
    modules_read.clear()
    monkeypatch.setattr("offload.cdk.bundling.readings._reader", lambda: "another version")
    in_a_new_process(root)
    assert sorted(modules_read) == read_at_first


def test_equal_modules_at_two_places_each_have_their_own_relative_imports(tmp_path: Path) -> None:
    readings = Readings(tmp_path)
    for package in ("offload/one", "offload/two"):
        (found,) = readings.read(b"from .deep import thing\n", f"{package}/module.py").imports
        assert found.module == f"{package}.deep".replace("/", ".")


def test_half_of_a_character_in_a_text_is_no_hindrance(root: Path) -> None:
    write(root, {"offload/runtime/far.py": "here = __file__\nhalf = '\\udc80'\nname = 'far.csv'\n"})
    write(root, {"offload/runtime/far.csv": "a\n"})
    assert "offload/runtime/far.csv" in holds(Bundler(root).bundle("two", ARM).path)
    Readings.kept_in.cache_clear()
    assert "offload/runtime/far.csv" in holds(Bundler(root).bundle("two", ARM).path)


def test_the_archive_of_a_bundle_has_its_files_their_modes_and_the_same_bytes_everywhere(
    root: Path, locked: Path, tmp_path: Path
) -> None:
    write(root, {"lambdas/one/tool": "#!/bin/sh\n"})
    folder = Bundler(root).bundle("one", ARM).path
    with zipfile.ZipFile(archive_of(folder)) as archive:
        assert sorted(archive.namelist()) == sorted(
            path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()
        )
        for entry in archive.infolist():
            assert archive.read(entry) == (folder / entry.filename).read_bytes()
            assert entry.external_attr >> 16 == (folder / entry.filename).stat().st_mode, entry.filename
    elsewhere = checkout(locked, tmp_path / "far" / "away")
    write(elsewhere, {"lambdas/one/tool": "#!/bin/sh\n"})
    there = archive_of(Bundler(elsewhere).bundle("one", ARM).path)
    assert there.read_bytes() == archive_of(folder).read_bytes()


def test_an_archive_that_is_there_is_not_made_again(root: Path) -> None:
    folder = Bundler(root).bundle("one", ARM).path
    made = archive_of(folder)
    inode = made.stat().st_ino
    assert archive_of(folder) == made
    assert made.stat().st_ino == inode


def test_changed_sources_are_bundled_anew_from_packages_already_installed(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = Bundler(root).bundle("two", ARM)
    write(root, {"offload/runtime/far.py": "import wide\nnew = 1\n"})
    monkeypatch.setattr("uv.find_uv_bin", lambda: "/nonexistent/uv")
    second = Bundler(root).bundle("two", ARM)
    assert second.hash != first.hash
    assert (second.path / "offload/runtime/far.py").read_text() == "import wide\nnew = 1\n"
    assert (first.path / "offload/runtime/far.py").read_text() == "import wide\n"


@pytest.mark.slow
def test_a_bundler_killed_at_any_moment_leaves_no_half_bundle_that_is_found_later(root: Path, tmp_path: Path) -> None:
    whole = holds(Bundler(root, cache=tmp_path / "reference").bundle("two", ARM).path)
    for delay in (0.02, 0.05, 0.1, 0.15, 0.2, 0.3):
        process = started_bundling(root)
        assert process.stdout is not None
        process.stdout.readline()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(timeout=delay)
        process.kill()
        process.wait()
        process.stdout.close()
        cache = root / ".offload/bundles"
        named = [path for path in cache.glob("*") if path.is_dir() and not path.name.startswith(".partial-")]
        for path in named:
            assert (
                holds(path) >= {"wide.py", "deep/__init__.py", "alone.py"}
                if path.name.startswith("packages-")
                else holds(path) == whole
            )
        assert holds(Bundler(root).bundle("two", ARM).path) == whole
        # Put aside, not removed: an installer that outlived its killed bundler may still write there.
        cache.rename(cache.with_name(f"past-{uuid4().hex}"))


def test_what_an_interrupted_run_left_is_taken_away_later_and_a_running_ones_is_not(root: Path) -> None:
    cache = root / ".offload/bundles"
    old, young = cache / ".partial-old", cache / ".partial-young"
    for folder in (old, young):
        write(folder, {"lambdas/one/handler.py": ""})
    os.utime(old, (time.time() - 7200,) * 2)
    Bundler(root).bundle("one", ARM)
    assert not old.exists()
    assert young.exists()


def test_a_failed_installation_leaves_nothing_behind(root: Path) -> None:
    write(root, {"lambdas/one/requirements.txt": "intel\n"})
    lock(root)
    refusal(root)
    assert [path.name for path in (root / ".offload/bundles").iterdir()] == ["readings.json"]


def test_two_synths_at_once_make_the_same_whole_bundle(root: Path, tmp_path: Path) -> None:
    whole = holds(Bundler(root, cache=tmp_path / "reference").bundle("two", ARM).path)
    processes = [started_bundling(root) for _ in range(3)]
    outputs = [process.communicate(timeout=PATIENCE)[0].splitlines() for process in processes]
    assert [process.returncode for process in processes] == [0, 0, 0]
    paths = {lines[-1] for lines in outputs}
    assert len(paths) == 1
    assert holds(Path(paths.pop())) == whole
    assert not list((root / ".offload/bundles").glob(".partial-*"))


def test_many_threads_bundling_at_once_all_get_the_whole_bundle(root: Path) -> None:
    found: list[set[str]] = []
    threads = [
        threading.Thread(target=lambda: found.append(holds(Bundler(root).bundle("three", ARM).path))) for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=PATIENCE)
    assert len(found) == 4
    assert all("alone.py" in one and one == found[0] for one in found)


def started_bundling(root: Path) -> subprocess.Popen[str]:
    """A process that says "ready", bundles `two`, and prints its path."""
    code = (
        "import sys, pathlib\nfrom offload.cdk.bundling import Bundler, Target\nprint('ready', flush=True)\n"
        "print(Bundler(pathlib.Path(sys.argv[1])).bundle('two', Target.of('3.13', 'arm64')).path)"
    )
    here = PROJECT
    return subprocess.Popen([sys.executable, "-c", code, str(root)], cwd=here, stdout=subprocess.PIPE, text=True)


# Refusals


def test_a_folder_that_is_not_there_is_named_with_the_fix(root: Path) -> None:
    assert refusal(root, "four") == "lambdas/four: there is no such folder: make it, with a handler.py"


def test_a_folder_name_that_python_cannot_import_is_refused(root: Path) -> None:
    write(root, {"lambdas/sales-ledger/handler.py": HANDLER})
    assert refusal(root, "sales-ledger").startswith("lambdas/sales-ledger: a function's folder is named like")


@pytest.mark.parametrize(
    ("source", "folder"),
    [
        ("orders/one", "lambdas/orders/one"),
        ("../one", "lambdas/../one"),
        ("/one", "lambdas//one"),
        ("offload/functions/orders/one", "offload/functions/orders/one"),
        ("offload/functions/../one", "offload/functions/../one"),
    ],
)
def test_a_source_that_is_no_name_of_one_folder_is_refused(root: Path, source: str, folder: str) -> None:
    write(root, {f"{folder}/handler.py": HANDLER})
    assert refusal(root, source).startswith(f"{folder}: a function's folder is named like a Python module")


def test_a_folder_without_handler_py_is_named_with_the_fix(root: Path) -> None:
    (root / "lambdas/one/handler.py").unlink()
    assert refusal(root) == "lambdas/one: has no handler.py: write one that defines `handler`"


@pytest.mark.parametrize(
    "content", ["def handle(event, context): ...\n", "handler: int\n", "def f():\n    handler = 1\n"]
)
def test_a_handler_py_that_defines_no_handler_is_refused(root: Path, content: str) -> None:
    write(root, {"lambdas/one/handler.py": content})
    assert refusal(root).startswith("lambdas/one/handler.py: defines no `handler`: ")


@pytest.mark.parametrize(
    "content",
    ["handler = print\n", "from offload.runtime.shared import thing as handler\n", "handler: object = print\n"],
)
def test_a_handler_may_be_assigned_or_imported(root: Path, content: str) -> None:
    write(root, {"lambdas/one/handler.py": content})
    assert Bundler(root).bundle("one", ARM).handler == "lambdas.one.handler.handler"


def test_an_import_that_nothing_provides_is_named_with_its_line_and_the_file_to_mend(root: Path) -> None:
    write(root, {"lambdas/one/rules.py": "import json\n\n\ndef rule():\n    import yaml\n"})
    assert refusal(root) == (
        "lambdas/one/rules.py:5: lambdas/one imports yaml, which nothing provides:"
        " add pyyaml to lambdas/one/requirements.txt and run make lock"
    )


def test_an_import_that_nothing_provides_in_the_library_is_mended_for_all_functions(root: Path) -> None:
    write(root, {"offload/runtime/shared.py": "import alone\n"})
    assert refusal(root) == (
        "offload/runtime/shared.py:1: lambdas/one imports alone, which nothing provides:"
        " add alone to lambdas/requirements.in and run make lock"
    )


@pytest.mark.parametrize(
    "content",
    [
        "try:\n    import yaml\nexcept ImportError:\n    yaml = None\n",
        "import sys\nif sys.version_info < (3, 11):\n    import tomli\n",
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from mypy_boto3_sqs import SQSClient\n",
    ],
)
def test_an_import_that_the_code_can_do_without_is_not_demanded(root: Path, content: str) -> None:
    write(root, {"lambdas/one/rules.py": f"{content}rule = 1\n"})
    assert "lambdas/one/rules.py" in holds(Bundler(root).bundle("one", ARM).path)


def test_a_standard_module_that_the_functions_python_no_longer_has_counts_as_missing(root: Path) -> None:
    write(root, {"lambdas/one/rules.py": "import cgi\nrule = 1\n"})
    assert refusal(root).startswith("lambdas/one/rules.py:1: lambdas/one imports cgi, which nothing provides")


def test_a_library_module_that_does_not_exist_is_named_with_its_line(root: Path) -> None:
    write(root, {"lambdas/one/rules.py": "\nfrom offload.runtime.sharde import thing\nrule = 1\n"})
    assert refusal(root) == (
        "lambdas/one/rules.py:2: imports offload.runtime.sharde, and there is no such module: correct the name"
    )


def test_a_module_of_the_functions_own_that_does_not_exist_is_named_with_its_line(root: Path) -> None:
    write(root, {"lambdas/one/handler.py": f"from .ruels import rule\n{HANDLER}"})
    assert refusal(root) == (
        "lambdas/one/handler.py:1: imports lambdas.one.ruels, and there is no such module: correct the name"
    )


def test_a_function_that_imports_another_function_is_refused(root: Path) -> None:
    write(root, {"lambdas/one/rules.py": "from lambdas.two.handler import handler\nrule = 1\n"})
    assert refusal(root) == (
        "lambdas/one/rules.py:1: imports lambdas.two.handler: a function never imports another function;"
        " move what they share into offload/"
    )


def test_a_reaches_that_names_no_module_is_refused(root: Path) -> None:
    with pytest.raises(BundlingError, match=r'^lambdas/one: reaches="offload\.runtime\.nowhere" names no module'):
        Bundler(root).bundle("one", ARM, reaches=["offload.runtime.nowhere"])


def test_a_requirement_without_a_wheel_for_the_platform_is_named_with_the_file_that_asks_for_it(root: Path) -> None:
    write(root, {"lambdas/one/requirements.txt": "intel\n"})
    lock(root)
    assert refusal(root) == (
        "lambdas/one/requirements.txt: lambdas/one needs intel 1.0, which has no wheel for Python 3.13 on"
        " aarch64-manylinux_2_34: require a version that has one and run make lock, or do without it"
    )
    assert "intel.py" in holds(Bundler(root).bundle("one", Target.of("3.13", "x86_64")).path)


def test_a_bundle_over_the_limit_says_its_size_and_what_is_largest(root: Path) -> None:
    write(root, {"lambdas/one/requirements.txt": "big\n"})
    lock(root)
    assert refusal(root, max_bytes=2 * 1024 * 1024).startswith(
        "lambdas/one: 2.9 MB unzipped, and Lambda takes 2 MB (largest: big 2.9 MB, "
    )
    assert "big/data.bin" in holds(Bundler(root).bundle("one", ARM).path)


@pytest.mark.parametrize("file", ["lambdas/one/rules.py", "offload/runtime/shared.py"])
def test_a_syntax_error_is_named_with_its_line(root: Path, file: str) -> None:
    write(root, {file: "a = 1\ndef broken(:\n"})
    assert refusal(root).startswith(f"{file}:2: this is not Python (")


@pytest.mark.parametrize(
    "line", ["alone=1.0", "-r other.txt", "git+https://example.org/a.git", "alone ==", "two words"]
)
def test_a_malformed_requirement_is_named_with_its_line(root: Path, line: str) -> None:
    write(root, {"lambdas/two/requirements.txt": f"# what two needs\n{line}\n"})
    assert refusal(root, "two").startswith(f"lambdas/two/requirements.txt:2: '{line}' is not a requirement: ")


def test_a_requirement_that_the_lock_was_not_made_from_asks_for_make_lock(root: Path) -> None:
    write(root, {"lambdas/two/requirements.txt": "alone==99\n"})
    assert refusal(root, "two") == (
        "lambdas/two/requirements.txt:1: 'alone==99' is not in lambdas/constraints.txt as written: run make lock"
    )


def test_requirements_that_do_not_resolve_are_one_line_that_names_their_files(root: Path) -> None:
    write(root, {"lambdas/one/requirements.txt": "deep==1.0\n", "lambdas/two/requirements.txt": "deep==2.0\n"})
    with pytest.raises(BundlingError) as raised:
        lock(root)
    message = str(raised.value)
    assert "\n" not in message
    assert message.startswith("lambdas/one/requirements.txt:1, lambdas/two/requirements.txt:1: does not resolve: ")


def test_a_pin_whose_file_is_not_the_one_that_was_locked_is_refused(root: Path) -> None:
    path = root / "lambdas/constraints.txt"
    text = path.read_text()
    digest = text.partition("alone==1.0 \\\n    --hash=sha256:")[2][:64]
    path.write_text(text.replace(digest, "0" * 64))
    message = refusal(root, "three")
    assert message.startswith("lambdas/three: uv cannot install what lambdas/constraints.txt pins: ")
    assert "Hash mismatch" in message


def test_a_link_to_a_folder_is_refused_by_name(root: Path) -> None:
    (root / "lambdas/one/linked").symlink_to(root / "offload")
    assert refusal(root) == ("lambdas/one/linked: is a link to a folder, which a bundle cannot hold: copy the folder")


def test_half_a_host_target_is_refused() -> None:
    with pytest.raises(ValueError, match='both are "host", or neither'):
        Target.of("host", "arm64")


@pytest.mark.parametrize("line", ["import offload.contracts", "from offload import contracts"])
def test_a_library_folder_without_an_init_of_which_nothing_is_reached_is_refused(root: Path, line: str) -> None:
    write(root, {"lambdas/one/rules.py": f"rule = 1\n{line}\n"})
    assert refusal(root).startswith(
        "lambdas/one/rules.py:2: imports offload.contracts, a folder without an __init__.py"
    )
    write(root, {"lambdas/one/rules.py": f"rule = 1\n{line}\nimport offload.contracts.events.event\n"})
    assert "offload/contracts/events/event.py" in holds(Bundler(root).bundle("one", ARM).path)


@pytest.mark.parametrize(
    "code",
    [
        "if not rule:\n    pass\n" + "".join(f"elif rule == {number}:\n    pass\n" for number in range(1_500)),
        "total = " + " + ".join(["rule"] * 1_500),
        "text = rule" + ".strip()" * 300,
    ],
)
def test_a_module_that_python_can_import_is_taken_however_deep_its_tree_is(root: Path, code: str) -> None:
    write(root, {"lambdas/one/long.py": f"rule = ''\n{code}\nfrom offload.runtime import middle\n"})
    assert "offload/runtime/middle.py" in holds(Bundler(root).bundle("one", HOST).path)


@pytest.mark.parametrize("code", ["a = " + "-" * 50_000 + "1", "a = 1\n" + "if " + "not " * 1_500 + "a:\n    pass\n"])
def test_a_module_that_is_nested_deeper_than_python_reads_is_refused_by_name(root: Path, code: str) -> None:
    write(root, {"lambdas/one/deep.py": f"{code}\n"})
    assert refusal(root).startswith("lambdas/one/deep.py:")


# Files that cannot be read as they are


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-32"])
@pytest.mark.parametrize("file", ["lambdas/two/requirements.txt", "lambdas/constraints.txt", "lambdas/two/handler.py"])
def test_a_file_in_utf_16_is_one_line_that_names_it_and_says_what_to_do(root: Path, encoding: str, file: str) -> None:
    text = (root / file).read_text()
    mark = b"\xff\xfe" if encoding == "utf-16-le" else b""
    (root / file).write_bytes(mark + text.encode(encoding))
    kind = encoding[:6].upper()
    assert refusal(root, "two") == (
        f"{file}: is {kind}, as some editors and shells write it: save it as UTF-8 without a byte order mark"
    )


def test_requirements_with_a_byte_order_mark_or_in_latin_1_are_named(root: Path) -> None:
    file = root / "lambdas/two/requirements.txt"
    file.write_bytes(b"\xef\xbb\xbfalone==1.0\n")
    assert refusal(root, "two").startswith("lambdas/two/requirements.txt: begins with a byte order mark: save it as")
    file.write_bytes(b"# of M\xfcller\nalone==1.0\n")
    assert refusal(root, "two").startswith("lambdas/two/requirements.txt:1: is not UTF-8: save it as")
    with pytest.raises(BundlingError, match=r"^lambdas/two/requirements\.txt:1: is not UTF-8"):
        lock(root)


def test_a_handler_with_utf_8_s_byte_order_mark_is_python_and_is_bundled(root: Path) -> None:
    (root / "lambdas/two/handler.py").write_bytes(b"\xef\xbb\xbf" + HANDLER.encode())
    assert "lambdas/two/handler.py" in holds(Bundler(root).bundle("two", ARM).path)


@pytest.mark.parametrize("name", ["table.csv", "handler.py", "requirements.txt", "rules.py"])
def test_a_link_that_leads_nowhere_is_named_with_where_it_leads(root: Path, name: str) -> None:
    (root / "lambdas/one" / name).unlink(missing_ok=True)
    (root / "lambdas/one" / name).symlink_to("gone")
    assert refusal(root) == f"lambdas/one/{name}: is a link to gone, which is not there: correct it, or delete it"


def test_a_pipe_in_the_folder_is_refused_and_not_waited_for(root: Path) -> None:
    os.mkfifo(root / "lambdas/one/pipe")
    assert refusal(root) == "lambdas/one/pipe: is no file: a bundle holds files alone; delete it"


@pytest.mark.parametrize("name", [b"caf\xe9.csv", b"caf\xe9/a.csv"])
def test_a_name_that_is_not_utf_8_is_shown_and_refused(root: Path, name: bytes) -> None:
    path = os.path.join(os.fsencode(root / "lambdas/one"), name)  # noqa: PTH118 - bytes
    os.makedirs(os.path.dirname(path), exist_ok=True)  # noqa: PTH103, PTH120 - bytes
    with open(path, "wb"):  # noqa: PTH123 - bytes
        pass
    shown = name.decode("utf-8", "surrogateescape").partition("/")[0].replace("\udce9", "\\udce9")
    assert refusal(root) == f"lambdas/one/{shown}: its name is not UTF-8: give it another"


# Credentials, and the package index


@pytest.mark.parametrize(
    "line",
    [
        "https://user:p4ss@host/alone-1.0.whl",
        "alone @ https://user:p4ss@host/alone-1.0.whl",
        "--index-url https://us@er:p4ss@host/simple?key=p4ss",
        "git+https://p4ss@host/alone.git",
        "https://us'er:p4ss@host/alone.git?key='p4ss",
    ],
)
def test_credentials_in_a_requirement_are_told_to_nobody(root: Path, line: str) -> None:
    write(root, {"lambdas/two/requirements.txt": f"{line}\n"})
    with pytest.raises(BundlingError) as told:
        lock(root)
    for message in (refusal(root, "two"), str(told.value)):
        assert "://***@host" in message
        assert "p4ss" not in message
        assert "is not a requirement: write NAME" in message


def test_any_error_of_bundling_is_one_visible_line_without_credentials() -> None:
    error = BundlingError("a\nb \x1b[31m https://user:p4ss@host/x?token=p4ss&a=p4ss#b")
    assert str(error) == "a\\nb \\x1b[31m https://***@host/x?token=***&a=***#b"
    assert str(BundlingError("'https://u'p4ss@host/?a=p'4ss' is not")) == "'https://***@host/?a=***' is not"


@pytest.fixture
def index(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """uv's index: one that answers with a status, none at a port, or none because uv is told to be offline."""
    monkeypatch.delenv("UV_NO_INDEX")
    monkeypatch.delenv("UV_FIND_LINKS")
    monkeypatch.setenv("UV_CACHE_DIR", str(tmp_path / "empty-cache"))
    monkeypatch.setenv("UV_HTTP_RETRIES", "0")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with odd_server(answer(request.param)) as server:
        url = f"http://user:p4ss@127.0.0.1:{server.port}/simple"
        monkeypatch.setenv("UV_INDEX_URL", url)
        monkeypatch.setenv("UV_DEFAULT_INDEX", url)
        if request.param == "offline":
            monkeypatch.setenv("UV_OFFLINE", "1")
        if request.param != "closed":
            yield
            return
    # Nobody listens at the port any more.
    yield


@pytest.mark.parametrize("index", ["closed", "offline", 503, 401], indirect=True)
def test_an_index_that_does_not_answer_is_told_apart_from_versions_that_do_not_fit(index: None, root: Path) -> None:
    with pytest.raises(
        BundlingError, match=r"^the package index (does not answer: look at the network|refuses: look)"
    ) as told:
        lock(root)
    assert "Correct the versions" not in str(told.value)
    assert "p4ss" not in str(told.value)
    message = refusal(root, "two")
    assert message.startswith(
        ("lambdas/two: the package index does not answer", "lambdas/two: the package index refuses")
    )
    assert "p4ss" not in message


def test_a_version_that_is_not_there_is_no_index_that_does_not_answer(root: Path) -> None:
    write(root, {"lambdas/two/requirements.txt": "alone==99\n"})
    with pytest.raises(BundlingError, match=r"does not resolve: .* Correct the versions\.$"):
        lock(root)


# Which distribution


def test_a_module_that_nobody_knows_is_not_given_a_stranger_s_package_for_a_hint(root: Path) -> None:
    write(root, {"lambdas/one/rules.py": "import nowhere_known\nrule = 1\n"})
    assert refusal(root) == (
        "lambdas/one/rules.py:1: lambdas/one imports nowhere_known, which nothing provides: add the distribution that"
        " has it (not known here, and nowhere_known may be a stranger's name) to lambdas/one/requirements.txt and run"
        " make lock"
    )


@pytest.mark.parametrize(
    ("module", "name"),
    [
        ("dotenv", "python-dotenv"),
        ("dateutil.parser", "python-dateutil"),
        ("_pytest.pytester", "pytest"),
        ("jose", "python-jose"),
    ],
)
def test_a_hint_names_the_distribution_that_is_installed_or_known_to_provide_the_module(
    root: Path, module: str, name: str
) -> None:
    write(root, {"lambdas/one/rules.py": f"import {module}\nrule = 1\n"})
    assert f"which nothing provides: add {name} to lambdas/one/requirements.txt" in refusal(root)


@pytest.mark.parametrize("line", ["import space.one", "from space import one", "from space.one import thing"])
def test_the_library_imports_a_namespace_package_that_the_requirements_name(root: Path, line: str) -> None:
    write(
        root,
        {"lambdas/requirements.in": "wide\nspace-one\nodd-name\n", "offload/runtime/shared.py": f"{line}\nthing = 1\n"},
    )
    lock(root)
    inside = holds(Bundler(root).bundle("one", ARM).path)
    assert "space/one/__init__.py" in inside
    assert "space/two/__init__.py" not in inside


def test_a_part_of_a_namespace_that_no_package_has_is_missing_though_another_part_is_there(root: Path) -> None:
    write(root, {"lambdas/one/requirements.txt": "space-one\n"})
    write(root, {"lambdas/one/rules.py": "import space.one\nfrom space import two\nrule = 1\n"})
    lock(root)
    assert refusal(root).startswith("lambdas/one/rules.py:2: lambdas/one imports space.two, which nothing provides: ")


def test_an_installed_distribution_is_found_by_the_files_that_it_has_of_a_namespace(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, wheels: Path
) -> None:
    for wheel in ("space_one-1.0", "odd_name-1.0"):
        with zipfile.ZipFile(wheels / f"{wheel}-{ANY}.whl") as archive:
            archive.extractall(tmp_path)
    code = "import sys\nsys.path.insert(0, sys.argv[1])\n"
    code += "from offload.cdk.bundling.requirements import installed_providers as of\n"
    code += "print(sorted(of('space.two.x')), sorted(of('space.one')), sorted(of('space')), sorted(of('space.three')))"
    said = subprocess.check_output([sys.executable, "-c", code, str(tmp_path)], text=True, cwd=PROJECT)
    assert said == "['odd-name'] ['space-one'] ['odd-name', 'space-one'] []\n"


# What Python runs


@pytest.mark.parametrize(
    ("content", "mode"), [("#!/bin/sh\necho\n", 0o755), ("\x7fELF...", 0o755), ("echo\n", 0o644), ("", 0o644)]
)
def test_a_program_stays_one_whatever_bits_the_checkout_has(root: Path, content: str, mode: int) -> None:
    write(root, {"lambdas/one/tool": content})
    (root / "lambdas/one/tool").chmod(0o640)
    bundle = Bundler(root).bundle("one", ARM)
    assert (bundle.path / "lambdas/one/tool").stat().st_mode & 0o777 == mode
    (root / "lambdas/one/tool").chmod(0o777)
    assert Bundler(root).bundle("one", ARM) == bundle


def test_tests_of_packages_that_their_modules_import_stay_and_others_go(root: Path) -> None:
    write(root, {"lambdas/one/requirements.txt": "tested\n", "lambdas/one/rules.py": "import tested\nrule = 1\n"})
    lock(root)
    bundle = Bundler(root).bundle("one", HOST).path
    inside = holds(bundle)
    assert {"tested/tests/data.py", "tested/far/test/__init__.py"} <= inside
    assert "tested/other/tests/test_other.py" not in inside
    code = f"import sys; sys.path.insert(0, {str(bundle)!r}); import tested; print(tested.data.more)"
    assert subprocess.check_output([sys.executable, "-I", "-S", "-B", "-c", code], text=True) == "1\n"


@pytest.mark.parametrize("line", ["import tested.other.tests.test_other", "from tested.other.tests import test_other"])
def test_tests_of_packages_that_the_function_imports_stay(root: Path, line: str) -> None:
    write(root, {"lambdas/one/requirements.txt": "tested\n", "lambdas/one/rules.py": "import tested\nrule = 1\n"})
    lock(root)
    Bundler(root).bundle("one", ARM)
    write(root, {"lambdas/one/rules.py": f"{line}\nrule = 1\n"})
    assert "tested/other/tests/test_other.py" in holds(Bundler(root).bundle("one", ARM).path)


@pytest.mark.parametrize(
    ("file", "line"),
    [
        ("ab_test.py", "from .ab_test import split"),
        ("ab_test.py", "from . import ab_test"),
        ("test_of_time.py", "import lambdas.one.test_of_time"),
        ("tests/data.py", "from .tests.data import split"),
        ("tests/__init__.py", "from . import tests"),
        ("ab_test.py", "import importlib\nimportlib.import_module('.ab_test', __package__)"),
    ],
)
def test_a_module_that_a_bundle_leaves_out_as_a_test_is_refused_where_it_is_imported(
    root: Path, file: str, line: str
) -> None:
    write(root, {f"lambdas/one/{file}": "split = 1\n", "lambdas/one/rules.py": f"{line}\nrule = 1\n"})
    message = refusal(root)
    assert message.startswith("lambdas/one/rules.py:")
    assert message.endswith(f"and a bundle leaves out lambdas/one/{file} as a test: give it another name")


@pytest.mark.parametrize(
    "code",
    [
        "from importlib import import_module as load\nload('offload.runtime.far')",
        "import importlib as il\nil.import_module(name='offload.runtime.far')",
        "import importlib\nimportlib.import_module('.far', 'offload.runtime')",
        "import importlib\nimportlib.import_module('.far', package='offload.runtime')",
        "import importlib\nimportlib.import_module('.far', __package__)",
        "import importlib\nimportlib.import_module(name='.far', package=__spec__.parent)",
        "import importlib\nimportlib.import_module('..runtime.far', __package__)",
        "__import__('far', globals(), locals(), [], 1)",
        "print(__import__('offload.runtime.far'))",
    ],
)
def test_an_import_by_a_function_is_followed_however_it_is_written(root: Path, code: str) -> None:
    write(root, {"offload/runtime/middle.py": f"{code}\n"})
    assert {"offload/runtime/far.py", "wide.py"} <= holds(Bundler(root).bundle("two", ARM).path)


def test_an_import_that_is_relative_to_what_cannot_be_seen_is_refused(root: Path) -> None:
    write(root, {"offload/runtime/middle.py": "import importlib\nimportlib.import_module('.far', here())\n"})
    assert refusal(root, "two") == (
        "offload/runtime/middle.py:2: imports '.far', which is relative to a package that cannot be seen: write the"
        " whole name, or __package__ as the second argument"
    )


@pytest.mark.parametrize(
    "content",
    [
        "from contextlib import suppress\nwith suppress(ImportError):\n    import nowhere\n",
        "import contextlib\nwith contextlib.suppress(OSError, ModuleNotFoundError):\n    import nowhere\n",
        "from contextlib import suppress as may\nwith may(ImportError):\n    import nowhere\n",
        "from importlib.util import find_spec\nif find_spec('nowhere'):\n    import nowhere\n",
        "import importlib.util\nif importlib.util.find_spec('nowhere') is not None:\n    import nowhere\n",
        "from importlib.util import find_spec\nHAS = find_spec('nowhere') is not None\nif HAS:\n    import nowhere\n",
        "import platform\nif platform.system() == 'Windows':\n    import nowhere\n",
        "from platform import system\nif system() == 'Windows':\n    import nowhere\n",
        "from sys import platform as on\nif on == 'win32':\n    import nowhere\n",
        "import sys as s\nif s.platform == 'win32':\n    import nowhere\n",
        "import sys\nmatch sys.platform:\n    case 'win32':\n        import nowhere\n",
        "import sys\nif sys.implementation.name == 'pypy':\n    import nowhere\n",
        "from typing import TYPE_CHECKING\nif not TYPE_CHECKING:\n    import json\nelse:\n    import nowhere\n",
        "import typing as t\nif t.TYPE_CHECKING and True:\n    import nowhere\n",
        "from typing import TYPE_CHECKING as C\nif C:\n    import nowhere\n",
        "if False:\n    import nowhere\n",
        "import builtins\ntry:\n    import nowhere\nexcept builtins.ImportError:\n    pass\n",
    ],
)
def test_an_import_that_python_does_without_or_never_runs_is_not_demanded(root: Path, content: str) -> None:
    write(root, {"lambdas/one/rules.py": f"{content}rule = 1\n"})
    assert "lambdas/one/rules.py" in holds(Bundler(root).bundle("one", ARM).path)


@pytest.mark.parametrize(
    "content",
    [
        "from importlib.util import find_spec\nHAS = find_spec('offload.runtime') is not None\n",
        "import importlib.util\nif importlib.util.find_spec('offload.runtime'):\n    import offload.runtime.nowhere\n",
        "try:\n    import offload.runtime.nowhere.at_all\nexcept ImportError as error:\n    said = str(error)\n",
    ],
)
def test_a_library_package_that_is_looked_for_is_found_in_the_bundle_as_in_the_checkout(
    root: Path, content: str
) -> None:
    write(root, {"lambdas/alone/handler.py": f"{content}def handler(event, context):\n    return None\n"})
    assert "offload/runtime/__init__.py" in holds(Bundler(root).bundle("alone", ARM).path)


@pytest.mark.parametrize(
    "content",
    [
        "from typing import TYPE_CHECKING\nif not TYPE_CHECKING:\n    import nowhere\n",
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    pass\nelse:\n    import nowhere\n",
        "from contextlib import suppress\nwith suppress(OSError):\n    import nowhere\n",
        "if True:\n    import nowhere\n",
    ],
)
def test_an_import_that_python_runs_is_demanded(root: Path, content: str) -> None:
    write(root, {"lambdas/one/rules.py": f"{content}rule = 1\n"})
    assert "lambdas/one imports nowhere, which nothing provides" in refusal(root)


@pytest.mark.parametrize(
    ("code", "taken"),
    [
        ("from pathlib import Path\nHERE = Path(__file__).parent / 'data' / 'a.csv'", {"data/a.csv"}),
        ("from pathlib import Path\nHERE = Path(__file__).with_name('b.csv')", {"b.csv"}),
        ("from importlib.resources import files\nHERE = files('offload.runtime') / 'data/a.csv'", {"data/a.csv"}),
        ("import pkgutil\nHERE = pkgutil.get_data(__name__, 'b.csv')", {"b.csv"}),
        ("from pathlib import Path\nALL = [*(Path(__file__).parent / 'data').iterdir()]", {"data/a.csv", "data/c.csv"}),
        ("HERE = 'a.csv'", set()),
    ],
)
def test_files_that_a_library_module_reads_beside_it_go_with_it(root: Path, code: str, taken: set[str]) -> None:
    write(root, {f"offload/runtime/{name}": "1\n" for name in ("data/a.csv", "data/c.csv", "b.csv", "d.bin")})
    write(root, {"offload/runtime/shared.py": f"{code}\nthing = 1\n"})
    first = Bundler(root).bundle("one", ARM)
    inside = {name.removeprefix("offload/runtime/") for name in holds(first.path) if name.startswith("offload/")}
    assert inside == {"__init__.py", "shared.py", *taken}
    for name in taken:
        write(root, {f"offload/runtime/{name}": "2\n"})
        assert Bundler(root).bundle("one", ARM).hash != first.hash


def test_a_library_module_that_reads_files_beside_it_and_does_not_say_which_is_refused(root: Path) -> None:
    write(root, {"offload/runtime/data.csv": "1\n"})
    write(root, {"offload/runtime/shared.py": "import os\nHERE = os.path.dirname(__file__)\nthing = 1\n"})
    assert refusal(root) == (
        "offload/runtime/shared.py:2: reads files beside it (offload/runtime/data.csv, for one), and says nowhere"
        " which: write their names, or their folder's, out in the module"
    )
