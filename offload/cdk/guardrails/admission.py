"""Guardrails of who is let in: each service that must reach a resource, followed to the policy that lets it.

A resource policy that has only a Deny, a role without the action, a condition that names another source: AWS takes them
at deployment, and then drops what it cannot deliver. The embedded AWS checks none of it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from offload.cdk.guardrails.policies import (
    SOURCE_ACCOUNT,
    SOURCE_ARN,
    Call,
    Policies,
    Refusal,
    Statement,
    refusal,
    service_name,
    statements_of,
)
from offload.cdk.guardrails.queues import QUEUE
from offload.cdk.guardrails.reaches import CLOUDWATCH, EVENTS, LOG_GROUP, LOGS, ROLE, SCHEDULER, TOPIC, Reach, reaches
from offload.cdk.guardrails.rule import Finding, Rule
from offload.cdk.guardrails.templates import UNKNOWN, Resource, Templates, Value, listed, text

_KEY = "AWS::KMS::Key"
# sns-key-management.html and sqs-key-management.html (read 2026-11-29).
_TO_ENCRYPT, _TO_DECRYPT = ("kms:GenerateDataKey", "kms:Decrypt"), ("kms:Decrypt",)
# encrypt-log-data-kms.html of CloudWatch Logs (read 2026-11-29).
_LOGS_KEY = ("kms:Encrypt", "kms:Decrypt", "kms:GenerateDataKey", "kms:DescribeKey")
_KEY_PROPERTY = {QUEUE: "KmsMasterKeyId", TOPIC: "KmsMasterKeyId"}
# Their policies are AWS's and let no service in (sns-key-management.html, sqs-key-management.html, read 2026-11-29).
_AWS_MANAGED_KEYS = ("alias/aws/sns", "alias/aws/sqs")

# Whose trust policies may name the source, by their guides' pages on the confused deputy (read 2026-11-29). The role of
# a function needs none of it: it is handed to Lambda with iam:PassRole, by somebody of the same account.
_NAMES_ITS_SOURCE = frozenset({SCHEDULER, EVENTS, LOGS, "pipes.amazonaws.com", "states.amazonaws.com"})
_NARROWING = (SOURCE_ACCOUNT, SOURCE_ARN, "aws:sourceorgid", "aws:sourceorgpaths", "aws:sourceowner")


def _refused(templates: Templates, policies: Policies, reach: Reach, action: str) -> tuple[str, str] | None:
    """Why one action is not let in, and what to do; None when it is."""
    statements = policies.of(reach.target)
    if reach.role is None:
        if statements is None:
            if reach.target.type == TOPIC and reach.service == CLOUDWATCH:
                # SNS's default policy: whatever the account itself has may publish.
                return None
            return "it has no policy", f"Give {reach.target} a policy that allows it."
        found = refusal(templates, statements, reach.call(action, reach.resource))
        return (found.says, _remedy(found, f"{reach.target}'s policy")) if found else None
    role = templates.arn(reach.role)
    trust = list(statements_of(reach.role, reach.role.properties.get("AssumeRolePolicyDocument")))
    found = refusal(templates, trust, reach.call("sts:AssumeRole", role))
    if found:
        return f"it may not take the role {reach.role}: {found.says}", _remedy(found, "the role's trust policy")
    asking = reach.call(action, reach.resource, principal=role)
    if policies.judged(reach.role):
        found = refusal(templates, policies.of(reach.role) or [], asking)
        if found:
            return f"{found.says} to its role {reach.role}", _remedy(found, f"a policy of the role {reach.role}")
    found = _denied(templates, statements or (), asking)
    return (found.says, _remedy(found, f"{reach.target}'s policy")) if found else None


def _denied(templates: Templates, statements: Sequence[Statement], call: Call) -> Refusal | None:
    """Why a call that a role allows is shut out: the resource's own policy need not allow it, but may forbid it."""
    denials = [statement for statement in statements if statement.denies]
    if not denials:
        return None
    allowing = Statement(denials[0].holder, {"Effect": "Allow", "Action": "*", "Resource": "*"})
    return refusal(templates, [*denials, allowing], call)


def _remedy(found: Refusal, where: str) -> str:
    if found.by is not None and found.by.denies:
        return f"Except it from that statement of {where} (aws:PrincipalIsAWSService), or take the statement out."
    if found.by is not None:
        return f"Let the conditions in {where} name what calls: its aws:SourceAccount, and its aws:SourceArn."
    return f"Allow it in {where}; where a service asks, with its aws:SourceAccount and aws:SourceArn."


def _admission(templates: Templates) -> Iterator[Finding]:
    policies = Policies(templates)
    for reach in reaches(templates):
        for action in reach.actions:
            if (refused := _refused(templates, policies, reach, action)) is not None:
                why, remedy = refused
                yield Finding(
                    reach.source,
                    f"{reach.what} is never reached: {reach.service} needs {action} on {reach.target}, and {why}.",
                    remedy,
                    reach.location,
                    about=str(reach.target),
                )
                break
    for queue in templates.of_type(QUEUE):
        yield from _redrive(templates, queue)


def _redrive(templates: Templates, queue: Resource) -> Iterator[Finding]:
    """A dead-letter queue may say whose dead letters it takes."""
    redrive = queue.properties.get("RedrivePolicy")
    letters = templates.target(queue, redrive.get("deadLetterTargetArn")) if isinstance(redrive, Mapping) else None
    allows = letters.properties.get("RedriveAllowPolicy") if letters is not None else None
    if letters is None or not isinstance(allows, Mapping):
        return
    taken = [templates.written(letters, each) for each in listed(allows.get("sourceQueueArns"))]
    permission = allows.get("redrivePermission")
    own = templates.arn(queue)
    if permission == "denyAll" or (permission == "byQueue" and own not in taken and UNKNOWN not in "".join(taken)):
        yield Finding(
            queue,
            f"The queue's dead letters are lost: the RedriveAllowPolicy of {letters} takes none of this queue.",
            f"Name the queue in {letters}'s RedriveAllowPolicy, or leave that out.",
            "Properties/RedrivePolicy",
            about=str(letters),
        )


def _key(templates: Templates, resource: Resource, value: Value) -> Resource | None:
    """The key that a property names, through an alias."""
    key = templates.target(resource, value)
    if key is not None and key.type == "AWS::KMS::Alias":
        key = templates.target(key, key.properties.get("TargetKeyId"))
    return key if key is not None and key.type == _KEY else None


def _key_refused(templates: Templates, policies: Policies, reach: Reach, key: Resource) -> tuple[str, str] | None:
    statements = policies.of(key) or []
    for action in _TO_DECRYPT if reach.reads else _TO_ENCRYPT:
        if reach.role is None:
            call = reach.call(action, templates.arn(key))
            if (reach.service, reach.target.type) == (EVENTS, TOPIC):
                # EventBridge names no source to the key of a topic (sns-key-management.html, read 2026-11-29).
                call = replace(call, context={**call.context, SOURCE_ARN: None, SOURCE_ACCOUNT: None})
            found = refusal(templates, statements, call)
        else:
            role = templates.arn(reach.role)
            call = reach.call(action, templates.arn(key), principal=role)
            found = refusal(templates, statements, call)
            # Where the key leaves it to IAM, the role's own policies must allow it.
            by_name = [each for each in statements if role in _named(templates, each)]
            if found is None and policies.judged(reach.role) and refusal(templates, by_name, call) is not None:
                found = refusal(templates, policies.of(reach.role) or [], call)
        if found is not None:
            asks = reach.service if reach.role is None else f"the role {reach.role}"
            where = f"{key}'s policy" if reach.role is None else f"a policy of the role {reach.role}, or {key}'s"
            return f"{asks} needs {action} on {key}, and {found.says}", _remedy(found, where)
    return None


def _named(templates: Templates, statement: Statement) -> list[str]:
    principal = statement.body.get("Principal")
    named = listed(principal.get("AWS")) if isinstance(principal, Mapping) else []
    return [templates.written(statement.holder, each) for each in named]


def _key_admission(templates: Templates) -> Iterator[Finding]:
    policies = Policies(templates)
    for reach in reaches(templates):
        value = reach.target.properties.get(_KEY_PROPERTY.get(reach.target.type, ""))
        if value is None:
            continue
        if reach.role is None and text(value) in _AWS_MANAGED_KEYS:
            yield Finding(
                reach.source,
                f"{reach.what} is never reached: {reach.target} is encrypted with {text(value)}, whose policy"
                f" is AWS's own and does not let {reach.service} in.",
                "Encrypt it with a key of the app that does, or with the service's own key.",
                reach.location,
                about=str(reach.target),
            )
            continue
        key = _key(templates, reach.target, value)
        refused = None if key is None else _key_refused(templates, policies, reach, key)
        if refused is not None:
            why, remedy = refused
            yield Finding(
                reach.source,
                f"{reach.what} is never reached: {reach.target} is encrypted, {why}.",
                remedy,
                reach.location,
                about=str(reach.target),
            )
    for group in templates.of_type(LOG_GROUP):
        yield from _log_key(templates, policies, group)


def _log_key(templates: Templates, policies: Policies, group: Resource) -> Iterator[Finding]:
    key = _key(templates, group, group.properties.get("KmsKeyId"))
    if key is None:
        return
    arn = templates.arn(group).removesuffix(":*")
    context: dict[str, str | None] = {
        "aws:securetransport": "true",
        "aws:principalisawsservice": "true",
        "kms:encryptioncontext:aws:logs:arn": arn,
        SOURCE_ARN: arn,
        SOURCE_ACCOUNT: group.template.account or "<account>",
    }
    for action in _LOGS_KEY:
        call = Call(LOGS, action, templates.arn(key), context)
        if (found := refusal(templates, policies.of(key) or [], call)) is not None:
            yield Finding(
                group,
                f"The log group cannot be made: CloudWatch Logs needs {action} on its key {key}, and {found.says}.",
                _remedy(found, f"{key}'s policy"),
                "Properties/KmsKeyId",
                about=str(key),
            )
            return


def _waits_for(templates: Templates, resource: Resource) -> set[int]:
    """All that CloudFormation makes before a resource of one stack: what it depends on, and what it refers to."""
    found: set[int] = set()
    left = [resource]
    while left:
        for each in templates.before(left.pop()):
            if id(each) not in found:
                found.add(id(each))
                left.append(each)
    return found


def _role_before_policy(templates: Templates) -> Iterator[Finding]:
    policies = Policies(templates)
    for reach in reaches(templates):
        if reach.role is None:
            continue
        made = _waits_for(templates, reach.source)
        asking = reach.call(reach.actions[0], reach.resource, principal=templates.arn(reach.role))
        for holder in {id(each.holder): each.holder for each in policies.of(reach.role) or ()}.values():
            allows = [each for each in policies.of(reach.role) or () if each.holder is holder and not each.denies]
            if holder is reach.role or id(holder) in made or holder.template is not reach.source.template:
                continue
            if refusal(templates, allows, asking) is None:
                yield Finding(
                    reach.source,
                    f"{reach.what} may be called before {holder} lets the role {reach.role} do so: it refers"
                    " to the role alone, and fails until the policy is there.",
                    f"Let it depend on the policy (node.add_dependency(role), DependsOn: {holder}).",
                    "DependsOn",
                    about=str(reach.target),
                )


def _confused_deputy(templates: Templates) -> Iterator[Finding]:
    policies = Policies(templates)
    open_to: list[tuple[Statement, str, str]] = []
    for role in templates.of_type(ROLE):
        for statement in statements_of(role, role.properties.get("AssumeRolePolicyDocument")):
            open_to += [
                (statement, service, "Properties/AssumeRolePolicyDocument")
                for service in _services(templates, statement)
                if service in _NAMES_ITS_SOURCE
            ]
    for resource in templates.of_type(QUEUE, TOPIC):
        for statement in policies.of(resource) or ():
            open_to += [(statement, each, "Properties/PolicyDocument") for each in _services(templates, statement)]
    for permission in policies.permissions:
        if not {"PrincipalOrgID", "EventSourceToken"} & permission.holder.properties.keys():
            open_to += [(permission, each, "Properties") for each in _services(templates, permission)]
    for statement, service, location in open_to:
        keys = {key.lower() for each in (statement.body.get("Condition") or {}).values() for key in each}
        if not statement.denies and not keys & set(_NARROWING):
            yield Finding(
                statement.holder,
                f"The policy lets in {service} for every AWS account, since it does not say for whom: somebody else's"
                " resource can have the service act here (a confused deputy).",
                "Add the conditions aws:SourceAccount and aws:SourceArn (SourceAccount, SourceArn of a permission).",
                location,
                about=service,
            )


def _services(templates: Templates, statement: Statement) -> list[str]:
    principal = statement.body.get("Principal")
    named = listed(principal.get("Service")) if isinstance(principal, Mapping) else []
    return [service_name(templates.written(statement.holder, each)) for each in named]


RULES = (
    Rule(
        "admission",
        "an alarm's action, or the target, dead-letter queue, destination or subscriber of a rule, a schedule, a topic,"
        " a bucket, a log, an API or a function, whose policy does not let the service in",
        _admission,
    ),
    Rule(
        "key-admission",
        "the same, encrypted with a key whose policy does not let the service in, and a log group with such a key",
        _key_admission,
    ),
    Rule(
        "role-before-policy",
        "a schedule, a rule or an event source that can call before its role's policy is there",
        _role_before_policy,
    ),
    Rule(
        "confused-deputy",
        "a role, a queue, a topic or a function that a service may use for every AWS account",
        _confused_deputy,
    ),
)
"""The rules of this module."""
