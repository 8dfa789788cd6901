"""The connections of calls out: a host's addresses are looked up once, checked, and one of those is connected to.

This is a network backend of httpcore, and its pool with connections of our own. What is checked is what is connected
to, so that a name which answers differently the second time leads nowhere. TLS is for the host as it was written. No
connection is used again on which something came that nobody asked for (`exchange.py`). For asyncio: `async_connect.py`.
"""

from __future__ import annotations

import select
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future
from contextvars import ContextVar, Token
from functools import lru_cache
from ipaddress import ip_address
from types import TracebackType
from typing import Any, Final, Self, cast

import httpcore

from offload.contracts.egress import Address
from offload.runtime.http.exchange import READ, Exchange, Pooled, State, only_empty_lines, response_of
from offload.runtime.http.guard import AddressRefused, Guard

Resolve = Callable[[str, int], Sequence[str]]

# A handler calls one third party at a time, mostly; an idle connection costs nothing.
_CONNECTIONS: Final = 10
# Servers close idle connections after 5 s (Node) to 75 s (nginx); an invocation may come long after the last.
_KEEPALIVE_SECONDS: Final = 30.0
# Lookups at the same time. A name server that hangs holds each for some 10 s (resolv.conf(5): 5 s, 2 attempts).
LOOKUPS: Final = 64
# So much of nothing is read off an idle connection.
_EMPTY_READS: Final = 4

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
    ) -> _Stream:
        """A stream to the first of the host's addresses that answers, each given its share of `timeout` (seconds)."""
        if local_address is not None:
            raise httpcore.UnsupportedProtocol("a connection from a chosen address is not offered")
        within = Deadline(endless(_bounded(timeout, httpcore.ConnectTimeout)))
        addresses = self._guard.checked(host, port, self._addresses(host, port, within))
        failed: Exception = nowhere(host)
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
        raise no_sockets_of_unix(path)

    def _addresses(self, host: str, port: int, within: Deadline) -> Sequence[str]:
        if is_address(host):
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
    ) -> _Stream:
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

    def quiet(self) -> bool:
        """Whether nothing came since the last answer and the other side is there; empty lines are discarded.

        What else came was not asked for, and is not to be taken for the next answer (RFC 9112 section 9.2).
        """
        try:
            self._socket.settimeout(0)
            for _ in range(_EMPTY_READS):
                came = self._socket.recv(READ)
                if not came or not only_empty_lines(came):
                    break
        except (BlockingIOError, ssl.SSLWantReadError):
            return True
        except OSError:
            pass
        return False

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
                return is_readable(self._socket)
        return None


def _connected(
    address: Address, port: int, timeout: float, socket_options: Iterable[httpcore.SOCKET_OPTION]
) -> _Stream:
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


def is_readable(connected: socket.socket) -> bool:
    """Whether something came, or the other side has closed: then an idle connection is of no use."""
    if connected.fileno() < 0:
        return True
    poll = select.poll()
    poll.register(connected, select.POLLIN)
    return bool(poll.poll(0))


def is_address(host: str) -> bool:
    """Whether the host is an address and no name."""
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


def endless(timeout: float | None) -> float:
    """The seconds of a time-out; None is none."""
    return float("inf") if timeout is None else timeout


def nowhere(host: str) -> httpcore.ConnectError:
    """What is said of a name that the resolver knows and that leads nowhere."""
    return httpcore.ConnectError(f"the name '{host}' has no address")


def no_sockets_of_unix(path: str) -> AddressRefused:
    """What is said of a socket of this machine."""
    return AddressRefused("unix-socket", path, "is on this machine", "nothing allows it")


class _Connection(Pooled, httpcore.ConnectionInterface):
    """One connection of the pool, used again only where the last answer ended and nothing followed it."""

    def __init__(
        self, origin: httpcore.Origin, backend: GuardedBackend, context: ssl.SSLContext, keepalive_seconds: float
    ) -> None:
        super().__init__(origin)
        self._backend = backend
        self._context = context
        self._keepalive_seconds = keepalive_seconds
        self._lock = threading.Lock()
        self._expires_at = 0.0
        self._stream: _Stream | None = None

    def handle_request(self, request: httpcore.Request) -> httpcore.Response:
        with self._lock:
            if self._state not in (State.NEW, State.IDLE):
                raise httpcore.ConnectionNotAvailable
            self._state = State.BUSY
        if self._stream is not None and not self._stream.quiet():
            # The pool takes another one.
            self.close()
            raise httpcore.ConnectionNotAvailable
        limits = request.extensions.get("timeout", {})
        try:
            if self._stream is None:
                self._stream = self._connect(limits.get("connect"))
            exchange = Exchange(request)
            self._send(self._stream, exchange, request, limits.get("write"))
            while (head := exchange.answer()) is None:
                exchange.receive(self._stream.read(READ, limits.get("read")))
        except BaseException:
            self.close()
            raise
        return response_of(head, _Body(self, self._stream, exchange, limits.get("read")))

    def _connect(self, timeout: float | None) -> _Stream:
        host = self._origin.host.decode("ascii")
        stream = self._backend.connect_tcp(host, self._origin.port, timeout)
        return stream.start_tls(self._context, host, timeout) if self._origin.scheme == b"https" else stream

    def _send(self, stream: _Stream, exchange: Exchange, request: httpcore.Request, timeout: float | None) -> None:
        try:
            stream.write(exchange.head(), timeout)
            for content in cast(Iterable[bytes], request.stream):
                stream.write(exchange.piece(content), timeout)
            stream.write(exchange.end(), timeout)
        except httpcore.WriteError:
            # A server may answer and close before it has read everything.
            return
        exchange.sent()

    def release(self, exchange: Exchange) -> None:
        """The answer is not read any further."""
        if not exchange.reusable:
            self.close()
            return
        with self._lock:
            self._expires_at = time.monotonic() + self._keepalive_seconds
            self._state = State.IDLE

    def close(self) -> None:
        with self._lock:
            self._state = State.CLOSED
        if self._stream is not None:
            self._stream.close()

    def has_expired(self) -> bool:
        # In use, its bytes are another thread's.
        with self._lock:
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

    def __iter__(self) -> Iterator[bytes]:
        while not self._exchange.over:
            content = self._exchange.body()
            if content is not None:
                yield content
            elif not self._exchange.over:
                self._exchange.receive(self._stream.read(READ, self._timeout))

    def close(self) -> None:
        if not self._closed:
            self._closed = True
            self._connection.release(self._exchange)


class _Pool(httpcore.ConnectionPool):
    """The pool of such connections."""

    def __init__(
        self, backend: GuardedBackend, context: ssl.SSLContext, connections: int, keepalive_seconds: float
    ) -> None:
        super().__init__(max_connections=connections, max_keepalive_connections=connections)
        context.set_alpn_protocols(["http/1.1"])
        self._backend = backend
        self._context = context
        self._keepalive_seconds = keepalive_seconds

    def create_connection(self, origin: httpcore.Origin) -> httpcore.ConnectionInterface:
        return _Connection(origin, self._backend, self._context, self._keepalive_seconds)


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
    return _Pool(GuardedBackend(guard, resolve), context or tls(), connections, keepalive_seconds)
