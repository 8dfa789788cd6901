"""What an app has, in one object: the framework imports nothing of the app, and knows it by its `CATALOGUE`."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cached_property
from typing import Any, Final

from offload.contracts.events.event import EventData
from offload.contracts.idle import IdleCall
from offload.contracts.jobs.events import JobFinished, JobWanted
from offload.contracts.jobs.job import State
from offload.contracts.jobs.job_type import JobType
from offload.contracts.webhooks_in.scheme import Providers
from offload.contracts.webhooks_out.events import (
    SUBSCRIPTION_EVENTS,
    SubscriptionFailing,
    SubscriptionPaused,
    SubscriptionRecovered,
)
from offload.contracts.webhooks_out.recovery import DELIVERY_BATCH
from offload.contracts.webhooks_out.tenants import NO_TENANT

NAME: Final = "CATALOGUE"
"""What an app's catalogue is called in its module."""

CATALOGUE_VARIABLE: Final = "OFFLOAD_CATALOGUE"
"""The variable of a function that names the module of its app's catalogue."""


class UnusableCatalogue(Exception):
    """The app's catalogue cannot be read or contradicts itself; the message is one line for people."""


@dataclass(frozen=True)
class Catalogue:
    """What an app has, beside what the framework brings itself.

    - `module` is the module that it stands in: `__name__`.
    - `events` are the contracts of the events that the app publishes, `jobs` its job types.
    - `outward` is an example of each event type that third parties may subscribe to, beside the framework's; each
      contract says by its `AUDIENCE` who is told. None is an app that sends no webhooks.
    - `providers` are those that may send webhooks.
    - `commands` are groups of commands beside the framework's: a name, and the module whose `app` is a Typer
      application. `demo` is a function, as "module:name", that `offload up` calls with the deployment and the steps
      that it shows.
    - `idle_calls` are what functions of its own do that a schedule calls and that find nothing to do, by their sources:
      the bill of an idle month counts them.

    Raises UnusableCatalogue for two types of one name.
    """

    module: str
    events: tuple[type[EventData], ...] = ()
    jobs: tuple[JobType[Any, Any], ...] = ()
    outward: tuple[EventData, ...] | None = None
    providers: Providers = field(default_factory=Providers)
    commands: Mapping[str, str] = field(default_factory=dict)
    demo: str | None = None
    idle_calls: Mapping[str, IdleCall] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for what, names in {
            "event type": [each.TYPE for each in self.event_types],
            "job type": [each.name for each in self._jobs],
            "example of the event type": [each.TYPE for each in self._outward],
        }.items():
            if twice := sorted({name for name in names if names.count(name) > 1}):
                raise UnusableCatalogue(f"{self.module}: two times the {what} '{twice[0]}': give one another name")

    @cached_property
    def event_types(self) -> tuple[type[EventData], ...]:
        """Every event type that is published: the app's, then the framework's."""
        return (*self.events, *_EVENTS)

    @cached_property
    def job_types(self) -> Mapping[str, JobType[Any, Any]]:
        """Every job type that can be submitted, by its name."""
        return {each.name: each for each in self._jobs}

    @property
    def sends_webhooks(self) -> bool:
        """Whether the app has a WebhookSender, and with it the job type of its recovery."""
        return self.outward is not None

    @cached_property
    def outward_examples(self) -> Mapping[str, EventData]:
        """An example of each event type that third parties may subscribe to, by the type's name."""
        return {each.TYPE: each for each in self._outward}

    @property
    def outward_types(self) -> tuple[type[EventData], ...]:
        """The contracts of the event types that third parties may subscribe to."""
        return tuple(type(each) for each in self.outward_examples.values())

    @property
    def _jobs(self) -> tuple[JobType[Any, Any], ...]:
        return (*self.jobs, DELIVERY_BATCH) if self.sends_webhooks else self.jobs

    @property
    def _outward(self) -> tuple[EventData, ...]:
        return (*(self.outward or ()), *_OUTWARD)

    @classmethod
    def load(cls, module: str) -> Catalogue:
        """The `CATALOGUE` of a module; raises UnusableCatalogue when the module has none."""
        try:
            found = getattr(importlib.import_module(module), NAME, None)
        except ModuleNotFoundError as error:
            if not f"{module}.".startswith(f"{error.name}."):
                raise
            raise UnusableCatalogue(
                f"there is no module {module}: [tool.offload] catalogue in pyproject.toml names the app's catalogue"
            ) from error
        if not isinstance(found, Catalogue):
            raise UnusableCatalogue(f"{module} has no {NAME}: write {NAME} = Catalogue(__name__, events=..., jobs=...)")
        return found


_EVENTS: Final[tuple[type[EventData], ...]] = (JobWanted, JobFinished, *SUBSCRIPTION_EVENTS)

_AT: Final = datetime(2010, 12, 1, 8, 26, tzinfo=UTC)
_ENDPOINT: Final[dict[str, Any]] = {
    "subscription": "sub_3f6c2c9a41e04d1f9b7e",
    "tenant": NO_TENANT,
    "url": "https://subscriber.example/webhooks",
    "failing_since": _AT,
}
_OUTWARD: Final[tuple[EventData, ...]] = (
    JobFinished(job="job-5f1c", job_type="report", state=State.SUCCEEDED, attempts=1, finished_at=_AT),
    SubscriptionFailing(**_ENDPOINT, percent=50, pauses_at=_AT + timedelta(days=5), noticed_at=_AT),
    SubscriptionPaused(**_ENDPOINT, reason="failing", paused_at=_AT + timedelta(days=5)),
    SubscriptionRecovered(**_ENDPOINT, recovered_at=_AT + timedelta(days=6)),
)
