"""What encrypts an environment's data: AWS's own keys, or the customer-managed key that its file names.

The one place that decides it. A construct that makes something that holds data calls `encrypt`; what roles and AWS's
services may do with the key follows from what they may do with the data.
"""

from __future__ import annotations

import fnmatch
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final, cast

import jsii
from aws_cdk import Annotations, Aspects, CfnResource, IAspect, Stack
from aws_cdk import aws_dynamodb as dynamodb
from aws_cdk import aws_events as events
from aws_cdk import aws_iam as iam
from aws_cdk import aws_kms as kms
from aws_cdk import aws_lambda as lambda_
from aws_cdk import aws_logs as logs
from aws_cdk import aws_s3 as s3
from aws_cdk import aws_secretsmanager as secretsmanager
from aws_cdk import aws_sns as sns
from aws_cdk import aws_sqs as sqs
from constructs import Construct, IConstruct

from offload.cdk.constructs.once import once
from offload.cdk.environment import OWN_KEY, Environment

_ID = "Encryption"
_DECRYPT, _GENERATE = "kms:Decrypt", "kms:GenerateDataKey"

# What a caller needs on the key for an action, beside the action itself. An action that is not here needs nothing: it
# touches no data (ListBucket, DeleteMessage), or its service uses the key as itself (PutEvents, PutLogEvents).
# DynamoDB: "Encryption at rest: usage notes": a table's key is decrypted when it is read or written, and generated when
# it is made. SQS: "Key management", a producer generates and verifies, a consumer decrypts. S3: "Using SSE-KMS", and
# API_UploadPart for the parts of a large object. Secrets Manager: "Secret encryption and decryption". Lambda:
# "Encrypting durable execution data". All read 2026-11-29.
_ITEMS = (
    "BatchGetItem",
    "BatchWriteItem",
    "ConditionCheckItem",
    "DeleteItem",
    "GetItem",
    "PutItem",
    "Query",
    "Scan",
    "UpdateItem",
)
KEY_USE: Final[Mapping[str, frozenset[str]]] = {
    **{f"dynamodb:{action}": frozenset({_DECRYPT}) for action in _ITEMS},
    "lambda:CheckpointDurableExecution": frozenset({_DECRYPT}),
    "lambda:GetDurableExecution": frozenset({_DECRYPT}),
    "lambda:GetDurableExecutionHistory": frozenset({_DECRYPT}),
    "lambda:GetDurableExecutionState": frozenset({_DECRYPT}),
    "s3:AbortMultipartUpload": frozenset({_DECRYPT}),
    "s3:GetObject": frozenset({_DECRYPT}),
    "s3:GetObjectVersion": frozenset({_DECRYPT}),
    "s3:PutObject": frozenset({_GENERATE}),
    "secretsmanager:GetSecretValue": frozenset({_DECRYPT}),
    "secretsmanager:PutSecretValue": frozenset({_DECRYPT, _GENERATE}),
    "sns:Publish": frozenset({_DECRYPT, _GENERATE}),
    "sqs:ReceiveMessage": frozenset({_DECRYPT}),
    "sqs:SendMessage": frozenset({_DECRYPT, _GENERATE}),
}
"""The actions on the key, by the action on what it encrypts."""


def encrypt(construct: Construct) -> None:
    """Encrypts what holds data by the environment's key; leaves AWS's own key to it where the environment names none.

    `construct` is a table, queue, bucket, log group, secret, topic, bus, archive or function: the construct or its
    resource. Raises ValueError for anything else.
    """
    if Environment.of(construct).data.kms_key is None:
        return
    key = cast("str", Encryption.of(construct).key_arn)
    resource = construct if CfnResource.is_cfn_resource(construct) else construct.node.default_child
    for kind, apply in _APPLIED.items():
        if isinstance(resource, kind):
            apply(resource, key)
            return
    raise ValueError(f"{construct.node.path}: what holds data here, and which property names its key, is not known")


class Encryption(Construct):
    """The environment's key, who may use it, and nothing where the file names none.

    `[data] kms_key = "own"` makes a key that is rotated each year, and kept where data is kept; the ARN of a key that
    exists uses that one, whose policy must have `service_statements` in it. Made once an app: `Encryption.of`.
    """

    def __init__(self, scope: Construct, construct_id: str = _ID) -> None:
        super().__init__(scope, construct_id)
        environment = Environment.of(self)
        named = environment.data.kms_key
        self.key: kms.Key | None = None
        self.key_arn: str | None = named
        """The ARN of what encrypts the data; None are AWS's own keys."""
        if named is None:
            return
        if named == OWN_KEY:
            self.key = self._own_key(environment)
            named = self.key_arn = self.key.key_arn
        else:
            Annotations.of(self).add_info(
                f"{named} encrypts this environment; an app cannot write the policy of a key that it did not make: "
                "put the statements of docs/security-defaults.md#the-policy-of-a-key-that-exists into it first"
            )
        Aspects.of(self.node.root).add(_KeyUse(named))

    def _own_key(self, environment: Environment) -> kms.Key:
        key = kms.Key(
            self,
            "Key",
            description=f"Encrypts the data of Offload's environment {environment.name}",
            enable_key_rotation=True,
            alias=f"offload-{environment.name}",
        )
        for statement in service_statements(Stack.of(self)):
            key.add_to_resource_policy(statement)
        return key

    @staticmethod
    def of(scope: Construct) -> Encryption:
        """The encryption of the app's environment."""
        return once(scope, _ID, Encryption, Encryption)


def service_statements(stack: Stack) -> list[iam.PolicyStatement]:
    """What lets AWS's services use the key for this account's resources in this Region, for the key's policy.

    Everybody else comes in by IAM: the key's policy must also let the account's own policies decide, as the default
    policy of a key does.
    """
    region, account = stack.region, stack.account

    def arn(service: str, resource: str) -> str:
        return f"arn:{stack.partition}:{service}:{region}:{account}:{resource}"

    def allow(sid: str, service: str, actions: list[str], **conditions: Mapping[str, Any]) -> iam.PolicyStatement:
        return iam.PolicyStatement(
            sid=sid,
            principals=[iam.ServicePrincipal(service)],
            actions=[f"kms:{action}" for action in actions],
            resources=["*"],
            conditions=conditions or None,
        )

    here = {"aws:SourceAccount": account}
    return [
        # CloudWatch Logs User Guide, "Encrypt log data using KMS", read 2026-11-29.
        allow(
            "LogGroups",
            f"logs.{region}.amazonaws.com",
            ["Encrypt", "Decrypt", "ReEncrypt*", "GenerateDataKey*", "DescribeKey"],
            ArnLike={"kms:EncryptionContext:aws:logs:arn": arn("logs", "log-group:*")},
        ),
        # EventBridge User Guide, "Encrypting event buses" and "Encrypting archives", read 2026-11-29: an archive's
        # calls have the context of its bus and no source.
        allow(
            "BusesAndArchives",
            "events.amazonaws.com",
            ["Decrypt", "GenerateDataKey", "ReEncrypt*"],
            ArnLike={"kms:EncryptionContext:aws:events:event-bus:arn": arn("events", "event-bus/*")},
        ),
        # The same pages have it without a condition: it comes with neither context nor source, and opens nothing.
        allow("BusesAndArchivesFindTheKey", "events.amazonaws.com", ["DescribeKey"]),
        # A rule's targets and dead-letter queues, and a bus's; SQS passes no context of theirs on.
        allow(
            "RulesToQueues",
            "events.amazonaws.com",
            ["Decrypt", "GenerateDataKey"],
            StringEquals=here,
            ArnLike={"aws:SourceArn": [arn("events", "rule/*"), arn("events", "event-bus/*")]},
        ),
        # SNS Developer Guide, "Key management", compatibility with event sources, read 2026-11-29.
        allow(
            "AlarmsToTopic",
            "cloudwatch.amazonaws.com",
            ["Decrypt", "GenerateDataKey*"],
            StringEquals=here,
            ArnLike={"aws:SourceArn": arn("cloudwatch", "alarm:*")},
        ),
        # Lambda Developer Guide, "Encrypting durable execution data", read 2026-11-29.
        allow(
            "DurableExecutions",
            "lambda.amazonaws.com",
            ["Decrypt", "GenerateDataKey"],
            StringEquals=here,
            ArnLike={
                "aws:SourceArn": arn("lambda", "function:*"),
                "kms:EncryptionContext:aws:lambda:FunctionArn": arn("lambda", "function:*"),
            },
        ),
    ]


@jsii.implements(IAspect)
class _KeyUse:
    """Lets each identity use the key for what it may do with the data, through the service that keeps it."""

    def __init__(self, key_arn: str) -> None:
        self._key_arn = key_arn

    def visit(self, node: IConstruct) -> None:
        """Looks at the whole app at once: what a role may do stands in more places than the role."""
        if node.node.scope is not None:
            return
        roles = defaultdict[str, list[iam.Role]](list)
        managed: list[iam.ManagedPolicy] = []
        needed = defaultdict[str, set[tuple[str, str]]](set)
        for construct in node.node.find_all():
            if isinstance(construct, iam.Role) and isinstance(made := construct.node.default_child, iam.CfnRole):
                roles[Stack.of(made).get_logical_id(made)].append(construct)
            elif isinstance(construct, iam.CfnPolicy):
                for logical_id in _referred(construct, construct.roles):
                    needed[logical_id] |= _uses(_statements(construct, construct.policy_document))
            elif isinstance(construct, iam.ManagedPolicy):
                managed.append(construct)
            elif isinstance(construct, lambda_.CfnFunction) and construct.environment is not None:
                # Lambda decrypts the variables as the function's role.
                for logical_id in _referred(construct, construct.role):
                    needed[logical_id].add(("lambda", _DECRYPT))
        for logical_id, uses in needed.items():
            for role in roles[logical_id]:
                for statement in self._grants(role, uses):
                    role.add_to_principal_policy(statement)
        for policy in managed:
            resource = cast("iam.CfnManagedPolicy", policy.node.default_child)
            uses = _uses(_statements(resource, resource.policy_document))
            policy.add_statements(*self._grants(policy, uses))

    def _grants(self, scope: Construct, uses: set[tuple[str, str]]) -> Iterator[iam.PolicyStatement]:
        """A statement for each set of services, so that a role's policy stays short."""
        region = Stack.of(scope).region
        for action in sorted({action for _, action in uses}):
            services = sorted(service for service, used in uses if used == action)
            yield iam.PolicyStatement(
                actions=[action],
                resources=[self._key_arn],
                conditions={
                    "StringEquals": {"kms:ViaService": [f"{service}.{region}.amazonaws.com" for service in services]}
                },
            )


def _statements(resource: CfnResource, document: object) -> list[Mapping[str, Any]]:
    resolved = Stack.of(resource).resolve(document) or {}
    return cast("list[Mapping[str, Any]]", resolved.get("Statement", []))


def _uses(statements: list[Mapping[str, Any]]) -> set[tuple[str, str]]:
    """The services and actions on the key that the statements' own actions need."""
    return {
        (action.partition(":")[0], use)
        for statement in statements
        if statement["Effect"] == "Allow"
        for action in ([statement["Action"]] if isinstance(statement["Action"], str) else statement["Action"])
        for known in fnmatch.filter(KEY_USE, action)
        for use in KEY_USE[known]
    }


def _referred(resource: CfnResource, value: object) -> Iterator[str]:
    """The logical ids that a property's references name, in whichever stack they are."""
    resolved = Stack.of(resource).resolve(value)
    for each in resolved if isinstance(resolved, list) else [resolved]:
        match each:
            case {"Ref": str() as logical_id} | {"Fn::GetAtt": [str() as logical_id, _]}:
                yield logical_id


def _table(table: dynamodb.CfnTable, key: str) -> None:
    table.sse_specification = dynamodb.CfnTable.SSESpecificationProperty(
        sse_enabled=True, sse_type="KMS", kms_master_key_id=key
    )


def _queue(queue: sqs.CfnQueue, key: str) -> None:
    queue.sqs_managed_sse_enabled = None
    queue.kms_master_key_id = key


def _bucket(bucket: s3.CfnBucket, key: str) -> None:
    bucket.bucket_encryption = s3.CfnBucket.BucketEncryptionProperty(
        server_side_encryption_configuration=[
            s3.CfnBucket.ServerSideEncryptionRuleProperty(
                # One call of KMS a bucket and a while, in place of one an object.
                bucket_key_enabled=True,
                server_side_encryption_by_default=s3.CfnBucket.ServerSideEncryptionByDefaultProperty(
                    sse_algorithm="aws:kms", kms_master_key_id=key
                ),
            )
        ]
    )


def _log_group(group: logs.CfnLogGroup, key: str) -> None:
    group.kms_key_id = key


def _secret(secret: secretsmanager.CfnSecret, key: str) -> None:
    secret.kms_key_id = key


def _topic(topic: sns.CfnTopic, key: str) -> None:
    topic.kms_master_key_id = key


def _bus(bus: events.CfnEventBus, key: str) -> None:
    bus.kms_key_identifier = key


def _archive(archive: events.CfnArchive, key: str) -> None:
    archive.kms_key_identifier = key


def _function(function: lambda_.CfnFunction, key: str) -> None:
    function.kms_key_arn = key
    durable = Stack.of(function).resolve(function.durable_config)
    if durable is not None:
        function.durable_config = lambda_.CfnFunction.DurableConfigProperty(
            execution_timeout=durable["executionTimeout"],
            retention_period_in_days=durable.get("retentionPeriodInDays"),
            kms_key_arn=key,
        )


_APPLIED: Final[Mapping[type[CfnResource], Callable[[Any, str], None]]] = {
    dynamodb.CfnTable: _table,
    sqs.CfnQueue: _queue,
    s3.CfnBucket: _bucket,
    logs.CfnLogGroup: _log_group,
    secretsmanager.CfnSecret: _secret,
    sns.CfnTopic: _topic,
    events.CfnEventBus: _bus,
    events.CfnArchive: _archive,
    lambda_.CfnFunction: _function,
}
