"""The stage of an HTTP API: deployed by itself, with a log of who called."""

from __future__ import annotations

import json
from typing import cast

from aws_cdk import RemovalPolicy
from aws_cdk import aws_apigatewayv2 as api
from aws_cdk import aws_logs as logs
from constructs import Construct

from stacks.constructs.python_function import RETENTION
from stacks.environment import Environment

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


def logged_stage(scope: Construct, http_api: api.HttpApi, *, throttle: api.ThrottleSettings | None = None) -> None:
    """Gives an API its `$default` stage and an access log, which never has a body or a query. One a scope."""
    settings = Environment.of(scope)
    log_group = logs.LogGroup(
        scope,
        "AccessLog",
        retention=RETENTION[settings.functions.log_retention_days],
        removal_policy=RemovalPolicy.RETAIN if settings.data.keep else RemovalPolicy.DESTROY,
    )
    stage = api.HttpStage(scope, "Stage", http_api=http_api, stage_name="$default", auto_deploy=True, throttle=throttle)
    cast("api.CfnStage", stage.node.default_child).access_log_settings = api.CfnStage.AccessLogSettingsProperty(
        destination_arn=log_group.log_group_arn,
        format=json.dumps({name.rpartition(".")[2]: f"$context.{name}" for name in _LOGGED}),
    )
