"""What `offload receiver` says and answers to real requests, signed by another library."""

from __future__ import annotations

import base64
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import IO

import httpx
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from standardwebhooks import Webhook

from offload.cli.deployment.failure import Failure
from offload.cli.webhooks_out.receiver import LARGEST, Answers, Delivery, Receiver
from offload.project import PROJECT
from tests.patience import PATIENCE

OFFLOAD = (sys.executable, "-c", "from offload.cli.main import main; main()")
SECRET = "whsec_" + base64.b64encode(b"n" * 32).decode()
OLD_SECRET = "whsec_" + base64.b64encode(b"o" * 32).decode()
OTHER_SECRET = "whsec_" + base64.b64encode(b"x" * 32).decode()
EVENT = {
    "type": "visit.ended",
    "timestamp": "2010-12-01T08:26:00Z",
    "id": "visit.ended:536365",
    "source": "offload.clinic",
    "subject": "536365",
    "data": {"visit": "536365", "patient": "17850"},
}
BODY = json.dumps(EVENT).encode()
TRACEPARENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


def signed(
    *secrets: str, body: bytes = BODY, webhook_id: str = "msg_1", age: float = 0, **headers: str
) -> dict[str, str]:
    """The headers that Offload sends, signed by PyPI standardwebhooks."""
    moment = datetime.fromtimestamp(int(time.time() - age), UTC)
    signatures = [Webhook(secret).sign(webhook_id, moment, body.decode()) for secret in secrets]
    return {
        "webhook-id": webhook_id,
        "webhook-timestamp": str(int(moment.timestamp())),
        "webhook-signature": " ".join(signatures),
        "content-type": "application/json",
        "user-agent": "Offload",
        **{name.replace("_", "-"): value for name, value in headers.items()},
    }


@contextmanager
def receiving(*secrets: str, answers: Answers | None = None) -> Iterator[tuple[Receiver, list[Delivery]]]:
    """A receiver, and what it tells of."""
    told: list[Delivery] = []
    with Receiver(0, secrets, told.append, answers=answers) as receiver:
        yield receiver, told


def test_a_rightly_signed_delivery_is_verified_and_answered_204() -> None:
    with receiving(SECRET) as (receiver, told):
        before = datetime.now(UTC)
        answer = httpx.post(receiver.url, content=BODY, headers=signed(SECRET, traceparent=TRACEPARENT))
    assert (answer.status_code, answer.content) == (204, b"")
    [delivery] = told
    assert before <= delivery.at <= datetime.now(UTC)
    assert delivery.document() == {
        "at": delivery.at.isoformat(timespec="milliseconds"),
        "webhook_id": "msg_1",
        "type": "visit.ended",
        "subject": "536365",
        "event_id": "visit.ended:536365",
        "source": "offload.clinic",
        "verdict": "verified",
        "detail": "",
        "secret": 1,
        "times": 1,
        "again": False,
        "status": 204,
        "bytes": len(BODY),
        "traceparent": TRACEPARENT,
    }


def test_while_a_secret_is_rotated_a_signature_by_either_is_good() -> None:
    with receiving(SECRET, OLD_SECRET) as (receiver, told):
        for secrets in ((SECRET,), (OLD_SECRET,), (OTHER_SECRET, SECRET), (OTHER_SECRET,)):
            httpx.post(receiver.url, content=BODY, headers=signed(*secrets))
    assert [(each.verdict, each.secret) for each in told] == [
        ("verified", 1),
        ("verified", 2),
        ("verified", 1),
        ("bad-signature", None),
    ]


def test_an_ed25519_signature_is_verified_by_the_public_key() -> None:
    key = Ed25519PrivateKey.from_private_bytes(b"k" * 32)
    public = "whpk_" + base64.b64encode(key.public_key().public_bytes_raw()).decode()
    headers = signed(SECRET)
    content = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + BODY
    headers["webhook-signature"] += " v1a," + base64.b64encode(key.sign(content)).decode()
    with receiving(public) as (receiver, told):
        assert httpx.post(receiver.url, content=BODY, headers=headers).status_code == 204
        assert httpx.post(receiver.url, content=BODY + b" ", headers=headers).status_code == 401
    assert [each.verdict for each in told] == ["verified", "bad-signature"]


# Each is signed as the test runs: a long run would otherwise catch up with the moment "from the future".
@pytest.mark.parametrize(
    ("sign", "body", "verdict", "status"),
    [
        (lambda: signed(SECRET), BODY.replace(b"17850", b"17851"), "bad-signature", 401),
        (lambda: {**signed(SECRET), "webhook-id": "msg_2"}, BODY, "bad-signature", 401),
        (lambda: signed(OTHER_SECRET), BODY, "bad-signature", 401),
        (lambda: signed(SECRET, age=400), BODY, "stale", 401),
        (lambda: signed(SECRET, age=-1000), BODY, "from-the-future", 401),
        (lambda: {**signed(SECRET), "webhook-signature": ""}, BODY, "no-signature", 401),
        (lambda: {**signed(SECRET), "webhook-signature": "v1,nonsense"}, BODY, "malformed-signature", 401),
    ],
)
def test_what_is_wrong_is_refused_and_says_why(
    sign: Callable[[], dict[str, str]], body: bytes, verdict: str, status: int
) -> None:
    with receiving(SECRET) as (receiver, told):
        answer = httpx.post(receiver.url, content=body, headers=sign())
    [delivery] = told
    assert (delivery.verdict, delivery.refused, delivery.secret) == (verdict, True, None)
    assert delivery.detail
    assert answer.status_code == delivery.status == status


def test_without_a_secret_nothing_is_verified_and_it_says_so() -> None:
    with receiving() as (receiver, told):
        assert httpx.post(receiver.url, content=BODY, headers=signed(OTHER_SECRET)).status_code == 204
        receiver.trust(SECRET)
        assert httpx.post(receiver.url, content=BODY, headers=signed(OTHER_SECRET)).status_code == 401
    assert [each.verdict for each in told] == ["unchecked", "bad-signature"]


def test_the_same_id_again_is_marked_and_a_forged_one_is_no_first() -> None:
    with receiving(SECRET) as (receiver, told):
        for secret in (OTHER_SECRET, SECRET, SECRET, OTHER_SECRET, SECRET):
            httpx.post(receiver.url, content=BODY, headers=signed(secret))
        httpx.post(receiver.url, content=BODY, headers=signed(SECRET, webhook_id="msg_2"))
    assert [(each.refused, each.times) for each in told] == [
        (True, 1),
        (False, 1),
        (False, 2),
        (True, 1),
        (False, 3),
        (False, 1),
    ]
    assert receiver.counts.again == 2
    assert receiver.counts.line() == (
        "6 requests: 4 verified, 2 bad-signature; 2 came again; answered 204 to 4, 401 to 2"
    )


def test_every_nth_request_fails_as_told_and_late() -> None:
    with receiving(SECRET, answers=Answers(fail_every=3, failing=503, delay=0.05)) as (receiver, told):
        began = time.monotonic()
        statuses = [httpx.post(receiver.url, content=BODY, headers=signed(SECRET)).status_code for _ in range(6)]
    assert statuses == [204, 204, 503, 204, 204, 503]
    assert [each.status for each in told] == statuses
    assert time.monotonic() - began >= 6 * 0.05


def test_stopping_does_not_wait_for_answers_that_are_delayed() -> None:
    with ThreadPoolExecutor() as pool, ExitStack() as started:
        receiver, told = started.enter_context(receiving(answers=Answers(delay=3600)))
        waiting = pool.submit(httpx.post, receiver.url, content=BODY, timeout=PATIENCE)
        deadline = time.monotonic() + PATIENCE
        while not told:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        pool.submit(started.close).result(timeout=PATIENCE)
        with pytest.raises(httpx.HTTPError):
            waiting.result()


def test_bodies_over_a_mebibyte_are_refused_unread_and_other_methods_too() -> None:
    with receiving() as (receiver, told):
        assert httpx.post(receiver.url, content=b" " * LARGEST).status_code == 204
        parts = httpx.URL(receiver.url)
        with socket.create_connection((parts.host, parts.port or 0), timeout=5) as client:
            client.sendall(f"POST / HTTP/1.1\r\nContent-Length: {LARGEST + 1}\r\n\r\n".encode())
            assert client.recv(1000).startswith(b"HTTP/1.1 413 ")
        assert httpx.post(receiver.url, content=iter([b"{}"])).status_code == 411
        answer = httpx.get(receiver.url)
        assert (answer.status_code, answer.headers["allow"]) == (405, "POST")
    assert len(told) == 1


def test_bodies_and_headers_of_strangers_neither_break_it_nor_reach_a_terminal_raw() -> None:
    bodies = [b"", b"\xff", b"[]", b'"x"', b"[" * 100_000, b'{"type":17,"subject":null}', b'{"type":"\\u001b[2J\\n"}']
    with receiving() as (receiver, told):
        for body in bodies:
            assert httpx.post(receiver.url, content=body, headers={"webhook-id": "a" * 1000}).status_code == 204
    assert [each.type for each in told] == [""] * 6 + ["\N{REPLACEMENT CHARACTER}[2J\N{REPLACEMENT CHARACTER}"]
    assert len(told[0].webhook_id) == 120


def test_many_requests_at_once_are_told_one_at_a_time() -> None:
    inside, most = 0, 0

    def tell(_: Delivery) -> None:
        nonlocal inside, most
        inside += 1
        most = max(most, inside)
        time.sleep(0.0005)
        inside -= 1

    with Receiver(secrets=[SECRET], on_delivery=tell) as receiver, ThreadPoolExecutor(8) as pool:

        def send(part: int) -> None:
            with httpx.Client() as http:
                for number in range(25):
                    headers = signed(SECRET, webhook_id=f"msg_{part}_{number % 20}")
                    assert http.post(receiver.url, content=BODY, headers=headers).status_code == 204

        list(pool.map(send, range(8)))
    assert most == 1
    assert (receiver.counts.requests, receiver.counts.again) == (200, 40)


def test_a_secret_that_can_be_none_is_refused_without_being_shown() -> None:
    with pytest.raises(Failure, match="secret '2' of Standard Webhooks") as failure:
        Receiver(0, [SECRET, "whsec_c2hvcnQ="])
    assert "c2hvcnQ" not in str(failure.value)


def test_a_port_that_is_taken_is_said() -> None:
    with receiving() as (receiver, _), pytest.raises(Failure, match="in use; take another by --port N"):
        Receiver(httpx.URL(receiver.url).port or 0).start()


# -- the command


@dataclass
class Command:
    """`offload receiver` as a process."""

    process: subprocess.Popen[str]
    url: str
    stdout: IO[str]
    stderr: IO[str]

    def end(self, number: signal.Signals = signal.SIGINT) -> tuple[int, str, str]:
        self.process.send_signal(number)
        out, err = self.process.communicate(timeout=PATIENCE)
        return self.process.returncode, out, err


@contextmanager
def command(*arguments: str, environment: dict[str, str] | None = None, said_on: str = "stdout") -> Iterator[Command]:
    process = subprocess.Popen(
        [*OFFLOAD, "receiver", "--port", "0", *arguments],
        cwd=PROJECT,
        env={**os.environ, "NO_COLOR": "1", **(environment or {})},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout
    assert process.stderr
    guard = threading.Timer(60, process.kill)
    guard.start()
    try:
        line = (process.stdout if said_on == "stdout" else process.stderr).readline()
        found = re.search(r"http://127\.0\.0\.1:\d+/", line)
        assert found, line + process.stderr.read()
        yield Command(process, found[0], process.stdout, process.stderr)
    finally:
        guard.cancel()
        process.kill()
        process.wait()
        process.stdout.close()
        process.stderr.close()


def test_the_command_prints_each_delivery_as_it_comes_and_the_count_in_the_end() -> None:
    with command("--secret", SECRET, "--secret", OLD_SECRET) as running:
        lines = []
        for headers in (signed(SECRET), signed(OLD_SECRET), signed(OTHER_SECRET)):
            httpx.post(running.url, content=BODY, headers=headers)
            lines.append(running.stdout.readline().rstrip())
        code, out, err = running.end()
    assert re.fullmatch(r"\d\d:\d\d:\d\d\.\d{3}  204  verified       visit\.ended       536365        msg_1", lines[0])
    assert lines[1].endswith("msg_1  again (2)")
    assert re.search(r"  401  bad-signature  visit\.ended .*  msg_1  none of 2 active secrets makes", lines[2])
    assert out == "3 requests: 2 verified, 1 bad-signature; 1 came again; answered 204 to 2, 401 to 1\n"
    assert (code, err) == (0, "")


def test_the_command_prints_lines_of_json_and_takes_secrets_from_its_environment() -> None:
    with command(
        "--json",
        "--status",
        "503",
        environment={"OFFLOAD_RECEIVER_SECRETS": f"{OLD_SECRET} {SECRET}"},
        said_on="stderr",
    ) as running:
        assert httpx.post(running.url, content=BODY, headers=signed(SECRET)).status_code == 503
        delivery = json.loads(running.stdout.readline())
        code, out, err = running.end(signal.SIGTERM)
    assert (delivery["verdict"], delivery["secret"], delivery["status"]) == ("verified", 2, 503)
    assert "17850" not in json.dumps(delivery)
    assert (code, out) == (0, "")
    assert err == "1 request: 1 verified; 0 came again; answered 503 to 1\n"


@pytest.mark.parametrize("more", [[], ["--json"]])
def test_the_command_ends_when_nobody_reads_any_more(more: list[str]) -> None:
    with command(*more, said_on="stderr" if more else "stdout") as running:
        running.stdout.close()
        # The command ends while it answers: the sender may get 204 or nothing, and would then send it again.
        with suppress(httpx.TransportError):
            httpx.post(running.url, content=BODY, headers=signed(SECRET))
        assert running.process.wait(PATIENCE) == 0
        assert running.stderr.read() == ""


def test_the_command_refuses_a_wrong_secret_in_one_line() -> None:
    ended = subprocess.run(
        [*OFFLOAD, "receiver", "--secret", "hush"],
        cwd=PROJECT,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert (ended.returncode, ended.stdout) == (1, "")
    assert ended.stderr.startswith("offload: secret '1' of Standard Webhooks: has to begin with 'whsec_' or 'whpk_'")
    assert "hush" not in ended.stderr
