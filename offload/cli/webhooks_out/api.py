"""The API of subscriptions and deliveries of a deployment, called with the deployment's credentials.

A call is sent once: the person who typed the command sees the outcome and runs it again.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final, TypeVar

import msgspec
from msgspec import UNSET, UnsetType

from offload.cli.deployment.aws import LOCAL_ANSWER_WITHIN
from offload.cli.deployment.failure import Failure
from offload.cli.deployment.options import utc
from offload.cli.deployment.resources import Deployment
from offload.client.job_calls import Answer, Call
from offload.client.subscriptions import TIMEOUT, SubscriptionRefused, Subscriptions, Unreachable
from offload.contracts.webhooks_out.subscription import Subscription, SubscriptionState

if TYPE_CHECKING:
    import ssl

T = TypeVar("T")

_HOUR: Final = timedelta(hours=1)


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


@contextmanager
def subscriptions_api(deployment: Deployment) -> Iterator[SubscriptionsApi]:
    """The API of a deployment; raises Failure when it has none."""
    import httpx

    session, instance = deployment.aws.session, deployment.aws.instance
    with _for_people():
        api = SubscriptionsApi(
            deployment.subscription_service.endpoint,
            credentials=session.get_credentials(),
            region=session.region_name,
            verify=_verify(deployment),
            trust_env=instance is None,  # loopback is never reached through a proxy
            timeout=TIMEOUT if instance is None else httpx.Timeout(LOCAL_ANSWER_WITHIN),
        )
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


def _verify(deployment: Deployment) -> ssl.SSLContext | bool:
    import ssl

    instance = deployment.aws.instance
    if instance is None or instance.certificate is None:
        return True
    return ssl.create_default_context(cafile=instance.certificate)


@contextmanager
def _for_people() -> Iterator[None]:
    try:
        yield
    except SubscriptionRefused as error:
        raise Refused(error.type, str(error)) from error
    except Unreachable as error:
        raise Failure(str(error)) from error
