"""A small HTTP server on loopback that does what it is told, request by request, and keeps what it received."""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Final

Act = Callable[[socket.socket], None]

_HANG_SECONDS: Final = 30.0


@dataclass(frozen=True)
class Request:
    """What came: the request line's parts, headers with lower-case names, the body."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes


@dataclass
class Loopback:
    """`script` is what it does with the next requests, one after the other; then it goes on with `otherwise`."""

    port: int
    otherwise: Act
    script: list[Act] = field(default_factory=list)
    received: list[Request] = field(default_factory=list)
    stopping: threading.Event = field(default_factory=threading.Event)

    def url(self, path: str = "/") -> str:
        """The address of a path."""
        return f"http://127.0.0.1:{self.port}{path}"

    def serve(self, connection: socket.socket) -> None:
        """Takes the requests of one connection, one each."""
        with connection:
            connection.settimeout(_HANG_SECONDS)
            request = _read(connection)
            if request is None:
                return
            self.received.append(request)
            act = self.script.pop(0) if self.script else self.otherwise
            try:
                act(connection)
            except OSError:
                return


def answers(
    status: int, body: bytes = b"", headers: Mapping[str, str] | None = None, *, length: int | None = None
) -> Act:
    """Answers; `length` is what it says of the body's."""
    said = {"Content-Length": str(len(body) if length is None else length), "Connection": "close", **(headers or {})}
    head = f"HTTP/1.1 {status} X\r\n" + "".join(f"{name}: {value}\r\n" for name, value in said.items()) + "\r\n"
    return lambda connection: connection.sendall(head.encode() + body)


def hangs(seconds: float = _HANG_SECONDS) -> Act:
    """Says nothing, until the other side goes or the time is up."""

    def act(connection: socket.socket) -> None:
        connection.settimeout(seconds)
        while connection.recv(1024):
            pass

    return act


def resets(connection: socket.socket) -> None:
    """Breaks the connection off."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def floods(connection: socket.socket) -> None:
    """Sends a body without an end."""
    connection.sendall(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n")
    while True:
        connection.sendall(b"x" * 65_536)


def talks_nonsense(connection: socket.socket) -> None:
    """Is no HTTP server."""
    connection.sendall(b"220 mail.example ESMTP ready\r\n")


@contextmanager
def loopback(otherwise: Act) -> Iterator[Loopback]:
    """A server on a free port of 127.0.0.1."""
    with socket.create_server(("127.0.0.1", 0), backlog=64) as listener:
        listener.settimeout(0.1)
        server = Loopback(listener.getsockname()[1], otherwise)

        def accept() -> None:
            while not server.stopping.is_set():
                try:
                    connection, _ = listener.accept()
                except TimeoutError:
                    continue
                threading.Thread(target=server.serve, args=(connection,), daemon=True).start()

        thread = threading.Thread(target=accept)
        thread.start()
        try:
            yield server
        finally:
            server.stopping.set()
            thread.join()


def _read(connection: socket.socket) -> Request | None:
    content = b""
    while b"\r\n\r\n" not in content:
        part = connection.recv(65_536)
        if not part:
            return None
        content += part
    head, _, body = content.partition(b"\r\n\r\n")
    first, *lines = head.decode("latin-1").split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    while len(body) < int(headers.get("content-length", "0")):
        body += connection.recv(65_536)
    method, path, _ = first.split(" ")
    return Request(method, path, headers, body)
