"""The API of subscriptions and deliveries of a deployment, called with the deployment's credentials.

A call is sent once: the person who typed the command sees the outcome and runs it again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final, TypeVar

import msgspec
from msgspec import UNSET, UnsetType

from offload.cli.deployment.failure import Failure
from offload.cli.deployment.options import utc
from offload.cli.deployment.resources import Deployment, SubscriptionService
from offload.client.job_calls import Answer, Call
from offload.client.subscriptions import SubscriptionRefused, Subscriptions, Unreachable
from offload.contracts.webhooks_out.api import DeliveryFilters, EventTypes, SubscriptionFilters
from offload.contracts.webhooks_out.subscription import Delivery, Subscription, SubscriptionState

if TYPE_CHECKING:
    pass

T = TypeVar("T")

_HOUR: Final = timedelta(hours=1)
# Another source's event of the same id may be among them.
_OF_ONE_EVENT: Final = 1_000


class Refused(Failure):
    """The API answered that it does not; `slug` names why."""

    def __init__(self, slug: str, text: str) -> None:
        super().__init__(text)
        self.slug = slug


class SubscriptionsApi(Subscriptions):
    """The API's calls. Each raises Refused, in one line, and Failure for an answer that did not come."""

    def _ask(self, *arguments: Any, **options: Any) -> Any:
        with _for_people():
            return super()._ask(*arguments, **options)

    def _answer(self, call: Call, key: str | None) -> Answer:
        got = self._send(call)
        if isinstance(got, Answer):
            return got
        raise Unreachable(f"the API of subscriptions has no answer to {call.told}: {got.why}", idempotency_key=key)


@dataclass(frozen=True)
class Senders:
    """The APIs of all senders of an environment, by the names of their stacks.

    Ids of subscriptions and deliveries are unique among them, so that what has one is found without a stack's name.
    Each call raises Refused and Failure as an API's does.
    """

    apis: Mapping[str, SubscriptionsApi]

    @property
    def several(self) -> bool:
        """Whether more than one stack sends webhooks, so that it has to be said which is meant."""
        return len(self.apis) > 1

    def stack_of(self, subscription: str) -> str:
        """The stack whose sender has the subscription; the only one, whatever it has."""
        return self._that_has(lambda api: api.subscription(subscription), "no-such-subscription")

    def of_subscription(self, subscription: str) -> SubscriptionsApi:
        """The API of the sender that has the subscription; the only one, whatever it has."""
        return self.apis[self.stack_of(subscription)]

    def of_delivery(self, delivery: str) -> SubscriptionsApi:
        """The API of the sender that has the delivery; the only one, whatever it has."""
        return self.apis[self._that_has(lambda api: api.delivery(delivery), "no-such-delivery")]

    def subscriptions(self, wanted: SubscriptionFilters) -> list[tuple[str, Subscription]]:
        """Every subscription that fits, with its stack."""
        return [(stack, each) for stack, api in self.apis.items() for each in api.subscriptions(wanted)]

    def deliveries(self, wanted: DeliveryFilters, limit: int) -> tuple[list[tuple[str, Delivery]], bool]:
        """At most `limit` deliveries that fit, newest first, with their stacks; and whether there may be more."""
        found: list[tuple[str, Delivery]] = []
        more = False
        for stack, api in self.apis.items():
            listed, there_is_more = api.deliveries(wanted, limit)
            found += [(stack, each) for each in listed]
            more = more or there_is_more
        found.sort(key=lambda each: each[1].created_at, reverse=True)
        return found[:limit], more or len(found) > limit

    def erase(self, delivery: str) -> Delivery:
        """Erases what was sent of a delivery's event, by whichever sender; returns the delivery."""
        api = self.of_delivery(delivery)
        erased = api.erase(delivery)
        for other in self.apis.values():
            if other is not api:
                listed, _ = other.deliveries(DeliveryFilters(event=erased.event), _OF_ONE_EVENT)
                # One of its deliveries names the event to a sender.
                if name := next((each.id for each in listed if each.source == erased.source), None):
                    other.erase(name)
        return erased

    def event_types(self) -> EventTypes:
        """What can be subscribed to, of one sender or another."""
        found = {each.type: each for api in self.apis.values() for each in api.event_types().event_types}
        return EventTypes([found[name] for name in sorted(found)])

    def _that_has(self, look: Callable[[SubscriptionsApi], object], unknown: str) -> str:
        *others, last = self.apis
        for stack in others:
            try:
                look(self.apis[stack])
            except Refused as refused:
                if refused.slug != unknown:
                    raise
            else:
                return stack
        # Where nobody has it, this one says so in the API's words.
        return last


@contextmanager
def senders_of(deployment: Deployment) -> Iterator[Senders]:
    """The APIs of a deployment's senders; raises Failure when it has none."""
    with ExitStack() as opened:
        yield Senders({each.stack: opened.enter_context(_api_at(deployment, each)) for each in deployment.senders()})


@contextmanager
def subscriptions_api(deployment: Deployment, stack: str | None = None) -> Iterator[SubscriptionsApi]:
    """The API of a stack's sender, or of the only one; raises Failure when there is none, or several to choose from."""
    with _api_at(deployment, deployment.sender_of(stack)) as api:
        yield api


@contextmanager
def _api_at(deployment: Deployment, service: SubscriptionService) -> Iterator[SubscriptionsApi]:
    with _for_people():
        api = SubscriptionsApi(service.endpoint, **deployment.aws.api_options())
    with api:
        yield api


def document_of(value: Any) -> Any:
    """What the API answers, as JSON."""
    return msgspec.json.decode(msgspec.json.encode(value))


def health_of(subscription: Subscription) -> str:
    """How an endpoint fares, in words."""
    if subscription.state is SubscriptionState.PAUSED:
        return f"paused: {subscription.reason.replace('-', ' ')}" if subscription.reason else "paused"
    health = subscription.health
    said = []
    if health.failing_since:
        said.append(f"failing since {utc(health.failing_since)}, {health.to_pause} % of the way to the pause")
    if health.parked_until:
        said.append(f"parked until {utc(health.parked_until)}")
    return ", ".join(said) or "well"


def filter_of(text: str) -> dict[str, Any]:
    """A filter as it was typed; raises Failure for what is no JSON object. What it may say, the API knows."""
    try:
        return msgspec.json.decode(text, type=dict[str, Any])
    except msgspec.MsgspecError as error:
        raise Failure(f"--filter: {error}: a JSON object, such as " + '{"country": ["France"]}') from error


def headers_of(lines: list[str] | None) -> dict[str, str]:
    """Own headers from `Name: value` lines; raises Failure."""
    found: dict[str, str] = {}
    for line in lines or ():
        name, colon, value = line.partition(":")
        if not colon or not name.strip():
            raise Failure(f"--header: '{name}' has no value: write it as 'Name: value'")
        if any(each.lower() == name.strip().lower() for each in found):
            raise Failure(f"--header: '{name.strip()}' is there twice: a header has one value, whatever its case")
        found[name.strip()] = value.strip()
    return found


def overlap_hours(text: str) -> int:
    """How long an old secret signs beside the new one; raises Failure for what is no whole number of hours."""
    from offload.cli.deployment.logs import duration

    span = duration(text)
    if span % _HOUR:
        raise Failure(
            f"--overlap: '{text}' is no whole number of hours: such as 24h, 7d, or 0h to retire the old at once"
        )
    return span // _HOUR


def checked(kind: type[T], fields: Mapping[str, Any]) -> T:
    """What is sent, by its contract; what is None is left out. Raises Failure naming the field."""
    try:
        return msgspec.convert({name: value for name, value in fields.items() if value is not None}, kind)
    except msgspec.ValidationError as error:
        raise Failure(str(error)) from error


def given(value: T | None) -> T | UnsetType:
    """An option for a query: left out when it was not typed."""
    return UNSET if value is None else value


@contextmanager
def _for_people() -> Iterator[None]:
    try:
        yield
    except SubscriptionRefused as error:
        raise Refused(error.type, str(error)) from error
    except Unreachable as error:
        raise Failure(str(error)) from error
