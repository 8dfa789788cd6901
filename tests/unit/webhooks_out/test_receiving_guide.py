"""The receivers in docs/webhooks-out/receiving.md, run as they stand on the page, against right and wrong requests."""

from __future__ import annotations

import ast
import base64
import itertools
import json
import os
import random
import re
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import httpx
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from offload.contracts.webhooks_in.providers import STANDARD_WEBHOOKS
from offload.project import PROJECT
from offload.runtime.webhooks_in.secrets import Secret, keyring
from offload.runtime.webhooks_in.sign import signed_headers
from tests.patience import PATIENCE
from tests.standard_webhooks_verifiers import installed, node

PAGE: Final = (PROJECT / "docs/webhooks-out/receiving.md").read_text()
BLOCKS: Final[list[tuple[str, str]]] = re.findall(r"^```(\w+)\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)

SECRET: Final = "whsec_" + base64.b64encode(bytes(range(32))).decode()
OLD_SECRET: Final = "whsec_" + base64.b64encode(b"\xff" * 24).decode()
OTHER_SECRET: Final = "whsec_" + base64.b64encode(b"other" * 8).decode()
PRIVATE_KEY: Final = Ed25519PrivateKey.from_private_bytes(b"private key of the test's sender")
OTHER_PRIVATE_KEY: Final = Ed25519PrivateKey.from_private_bytes(b"the private key of somebody else")
# As no parser would write it again: spaces, a number's zero, an escape beside the letter itself.
BODY: Final = '{"type":"visit.ended", "subject" : "536365","data":{"total":1.10,"name":"Zoë \\u00e9"}}\n'.encode()
NUMBERS: Final = itertools.count(1)


def block(language: str, number: int = 0) -> str:
    """A block of code of the page."""
    return [text for each, text in BLOCKS if each == language][number]


@dataclass
class Request:
    """What is sent; `id_` is new each time."""

    headers: dict[str, str]
    body: bytes = BODY

    @property
    def webhook_id(self) -> str:
        return self.headers["webhook-id"]

    def having(self, **headers: str) -> Request:
        return Request({**self.headers, **{name.replace("_", "-"): text for name, text in headers.items()}}, self.body)


Sign = Callable[..., Request]


def by_secret(*secrets: str, age: float = 0.0, body: bytes = BODY, webhook_id: str = "") -> Request:
    """Signed by each of these secrets."""
    webhook_id = webhook_id or f"msg_{next(NUMBERS)}"
    signatures, headers = [], {}
    for secret in secrets or (SECRET,):
        (key,) = keyring(STANDARD_WEBHOOKS, [Secret("key", secret)])
        headers = signed_headers(STANDARD_WEBHOOKS.schemes[0], key, body, now=time.time() - age, delivery_id=webhook_id)
        signatures.append(headers["webhook-signature"])
    return Request({**headers, "webhook-signature": " ".join(signatures), "content-type": "application/json"}, body)


def by_private_key(*keys: Ed25519PrivateKey, age: float = 0.0, body: bytes = BODY, webhook_id: str = "") -> Request:
    """Signed by HMAC, as all are, and by each of these keys."""
    request = by_secret(OTHER_SECRET, age=age, body=body, webhook_id=webhook_id)
    content = f"{request.webhook_id}.{request.headers['webhook-timestamp']}.".encode() + body
    for key in keys or (PRIVATE_KEY,):
        request.headers["webhook-signature"] += " v1a," + base64.b64encode(key.sign(content)).decode()
    return request


# -- running a receiver


@dataclass
class Running:
    """A receiver as a process, in a folder of its own."""

    command: list[str]
    folder: Path
    environment: dict[str, str]
    sign: Sign
    taken: set[str] = field(default_factory=set)
    """The ids that were answered 204."""
    http: httpx.Client = field(default_factory=lambda: httpx.Client(trust_env=False, timeout=PATIENCE))
    process: subprocess.Popen[bytes] | None = None
    url: str = ""

    def start(self) -> None:
        port = _port()
        self.url = f"http://127.0.0.1:{port}/hooks"
        with (self.folder / "out").open("ab") as out, (self.folder / "errors").open("ab") as errors:
            environment = {**os.environ, **self.environment, "PORT": str(port)}
            self.process = subprocess.Popen(self.command, cwd=self.folder, env=environment, stdout=out, stderr=errors)
        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), timeout=1).close()
            except OSError:
                assert self.process.poll() is None, self.errors()
                assert time.monotonic() < deadline, self.errors()
                time.sleep(0.02)
            else:
                return

    def kill(self) -> None:
        if self.process:
            self.process.send_signal(signal.SIGKILL)
            self.process.wait(PATIENCE)
            with socket.socket() as trial:
                port = int(self.url.rpartition(":")[2].partition("/")[0])
                assert trial.connect_ex(("127.0.0.1", port)), "it was killed, and something still listens"
        self.http.close()
        self.http = httpx.Client(trust_env=False, timeout=PATIENCE)

    def errors(self) -> str:
        return (self.folder / "errors").read_text()

    def handled(self) -> list[str]:
        """The lines that tell of what was handled."""
        return [line for line in (self.folder / "out").read_text().splitlines() if line.startswith("handled ")]

    def settled(self) -> list[str]:
        """The lines that tell of what was handled, as soon as there are as many as ids were taken."""
        self.wait_until(lambda: len(self.handled()) >= len(self.taken))
        return self.handled()

    def wait_until(self, holds: Callable[[], bool]) -> None:
        deadline = time.monotonic() + PATIENCE
        while not holds():
            assert time.monotonic() < deadline, (self.handled(), self.errors())
            time.sleep(0.01)

    def post(self, request: Request) -> httpx.Response:
        answer = self.http.post(self.url, content=request.body, headers=request.headers)
        if answer.status_code == 204:
            self.taken.add(request.headers["webhook-id"])
        return answer


def _port() -> int:
    """A free port that no connection out is given meanwhile: those have the numbers from 32768 on."""
    for port in random.sample(range(10_000, 32_000), 20):
        with socket.socket() as trial:
            if trial.connect_ex(("127.0.0.1", port)):
                return port
    raise OSError("no port was free in twenty trials")


def _python(folder: Path, code: str, **environment: str) -> Running:
    (folder / "receiver.py").write_text(code)
    return Running([sys.executable, "receiver.py"], folder, {**environment, "PYTHONUNBUFFERED": "1"}, by_secret)


def _with_public_key(code: str) -> str:
    """receiver.py with the page's other block in place of `webhooks` and `verified`."""
    tree = ast.parse(code)
    lines = code.splitlines(keepends=True)
    replaced = [
        part
        for part in tree.body
        if (isinstance(part, ast.FunctionDef) and part.name == "verified")
        or (isinstance(part, ast.Assign) and isinstance(part.targets[0], ast.Name) and part.targets[0].id == "webhooks")
    ]
    assert len(replaced) == 2
    for part in reversed(replaced):
        assert part.end_lineno
        lines[part.lineno - 1 : part.end_lineno] = [] if isinstance(part, ast.Assign) else [block("python", 1)]
    return "".join(lines)


def _receiver(language: str, folder: Path) -> Running:
    secrets = {"WEBHOOK_SECRETS": f"{SECRET} {OLD_SECRET}"}
    match language:
        case "python":
            return _python(folder, block("python"), **secrets)
        case "python-v1a":
            public = [
                "whpk_" + base64.b64encode(key.public_key().public_bytes_raw()).decode()
                for key in (PRIVATE_KEY, Ed25519PrivateKey.generate())
            ]
            running = _python(folder, _with_public_key(block("python")), WEBHOOK_PUBLIC_KEYS=" ".join(public))
            running.sign = by_private_key
            return running
        case "javascript":
            if not installed():
                pytest.skip("node_modules is not installed: make toolchain")
            (folder / "node_modules").symlink_to(PROJECT / "node_modules")
            (folder / "receiver.mjs").write_text(block("javascript"))
            return Running([node(), "receiver.mjs"], folder, secrets, by_secret)
        case _:
            if not shutil.which("javac"):
                pytest.skip("there is no Java development kit on this machine")
            (folder / "Receiver.java").write_text(block("java"))
            return Running(["java", "Receiver.java"], folder, secrets, by_secret)


LANGUAGES: Final = ("python", "python-v1a", "javascript", "java")


@pytest.fixture(scope="module", params=LANGUAGES)
def receiver(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    running = _receiver(request.param, tmp_path_factory.mktemp(request.param))
    running.start()
    try:
        yield running
    finally:
        running.kill()


def test_what_is_rightly_signed_is_answered_204_and_handled(receiver: Running) -> None:
    before = len(receiver.settled())
    assert receiver.post(receiver.sign()).status_code == 204
    (line,) = receiver.settled()[before:]
    assert "visit.ended" in line
    assert "536365" in line


def test_five_minutes_are_tolerated_both_ways(receiver: Running) -> None:
    for age in (290, -290):
        assert receiver.post(receiver.sign(age=age)).status_code == 204


def test_a_second_delivery_of_an_id_is_answered_204_and_not_handled(receiver: Running) -> None:
    first = receiver.sign()
    again = receiver.sign(age=100, webhook_id=first.webhook_id)
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(receiver.post, [first, again] * 8))
    assert {each.status_code for each in answers} == {204}
    receiver.settled()
    assert receiver.post(again).status_code == 204
    # What is handled after it shows that it was not.
    assert receiver.post(receiver.sign()).status_code == 204
    assert len(receiver.settled()) == len(receiver.taken)


def test_during_a_rotation_either_secret_is_good_alone_and_among_others(receiver: Running) -> None:
    if receiver.sign is by_private_key:
        requests = [by_private_key(OTHER_PRIVATE_KEY, PRIVATE_KEY), by_private_key(PRIVATE_KEY, OTHER_PRIVATE_KEY)]
    else:
        requests = [
            by_secret(OLD_SECRET),
            by_secret(OTHER_SECRET, SECRET),
            by_secret(OLD_SECRET, OTHER_SECRET),
            by_private_key(PRIVATE_KEY, webhook_id="msg_v1a").having(
                webhook_signature="v1a,AAAA v2,xyz " + by_secret(webhook_id="msg_v1a").headers["webhook-signature"]
            ),
        ]
    for request in requests:
        assert receiver.post(request).status_code == 204


@pytest.mark.parametrize(
    "spoil",
    [
        pytest.param(lambda sign: Request(sign().headers, BODY[:-1]), id="another body"),
        pytest.param(lambda sign: Request(sign().headers, json.dumps(json.loads(BODY)).encode()), id="written anew"),
        pytest.param(lambda sign: Request(sign().headers, b""), id="no body"),
        pytest.param(lambda sign: Request(sign().headers, b"\xff\xfe"), id="no text"),
        pytest.param(lambda sign: by_secret(OTHER_SECRET), id="another secret"),
        pytest.param(lambda sign: by_private_key(OTHER_PRIVATE_KEY), id="another private key"),
        pytest.param(lambda sign: sign(age=310), id="too old"),
        pytest.param(lambda sign: sign(age=-310), id="too new"),
        pytest.param(lambda sign: sign().having(webhook_id="msg_other"), id="another id"),
        pytest.param(lambda sign: sign().having(webhook_timestamp=f"{int(time.time()) + 2}"), id="another time"),
        pytest.param(lambda sign: sign().having(webhook_timestamp="soon"), id="no time"),
        pytest.param(lambda sign: sign().having(webhook_timestamp="9" * 40), id="a time without end"),
        pytest.param(lambda sign: sign().having(webhook_timestamp="-1"), id="a negative time"),
        pytest.param(lambda sign: sign().having(webhook_signature=""), id="no signature"),
        pytest.param(lambda sign: sign().having(webhook_signature="v1 v1a"), id="no comma"),
        pytest.param(lambda sign: sign().having(webhook_signature="v1, v1a,"), id="empty signatures"),
        pytest.param(lambda sign: sign().having(webhook_signature="v1,=== v1a,==="), id="no base64"),
        pytest.param(lambda sign: sign().having(webhook_signature=" ".join(["v1,AAAA v1a,AAAA"] * 100)), id="short"),
        pytest.param(lambda sign: Request({"content-type": "application/json"}), id="no headers"),
    ],
)
def test_what_is_wrong_is_answered_401_and_nothing_breaks(receiver: Running, spoil: Callable[[Sign], Request]) -> None:
    answer = receiver.post(spoil(receiver.sign))
    assert (answer.status_code, answer.content) == (401, b"")
    assert receiver.post(receiver.sign()).status_code == 204
    assert len(receiver.settled()) == len(receiver.taken)
    assert "Traceback" not in receiver.errors()
    assert "Exception" not in receiver.errors()


def test_what_is_too_large_is_not_taken_and_other_methods_neither(receiver: Running) -> None:
    large = receiver.sign(body=b'{"type":"visit.ended","subject":"1","data":"' + b"x" * 1024 * 1024 + b'"}')
    try:
        status = receiver.post(large).status_code
    except httpx.TransportError:
        # It may hang up before all is sent.
        status = 413
    assert status == 413
    assert receiver.http.get(receiver.url).status_code in (405, 501)
    assert receiver.post(receiver.sign()).status_code == 204
    assert len(receiver.settled()) == len(receiver.taken)


# What fails the first time, put before what `handle` does on the page.
FAILURES: Final = {
    "receiver.py": ('    print("handled"', "    raise RuntimeError('not today')\n"),
    "receiver.mjs": ('  console.log("handled"', "  throw new Error('not today');\n"),
    "Receiver.java": (
        '        System.out.println("handled',
        '        if (true) throw new RuntimeException("not today");\n',
    ),
}


@pytest.mark.parametrize("language", [*LANGUAGES[:-1], pytest.param("java", marks=pytest.mark.slow)])
def test_what_was_answered_204_is_handled_after_a_failure_and_a_kill_and_no_second_time(
    language: str, tmp_path: Path
) -> None:
    running = _receiver(language, tmp_path)
    file = tmp_path / running.command[-1]
    code = file.read_text()
    at, failure = FAILURES[file.name]
    assert code.count(at) == 1
    file.write_text(code.replace(at, failure + at))
    requests = [running.sign() for _ in range(20)]
    with _started(running), ThreadPoolExecutor(4) as pool:
        assert {each.status_code for each in pool.map(running.post, requests)} == {204}
        running.wait_until(lambda: "not today" in running.errors())
    assert running.handled() == []
    file.write_text(code)
    with _started(running):
        assert len(running.settled()) == 20
        assert {running.post(each).status_code for each in requests} == {204}
        assert running.post(running.sign()).status_code == 204
        assert len(running.settled()) == 21


@pytest.mark.parametrize("language", [pytest.param("python", marks=pytest.mark.slow), "javascript", "java"])
def test_what_cannot_be_kept_is_asked_for_later(language: str, tmp_path: Path) -> None:
    running = _receiver(language, tmp_path)
    request = running.sign()
    with _started(running):
        with _disk_trouble(tmp_path):
            answer = running.post(request)
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "60")
        assert running.post(request).status_code == 204
        assert len(running.settled()) == 1


@contextmanager
def _disk_trouble(folder: Path) -> Iterator[None]:
    """Nothing can be kept meanwhile: somebody else writes to the database, or the folder is away."""
    inbox = folder / "inbox"
    if inbox.exists():
        inbox.rename(folder / "away")
        yield
        (folder / "away").rename(inbox)
        return
    with closing(sqlite3.connect(folder / "inbox.sqlite", isolation_level=None)) as database:
        database.execute("BEGIN EXCLUSIVE")
        yield
        database.execute("ROLLBACK")


@contextmanager
def _started(running: Running) -> Iterator[None]:
    running.start()
    try:
        yield
    finally:
        running.kill()


@pytest.mark.skipif(not shutil.which("openssl"), reason="there is no openssl on this machine")
@pytest.mark.parametrize("shell", ["sh", "bash", "dash"])
def test_the_shell_script_tells_right_from_wrong(shell: str, tmp_path: Path) -> None:
    if not shutil.which(shell):
        pytest.skip(f"there is no {shell} on this machine")
    (tmp_path / "verify.sh").write_text(block("sh"))
    (tmp_path / "body").write_bytes(BODY)
    (tmp_path / "other").write_bytes(BODY + b"\n")
    request = by_secret(OLD_SECRET, SECRET, age=600)
    values = [request.webhook_id, request.headers["webhook-timestamp"], request.headers["webhook-signature"]]

    def said(secret: str, *arguments: str) -> tuple[int, str]:
        ended = subprocess.run(
            [shell, "verify.sh", *arguments],
            cwd=tmp_path,
            env={**os.environ, "WEBHOOK_SECRET": secret},
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )
        return ended.returncode, ended.stdout + ended.stderr

    for secret in (SECRET, OLD_SECRET):
        code, text = said(secret, *values, "body")
        assert code == 0, text
        assert re.fullmatch(r"signed by this secret, 60\d s ago\n", text)
    assert said(OTHER_SECRET, *values, "body")[0] == 1
    code, text = said(SECRET, *values, "other")
    assert code == 1
    expected = by_secret(SECRET, body=BODY + b"\n", webhook_id=values[0]).headers["webhook-signature"]
    assert text.startswith("not signed by this secret: expected v1,")
    assert len(text.split()[-1]) == len(expected)


def test_every_block_of_code_on_the_page_is_run_here() -> None:
    assert [language for language, _ in BLOCKS] == ["python", "javascript", "java", "sh", "python"]
