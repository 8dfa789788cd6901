"""What `offload new event|consumer|job` writes into an app, and what it refuses."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from offload.cli.deployment.failure import Failure
from offload.cli.new import app as new
from offload.cli.new import parts
from offload.project import Project
from tests.apps import resources_of
from tests.unit.cli.generated_parts import PARTS, put_in, ran, take_out, texts, written


@pytest.fixture
def clinic(tmp_path: Path) -> Path:
    """A new app, without its lock."""
    folder = tmp_path / "clinic"
    for path, text in new.files(folder, "offload").items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder


@pytest.mark.slow
def test_a_part_of_each_kind_is_in_its_places_and_passes_and_is_taken_out_again(clinic: Path) -> None:
    before = texts(clinic)
    put_in(clinic, "clinic", list(PARTS))
    resources = resources_of(clinic, "dev")["offload-dev-clinic"]
    functions = {each.get("Properties", {}).get("Handler"): each for each in resources.values()}
    assert {"lambdas.carrier.handler.handler", "lambdas.yearly_count.handler.handler"} <= set(functions)
    reminder = functions["lambdas.appointment_reminder.handler.handler"]["Properties"]
    assert "APPOINTMENTS_TABLE" in reminder["Environment"]["Variables"]
    assert "parcel-service" in json.dumps(resources)
    take_out(clinic, "clinic", list(PARTS), before)


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
