"""What is added to AWS's runner of durable functions: a wait that ends while its invocation does goes on."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import pytest
from aws_durable_execution_sdk_python.execution import DurableExecutionInvocationInput
from aws_durable_execution_sdk_python.identifier import OperationIdentifier
from aws_durable_execution_sdk_python.lambda_service import (
    DurableExecutionInvocationOutput,
    InvocationStatus,
    OperationSubType,
    OperationType,
    OperationUpdate,
    WaitOptions,
)
from aws_durable_execution_sdk_python_testing.execution import ExecutionStatus
from aws_durable_execution_sdk_python_testing.invoker import InvokeResponse
from aws_durable_execution_sdk_python_testing.model import StartDurableExecutionInput
from aws_durable_execution_sdk_python_testing.runner import WebRunner, WebRunnerConfig
from aws_durable_execution_sdk_python_testing.stores.base import StoreType
from aws_durable_execution_sdk_python_testing.web.server import WebServiceConfig

from offload.cli.local.durable_runner import Adapter
from offload.cli.local.process import ACCOUNT, HOST, REGION, free_port
from tests.patience import PATIENCE

SETTLED: Final = 2.0
"""Seconds after an invocation's end in which nothing more has happened."""


class EndsWithItsWait:
    """A function that waits a second, and whose invocation ends after the wait is complete and before its timer is.

    It stands in the place of Lambda. The runner's event loop stands still from the one to the other, as it may on a
    busy machine.
    """

    def __init__(self, runner: WebRunner) -> None:
        executor: Any = runner._executor
        scheduler: Any = runner._scheduler
        self._executor = executor
        self._loop = scheduler._loop
        self._wait_is_complete = threading.Event()
        self.invocation_has_ended = threading.Event()
        self._complete: Callable[[str], bool] = executor._fire_due_operations
        self._end: Callable[..., None] = executor._finish_invocation
        executor._invoker.invoke = self.invoke
        executor._fire_due_operations = self.complete
        executor._finish_invocation = self.end

    def invoke(self, name: str, given: DurableExecutionInvocationInput, *_: object, **__: object) -> InvokeResponse:
        waits = [op for op in given.initial_execution_state.operations if op.operation_type is OperationType.WAIT]
        if waits:
            return InvokeResponse(DurableExecutionInvocationOutput(InvocationStatus.SUCCEEDED, "1"), "second")
        start = OperationUpdate.create_wait_start(
            OperationIdentifier(operation_id="rest", operation_type=OperationType.WAIT, sub_type=OperationSubType.WAIT),
            WaitOptions(wait_seconds=1),
        )
        self._executor.checkpoint_execution(given.durable_execution_arn, given.checkpoint_token, [start])
        assert self._wait_is_complete.wait(PATIENCE)
        return InvokeResponse(DurableExecutionInvocationOutput(InvocationStatus.PENDING), "first")

    def complete(self, execution: str) -> bool:
        """The timer's work, in the lane where the end of the invocation comes next."""
        completed = self._complete(execution)
        self._wait_is_complete.set()
        lane = self._executor._registry.get(execution)._lane
        deadline = time.monotonic() + PATIENCE
        while lane._queue.empty() and not self.invocation_has_ended.is_set():
            assert time.monotonic() < deadline
            time.sleep(0.005)
        self._loop.call_soon_threadsafe(self.invocation_has_ended.wait, PATIENCE)
        return completed

    def end(self, *given: object) -> None:
        self._end(*given)
        self.invocation_has_ended.set()


@pytest.fixture
def runner(tmp_path: Path) -> Iterator[WebRunner]:
    port = free_port()
    config = WebRunnerConfig(
        web_service=WebServiceConfig(host=HOST, port=port),
        lambda_endpoint=f"http://{HOST}:{port}",
        local_runner_endpoint=f"http://{HOST}:{port}",
        local_runner_region=REGION,
        store_type=StoreType.SQLITE,
        store_path=str(tmp_path / "executions.db"),
    )
    with WebRunner(config) as running:
        yield running


def status_after_a_run(runner: WebRunner, patience: float) -> ExecutionStatus:
    """What has become of an execution of the function, at the latest `patience` seconds after its first invocation."""
    function = EndsWithItsWait(runner)
    executor: Any = runner._executor
    execution = executor.start_execution(
        StartDurableExecutionInput(
            account_id=ACCOUNT,
            function_name="archive",
            function_qualifier="1",
            execution_name="archive-1",
            execution_timeout_seconds=600,
            execution_retention_period_days=1,
            input="{}",
        )
    ).execution_arn
    assert function.invocation_has_ended.wait(PATIENCE)
    deadline = time.monotonic() + patience
    while True:
        status: ExecutionStatus = executor.get_execution(execution).current_status()
        if status is not ExecutionStatus.RUNNING or time.monotonic() > deadline:
            return status
        time.sleep(0.02)


def test_a_wait_that_ends_while_its_invocation_does_goes_on(runner: WebRunner) -> None:
    Adapter(runner, runner._config.lambda_endpoint, REGION)
    assert status_after_a_run(runner, PATIENCE) is ExecutionStatus.SUCCEEDED


def test_without_that_it_would_run_for_ever(runner: WebRunner) -> None:
    assert status_after_a_run(runner, SETTLED) is ExecutionStatus.RUNNING, (
        "AWS's runner finishes its timers by now: take Adapter._finish_each_timer away"
    )
