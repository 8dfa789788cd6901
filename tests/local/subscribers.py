"""The API of subscriptions of a deployed copy, as tests call it."""

from __future__ import annotations

import json
import ssl
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from offload.cli.local.process import ACCOUNT, REGION
from tests.copies import Copy
from tests.patience import PATIENCE, until


@dataclass(frozen=True)
class Subscribers:
    """Signs as the account's root, or with the `credentials`, and calls."""

    copy: Copy
    credentials: Credentials = field(default_factory=lambda: Credentials(ACCOUNT, "test"))

    @cached_property
    def endpoint(self) -> str:
        """The API's URL."""
        return self.copy.deployment.subscription_service.endpoint

    @cached_property
    def _tls(self) -> ssl.SSLContext:
        instance = self.copy.deployment.aws.instance
        return ssl.create_default_context(cafile=instance.certificate if instance else None)

    def call(self, method: str, path: str, body: Any = None, **headers: str) -> tuple[int, Any]:
        """An answer's status and JSON."""
        content = json.dumps(body).encode() if body is not None else b""
        request = AWSRequest(
            method, self.endpoint + path, data=content, headers={"content-type": "application/json", **headers}
        )
        SigV4Auth(self.credentials, "execute-api", REGION).add_auth(request)
        sent = urllib.request.Request(  # noqa: S310 -- the copy's own address
            self.endpoint + path, data=content or None, headers=dict(request.headers), method=method
        )
        try:
            with urllib.request.urlopen(sent, timeout=PATIENCE, context=self._tls) as answer:  # noqa: S310 -- as above
                text = answer.read()
                return answer.status, json.loads(text) if text else None
        except urllib.error.HTTPError as error:
            text = error.read()
            return error.code, json.loads(text) if text else None

    def _read(self, path: str) -> Any:
        """What a GET answers; it is asked again where the machine is so slow that the function's time is up."""
        read: list[Any] = []

        def answered() -> bool:
            status, content = self.call("GET", path)
            assert status == 200 or "Task timed out" in str(content), content
            read.extend([content] if status == 200 else [])
            return bool(read)

        until(answered, f"an answer to GET {path}")
        return read[0]

    def subscribe(self, url: str, types: list[str], **wish: Any) -> dict[str, Any]:
        """A new subscription: `subscription`, and its `secret`."""
        status, created = self.call("POST", "/subscriptions", {"url": url, "types": types, **wish})
        assert status == 201, created
        found: dict[str, Any] = created
        return found

    def deliveries(self, query: str = "") -> Iterator[dict[str, Any]]:
        """Every delivery that fits, newest first."""
        cursor = ""
        while True:
            after = f"&cursor={urllib.parse.quote(cursor)}" if cursor else ""
            page = self._read(f"/deliveries?limit=200{query}{after}")
            yield from page["deliveries"]
            if not page["cursor"]:
                return
            cursor = page["cursor"]

    def wake(self) -> None:
        """Lets the sweeper look now, and not at the next minute."""
        name = self.copy.deployment.function("delivery_sweeper").function_name
        self.copy.deployment.aws.lambda_.invoke(FunctionName=name)

    def until(self, holds: Callable[[], bool], what: str) -> None:
        """Waits for a condition with a deadline, the sweeper looking every few seconds."""

        def found() -> bool:
            if holds():
                return True
            self.wake()
            return False

        until(found, what, shortest=1.0, longest=3.0)
