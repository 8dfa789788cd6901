"""What an app has, in one object."""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path

import pytest

from clinic.catalogue import CATALOGUE
from clinic.contracts.jobs import PATIENT_GROUPS, PATIENTS_SHARD, WARD_REPORT
from clinic.contracts.visits import VisitEnded
from clinic.providers import PROVIDERS
from offload.contracts.catalogue import Catalogue, UnusableCatalogue
from offload.contracts.jobs.events import JobFinished
from offload.contracts.webhooks_in.providers import GITHUB
from offload.contracts.webhooks_in.scheme import Providers
from offload.contracts.webhooks_out.recovery import DELIVERY_BATCH
from offload.project import Project, UnusableProject
from offload.runtime import catalogue as runtime
from offload.runtime.settings import MissingSetting

OUTWARD = CATALOGUE.outward or ()


def test_an_app_without_anything_has_what_the_framework_brings() -> None:
    empty = Catalogue("app")
    assert not empty.job_types
    assert not empty.sends_webhooks
    assert {each.TYPE for each in empty.event_types} == {
        *("job.wanted", "job.finished"),
        *("subscription.failing", "subscription.paused", "subscription.recovered"),
    }
    assert set(empty.outward_examples) == {each.TYPE for each in empty.event_types} - {"job.wanted"}
    assert not empty.providers


def test_an_app_that_sends_webhooks_has_the_job_that_brings_deliveries_back() -> None:
    assert set(Catalogue("app", outward=()).job_types) == {"delivery_batch"}
    assert CATALOGUE.job_types["delivery_batch"] is DELIVERY_BATCH


def test_what_an_app_has_stands_beside_that() -> None:
    app = Catalogue("app", events=(VisitEnded,), jobs=(WARD_REPORT,), outward=OUTWARD[:1])
    assert app.job_types["ward_report"] is WARD_REPORT
    assert VisitEnded in app.event_types
    assert VisitEnded in app.outward_types


@pytest.mark.parametrize(
    ("parts", "says"),
    [
        ({"events": (VisitEnded, VisitEnded)}, "app: two times the event type 'visit.ended'"),
        ({"events": (JobFinished,)}, "app: two times the event type 'job.finished'"),
        ({"jobs": (WARD_REPORT, WARD_REPORT)}, "app: two times the job type 'ward_report'"),
        ({"jobs": (DELIVERY_BATCH,), "outward": ()}, "app: two times the job type 'delivery_batch'"),
        ({"outward": OUTWARD[:1] * 2}, "app: two times the example of the event type 'visit.ended'"),
    ],
)
def test_two_of_one_name_are_refused(parts: dict[str, tuple[object, ...]], says: str) -> None:
    with pytest.raises(UnusableCatalogue, match=says):
        Catalogue("app", **parts)  # type: ignore[arg-type]


def test_two_providers_of_one_name_are_refused() -> None:
    with pytest.raises(ValueError, match=r"app: two providers are named 'github': .*PROVIDER\.named"):
        Providers("app", GITHUB, GITHUB)
    assert list(Providers("app", GITHUB, GITHUB.named("team"))) == ["github", "team"]


def test_a_run_deals_with_its_type_and_with_all_that_it_starts() -> None:
    grand = dataclasses.replace(WARD_REPORT, name="grand", starts=(PATIENT_GROUPS,))
    assert list(grand.family) == ["grand", "patient_groups", "patients_shard"]
    assert dict(PATIENTS_SHARD.family) == {"patients_shard": PATIENTS_SHARD}


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project whose catalogue is in a module that it does not have."""
    (tmp_path / "pyproject.toml").write_text('[tool.offload]\ncatalogue = "surgery.catalogue"\n')
    monkeypatch.syspath_prepend(str(tmp_path))
    for each in ("surgery", "surgery.catalogue"):
        monkeypatch.delitem(sys.modules, each, raising=False)
    return tmp_path


def test_a_project_s_catalogue_is_the_one_that_its_pyproject_names(project: Path) -> None:
    (project / "surgery").mkdir()
    (project / "surgery/catalogue.py").write_text(
        "from offload.contracts.catalogue import Catalogue\nCATALOGUE = Catalogue(__name__)\n"
    )
    assert Project.at(project).catalogue().module == "surgery.catalogue"
    assert Project.at(project).packages == ("offload", "surgery")


def test_a_catalogue_that_is_not_there_is_refused_with_where_it_is_named(project: Path) -> None:
    says = r"no module surgery\.catalogue: \[tool\.offload\] catalogue in pyproject\.toml"
    with pytest.raises(UnusableCatalogue, match=says):
        Project.at(project).catalogue()
    (project / "surgery").mkdir()
    (project / "surgery/catalogue.py").write_text("CATALOGUE = ()\n")
    with pytest.raises(UnusableCatalogue, match=r"surgery\.catalogue has no CATALOGUE: write CATALOGUE = Catalogue\("):
        Project.at(project).catalogue()


def test_a_module_that_the_catalogue_imports_in_vain_is_told_as_it_is(project: Path) -> None:
    (project / "surgery").mkdir()
    (project / "surgery/catalogue.py").write_text("import patients\n")
    with pytest.raises(ModuleNotFoundError, match="patients"):
        Project.at(project).catalogue()


def test_a_project_without_settings_has_an_empty_catalogue(tmp_path: Path) -> None:
    assert Project.at(tmp_path).catalogue() == Catalogue("")
    assert Project.at(tmp_path).packages == ("offload",)


@pytest.mark.parametrize(
    "settings",
    ['[tool.offload]\ncatalog = "clinic.catalogue"\n', '[tool.offload]\ncatalogue = "clinic/catalogue"\n', "["],
)
def test_settings_that_say_nothing_known_are_refused(tmp_path: Path, settings: str) -> None:
    (tmp_path / "pyproject.toml").write_text(settings)
    with pytest.raises(UnusableProject, match=r"pyproject\.toml: "):
        Project.at(tmp_path)


def test_a_function_finds_the_catalogue_by_its_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    assert runtime.catalogue() is CATALOGUE
    assert runtime.providers() is PROVIDERS
    monkeypatch.delenv("OFFLOAD_CATALOGUE")
    with pytest.raises(MissingSetting, match="OFFLOAD_CATALOGUE"):
        runtime.catalogue()
