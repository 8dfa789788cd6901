"""The HTTP client of handlers that call a third party.

    client = Client.from_environment("parcels")
    state = client.get("https://parcels.example/parcels/17").body

Every call has time-outs and ends before its function does; it is tried again only where that cannot do harm; it keeps
the rate that was agreed and stops for a while when nothing is answered, with all other invocations together; it goes
only where the guard lets it. It ends with an `Answer`, or one of the subclasses of CallFailed, and one line in the log.
"""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from urllib.parse import urljoin

import httpcore
import msgspec

from offload.contracts.backoff import Uniform, full_jitter
from offload.contracts.calls import CallSettings, credentials_are_set, variable_of
from offload.contracts.fields import is_field_name, is_field_value
from offload.runtime import aws, invocation
from offload.runtime.http.breaker import Breaker
from offload.runtime.http.connect import Deadline, pool
from offload.runtime.http.exchange import HeadTooLong
from offload.runtime.http.failures import (
    CallFailed,
    CircuitOpen,
    CredentialsMissing,
    NotAnswered,
    OutOfTime,
    RateLimited,
    TooLarge,
    Unsuccessful,
)
from offload.runtime.http.guard import AddressRefused, Guard, Target
from offload.runtime.http.rate import Bucket
from offload.runtime.http.retry_after import wait_of
from offload.runtime.log import Logger
from offload.runtime.settings import MissingSetting

# RFC 9110 section 9.2.2: sending these twice has the effect of sending them once.
_IDEMPOTENT: Final = frozenset({"GET", "HEAD", "OPTIONS", "PUT", "DELETE"})
_METHODS: Final = _IDEMPOTENT | {"POST", "PATCH"}
_WITH_BODY: Final = frozenset({"POST", "PUT", "PATCH"})
# RFC 9110 section 15, RFC 6585: what may be another time, and whose answer another attempt changes.
_PASSING: Final = frozenset({408, 429, 502, 503, 504})
_REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})
_MOST_REDIRECTS: Final = 3
_TOO_MANY_REQUESTS: Final = 429
_PARTIAL_CONTENT: Final = 206
_NOT_MODIFIED: Final = 304
# What another origin may be told. All else can be a credential, whatever its name.
_FOR_EVERYBODY: Final = frozenset({"accept", "accept-language", "user-agent"})
# What the client itself says.
_OURS: Final = frozenset({"host", "content-length", "transfer-encoding", "connection", "accept-encoding", "te"})

_BACKOFF_SECONDS: Final = 0.25
_LONGEST_BACKOFF: Final = 5.0
_LONGEST_RETRY_AFTER: Final = timedelta(days=1)
# On top of what Retry-After says, so that not everybody who was told comes back at the same moment.
_SPREAD_SECONDS: Final = 0.5
# With less time than this no attempt is begun: it would end as an unknown outcome.
_SHORTEST_ATTEMPT: Final = 0.1
# Left of the function's time for what follows a call: an answer to the queue, a log line.
RESERVE_SECONDS: Final = 1.0
# Most servers take 8 KiB of headers in a request; a response with 64 is broken or an attack.
_LONGEST_HEADERS: Final = 64 * 1024
_SECRET_SECONDS: Final = 300.0
# Whoever puts them there waits for it; a function that is called all the time must not look each time.
_MISSING_SECRET_SECONDS: Final = 20.0


@dataclass(frozen=True)
class Answer:
    """A response: `headers` with lower-case names, `body` whole, `attempts` it took (redirects not counted)."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    attempts: int = 1


@dataclass
class _Call:
    """One call on its way."""

    method: str
    target: Target
    body: bytes
    headers: dict[str, str]
    repeatable: bool
    attempts: int = 0
    status: int | None = None
    received: int = 0


class Client:
    """The client of one third party, `name`. Make it once, at the module's level: it keeps connections.

    `bucket` and `breaker` are what all invocations share; without them there is no rate and no breaker. The time-outs
    and `longest_body` are those of CallSettings. `remaining_ms` says how long the function may still run;
    consumers and jobs of this library say it by themselves.
    """

    def __init__(
        self,
        name: str,
        guard: Guard,
        *,
        connections: httpcore.ConnectionPool | None = None,
        bucket: Bucket | None = None,
        breaker: Breaker | None = None,
        attempts: int = 3,
        connect_seconds: float = 3.0,
        read_seconds: float = 10.0,
        total_seconds: float = 20.0,
        longest_body: int = 1024 * 1024,
        secret: str | None = None,
        secret_path: bool = False,
        log: Logger | None = None,
        remaining_ms: Callable[[], int | None] = invocation.remaining_ms,
        now: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
        uniform: Uniform = random.uniform,
    ) -> None:
        self._name = name
        self._guard = guard
        self._pool = connections or pool(guard)
        self._bucket = bucket
        self._breaker = breaker
        self._attempts = attempts
        self._connect_seconds = connect_seconds
        self._read_seconds = read_seconds
        self._total_seconds = total_seconds
        self._longest_body = longest_body
        self._secret_arn = secret
        self._secret_path = secret_path
        self._log = log or Logger(service=name)
        self._remaining_ms = remaining_ms
        self._now = now
        self._monotonic = monotonic
        self._sleep = sleep
        self._uniform = uniform
        # Until when it is kept; None in place of the credentials while nobody has put them there.
        self._secret: tuple[float, str | None] | None = None

    @classmethod
    def from_environment(cls, name: str, *, log: Logger | None = None) -> Client:
        """The client of the third party `name`, as the Integration that the function was given says.

        Raises MissingSetting with the name of a variable that is missing or wrong.
        """
        variable = variable_of(name)
        if variable not in os.environ:
            raise MissingSetting(f"the environment variable {variable} is not set: give the function Integration.call")
        try:
            settings = msgspec.json.decode(os.environ[variable], type=CallSettings)
        except msgspec.MsgspecError as error:
            raise MissingSetting(f"the environment variable {variable}: {error}") from error
        rate = settings.per_second
        return cls(
            name,
            Guard.from_environment(),
            bucket=Bucket(name, settings.table, rate) if rate is not None else None,
            breaker=Breaker(
                name,
                settings.table,
                failures=settings.breaker_failures,
                open_seconds=settings.breaker_seconds,
                log=log,
            ),
            attempts=settings.attempts,
            connect_seconds=settings.connect_seconds,
            read_seconds=settings.read_seconds,
            total_seconds=settings.total_seconds,
            longest_body=settings.longest_body,
            secret=settings.secret,
            secret_path=settings.secret_path,
            log=log,
        )

    def get(self, url: str, *, headers: Mapping[str, str] | None = None) -> Answer:
        """`request("GET", …)`."""
        return self.request("GET", url, headers=headers)

    def head(self, url: str, *, headers: Mapping[str, str] | None = None) -> Answer:
        """`request("HEAD", …)`."""
        return self.request("HEAD", url, headers=headers)

    def post(
        self, url: str, body: bytes, *, headers: Mapping[str, str] | None = None, idempotency_key: str | None = None
    ) -> Answer:
        """`request("POST", …)`."""
        return self.request("POST", url, body, headers=headers, idempotency_key=idempotency_key)

    def put(self, url: str, body: bytes, *, headers: Mapping[str, str] | None = None) -> Answer:
        """`request("PUT", …)`."""
        return self.request("PUT", url, body, headers=headers)

    def delete(self, url: str, *, headers: Mapping[str, str] | None = None) -> Answer:
        """`request("DELETE", …)`."""
        return self.request("DELETE", url, headers=headers)

    def request(
        self,
        method: str,
        url: str,
        body: bytes = b"",
        *,
        headers: Mapping[str, str] | None = None,
        idempotency_key: str | None = None,
    ) -> Answer:
        """The third party's answer with a status of 2xx, or 304 where the request was conditional.

        GET, HEAD, OPTIONS, PUT and DELETE, and others with an `idempotency_key` (sent as `Idempotency-Key`), are sent
        again when nothing or a status that passes comes back; others only when no connection came about.
        Redirects are followed for GET and HEAD.

        Raises AddressRefused, NotAnswered, Unsuccessful, RateLimited, TooLarge, CircuitOpen and OutOfTime
        (offload.runtime.http.failures), and ValueError for a method or header that cannot be.
        """
        began = self._monotonic()
        call: _Call | None = None
        outcome = "failed"
        try:
            with Deadline(self._time(), self._monotonic) as deadline:
                call = self._call(method, url, body, headers or {}, idempotency_key)
                answer = self._answered(call, deadline)
            outcome = "answered"
        except CallFailed as error:
            outcome = _OUTCOMES.get(type(error), "failed")
            if isinstance(error, AddressRefused):
                outcome = f"refused: {error.rule}"
            raise
        finally:
            self._say(method, call, outcome, self._monotonic() - began)
        return answer

    def secret(self, *, fresh: bool = False) -> str:
        """The third party's credentials, of the Integration's secret; kept for 5 minutes, unless `fresh`.

        Raises MissingSetting where the Integration has none, CredentialsMissing until somebody has put them there, and
        botocore's errors.
        """
        if self._secret_arn is None:
            raise MissingSetting(f"{self._name} has no secret: write Integration(…, secret=True)")
        if fresh or self._secret is None or self._monotonic() >= self._secret[0]:
            value = aws.secrets().get_secret_value(SecretId=self._secret_arn)["SecretString"]
            if credentials_are_set(value):
                self._secret = (self._monotonic() + _SECRET_SECONDS, value)
            else:
                self._secret = (self._monotonic() + _MISSING_SECRET_SECONDS, None)
        credentials = self._secret[1]
        if credentials is None:
            raise CredentialsMissing(
                f"{self._name}: its credentials are missing: offload integrations credentials {self._name} --file FILE"
            )
        return credentials

    def _time(self) -> float:
        """Seconds that a call may take now."""
        remaining = self._remaining_ms()
        left = self._total_seconds if remaining is None else remaining / 1000 - RESERVE_SECONDS
        if left < _SHORTEST_ATTEMPT:
            raise OutOfTime(
                f"{self._name}: not called, the function has {max(0, remaining or 0)} ms left:"
                " give it a longer timeout, or smaller batches"
            )
        return min(self._total_seconds, left)

    def _call(
        self, method: str, url: str, body: bytes, headers: Mapping[str, str], idempotency_key: str | None
    ) -> _Call:
        if method not in _METHODS:
            raise ValueError(f"{method}: the methods are {', '.join(sorted(_METHODS))}")
        sent = {"user-agent": "offload", "accept": "*/*"}
        if traceparent := invocation.traceparent():
            sent["traceparent"] = traceparent
        for name, value in headers.items():
            if not is_field_name(name):
                raise ValueError(f"{name!a}: is no header's name (RFC 9110 section 5.1)")
            if name.lower() in _OURS:
                raise ValueError(f"{name}: the client writes this header")
            if any(other != name and other.lower() == name.lower() for other in headers):
                raise ValueError(f"{name}: the header is given twice, in different cases")
            sent[name.lower()] = value
        if idempotency_key is not None:
            sent["idempotency-key"] = idempotency_key
        for name, value in sent.items():
            if not is_field_value(value):
                # Its value can be a credential, pasted with a blank or a line's end.
                raise ValueError(f"{name}: a header is visible ASCII, and neither begins nor ends with a blank")
        return _Call(method, self._guard.target(url), body, sent, method in _IDEMPOTENT or idempotency_key is not None)

    def _answered(self, call: _Call, deadline: Deadline) -> Answer:
        failed: CallFailed | None = None
        while True:
            if deadline.left() < _SHORTEST_ATTEMPT:
                raise failed or OutOfTime(f"{self._told(call)}: no time is left for it")
            try:
                return self._successful(call, self._attempt(call, deadline))
            except CircuitOpen as error:
                # What opened it says more.
                raise (failed or error) from None
            except (NotAnswered, Unsuccessful, RateLimited) as error:
                failed = error
                pause = self._pause(call, error)
                if pause is None or deadline.left() - pause < _SHORTEST_ATTEMPT:
                    raise
            self._sleep(pause)

    def _pause(self, call: _Call, error: CallFailed) -> float | None:
        """Seconds until the next attempt; None when there is none."""
        if call.attempts >= self._attempts:
            return None
        jitter = full_jitter(call.attempts, base=_BACKOFF_SECONDS, cap=_LONGEST_BACKOFF, uniform=self._uniform)
        match error:
            case NotAnswered():
                return jitter if call.repeatable or not error.unknown_outcome else None
            case Unsuccessful(status=status) if status in _PASSING and call.repeatable:
                wait = error.wait
            case RateLimited(answer=answer) if answer is not None and call.repeatable:
                wait = error.wait
            case _:
                return None
        return jitter if not wait else wait.total_seconds() + self._uniform(0, _SPREAD_SECONDS)

    def _attempt(self, call: _Call, deadline: Deadline) -> Answer:
        """One answer that is no redirect to be followed."""
        target, headers = call.target, call.headers
        for _ in range(_MOST_REDIRECTS + 1):
            answer = self._once(call, target, headers, deadline)
            if (
                answer.status not in _REDIRECTS
                or call.method not in ("GET", "HEAD")
                or "location" not in answer.headers
            ):
                return answer
            try:
                location = _joined(target, answer.headers["location"])
            except ValueError:
                # Brackets that are none of an IPv6 address, for one: no place that could be followed.
                raise Unsuccessful(f"{self._told(call)}: status {answer.status} to no URL", answer) from None
            followed = self._guard.target(location)
            if followed.scheme != "https" and target.scheme == "https":
                raise AddressRefused("downgrade", followed.scheme, "a redirect away from https", "nothing allows it")
            if followed.origin != call.target.origin:
                headers = {name: value for name, value in headers.items() if name in _FOR_EVERYBODY}
            target = followed
        raise Unsuccessful(f"{self._told(call)}: redirected more than {_MOST_REDIRECTS} times", answer)

    def _once(self, call: _Call, target: Target, headers: Mapping[str, str], deadline: Deadline) -> Answer:
        permit = self._breaker.enter() if self._breaker is not None else None
        well: bool | None = None
        given = 0.0
        try:
            if self._bucket is not None:
                self._bucket.acquire(deadline.left() - _SHORTEST_ATTEMPT)
            call.attempts += target is call.target
            given = deadline.left()
            answer = self._exchange(call, target, headers)
            well = answer.status < 500
        except NotAnswered:
            # Cut short by the time that we had left, it says nothing of the third party.
            well = None if deadline.left() <= 0 and given < self._read_seconds else False
            raise
        except TooLarge:
            well = True
            raise
        finally:
            if self._breaker is not None and permit is not None:
                ended = {True: self._breaker.succeeded, False: self._breaker.failed, None: self._breaker.left}[well]
                ended(permit)
        return answer

    def _exchange(self, call: _Call, target: Target, headers: Mapping[str, str]) -> Answer:
        length = {"content-length": str(len(call.body))} if call.body or call.method in _WITH_BODY else {}
        # Compressed bodies grow without a bound that a length could tell.
        sent = {"host": target.authority, **headers, "accept-encoding": "identity", **length}
        request = httpcore.Request(
            call.method,
            httpcore.URL(scheme=target.scheme, host=target.host, port=target.port, target=target.path),
            headers=[(name.encode(), value.encode()) for name, value in sent.items()],
            content=call.body,
            extensions={
                "timeout": {
                    "connect": self._connect_seconds,
                    "pool": self._connect_seconds,
                    "read": self._read_seconds,
                    "write": self._read_seconds,
                }
            },
        )
        told = self._told(call)
        call.status = None
        try:
            response = self._pool.handle_request(request)
            try:
                return self._read(call, response)
            finally:
                response.close()
        except (httpcore.ConnectError, httpcore.ConnectTimeout, httpcore.PoolTimeout) as error:
            raise NotAnswered(f"{told}: {error or 'no connection in time'}", unknown_outcome=False) from error
        except httpcore.LocalProtocolError as error:
            raise ValueError(f"{told}: {error}") from error
        except HeadTooLong as error:
            raise TooLarge(f"{told}: its headers are longer than {_LONGEST_HEADERS} bytes") from error
        except httpcore.RemoteProtocolError as error:
            raise NotAnswered(f"{told}: a broken response: {error}", unknown_outcome=True) from error
        except (httpcore.NetworkError, httpcore.TimeoutException) as error:
            raise NotAnswered(f"{told}: {error or type(error).__name__}", unknown_outcome=True) from error

    def _read(self, call: _Call, response: httpcore.Response) -> Answer:
        call.status = response.status
        if sum(len(name) + len(value) + 4 for name, value in response.headers) > _LONGEST_HEADERS:
            raise TooLarge(f"{self._told(call)}: its headers are longer than {_LONGEST_HEADERS} bytes")
        headers: dict[str, str] = {}
        for raw_name, raw_value in response.headers:
            name, value = raw_name.decode("ascii", "replace").lower(), raw_value.decode("latin-1")
            headers[name] = f"{headers[name]}, {value}" if name in headers else value
        declared = headers.get("content-length", "")
        parts: list[bytes] = []
        received = 0
        if call.method != "HEAD" and declared.isdigit() and len(declared) < 19 and int(declared) > self._longest_body:
            raise TooLarge(f"{self._told(call)}: its body has {declared} bytes, {self._longest_body} are read")
        for part in response.iter_stream():
            received += len(part)
            call.received += len(part)
            if received > self._longest_body:
                raise TooLarge(f"{self._told(call)}: its body is longer than {self._longest_body} bytes")
            parts.append(part)
        return Answer(response.status, headers, b"".join(parts), call.attempts)

    def _successful(self, call: _Call, answer: Answer) -> Answer:
        conditional = "if-none-match" in call.headers or "if-modified-since" in call.headers
        # A part that was not asked for is not the whole (RFC 9110 section 15.3.7).
        partly = answer.status == _PARTIAL_CONTENT and "range" not in call.headers
        if (200 <= answer.status < 300 and not partly) or (answer.status == _NOT_MODIFIED and conditional):
            return answer
        now = datetime.fromtimestamp(self._now(), UTC)
        wait = wait_of(answer.headers.get("retry-after", ""), now, _LONGEST_RETRY_AFTER)
        asks = "" if wait is None else f", and asks to wait {wait.total_seconds():.0f} s"
        message = f"{self._told(call)}: status {answer.status}{asks}"
        if answer.status == _TOO_MANY_REQUESTS:
            raise RateLimited(message, wait or timedelta(0), answer)
        raise Unsuccessful(message, answer, wait)

    def _told(self, call: _Call) -> str:
        return f"{self._name}: {call.method} {call.target.host}"

    def _say(self, method: str, call: _Call | None, outcome: str, seconds: float) -> None:
        fields: dict[str, Any] = {"client": self._name, "method": method}
        if call is not None:
            path = "(secret)" if self._secret_path else call.target.path.partition("?")[0]
            fields |= {"host": call.target.host, "path": path, "status": call.status, "attempts": call.attempts}
        self._log.info(
            "call",
            **fields,
            outcome=outcome,
            duration_ms=round(seconds * 1000, 1),
            bytes=call.received if call is not None else 0,
        )


_OUTCOMES: Final[Mapping[type[CallFailed], str]] = {
    NotAnswered: "not-answered",
    Unsuccessful: "unsuccessful",
    RateLimited: "rate-limited",
    TooLarge: "too-large",
    CircuitOpen: "circuit-open",
    OutOfTime: "out-of-time",
}


def _joined(target: Target, location: str) -> str:
    return urljoin(f"{target.scheme}://{target.authority}{target.path}", location)
