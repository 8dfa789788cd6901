"""Who is let in, over small templates: each kind of reach, and the policies that IAM would evaluate for it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import pytest

from offload.cdk.guardrails import admission
from offload.cdk.guardrails.policies import Call, Statement, fits, fits_arn, refusal
from offload.cdk.guardrails.rule import Finding
from offload.cdk.guardrails.templates import UNKNOWN, Resource, Template, Templates

Body = dict[str, Any]
RULES = {rule.id: rule.findings for rule in admission.RULES}


def found(rule: str, resources: Mapping[str, Body], *, account: str | None = None) -> list[Finding]:
    body = {"Resources": {name: {"Properties": {}, **resource} for name, resource in resources.items()}}
    return list(RULES[rule](Templates([Template("/t.json", "S", body, account, "eu-west-1" if account else None)])))


def arn(name: str) -> Body:
    return {"Fn::GetAtt": [name, "Arn"]}


def ref(name: str) -> Body:
    return {"Ref": name}


def resource(kind: str, **properties: Any) -> Body:
    return {"Type": f"AWS::{kind}", "Properties": properties}


def allow(service: str, action: str, on: Any = "*", **condition: Any) -> Body:
    return {
        "Effect": "Allow",
        "Principal": {"Service": f"{service}.amazonaws.com"},
        "Action": action,
        "Resource": on,
        **({"Condition": condition} if condition else {}),
    }


def deny(action: str, **condition: Any) -> Body:
    return {"Effect": "Deny", "Principal": "*", "Action": action, "Resource": "*", "Condition": condition}


OVER_TLS = {"Bool": {"aws:SecureTransport": "false"}}
OURS = {"StringEquals": {"aws:SourceAccount": {"Ref": "AWS::AccountId"}}}


def queue_policy(queue: str, *statements: Body) -> Body:
    return resource("SQS::QueuePolicy", Queues=[ref(queue)], PolicyDocument={"Statement": list(statements)})


def topic_policy(topic: str, *statements: Body) -> Body:
    return resource("SNS::TopicPolicy", Topics=[ref(topic)], PolicyDocument={"Statement": list(statements)})


def permission(function: Any, service: str, **narrowed: Any) -> Body:
    return resource(
        "Lambda::Permission",
        Action="lambda:InvokeFunction",
        FunctionName=function,
        Principal=f"{service}.amazonaws.com",
        **narrowed,
    )


def role(service: str, *statements: Body, **condition: Any) -> Body:
    trust = {**allow(service, "sts:AssumeRole", **condition)}
    del trust["Resource"]
    inline = [{"PolicyName": "p", "PolicyDocument": {"Statement": list(statements)}}]
    return resource("IAM::Role", AssumeRolePolicyDocument={"Statement": [trust]}, Policies=inline)


def may(action: str | list[str], on: Any) -> Body:
    return {"Effect": "Allow", "Action": action, "Resource": on}


QUEUE, TOPIC, FUNCTION = resource("SQS::Queue"), resource("SNS::Topic"), resource("Lambda::Function")
RULE = resource("Events::Rule", Targets=[{"Id": "1", "Arn": arn("Queue")}])
ALARM = resource("CloudWatch::Alarm", AlarmActions=[ref("Topic")])
ALARM_ARN = {"Fn::Sub": "arn:${AWS::Partition}:cloudwatch:${AWS::Region}:${AWS::AccountId}:alarm:*"}


def rule_to_queue(*statements: Body) -> dict[str, Body]:
    return {"Queue": QUEUE, "Rule": RULE, "Policy": queue_policy("Queue", *statements)}


LETS_EVENTS = allow("events", "sqs:SendMessage", arn("Queue"), ArnEquals={"aws:SourceArn": arn("Rule")})
NOBODY_BUT = {"Effect": "Deny", "NotPrincipal": {"AWS": "arn:aws:iam::1:root"}, "Action": "sqs:*", "Resource": "*"}
AS_BY_DEFAULT = {"Queue": QUEUE, "Rule": RULE}


@pytest.mark.parametrize(
    ("resources", "says"),
    [
        pytest.param(rule_to_queue(LETS_EVENTS, deny("sqs:*", **OVER_TLS)), None, id="its rule, over TLS"),
        pytest.param(AS_BY_DEFAULT, "it has no policy", id="no policy"),
        pytest.param(rule_to_queue(deny("sqs:*", **OVER_TLS)), "no statement allows it", id="only a Deny"),
        pytest.param(rule_to_queue(allow("sns", "sqs:SendMessage")), "no statement allows it", id="another service"),
        pytest.param(rule_to_queue(allow("events", "sqs:ReceiveMessage")), "no statement", id="another action"),
        pytest.param(rule_to_queue(allow("events", "sqs:Send*")), None, id="an action with a wildcard"),
        pytest.param(rule_to_queue(allow("events", "SQS:SENDMESSAGE")), None, id="an action in capitals"),
        pytest.param(
            rule_to_queue(allow("events", "sqs:SendMessage", arn("Rule"))), "no statement allows it", id="another queue"
        ),
        pytest.param(
            rule_to_queue(allow("events", "sqs:SendMessage", ArnEquals={"aws:SourceArn": arn("Queue")})),
            "the conditions of the statement",
            id="another source",
        ),
        pytest.param(
            rule_to_queue(
                allow("events", "sqs:SendMessage", StringEquals={"aws:SourceArn": "arn:aws:events:*:*:rule/*"})
            ),
            "the conditions of the statement",
            id="a wildcard where none is one",
        ),
        pytest.param(
            rule_to_queue(allow("events", "sqs:SendMessage", StringEquals={"aws:SourceAccount": "111111111111"})),
            "the conditions of the statement",
            id="another account",
        ),
        pytest.param(
            rule_to_queue(allow("events", "sqs:SendMessage", StringEquals={"aws:PrincipalOrgID": "o-1"})),
            "the conditions of the statement",
            id="an organization, which no service has",
        ),
        pytest.param(
            rule_to_queue(LETS_EVENTS, deny("sqs:*", StringNotEquals={"aws:PrincipalOrgID": "o-1"})),
            "denies it",
            id="a Deny for all outside an organization",
        ),
        pytest.param(
            rule_to_queue(
                LETS_EVENTS,
                deny(
                    "sqs:*",
                    StringNotEquals={"aws:PrincipalOrgID": "o-1"},
                    BoolIfExists={"aws:PrincipalIsAWSService": "false"},
                ),
            ),
            None,
            id="the same, except for services",
        ),
        pytest.param(
            rule_to_queue(LETS_EVENTS, deny("sqs:*", NotIpAddress={"aws:SourceIp": "10.0.0.0/8"})),
            None,
            id="a Deny that only a call decides",
        ),
        pytest.param(
            rule_to_queue({"Effect": "Allow", "Principal": "*", "Action": "*", "Resource": "*"}), None, id="everybody"
        ),
        pytest.param(
            rule_to_queue(LETS_EVENTS, NOBODY_BUT),
            "denies it",
            id="a Deny for all but an account",
        ),
    ],
)  # fmt: skip
def test_a_rules_target_is_followed_to_the_queues_policy(resources: dict[str, Body], says: str | None) -> None:
    findings = found("admission", resources)
    assert bool(findings) == (says is not None)
    for finding in findings:
        assert says is not None
        assert says in finding.says
        assert "events.amazonaws.com needs sqs:SendMessage on Queue" in finding.says
        assert (str(finding.resource), finding.about) == ("Rule", "Queue")
        assert finding.fix


@pytest.mark.parametrize(
    ("statements", "passes"),
    [
        ([allow("cloudwatch", "sns:Publish", ref("Topic"), **OURS, ArnLike={"aws:SourceArn": ALARM_ARN})], True),
        ([allow("cloudwatch", "sns:Publish", ref("Topic"), StringEquals={"aws:SourceArn": ALARM_ARN})], False),
        ([allow("cloudwatch", "sns:Publish", ArnLike={"aws:SourceArn": "arn:aws:cloudwatch:us-east-1:1:*"})], False),
        ([deny("sns:Publish", **OVER_TLS)], False),
        (None, True),
    ],
)
def test_an_alarms_action_is_followed_to_the_topics_policy(statements: list[Body] | None, passes: bool) -> None:
    policy = {} if statements is None else {"Policy": topic_policy("Topic", *statements)}
    assert (found("admission", {"Topic": TOPIC, "Alarm": ALARM, **policy}) == []) is passes


def test_the_account_that_the_app_names_is_compared_with_the_one_in_a_policy() -> None:
    def findings(account: str) -> list[Finding]:
        lets = allow("cloudwatch", "sns:Publish", StringEquals={"aws:SourceAccount": account})
        return found(
            "admission", {"Topic": TOPIC, "Alarm": ALARM, "P": topic_policy("Topic", lets)}, account="123456789012"
        )

    assert findings("123456789012") == []
    assert len(findings("210987654321")) == 1


def scheduled(**made: Body) -> dict[str, Body]:
    target = {"Arn": arn("Function"), "RoleArn": arn("Role"), "DeadLetterConfig": {"Arn": arn("Queue")}}
    return {"Function": FUNCTION, "Queue": QUEUE, "Schedule": resource("Scheduler::Schedule", Target=target), **made}


GROUP = {"Fn::Sub": "arn:aws:scheduler:${AWS::Region}:${AWS::AccountId}:schedule-group/default"}
CALLS, LEAVES = may("lambda:InvokeFunction", arn("Function")), may("sqs:SendMessage", arn("Queue"))


@pytest.mark.parametrize(
    ("made", "says"),
    [
        (scheduled(Role=role("scheduler", CALLS, LEAVES, **OURS)), []),
        (scheduled(Role=role("scheduler", CALLS, LEAVES, StringEquals={"aws:SourceArn": GROUP})), []),
        (scheduled(Role=role("events", CALLS, LEAVES)), ["may not take the role", "may not take the role"]),
        (
            scheduled(Role=role("scheduler", CALLS, LEAVES, ArnEquals={"aws:SourceArn": arn("Schedule")})),
            [],  # the ARN of a schedule is known at deployment only
        ),
        (
            scheduled(
                Role=role(
                    "scheduler", CALLS, LEAVES, ArnLike={"aws:SourceArn": "arn:aws:scheduler:*:*:schedule/default/x"}
                )
            ),
            ["may not take the role", "may not take the role"],
        ),
        (scheduled(Role=role("scheduler", CALLS)), ["no statement allows it to its role Role"]),
        (scheduled(Role=role("scheduler", LEAVES)), ["no statement allows it to its role Role"]),
        (
            scheduled(
                Role=role("scheduler", CALLS, LEAVES),
                Policy=queue_policy("Queue", deny("sqs:SendMessage", Bool={"aws:PrincipalIsAWSService": "false"})),
            ),
            ["denies it"],
        ),
        (
            scheduled(
                Role=role("scheduler"),
                More=resource("IAM::Policy", Roles=[ref("Role")], PolicyDocument={"Statement": [CALLS, LEAVES]}),
            ),
            [],
        ),
        (
            scheduled(Role=resource("IAM::Role", AssumeRolePolicyDocument=role("scheduler")["Properties"][
                "AssumeRolePolicyDocument"], ManagedPolicyArns=["arn:aws:iam::aws:policy/Theirs"])),
            [],  # what AWS's own policy allows is not in the app
        ),
    ],
)  # fmt: skip
def test_a_schedules_targets_are_followed_through_its_role(made: dict[str, Body], says: list[str]) -> None:
    findings = found("admission", made)
    assert len(findings) == len(says)
    for finding, expected in zip(findings, says, strict=True):
        assert expected in finding.says


def api(key: str, permitted: Any) -> dict[str, Body]:
    return {
        "Api": resource("ApiGatewayV2::Api"),
        "Stage": resource("ApiGatewayV2::Stage", ApiId=ref("Api"), StageName="$default"),
        "Function": FUNCTION,
        "Integration": resource("ApiGatewayV2::Integration", ApiId=ref("Api"), IntegrationUri=arn("Function")),
        "Route": resource(
            "ApiGatewayV2::Route",
            ApiId=ref("Api"),
            RouteKey=key,
            Target={"Fn::Join": ["", ["integrations/", ref("Integration")]]},
        ),
        "Permission": permission(arn("Function"), "apigateway", SourceArn=permitted),
    }


def execute(path: str) -> Body:
    return {"Fn::Sub": f"arn:aws:execute-api:${{AWS::Region}}:${{AWS::AccountId}}:${{Api}}/{path}"}


@pytest.mark.parametrize(
    ("key", "permitted", "passes"),
    [
        ("GET /jobs/{id}", execute("*/*/jobs/{id}"), True),
        ("GET /jobs/{id}", execute("*/*/*"), True),
        ("GET /jobs/{id}", execute("$default/GET/jobs/*"), True),
        ("GET /jobs/{id}", execute("*/POST/jobs/{id}"), False),
        ("GET /jobs/{id}", execute("*/*/uploads"), False),
        ("GET /jobs/{id}", execute("prod/*/*"), False),
        ("ANY /jobs", execute("*/*/jobs"), True),
    ],
)
def test_a_route_is_followed_to_a_permission_for_its_method_and_path(key: str, permitted: Any, passes: bool) -> None:
    assert (found("admission", api(key, permitted)) == []) is passes


NOTIFIES = {"LambdaConfigurations": [{"Event": "s3:ObjectCreated:*", "Function": arn("Function")}]}
CDK_NOTIFIES = {"LambdaFunctionConfigurations": [{"Events": [], "LambdaFunctionArn": arn("Function")}]}
BUCKET = resource("S3::Bucket")
LOGGING = resource("S3::Bucket", LoggingConfiguration={"DestinationBucketName": ref("Logs"), "LogFilePrefix": "a/"})
POLLS = ["sqs:ReceiveMessage", "sqs:DeleteMessage", "sqs:GetQueueAttributes"]
POLLS_QUEUE = may(POLLS, arn("Queue"))
GROUP_OF = resource("Logs::LogGroup")
FILTER = resource("Logs::SubscriptionFilter", LogGroupName=ref("Group"), DestinationArn=arn("Function"))


def bucket_policy(*statements: Body) -> Body:
    return resource("S3::BucketPolicy", Bucket=ref("Logs"), PolicyDocument={"Statement": list(statements)})


WRITES = may("sqs:SendMessage", arn("Queue"))

# What must be reached, without the policy that lets it and with it.
REACHES: dict[str, tuple[dict[str, Body], dict[str, Body]]] = {
    "an alarm's function": (
        {"Function": FUNCTION, "Alarm": resource("CloudWatch::Alarm", AlarmActions=[arn("Function")])},
        {"P": permission(arn("Function"), "lambda.alarms.cloudwatch", SourceArn=arn("Alarm"))},
    ),
    "an alarm's OK action": (
        {"Topic": TOPIC, "Alarm": resource("CloudWatch::Alarm", OKActions=[ref("Topic")])},
        {"P": topic_policy("Topic", allow("cloudwatch", "sns:Publish", **OURS))},
    ),
    "a rule's function": (
        {"Function": FUNCTION, "Rule": resource("Events::Rule", Targets=[{"Arn": arn("Function")}])},
        {"P": permission(arn("Function"), "events", SourceArn=arn("Rule"))},
    ),
    "a rule's version of a function": (
        {
            "Function": FUNCTION,
            "Version": resource("Lambda::Version", FunctionName=ref("Function")),
            "Rule": resource("Events::Rule", Targets=[{"Arn": ref("Version")}]),
            "Unqualified": permission(ref("Function"), "events", SourceArn=arn("Rule")),
        },
        {"P": permission(ref("Version"), "events", SourceArn=arn("Rule"))},
    ),
    "a rule's topic": (
        {"Topic": TOPIC, "Rule": resource("Events::Rule", Targets=[{"Arn": ref("Topic")}])},
        {"P": topic_policy("Topic", allow("events", "sns:Publish", ref("Topic")))},
    ),
    "a rule's log group": (
        {"Group": GROUP_OF, "Rule": resource("Events::Rule", Targets=[{"Arn": arn("Group")}])},
        {
            "P": resource(
                "Logs::ResourcePolicy",
                PolicyName="p",
                PolicyDocument={
                    "Fn::Sub": json.dumps(
                        {"Statement": [allow("events", "logs:*", "${Group.Arn}")]}  # as CloudFormation takes it: a text
                    )
                },
            )
        },
    ),
    "a rule's dead-letter queue": (
        {
            "Queue": QUEUE,
            "Rule": resource(
                "Events::Rule",
                Targets=[{"Arn": "arn:aws:sqs:eu-west-1:1:theirs", "DeadLetterConfig": {"Arn": arn("Queue")}}],
            ),
        },
        {"P": queue_policy("Queue", LETS_EVENTS)},
    ),
    "a rule's bus": (
        {
            "Bus": resource("Events::EventBus", Name="b"),
            "Role": role("events"),
            "Rule": resource("Events::Rule", Targets=[{"Arn": arn("Bus"), "RoleArn": arn("Role")}]),
        },
        {
            "P": resource(
                "IAM::Policy", Roles=[ref("Role")], PolicyDocument={"Statement": [may("events:PutEvents", arn("Bus"))]}
            )
        },
    ),
    "a log's function": (
        {"Group": GROUP_OF, "Function": FUNCTION, "Filter": FILTER},
        {"P": permission(arn("Function"), "logs", SourceArn=arn("Group"))},
    ),
    "a bucket's function": (
        {"Function": FUNCTION, "Bucket": resource("S3::Bucket", NotificationConfiguration=NOTIFIES)},
        {"P": permission(arn("Function"), "s3", SourceArn=arn("Bucket"))},
    ),
    "a bucket's function, as the CDK writes it": (
        {
            "Function": FUNCTION,
            "Bucket": BUCKET,
            "Notifications": {
                "Type": "Custom::S3BucketNotifications",
                "Properties": {"BucketName": ref("Bucket"), "NotificationConfiguration": CDK_NOTIFIES},
            },
        },
        {"P": permission(arn("Function"), "s3", SourceArn=arn("Bucket"), SourceAccount={"Ref": "AWS::AccountId"})},
    ),
    "a bucket's access logs": (
        {"Bucket": LOGGING, "Logs": BUCKET},
        {
            "P": bucket_policy(
                allow(
                    "logging.s3",
                    "s3:PutObject",
                    {"Fn::Sub": "${Logs.Arn}/a/*"},
                    ArnLike={"aws:SourceArn": arn("Bucket")},
                )
            )
        },
    ),
    "a topic's queue": (
        {
            "Topic": TOPIC,
            "Queue": QUEUE,
            "Sub": resource("SNS::Subscription", TopicArn=ref("Topic"), Protocol="sqs", Endpoint=arn("Queue")),
        },
        {"P": queue_policy("Queue", allow("sns", "sqs:SendMessage", ArnEquals={"aws:SourceArn": ref("Topic")}))},
    ),
    "a subscription's dead-letter queue": (
        {
            "Topic": TOPIC,
            "Queue": QUEUE,
            "Sub": resource(
                "SNS::Subscription",
                TopicArn=ref("Topic"),
                Protocol="email",
                Endpoint="a@b.net",
                RedrivePolicy={"deadLetterTargetArn": arn("Queue")},
            ),
        },
        {"P": queue_policy("Queue", allow("sns", "sqs:SendMessage"))},
    ),
    "a function's event source": (
        {
            "Queue": QUEUE,
            "Role": role("lambda"),
            "Function": resource("Lambda::Function", Role=arn("Role")),
            "Map": resource("Lambda::EventSourceMapping", EventSourceArn=arn("Queue"), FunctionName=ref("Function")),
        },
        {"P": resource("IAM::RolePolicy", RoleName=ref("Role"), PolicyDocument={"Statement": POLLS_QUEUE})},
    ),
    "a function's dead-letter queue": (
        {
            "Queue": QUEUE,
            "Role": role("lambda"),
            "Function": resource("Lambda::Function", Role=arn("Role"), DeadLetterConfig={"TargetArn": arn("Queue")}),
        },
        {"P": resource("IAM::ManagedPolicy", Roles=[ref("Role")], PolicyDocument={"Statement": [WRITES]})},
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", REACHES)
def test_every_kind_of_reach_is_refused_without_its_policy_and_passes_with_it(kind: str) -> None:
    without, policy = REACHES[kind]
    # An alarm's topic has a default policy, which any policy takes the place of.
    shut = {"Shut": topic_policy("Topic", deny("sns:Publish", **OVER_TLS))} if "Topic" in without else {}
    assert len(found("admission", {**without, **shut})) == 1
    assert found("admission", {**without, **policy}) == []


def test_a_target_or_a_role_outside_the_app_is_not_judged() -> None:
    theirs = {"Arn": "arn:aws:sqs:eu-west-1:1:theirs"}
    assert found("admission", {"Rule": resource("Events::Rule", Targets=[theirs])}) == []
    target = {"Arn": arn("Function"), "RoleArn": "arn:aws:iam::1:role/theirs"}
    schedule = resource("Scheduler::Schedule", Target=target)
    assert found("admission", {"Function": FUNCTION, "Schedule": schedule}) == []


@pytest.mark.parametrize(
    ("allows", "passes"),
    [
        (None, True),
        ({"redrivePermission": "allowAll"}, True),
        ({"redrivePermission": "denyAll"}, False),
        ({"redrivePermission": "byQueue", "sourceQueueArns": [arn("Queue")]}, True),
        ({"redrivePermission": "byQueue", "sourceQueueArns": [arn("Other")]}, False),
    ],
)
def test_a_dead_letter_queue_must_take_the_letters_of_its_queue(allows: Body | None, passes: bool) -> None:
    letters = resource("SQS::Queue", **({} if allows is None else {"RedriveAllowPolicy": allows}))
    queue = resource("SQS::Queue", RedrivePolicy={"deadLetterTargetArn": arn("Dead"), "maxReceiveCount": 3})
    assert (found("admission", {"Queue": queue, "Other": QUEUE, "Dead": letters}) == []) is passes


# -- keys


def key(*statements: Body) -> Body:
    return resource("KMS::Key", KeyPolicy={"Statement": [ROOT, *statements]})


ROOT = {
    "Effect": "Allow",
    "Principal": {"AWS": {"Fn::Sub": "arn:aws:iam::${AWS::AccountId}:root"}},
    "Action": "kms:*",
    "Resource": "*",
}
WRITE_KEYS = ["kms:GenerateDataKey*", "kms:Decrypt"]


def keyed_alarm(*statements: Body, by: Any = None) -> dict[str, Body]:
    return {
        "Key": key(*statements),
        "Alias": resource("KMS::Alias", AliasName="alias/ours", TargetKeyId=ref("Key")),
        "Topic": resource("SNS::Topic", KmsMasterKeyId=by or arn("Key")),
        "Alarm": ALARM,
        "Rule": resource("Events::Rule", Targets=[]),
    }


def both(service: str, **condition: Any) -> Body:
    return {**allow(service, "", **condition), "Action": WRITE_KEYS}


@pytest.mark.parametrize(
    ("resources", "passes"),
    [
        (keyed_alarm(both("cloudwatch", **OURS)), True),
        (keyed_alarm(both("cloudwatch", **OURS), by=ref("Alias")), True),
        (keyed_alarm(), False),
        (keyed_alarm(by=ref("Alias")), False),
        (keyed_alarm(both("sns")), False),
        (keyed_alarm({**both("cloudwatch"), "Action": "kms:Decrypt"}), False),
        (keyed_alarm(both("cloudwatch", StringEquals={"aws:SourceAccount": "1"})), False),
        (keyed_alarm(by="alias/aws/sns"), False),
        (keyed_alarm(by="arn:aws:kms:eu-west-1:1:key/theirs"), True),
    ],
)
def test_an_alarm_needs_the_key_of_an_encrypted_topic(resources: dict[str, Body], passes: bool) -> None:
    assert (found("key-admission", resources) == []) is passes


@pytest.mark.parametrize(("condition", "passes"), [({}, True), (OURS, False)])
def test_eventbridge_names_no_source_to_the_key_of_a_topic(condition: Body, passes: bool) -> None:
    resources = keyed_alarm(both("cloudwatch"), both("events", **condition))
    resources["Rule"] = resource("Events::Rule", Targets=[{"Arn": ref("Topic")}])
    assert (found("key-admission", resources) == []) is passes


@pytest.mark.parametrize(
    ("statements", "keys", "passes"),
    [
        ([CALLS, LEAVES], key(), False),
        ([CALLS, LEAVES, may(WRITE_KEYS, arn("Key"))], key(), True),
        ([CALLS, LEAVES, may(WRITE_KEYS, arn("Key"))], resource("KMS::Key", KeyPolicy={"Statement": []}), False),
        (
            [CALLS, LEAVES],
            key({"Effect": "Allow", "Principal": {"AWS": arn("Role")}, "Action": WRITE_KEYS, "Resource": "*"}),
            True,
        ),
    ],
)
def test_a_role_needs_the_key_of_an_encrypted_queue(statements: list[Body], keys: Body, passes: bool) -> None:
    made = scheduled(Role=role("scheduler", *statements), Key=keys)
    made["Queue"] = resource("SQS::Queue", KmsMasterKeyId=arn("Key"))
    assert (found("key-admission", made) == []) is passes


@pytest.mark.parametrize(
    ("context", "passes"),
    [
        ({"Fn::Sub": "arn:aws:logs:${AWS::Region}:${AWS::AccountId}:*"}, True),
        ({"Fn::Sub": "arn:aws:logs:${AWS::Region}:${AWS::AccountId}:log-group:/theirs"}, False),
    ],
)
def test_a_log_groups_key_lets_cloudwatch_logs_in_for_it(context: Any, passes: bool) -> None:
    regional = {"Service": {"Fn::Sub": "logs.${AWS::Region}.amazonaws.com"}}
    lets = allow("logs", "kms:*", ArnLike={"kms:EncryptionContext:aws:logs:arn": context})
    group = resource("Logs::LogGroup", KmsKeyId=arn("Key"))
    resources = {"Key": key({**lets, "Principal": regional}), "Group": group}
    assert (found("key-admission", resources) == []) is passes


# -- the order of creation, and for whom


def test_a_schedule_that_reaches_its_policy_by_another_resource_waits_for_it() -> None:
    made = scheduled(
        Role=role("scheduler"),
        More=resource("IAM::Policy", Roles=[ref("Role")], PolicyDocument={"Statement": [CALLS, LEAVES]}),
    )
    assert {finding.about for finding in found("role-before-policy", made)} == {"Function", "Queue"}
    made["Function"] = {**FUNCTION, "DependsOn": "More"}
    assert found("role-before-policy", made) == []


def test_a_policy_for_something_else_need_not_be_waited_for() -> None:
    other = resource("IAM::Policy", Roles=[ref("Role")], PolicyDocument={"Statement": [may("s3:GetObject", "*")]})
    assert found("role-before-policy", scheduled(Role=role("scheduler", CALLS, LEAVES), Other=other)) == []


@pytest.mark.parametrize(
    ("resources", "service"),
    [
        ({"Role": role("scheduler")}, "scheduler"),
        ({"Role": role("scheduler", **OURS)}, None),
        ({"Role": role("lambda")}, None),
        ({"Queue": QUEUE, "P": queue_policy("Queue", allow("events", "sqs:SendMessage"))}, "events"),
        ({"Queue": QUEUE, "P": queue_policy("Queue", LETS_EVENTS)}, None),
        ({"Topic": TOPIC, "P": topic_policy("Topic", allow("s3", "sns:Publish"))}, "s3"),
        ({"Topic": TOPIC, "P": topic_policy("Topic", deny("sns:Publish", **OVER_TLS))}, None),
        ({"Function": FUNCTION, "P": permission(arn("Function"), "events")}, "events"),
        ({"Function": FUNCTION, "P": permission(arn("Function"), "events", SourceArn="arn:aws:x:y:1:z")}, None),
    ],
)
def test_a_service_is_let_in_for_this_account_alone(resources: dict[str, Body], service: str | None) -> None:
    assert [each.about for each in found("confused-deputy", resources)] == (
        [f"{service}.amazonaws.com"] if service else []
    )


# -- statements


@pytest.mark.parametrize(
    ("pattern", "text", "fitting"),
    [
        ("arn:aws:sqs:*:1:a", "arn:aws:sqs:eu-west-1:1:a", True),
        ("arn:aws:sqs:*:1:a?", "arn:aws:sqs:eu-west-1:1:ab", True),
        ("arn:aws:cloudwatch:*", "arn:aws:cloudwatch:eu-west-1:1:alarm:a", False),
        ("arn:aws:cloudwatch:*:*:alarm:*", "arn:aws:cloudwatch:eu-west-1:1:alarm:a:b", True),
        ("*", "arn:aws:sqs:eu-west-1:1:a", False),
    ],
)
def test_an_arn_is_compared_part_by_part(pattern: str, text: str, fitting: bool) -> None:
    assert fits_arn(pattern, text) is fitting


def test_a_pattern_of_iam_is_no_regular_expression() -> None:
    assert fits("sqs:*", "sqs:SendMessage")
    assert not fits("sqs.*", "sqs:SendMessage")
    assert fits(f"arn:{UNKNOWN}", "anything")
    assert not fits(f"arn:{UNKNOWN}", "anything", unknown=False)


@pytest.mark.parametrize(
    ("condition", "holds"),
    [
        ({"StringEquals": {"aws:SourceAccount": "1"}}, True),
        ({"StringEquals": {"AWS:SOURCEACCOUNT": ["2", "1"]}}, True),
        ({"StringNotEquals": {"aws:SourceAccount": "1"}}, False),
        ({"StringEqualsIfExists": {"aws:PrincipalOrgID": "o"}}, True),
        ({"ForAllValues:StringEquals": {"aws:PrincipalOrgID": "o"}}, True),
        ({"ForAnyValue:StringEquals": {"aws:PrincipalOrgID": "o"}}, False),
        ({"Null": {"aws:SourceAccount": "true"}}, False),
        ({"Null": {"aws:PrincipalArn": "true"}}, True),
        ({"StringEquals": {"aws:SourceAccount": "1", "aws:SourceArn": "other"}}, False),
        ({"NumericLessThan": {"aws:SourceAccount": "1"}}, True),
    ],
)
def test_conditions_hold_as_iam_evaluates_them(condition: Body, holds: bool) -> None:
    holder = Resource(Template("/t.json", "S", {}), "Policy", "AWS::SQS::QueuePolicy", {}, {}, {})
    call = Call("sns.amazonaws.com", "sqs:SendMessage", "arn", {"aws:sourceaccount": "1", "aws:sourcearn": "it"})
    statement = Statement(holder, allow("sns", "sqs:SendMessage", **condition))
    assert (refusal(Templates([]), [statement], call) is None) is holds
