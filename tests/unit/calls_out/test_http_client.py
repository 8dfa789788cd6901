"""The client of handlers, against a real server that behaves badly."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
import traceback
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import httpcore
import pytest

from offload.contracts.egress import networks
from offload.runtime import invocation
from offload.runtime.http.async_connect import async_pool
from offload.runtime.http.client import RESERVE_SECONDS, Client
from offload.runtime.http.connect import Resolve, pool, tls
from offload.runtime.http.failures import (
    CallFailed,
    NotAnswered,
    OutOfTime,
    RateLimited,
    TooLarge,
    Unsuccessful,
)
from offload.runtime.http.guard import AddressRefused, Guard
from offload.runtime.settings import MissingSetting
from tests.certificates import Authority
from tests.odd_server import OddServer, Received, answer, cut, drip, flood, hang, odd_server, raw, reset
from tests.patience import PATIENCE

GUARD = Guard(private=networks(["127.0.0.0/8"]), schemes=frozenset({"http", "https"}), ports=None)
NOW = datetime(2026, 11, 27, 12, 0, 0, tzinfo=UTC)
OK = b"HTTP/1.1 200 OK\r\n"


class Bench:
    """A server, and clients of it that wait for nothing between attempts."""

    def __init__(self, server: OddServer) -> None:
        self.server = server
        self.pauses: list[float] = []

    def url(self, path: str, host: str = "third.example") -> str:
        return f"http://{host}:{self.server.port}{path}"

    def client(self, **options: Any) -> Client:
        options = {"read_seconds": 0.3, "connect_seconds": 2.0, "total_seconds": 5.0, **options}
        return Client(
            "third",
            GUARD,
            connections=options.pop("connections", None) or pool(GUARD, resolve=lambda *_: ("127.0.0.1",)),
            sleep=self.pauses.append,
            now=NOW.timestamp,
            uniform=lambda low, high: high,
            **options,
        )

    def sent(self) -> int:
        return len(self.server.received)


@pytest.fixture
def bench() -> Iterator[Bench]:
    with odd_server() as server:
        yield Bench(server)


def lines(capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def test_an_answer_has_lower_case_headers_and_its_body(bench: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    bench.server.on("/rates", answer(200, b"<xml/>", {"X-Day": "Friday", "Set-Cookie": "a"}))
    got = bench.client().get(bench.url("/rates?key=hidden"), headers={"X-Api-Key": "hidden-too"})
    assert (got.status, got.body, got.attempts) == (200, b"<xml/>", 1)
    assert got.headers["x-day"] == "Friday"
    [request] = bench.server.received
    assert request.path == "/rates?key=hidden"
    assert request.headers["host"] == f"third.example:{bench.server.port}"
    assert request.headers["x-api-key"] == "hidden-too"
    assert request.headers["accept-encoding"] == "identity"
    [line] = lines(capsys)
    assert {name: line[name] for name in ("message", "client", "method", "host", "path", "status", "attempts")} == {
        "message": "call",
        "client": "third",
        "method": "GET",
        "host": "third.example",
        "path": "/rates",
        "status": 200,
        "attempts": 1,
    }
    assert (line["outcome"], line["bytes"]) == ("answered", 6)
    assert line["duration_ms"] > 0
    assert "hidden" not in json.dumps(line)


def test_a_path_that_is_a_secret_is_in_no_log_line(bench: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    bench.server.on("/services/T0/SECRET", answer(404))
    with pytest.raises(Unsuccessful) as failed:
        bench.client(secret_path=True).post(bench.url("/services/T0/SECRET"), b"{}")
    [line] = lines(capsys)
    assert "SECRET" not in json.dumps(line) + str(failed.value)
    assert line["outcome"] == "unsuccessful"


def test_a_connection_is_used_again(bench: Bench) -> None:
    bench.server.on("/", answer(200, b"a"))
    client = bench.client()
    for _ in range(3):
        client.get(bench.url("/"))
    assert (bench.sent(), bench.server.connections) == (3, 1)


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "DELETE", "OPTIONS"])
def test_what_may_be_sent_twice_is_sent_three_times_to_a_server_that_hangs(bench: Bench, method: str) -> None:
    bench.server.on("/", hang())
    with pytest.raises(NotAnswered) as failed:
        bench.client(read_seconds=0.05).request(method, bench.url("/"))
    assert failed.value.unknown_outcome
    assert bench.sent() == 3
    assert bench.pauses == [0.25, 0.5]


@pytest.mark.parametrize("method", ["POST", "PATCH"])
def test_what_acts_each_time_is_sent_once_to_a_server_that_hangs(bench: Bench, method: str) -> None:
    bench.server.on("/", hang())
    with pytest.raises(NotAnswered, match="it may have been acted on") as failed:
        bench.client(read_seconds=0.05).request(method, bench.url("/"), b"{}")
    assert failed.value.unknown_outcome
    assert bench.sent() == 1


def test_a_key_makes_a_post_repeatable_and_is_the_same_each_time(bench: Bench) -> None:
    bench.server.on("/", hang(), reset(), answer(201))
    got = bench.client(read_seconds=0.05).post(bench.url("/"), b"{}", idempotency_key="visit-1")
    assert (got.status, got.attempts) == (201, 3)
    assert [request.headers["idempotency-key"] for request in bench.server.received] == ["visit-1"] * 3
    assert {request.body for request in bench.server.received} == {b"{}"}


def test_a_post_is_tried_again_when_no_connection_came_about(bench: Bench) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with pytest.raises(NotAnswered, match="nothing was sent") as failed:
        bench.client().post(f"http://third.example:{port}/", b"{}")
    assert not failed.value.unknown_outcome
    assert len(bench.pauses) == 2


def test_a_name_without_an_address_and_one_that_is_never_resolved_are_no_connection(bench: Bench) -> None:
    def nowhere(host: str, port: int) -> list[str]:
        raise socket.gaierror("Name or service not known")

    def hanging(host: str, port: int) -> list[str]:
        bench.server.over.wait()
        return []

    resolvers: list[Resolve] = [nowhere, hanging, lambda host, port: []]
    for resolve in resolvers:
        client = bench.client(connections=pool(GUARD, resolve=resolve), connect_seconds=0.05)
        with pytest.raises(NotAnswered) as failed:
            client.post(bench.url("/"), b"{}")
        assert not failed.value.unknown_outcome
    assert bench.server.connections == 0


BROKEN = {
    "closes at once": raw(),
    "resets at once": reset(),
    "closes in the status line": raw(b"HTTP/1.1 2"),
    "resets in the headers": reset(OK, b"Content-Le"),
    "closes in the headers": raw(OK, b"Content-Length: 5\r\n"),
    "resets in the body": reset(OK, b"Content-Length: 5\r\n\r\nab"),
    "closes in the body": raw(OK, b"Content-Length: 5\r\n\r\nab"),
    "closes in a chunk": raw(OK, b"Transfer-Encoding: chunked\r\n\r\n5\r\nab"),
    "closes before the last chunk": raw(OK, b"Transfer-Encoding: chunked\r\n\r\n2\r\nab\r\n"),
    "sends chunks of nonsense": raw(OK, b"Transfer-Encoding: chunked\r\n\r\nzz\r\nab\r\n"),
    "speaks another protocol": raw(b"220 mail.example ESMTP\r\n"),
    "sends two lengths": raw(OK, b"Content-Length: 2\r\nContent-Length: 3\r\n\r\nabc"),
    "sends a length that is no number": raw(OK, b"Content-Length: many\r\n\r\nabc"),
    "sends a negative length": raw(OK, b"Content-Length: -1\r\n\r\nabc"),
    "sends a header without a name": raw(OK, b": a\r\n\r\n"),
}


@pytest.mark.parametrize("broken", BROKEN, ids=list(BROKEN))
def test_a_broken_response_is_no_answer_and_is_asked_for_again_where_it_may(bench: Bench, broken: str) -> None:
    bench.server.on("/", BROKEN[broken], answer(200, b"well"))
    with pytest.raises(NotAnswered) as failed:
        bench.client().post(bench.url("/"), b"{}")
    assert failed.value.unknown_outcome
    bench.server.on("/", BROKEN[broken], answer(200, b"well"))
    assert bench.client().get(bench.url("/")).body == b"well"


def test_a_server_that_resets_before_the_request_is_not_a_dead_end(bench: Bench) -> None:
    bench.server.at_once = cut
    with pytest.raises(NotAnswered):
        bench.client().get(bench.url("/"))
    assert bench.server.connections == 3


def test_a_connection_that_was_closed_meanwhile_is_made_anew(bench: Bench) -> None:
    bench.server.on("/", raw(OK, b"Content-Length: 2\r\n\r\nok"))
    client = bench.client()
    for expected in (1, 2, 3):
        assert client.get(bench.url("/")).body == b"ok"
        assert bench.server.connections == expected


def test_a_body_that_is_longer_than_its_length_is_cut_there(bench: Bench) -> None:
    bench.server.on("/", raw(OK, b"Content-Length: 2\r\n\r\nokHTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil"))
    assert bench.client().get(bench.url("/")).body == b"ok"


KEY = "s3cret"
EVIL = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil"
BEHIND: dict[str, tuple[bytes, ...]] = {
    "in one packet": (OK + b"Content-Length: 2\r\n\r\nok" + EVIL,),
    "in another packet": (OK + b"Content-Length: 2\r\n\r\nok", EVIL),
    "behind an empty line": (OK + b"Content-Length: 2\r\n\r\nok\r\n" + EVIL,),
    "behind the last chunk": (OK + b"Transfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n" + EVIL,),
    "with a length and chunks": (
        OK + b"Content-Length: 9\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n" + EVIL,
    ),
    "half of it": (OK + b"Content-Length: 2\r\n\r\nok" + EVIL[:20],),
    "one byte": (OK + b"Content-Length: 2\r\n\r\nok!",),
}


@pytest.mark.parametrize("encrypted", [False, True])
@pytest.mark.parametrize("what", BEHIND)
def test_what_follows_an_answer_is_not_the_next_one(what: str, encrypted: bool, authority: Authority) -> None:
    with odd_server(context=authority.server("third.example") if encrypted else None) as server:
        sent = threading.Event()

        def sends_more(connection: socket.socket, request: Received) -> bool:
            raw(*BEHIND[what])(connection, request)
            sent.set()
            return True

        server.on("/", sends_more, answer(200, b"good"))
        client = secure(Bench(server), authority)
        url = f"{'https' if encrypted else 'http'}://third.example:{server.port}/"
        assert client.get(url).body == b"ok"
        assert sent.wait(PATIENCE)
        assert client.get(url).body == b"good"
        assert server.connections == 2


@pytest.mark.parametrize("encrypted", [False, True])
@pytest.mark.parametrize(("status", "method"), [(204, "POST"), (204, "GET"), (200, "HEAD")])
def test_a_body_where_there_can_be_none_is_not_the_next_answer(
    status: int, method: str, encrypted: bool, authority: Authority
) -> None:
    bodiless = f"HTTP/1.1 {status} Well\r\nContent-Length: {len(EVIL)}\r\n\r\n".encode()
    with odd_server(context=authority.server("third.example") if encrypted else None) as server:
        server.on("/", raw(bodiless + EVIL, keep=True), answer(200, b"good"))
        client = secure(Bench(server), authority)
        url = f"{'https' if encrypted else 'http'}://third.example:{server.port}/"
        assert client.request(method, url).body == b""
        assert client.get(url).body == b"good"


@pytest.mark.parametrize("encrypted", [False, True])
@pytest.mark.parametrize("behind", [b"\r\n", b"\r\n\r\n"])
def test_empty_lines_behind_an_answer_are_passed_over_and_the_connection_kept(
    behind: bytes, encrypted: bool, authority: Authority
) -> None:
    with odd_server(context=authority.server("third.example") if encrypted else None) as server:
        server.on("/", raw(OK + b"Content-Length: 2\r\n\r\nok", behind, keep=True))
        client = secure(Bench(server), authority)
        url = f"{'https' if encrypted else 'http'}://third.example:{server.port}/"
        assert [client.get(url).body for _ in range(3)] == [b"ok"] * 3
        assert server.connections == 1


def test_an_answer_in_the_clear_is_none_of_a_server_with_tls(bench: Bench, authority: Authority) -> None:
    def speaks_first(connection: socket.socket) -> None:
        connection.sendall(EVIL)
        connection.settimeout(5)
        authority.server("third.example").wrap_socket(connection, server_side=True)

    bench.server.at_once = speaks_first
    with pytest.raises(NotAnswered):
        secure(bench, authority).get(f"https://third.example:{bench.server.port}/")

    async def asked() -> None:
        context = tls(authority.cafile)
        async with async_pool(GUARD, resolve=lambda *_: ("127.0.0.1",), context=context) as connections:
            await connections.request("GET", f"https://third.example:{bench.server.port}/")

    with pytest.raises(httpcore.ConnectError):
        asyncio.run(asked())


def test_an_old_server_and_one_without_a_length_are_understood(bench: Bench) -> None:
    bench.server.on("/old", answer(200, b"old", version="1.0"))
    bench.server.on("/endless", raw(OK, b"\r\n", b"until the end"))
    bench.server.on("/early", raw(b"HTTP/1.1 103 Early Hints\r\nLink: a\r\n\r\n", OK, b"Content-Length: 2\r\n\r\nok"))
    client = bench.client()
    assert client.get(bench.url("/old")).body == b"old"
    assert client.get(bench.url("/endless")).body == b"until the end"
    assert client.get(bench.url("/early")).body == b"ok"


DRIPS = {
    "of a status line": (b"", b"H"),
    "of headers": (OK + b"X: ", b"a"),
    "of a body": (OK + b"Content-Length: 1000000\r\n\r\n", b"a"),
    "of chunks": (OK + b"Transfer-Encoding: chunked\r\n\r\n", b"1\r\na\r\n"),
    "of early hints": (b"", b"HTTP/1.1 103 Early Hints\r\n\r\n"),
}


@pytest.mark.parametrize("drops", DRIPS, ids=list(DRIPS))
def test_slow_bytes_cannot_outlast_the_total_time(bench: Bench, drops: str) -> None:
    # No read waits for longer than 20 ms, and the server never ends.
    bench.server.on("/", drip(bench.server, *DRIPS[drops], seconds=0.02))
    with pytest.raises(NotAnswered, match=r"the total time is over|nothing came in time"):
        bench.client(total_seconds=0.4, read_seconds=60.0).get(bench.url("/"))
    assert bench.sent() == 1


def test_a_server_that_takes_nothing_cannot_outlast_the_time_either(bench: Bench) -> None:
    def ignore(connection: socket.socket) -> None:
        bench.server.over.wait()

    bench.server.at_once = ignore
    with pytest.raises(NotAnswered) as failed:
        bench.client(total_seconds=0.5, read_seconds=60.0).post(bench.url("/"), b"a" * 20_000_000)
    assert failed.value.unknown_outcome


HEADER = b"X-Long: " + b"a" * 1000 + b"\r\n"


@pytest.mark.parametrize(
    "script",
    [
        raw(OK, b"Content-Length: 3000\r\n\r\n", b"a" * 3000),
        raw(OK, b"\r\n", b"a" * 3000),
        raw(OK, HEADER * 70, b"Content-Length: 0\r\n\r\n"),
        raw(OK, HEADER * 200, b"Content-Length: 0\r\n\r\n"),
        raw(OK, b"X: " + b"a" * 200_000, b"\r\n\r\n"),
    ],
    ids=["declared body", "body", "headers", "more headers", "one header"],
)
def test_what_is_too_large_is_neither_read_nor_asked_for_again(bench: Bench, script: Any) -> None:
    bench.server.on("/", script)
    with pytest.raises(TooLarge, match=r"longer than|2000 are read"):
        bench.client(longest_body=2000).get(bench.url("/"))
    assert bench.sent() == 1


def test_an_endless_body_is_left_after_what_may_be_read(bench: Bench) -> None:
    bench.server.on("/", flood())
    with pytest.raises(TooLarge):
        bench.client(longest_body=100_000).get(bench.url("/"))
    bench.server.on("/", answer(200, b"a" * 100_000))
    assert len(bench.client(longest_body=100_000).get(bench.url("/")).body) == 100_000


def test_the_head_of_a_large_body_is_no_large_body(bench: Bench) -> None:
    bench.server.on("/", answer(200, b"a" * 3000))
    got = bench.client(longest_body=2000).head(bench.url("/"))
    assert (got.headers["content-length"], got.body) == ("3000", b"")


@pytest.mark.parametrize("status", [408, 429, 502, 503, 504])
def test_a_status_that_passes_is_asked_for_again_where_it_may(bench: Bench, status: int) -> None:
    bench.server.on("/", answer(status), answer(200, b"well"))
    assert bench.client().get(bench.url("/")).attempts == 2
    bench.server.on("/", answer(status), answer(200, b"well"))
    assert bench.client().post(bench.url("/"), b"", idempotency_key="k").attempts == 2
    bench.server.on("/", answer(status), answer(200, b"well"))
    with pytest.raises((Unsuccessful, RateLimited)):
        bench.client().post(bench.url("/"), b"")
    assert bench.sent() == 5


@pytest.mark.parametrize("status", [400, 401, 403, 404, 409, 410, 418, 422, 500, 501, 505])
def test_another_status_ends_the_call_with_its_answer(bench: Bench, status: int) -> None:
    bench.server.on("/", answer(status, b"because"))
    with pytest.raises(Unsuccessful, match=f"third: GET third.example: status {status}") as failed:
        bench.client().get(bench.url("/"))
    assert (failed.value.status, failed.value.answer.body, failed.value.wait) == (status, b"because", None)
    assert bench.sent() == 1


def test_an_answer_that_nothing_changed_is_one_where_that_was_asked(bench: Bench) -> None:
    bench.server.on("/", raw(b"HTTP/1.1 304 Not Modified\r\n\r\n", keep=True))
    assert bench.client().get(bench.url("/"), headers={"If-None-Match": '"a"'}).status == 304
    with pytest.raises(Unsuccessful, match="status 304"):
        bench.client().get(bench.url("/"))


SOON = NOW + timedelta(seconds=2)


@pytest.mark.parametrize(
    ("value", "pause"),
    [
        ("2", 2.5),
        ("0", 0.25),
        (format_datetime(SOON, usegmt=True), 2.5),
        (SOON.strftime("%A, %d-%b-%y %H:%M:%S GMT"), 2.5),
        (SOON.strftime("%a %b %d %H:%M:%S %Y"), 2.5),
        (format_datetime(NOW - timedelta(days=1), usegmt=True), 0.25),
        ("-2", 0.25),
        ("2.5", 0.25),
        ("soon", 0.25),
        ("", 0.25),
        (None, 0.25),
    ],
)
@pytest.mark.parametrize("status", [429, 503])
def test_every_form_of_retry_after_is_honoured(bench: Bench, status: int, value: str | None, pause: float) -> None:
    headers = {} if value is None else {"Retry-After": value}
    bench.server.on("/", answer(status, headers=headers), answer(200, b"well"))
    assert bench.client().get(bench.url("/")).attempts == 2
    assert bench.pauses == [pause]


def test_a_wait_beyond_the_call_ends_it_and_is_named(bench: Bench) -> None:
    bench.server.on("/limited", answer(429, headers={"Retry-After": "30"}))
    bench.server.on("/down", answer(503, headers={"Retry-After": "99999999999"}))
    with pytest.raises(RateLimited, match="status 429, and asks to wait 30 s") as limited:
        bench.client().get(bench.url("/limited"))
    assert limited.value.wait == timedelta(seconds=30)
    assert limited.value.answer is not None
    with pytest.raises(Unsuccessful, match="asks to wait 86400 s") as down:
        bench.client().get(bench.url("/down"))
    assert down.value.wait == timedelta(days=1)
    assert (bench.sent(), bench.pauses) == (2, [])


def test_a_part_is_a_success_only_where_one_was_asked_for(bench: Bench) -> None:
    bench.server.on("/rates", answer(206, b"<xml>half"))
    assert bench.client().get(bench.url("/rates"), headers={"Range": "bytes=0-8"}).body == b"<xml>half"
    with pytest.raises(Unsuccessful, match="status 206"):
        bench.client().get(bench.url("/rates"))
    assert bench.sent() == 2


@pytest.mark.parametrize("status", [300, 301, 302, 303, 304, 307, 308])
@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "DELETE"])
def test_a_redirect_that_leads_nowhere_is_no_success(bench: Bench, status: int, method: str) -> None:
    bench.server.on("/", answer(status))
    with pytest.raises(Unsuccessful, match=f"status {status}"):
        bench.client().request(method, bench.url("/"))


@pytest.mark.parametrize("location", ["http://[", "//[::1", "http://a]b/"])
def test_a_redirect_to_what_is_no_url_is_no_success(bench: Bench, location: str) -> None:
    bench.server.on("/", answer(302, headers={"Location": location}))
    with pytest.raises(Unsuccessful, match="status 302 to no URL"):
        bench.client().get(bench.url("/"))


def test_a_redirect_of_a_get_is_followed_and_takes_no_attempt(bench: Bench) -> None:
    bench.server.on("/a", answer(301, headers={"Location": "/b?c=d"}))
    bench.server.on("/b", answer(307, headers={"Location": f"//third.example:{bench.server.port}/c#part"}))
    bench.server.on("/c", answer(200, b"there"))
    got = bench.client().get(bench.url("/a"), headers={"Authorization": "Bearer a"})
    assert (got.body, got.attempts) == (b"there", 1)
    assert [request.path for request in bench.server.received] == ["/a", "/b?c=d", "/c"]
    assert all(request.headers["authorization"] == "Bearer a" for request in bench.server.received)


def test_no_header_of_the_caller_goes_to_another_origin_nor_back(bench: Bench) -> None:
    bench.server.on("/a", answer(302, headers={"Location": bench.url("/b", host="other.example")}))
    bench.server.on("/b", answer(302, headers={"Location": bench.url("/c")}))
    bench.server.on("/c", answer(200))
    sent = {"Authorization": "Bearer a", "Cookie": "b", "X-Api-Key": "c", "Accept": "text/xml"}
    bench.client().get(bench.url("/a"), headers=sent)
    first, other, back = bench.server.received
    assert {"authorization", "cookie", "x-api-key"} <= first.headers.keys()
    for request in (other, back):
        assert not {"authorization", "cookie", "x-api-key"} & request.headers.keys()
        assert request.headers["accept"] == "text/xml"


def test_a_redirect_loop_ends(bench: Bench) -> None:
    bench.server.on("/a", answer(302, headers={"Location": "/a"}))
    with pytest.raises(Unsuccessful, match="redirected more than 3 times"):
        bench.client().get(bench.url("/a"))
    assert bench.sent() == 4


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE"])
def test_a_redirect_of_what_acts_is_not_followed(bench: Bench, method: str) -> None:
    bench.server.on("/a", answer(307, headers={"Location": "/b"}))
    with pytest.raises(Unsuccessful, match="status 307"):
        bench.client().request(method, bench.url("/a"))
    assert bench.sent() == 1


def test_the_time_of_a_call_is_less_than_what_the_function_has_left(bench: Bench) -> None:
    class Context:
        left = int(RESERVE_SECONDS * 1000) + 2000

        def get_remaining_time_in_millis(self) -> int:
            return self.left

    context = Context()
    bench.server.on("/", hang())
    client = bench.client(read_seconds=600.0, total_seconds=900.0)
    with invocation.running(context):
        # The server hangs for ever: that this returns is the proof.
        with pytest.raises(NotAnswered):
            client.get(bench.url("/"))
        assert bench.sent() == 1
        context.left = 900
        with pytest.raises(OutOfTime, match="the function has 900 ms left: give it a longer timeout"):
            client.get(bench.url("/"))
    assert bench.sent() == 1


def test_the_trace_of_what_is_worked_on_is_passed_on(bench: Bench) -> None:
    trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
    bench.server.on("/", answer())
    client = bench.client()
    with invocation.traced(trace):
        client.get(bench.url("/"))
        client.get(bench.url("/"), headers={"Traceparent": "own"})
    client.get(bench.url("/"))
    assert [request.headers.get("traceparent") for request in bench.server.received] == [trace, "own", None]


@pytest.mark.parametrize(
    ("name", "value"),
    [("X", "a\r\nY: b"), ("X\r\nY", "a"), ("X", "ä"), ("Host", "other"), ("Content-Length", "1"), ("X Y", "a")],
)
def test_a_header_that_cannot_be_is_an_error_of_the_caller(bench: Bench, name: str, value: str) -> None:
    bench.server.on("/", answer())
    with pytest.raises(ValueError, match=r"header|Illegal"):
        bench.client().get(bench.url("/"), headers={name: value})
    assert bench.sent() == 0


@pytest.mark.parametrize("value", ["Bearer s3cret ", " s3cret", "s3cret\n", "s3cret\x00", "s3cret\t"])
def test_a_header_s_value_is_in_no_error(bench: Bench, value: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ValueError, match="authorization") as failed:
        bench.client().get(bench.url("/"), headers={"Authorization": value})
    told = "".join(traceback.format_exception(failed.value)) + "".join(capsys.readouterr())
    with pytest.raises(httpcore.LocalProtocolError, match="Authorization") as refused:
        pool(GUARD).request("GET", bench.url("/", "127.0.0.1"), headers={"Host": "a", "Authorization": value})
    told += "".join(traceback.format_exception(refused.value))
    assert "s3cret" not in told


def test_a_header_in_two_cases_is_an_error_of_the_caller(bench: Bench) -> None:
    with pytest.raises(ValueError, match="twice"):
        bench.client().get(bench.url("/"), headers={"X-Key": "one", "x-key": "two"})


def test_an_answer_that_quotes_the_request_is_in_no_error(bench: Bench) -> None:
    bench.server.on("/", raw(f"You sent {KEY}\r\n\r\n".encode()))
    with pytest.raises(NotAnswered) as failed:
        bench.client().post(bench.url("/"), b"", headers={"Authorization": KEY})
    assert KEY not in "".join(traceback.format_exception(failed.value))


def test_a_method_that_is_none_is_an_error_of_the_caller(bench: Bench) -> None:
    with pytest.raises(ValueError, match="CONNECT: the methods are"):
        bench.client().request("CONNECT", bench.url("/"))


def test_every_failure_has_one_line_with_its_outcome(bench: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    bench.server.on("/closes", raw())
    bench.server.on("/limited", answer(429, headers={"Retry-After": "60"}))
    bench.server.on("/missing", answer(404))
    bench.server.on("/large", answer(200, b"a" * 3000))
    client = bench.client(longest_body=2000)
    for path in ("/closes", "/limited", "/missing", "/large"):
        with pytest.raises(CallFailed):
            client.get(bench.url(path))
    with pytest.raises(AddressRefused):
        client.get("http://169.254.169.254/")
    assert [(line["outcome"], line.get("attempts"), line.get("status")) for line in lines(capsys)] == [
        ("not-answered", 3, None),
        ("rate-limited", 1, 429),
        ("unsuccessful", 1, 404),
        ("too-large", 1, 200),
        ("refused: metadata", None, None),
    ]


def test_a_client_without_its_integration_says_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(MissingSetting, match="OFFLOAD_CALLS_EXCHANGE_RATES is not set: give the function"):
        Client.from_environment("exchange-rates")
    monkeypatch.setenv("OFFLOAD_CALLS_ECB", '{"table": "t", "attempts": 0}')
    with pytest.raises(MissingSetting, match="OFFLOAD_CALLS_ECB: Expected `int` >= 1"):
        Client.from_environment("ecb")
    monkeypatch.setenv("OFFLOAD_CALLS_ECB", '{"table": "t"}')
    with pytest.raises(MissingSetting, match="ecb has no secret"):
        Client.from_environment("ecb").secret()


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("certificates"))


def secure(bench: Bench, authority: Authority) -> Client:
    context = tls(authority.cafile)
    return bench.client(connections=pool(GUARD, resolve=lambda *_: ("127.0.0.1",), context=context))


def test_tls_is_for_the_host_as_written_on_the_address_that_was_checked(authority: Authority) -> None:
    with odd_server(context=authority.server("third.example")) as server:
        bench = Bench(server)
        server.on("/", answer(200, b"well"))
        assert secure(bench, authority).get(f"https://third.example:{server.port}/").body == b"well"
        assert server.names == ["third.example"]

        async def asked() -> bytes:
            context = tls(authority.cafile)
            async with async_pool(GUARD, resolve=lambda *_: ("127.0.0.1",), context=context) as connections:
                return (await connections.request("GET", f"https://third.example:{server.port}/")).content

        assert asyncio.run(asked()) == b"well"
        assert server.names == ["third.example", "third.example"]


BAD: dict[str, tuple[Callable[[Authority], Any], str]] = {
    "expired": (lambda authority: authority.server("third.example", expired=True), "certificate has expired"),
    "of another host": (lambda authority: authority.server("other.example"), "Hostname mismatch"),
    "self-signed": (lambda authority: authority.server("third.example", self_signed=True), "self.signed certificate"),
}


@pytest.mark.parametrize("bad", BAD, ids=list(BAD))
def test_a_certificate_that_is_wrong_is_no_connection_and_nothing_is_sent(authority: Authority, bad: str) -> None:
    make, says = BAD[bad]
    with odd_server(context=make(authority)) as server:
        server.on("/", answer(200, b"well"))
        with pytest.raises(NotAnswered, match=says) as failed:
            secure(Bench(server), authority).post(f"https://third.example:{server.port}/", b"secret")
        assert not failed.value.unknown_outcome

        async def asked() -> None:
            context = tls(authority.cafile)
            async with async_pool(GUARD, resolve=lambda *_: ("127.0.0.1",), context=context) as connections:
                await connections.request("POST", f"https://third.example:{server.port}/", content=b"secret")

        with pytest.raises(httpcore.ConnectError):
            asyncio.run(asked())
        assert server.received == []


def test_the_certificates_of_the_system_do_not_trust_a_stranger(authority: Authority) -> None:
    with odd_server(context=authority.server("third.example")) as server:
        with pytest.raises(NotAnswered, match="certificate verify failed"):
            Bench(server).client().get(f"https://third.example:{server.port}/")
        assert server.received == []


def test_a_handshake_that_never_comes_is_no_connection(bench: Bench, authority: Authority) -> None:
    def mute(connection: socket.socket) -> None:
        bench.server.over.wait()

    bench.server.at_once = mute
    client = bench.client(connect_seconds=0.1)
    with pytest.raises(NotAnswered, match=r"no TLS with 'third\.example' in time") as failed:
        client.post(f"https://third.example:{bench.server.port}/", b"")
    assert not failed.value.unknown_outcome


def test_a_redirect_away_from_tls_is_refused(authority: Authority) -> None:
    with odd_server(context=authority.server("third.example")) as server, odd_server() as plain:
        server.on("/", answer(302, headers={"Location": f"http://third.example:{plain.port}/"}))
        with pytest.raises(AddressRefused, match="rule downgrade"):
            secure(Bench(server), authority).get(f"https://third.example:{server.port}/")
        assert plain.connections == 0


def test_calls_of_several_threads_share_a_client(bench: Bench) -> None:
    bench.server.on("/", answer(200, b"a" * 1000))
    client = bench.client(read_seconds=5.0)
    bodies: list[int] = []

    def call() -> None:
        bodies.extend(len(client.get(bench.url("/")).body) for _ in range(20))

    threads = [threading.Thread(target=call) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert bodies == [1000] * 160


def test_nothing_has_to_be_given_but_a_name_and_a_guard(bench: Bench) -> None:
    bench.server.on("/", answer(503), answer(200))
    assert Client("third", GUARD).get(f"http://127.0.0.1:{bench.server.port}/").attempts == 2


def test_the_file_of_the_variable_is_trusted(
    authority: Authority, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    tls.cache_clear()
    monkeypatch.setenv("SSL_CERT_FILE", authority.cafile)
    try:
        with odd_server(context=authority.server("third.example")) as server:
            server.on("/", answer(200, b"well"))
            assert Bench(server).client().get(f"https://third.example:{server.port}/").body == b"well"
    finally:
        tls.cache_clear()
