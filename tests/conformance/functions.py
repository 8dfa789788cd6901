"""Lambda: what it does with a batch of a queue, with a call that fails, and with one that nobody waits for."""

from __future__ import annotations

import io
import json
import time
import zipfile
from typing import Any

from botocore.exceptions import ClientError

from tests.conformance.behaviour import behaviour
from tests.conformance.oracle import WITHIN, Oracle, refusal, until

GUIDE = "lambda/latest/dg"
READ = "2026-11-29"
VISIBILITY = 6  # seconds; at least the function's timeout
ONCE: dict[str, float] = {"embedded": 2.0, "account": 90.0}
"""Seconds in which a second try would have come: on AWS a minute after the first (invocation-async-error-handling)."""

CODE = """
import json
import os


def handler(event, context):
    print("called")  # the embedded AWS waits for a line
    if event.get("fail"):
        raise ValueError("on purpose: " + event["fail"])
    bodies = {each["messageId"]: each["body"] for each in event.get("Records", [])}
    for body in bodies.values():
        if body.startswith("raise"):
            if int(event["Records"][0]["attributes"]["ApproximateReceiveCount"]) == 1:
                raise ValueError("on purpose")
    return {"batchItemFailures": [{"itemIdentifier": id} for id, body in bodies.items() if body.startswith("bad")]}
"""


def a_function(aws: Oracle) -> str:
    """The function that all of them share, with a role that may read queues."""

    def make() -> str:
        functions, name = aws.client("lambda"), aws.name()
        packed = io.BytesIO()
        with zipfile.ZipFile(packed, "w") as archive:
            archive.writestr("conformance.py", CODE)
        settings = {
            "FunctionName": name,
            "Runtime": "python3.13",
            "Role": _a_role(aws),
            "Handler": "conformance.handler",
            "Code": {"ZipFile": packed.getvalue()},
            "Timeout": VISIBILITY,
        }

        # The embedded AWS makes it; on AWS the role may not.
        aws.later(aws.client("logs").delete_log_group, logGroupName=f"/aws/lambda/{name}")

        def made() -> bool:
            try:
                functions.create_function(**settings)
            except ClientError as error:
                # A new role is known to Lambda after some seconds.
                if "assume" not in str(error):
                    raise
                return False
            return True

        assert until(made), "Lambda never came to know the role"
        aws.later(functions.delete_function, FunctionName=name)
        functions.get_waiter("function_active_v2").wait(FunctionName=name, WaiterConfig={"Delay": 1, "MaxAttempts": 60})
        # A first call is the slow one: within a batch it might take longer than the timeout, and fail all of it.
        functions.invoke(FunctionName=name, Payload="{}")
        return name

    return aws.shared("function", make)


def _a_role(aws: Oracle) -> str:
    iam, name = aws.client("iam"), aws.name()
    trust = {"Effect": "Allow", "Principal": {"Service": "lambda.amazonaws.com"}, "Action": "sts:AssumeRole"}
    document = {"Version": "2012-10-17", "Statement": [trust]}
    arn: str = iam.create_role(RoleName=name, AssumeRolePolicyDocument=json.dumps(document))["Role"]["Arn"]
    aws.later(iam.delete_role, RoleName=name)
    actions = ["sqs:ReceiveMessage", "sqs:DeleteMessage", "sqs:GetQueueAttributes"]
    allow = {"Effect": "Allow", "Action": actions, "Resource": f"arn:*:sqs:*:*:{aws.prefix}-*"}
    policy = {"Version": "2012-10-17", "Statement": [allow]}
    iam.put_role_policy(RoleName=name, PolicyName="queues", PolicyDocument=json.dumps(policy))
    aws.later(iam.delete_role_policy, RoleName=name, PolicyName="queues")
    return arn


def a_mapped_queue(aws: Oracle) -> tuple[str, str]:
    """A queue that feeds the function, and its dead-letter queue, to which a message moves at its second failure."""
    functions, name = aws.client("lambda"), a_function(aws)
    dead = aws.queue()
    policy = {"deadLetterTargetArn": aws.arn_of(dead), "maxReceiveCount": 1}
    url = aws.queue(VisibilityTimeout=str(VISIBILITY), RedrivePolicy=json.dumps(policy))
    mapping = {
        "EventSourceArn": aws.arn_of(url),
        "FunctionName": name,
        "BatchSize": 10,
        "FunctionResponseTypes": ["ReportBatchItemFailures"],
    }

    def made() -> str | None:
        try:
            return str(functions.create_event_source_mapping(**mapping)["UUID"])
        except ClientError as error:
            # The role's policy, too, is known after some seconds.
            if "permission" not in str(error).lower():
                raise
            return None

    uuid = until(made)
    assert uuid, "Lambda never came to know the role's policy"
    aws.later(functions.delete_event_source_mapping, UUID=uuid)
    return url, dead


def fate(aws: Oracle, bodies: list[str]) -> dict[str, str]:
    """What becomes of messages sent as one batch to a function behind a queue with one receive: done, or dead."""
    url, dead = a_mapped_queue(aws)
    entries = [{"Id": str(number), "MessageBody": body} for number, body in enumerate(bodies)]
    aws.client("sqs").send_message_batch(QueueUrl=url, Entries=entries)
    failed: set[str] = set()
    names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]

    def settled() -> bool:
        failed.update(each["Body"] for each in aws.receive(dead, wait=0))
        depth = aws.client("sqs").get_queue_attributes(QueueUrl=url, AttributeNames=names)["Attributes"]
        return all(int(depth[each]) == 0 for each in names)

    assert until(settled, within=2 * WITHIN), f"{bodies} are still in the queue"
    # Between the queue and its dead letters a message is in neither.
    failed.update(each["Body"] for each in aws.receive(dead))
    return {body: "dead" if body in failed else "done" for body in bodies}


@behaviour(
    "Of a batch of a queue only the reported messages come back; the others are deleted",
    document=f"{GUIDE}/services-sqs-errorhandling.html",
    read=READ,
    relied=(
        "offload/runtime/events/consumer.py",
        "offload/runtime/jobs/run.py",
        "offload/functions/delivery_sender/handler.py",
    ),
    expected={"bad": "dead", "good": "done"},
)
def batch_reports_failures(aws: Oracle) -> Any:
    return fate(aws, ["bad", "good"])


@behaviour(
    "A function that raises makes its whole batch come back",
    document=f"{GUIDE}/services-sqs-errorhandling.html",
    read=READ,
    relied=("offload/runtime/events/consumer.py",),
    expected={"raise": "dead"},
)
def batch_raises(aws: Oracle) -> Any:
    return fate(aws, ["raise"])


@behaviour(
    "A call that waits answers 200 and names the function's error, with its message",
    document="lambda/latest/api/API_Invoke.html",
    read=READ,
    relied=("offload/cli/webhooks_in/received.py", "offload/runtime/jobs/executions.py"),
    expected=[200, "Unhandled", "on purpose: yes"],
)
def call_fails(aws: Oracle) -> Any:
    answer = aws.client("lambda").invoke(FunctionName=a_function(aws), Payload=json.dumps({"fail": "yes"}))
    return [answer["StatusCode"], answer["FunctionError"], json.loads(answer["Payload"].read())["errorMessage"]]


@behaviour(
    "A function that does not exist is ResourceNotFoundException, also when it is asked for durable executions",
    document="lambda/latest/api/API_ListDurableExecutionsByFunction.html",
    read=READ,
    relied=("offload/cli/preflight/region.py",),
    expected=["ResourceNotFoundException", "ResourceNotFoundException"],
)
def no_such_function(aws: Oracle) -> Any:
    functions, name = aws.client("lambda"), aws.name()
    return [
        refusal(functions.invoke, FunctionName=name),
        refusal(functions.list_durable_executions_by_function, FunctionName=name),
    ]


@behaviour(
    "A call that nobody waits for is not tried again where MaximumRetryAttempts is 0; its failure goes to the"
    " destination, with the payload",
    document=f"{GUIDE}/invocation-async-error-handling.html",
    read=READ,
    relied=("offload/cdk/constructs/each_minute.py", "offload/cdk/patterns/background_job.py"),
    expected=[1, {"fail": "async"}],
)
def asynchronous_call_fails_once(aws: Oracle) -> Any:
    functions, iam, name, failures = aws.client("lambda"), aws.client("iam"), a_function(aws), aws.queue()
    role = functions.get_function_configuration(FunctionName=name)["Role"].rpartition("/")[2]
    allow = {"Effect": "Allow", "Action": "sqs:SendMessage", "Resource": f"arn:*:sqs:*:*:{aws.prefix}-*"}
    policy = json.dumps({"Version": "2012-10-17", "Statement": [allow]})
    iam.put_role_policy(RoleName=role, PolicyName="failures", PolicyDocument=policy)
    aws.later(iam.delete_role_policy, RoleName=role, PolicyName="failures")

    def set_up() -> bool:
        try:
            functions.put_function_event_invoke_config(
                FunctionName=name,
                MaximumRetryAttempts=0,
                DestinationConfig={"OnFailure": {"Destination": aws.arn_of(failures)}},
            )
        except ClientError as error:
            if "permission" not in str(error).lower():
                raise
            return False
        return True

    assert until(set_up)
    functions.invoke(FunctionName=name, InvocationType="Event", Payload=json.dumps({"fail": "async"}))
    found: list[dict[str, Any]] = []

    def arrived() -> bool:
        found.extend(aws.receive(failures))
        return bool(found)

    until(arrived)
    end = time.monotonic() + ONCE[aws.where]
    while time.monotonic() < end:
        found += aws.receive(failures)
    return [len(found), json.loads(found[0]["Body"])["requestPayload"]]
