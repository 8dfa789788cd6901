"""The API of subscriptions and deliveries of a deployment, called with the deployment's credentials.

A call is sent once. Whoever is at the keyboard sees what came of it, and asks again.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final, TypeVar
from urllib.parse import quote

import msgspec
from msgspec import UNSET, Struct, UnsetType
from msgspec.structs import replace

from offload.cli.deployment.aws import LOCAL_ANSWER_WITHIN
from offload.cli.deployment.failure import Failure
from offload.cli.deployment.options import utc
from offload.cli.deployment.resources import Deployment
from offload.contracts.webhooks_out.api import (
    MOST_LISTED,
    Deliveries,
    DeliveryFilters,
    EventTypes,
    Resealed,
    Rotation,
    SubscriptionFilters,
    Subscriptions,
    Trial,
    Tried,
)
from offload.contracts.webhooks_out.subscription import (
    Change,
    Created,
    Delivery,
    Rotated,
    Subscription,
    SubscriptionState,
    Wish,
)

if TYPE_CHECKING:
    import ssl

    import httpx

    from offload.client.job_calls import Signer

T = TypeVar("T")

_DONE: Final = (200, 201, 204)
_CLIENT_ERRORS: Final = 400
_FORBIDDEN: Final = 403
_HOUR: Final = timedelta(hours=1)


class Refused(Failure):
    """The API answered that it does not; `slug` names why, empty for what it did not say itself."""

    def __init__(self, slug: str, text: str) -> None:
        super().__init__(text)
        self.slug = slug


class _Refusal(Struct, frozen=True):
    """A problem document (RFC 9457), or API Gateway's own `{"message": "Forbidden"}`."""

    type: str = ""
    title: str = ""
    detail: str = ""
    message: str = ""


class SubscriptionsApi:
    """The API's calls. Each raises Refused, in one line, and Failure for an answer that did not come."""

    def __init__(self, endpoint: str, signer: Signer, http: httpx.Client) -> None:
        self._endpoint = endpoint
        self._signer = signer
        self._http = http

    def create(self, wish: Wish) -> Created:
        """A new subscription, with its secret unless that was brought along."""
        return self._ask("POST", "/subscriptions", Created, body=wish)

    def subscriptions(self, wanted: SubscriptionFilters) -> list[Subscription]:
        """Every subscription that fits."""
        found: list[Subscription] = []
        while True:
            query = replace(wanted, limit=MOST_LISTED)
            page = self._ask("GET", "/subscriptions", Subscriptions, query=query)
            found += page.subscriptions
            if page.cursor is None:
                return found
            wanted = replace(wanted, cursor=page.cursor)

    def subscription(self, name: str) -> Subscription:
        """One subscription."""
        return self._ask("GET", _one(name), Subscription)

    def change(self, name: str, wanted: Change) -> Subscription:
        """Changes what `wanted` names."""
        return self._ask("PATCH", _one(name), Subscription, body=wanted)

    def pause(self, name: str) -> Subscription:
        """Pauses it."""
        return self._ask("POST", f"{_one(name)}/pause", Subscription)

    def resume(self, name: str) -> Subscription:
        """Lets it go on."""
        return self._ask("POST", f"{_one(name)}/resume", Subscription)

    def delete(self, name: str) -> None:
        """Deletes it."""
        self._ask("DELETE", _one(name), None)

    def rotate(self, name: str, wanted: Rotation) -> Rotated:
        """A new secret."""
        return self._ask("POST", f"{_one(name)}/rotate", Rotated, body=wanted)

    def reseal(self, name: str) -> Resealed:
        """Seals it under the current key."""
        return self._ask("POST", f"{_one(name)}/reseal", Resealed)

    def test(self, name: str, event_type: str | None) -> Tried:
        """Sends a test now."""
        return self._ask("POST", f"{_one(name)}/test", Tried, body=Trial(type=event_type))

    def event_types(self) -> EventTypes:
        """What can be subscribed to."""
        return self._ask("GET", "/event-types", EventTypes)

    def deliveries(self, wanted: DeliveryFilters, limit: int) -> tuple[list[Delivery], bool]:
        """At most `limit` deliveries that fit, newest first, and whether there may be more."""
        found: list[Delivery] = []
        while True:
            query = replace(wanted, limit=min(MOST_LISTED, limit - len(found)))
            page = self._ask("GET", "/deliveries", Deliveries, query=query)
            found += page.deliveries
            if page.cursor is None or len(found) >= limit:
                return found, page.cursor is not None
            wanted = replace(wanted, cursor=page.cursor)

    def delivery(self, name: str) -> Delivery:
        """One delivery with its attempts, and with what was sent as far as it is kept."""
        return self._ask("GET", _delivery(name), Delivery)

    def resend(self, name: str) -> Delivery:
        """Sends an ended delivery once more."""
        return self._ask("POST", f"{_delivery(name)}/resend", Delivery)

    def erase(self, name: str) -> Delivery:
        """Erases what was sent of the delivery's event."""
        return self._ask("POST", f"{_delivery(name)}/erase", Delivery)

    def _ask(self, method: str, path: str, kind: type[T] | None, *, query: Any = None, body: Any = None) -> T:
        import httpx

        from offload.client.job_calls import Call
        from offload.client.signed_http import without_values

        content = b"" if body is None else msgspec.json.encode(body)
        headers = {} if body is None else {"Content-Type": "application/json"}
        call = Call(method, path, query=_query(query), content=content, headers=headers)
        url = call.address(self._endpoint)
        signed = self._signer.signed(call, url)
        try:
            answer = self._http.request(method, url, content=content, headers=signed)
        except httpx.TransportError as error:
            raise Failure(
                f"the API of subscriptions has no answer to {method} {path}: {without_values(error, signed)}"
            ) from None
        if answer.status_code >= _CLIENT_ERRORS:
            raise _refused(answer.status_code, answer.content)
        if answer.status_code not in _DONE:
            there = answer.headers.get("location", "").partition("?")[0]
            to = f", a redirect to {there!a}" if there else ""
            raise Failure(
                f"what answers {method} {path} is not the API of subscriptions: status {answer.status_code}{to}; "
                "nothing was done"
            )
        try:
            # Of a call without content there is nothing to be read.
            return msgspec.json.decode(answer.content or b"null", type=kind)
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise Failure(f"what answers is not the API of subscriptions, or another version of it: {error}") from error


@contextmanager
def subscriptions_api(deployment: Deployment) -> Iterator[SubscriptionsApi]:
    """The API of a deployment; raises Failure when it has none."""
    import httpx

    from offload.client.job_calls import JobRefused, Signer
    from offload.client.jobs import TIMEOUT

    endpoint = deployment.subscription_service.endpoint
    session, instance = deployment.aws.session, deployment.aws.instance
    try:
        signer = Signer(session.get_credentials(), session.region_name)
    except JobRefused as error:
        raise Failure(str(error)) from error
    # Loopback is never reached through a proxy.
    timeout = TIMEOUT if instance is None else httpx.Timeout(LOCAL_ANSWER_WITHIN)
    with httpx.Client(verify=_verify(deployment), trust_env=instance is None, timeout=timeout) as http:
        yield SubscriptionsApi(endpoint, signer, http)


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


def _query(wanted: Any) -> dict[str, str]:
    return {} if wanted is None else {name: str(value) for name, value in msgspec.to_builtins(wanted).items()}


def _one(name: str) -> str:
    return f"/subscriptions/{quote(name, safe='')}"


def _delivery(name: str) -> str:
    return f"/deliveries/{quote(name, safe='')}"


def _refused(status: int, body: bytes) -> Refused:
    try:
        said = msgspec.json.decode(body, type=_Refusal)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        said = _Refusal()
    title = (said.title or said.message or f"HTTP status {status}").rstrip(".")
    detail = said.detail
    if status == _FORBIDDEN and not detail:
        detail = "the credentials need execute-api:Invoke on the API of subscriptions, and a clock that is right"
    text = " ".join(f"{title}: {detail}".split()) if detail else title
    return Refused(said.type.rpartition(":")[2], text)
