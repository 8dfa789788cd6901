"""The API of subscriptions as its function has it, behind HTTP, on a bench's table; and the commands pointed at it."""

from __future__ import annotations

import importlib
import os
import re
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from types import SimpleNamespace
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit
from uuid import uuid4

import boto3
import msgspec
import pytest

from offload.cli.deployment import resources
from offload.cli.deployment.aws import Aws
from offload.cli.deployment.resources import Deployment, SubscriptionService
from offload.cli.local.process import Instance
from offload.contracts.webhooks_out.api import ROUTES
from tests.unit.sending_bench import SEALING_KEY, SendingBench


class Context:
    """Lambda's context, as far as it is looked at."""

    aws_request_id = "request"


@contextmanager
def commands_on(bench: SendingBench, emulator: Instance, patch: pytest.MonkeyPatch) -> Iterator[Deployment]:
    """The deployment that commands find: the API on the bench's table, its clock and its queues."""
    with door(bench, patch) as url:
        sealing_secret = os.environ["OFFLOAD_SEALING_SECRET"]

        class Found(Deployment):
            """Everything is real but the look-up."""

            @property
            def subscription_service(self) -> SubscriptionService:
                return SubscriptionService(url, bench.table, sealing_secret)

            def subscription_service_or_none(self) -> SubscriptionService | None:
                return self.subscription_service

        found = Found(Aws("local", emulator))
        patch.setattr(resources.Deployment, "of", lambda environment: found)
        yield found


@contextmanager
def door(bench: SendingBench, patch: pytest.MonkeyPatch) -> Iterator[str]:
    """The API behind HTTP, as API Gateway has it: nobody comes in without a signature."""
    api = _function(bench, patch)
    patterns = [
        (f"{route.method} {route.path}", re.compile(re.sub(r"{(\w+)}", r"(?P<\1>[^/]+)", route.path)))
        for route in ROUTES.values()
    ]

    class Handler(BaseHTTPRequestHandler):
        def _any(self) -> None:
            asked = urlsplit(self.path)
            body = self.rfile.read(int(self.headers.get("content-length") or 0)).decode()
            if not self.headers.get("authorization", "").startswith("AWS4-HMAC-SHA256 "):
                self._answer({"statusCode": 403, "body": '{"message":"Forbidden"}'})
                return
            route, names = self._route(asked.path)
            event = {
                "routeKey": route,
                "rawPath": asked.path,
                "pathParameters": names,
                "queryStringParameters": dict(parse_qsl(asked.query)),
                "headers": {name.lower(): value for name, value in self.headers.items()},
                "requestContext": {"http": {"method": self.command, "path": asked.path}},
                "body": body,
            }
            self._answer(api.handler(event, Context()))

        def _route(self, path: str) -> tuple[str, dict[str, str]]:
            for name, pattern in patterns:
                if name.startswith(f"{self.command} ") and (match := pattern.fullmatch(path)):
                    return name, {key: unquote(value) for key, value in match.groupdict().items()}
            return "$default", {}

        def _answer(self, answer: dict[str, Any]) -> None:
            content = answer.get("body", "").encode()
            self.send_response(answer["statusCode"])
            for name, value in {**answer.get("headers", {}), "content-length": str(len(content))}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
            pass

    for method in ("GET", "POST", "PATCH", "DELETE"):
        setattr(Handler, f"do_{method}", Handler._any)
    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
        api.loop.run_until_complete(api.transport.close())
        api.loop.close()


def _function(bench: SendingBench, patch: pytest.MonkeyPatch) -> Any:
    """The function's module, made anew as at a cold start."""
    key = boto3.client("secretsmanager").create_secret(Name=f"sealing-{uuid4().hex[:8]}", SecretString=SEALING_KEY)
    variables = {
        "OFFLOAD_SUBSCRIPTIONS_TABLE": bench.table,
        "OFFLOAD_SENDING": msgspec.json.encode(bench.policy).decode(),
        "OFFLOAD_SENDING_DESTINATIONS": "",
        "OFFLOAD_SENDER_QUEUE_URL": bench.well,
        "OFFLOAD_SENDER_TROUBLE_QUEUE_URL": bench.trouble,
        "OFFLOAD_SEALING_SECRET": key["ARN"],
        "OFFLOAD_EGRESS_PRIVATE": "127.0.0.0/8",
        "OFFLOAD_EGRESS_SCHEMES": "http,https",
        "OFFLOAD_EGRESS_PORTS": "*",
    }
    for name, value in variables.items():
        patch.setenv(name, value)
    sys.modules.pop("offload.functions.subscriptions_api.handler", None)
    api = importlib.import_module("offload.functions.subscriptions_api.handler")
    for part in (api.store, api.owed, api.subscribing, api.transport):
        patch.setattr(part, "_now", bench.clock)
    patch.setattr(api, "utc_now", bench.clock)
    # In its own process it has its own stdout.
    silent = SimpleNamespace(info=lambda *_, **__: None, exception=lambda *_, **__: None)
    patch.setattr(api.handler, "_log", silent)
    return api
