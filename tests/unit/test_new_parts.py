"""What `offload new event|consumer|job` writes into an app, and what it refuses."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from offload.cli.deployment.failure import Failure
from offload.cli.new import app as new
from offload.cli.new import kinds, parts
from offload.contracts.webhooks_in.scheme import Providers
from offload.project import PROJECT, Project
from tests.apps import OFFLOAD, printed, python, resources_of

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
    """Runs the command in an app's folder."""
    return python(folder, *OFFLOAD, *arguments)


def written(folder: Path, *arguments: str) -> list[str]:
    done = ran(folder, "new", *arguments)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout.splitlines()


def texts(folder: Path) -> Mapping[str, str]:
    kept = (path for path in folder.rglob("*") if path.is_file() and not {"__pycache__", ".offload"} & {*path.parts})
    return {path.relative_to(folder).as_posix(): path.read_text() for path in kept if path.suffix != ".gz"}


PARTS: Mapping[str, tuple[str, ...]] = {
    "appointment.booked": ("event", "appointment.booked"),
    "appointment_reminder": ("consumer", "appointment_reminder", "--event", "appointment.booked"),
    "yearly_count": ("job", "yearly_count"),
    "parcel-service": ("webhook", "parcel-service"),
    "webhook.received.parcel-service.parcel_sent": ("event", "webhook.received.parcel-service.parcel_sent"),
    "carrier": ("integration", "carrier", "--event", "appointment.booked"),
    "appointments": ("table", "appointments", "--function", "appointment_reminder"),
}
"""A part of each kind, by its name, and what writes it."""


@pytest.mark.slow
@pytest.mark.parametrize("name", ["clinic", "shop"])
def test_a_part_of_each_kind_is_in_its_places_and_passes_and_is_taken_out_again(
    name: str, request: pytest.FixtureRequest
) -> None:
    folder: Path = request.getfixturevalue(name)
    before = texts(folder)
    # The shop differs in where its contracts, tests and schemas are.
    made = (
        list(PARTS)
        if name == "clinic"
        else ["appointment.booked", "appointment_reminder", "yearly_count", "appointments"]
    )
    for part in made:
        written(folder, *PARTS[part])
    assert set(before) < set(texts(folder))
    laid_out_as_the_rest(folder, name)
    new = [file for file in texts(folder) if file not in before and file.partition("/")[0] == "tests"]
    assert len(new) == len(made) - 1  # all but the consumer, of which only a person knows what it decides
    printed(folder, "-m", "pytest", "-q", "-p", "no:cacheprovider", *new)
    # The whole shop takes long to synthesize, and would say no more.
    if name == "clinic":
        resources = resources_of(folder, "dev")["offload-dev-clinic"]
        functions = {each.get("Properties", {}).get("Handler"): each for each in resources.values()}
        assert {"lambdas.carrier.handler.handler", "lambdas.yearly_count.handler.handler"} <= set(functions)
        reminder = functions["lambdas.appointment_reminder.handler.handler"]["Properties"]
        assert "APPOINTMENTS_TABLE" in reminder["Environment"]["Variables"]
        assert "parcel-service" in json.dumps(resources)

    refused = ran(folder, "remove", "appointment.booked")
    assert refused.returncode == 1
    assert re.search(r"lambdas/\w+/handler\.py:\d+: imports \S+, which would be removed", refused.stderr)
    said = {part: taken_out(folder, part) for part in reversed(made)}
    assert (
        "prod: left in the account, outside of the stack, until a person deletes it: the table" in said["appointments"]
    )
    assert "deleted by the deployment: its queue with what waits in it" in said["appointment_reminder"]
    laid_out_as_the_rest(folder, name)
    left = {file: text for file, text in texts(folder).items() if before.get(file) != text}
    # A call that was reformatted stays so, and providers have their module from the first one on.
    assert set(left) <= {f"{name}/catalogue.py", f"{name}/providers.py", "schemas/jobs/openapi.json"}
    assert not any(word in text for word in ("appointment", "carrier", "parcel") for text in left.values())


def taken_out(folder: Path, name: str) -> str:
    done = ran(folder, "remove", name)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def laid_out_as_the_rest(folder: Path, name: str) -> None:
    for rules in (["check", "--select", "E,F,I,W"], ["format", "--check"]):
        arguments = [RUFF, *rules, "--line-length", "120", "--no-cache", "--isolated"]
        arguments += ["app.py", "lambdas", "stacks", "tests", name]
        done = subprocess.run(arguments, cwd=folder, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout


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
        (("webhook", "Parcel"), "'Parcel': a provider is named by lower-case words with hyphens between"),
        (("event", "webhook.received.parcel.sent"), "the app has no provider 'parcel' (none): `offload new webhook"),
        (("table", "notes", "--function", "other"), "'other': no construct in stacks/ has source=\"other\""),
        (("table", "platform", "--function", "note_log"), "stacks/clinic.py: has the name `platform` already"),
        (("integration", "note_log", "--event", "note.written"), "lambdas/note_log/__init__.py: is there already"),
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
        "changed README.md",
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
    ("name", "says"),
    [
        ("other", "'other': is no function in lambdas/, no event type and no provider of the catalogue, no table"),
        ("word_count", "tests/test_contracts.py:10: uses WORD_COUNT of clinic.contracts.notes: take that out"),
        (
            "note.written",
            "lambdas/note_log/handler.py:9: uses NoteWritten of clinic.contracts.notes: take that out first",
        ),
    ],
)
def test_what_cannot_be_taken_out_is_said_and_nothing_is_changed(clinic: Path, name: str, says: str) -> None:
    before = texts(clinic)
    done = ran(clinic, "remove", name)
    assert done.returncode == 1
    assert says in " ".join(done.stderr.split())
    assert texts(clinic) == before


def test_one_of_two_of_a_name_is_taken_out_by_its_kind(clinic: Path) -> None:
    written(clinic, "integration", "github", "--event", "note.written")
    written(clinic, "webhook", "github")
    done = ran(clinic, "remove", "github")
    assert done.returncode == 1
    assert "'github': is the name of several: say which, --kind function or --kind provider" in done.stderr
    assert "removed lambdas/github/handler.py" in ran(clinic, "remove", "github", "--kind", "function").stdout
    assert "WebhookReceiver(self" in (clinic / "stacks" / "clinic.py").read_text()
    readme = (clinic / "README.md").read_text()
    assert "| provider | `github` |" in readme
    assert "| integration | `github` |" not in readme


@pytest.mark.parametrize(
    ("document", "begins", "make"),
    [
        ("docs/integrations.md", "## A new one", lambda app: kinds.integration(app, "carrier", "order.placed")),
        ("docs/webhooks.md", "# Webhooks", lambda app: kinds.webhook(app, "github")),
    ],
)
def test_the_documents_show_what_is_written(
    shop: Path, document: str, begins: str, make: Callable[[parts.App], parts.Part]
) -> None:
    app = parts.App.of(Project.at(shop))
    # As it is before the provider is there.
    app = replace(app, catalogue=replace(app.catalogue, providers=Providers(app.catalogue.providers.module)))
    part = make(app)
    section = re.split(r"(?m)^#+ .*$", (PROJECT / document).read_text().partition(f"{begins}")[2].partition("\n")[2])[0]
    examples = re.findall(r"(?ms)^ *```python\n(.*?)^ *```$", section)
    assert examples
    made = [*part.added.values(), *part.changed.values()]
    for example in examples:
        assert any(_squeezed(example) in _squeezed(text) for text in made), example


def _squeezed(text: str) -> str:
    """Without the indentation that a document's list gives it."""
    return "\n".join(line.strip() for line in text.strip().splitlines())
