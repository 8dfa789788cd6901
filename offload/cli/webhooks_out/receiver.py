"""A small receiver of Offload's own webhooks on loopback: to see what comes, and how the sender takes a bad answer."""

from __future__ import annotations

import contextlib
import sys
import threading
import time
from collections import Counter, OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, ClassVar, Final

import msgspec

from offload.cli.deployment.failure import Failure
from offload.contracts.webhooks_in.providers import STANDARD_WEBHOOKS
from offload.runtime.webhooks_in.refusals import WebhookRefused
from offload.runtime.webhooks_in.secrets import BadSecret, Key, Secret, keyring
from offload.runtime.webhooks_in.verify import verify

HOST: Final = "127.0.0.1"
LARGEST: Final = 1024 * 1024
"""Bytes of a body; a larger one is answered 413. Events have at most 1 MB on the bus."""

VERIFIED: Final = "verified"
UNCHECKED: Final = "unchecked"
"""The verdict where there is no secret."""

# Ids that are known again; a busy day has fewer.
_REMEMBERED: Final = 100_000
_LONGEST_TEXT: Final = 120
# A sender that stops in the middle of a request does not hold its thread for ever.
_READ_WITHIN: Final = 30.0


@dataclass(frozen=True)
class Answers:
    """What the receiver answers: 204, or `failing` to every `fail_every`-th request; after `delay` seconds.

    With `fail_every` 0 none fails, with 1 every one does. What is not rightly signed is refused whatever this says.
    """

    fail_every: int = 0
    failing: int = 500
    delay: float = 0.0


@dataclass(frozen=True)
class Delivery:
    """One request, as it came.

    `verdict` is "verified", "unchecked" where there is no secret, or the refusal's name, which `detail` explains.
    `secret` says which one verified it, from 1 on. `times` counts the requests with this webhook-id, this one
    included, refused ones apart. `status` is what it is answered with. Texts of a request that is not verified are
    whatever somebody wrote; what cannot be printed is replaced in them.
    """

    at: datetime
    webhook_id: str
    type: str
    subject: str
    event_id: str
    source: str
    verdict: str
    detail: str
    secret: int | None
    times: int
    status: int
    bytes: int
    traceparent: str

    @property
    def again(self) -> bool:
        """Whether this webhook-id has come before: a retry, or a duplicate."""
        return self.times > 1

    @property
    def refused(self) -> bool:
        """Whether the signature, or what belongs to it, is wrong."""
        return self.verdict not in (VERIFIED, UNCHECKED)

    def document(self) -> dict[str, Any]:
        """As JSON has it."""
        shown = {name: value for name, value in vars(self).items() if name != "at"}
        return {"at": self.at.isoformat(timespec="milliseconds"), **shown, "again": self.again}


@dataclass
class Counts:
    """What came so far: requests by verdict and by status, and how many of them came again."""

    verdicts: Counter[str] = field(default_factory=Counter)
    statuses: Counter[int] = field(default_factory=Counter)
    again: int = 0

    @property
    def requests(self) -> int:
        """All of them."""
        return self.verdicts.total()

    def line(self) -> str:
        """As one line for people."""
        many = "1 request" if self.requests == 1 else f"{self.requests:,} requests"
        if not self.requests:
            return many
        verdicts = ", ".join(f"{count:,} {verdict}" for verdict, count in self.verdicts.most_common())
        statuses = ", ".join(f"{status} to {count:,}" for status, count in sorted(self.statuses.items()))
        return f"{many}: {verdicts}; {self.again:,} came again; answered {statuses}"


class Receiver:
    """Takes webhooks on a port of loopback (0: any that is free), in threads of its own.

    `secrets` are `whsec_…` or `whpk_…`; each is good. `on_delivery` is told of each request, one at a time, before it
    is answered, in a thread of the receiver's. Raises Failure for a secret that can be none; what it says has no
    secret in it.

        with Receiver(secrets=[secret], on_delivery=seen.append) as receiver:
            subscribe(receiver.url)
    """

    def __init__(
        self,
        port: int = 0,
        secrets: Sequence[str] = (),
        on_delivery: Callable[[Delivery], None] = lambda _: None,
        *,
        answers: Answers | None = None,
    ) -> None:
        self.counts = Counts()
        self._port = port
        self._on_delivery = on_delivery
        self._answers = answers or Answers()
        self._times: OrderedDict[str, int] = OrderedDict()
        self._requests = 0
        self._lock = threading.Lock()
        self._stopped = threading.Event()
        self._server: ThreadingHTTPServer | None = None
        self._thread: threading.Thread | None = None
        self._keys: tuple[Key, ...] = ()
        self.trust(*secrets)

    def __enter__(self) -> Receiver:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def url(self) -> str:
        """Where webhooks go, once it is started; any path below is the same."""
        return f"http://{HOST}:{self._server.server_address[1] if self._server else self._port}/"

    def trust(self, *secrets: str) -> None:
        """Verifies by these secrets from now on, and by no other: a subscription's is known after its URL is.

        Raises Failure for one that can be none.
        """
        named = [Secret(f"{number}", secret) for number, secret in enumerate(secrets, 1)]
        try:
            self._keys = keyring(STANDARD_WEBHOOKS, named)
        except BadSecret as error:
            raise Failure(str(error)) from error

    def start(self) -> None:
        """Listens from now on. Raises Failure when the port is taken."""
        try:
            self._server = _Server((HOST, self._port), type("Handler", (_Handler,), {"receiver": self}))
        except OSError as error:
            raise Failure(
                f"port {self._port} of {HOST}: {error.strerror or error}; take another by --port N, any free one by 0"
            ) from error
        self._thread = threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.1}, name="receiver", daemon=True
        )
        self._thread.start()

    def stop(self) -> None:
        """Listens no more; requests that wait for their answer get none."""
        self._stopped.set()
        if self._server and self._thread:
            self._server.shutdown()
            self._server.server_close()
            self._thread.join()

    def take(self, headers: list[tuple[str, str]], body: bytes) -> int:
        """Judges one request and tells of it; returns the status to be answered."""
        at = datetime.now(UTC)
        keys = self._keys
        verdict, detail, secret, refusal = UNCHECKED if not keys else VERIFIED, "", None, 0
        if keys:
            try:
                secret = int(verify(STANDARD_WEBHOOKS, keys, headers, body, now=time.time()).key_id)
            except WebhookRefused as refused:
                verdict, detail, refusal = refused.slug, str(refused), refused.status
        named = {name.lower(): value for name, value in reversed(headers)}
        webhook_id = named.get("webhook-id", "")
        document = _document(body)
        with self._lock:
            self._requests += 1
            failing = self._answers.fail_every and self._requests % self._answers.fail_every == 0
            status = refusal or (self._answers.failing if failing else 204)
            times = self._count(webhook_id) if webhook_id and not refusal else 1
            delivery = Delivery(
                at=at,
                webhook_id=printable(webhook_id),
                type=_text(document, "type"),
                subject=_text(document, "subject"),
                event_id=_text(document, "id"),
                source=_text(document, "source"),
                verdict=verdict,
                detail=detail,
                secret=secret,
                times=times,
                status=status,
                bytes=len(body),
                traceparent=printable(named.get("traceparent", "")),
            )
            self.counts.verdicts[verdict] += 1
            self.counts.statuses[status] += 1
            self.counts.again += delivery.again
            self._on_delivery(delivery)
        return status

    def wait(self) -> None:
        """Waits out the answers' delay, or until it is stopped."""
        if self._answers.delay:
            self._stopped.wait(self._answers.delay)

    @property
    def stopped(self) -> bool:
        """Whether it answers no more."""
        return self._stopped.is_set()

    def _count(self, webhook_id: str) -> int:
        times = self._times.pop(webhook_id, 0) + 1
        self._times[webhook_id] = times
        if len(self._times) > _REMEMBERED:
            self._times.popitem(last=False)
        return times


def printable(text: str) -> str:
    """A text of a stranger, as a terminal may have it: of bounded length, without control characters."""
    cut = text if len(text) <= _LONGEST_TEXT else f"{text[: _LONGEST_TEXT - 1]}…"
    return "".join(letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in cut)


def _document(body: bytes) -> dict[str, Any]:
    try:
        document = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return {}
    return document if isinstance(document, dict) else {}


def _text(document: dict[str, Any], name: str) -> str:
    value = document.get(name)
    return printable(value) if isinstance(value, str) else ""


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    # One that waits for its delay is not waited for.
    block_on_close = False
    request_queue_size = 128

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Says nothing of a sender that hangs up: its own record has that."""
        if not isinstance(sys.exception(), OSError):
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = _READ_WITHIN
    disable_nagle_algorithm = True
    wbufsize = -1
    server_version = "offload-receiver"
    sys_version = ""
    receiver: ClassVar[Receiver]

    def do_POST(self) -> None:
        length = self.headers.get("Content-Length", "")
        if not length.isascii() or not length.isdigit():
            self._answer(411, close=True)
            return
        if int(length) > LARGEST:
            self._answer(413, close=True)
            return
        body = self.rfile.read(int(length))
        if len(body) < int(length):
            self.close_connection = True
            return
        status = self.receiver.take(list(self.headers.items()), body)
        self.receiver.wait()
        if self.receiver.stopped:
            self.close_connection = True
            return
        self._answer(status)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("do_"):
            return lambda: self._answer(405, close=True)
        raise AttributeError(name)

    def _answer(self, status: int, *, close: bool = False) -> None:
        self.send_response(status)
        if status == 405:
            self.send_header("Allow", "POST")
        if status not in (204, 304):
            self.send_header("Content-Length", "0")
        if close:
            self.send_header("Connection", "close")
        with contextlib.suppress(ConnectionError):
            self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        """Says nothing: `on_delivery` does."""
