"""Lambda's API of durable executions as a test answers it, through botocore, which checks what is asked."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import boto3
import pytest
from botocore.awsrequest import AWSResponse
from botocore.compat import HTTPHeaders
from botocore.exceptions import ClientError

from offload.runtime import aws

Answer = Callable[[dict[str, Any]], dict[str, Any] | None]
"""Of a request's parameters; may raise what `refusal` gives."""


def answered_by(monkeypatch: pytest.MonkeyPatch, answers: Mapping[str, Answer]) -> None:
    """From now on the functions' client for Lambda gets what `answers` says, by operation (`Invoke`)."""
    client: Any = boto3.client("lambda", region_name="eu-west-1", aws_access_key_id="x", aws_secret_access_key="x")

    def asked(params: dict[str, Any], context: dict[str, Any], **_: object) -> None:
        context["asked"] = params

    def answer(model: Any, context: dict[str, Any], **_: object) -> tuple[Any, dict[str, Any]]:
        content = answers[model.name](context["asked"]) or {}
        return AWSResponse("", 200, HTTPHeaders(), None), {"ResponseMetadata": {"HTTPStatusCode": 200}, **content}

    client.meta.events.register("before-parameter-build.lambda", asked)
    client.meta.events.register("before-call.lambda", answer)
    monkeypatch.setattr(aws, "functions", lambda: client)


def refusal(operation: str, code: str, status: int) -> ClientError:
    """An answer with an error."""
    return ClientError(
        {"Error": {"Code": code, "Message": code}, "ResponseMetadata": {"HTTPStatusCode": status}},  # type: ignore[typeddict-item]
        operation,
    )
