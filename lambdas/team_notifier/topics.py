"""What the team is told of, and in which words. Decisions only; nothing here acts.

One more event type is one more entry of TOPICS, and one more of the `events` of `TeamNotifier` in stacks/shop.py.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final, Generic, NamedTuple, TypeVar

from offload.contracts.events.event import Event, EventData
from offload.contracts.jobs.events import JobFinished
from offload.contracts.jobs.job import State
from offload.contracts.webhooks_out.events import SubscriptionPaused
from shop.contracts.stock import StockLow

_DataT = TypeVar("_DataT", bound=EventData)


class Topic(NamedTuple, Generic[_DataT]):
    """An event type that the team is told of.

    `line` is one event in one line of plain text, None for one that is not worth it; `look` is where to look.
    """

    contract: type[_DataT]
    title: str
    line: Callable[[_DataT], str | None]
    look: str

    @property
    def name(self) -> str:
        """The event type's name; messages are grouped by it."""
        return self.contract.TYPE


def stock_low(data: StockLow) -> str:
    """A product that fell below its threshold."""
    return f"{data.product}: {data.units} left, fewer than {data.low_below}"


def job_failed(data: JobFinished) -> str | None:
    """A job that failed for good; those that succeeded or were cancelled are no news."""
    if data.state is not State.FAILED:
        return None
    attempts = "1 attempt" if data.attempts == 1 else f"{data.attempts} attempts"
    return f"{data.job_type} {data.job}, after {attempts}: {data.error or 'no reason was given'}"


def subscription_paused(data: SubscriptionPaused) -> str:
    """A subscription that is sent nothing any more, for its endpoint failed for long or is gone."""
    since = f"{data.failing_since:%Y-%m-%d %H:%M}"
    return f"{data.subscription} of {data.tenant} at {data.url}: {data.reason}, since {since}"


TOPICS: Final[Mapping[str, Topic[Any]]] = {
    topic.name: topic
    for topic in (
        Topic(StockLow, "Stock is low", stock_low, "offload logs StockLevels"),
        Topic(JobFinished, "Jobs failed", job_failed, "offload jobs list --state failed"),
        Topic(SubscriptionPaused, "Subscriptions paused", subscription_paused, "offload subscriptions list"),
    )
}


def lines_of(events: Iterable[Event[Any]]) -> dict[str, list[str]]:
    """What is to be told of events, by topic."""
    lines: dict[str, list[str]] = {}
    for event in events:
        line = TOPICS[event.type].line(event.data)
        if line is not None:
            lines.setdefault(event.type, []).append(line)
    return lines
