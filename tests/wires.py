"""A server without sockets: what an endpoint answers byte for byte, below the clients' own streams and parsers.

A `Wire` stands for the server's end of one connection. `async_wires` and `sync_wires` put wires in the place of the
sockets that the two pools connect, and leave everything above as it is. Nothing waits: a read of what never comes ends
as its time-out does, at once (`IdleLoop` for asyncio).
"""

from __future__ import annotations

import asyncio
import re
import selectors
import socket
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final, Literal, cast

import pytest

from offload.runtime.http import async_connect, connect

_HEAD: Final = re.compile(rb"(?s)(.*?)\r\n\r\n")
_LENGTH: Final = re.compile(rb"(?im)^content-length: *([0-9]+)\r?$")
MARK: Final = "webhook-id"
"""The header whose value an endpoint that is well sends back: by it a request knows its own answer."""


@dataclass(frozen=True)
class Script:
    """What an endpoint answers: pieces as they come, and what it does with the connection then."""

    pieces: tuple[bytes, ...]
    end: Literal["open", "closed", "reset"] = "open"


@dataclass
class Server:
    """All endpoints, each by its path; one without a script is well, and sends its request's mark back."""

    scripts: dict[str, Script] = field(default_factory=dict)
    connections: int = 0

    def answer(self, path: str, headers: Mapping[str, str]) -> Script:
        """What a request is answered with."""
        mark = headers.get(MARK, "")
        body = f"mine: {mark}".encode()
        well = f"HTTP/1.1 200 OK\r\n{MARK}: {mark}\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body
        return self.scripts.get(path) or Script((well,))


class Wire:
    """The server's end of one connection."""

    def __init__(self, server: Server) -> None:
        server.connections += 1
        self._server = server
        self._came = b""

    def take(self, content: bytes) -> Script | None:
        """Takes what the client wrote; the answer once a request is whole."""
        self._came += content
        head = _HEAD.match(self._came)
        if head is None:
            return None
        length = _LENGTH.search(head[0])
        end = head.end() + (int(length[1]) if length else 0)
        if len(self._came) < end:
            return None
        self._came = self._came[end:]
        first, *lines = head[1].decode("latin-1").split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        return self._server.answer(first.split(" ")[1], headers)


class _Transport(asyncio.Transport):
    """A connection as asyncio has it."""

    # Nothing ever comes on it: what is in the kernel is all with the loop already.
    _idle: Final = socket.socketpair()

    def __init__(self, protocol: asyncio.Protocol, wire: Wire, pauses: Callable[[], float]) -> None:
        super().__init__()
        self._protocol = protocol
        self._wire = wire
        self._pauses = pauses
        self._loop = asyncio.get_running_loop()
        self._closing = False
        self._paused = False
        self._coming: list[Callable[[], None]] = []

    def write(self, data: Any) -> None:
        script = self._wire.take(bytes(data))
        if script is None:
            return
        self._coming += [partial(self._protocol.data_received, piece) for piece in script.pieces]
        if script.end != "open":
            self._coming.append(partial(self._end, script.end))
        self._later()

    def _later(self) -> None:
        # One after the other: two of one moment may change places.
        if self._coming and not self._paused:
            self._loop.call_later(self._pauses(), self._next)

    def _next(self) -> None:
        if self._coming and not self._paused and not self._closing:
            self._coming.pop(0)()
            self._later()

    def _end(self, how: str) -> None:
        self._closing = True
        if how == "closed":
            self._protocol.eof_received()
        self._protocol.connection_lost(ConnectionResetError("reset by the other side") if how == "reset" else None)

    def pause_reading(self) -> None:
        self._paused = True

    def resume_reading(self) -> None:
        if self._paused:
            self._paused = False
            self._later()

    def is_closing(self) -> bool:
        return self._closing

    def abort(self) -> None:
        if not self._closing:
            self._closing = True
            self._loop.call_soon(self._protocol.connection_lost, None)

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        pass

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return self._idle[0] if name == "socket" else default


class _Socket:
    """A connection as the blocking client has it."""

    def __init__(self, wire: Wire) -> None:
        self._wire = wire
        self._coming: list[bytes] = []
        self._end = "open"
        self._timeout: float | None = None

    def settimeout(self, seconds: float | None) -> None:
        self._timeout = seconds

    def send(self, content: Any) -> int:
        if self._end != "open":
            raise BrokenPipeError("closed by the other side")
        script = self._wire.take(bytes(content))
        if script is not None:
            self._coming += [piece for piece in script.pieces if piece]
            self._end = script.end
        return len(content)

    def recv(self, most: int) -> bytes:
        if self._coming:
            piece = self._coming.pop(0)
            if len(piece) > most:
                self._coming.insert(0, piece[most:])
            return piece[:most]
        if self._end == "reset":
            raise ConnectionResetError("reset by the other side")
        if self._end == "closed":
            return b""
        if self._timeout == 0:
            raise BlockingIOError
        raise TimeoutError

    def close(self) -> None:
        self._end = "closed"


class _Impatient(selectors.DefaultSelector):
    """A selector that waits for nothing: the loop's time moves instead."""

    loop: IdleLoop

    def select(self, timeout: float | None = None) -> Any:
        found = super().select(0)
        if not found and timeout:
            self.loop.passed += timeout
        return found


class IdleLoop(asyncio.SelectorEventLoop):
    """An event loop whose time passes at once while there is nothing to do."""

    def __init__(self) -> None:
        self.passed = 0.0
        selector = _Impatient()
        selector.loop = self
        super().__init__(selector)

    def time(self) -> float:
        """Seconds of this loop."""
        return self.passed


@contextmanager
def async_wires(server: Server, pauses: Callable[[], float]) -> Iterator[None]:
    """Every connection of the asynchronous pool leads to `server`; `pauses` gives the seconds before each piece."""

    async def connected(*_: object) -> async_connect._Stream:
        protocol = async_connect._Protocol()
        transport = _Transport(protocol, Wire(server), pauses)
        protocol.connection_made(transport)
        return async_connect._Stream(transport, protocol)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(async_connect, "_connected", connected)
        yield


@contextmanager
def sync_wires(server: Server) -> Iterator[None]:
    """Every connection of the blocking pool leads to `server`."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(connect, "_connected", lambda *_: connect._Stream(cast(socket.socket, _Socket(Wire(server)))))
        yield
