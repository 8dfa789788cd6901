"""Where a service must reach a resource of the app: alarms' actions, rules' and schedules' targets, and their like."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from offload.cdk.guardrails.functions import FUNCTION, called_function
from offload.cdk.guardrails.policies import SOURCE_ACCOUNT, SOURCE_ARN, Call
from offload.cdk.guardrails.queues import MAPPING, QUEUE
from offload.cdk.guardrails.templates import UNKNOWN, Resource, Templates, Value, listed

TOPIC, ROLE, BUCKET, LOG_GROUP = "AWS::SNS::Topic", "AWS::IAM::Role", "AWS::S3::Bucket", "AWS::Logs::LogGroup"
FUNCTIONS = frozenset({FUNCTION, "AWS::Lambda::Alias", "AWS::Lambda::Version"})

CLOUDWATCH, EVENTS = "cloudwatch.amazonaws.com", "events.amazonaws.com"
SCHEDULER, LOGS = "scheduler.amazonaws.com", "logs.amazonaws.com"
_LAMBDA, _SNS, _API = "lambda.amazonaws.com", "sns.amazonaws.com", "apigateway.amazonaws.com"
# An alarm calls a function under another name than it publishes to a topic (alarms-and-actions-Lambda.html, read
# 2026-11-29).
_ALARMS_OF_FUNCTIONS = "lambda.alarms.cloudwatch.amazonaws.com"

# What it takes to hand something over to a resource of this type.
_TO_HAND_OVER: Mapping[str, tuple[str, ...]] = {
    QUEUE: ("sqs:SendMessage",),
    TOPIC: ("sns:Publish",),
    **dict.fromkeys(FUNCTIONS, ("lambda:InvokeFunction",)),
    "AWS::Events::EventBus": ("events:PutEvents",),
    LOG_GROUP: ("logs:CreateLogStream", "logs:PutLogEvents"),
    "AWS::Kinesis::Stream": ("kinesis:PutRecord",),
    "AWS::KinesisFirehose::DeliveryStream": ("firehose:PutRecord",),
    "AWS::StepFunctions::StateMachine": ("states:StartExecution",),
}
# Lambda Developer Guide, "Configuring Lambda to process Amazon SQS messages", execution role permissions (read
# 2026-11-29), and those of DynamoDB's and Kinesis' streams.
_TO_POLL: Mapping[str, tuple[str, ...]] = {
    QUEUE: ("sqs:ReceiveMessage", "sqs:DeleteMessage", "sqs:GetQueueAttributes"),
    "AWS::DynamoDB::Table": ("dynamodb:GetRecords", "dynamodb:GetShardIterator", "dynamodb:DescribeStream"),
    "AWS::Kinesis::Stream": ("kinesis:GetRecords", "kinesis:GetShardIterator", "kinesis:DescribeStream"),
}


@dataclass(frozen=True)
class Reach:
    """One resource by which a service reaches another: `source` has it reach `target`, whose ARN is `resource`.

    `service` calls for itself, or takes `role` for it; then `source_arn` is what it tells the target, or the role's
    trust policy, about where it comes from. `what` begins a sentence about the target, `location` is the property of
    `source` that names it. With `reads`, the target is polled and nothing handed over to it.
    """

    source: Resource
    location: str
    what: str
    service: str
    target: Resource
    resource: str
    actions: tuple[str, ...]
    source_arn: str
    role: Resource | None = None
    reads: bool = False

    @property
    def account(self) -> str:
        """The account of the source."""
        return self.source.template.account or "<account>"

    def call(self, action: str, resource: str, *, principal: str | None = None) -> Call:
        """What the service asks; `principal` is itself unless given."""
        asking = principal or self.service
        context: dict[str, str | None] = {"aws:securetransport": "true"}
        if asking == self.service:
            context |= {
                SOURCE_ARN: self.source_arn,
                SOURCE_ACCOUNT: self.account,
                "aws:principalisawsservice": "true",
                "aws:principalservicename": asking,
            }
        else:
            context |= {
                "aws:principalisawsservice": "false",
                "aws:principalarn": asking,
                "aws:principalaccount": self.account,
            }
        return Call(asking, action, resource, context)


_Found = Iterator[Reach | None]


def _reach(
    templates: Templates,
    source: Resource,
    value: Value,
    location: str,
    what: str,
    service: str,
    *,
    source_arn: str | None = None,
    role: Value = None,
    to_poll: bool = False,
) -> Reach | None:
    """What `value`, a property of `source`, has the service reach; None where it, or the role, is outside the app."""
    target = templates.target(source, value)
    taken = None if role is None else templates.target(source, role)
    actions = None if target is None else (_TO_POLL if to_poll else _TO_HAND_OVER).get(target.type)
    if target is None or actions is None or (role is not None and (taken is None or taken.type != ROLE)):
        return None
    resource = templates.arn(target)
    if target.type in FUNCTIONS:
        # By a version or an alias it is another resource than by itself; an API names it in the middle of a URI.
        written = templates.written(source, value)
        resource = written.rpartition("/functions/")[2].removesuffix("/invocations") or resource
    arn = templates.arn(source) if source_arn is None else source_arn
    return Reach(source, location, what, service, target, resource, actions, arn, taken, to_poll)


def _alarm_actions(templates: Templates) -> _Found:
    for alarm in templates.of_type("AWS::CloudWatch::Alarm", "AWS::CloudWatch::CompositeAlarm"):
        for kind in ("AlarmActions", "OKActions", "InsufficientDataActions"):
            for index, action in enumerate(listed(alarm.properties.get(kind))):
                target = templates.target(alarm, action)
                service = _ALARMS_OF_FUNCTIONS if target is not None and target.type in FUNCTIONS else CLOUDWATCH
                yield _reach(templates, alarm, action, f"Properties/{kind}/{index}", "The alarm's action", service)


# The targets that EventBridge reaches by their own policies (eb-use-resource-based.html, read 2026-11-29).
_BY_RESOURCE_POLICY = frozenset({QUEUE, TOPIC, LOG_GROUP, *FUNCTIONS})


def _rule_targets(templates: Templates) -> _Found:
    for rule in templates.of_type("AWS::Events::Rule"):
        for index, target in enumerate(listed(rule.properties.get("Targets"))):
            place, role = f"Properties/Targets/{index}", target.get("RoleArn")
            found = _reach(templates, rule, target.get("Arn"), f"{place}/Arn", "The rule's target", EVENTS, role=role)
            if found is not None and (role is not None or found.target.type in _BY_RESOURCE_POLICY):
                yield found
            letters = target.get("DeadLetterConfig", {}).get("Arn")
            yield _reach(
                templates, rule, letters, f"{place}/DeadLetterConfig/Arn", "The rule's dead-letter queue", EVENTS
            )


def _schedule_targets(templates: Templates) -> _Found:
    for schedule in templates.of_type("AWS::Scheduler::Schedule"):
        target = schedule.properties.get("Target", {})
        group = templates.written(schedule, schedule.properties.get("GroupName", "default"))
        region, account = schedule.template.region or "<region>", schedule.template.account or "<account>"
        # Scheduler names the group as its source, not the schedule (cross-service-confused-deputy-prevention.html).
        arn = f"arn:aws:scheduler:{region}:{account}:schedule-group/{group}"
        for value, place, what in (
            (target.get("Arn"), "Properties/Target/Arn", "The schedule's target"),
            (
                target.get("DeadLetterConfig", {}).get("Arn"),
                "Properties/Target/DeadLetterConfig/Arn",
                "The schedule's dead-letter queue",
            ),
        ):
            yield _reach(
                templates, schedule, value, place, what, SCHEDULER, source_arn=arn, role=target.get("RoleArn", "")
            )


def _log_subscriptions(templates: Templates) -> _Found:
    for log_filter in templates.of_type("AWS::Logs::SubscriptionFilter"):
        group = templates.target(log_filter, log_filter.properties.get("LogGroupName"))
        yield _reach(
            templates,
            log_filter,
            log_filter.properties.get("DestinationArn"),
            "Properties/DestinationArn",
            "The log's subscription",
            LOGS,
            source_arn=templates.arn(group) if group is not None else UNKNOWN,
            role=log_filter.properties.get("RoleArn"),
        )


# Where a bucket's notifications go: CloudFormation's names of the list and of the reference, and those of S3's API, as
# the CDK's own resource has them.
_NOTIFICATIONS = (
    ("LambdaConfigurations", "Function"),
    ("QueueConfigurations", "Queue"),
    ("TopicConfigurations", "Topic"),
    ("LambdaFunctionConfigurations", "LambdaFunctionArn"),
    ("QueueConfigurations", "QueueArn"),
    ("TopicConfigurations", "TopicArn"),
)


def _bucket_notifications(templates: Templates) -> _Found:
    for source in templates.of_type(BUCKET, "Custom::S3BucketNotifications"):
        bucket = source if source.type == BUCKET else templates.target(source, source.properties.get("BucketName"))
        given = source.properties.get("NotificationConfiguration", {})
        for several, one in _NOTIFICATIONS:
            for index, each in enumerate(listed(given.get(several))):
                yield _reach(
                    templates,
                    source,
                    each.get(one),
                    f"Properties/NotificationConfiguration/{several}/{index}/{one}",
                    "The bucket's notification",
                    "s3.amazonaws.com",
                    source_arn=templates.arn(bucket) if bucket is not None else UNKNOWN,
                )


def _bucket_access_logs(templates: Templates) -> _Found:
    for bucket in templates.of_type(BUCKET):
        logging = bucket.properties.get("LoggingConfiguration")
        if not isinstance(logging, Mapping):
            continue
        value = logging.get("DestinationBucketName")
        target = bucket if value is None else templates.target(bucket, value)
        if target is None or target.type != BUCKET or target.properties.get("AccessControl") == "LogDeliveryWrite":
            continue
        prefix = templates.written(bucket, logging.get("LogFilePrefix", ""))
        yield Reach(
            bucket,
            "Properties/LoggingConfiguration",
            "The bucket's access log",
            "logging.s3.amazonaws.com",
            target,
            f"{templates.arn(target)}/{prefix}log",
            ("s3:PutObject",),
            templates.arn(bucket),
        )


def _topic_subscriptions(templates: Templates) -> _Found:
    for subscription in templates.of_type("AWS::SNS::Subscription"):
        topic = templates.target(subscription, subscription.properties.get("TopicArn"))
        source_arn = templates.arn(topic) if topic is not None else UNKNOWN
        redrive = subscription.properties.get("RedrivePolicy")
        letters = redrive.get("deadLetterTargetArn") if isinstance(redrive, Mapping) else None
        for value, place, what, role in (
            (
                subscription.properties.get("Endpoint"),
                "Properties/Endpoint",
                "The topic's subscription",
                subscription.properties.get("SubscriptionRoleArn"),
            ),
            (letters, "Properties/RedrivePolicy", "The subscription's dead-letter queue", None),
        ):
            yield _reach(templates, subscription, value, place, what, _SNS, source_arn=source_arn, role=role)


def _api_calls(templates: Templates) -> _Found:
    stages: dict[int, str] = {}
    for stage in templates.of_type("AWS::ApiGatewayV2::Stage"):
        if (api := templates.target(stage, stage.properties.get("ApiId"))) is not None:
            stages.setdefault(id(api), templates.written(stage, stage.properties.get("StageName", "")))
    for route in templates.of_type("AWS::ApiGatewayV2::Route"):
        integration = templates.target(route, route.properties.get("Target"))
        api = templates.target(route, route.properties.get("ApiId"))
        if integration is None or integration.type != "AWS::ApiGatewayV2::Integration" or api is None:
            continue
        method, _, path = templates.written(route, route.properties.get("RouteKey")).partition(" ")
        asked = f"{'*' if method == 'ANY' else method}{path}"
        found = _reach(
            templates,
            integration,
            integration.properties.get("IntegrationUri"),
            "Properties/RouteKey",
            "The API's route",
            _API,
            source_arn=f"{templates.arn(api)}/{stages.get(id(api), UNKNOWN)}/{asked}",
            role=integration.properties.get("CredentialsArn"),
        )
        yield None if found is None else replace(found, source=route)
    for authorizer in templates.of_type("AWS::ApiGatewayV2::Authorizer"):
        api = templates.target(authorizer, authorizer.properties.get("ApiId"))
        yield _reach(
            templates,
            authorizer,
            authorizer.properties.get("AuthorizerUri"),
            "Properties/AuthorizerUri",
            "The API's authorizer",
            _API,
            source_arn=f"{templates.arn(api)}/authorizers/{UNKNOWN}" if api is not None else UNKNOWN,
            role=authorizer.properties.get("AuthorizerCredentialsArn"),
        )
    for method_of in templates.of_type("AWS::ApiGateway::Method"):
        integrated = method_of.properties.get("Integration", {})
        api = templates.target(method_of, method_of.properties.get("RestApiId"))
        yield _reach(
            templates,
            method_of,
            integrated.get("Uri"),
            "Properties/Integration/Uri",
            "The API's method",
            _API,
            source_arn=f"{templates.arn(api)}/{UNKNOWN}" if api is not None else UNKNOWN,
            role=integrated.get("Credentials"),
        )


def _function_queues(templates: Templates) -> _Found:
    """What Lambda does by a function's own role: it polls, and hands over what the function failed on."""
    for caller in templates.of_type(MAPPING, "AWS::Lambda::EventInvokeConfig", FUNCTION):
        function = (
            caller
            if caller.type == FUNCTION
            else called_function(templates, caller, caller.properties.get("FunctionName"))
        )
        if function is None:
            continue
        failed = caller.properties.get("DestinationConfig", {})
        for value, place, what, to_poll in (
            (caller.properties.get("EventSourceArn"), "Properties/EventSourceArn", "The function's event source", True),
            (
                failed.get("OnFailure", {}).get("Destination"),
                "Properties/DestinationConfig/OnFailure",
                "The function's failure destination",
                False,
            ),
            (
                failed.get("OnSuccess", {}).get("Destination"),
                "Properties/DestinationConfig/OnSuccess",
                "The function's success destination",
                False,
            ),
            (
                caller.properties.get("DeadLetterConfig", {}).get("TargetArn"),
                "Properties/DeadLetterConfig",
                "The function's dead-letter queue",
                False,
            ),
        ):
            if value is None:
                continue
            role = templates.target(function, function.properties.get("Role"))
            found = _reach(templates, caller, value, place, what, _LAMBDA, source_arn=UNKNOWN, to_poll=to_poll)
            yield replace(found, role=role) if found is not None and role is not None else None


_KINDS: Sequence[Callable[[Templates], _Found]] = (
    _alarm_actions,
    _rule_targets,
    _schedule_targets,
    _log_subscriptions,
    _bucket_notifications,
    _bucket_access_logs,
    _topic_subscriptions,
    _api_calls,
    _function_queues,
)


def reaches(templates: Templates) -> Iterator[Reach]:
    """Every place in the app where a service must reach a resource of the app, once."""
    seen = set()
    for kind in _KINDS:
        for reach in kind(templates):
            if reach is None:
                continue
            same = (id(reach.source), id(reach.target), reach.resource, id(reach.role), reach.reads)
            if same not in seen:
                seen.add(same)
                yield reach
