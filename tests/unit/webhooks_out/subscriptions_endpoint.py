"""The API of subscriptions as its function has it, behind HTTP, on a bench's table; and the commands pointed at it."""

from __future__ import annotations

import importlib
import os
import re
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
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
from tests.odd_server import Behaviour, Received, answer, by_request, odd_server
from tests.unit.webhooks_out.sending_bench import SEALING_KEY, SendingBench


class Context:
    """Lambda's context, as far as it is looked at."""

    aws_request_id = "request"


@contextmanager
def commands_on(bench: SendingBench, emulator: Instance, patch: pytest.MonkeyPatch) -> Iterator[Deployment]:
    """The deployment that commands find: the API on the bench's table, its clock and its queues."""
    with api_of(bench, patch) as url:
        sealing_secret = os.environ["OFFLOAD_SEALING_SECRET"]

        class Found(Deployment):
            """Everything is real but the look-up."""

            subscription_services = (
                SubscriptionService(url, bench.table, sealing_secret, "offload-local-clinic", "delivery_batch"),
            )

        found = Found(Aws("local", emulator))
        patch.setattr(resources.Deployment, "of", lambda environment: found)
        yield found


@contextmanager
def api_of(bench: SendingBench, patch: pytest.MonkeyPatch) -> Iterator[str]:
    """The API behind HTTP, as API Gateway has it: nobody comes in without a signature."""
    api = _function(bench, patch)
    patterns = [
        (f"{route.method} {route.path}", re.compile(re.sub(r"{(\w+)}", r"(?P<\1>[^/]+)", route.path)))
        for route in ROUTES.values()
    ]

    one_at_a_time = threading.Lock()

    def behaviour(request: Received) -> Behaviour:
        asked = urlsplit(request.path)
        if not request.headers.get("authorization", "").startswith("AWS4-HMAC-SHA256 "):
            return answer(403, b'{"message":"Forbidden"}')
        route, names = routed(request.method, asked.path)
        event = {
            "routeKey": route,
            "rawPath": asked.path,
            "pathParameters": names,
            "queryStringParameters": dict(parse_qsl(asked.query)),
            "headers": request.headers,
            "requestContext": {"http": {"method": request.method, "path": asked.path}},
            "body": request.body.decode(),
        }
        with one_at_a_time:
            given = api.handler(event, Context())
        return answer(given["statusCode"], given.get("body", "").encode(), given.get("headers"))

    def routed(method: str, path: str) -> tuple[str, dict[str, str]]:
        for name, pattern in patterns:
            if name.startswith(f"{method} ") and (match := pattern.fullmatch(path)):
                return name, {key: unquote(value) for key, value in match.groupdict().items()}
        return "$default", {}

    with odd_server(by_request(behaviour)) as server:
        yield server.url("")
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
