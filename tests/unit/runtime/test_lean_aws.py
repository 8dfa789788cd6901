"""The small client of AWS's JSON services: signed as botocore signs, and patient with servers that misbehave."""

from __future__ import annotations

import json
import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import botocore
import pytest
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from offload.runtime.lean_aws import AwsRefused, AwsUnreachable, Service, UnsupportedEndpoint
from tests.odd_server import Behaviour, OddServer, Received, answer, by_request, odd_server, raw

Script = Callable[[int], "tuple[int, bytes] | None"]


@pytest.fixture(autouse=True)
def _credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {
        "AWS_REGION": "eu-central-1",
        "AWS_ACCESS_KEY_ID": "AKIDEXAMPLE",
        "AWS_SECRET_ACCESS_KEY": "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY",
        "AWS_SESSION_TOKEN": "token",
    }.items():
        monkeypatch.setenv(name, value)


@contextmanager
def a_server(script: Script, patch: pytest.MonkeyPatch, *, location: str = "") -> Iterator[OddServer]:
    """Answers by a script of the request's number; None is a broken connection. `location` is where it redirects to."""

    def behaviour(_: Received) -> Behaviour:
        given = script(len(server.received))
        return raw() if given is None else answer(*given, {"location": location} if location else None)

    with odd_server(by_request(behaviour)) as server:
        patch.setenv("AWS_ENDPOINT_URL_EVENTBRIDGE", server.url(""))
        yield server


def events() -> Service:
    return Service("events", "EVENTBRIDGE", "AWSEvents", "1.1")


def test_requests_are_signed_as_botocore_signs_them(monkeypatch: pytest.MonkeyPatch) -> None:
    with a_server(lambda _: (200, b"{}"), monkeypatch) as server:
        events().call("PutEvents", {"Entries": [{"Detail": '{"a": "é"}'}]}, within=5)
    [request] = server.received
    headers = request.headers
    signed = {name: headers[name] for name in ("content-type", "x-amz-target", "x-amz-date", "x-amz-security-token")}
    theirs = AWSRequest("POST", f"http://{headers['host']}/", data=request.body, headers=signed)
    credentials = Credentials("AKIDEXAMPLE", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY", "token")
    auth = SigV4Auth(credentials, "events", "eu-central-1")
    theirs.context["timestamp"] = headers["x-amz-date"]
    content = auth.string_to_sign(theirs, auth.canonical_request(theirs))
    assert headers["authorization"].endswith(f"Signature={auth.signature(content, theirs)}")
    assert headers["content-type"] == "application/x-amz-json-1.1"
    assert headers["x-amz-target"] == "AWSEvents.PutEvents"


def test_without_a_variable_it_calls_the_region_s_own_address(monkeypatch: pytest.MonkeyPatch) -> None:
    assert events()._endpoint() == "https://events.eu-central-1.amazonaws.com"
    monkeypatch.setenv("AWS_REGION", "cn-north-1")
    assert events()._endpoint() == "https://events.cn-north-1.amazonaws.com.cn"


def test_every_partition_that_botocore_knows_has_its_own_address(monkeypatch: pytest.MonkeyPatch) -> None:
    known = json.loads((Path(botocore.__file__).parent / "data/partitions.json").read_text())["partitions"]
    for partition in known:
        for region in partition["regions"]:
            if re.search(partition["regionRegex"], region):
                monkeypatch.setenv("AWS_REGION", region)
                assert events()._endpoint() == f"https://events.{region}.{partition['outputs']['dnsSuffix']}"


@pytest.mark.parametrize("variant", ["AWS_USE_FIPS_ENDPOINT", "AWS_USE_DUALSTACK_ENDPOINT"])
def test_a_kind_of_endpoint_that_it_knows_nothing_of_is_refused_by_name(
    monkeypatch: pytest.MonkeyPatch, variant: str
) -> None:
    monkeypatch.setenv(variant, "true")
    with pytest.raises(UnsupportedEndpoint, match=f"{variant}: name the endpoint in AWS_ENDPOINT_URL_EVENTBRIDGE"):
        events().call("PutEvents", {}, within=1)
    with a_server(lambda _: (200, b"{}"), monkeypatch) as server:
        assert events().call("PutEvents", {}, within=5) == {}
    assert len(server.received) == 1


@pytest.mark.parametrize("status", [202, 204, 301, 302, 307, 308])
@pytest.mark.parametrize("body", [b"", b"{}", b"<html>", b"[]"])
def test_a_redirect_is_refused_by_its_status_and_is_not_asked_again(
    monkeypatch: pytest.MonkeyPatch, status: int, body: bytes
) -> None:
    content = b"" if status == 204 else body
    elsewhere = "https://login.example/?next=a-secret"
    wanted = pytest.raises(AwsRefused, match=f"^events:PutEvents: status {status} to 'https://login.example/': $")
    with a_server(lambda _: (status, content), monkeypatch, location=elsewhere) as server, wanted:
        events().call("PutEvents", {}, within=5)
    assert len(server.received) == 1


@pytest.mark.parametrize("body", [b"[]", b'"done"', b"null", b"<html>"])
def test_a_success_that_is_no_object_is_no_answer(monkeypatch: pytest.MonkeyPatch, body: bytes) -> None:
    with a_server(lambda _: (200, body), monkeypatch), pytest.raises(AwsUnreachable, match="no answer"):
        events().call("PutEvents", {}, within=5)


def test_one_connection_serves_many_calls(monkeypatch: pytest.MonkeyPatch) -> None:
    with a_server(lambda _: (200, b"{}"), monkeypatch) as server:
        service = events()
        for _ in range(5):
            assert service.call("PutEvents", {}, within=5) == {}
    assert (len(server.received), server.connections) == (5, 1)


def test_a_kept_connection_that_was_closed_is_opened_anew_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    with a_server(lambda number: None if number == 2 else (200, b"{}"), monkeypatch) as server:
        service = events()
        service.call("PutEvents", {}, within=60)
        # Not as a failure is tried again, after a pause.
        monkeypatch.setattr(time, "sleep", lambda seconds: pytest.fail(f"a pause of {seconds} s"))
        service.call("PutEvents", {}, within=60)
    assert len(server.received) == 3


@pytest.mark.parametrize(
    "first",
    [
        (500, b"{}"),
        (503, b"not json"),
        (400, b'{"__type": "com.amazonaws#ThrottlingException", "message": "slow down"}'),
        (200, b"half"),
        None,
    ],
)
def test_what_another_attempt_may_help_is_tried_again(
    monkeypatch: pytest.MonkeyPatch, first: tuple[int, bytes] | None
) -> None:
    script: Script = lambda number: first if number < 3 else (200, b'{"ok": true}')  # noqa: E731
    with a_server(script, monkeypatch) as server:
        assert events().call("PutEvents", {}, within=10) == {"ok": True}
    assert len(server.received) == 3


def test_what_no_attempt_can_help_is_raised_with_its_code_and_document(monkeypatch: pytest.MonkeyPatch) -> None:
    said = {"__type": "com.amazonaws.dynamodb#ConditionalCheckFailedException", "message": "no", "Item": {"a": 1}}
    wanted = pytest.raises(AwsRefused, match="events:PutEvents: ConditionalCheckFailedException: no")
    with a_server(lambda _: (400, json.dumps(said).encode()), monkeypatch) as server, wanted as refused:
        events().call("PutEvents", {}, within=5)
    assert refused.value.document["Item"] == {"a": 1}
    assert len(server.received) == 1


def test_it_ends_after_three_attempts(monkeypatch: pytest.MonkeyPatch) -> None:
    with a_server(lambda _: (500, b"{}"), monkeypatch) as server, pytest.raises(AwsRefused, match="status 500"):
        events().call("PutEvents", {}, within=30)
    assert len(server.received) == 3


def test_a_server_that_hangs_is_given_up_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    release = threading.Event()

    def hangs(_: int) -> tuple[int, bytes]:
        release.wait(20)
        return 200, b"{}"

    with a_server(hangs, monkeypatch):
        began = time.monotonic()
        with pytest.raises(AwsUnreachable, match="no answer"):
            events().call("PutEvents", {}, within=0.5)
        took = time.monotonic() - began
        release.set()
    assert took < 5


def test_a_server_that_is_not_there_is_said_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL_EVENTBRIDGE", "http://127.0.0.1:9")
    with pytest.raises(AwsUnreachable, match="events:PutEvents: no answer"):
        events().call("PutEvents", {}, within=1)
