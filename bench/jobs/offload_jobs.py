"""The same task as a job of ours: through the deployed app on an embedded AWS, and counted call by call.

The app is this project's, copied to a folder and given one more job type as its documents say (docs/jobs.md). Rates and
times go through all of it: signed HTTP, the API's function, the queue, the job's function. Calls and write units are
counted in this process, by the same store and handler on the deployed tables and queue, while the queue's event source
is off: the embedded AWS cannot say who called it.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
import time
from collections import Counter
from collections.abc import Mapping
from contextlib import redirect_stdout
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, cast

import msgspec

from bench.jobs import nothing
from bench.jobs.nothing import NOTHING, Number
from bench.jobs.units import Units
from offload.cli.deployment.aws import shell_settings
from offload.cli.deployment.resources import JOBS_API, Deployment
from offload.cli.jobs.service import jobs_of
from offload.cli.local.deploy import synthesize
from offload.cli.local.process import EmbeddedAws
from offload.cli.local.up import bring_up
from offload.contracts.jobs.job import Job, State, Submit
from offload.contracts.jobs.job_type import Priority
from offload.project import PROJECT
from offload.runtime import aws
from offload.runtime.jobs import items
from offload.runtime.jobs.registry import Registry
from offload.runtime.jobs.run import JobHandler, Run
from offload.runtime.jobs.store import JobStore
from offload.runtime.jobs.table import StoreSettings

if TYPE_CHECKING:
    from aws_lambda_powertools.utilities.typing import LambdaContext

_COPIED: Final = (
    "app.py",
    "cdk.json",
    "environments",
    "stacks",
    "lambdas",
    "offload",
    "shop",
    "schemas",
    "pyproject.toml",
)
_LINKED: Final = (".venv", "node_modules")
_HANDLER: Final = '''\
"""Gives a number back."""

from shop.contracts.nothing import NOTHING, Number
from offload.runtime.jobs.run import Run, job


@job(NOTHING)
def handler(wanted: Number, run: Run) -> Number:
    """Does nothing."""
    return wanted
'''
# What is added to the copy's files, after which of their texts.
_ADDED: Final = {
    "shop/catalogue.py": {
        "from shop.providers import PROVIDERS\n": "from shop.contracts.nothing import NOTHING\n",
        "    jobs=(": "NOTHING, ",
    },
    "stacks/shop.py": {
        "from shop.contracts.stock import StockLow\n": "from shop.contracts.nothing import NOTHING\n",
        '        ledger = Ledger(self, "Ledger")\n': (
            '        BackgroundJob(self, "Nothing", source="nothing", job=NOTHING, service=platform.jobs)\n'
        ),
    },
}
_BULK: Final = 500
_DONE_WITHIN: Final = 300.0
_POLL: Final = 0.1
_COUNTED: Final = 50
_WARM: Final = 100


def measure(*, rounds: int, single: int, many: int) -> dict[str, Any]:
    """Seconds of single submits and round trips, jobs a second of many, and what one job costs in calls and units."""
    with tempfile.TemporaryDirectory(prefix="jobs-") as folder:
        project = _with_nothing(Path(folder) / "project")
        assembly = Path(folder) / "cdk.out"
        synthesize(assembly, project=project)
        embedded = EmbeddedAws(Path(folder) / "embedded", persist=False)
        try:
            deployment = bring_up(embedded, assembly=assembly)
            found = _rates(deployment, rounds, single, many)
            # What the handler logs counts as its work, and is read by nobody.
            with Path(os.devnull).open("w", encoding="utf-8") as nowhere, redirect_stdout(nowhere):
                return {**found, **_one_job(embedded, deployment)}
        finally:
            embedded.stop()


def _with_nothing(project: Path) -> Path:
    """A copy of this project with the job type `nothing`."""
    project.mkdir()
    for name in _COPIED:
        source = PROJECT / name
        if source.is_dir():
            shutil.copytree(source, project / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, project / name)
    for name in _LINKED:
        (project / name).symlink_to(PROJECT / name)
    folder = project / "lambdas" / "nothing"
    folder.mkdir()
    (folder / "__init__.py").write_text('"""Gives a number back."""\n', encoding="utf-8")
    (folder / "handler.py").write_text(_HANDLER, encoding="utf-8")
    shutil.copy(str(nothing.__file__), project / "shop" / "contracts" / "nothing.py")
    for file, additions in _ADDED.items():
        text = (project / file).read_text(encoding="utf-8")
        for after, added in additions.items():
            if text.count(after) != 1:
                raise RuntimeError(f"{file}: no place for another job: it has not exactly one {after!r}")
            text = text.replace(after, after + added)
        (project / file).write_text(text, encoding="utf-8")
    return project


def _rates(deployment: Deployment, rounds: int, single: int, many: int) -> dict[str, Any]:
    jobs = jobs_of(deployment)
    table = deployment.job_service.table
    for number in range(_WARM):
        jobs.submit(NOTHING, Number(number=number)).result(timeout=60)
    log_bytes = _log_bytes(deployment) / _WARM
    submits, trips, submitted, rates = [], [], [], []
    for _ in range(rounds):
        for number in range(single):
            began = time.perf_counter()
            handle = jobs.submit(NOTHING, Number(number=number))
            submits.append(time.perf_counter() - began)
            if handle.result(timeout=60).number != number:
                raise RuntimeError(f"job {handle.id} gave another number back")
            trips.append(_seconds_to_end(jobs.get(handle.id)))
        before = _ended(deployment, table)
        began = time.perf_counter()
        for start in range(0, many, _BULK):
            jobs.submit_many(NOTHING, [Number(number=number) for number in range(start, min(start + _BULK, many))])
        submitted.append(many / (time.perf_counter() - began))
        deadline = time.monotonic() + _DONE_WITHIN
        while _ended(deployment, table) - before < many:
            if time.monotonic() > deadline:
                raise RuntimeError(f"not done after {_DONE_WITHIN:.0f} s")
            time.sleep(_POLL)
        rates.append(many / (time.perf_counter() - began))
    return {"submits": submits, "trips": trips, "submitted": submitted, "rates": rates, "log_bytes": log_bytes}


def _seconds_to_end(job: Job) -> float:
    ended = next(entry for entry in job.history if entry.state is State.SUCCEEDED)
    return (ended.at - job.created_at).total_seconds()


def _ended(deployment: Deployment, table: str) -> int:
    """How many jobs of the type have ended, by the service's own counters."""
    keys = [items.tally_key(NOTHING.name, shard) for shard in range(items.TALLY_SHARDS)]
    answer = deployment.aws.dynamodb.batch_get_item(RequestItems={table: {"Keys": keys, "ConsistentRead": True}})
    return sum(int(item.get("ended", {"N": "0"})["N"]) for item in answer["Responses"][table])


def _log_bytes(deployment: Deployment) -> int:
    """Bytes that the job's function has logged; CloudWatch counts 26 more a line (API_PutLogEvents.html)."""
    group = deployment.function(NOTHING.name).log_group
    return sum(
        len(event["message"].encode()) + 26
        for page in deployment.aws.logs.get_paginator("filter_log_events").paginate(logGroupName=group)
        for event in page["events"]
    )


def _one_job(embedded: EmbeddedAws, deployment: Deployment) -> dict[str, Any]:
    """Calls by operation, write units and processor time of one job: of its submit, and of its run."""
    own = deployment.function(NOTHING.name).function_name
    functions = deployment.aws.lambda_
    (mapping,) = functions.list_event_source_mappings(FunctionName=own)["EventSourceMappings"]
    functions.update_event_source_mapping(UUID=mapping["UUID"], Enabled=False)
    deadline = time.monotonic() + 30
    while functions.get_event_source_mapping(UUID=mapping["UUID"])["State"] != "Disabled":
        if time.monotonic() > deadline:
            raise RuntimeError("the event source was not switched off within 30 s")
        time.sleep(_POLL)
    variables = functions.get_function_configuration(FunctionName=own)["Environment"]["Variables"]
    os.environ.update({**shell_settings(embedded.connected()), **variables})
    settings = StoreSettings.from_environment()
    store = JobStore(
        table=settings.offload_jobs_table,
        bucket=settings.offload_jobs_bucket,
        bus=settings.offload_bus,
        registry=Registry(settings.offload_jobs_path),
        types={NOTHING.name: NOTHING},
    )
    handler = JobHandler(NOTHING, _work, store)
    queue = store.registry.queue(NOTHING.name, Priority.NORMAL)
    _submit_and_run(deployment, store, handler, queue)  # opens connections
    submit_ms, run_ms = [], []
    for _ in range(_COUNTED):
        took = _submit_and_run(deployment, store, handler, queue)
        submit_ms.append(1000 * took[0])
        run_ms.append(1000 * took[1])
    calls: dict[str, Counter[str]] = {"submit": Counter(), "run": Counter()}
    units = Units(aws.dynamodb(), deployment.aws.dynamodb)
    now = {"at": "submit"}

    def count(model: Any, **_: Any) -> None:
        calls[now["at"]][f"{model.service_model.service_name}:{model.name}"] += 1

    for client in (aws.dynamodb(), aws.sqs(), aws.events(), aws.s3(), aws.ssm()):
        client.meta.events.register("before-call", count)
    for _ in range(_COUNTED):
        now["at"] = "submit"
        record = _submitted(deployment, store, queue)
        now["at"] = "run"
        _run(deployment, handler, queue, record)
    return {
        "calls": {at: {name: number / _COUNTED for name, number in each.items()} for at, each in calls.items()},
        "write_units": units.written / _COUNTED,
        "processor_ms": {"submit": submit_ms, "run": run_ms},
        "memory_mb": {
            "submit": _memory(deployment, JOBS_API),
            "run": _memory(deployment, NOTHING.name),
        },
    }


def _memory(deployment: Deployment, function: str) -> int:
    name = deployment.function(function).function_name
    return deployment.aws.lambda_.get_function_configuration(FunctionName=name)["MemorySize"]


def _work(wanted: Number, run: Run) -> Number:
    return wanted


def _submit_and_run(
    deployment: Deployment, store: JobStore, handler: JobHandler[Number, Number], queue: str
) -> tuple[float, float]:
    """Processor seconds of the submit and of the run."""
    before = time.process_time()
    record = _submitted(deployment, store, queue)
    between = time.process_time()
    _run(deployment, handler, queue, record)
    return between - before, time.process_time() - between


def _submitted(deployment: Deployment, store: JobStore, queue: str) -> Mapping[str, Any]:
    """A submitted job's nudge, as Lambda's event source gives it to the function."""
    wish = Submit(type=NOTHING.name, input=msgspec.Raw(json.dumps({"number": 1}).encode()))
    store.submit(NOTHING, wish)
    (message,) = deployment.aws.sqs.receive_message(QueueUrl=queue, WaitTimeSeconds=10)["Messages"]
    return {
        "messageId": message["MessageId"],
        "receiptHandle": message["ReceiptHandle"],
        "body": message["Body"],
        "attributes": {"ApproximateReceiveCount": "1"},
        "eventSourceARN": "arn:aws:sqs:us-east-1:000000000000:nothing",
    }


class _Context:
    """What the handler asks Lambda's context for."""

    aws_request_id = "counted"
    function_name = NOTHING.name
    memory_limit_in_mb = 256
    invoked_function_arn = "arn:aws:lambda:us-east-1:000000000000:function:nothing"

    def __init__(self) -> None:
        self._until = datetime.now(UTC) + NOTHING.timeout

    def get_remaining_time_in_millis(self) -> int:
        """Milliseconds to the deadline."""
        return int((self._until - datetime.now(UTC)).total_seconds() * 1000)


def _run(deployment: Deployment, handler: JobHandler[Number, Number], queue: str, record: Mapping[str, Any]) -> None:
    if handler({"Records": [record]}, cast("LambdaContext", _Context()))["batchItemFailures"]:
        raise RuntimeError("the counted job did not run")
    deployment.aws.sqs.delete_message(QueueUrl=queue, ReceiptHandle=record["receiptHandle"])
