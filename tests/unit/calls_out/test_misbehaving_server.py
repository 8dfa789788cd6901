"""The server that misbehaves does what its steps say, seen from raw sockets."""

from __future__ import annotations

import gzip
import socket
import ssl
import threading
import time
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from urllib.parse import urlsplit

import httpx
import pytest

from tests.misbehaving_server import (
    Answer,
    Gone,
    HalfResponse,
    Hang,
    Http10,
    HugeBody,
    HugeHeaders,
    MisbehavingServer,
    NotHttp,
    RateLimited,
    Received,
    RedirectLoop,
    RedirectTo,
    ResetAfter,
    ResetBefore,
    ResetIn,
    SlowBytes,
    Step,
    Surplus,
    Tls,
    WrongLength,
    busiest,
    retry_after_forms,
)
from tests.patience import PATIENCE

BODY = b'{"type":"visit.ended"}'


class Client:
    """A raw connection to an endpoint."""

    def __init__(self, url: str, *, timeout: float = 5.0) -> None:
        parts = urlsplit(url)
        assert parts.hostname
        assert parts.port
        self.path = parts.path
        self.socket = socket.create_connection((parts.hostname, parts.port), timeout=timeout)

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def post(self, body: bytes = BODY, *, more: str = "") -> None:
        head = f"POST {self.path} HTTP/1.1\r\nHost: localhost\r\n{more}Content-Length: {len(body)}\r\n\r\n"
        self.socket.sendall(head.encode() + body)

    def until(self, end: bytes, *, at_once: int = 1) -> bytes:
        """What comes until it ends so."""
        content = b""
        while not content.endswith(end):
            piece = self.socket.recv(at_once)
            assert piece, content
            content += piece
        return content

    def rest(self) -> tuple[bytes, str]:
        """What comes until the connection ends, and how it ends: FIN or RST."""
        content = b""
        try:
            while piece := self.socket.recv(65536):
                content += piece
        except ConnectionResetError:
            return content, "RST"
        return content, "FIN"


def exchange(server: MisbehavingServer, name: str, step: Step) -> tuple[bytes, str, Received]:
    """Posts to an endpoint that does this; what came, how it ended, and what the server says of it."""
    server.script(name, [step])
    with Client(server.url(name)) as client:
        client.post()
        content, end = client.rest()
    (received,) = server.wait_for(name, 1)
    return content, end, received


def _reset_at_once(url: str) -> bool:
    """Whether a connection is reset: while it is being made, if the reset is quicker than we are."""
    try:
        with Client(url) as client:
            return client.rest() == (b"", "RST")
    except ConnectionResetError:
        return True


def test_an_endpoint_without_a_script_answers_200_and_the_connection_stays(server: MisbehavingServer) -> None:
    with Client(server.url("plain")) as client:
        for _ in range(3):
            client.post()
            assert client.until(b"\r\n\r\n") == b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
    assert [each.answered for each in server.wait_for("plain", 3)] == [True] * 3


def test_the_record_has_each_request_as_it_came(server: MisbehavingServer) -> None:
    before, began = time.time(), time.monotonic()
    with Client(server.url("record") + "/below?page=2") as client:
        client.path += "?page=2"
        client.post(more="X-Twice: 1\r\nx-twice:  2 \r\n")
        client.until(b"\r\n\r\n")
        client.socket.sendall(
            f"PUT {client.path} HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n"
            "5;ext=1\r\nhello\r\n7\r\n, world\r\n0\r\nTrailer: x\r\n\r\n".encode()
        )
        client.until(b"\r\n\r\n")
    first, second = server.wait_for("record", 2)
    assert (first.method, first.path, first.body) == ("POST", "/e/record/below?page=2", BODY)
    assert first.headers == [
        ("Host", "localhost"),
        ("X-Twice", "1"),
        ("x-twice", "2"),
        ("Content-Length", str(len(BODY))),
    ]
    assert first.header("X-TWICE") == "1"
    assert before <= first.at <= second.at <= time.time()
    assert began <= first.monotonic <= second.monotonic <= time.monotonic()
    assert (first.number, second.number) == (1, 2)
    assert (second.method, second.body) == ("PUT", b"hello, world")


def test_steps_come_one_a_request_and_then_the_last_for_all_later_ones(server: MisbehavingServer) -> None:
    server.script(
        "steps", [Answer(500), Answer(503, body=b"busy"), lambda came: Answer(200 + len(came.body))], then=Gone()
    )
    with httpx.Client() as http:
        answers = [http.post(server.url("steps"), content=b"12345") for _ in range(6)]
        assert [each.status_code for each in answers] == [500, 503, 205, 410, 410, 410]
        assert answers[1].text == "busy"
        steps = [each.step for each in server.wait_for("steps", 6)]
        assert steps[:4] == [Answer(500), Answer(503, body=b"busy"), Answer(205), Gone()]
        server.script("steps", [Answer(201)])
        assert http.post(server.url("steps")).status_code == 201
        assert server.wait_for("steps", 7)[-1].number == 1


def test_an_answer_may_be_late_and_end_the_connection(server: MisbehavingServer) -> None:
    began = time.monotonic()
    content, end, received = exchange(server, "late", Answer(202, {"X-A": "b"}, b"ok", after=0.2, close=True))
    assert time.monotonic() - began >= 0.2
    assert content == b"HTTP/1.1 202 Accepted\r\nX-A: b\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok"
    assert end == "FIN"
    assert received.answered


def test_hanging_answers_nothing_and_hangs_up_in_the_end(server: MisbehavingServer) -> None:
    began = time.monotonic()
    assert exchange(server, "hang", Hang(0.2))[:2] == (b"", "FIN")
    assert time.monotonic() - began >= 0.2
    assert not server.received("hang")[0].answered


def test_a_client_that_leaves_is_noticed_and_not_answered(server: MisbehavingServer) -> None:
    server.script("left", [Hang(60), Answer(after=60), SlowBytes(every=60)])
    for _ in range(3):
        with Client(server.url("left")) as client:
            client.post()
            server.wait_until(lambda: bool(server.received("left")) and not server.received("left")[-1].ended)
    assert [each.answered for each in server.wait_for("left", 3)] == [False] * 3


def test_slow_bytes_drip_and_are_a_right_answer(server: MisbehavingServer) -> None:
    server.script("slow", [SlowBytes(every=0.01, body=b"drop")])
    with Client(server.url("slow")) as client:
        client.post()
        times = []
        content = b""
        while not content.endswith(b"drop"):
            content += client.socket.recv(100)
            times.append(time.monotonic())
    assert content == b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ndrop"
    assert len(times) > 10
    assert times[-1] - times[0] >= 0.01 * (len(content) - 2)
    assert server.wait_for("slow", 1)[0].answered


def test_a_reset_before_is_one_before_the_body_is_read(server: MisbehavingServer) -> None:
    content, end, received = exchange(server, "reset-before", ResetBefore())
    assert (content, end) == (b"", "RST")
    assert (received.path, received.headers, received.body, received.answered) == ("/e/reset-before", [], b"", False)


def test_a_reset_before_on_a_port_of_its_own_is_one_before_anything_is_sent(server: MisbehavingServer) -> None:
    url = server.own_port("reset-at-once")
    server.script("reset-at-once", [ResetBefore()])
    assert _reset_at_once(url)
    with Client(url) as client:
        client.post()
        assert client.until(b"\r\n\r\n").startswith(b"HTTP/1.1 200")
    first, second = server.wait_for("reset-at-once", 2)
    assert (first.method, first.answered, second.method, second.answered) == ("", False, "POST", True)


@pytest.mark.parametrize(("step", "ends"), [(ResetIn, "RST"), (HalfResponse, "FIN")])
def test_half_an_answer_ends_as_the_step_says(
    server: MisbehavingServer, step: type[ResetIn | HalfResponse], ends: str
) -> None:
    content, end, received = exchange(server, f"half-{ends}", step())
    head, _, body = content.partition(b"\r\n\r\n")
    assert b"Content-Length: 1000" in head
    assert (len(body), end, received.answered) == (500, ends, False)
    content, end, _ = exchange(server, f"half-head-{ends}", step(part="head"))
    assert content.startswith(b"HTTP/1.1 200")
    assert b"\r\n\r\n" not in content
    assert end == ends


def test_a_reset_after_follows_a_whole_answer(server: MisbehavingServer) -> None:
    content, end, received = exchange(server, "reset-after", ResetAfter(body=b"done"))
    assert content == b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ndone"
    assert (end, received.answered) == ("RST", True)


def test_a_body_shorter_than_declared_ends_the_connection(server: MisbehavingServer) -> None:
    server.script("short", [WrongLength(declared=100, sent=10)])
    with Client(server.url("short")) as client:
        client.post()
        assert client.until(b"\r\n\r\n").endswith(b"Content-Length: 100\r\n\r\n")
        assert client.rest() == (b"x" * 10, "FIN")
    assert not server.wait_for("short", 1)[0].answered


def test_a_body_longer_than_declared_spoils_the_connection_for_the_next_request(server: MisbehavingServer) -> None:
    server.script("long", [WrongLength(declared=2, sent=10)])
    with Client(server.url("long")) as client:
        client.post()
        client.until(b"\r\n\r\n")
        client.post()
        assert client.until(b"\r\n\r\n").startswith(b"x" * 10 + b"HTTP/1.1 200 OK")


def test_surplus_follows_an_answer_and_the_connection_stays(server: MisbehavingServer) -> None:
    server.script("surplus", [Surplus(b"more", body=b"well"), Surplus(b"later", late=0.01)])
    with Client(server.url("surplus")) as client:
        client.post()
        assert client.until(b"more").endswith(b"\r\n\r\nwellmore")
        client.post()
        assert client.until(b"later").endswith(b"\r\n\r\nlater")
    assert [each.answered for each in server.wait_for("surplus", 2)] == [True, True]


def test_huge_bodies_are_as_long_as_asked_for(server: MisbehavingServer) -> None:
    content, end, received = exchange(server, "huge", HugeBody(1_000_001, declared=False))
    assert len(content.partition(b"\r\n\r\n")[2]) == 1_000_001
    assert (end, received.answered) == ("FIN", True)
    server.script("huge", [HugeBody(300_000), HugeBody(5_000_000, zipped=True)])
    with httpx.Client() as http:
        assert len(http.post(server.url("huge")).content) == 300_000
        with http.stream("POST", server.url("huge")) as answer:
            raw = b"".join(answer.iter_raw())
    assert len(raw) < 50_000
    assert len(gzip.decompress(raw)) == 5_000_000


def test_huge_headers_are_as_long_as_asked_for(server: MisbehavingServer) -> None:
    server.script("headers", [HugeHeaders(200_000), HugeHeaders(100_000, line=100_000)])
    with Client(server.url("headers")) as client:
        for size, lines in ((200_000, 49), (100_000, 1)):
            client.post()
            head = client.until(b"\r\n\r\n", at_once=65536)
            assert size <= len(head) < size + 5000
            assert head.count(b"x-huge: ") == lines


def test_redirects_lead_to_themselves_or_to_where_the_script_says(server: MisbehavingServer) -> None:
    server.script("loop", then=RedirectLoop(307))
    server.script("away", [RedirectTo("http://169.254.169.254/latest/meta-data/", status=301)])
    with httpx.Client(follow_redirects=True, max_redirects=5) as http:
        with pytest.raises(httpx.TooManyRedirects):
            http.post(server.url("loop"), content=BODY)
        answer = http.post(server.url("away"), follow_redirects=False)
    assert len(server.wait_for("loop", 6)) == 6
    assert (answer.status_code, answer.headers["location"]) == (301, "http://169.254.169.254/latest/meta-data/")


def test_retry_after_is_sent_in_every_form_as_it_stands(server: MisbehavingServer) -> None:
    moment = datetime(2026, 11, 6, 8, 49, 37, tzinfo=UTC)
    forms = retry_after_forms(moment)
    # The three of RFC 9110, 5.6.7, by their shapes there.
    assert forms["imf-fixdate"] == "Fri, 06 Nov 2026 08:49:37 GMT"
    assert forms["rfc-850"] == "Friday, 06-Nov-26 08:49:37 GMT"
    assert forms["asctime"] == "Fri Nov  6 08:49:37 2026"
    assert parsedate_to_datetime(forms["past"]) < moment < parsedate_to_datetime(forms["far"])
    server.script("limited", [RateLimited(text) for text in forms.values()] + [RateLimited("7", status=503)])
    with Client(server.url("limited")) as client:
        for text in forms.values():
            client.post()
            head = client.until(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 429 Too Many Requests\r\n")
            assert f"\r\nRetry-After: {text}\r\n".encode("latin-1") in head
        client.post()
        assert b"503 Service Unavailable\r\nRetry-After: 7\r\n" in client.until(b"\r\n\r\n")


def test_http_1_0_and_what_is_no_http(server: MisbehavingServer) -> None:
    content, end, received = exchange(server, "old", Http10(200, {"X-Old": "1"}, b"old"))
    assert content == b"HTTP/1.0 200 OK\r\nX-Old: 1\r\n\r\nold"
    assert (end, received.answered) == ("FIN", True)
    content, end, received = exchange(server, "garbage", NotHttp(b"\x00\xffgarbage"))
    assert (content, end, received.answered) == (b"\x00\xffgarbage", "FIN", False)


@pytest.mark.parametrize(
    ("tls", "says"),
    [
        ("good", ""),
        ("expired", "certificate has expired"),
        ("wrong-host", "not valid for|mismatch"),
        ("self-signed", "self.signed certificate"),
    ],
)
def test_certificates_are_good_or_bad_in_the_one_way(server: MisbehavingServer, tls: Tls, says: str) -> None:
    before = server.accepted(tls)
    context = ssl.create_default_context(cafile=server.cafile)
    context.verify_flags |= ssl.VERIFY_X509_STRICT
    with httpx.Client(verify=context) as http:
        if says:
            with pytest.raises(httpx.ConnectError, match=says):
                http.post(server.url("tls", tls=tls))
            server.wait_until(lambda: server.failed_handshakes(tls) == 1)
        else:
            assert http.post(server.url("tls", tls=tls)).status_code == 200
            assert http.post(server.url("tls", tls=tls, host="localhost")).status_code == 200
    assert server.accepted(tls) - before == (1 if says else 2)


def test_a_reset_is_one_under_tls_too(server: MisbehavingServer) -> None:
    server.script("tls-reset", [ResetIn()])
    context = ssl.create_default_context(cafile=server.cafile)
    parts = urlsplit(server.url("tls-reset", tls="good"))
    with (
        socket.create_connection((parts.hostname or "", parts.port or 0), timeout=5) as plain,
        # Python's ssl calls a reset an end of file: it is seen below.
        plain.dup() as below,
        context.wrap_socket(plain, server_hostname="localhost") as secure,
    ):
        secure.sendall(f"GET {parts.path} HTTP/1.1\r\n\r\n".encode())
        assert secure.recv(65536).startswith(b"HTTP/1.1 200")
        server.wait_for("tls-reset", 1)
        with pytest.raises(ConnectionResetError):
            below.recv(1)


def test_what_is_over_a_limit_is_reset(server: MisbehavingServer) -> None:
    url = server.own_port("flood-reset", limit=2, over="reset")
    with Client(url) as first, Client(url) as second:
        for client in (first, second):
            client.post()
            client.until(b"\r\n\r\n")
        assert _reset_at_once(url)
    server.wait_until(lambda: server.accepted_by("flood-reset") == 3)
    assert server.at_once("flood-reset").connections == 2


def test_what_is_over_a_limit_waits_until_there_is_room(server: MisbehavingServer) -> None:
    url = server.own_port("flood-wait", limit=1, over="backlog")
    with Client(url) as first:
        first.post()
        first.until(b"\r\n\r\n")
        with Client(url) as second:
            second.post()
            second.socket.settimeout(0.1)
            with pytest.raises(TimeoutError):
                second.socket.recv(1)
            assert len(server.received("flood-wait")) == 1
            first.socket.close()
            second.socket.settimeout(5)
            assert second.until(b"\r\n\r\n").startswith(b"HTTP/1.1 200")


def test_a_full_backlog_answers_no_connecting(server: MisbehavingServer) -> None:
    url = server.own_port("flood-full", limit=1, over="backlog", backlog=0)
    with Client(url) as first:
        first.post()
        first.until(b"\r\n\r\n")
        with Client(url), pytest.raises(TimeoutError):
            Client(url, timeout=0.2)


def test_what_is_over_a_limit_is_refused_and_taken_again_when_there_is_room(server: MisbehavingServer) -> None:
    url = server.own_port("flood-refuse", limit=1, over="refuse")
    with Client(url) as first:
        first.post()
        first.until(b"\r\n\r\n")
        for _ in range(3):
            with pytest.raises(ConnectionRefusedError):
                Client(url)
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            with Client(url) as again:
                again.post()
                assert again.until(b"\r\n\r\n").startswith(b"HTTP/1.1 200")
                break
        except ConnectionRefusedError:
            assert time.monotonic() < deadline


def test_nobody_listens_at_the_refused_url(server: MisbehavingServer) -> None:
    with pytest.raises(ConnectionRefusedError):
        Client(server.refused_url("nobody"))


def test_at_the_silent_url_connecting_works_and_nothing_else_not_even_tls(server: MisbehavingServer) -> None:
    with Client(server.silent_url("silent"), timeout=0.2) as client:
        client.post()
        with pytest.raises(TimeoutError):
            client.socket.recv(1)
    with httpx.Client(timeout=0.2) as http, pytest.raises(httpx.ConnectTimeout):
        http.get(server.silent_url("silent", tls=True))


def test_a_client_that_closes_after_its_answer_is_told_from_one_that_goes_on(server: MisbehavingServer) -> None:
    server.script("closes", [Answer(), Answer(), Answer(close=True)])
    before = time.monotonic()
    with Client(server.url("closes")) as client:
        for _ in range(2):
            client.post()
            client.until(b"\r\n\r\n")
    with Client(server.url("closes")) as client:
        client.post()
        client.rest()
    server.wait_until(lambda: server.received("closes")[1].left_at is not None)
    first, second, third = server.wait_for("closes", 3)
    assert first.connection == second.connection != third.connection
    assert (first.left_at, third.left_at) == (None, None)
    assert second.left_at
    assert before < second.left_at < time.monotonic()


def test_what_is_for_no_endpoint_and_what_is_no_request_is_recorded_as_such(server: MisbehavingServer) -> None:
    with httpx.Client() as http:
        assert http.get(server.url("x").replace("/e/x", "/metadata")).status_code == 404
    with Client(server.url("x")) as client:
        client.socket.sendall(b"\x16\x03\x01\r\n")
        assert client.rest()[0].startswith(b"HTTP/1.1 400")
    assert server.strays() == ["GET /metadata HTTP/1.1", "\x16\x03\x01"]
    assert server.received("x") == []


def test_high_water_marks_count_requests_and_connections_at_once(server: MisbehavingServer) -> None:
    server.script("marks", then=Hang(60))
    clients = [Client(server.url("marks")) for _ in range(5)]
    for client in clients:
        client.post()
    server.wait_until(lambda: server.at_once("marks").requests == 5)
    for client in clients:
        client.socket.close()
    server.wait_for("marks", 5)
    server.script("marks")
    with Client(server.url("marks")) as client:
        client.post()
        client.until(b"\r\n\r\n")
    assert (server.at_once("marks").requests, server.at_once("marks").connections) == (5, 5)


def test_fifty_endpoints_take_thousands_of_requests_without_one_delaying_another(server: MisbehavingServer) -> None:
    names = [f"many-{number}" for number in range(50)]
    for name in names[:2]:
        server.script(name, then=Hang(30))
    hanging = [Client(server.url(name)) for name in names[:2] for _ in range(20)]
    for client in hanging:
        client.post()

    def send(mine: list[str]) -> None:
        with Client(server.url("many-2")) as client:
            for name in mine:
                client.path = f"/e/{name}"
                client.post()
                client.until(b"\r\n\r\n")

    threads = [threading.Thread(target=send, args=(names[2 + at :: 8] * 40,)) for at in range(8)]
    began = time.monotonic()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    seconds = time.monotonic() - began
    for client in hanging:
        client.socket.close()
    taken = [server.wait_for(name, 40) for name in names[2:]]
    assert [len(each) for each in taken] == [40] * 48
    assert all(each.answered for received in taken for each in received)
    assert seconds < 20
    assert busiest(taken[0], seconds=60) == 40
    assert busiest([each for received in taken for each in received], seconds=0.0) == 1


def test_a_server_leaves_no_thread_and_no_port(tmp_path: object) -> None:
    with MisbehavingServer() as server:
        url = server.url("gone", tls="good")
        plain = server.url("gone")
        threads = {thread.name for thread in threading.enumerate()}
        with Client(plain) as client:
            client.post()
            client.until(b"\r\n\r\n")
            hanging = Client(plain)
    assert "misbehaving-server" in threads
    with hanging:
        assert hanging.rest()[0] == b""
    for each in (url, plain):
        with pytest.raises(ConnectionRefusedError):
            Client(each)
