"""HTTP APIs: deployed by themselves, with a log of who called."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import cast

from aws_cdk import Aws, Fn, Stack
from aws_cdk import aws_apigatewayv2 as api
from aws_cdk import aws_apigatewayv2_authorizers as authorizers
from aws_cdk import aws_apigatewayv2_integrations as integrations
from aws_cdk import aws_logs as logs
from constructs import Construct

from offload.cdk.constructs.encryption import encrypt
from offload.cdk.constructs.python_function import RETENTION, PythonFunction
from offload.cdk.environment import Environment
from offload.contracts.http_api import Route

_LOGGED = (
    "requestId",
    "requestTime",
    "identity.sourceIp",
    "identity.userArn",
    "httpMethod",
    "routeKey",
    "status",
    "responseLatency",
)


# CloudWatch Logs lets a service write by a policy of at most 5,120 characters for the account and Region, which
# each log group makes longer; names that begin so have one entry together. AmazonCloudWatch/latest/logs/
# AWS-logs-infrastructure-CWL.html and step-functions/latest/dg/bp-cwl.html, read 2026-11-29.
_DELIVERED = "/aws/vendedlogs"


def signed_api(
    scope: Construct, routes: Mapping[str, Route], function: PythonFunction, *, permission_a_route: bool = False
) -> api.HttpApi:
    """Makes an API whose `routes` take only requests that are signed with IAM, and call `function`. One a scope.

    One permission lets all routes call it: a function's policy has 20 KB (gettingstarted-limits.html, read 2026-11-27).
    With `permission_a_route` each route has its own.
    """
    http_api, _ = _logged_api(scope, authorizer=authorizers.HttpIamAuthorizer())
    integration = integrations.HttpLambdaIntegration(
        "Function", function.function, scope_permission_to_route=permission_a_route
    )
    for route in routes.values():
        http_api.add_routes(path=route.path, methods=[api.HttpMethod[route.method]], integration=integration)
    return http_api


def unsigned_api(scope: Construct, *, throttle: api.ThrottleSettings) -> tuple[api.HttpApi, api.HttpStage]:
    """Makes an API that anybody may call, and its stage; `throttle` bounds the requests to it. One a scope.

    It has no routes yet; the function that they call checks who calls.
    """
    return _logged_api(scope, throttle=throttle)


def _logged_api(
    scope: Construct,
    *,
    authorizer: api.IHttpRouteAuthorizer | None = None,
    throttle: api.ThrottleSettings | None = None,
) -> tuple[api.HttpApi, api.HttpStage]:
    """An API with a `$default` stage and an access log, which never has a body or a query."""
    http_api = api.HttpApi(
        scope,
        "HttpApi",
        # The stack's name has the environment in it.
        api_name="-".join((Stack.of(scope).stack_name, *_path(scope))),
        default_authorizer=authorizer,
        create_default_stage=False,
    )
    settings = Environment.of(scope)
    log_group = logs.LogGroup(
        scope,
        "AccessLog",
        # The log of an earlier stack of this name may still be there, where data is kept: so the stack's id is in it.
        log_group_name="/".join((_DELIVERED, Stack.of(scope).stack_name, *_path(scope), _stack_id())),
        retention=RETENTION[settings.functions.log_retention_days],
    )
    encrypt(log_group)
    stage = api.HttpStage(scope, "Stage", http_api=http_api, stage_name="$default", auto_deploy=True, throttle=throttle)
    resource = cast("api.CfnStage", stage.node.default_child)
    resource.access_log_settings = api.CfnStage.AccessLogSettingsProperty(
        destination_arn=log_group.log_group_arn,
        format=json.dumps({name.rpartition(".")[2]: f"$context.{name}" for name in _LOGGED}),
    )
    return http_api, stage


def throttle_route(stage: api.HttpStage, route: api.HttpRoute, throttle: api.ThrottleSettings) -> None:
    """Bounds the requests to one route, beside what bounds the stage."""
    resource = cast("api.CfnStage", stage.node.default_child)
    settings = {"ThrottlingRateLimit": throttle.rate_limit, "ThrottlingBurstLimit": throttle.burst_limit}
    key = cast("api.CfnRoute", route.node.default_child).route_key
    # A dot would be a property within one.
    resource.add_property_override(f"RouteSettings.{key.replace('.', chr(92) + '.')}", settings)
    # API Gateway refuses settings of a route that is not there yet.
    stage.node.add_dependency(route)


def _path(scope: Construct) -> list[str]:
    """The construct's path below its stack."""
    return [each.node.id for each in scope.node.scopes[len(Stack.of(scope).node.scopes) :]]


def _stack_id() -> str:
    """The first part of the id that CloudFormation gives a stack, another one each time it is made."""
    return Fn.select(0, Fn.split("-", Fn.select(2, Fn.split("/", Aws.STACK_ID))))
