"""One request and its answer on a connection of HTTP/1.1, without the I/O.

Where an answer ends, its framing says (RFC 9112 section 6.3: 1xx, 204, 304 and the answer to HEAD have no body). What
follows it is nobody's answer: another request on the connection could be given it, so the connection is closed. Only
empty lines are discarded (section 9.2). Each exchange has a parser of its own: no byte of one is left for the next.

The errors are httpcore's with texts of ours: h11's quote what was sent or came, and that may be a credential.
"""

from __future__ import annotations

from collections.abc import AsyncIterable, Iterable
from enum import Enum, auto
from typing import Final

import h11
import httpcore

from offload.contracts.fields import is_field_name, is_field_value

READ: Final = 64 * 1024
"""As many bytes are read at once."""

_EMPTY_LINE: Final = b"\r\n"
# Most servers take 8 KiB of headers in a request; this much is broken or an attack. It is h11's and httpcore's bound.
_LONGEST_HEAD: Final = 100 * 1024
_NO_ANSWER: Final = "Server disconnected without sending a response."
_TOO_LONG: Final = 431  # what h11 would answer with to a head beyond its bound (RFC 6585 section 5)


class State(Enum):
    """Where a connection is: not connected yet, in use, kept for another request, of no use any more."""

    NEW = auto()
    BUSY = auto()
    IDLE = auto()
    CLOSED = auto()


class Pooled:
    """What a pool asks of a connection that its state and its origin tell, waiting for nothing."""

    def __init__(self, origin: httpcore.Origin) -> None:
        self._origin = origin
        self._state = State.NEW

    def info(self) -> str:
        """What is shown of it."""
        return f"{self._origin}, HTTP/1.1, {self._state.name}"

    def can_handle_request(self, origin: httpcore.Origin) -> bool:
        """Whether it leads there."""
        return self._origin == origin

    def is_available(self) -> bool:
        """Whether it may take a request now."""
        return self._state is State.IDLE

    def is_idle(self) -> bool:
        """Whether it is kept for another request."""
        return self._state is State.IDLE

    def is_closed(self) -> bool:
        """Whether it is of no use any more."""
        return self._state is State.CLOSED


class HeadTooLong(httpcore.RemoteProtocolError):
    """The head of an answer is longer than what is read."""


def only_empty_lines(content: bytes) -> bool:
    """Whether there is nothing but CRLFs, of which a server may send some behind an answer (RFC 9112 section 9.2)."""
    return not content.replace(_EMPTY_LINE, b"")


def response_of(head: h11.Response, content: Iterable[bytes] | AsyncIterable[bytes]) -> httpcore.Response:
    """An answer of this head, its body still to come."""
    return httpcore.Response(
        head.status_code,
        headers=head.headers.raw_items(),
        content=content,
        extensions={"http_version": b"HTTP/" + head.http_version, "reason_phrase": bytes(head.reason)},
    )


class Exchange:
    """A request to be written, piece by piece, and the answer as it comes."""

    def __init__(self, request: httpcore.Request) -> None:
        self._request = request
        self._parser = h11.Connection(our_role=h11.CLIENT, max_incomplete_event_size=_LONGEST_HEAD)
        self._before: bytes | None = b""
        self._ended = False
        self._sent = False
        self._ambiguous = False
        self._answered = False

    def head(self) -> bytes:
        """The request line and the headers; raises httpcore.LocalProtocolError, with the name of a header at most."""
        for name, value in self._request.headers:
            if not is_field_name(name.decode("latin-1")):
                raise httpcore.LocalProtocolError("a header has a name that HTTP does not take")
            if not is_field_value(value.decode("latin-1")):
                raise httpcore.LocalProtocolError(f"the header {name.decode()} has a value that HTTP does not take")
        try:
            return self._send(
                h11.Request(method=self._request.method, target=self._request.url.target, headers=self._request.headers)
            )
        except h11.LocalProtocolError:
            raise httpcore.LocalProtocolError("the method, the target or the headers are none of HTTP's") from None

    def piece(self, content: bytes) -> bytes:
        """A piece of the request's body as it is written; raises httpcore.LocalProtocolError."""
        return self._send(h11.Data(data=content))

    def end(self) -> bytes:
        """What ends the request; raises httpcore.LocalProtocolError."""
        return self._send(h11.EndOfMessage())

    def sent(self) -> None:
        """The whole request was written."""
        self._sent = True

    def receive(self, content: bytes) -> None:
        """Takes what came, nothing for the end of the connection; raises httpcore.RemoteProtocolError."""
        self._ended = self._ended or not content
        if self._before is not None:
            content = self._before + content
            while content.startswith(_EMPTY_LINE):
                # They belong to the answer before, and came late.
                content = content.removeprefix(_EMPTY_LINE)
            if not self._ended and _EMPTY_LINE.startswith(content):
                self._before = content
                return
            self._before = None
            if not content:
                raise httpcore.RemoteProtocolError(_NO_ANSWER)
        self._parser.receive_data(content)

    def answer(self) -> h11.Response | None:
        """The answer's head, None as long as it is not all there; raises httpcore.RemoteProtocolError."""
        while (event := self._next()) not in (h11.NEED_DATA, h11.PAUSED):
            if isinstance(event, h11.Response):
                self._answered = True
                names = {name for name, _ in event.headers}
                # RFC 9112 section 6.3: the one overrides the other, and it may be an attempt to split an answer.
                self._ambiguous = {b"content-length", b"transfer-encoding"} <= names
                return event
        return None

    def body(self) -> bytes | None:
        """What there is of the answer's body, None when more has to come first; raises httpcore.RemoteProtocolError."""
        event = self._next()
        return bytes(event.data) if isinstance(event, h11.Data) else None

    @property
    def over(self) -> bool:
        """Whether the whole answer came."""
        return self._parser.their_state in (h11.DONE, h11.MUST_CLOSE, h11.CLOSED)

    @property
    def reusable(self) -> bool:
        """Whether the connection is where it was before: all was sent, all came, and nothing is left over."""
        left, ended = self._parser.trailing_data
        return (
            self._parser.our_state is h11.DONE
            and self._parser.their_state is h11.DONE
            and self._sent
            and not ended
            and not self._ambiguous
            and only_empty_lines(left)
        )

    def _send(self, event: h11.Event) -> bytes:
        try:
            return self._parser.send(event) or b""
        except h11.LocalProtocolError:
            raise httpcore.LocalProtocolError("the body has not the length that the headers say") from None

    def _next(self) -> h11.Event | type[h11.NEED_DATA] | type[h11.PAUSED]:
        try:
            event = self._parser.next_event()
        except h11.RemoteProtocolError as error:
            if error.error_status_hint == _TOO_LONG:
                raise HeadTooLong("the headers do not end") from None
            raise self._broken() from None
        if event is h11.NEED_DATA and self._ended:
            raise self._broken()
        return event

    def _broken(self) -> httpcore.RemoteProtocolError:
        if not self._ended:
            return httpcore.RemoteProtocolError("what came is no answer of HTTP/1.1")
        return httpcore.RemoteProtocolError("the connection ended within the answer" if self._answered else _NO_ANSWER)
