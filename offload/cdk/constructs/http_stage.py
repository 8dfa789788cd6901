"""The stage of an HTTP API: deployed by itself, with a log of who called."""

from __future__ import annotations

import json
from typing import cast

from aws_cdk import Aws, Fn, Stack
from aws_cdk import aws_apigatewayv2 as api
from aws_cdk import aws_logs as logs
from constructs import Construct

from offload.cdk.constructs.encryption import encrypt
from offload.cdk.constructs.python_function import RETENTION
from offload.cdk.environment import Environment

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


def api_name(scope: Construct) -> str:
    """What the construct's API is called: the stack's name, which has the environment in it, and the construct's."""
    return "-".join((Stack.of(scope).stack_name, *_path(scope)))


def logged_stage(
    scope: Construct, http_api: api.HttpApi, *, throttle: api.ThrottleSettings | None = None
) -> api.HttpStage:
    """Gives an API its `$default` stage and an access log, which never has a body or a query. One a scope.

    `throttle` bounds the requests to the stage.
    """
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
    return stage


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
