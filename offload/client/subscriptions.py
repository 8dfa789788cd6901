"""Subscriptions and deliveries from the monolith: third parties are registered, changed and looked after.

subscriptions = Subscriptions("https://….execute-api.eu-west-1.amazonaws.com")
created = subscriptions.create(Wish(url="https://example.com/hooks", types=("order.*",), tenant="acme"))
subscriptions.pause(created.subscription.id)
"""

from __future__ import annotations

import dataclasses
import random
import re
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, Self, TypeVar
from urllib.parse import quote

import msgspec
from msgspec.structs import replace

from offload.client import connection
from offload.client.job_calls import (
    Answer,
    Call,
    JobRefused,
    NoAnswer,
    Signer,
    Unreachable,
    is_trouble,
    problem_of,
    repeated,
)
from offload.client.job_wish import new_key
from offload.client.publisher import Retries
from offload.client.signed_http import TIMEOUT, SignedHttp
from offload.contracts.events.event import BrokenContract
from offload.contracts.http_api import IDEMPOTENCY_KEY, PROBLEM
from offload.contracts.webhooks_out.api import (
    MOST_LISTED,
    Deliveries,
    DeliveryFilters,
    EventTypes,
    Resealed,
    Rotation,
    SubscriptionFilters,
    Trial,
    Tried,
)
from offload.contracts.webhooks_out.api import Subscriptions as Listed
from offload.contracts.webhooks_out.subscription import (
    Change,
    Created,
    Delivery,
    Rotated,
    Subscription,
    Wish,
)

if TYPE_CHECKING:
    import ssl

    import httpx
    from botocore.credentials import Credentials

__all__ = ["TIMEOUT", "Retries", "SubscriptionRefused", "Subscriptions", "Unreachable"]

T = TypeVar("T")

_DONE: Final = (200, 201, 204)
_CLIENT_ERRORS: Final = 400
_FORBIDDEN: Final = 403


class SubscriptionRefused(Exception):
    """The API does not do what was asked, and nothing of it was done.

    `type` is the refusal's stable name (`bad-url`, `no-such-subscription`, …), `detail` says what to do.
    """

    def __init__(self, type_: str, title: str, detail: str = "", *, status: int = 0) -> None:
        self.type = type_
        self.title = title
        self.detail = detail
        self.status = status
        """Of the HTTP answer; 0 when there was none."""
        super().__init__(" ".join(f"{title}: {detail}".split()) if detail else title)


class Subscriptions(SignedHttp):
    """The API of one environment. Threads may share one; a forked process gets connections of its own.

    Reads and `create` are sent again after a lost answer, 429 and 5xx; all other calls are sent once. Each raises
    SubscriptionRefused, and Unreachable without a usable answer: whether a change was made is then to be looked up.
    """

    def __init__(
        self,
        endpoint: str,
        *,
        credentials: Credentials | None = None,
        region: str | None = None,
        retries: Retries | None = None,
        verify: ssl.SSLContext | bool = True,
        trust_env: bool = True,
        timeout: httpx.Timeout = TIMEOUT,
        sleep: Callable[[float], None] = time.sleep,
        clock: Callable[[], float] = time.monotonic,
        jitter: Callable[[float, float], float] = random.uniform,
    ) -> None:
        """`endpoint` is the API's URL; `credentials` are botocore's, by default those of the usual places.

        `trust_env` lets the environment's proxies and certificates count. Raises SubscriptionRefused without
        credentials or a Region.
        """
        try:
            signer = Signer(credentials, region)
        except JobRefused as error:
            raise SubscriptionRefused(error.type, error.title, error.detail) from error
        super().__init__(endpoint, signer, verify=verify, trust_env=trust_env, timeout=timeout, sleep=sleep)
        self._retries = retries or Retries()
        self._clock = clock
        self._jitter = jitter

    @classmethod
    def from_environment(cls, *, retries: Retries | None = None, timeout: httpx.Timeout = TIMEOUT) -> Self:
        """The API that OFFLOAD_SUBSCRIPTIONS_URL names; raises NotConnected, and SubscriptionRefused as above."""
        return cls(connection.subscriptions_url(), retries=retries, timeout=timeout)

    # -- subscriptions

    def create(self, wish: Wish, *, idempotency_key: str | None = None) -> Created:
        """A new subscription, with its secret unless that was brought along.

        The same key and wish is the same subscription; the key is made up when it is not given. The secret that the
        API made is in its first answer alone: `secret` is None where that was lost, and `rotate` makes another.
        Raises BrokenContract for what cannot be a key; nothing was sent then.
        """
        key = new_key() if idempotency_key is None else idempotency_key
        if not re.fullmatch(IDEMPOTENCY_KEY, key):
            raise BrokenContract("idempotency_key: 1 to 256 printable characters of ASCII")
        return self._ask("POST", "/subscriptions", Created, body=wish, key=key)

    def subscriptions(self, wanted: SubscriptionFilters | None = None) -> list[Subscription]:
        """Every subscription that fits."""
        query = replace(wanted or SubscriptionFilters(), limit=MOST_LISTED)
        found: list[Subscription] = []
        while True:
            page = self._ask("GET", "/subscriptions", Listed, query=query)
            found += page.subscriptions
            if page.cursor is None:
                return found
            query = replace(query, cursor=page.cursor)

    def subscription(self, name: str) -> Subscription:
        """One subscription."""
        return self._ask("GET", _one(name), Subscription)

    def change(self, name: str, wanted: Change) -> Subscription:
        """Changes what `wanted` names."""
        return self._ask("PATCH", _one(name), Subscription, body=wanted)

    def pause(self, name: str) -> Subscription:
        """Pauses it: what is owed to it waits."""
        return self._ask("POST", f"{_one(name)}/pause", Subscription)

    def resume(self, name: str) -> Subscription:
        """Lets it go on."""
        return self._ask("POST", f"{_one(name)}/resume", Subscription)

    def delete(self, name: str) -> None:
        """Deletes it; what is owed to it is given up."""
        self._ask("DELETE", _one(name), None)

    def rotate(self, name: str, wanted: Rotation) -> Rotated:
        """A new secret; the old one signs beside it for a while."""
        return self._ask("POST", f"{_one(name)}/rotate", Rotated, body=wanted)

    def reseal(self, name: str) -> Resealed:
        """Seals it under the environment's current key. That is for operators: the monolith's role may not."""
        return self._ask("POST", f"{_one(name)}/reseal", Resealed)

    def test(self, name: str, event_type: str | None = None) -> Tried:
        """Sends a test now, once; what came back. With a type, its example."""
        return self._ask("POST", f"{_one(name)}/test", Tried, body=Trial(type=event_type))

    def event_types(self) -> EventTypes:
        """What can be subscribed to."""
        return self._ask("GET", "/event-types", EventTypes)

    # -- deliveries

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

    # -- how it is done

    def _ask(
        self,
        method: str,
        path: str,
        kind: type[T] | None,
        *,
        query: Any = None,
        body: Any = None,
        key: str | None = None,
    ) -> T:
        content = b"" if body is None else msgspec.json.encode(body)
        headers = {} if body is None else {"Content-Type": "application/json"}
        if key is not None:
            headers["Idempotency-Key"] = key
        call = Call(method, path, query=_query(query), content=content, headers=headers)
        answer = self._answer(call, key)
        if answer.status >= _CLIENT_ERRORS:
            raise _refused(answer)
        if answer.status not in _DONE:
            raise _not_done(call, answer)
        try:
            # Of a call without content there is nothing to be read.
            return msgspec.json.decode(answer.body or b"null", type=kind)
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise Unreachable(
                f"what answers is not the API of subscriptions, or another version of it: {error}", idempotency_key=key
            ) from error

    def _answer(self, call: Call, key: str | None) -> Answer:
        """The answer to a call; what may be repeated is asked again when there is none or the API is in trouble."""
        repeatable = call.method == "GET" or key is not None
        retries = self._retries if repeatable else dataclasses.replace(self._retries, attempts=1)
        got, attempts = self.run(repeated(call, retries, self._clock, self._jitter, _may_pass))
        if isinstance(got, Answer) and not _may_pass(got):
            return got
        raise _unreachable(call, got, attempts, key)


def _may_pass(answer: Answer) -> bool:
    return is_trouble(answer.status)


def _unreachable(call: Call, got: Answer | NoAnswer, attempts: int, key: str | None) -> Unreachable:
    after = f" after {attempts} attempts" if attempts > 1 else ""
    why = f"{got.status}, {_refused(got)}" if isinstance(got, Answer) else got.why
    again = f" (idempotency key {key})" if key else ""
    return Unreachable(
        f"the API of subscriptions has no answer to {call.told}{after}: {why}{again}", idempotency_key=key
    )


def _refused(answer: Answer) -> SubscriptionRefused:
    said = problem_of(answer)
    name, detail = "refused", said.detail
    if said.type.startswith(PROBLEM):
        name = said.type.removeprefix(PROBLEM)
    elif answer.status == _FORBIDDEN:
        name = "forbidden"
    if answer.status == _FORBIDDEN and not detail:
        detail = "the credentials need execute-api:Invoke on the API of subscriptions, and a clock that is right"
    title = (said.title or said.message or f"HTTP status {answer.status}").rstrip(".")
    return SubscriptionRefused(name, title, detail, status=answer.status)


def _not_done(call: Call, answer: Answer) -> SubscriptionRefused:
    """The refusal of a status below 400 that does not say that the call was done: most often a redirect.

    It is not followed: a signature is for one host.
    """
    there = answer.headers.get("location", "").partition("?")[0]
    to = f", a redirect to {there!a}" if there else ""
    return SubscriptionRefused(
        "unexpected-status",
        f"what answers {call.told} is not the API of subscriptions",
        f"status {answer.status}{to}; nothing was done",
        status=answer.status,
    )


def _query(wanted: Any) -> dict[str, str]:
    return {} if wanted is None else {name: str(value) for name, value in msgspec.to_builtins(wanted).items()}


def _one(name: str) -> str:
    return f"/subscriptions/{quote(name, safe='')}"


def _delivery(name: str) -> str:
    return f"/deliveries/{quote(name, safe='')}"
