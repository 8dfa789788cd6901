"""The connections of calls out: a host's addresses are looked up once, checked, and one of those is connected to.

These are network backends of httpcore. What they check is what they connect to, so that a name which answers
differently the second time leads nowhere. TLS is for the host as it was written: httpcore hands that to `start_tls`.
"""

from __future__ import annotations

import select
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextvars import ContextVar, Token
from functools import lru_cache
from ipaddress import ip_address
from types import TracebackType
from typing import Any, Final, Self

import httpcore

from offload.contracts.egress import Address
from offload.runtime.http.guard import AddressRefused, Guard

Resolve = Callable[[str, int], Sequence[str]]

# A handler calls one third party at a time, mostly; an idle connection costs nothing.
_CONNECTIONS: Final = 10
# Servers close idle connections after 5 s (Node) to 75 s (nginx); an invocation may come long after the last.
_KEEPALIVE_SECONDS: Final = 30.0
# Lookups at the same time. A name server that hangs holds each for some 10 s (resolv.conf(5): 5 s, 2 attempts).
_LOOKUPS: Final = 64

_current: ContextVar[Deadline | None] = ContextVar("deadline", default=None)


class Deadline:
    """The time by which everything that is done within it must be over: `with Deadline(20):`.

    The time-outs of httpcore are for one read or write each, so that a server which sends a byte a second never meets
    one. The streams of GuardedBackend never wait beyond the deadline around them. One within another can only be
    shorter.
    """

    def __init__(self, seconds: float, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self._until = monotonic() + seconds
        self._token: Token[Deadline | None] | None = None

    def left(self) -> float:
        """Seconds that are left; negative once it is over."""
        return self._until - self._monotonic()

    def __enter__(self) -> Self:
        around = _current.get()
        if around is not None:
            self._until = min(self._until, self._monotonic() + around.left())
        self._token = _current.set(self)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._token is not None:
            _current.reset(self._token)


def _bounded(timeout: float | None, late: type[httpcore.TimeoutException]) -> float | None:
    """The time-out, or what the deadline leaves of it; raises `late` when nothing is left."""
    deadline = _current.get()
    if deadline is None:
        return timeout
    left = deadline.left()
    if left <= 0:
        raise late("the total time is over")
    return left if timeout is None else min(left, timeout)


def addresses_of(host: str, port: int) -> list[str]:
    """What the system's resolver says; raises OSError."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return [str(entry[4][0]) for entry in found]


class GuardedBackend(httpcore.NetworkBackend):
    """Connects to what the guard lets through, within the Deadline around the call; `resolve` gives a host's addresses.

    `connect_tcp` raises AddressRefused, and httpcore's ConnectError and ConnectTimeout.
    """

    def __init__(self, guard: Guard, resolve: Resolve = addresses_of) -> None:
        self._guard = guard
        self._resolve = resolve

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.NetworkStream:
        """A stream to the first of the host's addresses that answers, each given its share of `timeout` (seconds)."""
        if local_address is not None:
            raise httpcore.UnsupportedProtocol("a connection from a chosen address is not offered")
        within = Deadline(_endless(_bounded(timeout, httpcore.ConnectTimeout)))
        addresses = self._guard.checked(host, port, self._addresses(host, port, within))
        failed: Exception = _nowhere(host)
        for index, address in enumerate(addresses):
            share = within.left() / (len(addresses) - index)
            if share <= 0:
                raise httpcore.ConnectTimeout(f"no connection to '{host}' in time")
            try:
                return _connected(address, port, share, socket_options or ())
            except TimeoutError:
                failed = httpcore.ConnectTimeout(f"no connection to '{host}' ({address}) in time")
            except OSError as error:
                failed = httpcore.ConnectError(f"no connection to '{host}' ({address}): {error}")
        raise failed

    def connect_unix_socket(
        self,
        path: str,
        timeout: float | None = None,  # noqa: ARG002 -- httpcore's signature
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,  # noqa: ARG002 -- httpcore's signature
    ) -> httpcore.NetworkStream:
        """Always refused."""
        raise _no_sockets_of_unix(path)

    def _addresses(self, host: str, port: int, within: Deadline) -> Sequence[str]:
        if _is_address(host):
            return (host,)
        # The resolver has time-outs of its own, longer than ours, and cannot be interrupted.
        answer: Future[Sequence[str]] = Future()
        threading.Thread(target=_answer, args=(answer, self._resolve, host, port), daemon=True).start()
        try:
            return answer.result(min(within.left(), threading.TIMEOUT_MAX))
        except TimeoutError as error:
            raise httpcore.ConnectTimeout(f"the name '{host}' was not resolved in time") from error
        except (OSError, UnicodeError) as error:
            raise httpcore.ConnectError(f"the name '{host}' was not resolved: {error}") from error


class AsyncGuardedBackend(httpcore.AsyncNetworkBackend):
    """The same for asyncio. Total time is its caller's, by `asyncio.timeout`. Lookups run in threads of its own."""

    def __init__(self, guard: Guard, resolve: Resolve = addresses_of, executor: Executor | None = None) -> None:
        self._guard = guard
        self._resolve = resolve
        # asyncio's own executor has a few threads, which other work waits for; one dead name server would take them.
        self._executor = executor or ThreadPoolExecutor(_LOOKUPS, thread_name_prefix="resolve")
        self._inner = httpcore.AnyIOBackend()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        """A stream to the first of the host's addresses that answers, each given its share of `timeout` (seconds)."""
        if local_address is not None:
            raise httpcore.UnsupportedProtocol("a connection from a chosen address is not offered")
        within = Deadline(_endless(timeout))
        addresses = self._guard.checked(host, port, await self._addresses(host, port, within))
        failed: Exception = _nowhere(host)
        for index, address in enumerate(addresses):
            share = within.left() / (len(addresses) - index)
            if share <= 0:
                raise httpcore.ConnectTimeout(f"no connection to '{host}' in time")
            try:
                return await self._inner.connect_tcp(str(address), port, share, None, socket_options)
            except httpcore.ConnectTimeout:
                failed = httpcore.ConnectTimeout(f"no connection to '{host}' ({address}) in time")
            except httpcore.ConnectError as error:
                failed = httpcore.ConnectError(f"no connection to '{host}' ({address}): {error}")
        raise failed

    async def connect_unix_socket(
        self,
        path: str,
        timeout: float | None = None,  # noqa: ARG002 -- httpcore's signature
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,  # noqa: ARG002 -- httpcore's signature
    ) -> httpcore.AsyncNetworkStream:
        """Always refused."""
        raise _no_sockets_of_unix(path)

    async def sleep(self, seconds: float) -> None:
        """Waits."""
        import asyncio

        await asyncio.sleep(seconds)

    async def _addresses(self, host: str, port: int, within: Deadline) -> Sequence[str]:
        # Handlers that call one after the other need none of it, and their cold start would wait 60 ms for it.
        import asyncio

        if _is_address(host):
            return (host,)
        try:
            async with asyncio.timeout(within.left()):
                return await asyncio.get_running_loop().run_in_executor(self._executor, self._resolve, host, port)
        except TimeoutError as error:
            raise httpcore.ConnectTimeout(f"the name '{host}' was not resolved in time") from error
        except (OSError, UnicodeError) as error:
            raise httpcore.ConnectError(f"the name '{host}' was not resolved: {error}") from error


class _Stream(httpcore.NetworkStream):
    """A connected socket; no wait on it is longer than the Deadline around it."""

    def __init__(self, connected: socket.socket) -> None:
        self._socket = connected

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        try:
            self._socket.settimeout(_bounded(timeout, httpcore.ReadTimeout))
            return self._socket.recv(max_bytes)
        except TimeoutError as error:
            raise httpcore.ReadTimeout("nothing came in time") from error
        except OSError as error:
            raise httpcore.ReadError(str(error)) from error

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        left = memoryview(buffer)
        try:
            while left:
                self._socket.settimeout(_bounded(timeout, httpcore.WriteTimeout))
                left = left[self._socket.send(left) :]
        except TimeoutError as error:
            raise httpcore.WriteTimeout("the other side did not take what was sent in time") from error
        except OSError as error:
            raise httpcore.WriteError(str(error)) from error

    def close(self) -> None:
        self._socket.close()

    def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.NetworkStream:
        try:
            # The handshake as a whole is within the time-out: the interpreter's ssl keeps a deadline for it.
            self._socket.settimeout(_bounded(timeout, httpcore.ConnectTimeout))
            return _Stream(ssl_context.wrap_socket(self._socket, server_hostname=server_hostname))
        except TimeoutError as error:
            self.close()
            raise httpcore.ConnectTimeout(f"no TLS with '{server_hostname}' in time") from error
        except OSError as error:
            self.close()
            raise httpcore.ConnectError(f"no TLS with '{server_hostname}': {error}") from error

    def get_extra_info(self, info: str) -> Any:
        match info:
            case "ssl_object":
                return self._socket if isinstance(self._socket, ssl.SSLSocket) else None
            case "client_addr":
                return self._socket.getsockname()
            case "server_addr":
                return self._socket.getpeername()
            case "socket":
                return self._socket
            case "is_readable":
                return _is_readable(self._socket)
        return None


def _connected(
    address: Address, port: int, timeout: float, socket_options: Iterable[httpcore.SOCKET_OPTION]
) -> httpcore.NetworkStream:
    made = socket.socket(socket.AF_INET if address.version == 4 else socket.AF_INET6, socket.SOCK_STREAM)
    try:
        made.settimeout(timeout if timeout != float("inf") else None)
        for option in socket_options:
            made.setsockopt(*option)
        made.connect((str(address), port))
        made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    except OSError:
        made.close()
        raise
    return _Stream(made)


def _is_readable(connected: socket.socket) -> bool:
    """Whether something came, or the other side has closed: then an idle connection is of no use."""
    if connected.fileno() < 0:
        return True
    poll = select.poll()
    poll.register(connected, select.POLLIN)
    return bool(poll.poll(0))


def _is_address(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return False
    return True


def _answer(answer: Future[Sequence[str]], resolve: Resolve, host: str, port: int) -> None:
    try:
        answer.set_result(resolve(host, port))
    except Exception as error:  # noqa: BLE001 -- it is raised where the answer is waited for
        answer.set_exception(error)


def _endless(timeout: float | None) -> float:
    return float("inf") if timeout is None else timeout


def _nowhere(host: str) -> httpcore.ConnectError:
    return httpcore.ConnectError(f"the name '{host}' has no address")


def _no_sockets_of_unix(path: str) -> AddressRefused:
    return AddressRefused("unix-socket", path, "is on this machine", "nothing allows it")


@lru_cache(maxsize=4)
def tls(cafile: str | None = None) -> ssl.SSLContext:
    """The one context for all calls, as reading the certificates takes long: verifies, and takes TLS 1.2 and later.

    It trusts what the system trusts, or the file in the variable SSL_CERT_FILE, or `cafile` alone.
    """
    return ssl.create_default_context(cafile=cafile)


def pool(
    guard: Guard,
    *,
    resolve: Resolve = addresses_of,
    context: ssl.SSLContext | None = None,
    connections: int = _CONNECTIONS,
    keepalive_seconds: float = _KEEPALIVE_SECONDS,
) -> httpcore.ConnectionPool:
    """HTTP/1.1 over guarded connections: no proxies, no retries, at most `connections` at once, for all hosts."""
    return httpcore.ConnectionPool(
        ssl_context=context or tls(),
        max_connections=connections,
        max_keepalive_connections=connections,
        keepalive_expiry=keepalive_seconds,
        network_backend=GuardedBackend(guard, resolve),
    )


def async_pool(
    guard: Guard,
    *,
    resolve: Resolve = addresses_of,
    context: ssl.SSLContext | None = None,
    connections: int = _CONNECTIONS,
    keepalive_seconds: float = _KEEPALIVE_SECONDS,
) -> httpcore.AsyncConnectionPool:
    """The same for asyncio. httpcore needs anyio for it: the function lists `httpcore[asyncio]` in its requirements."""
    return httpcore.AsyncConnectionPool(
        ssl_context=context or tls(),
        max_connections=connections,
        max_keepalive_connections=connections,
        keepalive_expiry=keepalive_seconds,
        network_backend=AsyncGuardedBackend(guard, resolve),
    )
