"""Whose a call is, which action it needs, and how its resource is written."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import ModuleType
from typing import Any, Final

import boto3
import botocore.session
import pytest

from offload.project import PROJECT
from tests.calls.recording import FOLDER_VARIABLE, Caller, Name, Names, Recorder, acting_as, caller, needs
from tests.patience import PATIENCE

SENT: Final = {"QueueUrl": "http://sqs/1/work", "MessageBody": "m"}


@pytest.mark.parametrize(
    ("service", "operation", "params", "expected"),
    [
        (
            "dynamodb",
            "TransactWriteItems",
            {
                "TransactItems": [
                    {"Put": {"TableName": "marks"}},
                    {"Update": {"TableName": "jobs"}},
                    {"Delete": {"TableName": "jobs"}},
                    {"ConditionCheck": {"TableName": "jobs"}},
                ]
            },
            {
                ("dynamodb:PutItem", "marks"),
                ("dynamodb:UpdateItem", "jobs"),
                ("dynamodb:DeleteItem", "jobs"),
                ("dynamodb:ConditionCheckItem", "jobs"),
            },
        ),
        (
            "dynamodb",
            "TransactGetItems",
            {"TransactItems": [{"Get": {"TableName": "jobs"}}]},
            {("dynamodb:GetItem", "jobs")},
        ),
        (
            "dynamodb",
            "BatchGetItem",
            {"RequestItems": {"a": {}, "b": {}}},
            {("dynamodb:BatchGetItem", "a"), ("dynamodb:BatchGetItem", "b")},
        ),
        ("dynamodb", "Query", {"TableName": "jobs", "IndexName": "due"}, {("dynamodb:Query", "jobs/index/due")}),
        ("s3", "HeadObject", {"Bucket": "b", "Key": "uploads/1/x"}, {("s3:GetObject", "b/uploads/*")}),
        ("s3", "ListObjectsV2", {"Bucket": "b"}, {("s3:ListBucket", "b")}),
        ("s3", "UploadPart", {"Bucket": "b", "Key": "results/x"}, {("s3:PutObject", "b/results/*")}),
        ("s3", "AbortMultipartUpload", {"Bucket": "b", "Key": "x"}, {("s3:AbortMultipartUpload", "b/*")}),
        ("sqs", "SendMessageBatch", {"QueueUrl": "q"}, {("sqs:SendMessage", "q")}),
        ("lambda", "Invoke", {"FunctionName": "f:1"}, {("lambda:InvokeFunction", "f:1")}),
        (
            "events",
            "PutEvents",
            {"Entries": [{"EventBusName": "bus", "Source": "a"}, {"EventBusName": "bus", "Source": "b"}]},
            {("events:PutEvents", "bus from a"), ("events:PutEvents", "bus from b")},
        ),
        (
            "events",
            "StartReplay",
            {"EventSourceArn": "archive", "Destination": {"Arn": "bus"}, "ReplayName": "missing-1f"},
            {("events:StartReplay", "archive"), ("events:StartReplay", "bus"), ("events:StartReplay", "missing-*")},
        ),
    ],
)
def test_a_request_needs_these_actions_on_these_resources(
    service: str, operation: str, params: Mapping[str, Any], expected: set[tuple[str, str]]
) -> None:
    assert {(action, name.name + name.part) for action, name in needs(service, operation, params)} == expected


def test_a_resource_is_written_by_the_variable_that_holds_it(monkeypatch: pytest.MonkeyPatch) -> None:
    # One name for all, as some tests have it.
    for variable in ("A_TABLE", "B_BUCKET", "C_BUS", "D_QUEUE_URL"):
        monkeypatch.setenv(variable, "same")
    monkeypatch.setenv("OFFLOAD_CALLS_REGISTRY", json.dumps({"table": "rates", "secret": "arn:secret"}))
    names, by = Names(), Caller("visit_ledger")
    assert names.resource(Name("table", "same", "/index/due"), by) == "A_TABLE/index/due"
    assert names.resource(Name("bucket", "same", "/claims/*"), by) == "B_BUCKET/claims/*"
    assert names.resource(Name("bus", "same", " from a"), by) == "C_BUS from a"
    assert names.resource(Name("queue", "same"), by) == "D_QUEUE_URL"
    assert names.resource(Name("table", "rates"), by) == "OFFLOAD_CALLS_REGISTRY.table"
    assert names.resource(Name("secret", "arn:secret"), by) == "OFFLOAD_CALLS_REGISTRY.secret"
    assert names.resource(Name("table", "nobody's"), by) == "?"
    names.tell("nobody's", "TOLD_TABLE")
    assert names.resource(Name("table", "nobody's"), by) == "TOLD_TABLE"


def test_a_queue_whose_url_came_out_of_a_job_type_s_parameter_is_that_type_s(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OFFLOAD_JOBS_PATH", "/offload/test/jobs")
    monkeypatch.setenv("OFFLOAD_JOB", "report")
    names = Names()
    names.learn("http://sqs/1/other", "/offload/test/jobs/other", "queues")
    names.learn("http://sqs/1/report", "/offload/test/jobs/report", "queues")
    other, own = Name("queue", "http://sqs/1/other"), Name("queue", "http://sqs/1/report")
    assert names.resource(other, Caller("ward_report")) == "OFFLOAD_JOBS_PATH/other queues"
    assert names.resource(own, Caller("ward_report")) == "OFFLOAD_JOBS_PATH/{OFFLOAD_JOB} queues"
    # The functions of the job service take every type.
    assert names.resource(other, Caller("offload/functions/jobs_api")) == "OFFLOAD_JOBS_PATH/* queues"
    # What a test's own handler does with other types is its own.
    assert names.resource(own, Caller("@job", "report")) == "OFFLOAD_JOBS_PATH/{OFFLOAD_JOB} queues"
    assert names.resource(other, Caller("@job", "report")) == "?"


def a_function(name: str, code: str) -> ModuleType:
    """A module as if it lay in lambdas/NAME."""
    module = ModuleType(f"lambdas.{name}.handler")
    code = textwrap.dedent(code)
    exec(compile(code, f"lambdas/{name}/handler.py", "exec"), module.__dict__)  # noqa: S102 -- the test's own
    return module


def test_a_call_is_its_function_s_in_a_thread_of_a_pool_too() -> None:
    with ThreadPoolExecutor(1) as pool:
        module = a_function("one", "def handler(do, *given):\n    return do(*given)")
        assert module.handler(caller) == Caller("one")
        assert module.handler(pool.submit, caller).result() == Caller("one")
        # A stand-in that a test has put under a function, and what the test does in it.
        assert module.handler(lambda: caller()) is None
        assert pool.submit(caller).result() is None
    in_asyncio = "import asyncio\n\ndef handler(do):\n    return asyncio.run(asyncio.to_thread(do))"
    assert a_function("one", in_asyncio).handler(caller) == Caller("one")
    assert caller() is None
    with acting_as("two"):
        assert caller() == Caller("two")


def test_what_a_consumer_does_around_its_handler_is_the_function_s_whose_module_made_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("CONSUMER", "QUEUE_URL", "DEAD_LETTER_QUEUE_URL", "MARKS_TABLE", "CLAIMS_BUCKET"):
        monkeypatch.setenv(f"OFFLOAD_{name}", "x")
    monkeypatch.setenv("OFFLOAD_ATTEMPTS", "1")
    from offload.runtime.events import consumer

    seen: list[Caller | None] = []
    # In a module that is no test's.
    here = a_function("one", "def see(self, records):\n    seen.append(caller())")
    here.__dict__.update(__name__="offload.runtime.elsewhere", seen=seen, caller=caller)
    monkeypatch.setattr(consumer._Consumer, "_handle", here.see)
    code = """
        from offload.runtime.events.consumer import transactional_consumer
        handler = transactional_consumer()(lambda events: None)
    """
    context: Any = None
    a_function("one", code).handler({"Records": []}, context)
    consumer.transactional_consumer()(lambda events: consumer.Effect())({"Records": []}, context)
    assert seen == [Caller("one"), Caller("@consumer")]


@pytest.mark.usefixtures("aws_environment")
def test_botocores_clients_presigned_urls_and_the_lean_client_are_seen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from offload.runtime import lean_aws

    # Beside the recorder of this run, which has its own: another one that sees the same.
    monkeypatch.setattr("botocore.session.Session.create_client", botocore.session.Session.create_client)
    monkeypatch.setattr(lean_aws.Service, "call", lean_aws.Service.call)
    monkeypatch.setattr(ThreadPoolExecutor, "submit", ThreadPoolExecutor.submit)
    Recorder(str(tmp_path), lambda: Caller("one")).install()
    monkeypatch.setenv("SOME_TABLE", "t")
    monkeypatch.setenv("SOME_BUCKET", "b")
    with pytest.raises(boto3.client("dynamodb").exceptions.ResourceNotFoundException):
        boto3.client("dynamodb").get_item(TableName="t", Key={"pk": {"S": "1"}})
    boto3.client("s3").generate_presigned_url("put_object", Params={"Bucket": "b", "Key": "uploads/x"})
    with pytest.raises(lean_aws.AwsRefused):
        lean_aws.services()[0].call("PutItem", {"TableName": "t", "Item": {}}, within=5)
    [file] = tmp_path.glob("*.jsonl")
    assert sorted(json.loads(line)[:3] for line in file.read_text().splitlines()) == [
        ["one", "dynamodb:GetItem", "SOME_TABLE"],
        ["one", "dynamodb:PutItem", "SOME_TABLE"],
        ["one", "s3:PutObject", "SOME_BUCKET/uploads/*"],
    ]


def test_a_worker_of_the_embedded_aws_records_by_the_module_that_it_imports(tmp_path: Path) -> None:
    code = tmp_path / "code" / "lambdas" / "one"
    code.mkdir(parents=True)
    for package in (code.parent, code):
        (package / "__init__.py").touch()
    (code / "handler.py").write_text(
        "import boto3\n"
        "client = boto3.client('sqs', endpoint_url='http://127.0.0.1:9', region_name='eu-west-1')\n"
        "message = {'QueueUrl': 'http://127.0.0.1:9/q', 'MessageBody': 'm'}\n"
        "client.generate_presigned_url('send_message', Params=message)\n"
    )
    variables = {
        "PYTHONPATH": os.pathsep.join([str(PROJECT / "tests" / "calls" / "worker"), str(tmp_path / "code")]),
        FOLDER_VARIABLE: str(tmp_path),
        "AWS_LAMBDA_FUNCTION_NAME": "whatever",
        "AWS_ACCESS_KEY_ID": "a",
        "AWS_SECRET_ACCESS_KEY": "b",
        "WORK_QUEUE_URL": "http://127.0.0.1:9/q",
    }
    subprocess.run(
        [sys.executable, "-c", "import lambdas.one.handler"],
        env=variables,
        cwd=tmp_path / "code",
        check=True,
        timeout=PATIENCE,
    )
    [file] = tmp_path.glob("*.jsonl")
    [line] = [json.loads(line) for line in file.read_text().splitlines()]
    assert line[:3] == ["one", "sqs:SendMessage", "WORK_QUEUE_URL"]
