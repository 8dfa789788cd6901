"""What the policies of an app's templates let in: statements matched against one call, as IAM evaluates them.

IAM User Guide, "Policy evaluation logic" and "IAM JSON policy elements" (read 2026-11-29): an explicit Deny wins, and
without an Allow nothing is let in. What only a deployment knows is not judged: in an Allow it counts as fitting, in a
Deny as not.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache

from offload.cdk.guardrails.functions import FUNCTION
from offload.cdk.guardrails.templates import UNKNOWN, Resource, Templates, Value, listed, text

SOURCE_ARN, SOURCE_ACCOUNT = "aws:sourcearn", "aws:sourceaccount"

# A service that calls for itself has neither a principal's ARN nor an organization, and comes from no address of ours
# ("AWS global condition context keys", read 2026-11-29).
_NEVER_WITH_A_SERVICE = (
    "aws:principalaccount",
    "aws:principalarn",
    "aws:principalorgid",
    "aws:principalorgpaths",
    "aws:principaltag/",
    "aws:sourceip",
    "aws:sourcevpc",
    "aws:sourcevpce",
    "aws:userid",
    "aws:username",
)
# `logs.eu-west-1.amazonaws.com` is `logs.amazonaws.com` of one Region.
_REGIONAL = re.compile(r"^([a-z0-9-]+)\.(?:<region>|[a-z]{2}(?:-[a-z]+)+-\d+)\.amazonaws\.com\Z")
_ARN_PARTS = 6


@dataclass(frozen=True)
class Call:
    """One call that a policy is asked about.

    `principal` is a service (`events.amazonaws.com`) or a role's ARN; `resource` an ARN; `context` the condition keys
    that come with the call, in lower case, None for one that surely does not. Texts are as `Templates.written` gives
    them.
    """

    principal: str
    action: str
    resource: str
    context: Mapping[str, str | None] = field(default_factory=dict)

    @property
    def by_service(self) -> bool:
        """Whether a service calls for itself, and not a role."""
        return self.principal.endswith(".amazonaws.com")


@dataclass(frozen=True)
class Statement:
    """One statement of a policy and the resource that it stands in, by which its references are followed."""

    holder: Resource
    body: Mapping[str, Value]

    @property
    def denies(self) -> bool:
        """Whether it forbids."""
        return bool(self.body.get("Effect") == "Deny")


@dataclass(frozen=True)
class Refusal:
    """Why a call is not let in, for people; `by` is the statement that shuts it out, or misses it by its conditions."""

    says: str
    by: Statement | None = None


def refusal(templates: Templates, statements: Sequence[Statement], call: Call) -> Refusal | None:
    """Why the statements, all those that are asked about one resource, do not let a call in; None when they do."""
    missed: Statement | None = None
    allowed = False
    for statement in statements:
        if not _about(templates, statement, call):
            continue
        holds = _conditions(templates, statement, call)
        if statement.denies and holds is True:
            return Refusal(f"a statement{_sid(statement)} of {statement.holder} denies it", statement)
        if not statement.denies:
            allowed = allowed or holds is not False
            missed = missed or (statement if holds is False else None)
    if allowed:
        return None
    if missed is not None:
        conditions = json.dumps(missed.body.get("Condition"), sort_keys=True)
        return Refusal(
            f"the conditions of the statement{_sid(missed)} of {missed.holder} that would are not met: {conditions}",
            missed,
        )
    return Refusal("no statement allows it")


def statements_of(holder: Resource, document: Value) -> Iterator[Statement]:
    """The statements of a policy document that stands in `holder`."""
    if isinstance(document, Mapping):
        for body in listed(document.get("Statement")):
            if isinstance(body, Mapping):
                yield Statement(holder, body)


def fits(pattern: str, text: str, *, unknown: bool = True) -> bool:
    """Whether a text fits a pattern of IAM, with `*` and `?`; `unknown` where UNKNOWN is in one of them."""
    if UNKNOWN in pattern or UNKNOWN in text:
        return unknown
    return bool(_expression(pattern).fullmatch(text))


def fits_arn(pattern: str, arn: str) -> bool:
    """As `fits`, for ArnLike and ArnEquals: each of an ARN's six parts by itself."""
    parts = pattern.split(":", _ARN_PARTS - 1), arn.split(":", _ARN_PARTS - 1)
    return len(parts[0]) == len(parts[1]) == _ARN_PARTS and all(map(fits, *parts))


@lru_cache(maxsize=4096)
def _expression(pattern: str) -> re.Pattern[str]:
    return re.compile("".join({"*": ".*", "?": "."}.get(each, re.escape(each)) for each in pattern), re.DOTALL)


def service_name(principal: str) -> str:
    """A service's name without the Region that some have in it."""
    return _REGIONAL.sub(r"\1.amazonaws.com", principal)


def _sid(statement: Statement) -> str:
    sid = statement.body.get("Sid")
    return f" '{sid}'" if isinstance(sid, str) else ""


def _about(templates: Templates, statement: Statement, call: Call) -> bool:
    """Whether a statement is about the call's principal, action and resource."""
    body = statement.body
    unknown = not statement.denies

    def names(key: str, value: str) -> bool:
        return any(
            fits(templates.written(statement.holder, each), value, unknown=unknown) for each in listed(body.get(key))
        )

    def acts(key: str) -> bool:
        return any(fits(str(each).lower(), call.action.lower()) for each in listed(body.get(key)))

    # A trust policy names no resource, a role's policy no principal: they are the role's own.
    resource = not names("NotResource", call.resource) if "NotResource" in body else names("Resource", call.resource)
    return (
        (not acts("NotAction") if "NotAction" in body else acts("Action"))
        and (resource or not {"Resource", "NotResource"} & body.keys())
        and _by(templates, statement, call)
    )


def _by(templates: Templates, statement: Statement, call: Call) -> bool:
    if "NotPrincipal" in statement.body:
        return not _among(templates, statement, statement.body["NotPrincipal"], call)
    return "Principal" not in statement.body or _among(templates, statement, statement.body["Principal"], call)


def _among(templates: Templates, statement: Statement, principal: Value, call: Call) -> bool:
    if not isinstance(principal, Mapping):
        return bool(principal == "*")
    unknown = not statement.denies
    named = {
        kind: [templates.written(statement.holder, each) for each in listed(value)] for kind, value in principal.items()
    }
    if "*" in named.get("AWS", ()):
        return True
    if call.by_service:
        return any(
            fits(service_name(each), service_name(call.principal), unknown=unknown) for each in named.get("Service", ())
        )
    account = call.principal.split(":")[4]
    itself = {call.principal, account, f"arn:aws:iam::{account}:root"}
    return any(each in itself or (unknown and UNKNOWN in each) for each in named.get("AWS", ()))


def _conditions(templates: Templates, statement: Statement, call: Call) -> bool | None:
    """Whether all conditions hold; None where only a deployment knows."""
    found: bool | None = True
    for operator, keys in (statement.body.get("Condition") or {}).items():
        for key, value in keys.items():
            wanted = [templates.written(statement.holder, each) for each in listed(value)]
            holds = _holds(operator.lower(), key.lower(), wanted, call)
            if holds is False:
                return False
            found = None if holds is None else found
    return found


_COMPARE: Mapping[str, Callable[[str, str], bool]] = {
    "stringequals": lambda wanted, value: wanted == value,
    "stringequalsignorecase": lambda wanted, value: wanted.lower() == value.lower(),
    "bool": lambda wanted, value: wanted.lower() == value.lower(),
    "stringlike": fits,
    "arnequals": fits_arn,
    "arnlike": fits_arn,
}


def _holds(operator: str, key: str, wanted: Sequence[str], call: Call) -> bool | None:
    """Whether one condition holds; `operator` and `key` are in lower case."""
    quantifier, _, operator = operator.rpartition(":")
    optional = operator.endswith("ifexists") or quantifier == "forallvalues"
    operator = operator.removesuffix("ifexists")
    if key not in call.context and not (call.by_service and key.startswith(_NEVER_WITH_A_SERVICE)):
        return None
    value = call.context.get(key)
    if operator == "null":
        return any((each.lower() == "true") == (value is None) for each in wanted)
    compare = _COMPARE.get(operator.replace("not", "", 1))
    if compare is None:
        return None
    negated = "not" in operator
    if value is None:
        return optional or negated
    if any(compare(each, value) for each in wanted if UNKNOWN not in each and UNKNOWN not in value):
        return not negated
    return None if UNKNOWN in value or any(UNKNOWN in each for each in wanted) else negated


class Policies:
    """The policies of an app's templates, by the resource that they are about."""

    def __init__(self, templates: Templates) -> None:
        self._templates = templates
        self._of: dict[int, list[Statement]] = {}
        self._open: set[int] = set()
        for kind, named_by in (
            ("AWS::SQS::QueuePolicy", "Queues"),
            ("AWS::SQS::QueueInlinePolicy", "Queue"),
            ("AWS::SNS::TopicPolicy", "Topics"),
            ("AWS::SNS::TopicInlinePolicy", "TopicArn"),
            ("AWS::S3::BucketPolicy", "Bucket"),
            ("AWS::IAM::Policy", "Roles"),
            ("AWS::IAM::ManagedPolicy", "Roles"),
            ("AWS::IAM::RolePolicy", "RoleName"),
        ):
            for policy in templates.of_type(kind):
                for owner in listed(policy.properties.get(named_by)):
                    if (of := templates.target(policy, owner)) is not None:
                        self._add(of, policy, policy.properties.get("PolicyDocument"))
        for key in templates.of_type("AWS::KMS::Key"):
            self._add(key, key, key.properties.get("KeyPolicy"))
        for role in templates.of_type("AWS::IAM::Role"):
            for inline in listed(role.properties.get("Policies")):
                self._add(role, role, inline.get("PolicyDocument"))
            for managed in listed(role.properties.get("ManagedPolicyArns")):
                policy_of = templates.target(role, managed)
                if policy_of is None:
                    self._open.add(id(role))
                else:
                    self._add(role, policy_of, policy_of.properties.get("PolicyDocument"))
        self.permissions = [
            Statement(permission, self._statement(permission))
            for permission in templates.of_type("AWS::Lambda::Permission")
        ]
        self._logs = [
            statement
            for policy in templates.of_type("AWS::Logs::ResourcePolicy")
            for statement in statements_of(policy, self._parsed(policy))
        ]

    def of(self, resource: Resource) -> list[Statement] | None:
        """The statements about a resource; None where it has no policy, and AWS's default holds."""
        if resource.type in (FUNCTION, "AWS::Lambda::Alias", "AWS::Lambda::Version"):
            return self.permissions
        if resource.type == "AWS::Logs::LogGroup":
            return self._logs
        return self._of.get(id(resource), [] if resource.type == "AWS::IAM::Role" else None)

    def judged(self, role: Resource) -> bool:
        """Whether all policies of a role are in the app."""
        return id(role) not in self._open

    def _add(self, owner: Resource, holder: Resource, document: Value) -> None:
        self._of.setdefault(id(owner), []).extend(statements_of(holder, document))

    def _statement(self, permission: Resource) -> dict[str, Value]:
        """A function's permission, as the statement that Lambda makes of it."""
        given = permission.properties
        named = self._templates.written(permission, given.get("FunctionName"))
        if not named.startswith("arn:") and UNKNOWN not in named:
            region, account = permission.template.region or "<region>", permission.template.account or "<account>"
            named = f"arn:aws:lambda:{region}:{account}:function:{named}"
        conditions: dict[str, Value] = {}
        if "SourceArn" in given:
            conditions["ArnLike"] = {"aws:SourceArn": given["SourceArn"]}
        if "SourceAccount" in given:
            conditions["StringEquals"] = {"aws:SourceAccount": given["SourceAccount"]}
        principal = given.get("Principal")
        kind = "Service" if ".amazonaws.com" in text(principal) else "AWS"
        return {
            "Effect": "Allow",
            "Principal": {kind: principal},
            "Action": given.get("Action"),
            "Resource": named,
            "Condition": conditions,
        }

    def _parsed(self, policy: Resource) -> Value:
        """The document of a log group's resource policy, which is JSON in a text."""
        written = self._templates.written(policy, policy.properties.get("PolicyDocument"))
        try:
            return json.loads(written)
        except json.JSONDecodeError:
            # Parts of it are known at deployment only: it lets in whom it may.
            return {"Statement": {"Effect": "Allow", "Principal": "*", "Action": "*", "Resource": "*"}}
