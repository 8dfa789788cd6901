"""The monolith's client of the API of subscriptions: against the real API, and against servers that misbehave."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any

import httpx
import msgspec
import pytest
from botocore.credentials import Credentials

from offload.client.publisher import Retries
from offload.client.subscriptions import SubscriptionRefused, Subscriptions, Unreachable
from offload.contracts.events.event import BrokenContract
from offload.contracts.webhooks_out.api import DeliveryFilters, Rotation, SubscriptionFilters
from offload.contracts.webhooks_out.subscription import Change, SubscriptionState, Wish
from tests.odd_server import Behaviour, OddServer, answer, odd_server, raw, reset
from tests.unit.webhooks_out.sending_bench import SendingBench
from tests.unit.webhooks_out.subscriptions_endpoint import api_of

WISH = Wish(url="http://127.0.0.1:9/hooks", types=("visit.ended",), tenant="acme")
CREDENTIALS = Credentials("AKIDEXAMPLE", "the-secret-key", "the-session-token")
BUSY = answer(503, b'{"type":"urn:offload:problem:contended","title":"It is being changed","detail":"Ask again."}')
THROTTLED = answer(429, b'{"message":"Too Many Requests"}', {"Retry-After": "3"})
LISTED = answer(200, b'{"subscriptions":[],"cursor":null}')
CREATED = answer(
    201,
    b'{"subscription":{"id":"sub_1","tenant":"acme","url":"http://127.0.0.1:9/hooks","types":["visit.ended"],'
    b'"state":"active","created_at":"2026-11-27T12:00:00Z","changed_at":"2026-11-27T12:00:00Z"},"secret":"whsec_x"}',
)
TROUBLES = pytest.mark.parametrize("trouble", [BUSY, THROTTLED, reset()], ids=["503", "429", "broken"])


@dataclass
class Time:
    """A clock that moves only by sleeping."""

    now: float = 0.0
    pauses: list[float] = field(default_factory=list)

    def sleep(self, seconds: float) -> None:
        self.pauses.append(seconds)
        self.now += seconds

    def jitter(self, low: float, high: float) -> float:
        assert low == 0
        return high


@pytest.fixture
def time() -> Time:
    return Time()


def client(url: str, time: Time, **settings: Any) -> Subscriptions:
    given: dict[str, Any] = {"credentials": CREDENTIALS, "region": "eu-west-1", "trust_env": False}
    ours: dict[str, Any] = {"sleep": time.sleep, "clock": lambda: time.now, "jitter": time.jitter}
    return Subscriptions(url, **given | ours | settings)


@pytest.fixture
def api(aws_of_module: None, time: Time, monkeypatch: pytest.MonkeyPatch) -> Iterator[Subscriptions]:
    """The client of the real API, on a table of its own."""
    with closing(SendingBench()) as bench, api_of(bench, monkeypatch) as url, client(url, time) as made:
        yield made


@pytest.fixture
def odd() -> Iterator[OddServer]:
    with odd_server() as server:
        yield server


@pytest.fixture
def asking(odd: OddServer, time: Time) -> Iterator[Subscriptions]:
    """The client of a server that does as it is told."""
    with client(odd.url(""), time) as made:
        yield made


# -- the real API


def test_a_subscription_is_created_changed_looked_after_and_deleted(api: Subscriptions) -> None:
    created = api.create(WISH)
    name = created.subscription.id
    assert str(created.secret).startswith("whsec_")
    assert api.subscription(name).tenant == "acme"
    assert api.change(name, Change(description="x")).description == "x"
    assert api.pause(name).state is SubscriptionState.PAUSED
    assert api.resume(name).state is SubscriptionState.ACTIVE
    assert api.rotate(name, Rotation()).secret != created.secret
    assert not api.test(name, "visit.ended").attempt.succeeded
    assert [each.id for each in api.subscriptions(SubscriptionFilters(tenant="acme"))] == [name]
    assert api.subscriptions(SubscriptionFilters(tenant="other")) == []
    assert "visit.ended" in {each.type for each in api.event_types().event_types}
    assert api.deliveries(DeliveryFilters(tenant="acme"), 5) == ([], False)
    api.delete(name)
    assert api.subscriptions() == []


def test_created_twice_under_one_key_it_is_one_subscription(api: Subscriptions) -> None:
    first, second = (api.create(WISH, idempotency_key="acme-1") for _ in range(2))
    assert first.subscription.id == second.subscription.id
    # It was in the first answer, and in no other.
    assert (first.secret is None, second.secret) == (False, None)
    assert len(api.subscriptions()) == 1


def test_without_a_key_each_is_another_subscription(api: Subscriptions) -> None:
    assert api.create(WISH).subscription.id != api.create(WISH).subscription.id


def test_a_refusal_is_raised_with_its_type_and_what_to_do(api: Subscriptions, time: Time) -> None:
    api.create(WISH, idempotency_key="acme-1")
    refusals: dict[str, Callable[[], object]] = {
        "idempotency-conflict": lambda: api.create(msgspec.structs.replace(WISH, rate=2), idempotency_key="acme-1"),
        "bad-types": lambda: api.create(Wish(url=WISH.url, types=("no.such",))),
        "no-such-subscription": lambda: api.delete("sub_none"),
        "no-such-delivery": lambda: api.resend("dlv_none"),
        "bad-request": lambda: api.create(Wish(url="", types=("visit.ended",))),
    }
    found = {}
    for type_, attempt in refusals.items():
        with pytest.raises(SubscriptionRefused) as refused:
            attempt()
        found[type_] = refused.value
    assert {type_: each.type for type_, each in found.items()} == {type_: type_ for type_ in refusals}
    assert [each.status for each in found.values()] == [409, 422, 404, 404, 400]
    none = found["no-such-subscription"]
    assert (str(none), none.detail) == (
        "There is no subscription of this id: there is no subscription 'sub_none'",
        "there is no subscription 'sub_none'",
    )
    assert time.pauses == []


def test_without_a_right_signature_it_says_which_permission_is_lacking(odd: OddServer, asking: Subscriptions) -> None:
    odd.script.append(answer(403, b'{"message":"Forbidden"}'))
    with pytest.raises(SubscriptionRefused) as refused:
        asking.subscriptions()
    assert (refused.value.type, refused.value.status) == ("forbidden", 403)
    assert str(refused.value) == (
        "Forbidden: the credentials need execute-api:Invoke on the API of subscriptions, and a clock that is right"
    )


# -- sending again


@TROUBLES
def test_a_read_is_sent_again(odd: OddServer, asking: Subscriptions, time: Time, trouble: Behaviour) -> None:
    odd.script += [trouble, trouble, LISTED]
    assert asking.subscriptions() == []
    assert len(odd.received) == 3
    assert time.pauses == ([3.0, 3.0] if trouble is THROTTLED else [0.1, 0.2])


@TROUBLES
def test_a_create_is_sent_again_under_the_same_key(
    odd: OddServer, asking: Subscriptions, time: Time, trouble: Behaviour
) -> None:
    odd.script += [trouble, trouble, CREATED]
    assert asking.create(WISH).secret == "whsec_x"
    keys = {each.headers["idempotency-key"] for each in odd.received}
    assert (len(odd.received), len(keys)) == (3, 1)
    assert all(each.body == odd.received[0].body for each in odd.received)


@TROUBLES
def test_every_other_call_is_sent_once(odd: OddServer, asking: Subscriptions, time: Time, trouble: Behaviour) -> None:
    calls: list[Callable[[], object]] = [
        lambda: asking.delete("sub_1"),
        lambda: asking.pause("sub_1"),
        lambda: asking.resume("sub_1"),
        lambda: asking.change("sub_1", Change(description="x")),
        lambda: asking.rotate("sub_1", Rotation()),
        lambda: asking.reseal("sub_1"),
        lambda: asking.test("sub_1"),
        lambda: asking.resend("dlv_1"),
        lambda: asking.erase("dlv_1"),
    ]
    for number, call in enumerate(calls, start=1):
        odd.script.append(trouble)
        with pytest.raises(Unreachable, match=r"^the API of subscriptions has no answer to [A-Z]+ /[a-z]+/\w+"):
            call()
        assert len(odd.received) == number
    assert time.pauses == []


def test_what_the_api_said_last_is_told_once_the_attempts_are_used_up(
    odd: OddServer, asking: Subscriptions, time: Time
) -> None:
    odd.otherwise = BUSY
    with pytest.raises(Unreachable) as given_up:
        asking.create(WISH, idempotency_key="acme-1")
    assert str(given_up.value) == (
        "the API of subscriptions has no answer to POST /subscriptions after 6 attempts: "
        "503, It is being changed: Ask again. (idempotency key acme-1)"
    )
    assert given_up.value.idempotency_key == "acme-1"
    assert time.pauses == [0.1, 0.2, 0.4, 0.8, 1.6]


def test_a_wait_that_ends_after_the_deadline_is_not_begun(odd: OddServer, time: Time) -> None:
    odd.otherwise = answer(503, b"", {"Retry-After": "60"})
    with client(odd.url(""), time, retries=Retries(deadline=30)) as asking, pytest.raises(Unreachable):
        asking.event_types()
    assert (len(odd.received), time.pauses) == (1, [])


def test_nobody_there_is_said_in_a_line(time: Time) -> None:
    with client("http://127.0.0.1:9", time) as asking, pytest.raises(Unreachable) as gone:
        asking.event_types()
    assert str(gone.value).startswith(
        "the API of subscriptions has no answer to GET /event-types after 6 attempts: ConnectError: "
    )


# -- answers of others


def test_a_redirect_is_refused_and_not_followed(odd: OddServer, asking: Subscriptions) -> None:
    odd.otherwise = answer(302, b"", {"Location": "https://login.example/?next=a-secret"})
    with pytest.raises(SubscriptionRefused) as refused:
        asking.delete("sub_1")
    assert (refused.value.type, refused.value.status) == ("unexpected-status", 302)
    assert str(refused.value) == (
        "what answers DELETE /subscriptions/sub_1 is not the API of subscriptions: "
        "status 302, a redirect to 'https://login.example/'; nothing was done"
    )


@pytest.mark.parametrize("body", [b"<html>", b"\xff", b"{}", b""])
def test_another_s_answer_is_not_taken_for_the_api_s(odd: OddServer, asking: Subscriptions, body: bytes) -> None:
    odd.otherwise = answer(200, body)
    with pytest.raises(Unreachable, match="what answers is not the API of subscriptions, or another version of it: "):
        asking.subscription("sub_1")


# -- secrets


def test_no_error_has_a_secret_or_the_value_of_a_header_in_it(odd: OddServer, time: Time) -> None:
    wish = msgspec.structs.replace(WISH, secret="whsec_c2VjcmV0", headers={"x-key": "the-header-value"})
    broken = Credentials("AKIDEXAMPLE", "the-secret-key", "the-session-token\n")
    told = []
    for credentials, behaviour in [
        (CREDENTIALS, BUSY),
        (CREDENTIALS, raw(b"the-header-value\r\n\r\n")),
        (broken, BUSY),
    ]:
        odd.otherwise = behaviour
        with client(odd.url(""), time, credentials=credentials) as asking, pytest.raises(Unreachable) as failed:
            asking.create(wish)
        told.append(str(failed.value))
    assert "the header X-Amz-Security-Token has a value that HTTP does not take" in told[2]
    for secret in ("the-secret-key", "the-session-token", "whsec_c2VjcmV0", "the-header-value", "AWS4-HMAC"):
        assert not [each for each in told if secret in each]


@pytest.mark.parametrize("key", ["", "two\nlines", "é", "x" * 257])
def test_what_cannot_be_a_key_is_refused_before_anything_is_sent(
    odd: OddServer, asking: Subscriptions, key: str
) -> None:
    with pytest.raises(BrokenContract, match=r"^idempotency_key: 1 to 256 printable characters of ASCII$"):
        asking.create(WISH, idempotency_key=key)
    assert odd.received == []


def without_settings(code: str) -> str:
    """What a process says last that has no settings of AWS's."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
    nothing = {"AWS_CONFIG_FILE": os.devnull, "AWS_SHARED_CREDENTIALS_FILE": os.devnull}
    settings = {**kept, **nothing, "AWS_EC2_METADATA_DISABLED": "true", "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([sys.executable, "-c", code], env=settings, capture_output=True, text=True, check=False)
    return done.stderr.splitlines()[-1]


def test_no_credentials_and_no_region_are_said_in_a_line() -> None:
    imports = "from botocore.credentials import Credentials as C; from offload.client.subscriptions import *"
    refused = "offload.client.subscriptions.SubscriptionRefused"
    assert without_settings(f"{imports}; Subscriptions('http://x')") == (
        f"{refused}: there are no AWS credentials: log in, or set AWS_PROFILE"
    )
    assert without_settings(f"{imports}; Subscriptions('http://x', credentials=C('a', 'b'))") == (
        f"{refused}: there is no AWS Region: set AWS_REGION, or give `region`"
    )


def test_a_time_out_of_ones_own_is_kept(odd: OddServer, time: Time) -> None:
    with client(odd.url(""), time, timeout=httpx.Timeout(7.0)) as asking:
        assert asking._client().timeout == httpx.Timeout(7.0)
