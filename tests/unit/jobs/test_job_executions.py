"""Durable executions: which of Lambda's statuses mean that a job's attempt is still under way."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import boto3
import pytest
from botocore.stub import Stubber

from offload.runtime import aws
from offload.runtime.jobs import executions

ARN = "arn:aws:lambda:eu-west-1:123456789012:function:long:1/durable-execution/job/0"
ENDED = {"SUCCEEDED", "FAILED", "TIMED_OUT", "STOPPED", "DELETING"}


@pytest.fixture
def lambda_(monkeypatch: pytest.MonkeyPatch) -> Iterator[Stubber]:
    client = boto3.client("lambda", region_name="eu-west-1", aws_access_key_id="x", aws_secret_access_key="x")
    monkeypatch.setattr(aws, "functions", lambda: client)
    with Stubber(client) as stubber:
        yield stubber


def statuses() -> list[str]:
    """Every status that Lambda's own model has."""
    client = boto3.client("lambda", region_name="eu-west-1", aws_access_key_id="x", aws_secret_access_key="x")
    shape: Any = client.meta.service_model.shape_for("ExecutionStatus")
    return list(shape.enum)


@pytest.mark.parametrize("status", statuses())
def test_an_execution_goes_on_until_it_has_ended_also_while_it_is_paused(lambda_: Stubber, status: str) -> None:
    answer = {
        "DurableExecutionArn": ARN,
        "DurableExecutionName": "job",
        "FunctionArn": ARN.partition("/")[0],
        "StartTimestamp": datetime(2026, 11, 29, tzinfo=UTC),
        "Status": status,
    }
    lambda_.add_response("get_durable_execution", answer, {"DurableExecutionArn": ARN})
    assert executions.goes_on(ARN) is (status not in ENDED)


def test_an_execution_that_lambda_does_not_have_any_more_has_ended(lambda_: Stubber) -> None:
    lambda_.add_client_error("get_durable_execution", "ResourceNotFoundException", http_status_code=404)
    assert executions.goes_on(ARN) is False
