"""An HTTP(S) server on loopback that does to its connections what it is told, and keeps what it received."""

from __future__ import annotations

import socket
import ssl
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from io import BufferedReader
from typing import Final

_HANG_SECONDS: Final = 30.0


@dataclass(frozen=True)
class Received:
    """A request as it came: `headers` with lower-case names."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes


# What is done with a connection once a request came; True keeps it for another.
Behaviour = Callable[[socket.socket, Received], bool]


@dataclass
class OddServer:
    """Takes what is next of the path's own script; else what is next in `script`, and when that is used up `otherwise`.

    Of a path's own script the last behaviour stays.
    """

    port: int
    otherwise: Behaviour | None = None
    script: list[Behaviour] = field(default_factory=list)
    received: list[Received] = field(default_factory=list)
    connections: int = 0
    names: list[str | None] = field(default_factory=list)
    over: threading.Event = field(default_factory=threading.Event)
    at_once: Callable[[socket.socket], None] | None = None
    _scripts: dict[str, list[Behaviour]] = field(default_factory=dict)

    def url(self, path: str = "/") -> str:
        """The address of a path, in the clear."""
        return f"http://127.0.0.1:{self.port}{path}"

    def on(self, path: str, *behaviours: Behaviour) -> None:
        """Sets the behaviours of a path (without query)."""
        self._scripts[path] = list(behaviours)

    def serve(self, connection: socket.socket) -> None:
        """Serves one connection until a behaviour ends it."""
        with suppress(OSError), connection:
            if self.at_once is not None:
                self.at_once(connection)
                return
            with connection.makefile("rb") as incoming:
                while (request := _request(incoming)) is not None:
                    self.received.append(request)
                    if not self._next(request)(connection, request):
                        return

    def _next(self, request: Received) -> Behaviour:
        own = self._scripts.get(request.path.partition("?")[0])
        if own:
            return own.pop(0) if len(own) > 1 else own[0]
        if self.script:
            return self.script.pop(0)
        assert self.otherwise is not None, f"nothing is said of {request.path}"
        return self.otherwise


def _request(incoming: BufferedReader) -> Received | None:
    first = next(incoming, b"")
    if not first:
        return None
    method, path, _ = first.decode().split(" ")
    headers = {}
    for line in incoming:
        if line == b"\r\n":
            break
        name, _, value = line.decode().partition(":")
        headers[name.lower()] = value.strip()
    length = int(headers.get("content-length", "0"))
    return Received(method, path, headers, incoming.read(length))


@contextmanager
def odd_server(otherwise: Behaviour | None = None, *, context: ssl.SSLContext | None = None) -> Iterator[OddServer]:
    """A server of its own port, over TLS with a `context`; its connections end with it."""
    listening = socket.create_server(("127.0.0.1", 0), backlog=128)
    server = OddServer(listening.getsockname()[1], otherwise)
    if context is not None:
        context.sni_callback = lambda _, name, __: server.names.append(name)
    open_ones: list[socket.socket] = []

    def handle(connection: socket.socket) -> None:
        try:
            if context is not None:
                connection = context.wrap_socket(connection, server_side=True)
                open_ones.append(connection)
        except OSError:
            return
        server.serve(connection)

    def accept() -> None:
        with suppress(OSError):
            while True:
                connection, _ = listening.accept()
                server.connections += 1
                open_ones.append(connection)
                threading.Thread(target=handle, args=(connection,), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    try:
        yield server
    finally:
        server.over.set()
        # Closing alone does not wake who waits in accept.
        with suppress(OSError):
            listening.shutdown(socket.SHUT_RDWR)
        listening.close()
        for connection in open_ones:
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
            connection.close()


def answer(
    status: int = 200,
    body: bytes = b"",
    headers: dict[str, str] | None = None,
    *,
    version: str = "1.1",
    length: int | None = None,
) -> Behaviour:
    """A response as it should be, but for the `length` that it may be told to say; then it ends the connection."""

    def behave(connection: socket.socket, request: Received) -> bool:
        lines = [f"HTTP/{version} {status} Whatever", f"Content-Length: {len(body) if length is None else length}"]
        lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
        head = "\r\n".join([*lines, "", ""]).encode()
        connection.sendall(head if request.method == "HEAD" else head + body)
        return version == "1.1" and length is None

    return behave


def by_request(choose: Callable[[Received], Behaviour]) -> Behaviour:
    """What `choose` says of the request."""
    return lambda connection, request: choose(request)(connection, request)


def raw(*parts: bytes, keep: bool = False) -> Behaviour:
    """These bytes, whatever they are, and the end of the connection unless it is kept."""

    def behave(connection: socket.socket, _: Received) -> bool:
        for part in parts:
            connection.sendall(part)
        return keep

    return behave


def reset(*parts: bytes) -> Behaviour:
    """These bytes, then a reset of the connection."""

    def behave(connection: socket.socket, _: Received) -> bool:
        for part in parts:
            connection.sendall(part)
        cut(connection)
        return False

    return behave


def cut(connection: socket.socket) -> None:
    """Resets a connection."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


def hang(*parts: bytes) -> Behaviour:
    """These bytes, and then nothing until the other side goes."""

    def behave(connection: socket.socket, _: Received) -> bool:
        for part in parts:
            connection.sendall(part)
        connection.settimeout(_HANG_SECONDS)
        while connection.recv(1024):
            pass
        return False

    return behave


def drip(server: OddServer, first: bytes, each: bytes, seconds: float) -> Behaviour:
    """`first`, and `each` after every so many seconds, for as long as somebody takes it."""

    def behave(connection: socket.socket, _: Received) -> bool:
        connection.sendall(first)
        while not server.over.wait(seconds):
            connection.sendall(each)
        return False

    return behave


def flood(first: bytes = b"HTTP/1.1 200 OK\r\n\r\n", each: bytes = b"x" * 65_536) -> Behaviour:
    """`first`, and `each` without an end."""

    def behave(connection: socket.socket, _: Received) -> bool:
        connection.sendall(first)
        while True:
            connection.sendall(each)

    return behave
