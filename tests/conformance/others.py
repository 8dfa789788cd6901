"""Parameter Store, CloudWatch Logs, CloudFormation."""

from __future__ import annotations

import json
import time
from typing import Any

from botocore.exceptions import ClientError

from tests.conformance.behaviour import Differs, behaviour
from tests.conformance.oracle import ABSENT, WITHIN, Oracle, refusal, until

READ = "2026-11-29"


@behaviour(
    "A parameter that does not exist is ParameterNotFound",
    document="systems-manager/latest/APIReference/API_GetParameter.html",
    read=READ,
    relied=("offload/runtime/jobs/registry.py", "offload/cli/preflight/calls.py"),
    expected="ParameterNotFound",
)
def no_such_parameter(aws: Oracle) -> Any:
    return refusal(aws.client("ssm").get_parameter, Name=f"/{aws.name()}")


@behaviour(
    "A parameter that was written is read, and one that exists is not made again",
    document="systems-manager/latest/APIReference/API_PutParameter.html",
    read=READ,
    relied=("offload/cli/preflight/changes.py",),
    expected=["a", "ParameterAlreadyExists"],
)
def parameter_is_there(aws: Oracle) -> Any:
    ssm, name = aws.client("ssm"), f"/{aws.name()}"
    ssm.put_parameter(Name=name, Value="a", Type="String")
    aws.later(ssm.delete_parameter, Name=name)
    value = ssm.get_parameter(Name=name)["Parameter"]["Value"]
    return [value, refusal(ssm.put_parameter, Name=name, Value="b", Type="String")]


@behaviour(
    "FilterLogEvents gives the events of all streams of a group since a moment, page by page, whole",
    document="AmazonCloudWatchLogs/latest/APIReference/API_FilterLogEvents.html",
    read=READ,
    relied=("offload/cli/deployment/logs.py",),
    expected=[{"line": 0}, {"line": 1}, {"line": 2}],
    differs={
        "embedded": Differs(
            [{"line": 0}, {"line": 1}],
            "a page with a limit is its last: it gives no token; no command of ours sets a limit",
        )
    },
)
def log_lines(aws: Oracle) -> Any:
    logs, group, now = aws.client("logs"), f"/{aws.name()}", int(time.time() * 1000)
    logs.create_log_group(logGroupName=group)
    aws.later(logs.delete_log_group, logGroupName=group)
    for number, stream in enumerate(("a", "b", "a")):
        if number < 2:
            logs.create_log_stream(logGroupName=group, logStreamName=stream)
        event = {"timestamp": now + number, "message": json.dumps({"line": number})}
        logs.put_log_events(logGroupName=group, logStreamName=stream, logEvents=[event])

    found: list[Any] = []

    def complete() -> bool:
        found.clear()
        token: dict[str, str] = {}
        while True:
            page = logs.filter_log_events(logGroupName=group, startTime=now, limit=2, **token)
            found.extend(page["events"])
            if not page.get("nextToken"):
                return len(found) == 3
            token = {"nextToken": page["nextToken"]}

    until(complete, within=WITHIN if aws.where == "account" else ABSENT)
    return [json.loads(each["message"]) for each in sorted(found, key=lambda each: each["timestamp"])]


@behaviour(
    "A stack that does not exist is a ValidationError that says so",
    document="AWSCloudFormation/latest/APIReference/API_DescribeStacks.html",
    read=READ,
    relied=("offload/cli/preflight/calls.py",),
    expected=["ValidationError", True],
)
def no_such_stack(aws: Oracle) -> Any:
    try:
        aws.client("cloudformation").describe_stacks(StackName=aws.name())
    except ClientError as error:
        return [error.response["Error"]["Code"], "does not exist" in error.response["Error"]["Message"]]
    return None
