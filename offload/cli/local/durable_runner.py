"""AWS's runner of durable functions beside the embedded AWS: `python durable_runner.py --port … --store … --lambda …`.

Runs in an environment of its own (requirements/durable.in) and imports nothing of this project. To a function it is the
Lambda endpoint. It adds to AWS's runner what that lacks (version 1.4.0, tried 2026-11-24):

- `Invoke` of a durable function starts an execution, and a name meets the execution that has it, as on AWS
  (durable-invocation.html, "Idempotency"); with another payload it is a conflict.
- What ran when the runner ended goes on when it starts again: the runner would leave it RUNNING for ever.
- A wait that ends while its invocation does goes on: the runner would cancel that timer half done, with the same end.
- Every other call of Lambda's API goes on to the embedded AWS.
"""

from __future__ import annotations

import argparse
import asyncio
import http.client
import json
import logging
import re
import ssl
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
import uuid
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any, Final

import boto3
from aws_durable_execution_sdk_python.lambda_service import OperationStatus, OperationType
from aws_durable_execution_sdk_python_testing.exceptions import UnknownRouteError
from aws_durable_execution_sdk_python_testing.model import StartDurableExecutionInput
from aws_durable_execution_sdk_python_testing.runner import WebRunner, WebRunnerConfig
from aws_durable_execution_sdk_python_testing.stores.base import StoreType
from aws_durable_execution_sdk_python_testing.web.server import RequestHandler, WebServiceConfig

EXECUTION_SECONDS_TAG: Final = "offload:durable-execution-seconds"
"""The tag in which a function's `DurableConfig.ExecutionTimeout` stands, since the emulator drops the property."""

_INVOKE: Final = re.compile(r"/2015-03-31/functions/(?P<name>[^/]+)/invocations")
_ARN: Final = re.compile(r"arn:[^:]*:lambda:[^:]*:(?P<account>\d{12}):function:(?P<name>[^:]+)(?::(?P<version>.+))?")
_ACCOUNT: Final = "000000000000"
_RETENTION_DAYS: Final = 14
_HOP_BY_HOP: Final = frozenset({"connection", "content-length", "host", "keep-alive", "transfer-encoding"})
_PASS_ON_WITHIN: Final = 960
_LAMBDA_WITHIN: Final = 60.0
_POLL: Final = 0.1

log = logging.getLogger("durable_runner")


class Adapter:
    """What is added to AWS's runner."""

    def __init__(self, runner: WebRunner, endpoint: str, region: str) -> None:
        self.endpoint: Final = endpoint
        self._executor: Any = runner._executor
        self._store: Any = runner._store
        self._lambda = boto3.client("lambda", endpoint_url=endpoint, region_name=region)
        self._names = threading.Lock()
        self._finish_each_timer()

    def execution_seconds(self, name: str) -> int | None:
        """How long an execution of the function may take; None for a function that is not durable, or is not there."""
        try:
            arn = self._lambda.get_function_configuration(FunctionName=name)["FunctionArn"]
        except self._lambda.exceptions.ResourceNotFoundException:
            return None
        found = self._lambda.list_tags(Resource=arn)["Tags"].get(EXECUTION_SECONDS_TAG)
        return int(found) if found else None

    def start(self, function: str, version: str, seconds: int, name: str, payload: str) -> tuple[int, str]:
        """Starts an execution, or finds the one that has its name; the HTTP status, and the execution's ARN."""
        with self._names:
            found, _ = self._store.query(function_name=function, execution_name=name, limit=1)
            if found:
                same = found[0].start_input.input == payload
                return (202 if same else 409), found[0].durable_execution_arn
            wish = StartDurableExecutionInput(
                account_id=_ACCOUNT,
                function_name=function,
                function_qualifier=version,
                execution_name=name,
                execution_timeout_seconds=seconds,
                execution_retention_period_days=_RETENTION_DAYS,
                invocation_id=str(uuid.uuid4()),
                input=payload,
            )
            return 202, self._executor.start_execution(wish).execution_arn

    def _finish_each_timer(self) -> None:
        """Lets a timer that fires complete its wait and invoke, whatever cancels it between the two.

        The end of an invocation arms the next timer and cancels the last one. Where that has completed its wait by
        then, and not invoked yet, nothing is left to arm and nobody would invoke.
        """
        of_runner = self._executor._fire_due_and_invoke_handler

        def timer(execution: str) -> Callable[[], Awaitable[None]]:
            async def fire() -> None:
                await asyncio.shield(of_runner(execution)())

            return fire

        self._executor._fire_due_and_invoke_handler = timer

    def go_on(self) -> int:
        """Invokes anew what ran when the last runner ended, and sets its timers; how many there were."""
        running, _ = self._store.query(status_filter="RUNNING")
        for execution in running:
            started = execution.get_operation_execution_started().start_timestamp or datetime.now(UTC)
            spent = (datetime.now(UTC) - started).total_seconds()
            left = max(1, round(execution.start_input.execution_timeout_seconds - spent))
            # The launch makes what the callbacks' timers hang on.
            self._executor._launch_execution(execution, left)
            for operation in execution.operations:
                if operation.operation_type is OperationType.CALLBACK and operation.status is OperationStatus.STARTED:
                    details, options = operation.callback_details, _options_of(execution, operation.operation_id)
                    if details is not None and options is not None:
                        self._executor._schedule_callback_timeouts(
                            execution.durable_execution_arn, options, details.callback_id
                        )
        return len(running)


def _options_of(execution: Any, operation_id: str) -> Any:
    """The timeouts that a callback was made with."""
    for update in execution.updates:
        if update.operation_id == operation_id and update.callback_options is not None:
            return update.callback_options
    return None


class Handler(RequestHandler):
    """The runner's routes, `Invoke`, and the way on to the embedded AWS."""

    adapter: Adapter

    def do_DELETE(self) -> None:  # noqa: N802 -- http.server's name
        """Goes on to the embedded AWS, like whatever the runner does not know."""
        self._pass_on("DELETE")

    def _handle_request(self, method: str) -> None:
        path, _, query = self.path.partition("?")
        if method == "POST" and (invoke := _INVOKE.fullmatch(path)):
            self._invoke(urllib.parse.unquote(invoke["name"]), urllib.parse.parse_qs(query))
            return
        try:
            self.router.find_route(path, method)
        except UnknownRouteError:
            self._pass_on(method)
            return
        super()._handle_request(method)

    def _invoke(self, name: str, query: dict[str, list[str]]) -> None:
        version = query.get("Qualifier", [""])[0]
        if arn := _ARN.fullmatch(name):
            name, version = arn["name"], arn["version"] or version
        elif ":" in name:
            name, _, version = name.partition(":")
        seconds = self.adapter.execution_seconds(name)
        if seconds is None:
            self._pass_on("POST")
            return
        if not version or version == "$LATEST":
            self._answer(
                400,
                {"Type": "User", "message": f"{name} is durable: invoke it by a version or an alias, not as $LATEST"},
                {"X-Amzn-ErrorType": "InvalidParameterValueException"},
            )
            return
        payload = self.rfile.read(int(self.headers.get("Content-Length", 0))).decode()
        wished = self.headers.get("X-Amz-Durable-Execution-Name") or str(uuid.uuid4())
        status, execution = self.adapter.start(name, version, seconds, wished, payload)
        if status == http.HTTPStatus.CONFLICT:
            message = f"execution {wished} of {name} has another payload"
            error = {"X-Amzn-ErrorType": "DurableExecutionAlreadyStartedException"}
            self._answer(status, {"Type": "User", "message": message}, error)
            return
        self._answer(status, None, {"X-Amz-Durable-Execution-Arn": execution})

    def _pass_on(self, method: str) -> None:
        length = int(self.headers.get("Content-Length", 0))
        request = urllib.request.Request(  # noqa: S310 -- the endpoint that this runner was started with
            f"{self.adapter.endpoint}{self.path}",
            data=self.rfile.read(length) if length else None,
            headers={name: value for name, value in self.headers.items() if name.lower() not in _HOP_BY_HOP},
            method=method,
        )
        try:
            with urllib.request.urlopen(request, timeout=_PASS_ON_WITHIN, context=_tls()) as answer:  # noqa: S310
                status, headers, body = answer.status, answer.headers, answer.read()
        except urllib.error.HTTPError as refusal:
            status, headers, body = refusal.code, refusal.headers, refusal.read()
        self.send_response(status)
        for name, value in headers.items():
            if name.lower() not in _HOP_BY_HOP:
                self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _answer(self, status: int, content: dict[str, str] | None, headers: dict[str, str]) -> None:
        body = json.dumps(content).encode() if content is not None else b""
        self.send_response(status)
        for name, value in {"Content-Type": "application/json", **headers, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)


def _tls() -> ssl.SSLContext | None:
    return ssl.create_default_context(cafile=_CERTIFICATE) if _CERTIFICATE else None


_CERTIFICATE: str | None = None


def _wait_for_lambda(endpoint: str) -> None:
    """Waits until the embedded AWS answers: an execution that is invoked before that would count a failure."""
    deadline = time.monotonic() + _LAMBDA_WITHIN
    while True:
        try:
            # Any answer will do.
            urllib.request.urlopen(f"{endpoint}/_ministack/ready", timeout=5, context=_tls()).close()  # noqa: S310
        except urllib.error.HTTPError:
            return
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(_POLL)
        else:
            return


def main() -> None:
    """Serves until it is killed; its state is in the store, at each moment."""
    global _CERTIFICATE
    parser = argparse.ArgumentParser()
    for name in ("--port", "--store", "--lambda", "--region"):
        parser.add_argument(name, required=True)
    parser.add_argument("--certificate")
    given = vars(parser.parse_args())
    _CERTIFICATE = given["certificate"]
    port, endpoint = int(given["port"]), given["lambda"]
    config = WebRunnerConfig(
        web_service=WebServiceConfig(host="127.0.0.1", port=port, log_level=logging.WARNING),
        lambda_endpoint=endpoint,
        local_runner_endpoint=f"http://127.0.0.1:{port}",
        local_runner_region=given["region"],
        store_type=StoreType.SQLITE,
        store_path=given["store"],
    )
    runner = WebRunner(config)
    runner.start()
    adapter = Adapter(runner, endpoint, given["region"])
    Handler.adapter = adapter
    server: Any = runner._server
    server.RequestHandlerClass = Handler
    _wait_for_lambda(endpoint)
    log.warning("%d executions go on", adapter.go_on())
    runner.serve_forever()


if __name__ == "__main__":
    main()
