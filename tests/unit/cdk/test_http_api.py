"""HTTP APIs as our constructs make them: signed with IAM, or open and bounded; each with an access log."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from aws_cdk import App, Duration, Stack
from aws_cdk import aws_apigatewayv2 as api

from offload.cdk.constructs.http_api import signed_api, unsigned_api
from offload.cdk.constructs.python_function import PythonFunction
from offload.cdk.environment import Environment
from offload.contracts.functions import own
from offload.contracts.jobs.api import ROUTES
from tests.unit.cdk.keyed import Synthesized, synthesized

pytestmark = pytest.mark.synthesis

THROTTLE = api.ThrottleSettings(rate_limit=5, burst_limit=10)


def made(folder: Path, make: Callable[[Stack], object]) -> Synthesized:
    def build(app: App, environment: Environment) -> None:
        environment.attach(app)
        make(Stack(app, "Small"))

    return synthesized(Environment.filled_in("dev"), folder, build)


@pytest.mark.parametrize("permission_a_route", [False, True])
def test_a_signed_api_wants_a_signature_on_every_route(tmp_path: Path, permission_a_route: bool) -> None:
    def make(stack: Stack) -> None:
        function = PythonFunction(stack, "Api", source=own("jobs_api"), timeout=Duration.seconds(29))
        signed_api(stack, ROUTES, function, permission_a_route=permission_a_route)

    templates = made(tmp_path, make)
    routes = [each.properties for each in templates.of_type("AWS::ApiGatewayV2::Route")]
    assert {each["RouteKey"] for each in routes} == {f"{each.method} {each.path}" for each in ROUTES.values()}
    assert {each["AuthorizationType"] for each in routes} == {"AWS_IAM"}
    assert len(list(templates.of_type("AWS::Lambda::Permission"))) == (len(ROUTES) if permission_a_route else 1)


def test_an_unsigned_api_is_bounded_and_logs_who_called_and_not_what(tmp_path: Path) -> None:
    templates = made(tmp_path, lambda stack: unsigned_api(stack, throttle=THROTTLE))
    [stage] = templates.of_type("AWS::ApiGatewayV2::Stage")
    assert stage.properties["DefaultRouteSettings"] == {"ThrottlingRateLimit": 5, "ThrottlingBurstLimit": 10}
    logged = json.loads(stage.properties["AccessLogSettings"]["Format"])
    assert {"sourceIp", "userArn", "status"} <= logged.keys()
    assert not {"body", "queryString", "rawQueryString"} & logged.keys()
