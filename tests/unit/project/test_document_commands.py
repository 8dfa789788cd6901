"""Every `make …` and `cdk …` that README.md and docs/ tell people to run gets as far as their credentials.

The lines are taken out of the text, and run in a copy of the checkout, without AWS credentials.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from offload.project import PROJECT
from tests.patience import PATIENCE

WITHOUT_AWS = {
    "bench": "measures on this machine",
    "bill": "computes from templates",
    "calls": "tests",
    "check": "looks at the source",
    "check-permissions": "looks at templates",
    "check-templates": "looks at templates",
    "check-types": "looks at the source",
    "clean": "removes files",
    "down": "the embedded AWS",
    "lock": "pins requirements",
    "package": "builds the wheel",
    "prove": "tests",
    "schemas": "writes files",
    "synth": "needs no credentials; make check synthesizes every environment",
    "test": "tests",
    "test-fast": "tests",
    "toolchain": "installs",
    "up": "the embedded AWS",
}
"""Targets that are not run here: no account is asked for anything, and why."""

WITHOUT_CDK = {"conformance", "destroy"}
"""Targets that ask AWS by themselves."""

# Both ways in which the CDK's command line says it, for a stack of a named account and for one of none.
_CDK_WITHOUT_CREDENTIALS = re.compile(
    r"no credentials have been configured|Unable to resolve AWS account to use|Could not load credentials"
)
_NO_CREDENTIALS = "offload: no AWS credentials: log in, or set AWS_PROFILE (aws sts get-caller-identity must work)"

UNBUNDLED = """
import json, os, runpy
context = json.loads(os.environ.get("CDK_CONTEXT_JSON", "{}"))
os.environ["CDK_CONTEXT_JSON"] = json.dumps(context | {"aws:cdk:bundling-stacks": []})
runpy.run_path("app.py", run_name="__main__")
"""
"""The app as it is, without its functions' code: nothing that is tried here depends on that, and it takes its time."""


@dataclass(frozen=True)
class Told:
    """One command that a document tells people to run."""

    document: str
    command: str


def documents() -> list[Path]:
    return [PROJECT / "README.md", *sorted((PROJECT / "docs").rglob("*.md"))]


def told() -> Iterator[Told]:
    """Lines of code blocks that begin with `make` or the CDK's command, and `make …` anywhere in the text.

    Text that names a command of the CDK tells nobody to run it, so it counts in code blocks alone.
    """
    for path in documents():
        text = path.read_text(encoding="utf-8")
        found: list[str] = []
        for block in re.findall(r"^```[a-z]*\n(.*?)^```", text, flags=re.MULTILINE | re.DOTALL):
            lines = [re.split(r"\s+#", line.removeprefix("$ "))[0].strip() for line in block.splitlines()]
            found += [line for line in lines if re.match(r"make\s|(\S*/)?cdk\s", line)]
        # Text that speaks of a target need not say of which environment; a line to be pasted has to.
        named = re.findall(r"`(make [^`\n]+)`", text)
        found += [f"{each} ENV=dev" if needs_aws(each) and "ENV=" not in each else each for each in named]
        for command in dict.fromkeys(found):
            yield Told(str(path.relative_to(PROJECT)), command.replace("ENV=NAME", "ENV=dev"))


def targets(command: str) -> list[str]:
    return [word for word in command.split()[1:] if "=" not in word and not word.startswith("-")]


def needs_aws(command: str) -> bool:
    return not command.startswith("make ") or any(target not in WITHOUT_AWS for target in targets(command))


AWS_COMMANDS = sorted({each.command for each in told() if needs_aws(each.command)})


# One of each target: a recipe is the same for every environment, and each of these is a synthesis.
RECIPES = list({targets(command)[0]: command for command in reversed(AWS_COMMANDS) if needs_aws(command)}.values())


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The checkout with its toolchain, with `prod` and `staging` filled in as their files say how."""
    root = tmp_path_factory.mktemp("documents") / "checkout"
    skipped = shutil.ignore_patterns(
        ".git", ".venv", "node_modules", ".offload", "cdk.out", "kept", "__pycache__", ".*_cache"
    )
    shutil.copytree(PROJECT, root, ignore=skipped)
    (root / ".offload").mkdir()
    for installed in (".venv", "node_modules", ".offload/embedded", ".offload/durable", ".offload/moto"):
        (root / installed).symlink_to(PROJECT / installed)
    shutil.copy2(PROJECT / ".offload/python", root / ".offload/python")
    for name in ("prod", "staging"):
        path = root / "environments" / f"{name}.toml"
        filled = re.sub(r'^# (\w+ = ")', r"\1", path.read_text(encoding="utf-8"), flags=re.MULTILINE)
        path.write_text(filled, encoding="utf-8")
    (root / "unbundled.py").write_text(UNBUNDLED, encoding="utf-8")
    settings = json.loads((root / "cdk.json").read_text(encoding="utf-8"))
    (root / "cdk.json").write_text(json.dumps(settings | {"app": ".venv/bin/python unbundled.py"}), encoding="utf-8")
    for name in ("dev", "prod"):
        (root / "kept" / name).mkdir(parents=True)
        (root / "kept" / name / f"1-offload-{name}-platform.json").write_text("{}", encoding="utf-8")
    return root


@pytest.fixture(scope="module")
def past_the_check(copy: Path) -> Path:
    """A folder of the toolchain's commands in which `offload` finds nothing to object to, so that a recipe goes on."""
    folder = copy / "past-the-check"
    folder.mkdir()
    for path in (PROJECT / ".venv" / "bin").iterdir():
        (folder / path.name).symlink_to(path)
    (folder / "offload").unlink()
    (folder / "offload").write_text("#!/bin/sh\necho aws://123456789012/eu-west-1\n", encoding="utf-8")
    (folder / "offload").chmod(0o755)
    return folder


def ran(command: str, folder: Path) -> tuple[int, str]:
    """Its exit code and all that it printed, in a shell with a Region and no credentials."""
    settings = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "CDK_", "MAKE"))}
    settings |= {
        "AWS_REGION": "eu-west-1",
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        "AWS_EC2_METADATA_DISABLED": "true",
        "PYTHONPATH": str(folder),
        "NO_COLOR": "1",
        # The CDK's own rules take five seconds of each synthesis; none of these tests is about them.
        "CDK_VALIDATION": "false",
        "PATH": f"{PROJECT / '.venv' / 'bin'}{os.pathsep}{os.environ.get('PATH', os.defpath)}",
    }
    # A group of its own, so that nothing of it outlives its time.
    process = subprocess.Popen(
        ["sh", "-c", command],
        env=settings,
        cwd=folder,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        said, _ = process.communicate(timeout=PATIENCE)
    except BaseException:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        raise
    return process.returncode, said


def test_the_documents_tell_how_to_get_to_aws_and_back_by_make_alone() -> None:
    found = {(target, command) for command in AWS_COMMANDS for target in targets(command)}
    assert {"bootstrap", "diff", "deploy", "destroy", "restore"} <= {target for target, _ in found}
    by_hand = [each for each in told() if not each.command.startswith("make ")]
    assert by_hand == [], "the CDK's command line wants the toolchain's node and an environment: make gives it both"


def test_every_target_that_is_not_run_is_one_of_the_makefiles() -> None:
    makefile = (PROJECT / "Makefile").read_text(encoding="utf-8")
    assert set(WITHOUT_AWS) <= set(re.findall(r"^([a-z-]+):", makefile, flags=re.MULTILINE))


@pytest.mark.slow
@pytest.mark.parametrize("command", AWS_COMMANDS)
def test_without_credentials_a_command_says_so_in_one_line(command: str, copy: Path) -> None:
    code, said = ran(command, copy)
    assert code != 0
    lines = [line for line in said.splitlines() if not line.startswith("make: ")]
    assert lines == [_NO_CREDENTIALS]


@pytest.fixture
def synthesized(copy: Path) -> Iterator[None]:
    """The CDK's command line takes `dev` as it was synthesized once: each command would do it again."""
    settings = copy / "cdk.json"
    before = settings.read_text(encoding="utf-8")
    assembly = copy / "cdk.out.dev"
    if not assembly.exists():
        code, said = ran(f"make synth ENV=dev && mv cdk.out {assembly.name}", copy)
        assert code == 0, said
    settings.write_text(json.dumps(json.loads(before) | {"app": assembly.name}), encoding="utf-8")
    yield
    settings.write_text(before, encoding="utf-8")


@pytest.mark.slow
@pytest.mark.usefixtures("synthesized")
@pytest.mark.parametrize("command", [command for command in RECIPES if targets(command)[0] not in WITHOUT_CDK])
def test_once_the_account_is_checked_the_cdk_gets_as_far_as_the_credentials(
    command: str, copy: Path, past_the_check: Path
) -> None:
    code, said = ran(f"{command} BIN={past_the_check}", copy)
    assert code != 0
    assert _CDK_WITHOUT_CREDENTIALS.search(said), said


@pytest.mark.parametrize("target", ["synth", "bootstrap", "diff", "deploy", "destroy", "restore"])
@pytest.mark.parametrize("given", ["", "ENV=qa"])
def test_without_an_environment_the_line_names_them(target: str, given: str, copy: Path) -> None:
    code, said = ran(f"make {target} {given}", copy)
    problem = "no environment 'qa'" if given else "say which environment"
    assert code != 0
    assert said.splitlines()[0] == f"make: {problem}: make {target} ENV=NAME, one of dev local prod staging"


@pytest.mark.slow
def test_prod_as_it_is_shipped_is_refused_a_line_for_each_key_it_misses(copy: Path) -> None:
    shipped = (PROJECT / "environments" / "prod.toml").read_text(encoding="utf-8")
    path = copy / "environments" / "prod.toml"
    filled = path.read_text(encoding="utf-8")
    try:
        path.write_text(shipped, encoding="utf-8")
        code, said = ran("make synth ENV=prod", copy)
    finally:
        path.write_text(filled, encoding="utf-8")
    assert code != 0
    refused = [line for line in said.splitlines() if line.startswith("offload: ")]
    assert [line.split(": ")[2] for line in refused] == ["aws.account", "aws.region", "alarms.email"]
    assert ran("make synth ENV=prod", copy)[0] == 0
