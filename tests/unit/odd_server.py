"""An HTTP(S) server on loopback that behaves as badly as it is told, by path, and keeps what it received."""

from __future__ import annotations

import socket
import ssl
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from io import BufferedReader


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
    """`on` says what is done with the first, second … request of a path; the last behaviour stays."""

    port: int
    requests: list[Received] = field(default_factory=list)
    connections: int = 0
    names: list[str | None] = field(default_factory=list)
    over: threading.Event = field(default_factory=threading.Event)
    at_once: Callable[[socket.socket], None] | None = None
    _scripts: dict[str, list[Behaviour]] = field(default_factory=dict)

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
                    self.requests.append(request)
                    script = self._scripts[request.path.partition("?")[0]]
                    behaviour = script.pop(0) if len(script) > 1 else script[0]
                    if not behaviour(connection, request):
                        return


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
def odd_server(context: ssl.SSLContext | None = None) -> Iterator[OddServer]:
    """A server of its own port, over TLS with a `context`; its connections end with it."""
    listening = socket.create_server(("127.0.0.1", 0), backlog=128)
    server = OddServer(listening.getsockname()[1])
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
    status: int = 200, body: bytes = b"", headers: dict[str, str] | None = None, version: str = "1.1"
) -> Behaviour:
    """A response as it should be."""

    def behave(connection: socket.socket, request: Received) -> bool:
        lines = [f"HTTP/{version} {status} Whatever", f"Content-Length: {len(body)}"]
        lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
        head = "\r\n".join([*lines, "", ""]).encode()
        connection.sendall(head if request.method == "HEAD" else head + body)
        return version == "1.1"

    return behave


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


def hang(server: OddServer, *parts: bytes) -> Behaviour:
    """These bytes, and then nothing for as long as the server lives."""

    def behave(connection: socket.socket, _: Received) -> bool:
        for part in parts:
            connection.sendall(part)
        server.over.wait()
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


def flood(first: bytes, each: bytes, sent: list[int]) -> Behaviour:
    """`first`, and `each` without an end; `sent` gets the number of bytes that were taken."""

    def behave(connection: socket.socket, _: Received) -> bool:
        count = 0
        try:
            connection.sendall(first)
            while True:
                connection.sendall(each)
                count += len(each)
        finally:
            sent.append(count)

    return behave
