"""A real HTTP(S) server that misbehaves by a script per endpoint, below HTTP too, and keeps a record of what came.

    with MisbehavingServer() as server:
        server.script("shop", [ResetIn(), RateLimited("120")], then=Answer(204))
        send_to(server.url("shop"))
        server.wait_for("shop", 3)
        assert [each.answered for each in server.received("shop")] == [False, True, True]

An endpoint is a name: `/e/NAME`, and whatever is below it. It needs no script: then it answers 200. The server runs on
raw sockets of 127.0.0.1 in a thread of its own; every method may be called from any thread.
"""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import re
import socket
import ssl
import struct
import tempfile
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Coroutine, Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from http import HTTPStatus
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Literal, TypeAlias

from tests.certificates import Authority
from tests.patience import PATIENCE

HOST: Final = "127.0.0.1"
Tls: TypeAlias = Literal["good", "expired", "wrong-host", "self-signed"]
Headers: TypeAlias = Mapping[str, str] | tuple[tuple[str, str], ...]

_NAME: Final = re.compile(r"[A-Za-z0-9_.-]+")
_PATH: Final = re.compile(r"/e/([A-Za-z0-9_.-]+)(?:[/?].*)?")
_LONGEST_HEAD: Final = 256 * 1024
_CHUNK: Final = 64 * 1024
# The waiting clients of a door that limits none.
_BACKLOG: Final = 1024
_HOSTS: Final = ("localhost", HOST, "::1")


# -- what an endpoint may do


@dataclass(frozen=True)
class Answer:
    """A right answer, `after` seconds; `close` ends the connection with it."""

    status: int = 200
    headers: Headers = field(default_factory=dict)
    body: bytes = b""
    after: float = 0.0
    close: bool = False


@dataclass(frozen=True)
class Gone(Answer):
    """410."""

    status: int = 410


@dataclass(frozen=True)
class RateLimited(Answer):
    """429 (or `status`) with this `Retry-After`, written as it stands: see `retry_after_forms`."""

    retry_after: str = "1"
    status: int = 429

    def __init__(self, retry_after: str, *, status: int = 429, after: float = 0.0) -> None:
        super().__init__(status=status, headers={"Retry-After": retry_after}, after=after)
        object.__setattr__(self, "retry_after", retry_after)


@dataclass(frozen=True)
class RedirectTo(Answer):
    """A redirect to `url`."""

    url: str = ""
    status: int = 302

    def __init__(self, url: str, *, status: int = 302) -> None:
        super().__init__(status=status, headers={"Location": url})
        object.__setattr__(self, "url", url)


@dataclass(frozen=True)
class RedirectLoop:
    """A redirect to the path that was asked for."""

    status: int = 302


@dataclass(frozen=True)
class Hang:
    """Reads the request and answers nothing; hangs up after `seconds`, or when the client does."""

    seconds: float = 60.0


@dataclass(frozen=True)
class SlowBytes:
    """A right answer, `at_once` bytes each `every` seconds, from the status line on."""

    every: float = 0.1
    at_once: int = 1
    status: int = 200
    headers: Headers = field(default_factory=dict)
    body: bytes = b"slow"


@dataclass(frozen=True)
class ResetBefore:
    """RST before the request is read: of it only the first line is, by which the endpoint is known.

    On a port of the endpoint's own (`own_port`) not even that: the connection is reset when it is accepted.
    """


@dataclass(frozen=True)
class ResetIn:
    """RST when half of the answer is sent; with `part` "head" in the middle of the headers."""

    status: int = 200
    body: bytes = b"x" * 1000
    part: Literal["head", "body"] = "body"


@dataclass(frozen=True)
class ResetAfter:
    """The whole answer, and RST right after."""

    status: int = 200
    headers: Headers = field(default_factory=dict)
    body: bytes = b""


@dataclass(frozen=True)
class HalfResponse:
    """Half of the answer and an orderly end (FIN); with `part` "head" in the middle of the headers."""

    status: int = 200
    body: bytes = b"x" * 1000
    part: Literal["head", "body"] = "body"


@dataclass(frozen=True)
class WrongLength:
    """`Content-Length: declared` and `sent` bytes of body.

    With fewer sent, the connection ends there. With more it stays open, and who uses it again reads the rest as an
    answer.
    """

    declared: int
    sent: int
    status: int = 200


@dataclass(frozen=True)
class Surplus:
    """A right answer with `extra` behind it, which no request asked for, and the connection stays open.

    Both are in one packet, and under TLS each in a record of its own; with `late` it comes so many seconds later.
    """

    extra: bytes
    status: int = 200
    headers: Headers = field(default_factory=dict)
    body: bytes = b""
    late: float = 0.0


@dataclass(frozen=True)
class HugeBody:
    """A body of so many bytes; without `declared` it ends with the connection. `zipped` is small on the way only."""

    size: int
    declared: bool = True
    zipped: bool = False
    status: int = 200


@dataclass(frozen=True)
class HugeHeaders:
    """So many bytes of headers, in lines of `line` bytes."""

    size: int
    line: int = 4096
    status: int = 200


@dataclass(frozen=True)
class Http10:
    """An answer of HTTP/1.0: without a length, ended by the end of the connection."""

    status: int = 200
    headers: Headers = field(default_factory=dict)
    body: bytes = b""


@dataclass(frozen=True)
class NotHttp:
    """These bytes, and the end of the connection."""

    garbage: bytes = b"\x15\x03\x01\x00\x02\x02\x28 this is no HTTP\r\n\r\n"


Step: TypeAlias = (
    Answer
    | RedirectLoop
    | Hang
    | SlowBytes
    | ResetBefore
    | ResetIn
    | ResetAfter
    | HalfResponse
    | WrongLength
    | Surplus
    | HugeBody
    | HugeHeaders
    | Http10
    | NotHttp
)
Decide: TypeAlias = Callable[["Received"], Step]
"""Chooses a step by the request; called in the server's thread. ResetBefore comes too late from it."""


def retry_after_forms(moment: datetime) -> dict[str, str]:
    """Every form of `Retry-After` that receivers send, by its name; the dates (RFC 9110, 5.6.7) are `moment`."""
    at = moment.astimezone(UTC).replace(microsecond=0)
    return {
        "seconds": "120",
        "zero": "0",
        "imf-fixdate": format_datetime(at, usegmt=True),
        "rfc-850": f"{at:%A, %d-%b-%y %H:%M:%S} GMT",
        "asctime": f"{at:%a %b} {at.day:2} {at:%H:%M:%S %Y}",
        "past": format_datetime(at - timedelta(days=400), usegmt=True),
        "far": format_datetime(at + timedelta(days=36_500), usegmt=True),
        "negative": "-120",
        "fraction": "1.5",
        "spaces": "  120  ",
        "many-digits": "9" * 400,
        "other-digits": "\u0661\u0662".encode().decode("latin-1"),
        "iso-8601": f"{at:%Y-%m-%dT%H:%M:%SZ}",
        "no-such-day": "Mon, 31 Feb 2028 25:61:61 GMT",
        "nonsense": "soon",
        "empty": "",
    }


def busiest(received: Iterable[Received], seconds: float = 1.0) -> int:
    """The most requests that arrived within so many seconds, wherever they begin."""
    times = sorted(each.monotonic for each in received)
    most = begin = 0
    for end, moment in enumerate(times):
        while begin < end and times[begin] <= moment - seconds:
            begin += 1
        most = max(most, end - begin + 1)
    return most


# -- what came


@dataclass
class Received:
    """One request. Times: `at` in seconds since 1970; `monotonic` as `time.monotonic()` has it in every process.

    `headers` are as they came, with repetitions, names in their own case. `step` is what it was answered with and
    `number` its place, from 1 on since the endpoint's script was set. `answered`: the whole answer was handed to the
    connection while the client was there; whether it was read is not known here.
    """

    at: float
    monotonic: float
    method: str
    path: str
    headers: list[tuple[str, str]]
    body: bytes
    step: Step
    number: int
    answered: bool = False
    ended: bool = False
    """Whether the server is done with it."""
    connection: int = 0
    """Which connection it came on."""
    left_at: float | None = None
    """When the client closed the connection, if this was the last request on it and the server kept it open; monotonic.

    A client that is killed closes its connections: an answer may be lost where this is the time of the kill.
    """

    def header(self, name: str) -> str | None:
        """The first header of this name, in any case."""
        return next((value for each, value in self.headers if each.lower() == name.lower()), None)


@dataclass(frozen=True)
class AtOnce:
    """The most there were at one time: requests in progress, and open connections whose last request was for this."""

    requests: int
    connections: int


@dataclass
class _Endpoint:
    steps: list[Step | Decide] = field(default_factory=list)
    then: Step | Decide = field(default_factory=Answer)
    asked: int = 0
    received: list[Received] = field(default_factory=list)
    ended: int = 0
    requests: int = 0
    most_requests: int = 0
    connections: int = 0
    most_connections: int = 0

    def next(self) -> tuple[int, Step | Decide]:
        number = self.asked
        self.asked += 1
        return number + 1, self.steps[number] if number < len(self.steps) else self.then


@dataclass
class _Door:
    """A listening port; `endpoint` when it is one's own."""

    socket: socket.socket
    tls: ssl.SSLContext | None = None
    endpoint: str = ""
    limit: int = 0
    over: Literal["refuse", "reset", "backlog"] = "reset"
    backlog: int = _BACKLOG
    open: int = 0
    room: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def port(self) -> int:
        return int(self.socket.getsockname()[1])


class MisbehavingServer:
    """The server; a context manager. `cafile` verifies `tls="good"`, and would verify "expired" and "wrong-host"."""

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="misbehaving-")
        authority = Authority(Path(self._folder.name))
        self.cafile = authority.cafile
        self._contexts: dict[Tls, ssl.SSLContext] = {
            "good": authority.server(*_HOSTS),
            "expired": authority.server(*_HOSTS, expired=True),
            "wrong-host": authority.server("other.example.com"),
            "self-signed": authority.server(*_HOSTS, self_signed=True),
        }
        self._changed = threading.Condition()
        self._endpoints: defaultdict[str, _Endpoint] = defaultdict(_Endpoint)
        self._strays: list[str] = []
        self._counts: Counter[str] = Counter()
        self._doors: dict[str, _Door] = {}
        self._connections = 0
        self._tasks: set[asyncio.Task[None]] = set()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name="misbehaving-server", daemon=True)
        # Bound and never listening: who connects is refused, and nobody else gets the port.
        self._refusing = socket.socket()
        self._refusing.bind((HOST, 0))
        # Listening, and never asked for a connection.
        self._silent = _listening(_BACKLOG)

    def __enter__(self) -> MisbehavingServer:
        self._thread.start()
        self._call(self._open_doors())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._call(self._close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
        self._refusing.close()
        self._silent.close()
        self._folder.cleanup()

    # -- setting up

    def url(self, name: str, *, tls: Tls | None = None, host: str = HOST) -> str:
        """An endpoint's URL; under `tls` the one whose certificate is good, expired … (`Tls`).

        An endpoint with a port of its own has its URL there, without TLS.
        """
        _check(name)
        door = self._doors.get(f"own {name}" if tls is None else tls) or self._doors["plain"]
        return f"{'https' if door.tls else 'http'}://{host}:{door.port}/e/{name}"

    def refused_url(self, name: str) -> str:
        """A URL of a port at which nobody listens."""
        _check(name)
        return f"http://{HOST}:{self._refusing.getsockname()[1]}/e/{name}"

    def silent_url(self, name: str, *, tls: bool = False) -> str:
        """A URL of a port where connecting works and nothing is ever read: under `tls` the handshake hangs."""
        _check(name)
        return f"{'https' if tls else 'http'}://{HOST}:{self._silent.getsockname()[1]}/e/{name}"

    def script(self, name: str, steps: Iterable[Step | Decide] = (), *, then: Step | Decide | None = None) -> None:
        """What the next requests to an endpoint are answered with, one step each, and `then` all later ones (200).

        Begins anew when there was a script; the record stays.
        """
        _check(name)
        with self._changed:
            endpoint = self._endpoints[name]
            endpoint.steps, endpoint.then, endpoint.asked = list(steps), then or Answer(), 0

    def own_port(
        self,
        name: str,
        *,
        limit: int = 0,
        over: Literal["refuse", "reset", "backlog"] = "reset",
        backlog: int = _BACKLOG,
    ) -> str:
        """Gives an endpoint a port of its own, where at most `limit` connections are open (0: any); returns its URL.

        What is over the limit is refused by the system (`ECONNREFUSED`), accepted and reset, or left in the system's
        queue, where it is connected and nobody reads it until there is room. Of these `backlog` wait and one more;
        the next ones' connecting itself gets no answer.
        """
        _check(name)
        self._call(
            self._open(f"own {name}", _listening(backlog), endpoint=name, limit=limit, over=over, backlog=backlog)
        )
        return self.url(name)

    # -- looking

    def received(self, name: str) -> list[Received]:
        """What came for an endpoint so far, in the order of arrival: copies."""
        with self._changed:
            endpoint = self._endpoints.get(name)
            return [replace(each) for each in endpoint.received] if endpoint else []

    def at_once(self, name: str) -> AtOnce:
        """An endpoint's high-water marks since the server's start."""
        with self._changed:
            endpoint = self._endpoints.get(name) or _Endpoint()
            return AtOnce(endpoint.most_requests, endpoint.most_connections)

    def accepted(self, door: Tls | Literal["plain"] = "plain") -> int:
        """The connections that a port accepted so far, whatever became of them; 0 says that nobody connected."""
        with self._changed:
            return self._counts[door]

    def accepted_by(self, name: str) -> int:
        """The connections that an endpoint's own port accepted, those that were over its limit and reset included."""
        with self._changed:
            return self._counts[f"own {name}"]

    def failed_handshakes(self, tls: Tls) -> int:
        """The TLS handshakes that a port's clients gave up."""
        with self._changed:
            return self._counts[f"failed {tls}"]

    def strays(self) -> list[str]:
        """The first lines of requests for no endpoint (404) and of what is no request (400)."""
        with self._changed:
            return list(self._strays)

    def wait_for(self, name: str, count: int, *, timeout: float = 30.0) -> list[Received]:
        """Waits until the server is done with `count` requests to an endpoint; raises TimeoutError."""
        self.wait_until(lambda: self._endpoints[name].ended >= count, timeout=timeout)
        return self.received(name)

    def wait_until(self, holds: Callable[[], bool], *, timeout: float = 30.0) -> None:
        """Waits until `holds`, which is asked whenever something came or ended; raises TimeoutError."""
        with self._changed:
            if not self._changed.wait_for(holds, timeout):
                raise TimeoutError(f"not within {timeout} s")

    # -- running

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        # A client's broken handshake or reset is what this server is for.
        self._loop.set_exception_handler(lambda *_: None)
        self._loop.run_forever()

    def _call(self, work: Coroutine[Any, Any, None]) -> None:
        asyncio.run_coroutine_threadsafe(work, self._loop).result(timeout=PATIENCE)

    async def _open_doors(self) -> None:
        await self._open("plain", _listening(_BACKLOG))
        for tls, context in self._contexts.items():
            await self._open(tls, _listening(_BACKLOG), tls=context)

    async def _open(self, name: str, listener: socket.socket, **how: Any) -> None:
        if name in self._doors:
            raise ValueError(f"{name}: has a port already")
        self._doors[name] = door = _Door(listener, **how)
        self._start(self._accept(name, door))

    async def _close(self) -> None:
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for door in self._doors.values():
            door.socket.close()

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        task = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _accept(self, name: str, door: _Door) -> None:
        while True:
            full = bool(door.limit) and door.open >= door.limit
            if full and door.over != "reset":
                if door.over == "refuse":
                    # On Linux the port stays bound: connecting is refused until it listens again.
                    door.socket.shutdown(socket.SHUT_RDWR)
                door.room.clear()
                await door.room.wait()
                if door.over == "refuse":
                    door.socket.listen(door.backlog)
            client, _ = await self._loop.sock_accept(door.socket)
            with self._changed:
                self._counts[name] += 1
                self._changed.notify_all()
            if bool(door.limit) and door.open >= door.limit:
                _reset(client)
                continue
            door.open += 1
            self._start(self._attend(name, door, client))

    async def _attend(self, name: str, door: _Door, client: socket.socket) -> None:
        try:
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if door.endpoint and self._resets_at_once(door.endpoint):
                _reset(client)
                return
            reader = asyncio.StreamReader(limit=_LONGEST_HEAD, loop=self._loop)
            protocol = _Protocol(reader, self._loop)
            try:
                transport, _ = await self._loop.connect_accepted_socket(lambda: protocol, client, ssl=door.tls)
            except (OSError, EOFError):
                with self._changed:
                    self._counts[f"failed {name}"] += 1
                    self._changed.notify_all()
                client.close()
                return
            writer = asyncio.StreamWriter(transport, protocol, reader, self._loop)
            self._connections += 1
            await _Connection(self, reader, writer, protocol.left, self._connections).serve()
        finally:
            door.open -= 1
            door.room.set()

    def _resets_at_once(self, name: str) -> bool:
        """Whether the next step is a reset before anything is read; it is taken and recorded then."""
        with self._changed:
            endpoint = self._endpoints[name]
            at = endpoint.asked
            step = endpoint.steps[at] if at < len(endpoint.steps) else endpoint.then
            if not isinstance(step, ResetBefore):
                return False
            number, _ = endpoint.next()
            came = Received(time.time(), time.monotonic(), "", "", [], b"", step, number, ended=True)
            endpoint.received.append(came)
            endpoint.ended += 1
            self._changed.notify_all()
            return True


class _Protocol(asyncio.StreamReaderProtocol):
    """Also says when the client has left."""

    def __init__(self, reader: asyncio.StreamReader, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(reader, loop=loop)
        self.left = asyncio.Event()
        # The base class keeps only a weak one.
        self._kept = reader

    def eof_received(self) -> bool | None:
        self.left.set()
        return super().eof_received()

    def connection_lost(self, exc: Exception | None) -> None:
        self.left.set()
        super().connection_lost(exc)


class _Hangup(Exception):
    """The connection ends here; with RST when it says so."""

    def __init__(self, *, reset: bool = False) -> None:
        super().__init__()
        self.reset = reset


class _Connection:
    def __init__(
        self,
        server: MisbehavingServer,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        left: asyncio.Event,
        number: int,
    ) -> None:
        self.server, self.reader, self.writer, self.left = server, reader, writer, left
        self.number = number
        self.last: Received | None = None
        self.endpoint: _Endpoint | None = None

    async def serve(self) -> None:
        reset = False
        try:
            while await self._one():
                pass
        except _Hangup as hangup:
            reset = hangup.reset
        except (OSError, EOFError):
            # The client broke off.
            reset = False
        except (ValueError, asyncio.LimitOverrunError) as error:
            await self._stray(f"{error}", 400)
        finally:
            if reset:
                linger = struct.pack("ii", 1, 0)
                with contextlib.suppress(OSError):
                    self.writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
                self.writer.transport.abort()
            else:
                self.writer.close()
            self._belongs_to(None)
            if self.last and self.left.is_set():
                with self.server._changed:
                    self.last.left_at = time.monotonic()
                    self.server._changed.notify_all()

    def _belongs_to(self, endpoint: _Endpoint | None) -> None:
        if endpoint is self.endpoint:
            return
        with self.server._changed:
            if self.endpoint:
                self.endpoint.connections -= 1
            if endpoint:
                endpoint.connections += 1
                endpoint.most_connections = max(endpoint.most_connections, endpoint.connections)
            self.endpoint = endpoint

    async def _one(self) -> bool:
        """Reads a request and answers it; whether there may be another on this connection."""
        line = await self._line()
        if not line:
            return False
        method, _, rest = line.partition(" ")
        path, _, version = rest.rpartition(" ")
        named = _PATH.fullmatch(path)
        if not version.startswith("HTTP/1."):
            await self._stray(line, 400)
            return False
        if not named:
            await self._read_rest(Received(0, 0, method, path, [], b"", Answer(404), 0))
            await self._stray(line, 404)
            return False
        with self.server._changed:
            endpoint = self.server._endpoints[named[1]]
            number, chosen = endpoint.next()
            step: Step = Answer() if callable(chosen) else chosen
            came = Received(time.time(), time.monotonic(), method, path, [], b"", step, number, connection=self.number)
            self.last = came
            endpoint.received.append(came)
            endpoint.requests += 1
            endpoint.most_requests = max(endpoint.most_requests, endpoint.requests)
            self.server._changed.notify_all()
        self._belongs_to(endpoint)
        try:
            if isinstance(chosen, ResetBefore):
                raise _Hangup(reset=True)
            await self._read_rest(came)
            if callable(chosen):
                came.step = chosen(came)
            lasting = version == "HTTP/1.1" and (came.header("connection") or "").lower() != "close"
            return await self._play(came.step, came) and lasting
        finally:
            with self.server._changed:
                endpoint.requests -= 1
                endpoint.ended += 1
                came.ended = True
                self.server._changed.notify_all()

    async def _line(self) -> str:
        try:
            line = await self.reader.readuntil(b"\r\n")
        except asyncio.IncompleteReadError as error:
            if error.partial:
                await self._stray(error.partial[:200].decode("latin-1"), 400)
            return ""
        except asyncio.LimitOverrunError:
            await self._stray("a line without an end", 400)
            return ""
        return line[:-2].decode("latin-1")

    async def _read_rest(self, came: Received) -> None:
        # One reading for all headers; without any there is but the empty line.
        first = await self.reader.readexactly(2)
        if first != b"\r\n":
            head = first + await self.reader.readuntil(b"\r\n\r\n")
            for line in head[:-4].decode("latin-1").split("\r\n"):
                name, _, value = line.partition(":")
                came.headers.append((name, value.strip(" \t")))
        if (came.header("expect") or "").lower() == "100-continue":
            self.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        if (came.header("transfer-encoding") or "").lower() == "chunked":
            came.body = await self._chunks()
        else:
            came.body = await self.reader.readexactly(int(came.header("content-length") or 0))

    async def _chunks(self) -> bytes:
        body = bytearray()
        while size := int((await self.reader.readuntil(b"\r\n")).partition(b";")[0], 16):
            body += (await self.reader.readexactly(size + 2))[:-2]
        while await self.reader.readuntil(b"\r\n") != b"\r\n":
            pass
        return bytes(body)

    async def _stray(self, line: str, status: int) -> None:
        with self.server._changed:
            self.server._strays.append(line)
            self.server._changed.notify_all()
        self.writer.write(_head(status, {"Content-Length": "0", "Connection": "close"}) + b"\r\n")

    # -- misbehaving

    async def _play(self, step: Step, came: Received) -> bool:
        """Does what the step says; whether the connection goes on."""
        match step:
            case Answer():
                await self._pause(step.after)
                close = {"Connection": "close"} if step.close else {}
                await self._whole(came, _whole(step.status, step.headers, step.body, close))
                return not step.close
            case RedirectLoop():
                await self._whole(came, _whole(step.status, {"Location": came.path}, b""))
            case Hang():
                await self._pause(step.seconds)
                raise _Hangup
            case SlowBytes():
                await self._drip(came, step)
            case ResetIn() | HalfResponse():
                response = _whole(step.status, {}, step.body)
                begin = response.index(b"\r\n\r\n") + 4
                await self._send(response[: begin // 2 if step.part == "head" else begin + len(step.body) // 2])
                raise _Hangup(reset=isinstance(step, ResetIn))
            case ResetAfter():
                await self._whole(came, _whole(step.status, step.headers, step.body))
                raise _Hangup(reset=True)
            case WrongLength():
                head = _head(step.status, {"Content-Length": str(step.declared)})
                await self._send(head + b"\r\n" + b"x" * step.sent)
                return step.sent > step.declared
            case Surplus():
                await self._surplus(came, step)
            case HugeBody():
                return await self._huge_body(came, step)
            case HugeHeaders():
                line = f"x-huge: {'x' * (step.line - len('x-huge: ') - 2)}\r\n".encode()
                await self._send(_head(step.status, {"Content-Length": "0"}))
                for _ in range(-(-step.size // len(line))):
                    await self._send(line)
                await self._whole(came, b"\r\n")
            case Http10():
                head = _head(step.status, step.headers, version="1.0")
                await self._whole(came, head + b"\r\n" + step.body)
                return False
            case NotHttp():
                await self._send(step.garbage)
                raise _Hangup
            case ResetBefore():
                raise _Hangup(reset=True)
        return True

    async def _surplus(self, came: Received, step: Surplus) -> None:
        connected = self.writer.get_extra_info("socket")
        connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_CORK, not step.late)
        await self._send(_whole(step.status, step.headers, step.body))
        if step.late:
            await self._pause(step.late)
        await self._whole(came, step.extra)
        connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_CORK, 0)

    async def _drip(self, came: Received, step: SlowBytes) -> None:
        response = _whole(step.status, step.headers, step.body)
        for at in range(0, len(response), step.at_once):
            if at:
                await self._pause(step.every)
            await self._send(response[at : at + step.at_once])
        came.answered = not self.left.is_set()

    async def _huge_body(self, came: Received, step: HugeBody) -> bool:
        headers = {"Content-Type": "text/plain"}
        content = b""
        if step.zipped:
            content = gzip.compress(bytes(step.size), compresslevel=1)
            headers["Content-Encoding"] = "gzip"
        size = len(content) or step.size
        headers |= {"Content-Length": str(size)} if step.declared else {"Connection": "close"}
        await self._send(_head(step.status, headers) + b"\r\n")
        if content:
            await self._send(content)
        else:
            chunk = b"x" * min(_CHUNK, size)
            for begin in range(0, size, _CHUNK):
                await self._send(chunk[: size - begin])
        came.answered = not self.left.is_set()
        return step.declared

    async def _pause(self, seconds: float) -> None:
        """Waits; ends the connection when the client has left meanwhile."""
        if seconds > 0:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self.left.wait(), seconds)
        if self.left.is_set():
            raise _Hangup

    async def _send(self, content: bytes) -> None:
        if self.left.is_set():
            raise _Hangup
        self.writer.write(content)
        await self.writer.drain()

    async def _whole(self, came: Received, content: bytes) -> None:
        await self._send(content)
        came.answered = not self.left.is_set()


def _whole(status: int, headers: Headers, body: bytes, more: Headers = ()) -> bytes:
    length: Headers = {} if status in (204, 304) else {"Content-Length": str(len(body))}
    return _head(status, (*_pairs(headers), *_pairs(length), *_pairs(more))) + b"\r\n" + body


def _head(status: int, headers: Headers, *, version: str = "1.1") -> bytes:
    try:
        phrase = HTTPStatus(status).phrase
    except ValueError:
        phrase = "Unknown"
    lines = "".join(f"{name}: {value}\r\n" for name, value in _pairs(headers))
    return f"HTTP/{version} {status} {phrase}\r\n{lines}".encode("latin-1")


def _pairs(headers: Headers) -> Iterable[tuple[str, str]]:
    return headers.items() if isinstance(headers, Mapping) else headers


def _reset(client: socket.socket) -> None:
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.close()


def _listening(backlog: int) -> socket.socket:
    for _ in range(20):
        # A port that was asked for by its number stays bound when the socket stops listening: `over="refuse"`.
        with socket.socket() as free:
            free.bind((HOST, 0))
            port = free.getsockname()[1]
        listener = socket.socket()
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((HOST, port))
            listener.listen(backlog)
        except OSError:
            # Somebody else was quicker.
            listener.close()
            continue
        listener.setblocking(False)
        return listener
    raise OSError("no port was free in twenty trials")


def _check(name: str) -> None:
    if not _NAME.fullmatch(name):
        raise ValueError(f"'{name}' is no endpoint's name: letters, digits and _ . -")
