"""Answers of AWS given without AWS, each validated against the API's own model: a made-up shape fails the test."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import boto3
import botocore.session
from botocore.awsrequest import AWSResponse
from botocore.compat import HTTPHeaders
from botocore.exceptions import ParamValidationError
from botocore.stub import validate_parameters


class Refusal:
    """An error as AWS answers it."""

    def __init__(self, code: str, message: str = "", status: int = 400) -> None:
        self.code, self.message, self.status = code, message, status


Answer: TypeAlias = Mapping[str, Any] | Callable[[Mapping[str, Any]], Mapping[str, Any] | Refusal] | Refusal


class RecordedAws:
    """In place of `Aws`: a session that reaches nothing, and clients that answer from `answers`.

    `answers` are by operation (`DescribeStacks`); a function is given the call's parameters. `calls` has every call
    that was made, as service and operation. An operation without an answer fails the test.
    """

    def __init__(self, answers: Mapping[str, Answer], *, region: str = "eu-west-1") -> None:
        self.answers = dict(answers)
        self.calls: list[tuple[str, str]] = []
        self._clients: dict[str, Any] = {}
        inner: Any = botocore.session.Session()
        inner.register("provide-client-params.*.*", self._note)
        inner.register("before-call.*.*", self._answer)
        self.session = boto3.Session(
            aws_access_key_id="AKIATEST", aws_secret_access_key="test", region_name=region, botocore_session=inner
        )

    def client(self, service: str) -> Any:
        if service not in self._clients:
            self._clients[service] = self.session.client(service)  # type: ignore[call-overload]
        return self._clients[service]

    def now(self, answers: Mapping[str, Answer]) -> RecordedAws:
        """The same clients, which take a second to make, with other answers and no calls yet."""
        self.answers, self.calls = dict(answers), []
        return self

    def _note(self, params: Mapping[str, Any], context: dict[str, Any], **_: Any) -> None:
        context["recorded"] = dict(params)

    def _answer(self, model: Any, context: Mapping[str, Any], **_: Any) -> tuple[AWSResponse, dict[str, Any]]:
        self.calls.append((str(model.service_model.service_name), str(model.name)))
        answer = self.answers[model.name]
        found = answer(context["recorded"]) if callable(answer) else answer
        if isinstance(found, Refusal):
            error = {"Error": {"Code": found.code, "Message": found.message}, "ResponseMetadata": {}}
            return AWSResponse("https://recorded", found.status, HTTPHeaders(), None), error
        if model.output_shape is not None:
            try:
                validate_parameters(dict(found), model.output_shape)
            except ParamValidationError as error:
                raise AssertionError(f"no answer of {model.name}: {error}") from error
        return AWSResponse("https://recorded", 200, HTTPHeaders(), None), dict(found)
