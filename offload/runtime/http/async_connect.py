"""The same as `connect.py` for asyncio: many calls at once in one event loop, with a pool of guarded connections.

A connection is read all the time, so that what comes on an idle one is seen before it is used again, TLS or not. A
connection that a URL was `owned` for is used for its owner alone.
"""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import AsyncIterable, AsyncIterator, Iterable
from concurrent.futures import Executor, ThreadPoolExecutor
from typing import Any, Final, cast

import httpcore

from offload.runtime.http.connect import (
    LOOKUPS,
    Deadline,
    Resolve,
    addresses_of,
    endless,
    is_address,
    is_readable,
    no_sockets_of_unix,
    nowhere,
    tls,
)
from offload.runtime.http.exchange import READ, Exchange, Pooled, State, only_empty_lines, response_of
from offload.runtime.http.guard import Guard

_CONNECTIONS: Final = 10
_KEEPALIVE_SECONDS: Final = 30.0
# What is held in memory of what nobody has read yet.
_LONGEST_UNREAD: Final = 256 * 1024
# The loop needs two to hand over what is in the kernel: one to see it, and one to call the protocol.
_TURNS: Final = 3


class AsyncGuardedBackend(httpcore.AsyncNetworkBackend):
    """Connects to what the guard lets through. Total time is its caller's. Lookups run in threads of its own."""

    def __init__(self, guard: Guard, resolve: Resolve = addresses_of, executor: Executor | None = None) -> None:
        self._guard = guard
        self._resolve = resolve
        # asyncio's own executor has a few threads, which other work waits for; one dead name server would take them.
        self._executor = executor or ThreadPoolExecutor(LOOKUPS, thread_name_prefix="resolve")

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> _Stream:
        """A stream to the first of the host's addresses that answers, each given its share of `timeout` (seconds).

        Raises AddressRefused, and httpcore's ConnectError and ConnectTimeout.
        """
        if local_address is not None or socket_options:
            raise httpcore.UnsupportedProtocol("a connection from a chosen address, or with options, is not offered")
        within = Deadline(endless(timeout))
        addresses = self._guard.checked(host, port, await self._addresses(host, port, within))
        failed: Exception = nowhere(host)
        for index, address in enumerate(addresses):
            share = within.left() / (len(addresses) - index)
            if share <= 0:
                raise httpcore.ConnectTimeout(f"no connection to '{host}' in time")
            try:
                return await _connected(str(address), port, share)
            except TimeoutError:
                failed = httpcore.ConnectTimeout(f"no connection to '{host}' ({address}) in time")
            except OSError as error:
                failed = httpcore.ConnectError(f"no connection to '{host}' ({address}): {error}")
        raise failed

    async def connect_unix_socket(
        self,
        path: str,
        timeout: float | None = None,  # noqa: ARG002 -- httpcore's signature
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,  # noqa: ARG002 -- httpcore's signature
    ) -> httpcore.AsyncNetworkStream:
        """Always refused."""
        raise no_sockets_of_unix(path)

    async def sleep(self, seconds: float) -> None:
        """Waits."""
        await asyncio.sleep(seconds)

    async def _addresses(self, host: str, port: int, within: Deadline) -> Iterable[str]:
        if is_address(host):
            return (host,)
        try:
            async with asyncio.timeout(_seconds(within.left())):
                return await asyncio.get_running_loop().run_in_executor(self._executor, self._resolve, host, port)
        except TimeoutError as error:
            raise httpcore.ConnectTimeout(f"the name '{host}' was not resolved in time") from error
        except (OSError, UnicodeError) as error:
            raise httpcore.ConnectError(f"the name '{host}' was not resolved: {error}") from error


class _Protocol(asyncio.Protocol):
    """What asyncio tells of a connection."""

    def __init__(self) -> None:
        self.unread = bytearray()
        self.over = False
        self.error: Exception | None = None
        self.news = asyncio.Event()
        self.writable = asyncio.Event()
        self.writable.set()
        self.transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        # Written is what the kernel has: the time-outs are for that.
        self.transport.set_write_buffer_limits(0)

    def data_received(self, data: bytes) -> None:
        self.unread += data
        self.news.set()
        if len(self.unread) > _LONGEST_UNREAD and self.transport is not None:
            self.transport.pause_reading()

    def taken(self, longest: int) -> bytes:
        """So much of what came, at most."""
        came = bytes(self.unread[:longest])
        del self.unread[:longest]
        if len(self.unread) <= _LONGEST_UNREAD and self.transport is not None and not self.transport.is_closing():
            self.transport.resume_reading()
        return came

    def eof_received(self) -> None:
        self.over = True
        self.news.set()

    def connection_lost(self, exc: Exception | None) -> None:
        self.over = True
        self.error = exc
        self.news.set()
        self.writable.set()

    def pause_writing(self) -> None:
        self.writable.clear()

    def resume_writing(self) -> None:
        self.writable.set()


class _Stream(httpcore.AsyncNetworkStream):
    """A connected socket. Its transport reads ahead, up to a bound."""

    def __init__(self, transport: asyncio.Transport, protocol: _Protocol) -> None:
        self._transport = transport
        self._protocol = protocol
        protocol.transport = transport

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        protocol = self._protocol
        try:
            async with asyncio.timeout(timeout):
                while not protocol.unread and not protocol.over:
                    protocol.news.clear()
                    await protocol.news.wait()
        except TimeoutError as error:
            raise httpcore.ReadTimeout("nothing came in time") from error
        came = protocol.taken(max_bytes)
        if not came and protocol.error is not None:
            raise httpcore.ReadError(str(protocol.error)) from protocol.error
        return came

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:
        if not buffer:
            return
        if self._transport.is_closing():
            raise httpcore.WriteError("the other side closed the connection")
        self._transport.write(buffer)
        try:
            async with asyncio.timeout(timeout):
                await self._protocol.writable.wait()
        except TimeoutError as error:
            raise httpcore.WriteTimeout("the other side did not take what was sent in time") from error
        if self._protocol.error is not None:
            raise httpcore.WriteError(str(self._protocol.error)) from self._protocol.error

    async def aclose(self) -> None:
        self.abort()
        # The loop closes the socket in its next turns.
        for _ in range(_TURNS):
            await asyncio.sleep(0)

    def abort(self) -> None:
        """Closes it without waiting for anything that the other side should do."""
        self._transport.abort()

    async def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> _Stream:
        try:
            async with asyncio.timeout(timeout):
                made = await asyncio.get_running_loop().start_tls(
                    self._transport, self._protocol, ssl_context, server_hostname=server_hostname
                )
        except TimeoutError as error:
            self.abort()
            raise httpcore.ConnectTimeout(f"no TLS with '{server_hostname}' in time") from error
        except OSError as error:
            self.abort()
            raise httpcore.ConnectError(f"no TLS with '{server_hostname}': {error}") from error
        except BaseException:
            self.abort()
            raise
        if made is None or self._protocol.unread:
            # What came in the clear would be read as if it had come by TLS.
            self.abort()
            raise httpcore.ConnectError(f"no TLS with '{server_hostname}': there was an answer before it")
        return _Stream(made, self._protocol)

    def get_extra_info(self, info: str) -> Any:
        match info:
            case "ssl_object":
                return self._transport.get_extra_info("ssl_object")
            case "client_addr":
                return self._transport.get_extra_info("sockname")
            case "server_addr":
                return self._transport.get_extra_info("peername")
            case "socket":
                return self._transport.get_extra_info("socket")
            case "is_readable":
                return not self.quiet()
        return None

    def quiet(self) -> bool:
        """Whether nothing came since the last answer, as far as the loop knows; empty lines are discarded."""
        if only_empty_lines(bytes(self._protocol.unread)):
            self._protocol.unread.clear()
        return not self._protocol.unread and not self._protocol.over and not self._transport.is_closing()

    async def settled(self) -> bool:
        """The same, when the loop was given what is in the kernel."""
        for _ in range(_TURNS):
            if self._transport.is_closing() or not is_readable(self._transport.get_extra_info("socket")):
                return self.quiet()
            await asyncio.sleep(0)
        return False


async def _connected(address: str, port: int, timeout: float) -> _Stream:
    async with asyncio.timeout(_seconds(timeout)):
        transport, protocol = await asyncio.get_running_loop().create_connection(_Protocol, address, port)
    return _Stream(transport, protocol)


def _seconds(timeout: float) -> float | None:
    return None if timeout == float("inf") else timeout


class _Connection(Pooled, httpcore.AsyncConnectionInterface):
    """One connection of the pool, used again only where the last answer ended and nothing followed it."""

    def __init__(
        self, origin: httpcore.Origin, backend: AsyncGuardedBackend, context: ssl.SSLContext, keepalive_seconds: float
    ) -> None:
        super().__init__(origin)
        self._backend = backend
        self._context = context
        self._keepalive_seconds = keepalive_seconds
        self._expires_at = 0.0
        self._stream: _Stream | None = None

    async def handle_async_request(self, request: httpcore.Request) -> httpcore.Response:
        if self._state not in (State.NEW, State.IDLE):
            raise httpcore.ConnectionNotAvailable
        self._state = State.BUSY
        if self._stream is not None and not await self._settled(self._stream):
            # The pool takes another one.
            raise httpcore.ConnectionNotAvailable
        limits = request.extensions.get("timeout", {})
        try:
            if self._stream is None:
                self._stream = await self._connect(limits.get("connect"))
            exchange = Exchange(request)
            await self._send(self._stream, exchange, request, limits.get("write"))
            while (head := exchange.answer()) is None:
                exchange.receive(await self._stream.read(READ, limits.get("read")))
        except BaseException:
            self._abandon()
            raise
        return response_of(head, _Body(self, self._stream, exchange, limits.get("read")))

    async def _settled(self, stream: _Stream) -> bool:
        well = False
        try:
            well = await stream.settled()
        finally:
            if not well:
                self._abandon()
        return well

    async def _connect(self, timeout: float | None) -> _Stream:
        host = self._origin.host.decode("ascii")
        stream = await self._backend.connect_tcp(host, self._origin.port, timeout)
        return await stream.start_tls(self._context, host, timeout) if self._origin.scheme == b"https" else stream

    async def _send(
        self, stream: _Stream, exchange: Exchange, request: httpcore.Request, timeout: float | None
    ) -> None:
        try:
            await stream.write(exchange.head(), timeout)
            async for content in cast(AsyncIterable[bytes], request.stream):
                await stream.write(exchange.piece(content), timeout)
            await stream.write(exchange.end(), timeout)
        except httpcore.WriteError:
            # A server may answer and close before it has read everything.
            return
        exchange.sent()

    async def release(self, exchange: Exchange) -> None:
        """The answer is not read any further."""
        if not exchange.reusable:
            await self.aclose()
            return
        self._expires_at = time.monotonic() + self._keepalive_seconds
        self._state = State.IDLE

    def _abandon(self) -> None:
        self._state = State.CLOSED
        if self._stream is not None:
            self._stream.abort()

    async def aclose(self) -> None:
        self._state = State.CLOSED
        if self._stream is not None:
            await self._stream.aclose()

    def has_expired(self) -> bool:
        if self._state is not State.IDLE or self._stream is None:
            return False
        return time.monotonic() > self._expires_at or not self._stream.quiet()


class _Body:
    """The body of an answer, which has to be closed."""

    def __init__(self, connection: _Connection, stream: _Stream, exchange: Exchange, timeout: float | None) -> None:
        self._connection = connection
        self._stream = stream
        self._exchange = exchange
        self._timeout = timeout
        self._closed = False

    async def __aiter__(self) -> AsyncIterator[bytes]:
        while not self._exchange.over:
            content = self._exchange.body()
            if content is not None:
                yield content
            elif not self._exchange.over:
                self._exchange.receive(await self._stream.read(READ, self._timeout))

    async def aclose(self) -> None:
        if not self._closed:
            self._closed = True
            await self._connection.release(self._exchange)


class _OwnedOrigin(httpcore.Origin):
    """An origin as one owner sees it."""

    def __init__(self, origin: httpcore.Origin, owner: str) -> None:
        super().__init__(origin.scheme, origin.host, origin.port)
        self._owner = owner

    def __eq__(self, other: object) -> bool:
        return super().__eq__(other) and isinstance(other, _OwnedOrigin) and self._owner == other._owner


class OwnedUrl(httpcore.URL):
    """A URL whose connections are used for `owner` alone.

    What comes late, when the next request is already under way, cannot be told from its answer (RFC 9112 section 9.2):
    so it is never another owner's request.
    """

    def __init__(self, *, scheme: str, host: str, port: int, target: str, owner: str) -> None:
        super().__init__(scheme=scheme, host=host, port=port, target=target)
        self._owner = owner

    @property
    def origin(self) -> httpcore.Origin:
        """Where it leads, for this owner."""
        return _OwnedOrigin(super().origin, self._owner)


class _Pool(httpcore.AsyncConnectionPool):
    """The pool of such connections."""

    def __init__(
        self, backend: AsyncGuardedBackend, context: ssl.SSLContext, connections: int, keepalive_seconds: float
    ) -> None:
        super().__init__(max_connections=connections, max_keepalive_connections=connections)
        context.set_alpn_protocols(["http/1.1"])
        self._backend = backend
        self._context = context
        self._keepalive_seconds = keepalive_seconds

    def create_connection(self, origin: httpcore.Origin) -> httpcore.AsyncConnectionInterface:
        return _Connection(origin, self._backend, self._context, self._keepalive_seconds)


def async_pool(
    guard: Guard,
    *,
    resolve: Resolve = addresses_of,
    context: ssl.SSLContext | None = None,
    connections: int = _CONNECTIONS,
    keepalive_seconds: float = _KEEPALIVE_SECONDS,
) -> httpcore.AsyncConnectionPool:
    """HTTP/1.1 over guarded connections: no proxies, no retries, at most `connections` at once, for all hosts.

    httpcore needs anyio for it: the function lists `httpcore[asyncio]` in its requirements.
    """
    return _Pool(AsyncGuardedBackend(guard, resolve), context or tls(), connections, keepalive_seconds)
