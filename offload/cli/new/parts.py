"""`offload new event|consumer|job NAME`: a part of an app, with its contract, its call, its test and its place.

What is written is decided before anything is: a file that is there already, or a place that is not found, refuses all.
"""

from __future__ import annotations

import keyword
import re
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from offload.cli.deployment.failure import Failure
from offload.cli.new.app import OWN_FOLDERS, class_name
from offload.cli.new.edit import defines_subclass, with_call, with_import, with_item, with_sorted_imports
from offload.contracts.catalogue import NAME as CATALOGUE
from offload.contracts.catalogue import Catalogue
from offload.project import FRAMEWORK, Project

_TYPE: Final = re.compile(r"[a-z][a-z0-9]*([.-][a-z0-9]+)*\.[a-z0-9]+(-[a-z0-9]+)*")
_NAME: Final = re.compile(r"[a-z][a-z0-9]*(_[a-z0-9]+)*")
_STACK: Final = "EnvironmentStack"


@dataclass(frozen=True)
class Part:
    """What becomes of an app's files: `added` and `changed` are their new texts; `todo` is left to a person."""

    added: Mapping[Path, str]
    changed: Mapping[Path, str]
    todo: tuple[str, ...] = ()


@dataclass(frozen=True)
class App:
    """The app of a project: where its catalogue, its stacks and its tests are."""

    project: Project
    catalogue: Catalogue

    @classmethod
    def of(cls, project: Project) -> App:
        """The project's app; raises Failure where pyproject.toml names no catalogue."""
        if project.settings.catalogue is None:
            raise Failure(
                f"{project.root}: pyproject.toml names no catalogue ([tool.offload] catalogue): run it in an app's "
                "folder, or begin with `offload new app`"
            )
        return cls(project, project.catalogue())

    @property
    def package(self) -> str:
        """The app's package."""
        return self.catalogue.module.partition(".")[0]

    @property
    def apart(self) -> bool:
        """Whether the framework is installed, so that its imports are third parties' to a formatter."""
        return not (self.project.root / FRAMEWORK).is_dir()

    @property
    def tests(self) -> Path:
        """The folder of its unit tests."""
        folder = self.project.root / "tests"
        return folder / "unit" if (folder / "unit").is_dir() else folder

    def catalogue_file(self) -> Path:
        """The module of its catalogue."""
        return self.project.root / f"{self.catalogue.module.replace('.', '/')}.py"

    def stack_file(self, named: str | None) -> Path:
        """The module of the stack to add to: the one there is, or the one that was named."""
        stacks = self.project.root / "stacks"
        if named is not None:
            found = [stacks / f"{named}.py"]
        else:
            found = [
                path
                for path in sorted(stacks.glob("*.py"))
                if defines_subclass(path.read_text(encoding="utf-8"), _STACK, f"stacks/{path.name}")
            ]
        if len(found) != 1 or not found[0].is_file():
            there = ", ".join(path.stem for path in found) or "none"
            raise Failure(f"stacks/: say to which stack it goes: --stack NAME ({there})")
        return found[0]


def event(app: App, name: str) -> Part:
    """A new event type: its contract, a test of it, its place in the catalogue. Raises Failure."""
    if not _TYPE.fullmatch(name):
        raise Failure(f"'{name}': an event type is a thing and what happened to it, as appointment.booked")
    if name in {each.TYPE for each in app.catalogue.event_types}:
        raise Failure(f"'{name}': the catalogue has an event type of that name")
    module = _module(re.sub(r"[.-]", "_", name))
    contract = class_name(module)
    source = app.catalogue.events[0].SOURCE if app.catalogue.events else app.package
    values = {"type": name, "Class": contract, "source": source, "where": f"{app.package}.contracts.{module}"}
    return Part(
        added=_new(
            {
                app.project.root / app.package / "contracts" / f"{module}.py": _filled(app, _EVENT, values),
                app.tests / f"test_{module}.py": _filled(app, _EVENT_TEST, values),
            }
        ),
        changed=_in_catalogue(app, "events", contract, values["where"]),
    )


def consumer(app: App, name: str, event_type: str, stack: str | None = None) -> Part:
    """A new consumer of an event type: its function, a test of it, its construct in a stack. Raises Failure."""
    module = _module(name)
    contract = next((each for each in app.catalogue.event_types if event_type == each.TYPE), None)
    if contract is None:
        known = ", ".join(sorted(each.TYPE for each in app.catalogue.event_types))
        raise Failure(f"there is no event type '{event_type}': {known}; or `offload new event {event_type}` first")
    values = {"name": module, "Class": class_name(module), "type": event_type, "Event": contract.__name__}
    values |= {"where": contract.__module__}
    call = (
        f'EventConsumer(self, "{values["Class"]}", source="{module}", events=({contract.__name__},), bus=platform.bus)'
    )
    imports = {
        "offload.cdk": "EventConsumer",
        contract.__module__: contract.__name__,
    }
    return Part(
        added=_new(
            _function(
                app,
                module,
                _filled(app, _CONSUMER, values),
                f"Takes {event_type}.",
            )
        ),
        changed=_in_stack(app, stack, call, imports),
        todo=("write what it does: the handler logs each event until then",),
    )


def job(app: App, name: str, stack: str | None = None) -> Part:
    """A new job type: its contract, its function, its construct, its place in the catalogue. Raises Failure."""
    module = _module(name)
    if module in app.catalogue.job_types:
        raise Failure(f"'{name}': the catalogue has a job type of that name")
    contracts = app.project.root / app.package / "contracts"
    folder = contracts / "jobs" if (contracts / "jobs").is_dir() else contracts
    where = ".".join(folder.relative_to(app.project.root).parts) + f".{module}"
    values = {"name": module, "Class": class_name(module), "CONSTANT": module.upper(), "where": where}
    call = (
        f'BackgroundJob(self, "{values["Class"]}", source="{module}", job={values["CONSTANT"]}, service=platform.jobs)'
    )
    imports = {"offload.cdk": "BackgroundJob", where: values["CONSTANT"]}
    return Part(
        added=_new(
            {
                folder / f"{module}.py": _filled(app, _JOB, values),
                **_function(app, module, _filled(app, _JOB_HANDLER, values), f"Runs the job {module}."),
                app.tests / f"test_{module}.py": _filled(app, _JOB_TEST, values),
            }
        ),
        changed={
            **_in_catalogue(app, "jobs", values["CONSTANT"], where),
            **_in_stack(app, stack, call, imports),
        },
        todo=("write what it does: it gives its input back until then",),
    )


def write(part: Part, app: App) -> None:
    """Writes a part's files; where the project keeps schemas, those too. Raises Failure with what that says."""
    for path, text in {**part.added, **part.changed}.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    if (app.project.root / "schemas").is_dir():
        command = [sys.executable, "-m", "offload.cli.schemas.schemas"]
        done = subprocess.run(command, cwd=app.project.root, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise Failure(f"the files are written; make schemas: {done.stderr.strip() or done.stdout.strip()}")


def _module(name: str) -> str:
    if not _NAME.fullmatch(name) or keyword.iskeyword(name):
        raise Failure(f"'{name}': write lower-case words with underscores between, as appointment_reminder")
    return name


def _new(files: Mapping[Path, str]) -> Mapping[Path, str]:
    if there := [path for path in files if path.exists()]:
        raise Failure(f"{there[0]}: is there already: choose another name, or remove it first")
    return files


def _function(app: App, module: str, handler: str, says: str) -> dict[Path, str]:
    folder = app.project.root / "lambdas" / module
    return {folder / "__init__.py": f'"""{says}"""\n', folder / "handler.py": handler}


def _in_catalogue(app: App, keyword_: str, item: str, module: str) -> dict[Path, str]:
    file = app.catalogue_file()
    where = file.relative_to(app.project.root).as_posix()
    text = with_item(file.read_text(encoding="utf-8"), Catalogue.__name__, keyword_, item, f"{where} ({CATALOGUE})")
    return {file: with_import(text, module, item, where, apart=app.apart)}


def _in_stack(app: App, named: str | None, call: str, imports: Mapping[str, str]) -> dict[Path, str]:
    file = app.stack_file(named)
    where = file.relative_to(app.project.root).as_posix()
    text = with_call(file.read_text(encoding="utf-8"), call, where)
    for module, name in imports.items():
        text = with_import(text, module, name, where, apart=app.apart)
    return {file: text}


def _filled(app: App, template: str, values: Mapping[str, str]) -> str:
    """A template with its values, its imports sorted as the app's are."""
    for key, value in {**values, "catalogue": app.catalogue.module}.items():
        template = template.replace(f"<<{key}>>", value)
    own = {app.package, *OWN_FOLDERS, *(() if app.apart else (FRAMEWORK,))}
    return with_sorted_imports(template, own)


_EVENT: Final = '''\
"""The event <<type>>."""

from __future__ import annotations

from datetime import datetime
from typing import ClassVar

from offload.contracts.events.event import EventData, Id, Moment


class <<Class>>(EventData, frozen=True, kw_only=True):
    """What has happened, in a sentence."""

    SOURCE: ClassVar[str] = "<<source>>"
    TYPE: ClassVar[str] = "<<type>>"

    id: Id
    happened_at: Moment

    @property
    def key(self) -> str:
        """What makes two of them the same event."""
        return self.id

    @property
    def subject(self) -> str:
        """What it is about."""
        return self.id

    @property
    def occurred_at(self) -> datetime:
        """When it happened."""
        return self.happened_at
'''

_EVENT_TEST: Final = '''\
"""The event <<type>>."""

from __future__ import annotations

from datetime import UTC, datetime

from <<catalogue>> import CATALOGUE
from <<where>> import <<Class>>
from offload.contracts.events.event import by_type, read_envelope


def test_it_is_read_back_as_it_was_written() -> None:
    written = <<Class>>(id="1", happened_at=datetime(2026, 11, 30, 8, tzinfo=UTC)).event()
    assert read_envelope(written.to_json()).event(by_type(CATALOGUE.event_types)).data == written.data
'''

_CONSUMER: Final = '''\
"""Takes <<type>>."""

from __future__ import annotations

from <<where>> import <<Event>>
from offload.contracts.events.event import Event
from offload.runtime.events.consumer import consumer
from offload.runtime.log import Logger

log = Logger(service="<<Class>>")


@consumer(<<Event>>)
def handler(event: Event[<<Event>>]) -> None:
    """One event, delivered at least once: after an exception it is retried."""
    log.info("taken", event_id=event.id)
'''

_JOB: Final = '''\
"""The job type <<name>>."""

from __future__ import annotations

from datetime import timedelta
from typing import Final

from msgspec import Struct

from offload.contracts.jobs.job_type import JobType


class <<Class>>Input(Struct, frozen=True, kw_only=True):
    """What the job is given."""

    text: str


class <<Class>>Result(Struct, frozen=True, kw_only=True):
    """What the job gives."""

    text: str


<<CONSTANT>>: Final = JobType(
    name="<<name>>", input=<<Class>>Input, result=<<Class>>Result, timeout=timedelta(seconds=60)
)
'''

_JOB_HANDLER: Final = '''\
"""Runs the job <<name>>."""

from __future__ import annotations

from <<where>> import <<CONSTANT>>, <<Class>>Input, <<Class>>Result
from offload.runtime.jobs.run import Run, job


@job(<<CONSTANT>>)
def handler(given: <<Class>>Input, run: Run) -> <<Class>>Result:
    """One run; `run` reports progress and says when to stop."""
    run.check()
    return <<Class>>Result(text=given.text)
'''

_JOB_TEST: Final = '''\
"""The job type <<name>>."""

from __future__ import annotations

from <<catalogue>> import CATALOGUE
from <<where>> import <<CONSTANT>>


def test_it_can_be_submitted() -> None:
    assert CATALOGUE.job_types["<<name>>"] is <<CONSTANT>>
'''
