"""Signed calls over HTTP, one at a time: what the blocking clients of the deployment's APIs are made on."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Self, TypeVar

import httpx

from offload.client.job_calls import Answer, Call, NoAnswer, Pause, Signer, Steps
from offload.contracts.fields import is_field_value

if TYPE_CHECKING:
    import ssl

T = TypeVar("T")

TIMEOUT: Final = httpx.Timeout(30.0, connect=3.0)
"""Seconds: API Gateway answers within 30 or not at all (http-api-quotas.html, read 2026-11-24)."""


def without_values(error: httpx.HTTPError, headers: Mapping[str, str]) -> str:
    """What may be told of an error: httpx quotes the headers and the answers that HTTP does not take, keys too."""
    kind = type(error).__name__
    if not isinstance(error, httpx.ProtocolError):
        return f"{kind}: {error}" if str(error) else kind
    wrong = [name for name, value in headers.items() if not is_field_value(value)]
    return f"{kind}: the header {wrong[0]} has a value that HTTP does not take" if wrong else kind


class SignedHttp:
    """The connections to one endpoint. Threads may share one; a forked process gets connections of its own."""

    def __init__(
        self,
        endpoint: str,
        signer: Signer,
        *,
        verify: ssl.SSLContext | bool,
        trust_env: bool,
        timeout: httpx.Timeout,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._endpoint = endpoint
        self._signer = signer
        self._settings: dict[str, Any] = {"verify": verify, "trust_env": trust_env, "timeout": timeout}
        self._sleep = sleep
        self._http: tuple[int, httpx.Client] | None = None

    def close(self) -> None:
        """Closes the connections."""
        if self._http is not None:
            self._http[1].close()
            self._http = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def run(self, steps: Steps[T]) -> T:
        """Drives a call's steps to their end."""
        given: Answer | NoAnswer | None = None
        while True:
            try:
                step = steps.send(given)
            except StopIteration as end:
                value: T = end.value
                return value
            if isinstance(step, Pause):
                self._sleep(step.seconds)
                given = None
            else:
                given = self._send(step)

    def _send(self, call: Call) -> Answer | NoAnswer:
        url = call.address(self._endpoint)
        headers = dict(call.headers) if call.url else self._signer.signed(call, url)
        try:
            with _opened(call.content) as content:
                answer = self._client().request(call.method, url, content=content, headers=headers)
        except httpx.TransportError as error:
            return NoAnswer(without_values(error, headers))
        return Answer(answer.status_code, dict(answer.headers), answer.content)

    def _client(self) -> httpx.Client:
        # Two processes on one connection would read each other's answers.
        if self._http is None or self._http[0] != os.getpid():
            self._http = (os.getpid(), httpx.Client(**self._settings))
        return self._http[1]


@contextmanager
def _opened(content: bytes | Path) -> Iterator[Any]:
    if isinstance(content, bytes):
        yield content
        return
    with content.open("rb") as stream:
        yield stream
