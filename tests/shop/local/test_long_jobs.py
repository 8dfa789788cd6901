"""Long jobs through the deployed app and AWS's runner of durable functions: killed, cancelled, interrupted."""

from __future__ import annotations

import csv
import gzip
import json
import os
import signal
from collections import Counter
from pathlib import Path
from typing import Any, Final

import pytest

from offload.cli.jobs.service import jobs_of
from offload.cli.local.up import bring_up
from offload.client.jobs import Handle
from offload.contracts.jobs.job import Job, State
from shop.contracts.jobs.order_import import ORDER_IMPORT, Imported, OrdersFile
from shop.orders import SHIPPED_DAY
from tests.copies import Copy
from tests.patience import PATIENCE, until
from tests.shop.deployed_figures import done_by
from tests.shop.local.test_order_events import settled
from tests.shop.month import MONTH
from tests.shop.plain_ledger import ledger_of_file

WHOLE: Final = os.environ.get("OFFLOAD_PROVE") == "whole"
DAYS: Final = 8
"""The shipped day's orders, so often under new numbers: 24,864 rows, 13 chunks."""
KILLS: Final = 5
INVOICES_OF_A_CHUNK: Final = 150
"""At the most, of 2,000 rows in both files."""


@pytest.fixture(scope="session")
def orders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """December 2010 where it is there and the whole is asked for, otherwise a day of it again and again."""
    if WHOLE and MONTH.exists():
        return MONTH
    file = tmp_path_factory.mktemp("orders") / "days.csv.gz"
    with gzip.open(SHIPPED_DAY, "rt", encoding="utf-8", newline="") as day:
        header, *rows = csv.reader(day)
    number = header.index("InvoiceNo")
    with gzip.open(file, "wt", encoding="utf-8", newline="") as days:
        writer = csv.writer(days)
        writer.writerow(header)
        for again in range(DAYS):
            for row in rows:
                # An invoice's number has six digits, behind a C when it cancels.
                shifted = str(int(row[number].lstrip("C")) + 50_000 * again)
                writer.writerow([*row[:number], row[number][: -len(shifted)] + shifted, *row[number + 1 :]])
    return file


def said(copy: Copy, function: str, message: str) -> list[dict[str, Any]]:
    """The lines of one kind in a function's log. An invocation that was killed has left none on the embedded AWS."""
    found = copy.offload("logs", function, "--since", "1h", "--json")
    assert found.returncode == 0, found.stderr
    lines = [json.loads(line)["message"] for line in found.stdout.splitlines()]
    entries = [json.loads(line) for line in lines if line.startswith("{")]
    return [entry for entry in entries if entry["message"] == message]


def steps_done(copy: Copy) -> Counter[str]:
    """How often each step of the import ran, in the invocations that left a log."""
    return Counter(entry["step"] for entry in said(copy, "order_import", "step"))


def published(copy: Copy) -> Counter[str]:
    """How often each order's event was put on the bus: a message that a stop made the queue deliver again is one."""
    records = [entry for entry in said(copy, "event_journal", "record") if entry["event_type"].startswith("order.")]
    return Counter(event for event, _ in {(entry["event_id"], entry["message_id"]) for entry in records})


def chunk(job: Job) -> int:
    """The number of the chunk that an import is at."""
    step = (job.progress.step if job.progress else None) or ""
    return int(step.removeprefix("publish-")) if step.startswith("publish-") else 0


def worker_of(copy: Copy, function: str) -> list[int]:
    """The processes that run a function."""
    found = []
    for pid in copy.embedded.workers():
        try:
            command = Path(f"/proc/{pid}/cmdline").read_text(encoding="utf-8")
        except OSError:  # it has just ended
            continue
        # Its script's folder has the function's name; the environ of a forked worker is that of the fork server.
        if function in command:
            found.append(pid)
    return found


def ended_invocations(copy: Copy) -> int:
    """How many invocations of the only import have ended by themselves."""
    client = copy.deployment.aws.session.client("lambda", endpoint_url=copy.embedded.connected().durable_endpoint)
    function = copy.deployment.function("order_import").function_name
    [execution] = client.list_durable_executions_by_function(FunctionName=function)["DurableExecutions"]
    history = client.get_durable_execution_history(DurableExecutionArn=execution["DurableExecutionArn"])
    return sum(event["EventType"] == "InvocationCompleted" for event in history["Events"])


def at_chunk(handle: Handle[Imported], number: int) -> Job:
    """Waits until an import has come to a chunk, or to its end."""
    until(lambda: (job := handle.job()).state.ended or chunk(job) >= number, f"chunk {number}")
    return handle.job()


def imported_once(copy: Copy, orders: Path, result: Imported) -> None:
    """The ledger is what the file comes to: each invoice once."""
    until(lambda: settled(copy.deployment), "the consumers")
    ledger = json.loads(copy.offload("ledger", "show", "--json").stdout)
    wanted = ledger_of_file(orders)
    assert (ledger["orders"], ledger["revenue"]) == (wanted.total.orders, f"{wanted.total.revenue:.2f}")
    assert result.rejected == 0
    assert result.published == result.invoices


@pytest.mark.long
def test_an_import_that_is_killed_five_times_takes_each_invoice_once_and_does_not_start_over(
    copy: Copy, orders: Path
) -> None:
    with jobs_of(copy.deployment) as jobs:
        handle = jobs.submit(ORDER_IMPORT, OrdersFile(file=jobs.upload(orders)))
        number = 1
        for kill in range(KILLS):
            if kill == KILLS - 1:
                # The engine gives up on five deaths without an invocation between that ends: one does at each wait,
                # every four chunks, unless it was killed just then.
                until(lambda: ended_invocations(copy) > 0, "an invocation to end")
                number = chunk(handle.job()) + 1
            assert not at_chunk(handle, number).state.ended
            until(lambda: worker_of(copy, "OrderImportFunction") != [], "the function to run again")
            for pid in worker_of(copy, "OrderImportFunction"):
                os.kill(pid, signal.SIGKILL)
            number = chunk(handle.job()) + 1
        result = handle.result(PATIENCE)
        job = handle.job()
    assert job.attempt == 1
    imported_once(copy, orders, result)
    # A step that was killed runs again, and publishes its invoices again under the same ids; no other step does.
    times = published(copy)
    # Not by the log: what a function has no time left for is not in it.
    assert done_by(copy.deployment, "EventJournal", of="order.") == result.invoices
    assert sum(times.values()) - len(times) <= KILLS * INVOICES_OF_A_CHUNK
    # A step may have said that it is done and been killed before its checkpoint: each death costs one at the most.
    steps = steps_done(copy)
    assert steps["open"] == 1
    assert sum(steps.values()) - len(steps) <= KILLS


def test_an_import_goes_on_where_it_was_after_a_stop_and_a_start(copy: Copy, orders: Path, assembly: Path) -> None:
    with jobs_of(copy.deployment) as jobs:
        handle = jobs.submit(ORDER_IMPORT, OrdersFile(file=jobs.upload(orders)))
        at_chunk(handle, 3)
    stopped = copy.embedded.stop()
    assert stopped
    assert stopped.clean
    again = Copy(copy.embedded, bring_up(copy.embedded, assembly=assembly), copy.project)
    with jobs_of(again.deployment) as jobs:
        job = jobs.wait(handle.id, PATIENCE)
        assert (job.state, job.attempt) == (State.SUCCEEDED, 1)
    # The step that the stop came into says that it is done, may find nobody to keep that, and runs again.
    steps = steps_done(again)
    assert sum(steps.values()) - len(steps) <= 1
    times = published(again)
    assert sum(times.values()) - len(times) <= INVOICES_OF_A_CHUNK


@pytest.mark.long
def test_an_import_goes_on_when_the_runner_alone_was_killed(copy: Copy, orders: Path) -> None:
    instance = copy.embedded.connected()
    with jobs_of(copy.deployment) as jobs:
        handle = jobs.submit(ORDER_IMPORT, OrdersFile(file=jobs.upload(orders)))
        at_chunk(handle, 3)
        assert instance.durable_pid
        os.kill(instance.durable_pid, signal.SIGKILL)
        until(lambda: copy.embedded.start().durable_pid != instance.durable_pid, "another runner")
        result = handle.result(PATIENCE)
    imported_once(copy, orders, result)


def test_a_cancelled_import_stops_at_its_next_step(copy: Copy, orders: Path) -> None:
    with jobs_of(copy.deployment) as jobs:
        handle = jobs.submit(ORDER_IMPORT, OrdersFile(file=jobs.upload(orders)))
        at = chunk(at_chunk(handle, 2))
        handle.cancel()
        job = handle.wait(PATIENCE)
    assert job.state is State.CANCELLED
    assert len(steps_done(copy)) < at + 6


def test_a_file_that_is_not_there_fails_the_import_with_what_to_do(deployed: Copy) -> None:
    with jobs_of(deployed.deployment) as jobs:
        job = jobs.submit(ORDER_IMPORT, OrdersFile(file="uploads/nothing.csv")).wait(PATIENCE)
    assert job.state is State.FAILED
    assert job.error
    assert "uploads/nothing.csv" in job.error
    said = deployed.offload("jobs", "answer", job.id, "yes")
    assert said.returncode == 1
    assert f"job {job.id} is failed and asks nothing" in said.stderr


def test_a_submit_that_comes_twice_is_one_execution(deployed: Copy) -> None:
    with jobs_of(deployed.deployment) as jobs:
        key = jobs.upload(SHIPPED_DAY)
        handles = [jobs.submit(ORDER_IMPORT, OrdersFile(file=key), idempotency_key="day") for _ in range(3)]
        assert len({each.id for each in handles}) == 1
        assert handles[0].result(PATIENCE).invoices == 143
    instance = deployed.embedded.connected()
    client = deployed.deployment.aws.session.client("lambda", endpoint_url=instance.durable_endpoint)
    function = deployed.deployment.function("order_import").function_name
    found = client.list_durable_executions_by_function(FunctionName=function)
    assert [each["DurableExecutionName"] for each in found["DurableExecutions"]].count(handles[0].id) == 1
