"""An HTTP API of ours behind API Gateway's IAM authorizer (payload format 2.0): reads, routes, refuses, logs.

The gateway has chosen a route, and the API has a function for each. A routing library would be imported at every cold
start for them.
"""

from __future__ import annotations

import base64
import re
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final

import msgspec
from botocore.exceptions import BotoCoreError, ClientError

from offload.contracts.http_api import IDEMPOTENCY_KEY, PROBLEM, Problem, Route
from offload.runtime.log import Logger
from offload.runtime.refusals import (
    BadRequest,
    BodyTooLarge,
    NoSuchPath,
    Refusal,
    Unavailable,
    UnsupportedMediaType,
    WrongMethod,
)

if TYPE_CHECKING:
    from aws_lambda_powertools.utilities.typing import LambdaContext

CONTENT_TYPE: Final = "application/problem+json"

LONGEST_NAME: Final = 1024
"""Bytes of an id in a path: a key of DynamoDB has 2,048 at the most, with what stands before the id."""

_TRACEPARENT: Final = re.compile(r"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}.{0,200}")


class Request:
    """One request."""

    def __init__(self, event: dict[str, Any], larger: str = "") -> None:
        http = event["requestContext"]["http"]
        self.method: str = http["method"]
        self.path: str = _text(event["rawPath"])
        self.route: str = event.get("routeKey") or ""
        """The method and path pattern that the gateway chose, `$default` when it knows none."""
        self.names = [_text(value) for value in (event.get("pathParameters") or {}).values()]
        self.query = {name: _text(value) for name, value in (event.get("queryStringParameters") or {}).items()}
        self.headers: dict[str, str] = {name.lower(): value for name, value in (event.get("headers") or {}).items()}
        self.wanted: Any = None
        """The body, or the query, as its route reads it."""
        self._event = event
        self._larger = larger

    def body(self, limit: int) -> bytes:
        """The body's bytes; raises BodyTooLarge, UnsupportedMediaType."""
        text: str = self._event.get("body") or ""
        # What is no UTF-8 is refused by who reads it.
        content = base64.b64decode(text) if self._event.get("isBase64Encoded") else text.encode(errors="surrogatepass")
        if len(content) > limit:
            raise BodyTooLarge(f"{len(content)} bytes, the limit is {limit}{self._larger}")
        kind = self.headers.get("content-type", "application/json").partition(";")[0].strip().lower()
        if content and kind != "application/json" and not kind.endswith("+json"):
            raise UnsupportedMediaType(f"Content-Type: '{kind}': send JSON, and 'Content-Type: application/json'")
        return content

    def read(self, route: Route) -> None:
        """Reads what the route takes; raises BadRequest naming the field."""
        try:
            if route.body is not None:
                self.wanted = msgspec.json.decode(self.body(route.longest_body) or b"{}", type=route.body)
            if route.query is not None:
                self.wanted = msgspec.convert(_numbered(self.query, route.query), route.query)
        except (msgspec.MsgspecError, UnicodeError, RecursionError) as error:
            raise BadRequest(f"{'query' if route.query else 'body'}: {error}") from error

    @property
    def traceparent(self) -> str | None:
        """The request's trace; one that is none is left out, as W3C Trace Context says."""
        found = self.headers.get("traceparent", "")
        return found if _TRACEPARENT.fullmatch(found) else None

    @property
    def idempotency_key(self) -> str | None:
        """The Idempotency-Key header; raises BadRequest when it cannot be one."""
        key = self.headers.get("idempotency-key")
        if key is not None and not re.fullmatch(IDEMPOTENCY_KEY, key):
            raise BadRequest("Idempotency-Key: 1 to 256 printable characters of ASCII")
        return key


class Answer(msgspec.Struct, frozen=True):
    """A status, and what the body says."""

    status: int
    body: Any
    headers: dict[str, str] = {}


Call = Callable[..., Answer]


class HttpApi:
    """One API: its routes, and by their names the functions that answer them.

    A function takes the Request and the path's parameters. `document` is the file that describes the API; `larger` says
    where a body goes that is too large. Raises KeyError for a route without a function.
    """

    def __init__(
        self, routes: Mapping[str, Route], calls: tuple[Call, ...], *, log: Logger, document: str, larger: str = ""
    ) -> None:
        named = {call.__name__: call for call in calls}
        # By what the gateway calls a route.
        self._routes = {f"{route.method} {route.path}": (route, named[name]) for name, route in routes.items()}
        self._log = log
        self._document = document
        self._larger = larger

    def __call__(self, event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
        """Answers one request; what goes wrong is a problem document."""
        began = time.perf_counter()
        request = Request(event, self._larger)
        answer = self._answer(request, context.aws_request_id)
        self._log.info(
            "request",
            method=request.method,
            path=request.path,
            status=answer.status,
            problem=answer.body.type if isinstance(answer.body, Problem) else "",
            duration_ms=round((time.perf_counter() - began) * 1000, 1),
            request_id=context.aws_request_id,
        )
        if answer.status == NO_CONTENT:
            return {"statusCode": NO_CONTENT}
        kind = CONTENT_TYPE if isinstance(answer.body, Problem) else "application/json"
        return {
            "statusCode": answer.status,
            "headers": {"content-type": kind, **answer.headers},
            "body": msgspec.json.encode(answer.body).decode(),
        }

    def _answer(self, request: Request, request_id: str) -> Answer:
        try:
            if request.route not in self._routes:
                return self._lost(request)
            route, call = self._routes[request.route]
            if any(len(name.encode()) > LONGEST_NAME for name in request.names):
                return _refused(NoSuchPath(f"no name in a path is longer than {LONGEST_NAME} bytes"))
            request.read(route)
            return call(request, *request.names)
        except Refusal as refused:
            return _refused(refused)
        except (BotoCoreError, ClientError):
            self._log.exception("request", request_id=request_id)
            return _refused(trouble(request_id))

    def _lost(self, request: Request) -> Answer:
        """Of a request that the gateway knows no route for: its path does not take its method, or there is none."""
        routes = [route for route, _ in self._routes.values()]
        allowed = sorted(
            {route.method for route in routes if re.fullmatch(re.sub(r"{\w+}", "[^/]+", route.path), request.path)}
        )
        if not allowed:
            return _refused(NoSuchPath(f"{request.path}: {self._document} has all paths"))
        answer = _refused(WrongMethod(f"{request.method} {request.path}: it takes {', '.join(allowed)}"))
        return msgspec.structs.replace(answer, headers={"allow": ", ".join(allowed)})


NO_CONTENT: Final = 204


def problem_of(refused: Refusal) -> Problem:
    """The problem that a refusal is."""
    return Problem(f"{PROBLEM}{refused.slug}", refused.title(), refused.status, str(refused))


def trouble(request_id: str) -> Unavailable:
    """What is said of a store that could not be reached."""
    return Unavailable(f"send it again, under the same Idempotency-Key; the log has it as {request_id}")


def _refused(refused: Refusal) -> Answer:
    problem = problem_of(refused)
    return Answer(problem.status, problem, {"retry-after": "1"} if problem.status == Unavailable.status else {})


def _text(value: str) -> str:
    """What can be encoded: a path or a query may carry bytes that are no UTF-8."""
    return value.encode(errors="replace").decode()


def _numbered(query: Mapping[str, str], kind: Any) -> dict[str, Any]:
    """The query with what its type has as numbers as numbers."""
    numbers = {"limit", "status"} & set(kind.__struct_fields__)
    return {
        name: int(value) if name in numbers and re.fullmatch("[0-9]{1,9}", value) else value
        for name, value in query.items()
    }
