"""What `offload new event|consumer|job` writes into an app, and what it refuses."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from offload.cli.deployment.failure import Failure
from offload.cli.new import app as new
from offload.cli.new import edit, parts
from offload.project import PROJECT, Project
from tests.patience import PATIENCE

RUFF = str(Path(sys.executable).with_name("ruff"))


@pytest.fixture
def clinic(tmp_path: Path) -> Path:
    """A new app, without its lock."""
    folder = tmp_path / "clinic"
    for path, text in new.files(folder, "offload").items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    """The example app, as far as a part of it concerns."""
    folder = tmp_path / "clone"
    for name in ("app.py", "cdk.json", "pyproject.toml", "shop", "stacks", "lambdas", "schemas", "environments"):
        source = PROJECT / name
        copy = shutil.copytree if source.is_dir() else shutil.copy
        (folder / name).parent.mkdir(exist_ok=True)
        copy(source, folder / name)
    # As in a clone, where it is no third party's.
    (folder / "offload").symlink_to(PROJECT / "offload")
    (folder / "tests" / "unit").mkdir(parents=True)
    return folder


def ran(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Runs a command in an app's folder, in which the app's own package is found first."""
    code = f"import sys; sys.path[:0] = [{str(folder)!r}, {str(PROJECT)!r}]; from offload.cli.main import main; main()"
    return python(folder, "-P", "-c", code, *arguments)


def python(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Runs Python in an app's folder, with the app and the framework on its path."""
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=folder,
        env={"PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin", "PYTHONPATH": f"{folder}:{PROJECT}"},
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )


def written(folder: Path, *arguments: str) -> list[str]:
    done = ran(folder, "new", *arguments)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout.splitlines()


def texts(folder: Path) -> Mapping[str, str]:
    kept = (path for path in folder.rglob("*") if path.is_file() and "__pycache__" not in path.parts)
    return {path.relative_to(folder).as_posix(): path.read_text() for path in kept if path.suffix != ".gz"}


@pytest.mark.slow
@pytest.mark.parametrize("name", ["clinic", "shop"])
def test_an_event_its_consumer_and_a_job_are_in_their_places_and_pass(
    name: str, request: pytest.FixtureRequest
) -> None:
    folder: Path = request.getfixturevalue(name)
    assert f"changed {name}/catalogue.py" in written(folder, "event", "appointment.booked")
    consumer = written(folder, "consumer", "appointment_reminder", "--event", "appointment.booked")
    assert f"changed stacks/{name}.py" in consumer
    assert "new     lambdas/yearly_count/handler.py" in written(folder, "job", "yearly_count")
    # Laid out and sorted as the rest of the app is.
    for rules in (["check", "--select", "E,F,I,W"], ["format", "--check"]):
        arguments = [RUFF, *rules, "--line-length", "120", "--no-cache", "--isolated"]
        arguments += ["app.py", "lambdas", "stacks", "tests", name]
        done = subprocess.run(arguments, cwd=folder, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout
    listed = ran(folder, "events", "types", "--json").stdout
    assert "appointment.booked" in listed
    code = (
        "import json; from app import compose; from aws_cdk import App;"
        "from offload.cdk.environment import Environment;"
        "flags = json.load(open('cdk.json'))['context'] | {'aws:cdk:bundling-stacks': []};"
        "app = App(context=flags); compose(app, Environment.filled_in('dev'));"
        f"template = app.synth().get_stack_by_name('offload-dev-{name}').template;"
        "handlers = {each.get('Properties', {}).get('Handler') for each in template['Resources'].values()};"
        "assert {'lambdas.appointment_reminder.handler.handler', 'lambdas.yearly_count.handler.handler'} <= handlers"
    )
    tests = [str(next(folder.rglob(f"test_{part}.py"))) for part in ("appointment_booked", "yearly_count")]
    for command in (["-c", code], ["-m", "pytest", "-q", "-p", "no:cacheprovider", *tests]):
        done = python(folder, *command)
        assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("event", "Booked"), "'Booked': an event type is a thing and what happened to it, as appointment.booked"),
        (("event", "note.written"), "'note.written': the catalogue has an event type of that name"),
        (("consumer", "note-log", "--event", "note.written"), "'note-log': write lower-case words with underscores"),
        (("consumer", "note_log", "--event", "note.written"), "lambdas/note_log/__init__.py: is there already"),
        (
            ("consumer", "other", "--event", "no.such"),
            "there is no event type 'no.such': job.finished, job.wanted, note.",
        ),
        (("job", "word_count"), "'word_count': the catalogue has a job type of that name"),
        (("job", "other", "--stack", "desk"), "stacks/: say to which stack it goes: --stack NAME (desk)"),
    ],
)
def test_what_cannot_be_is_refused_and_nothing_is_written(clinic: Path, arguments: tuple[str, ...], says: str) -> None:
    before = texts(clinic)
    done = ran(clinic, "new", *arguments)
    assert done.returncode == 1
    assert says in " ".join(done.stderr.split())
    assert texts(clinic) == before


def test_a_dry_run_says_it_and_writes_nothing(clinic: Path) -> None:
    before = texts(clinic)
    assert written(clinic, "job", "yearly_count", "--dry-run") == [
        "new     clinic/contracts/yearly_count.py",
        "new     lambdas/yearly_count/__init__.py",
        "new     lambdas/yearly_count/handler.py",
        "new     tests/test_yearly_count.py",
        "changed clinic/catalogue.py",
        "changed stacks/clinic.py",
        "next    write what it does: it gives its input back until then",
    ]
    assert texts(clinic) == before


def test_a_stack_that_is_not_python_is_named(clinic: Path) -> None:
    (clinic / "stacks" / "desk.py").write_text("class Desk(:\n")
    done = ran(clinic, "new", "job", "yearly_count")
    assert done.returncode == 1
    assert "stacks/desk.py:1: this is not Python (invalid syntax): correct it first" in " ".join(done.stderr.split())


def test_outside_of_an_app_it_says_where_to_run(tmp_path: Path) -> None:
    with pytest.raises(
        Failure, match=r"pyproject\.toml names no catalogue .*: run it in an app's folder, or begin with"
    ):
        parts.App.of(Project.at(tmp_path))


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("C(__name__)\n", "C(__name__, events=(New,))\n"),
        ("C(__name__, events=())\n", "C(__name__, events=(New,))\n"),
        ("C(__name__, events=(A,))\n", "C(__name__, events=(A, New))\n"),
        ("C(\n    events=(\n        A,\n    ),\n)\n", "C(\n    events=(\n        A,\n        New,\n    ),\n)\n"),
        ("é = 1; C(events=(A, *B))  # é\n", "é = 1; C(events=(A, *B, New))  # é\n"),
    ],
)
def test_an_item_is_added_where_it_belongs(before: str, after: str) -> None:
    assert edit.with_item(before, "C", "events", "New", "c.py") == after


@pytest.mark.parametrize("text", ["D()\n", "C(events=[A])\n", "C(events=A)\n", "C(\n"])
def test_where_an_item_has_no_place_it_is_left_to_a_person(text: str) -> None:
    with pytest.raises(Failure, match=r"^c\.py"):
        edit.with_item(text, "C", "events", "New", "c.py")


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("from a import B\nfrom c import D\n", "from a import B\nfrom b import New\nfrom c import D\n"),
        ("from a import B\nfrom b import Zed, a\n", "from a import B\nfrom b import New, Zed, a\n"),
        ("from x import Y\n\nfrom c import D\n", "from x import Y\n\nfrom b import New\nfrom c import D\n"),
        ("from x import Y\n\nfrom a import D\n", "from x import Y\n\nfrom a import D\nfrom b import New\n"),
    ],
)
def test_an_import_is_added_in_its_place(before: str, after: str) -> None:
    assert edit.with_import(before, "b", "New", "c.py") == after
