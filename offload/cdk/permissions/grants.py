"""What the roles of functions allow, as the synthesized templates say it."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from offload.cdk.guardrails.access import UNUSED
from offload.cdk.guardrails.functions import FUNCTION
from offload.cdk.guardrails.templates import Resource, Templates, Value, listed
from offload.contracts.functions import source_of

_SUBSTITUTED: Final = re.compile(r"\$\{([^}]+)\}")
# `arn:PARTITION:SERVICE:REGION:ACCOUNT:` of the account that is deployed to; a destination of another keeps its own.
_OWN_ARN: Final = re.compile(
    r"^arn:(?:\$\{Partition\}|aws[a-z-]*):([a-z0-9-]+):(?:\$\{Region\}|[a-z0-9-]+)?:(?:\$\{AccountId\})?:"
)


@dataclass(frozen=True)
class Statement:
    """One statement of a role's policies; `policy` is the resource that it stands in."""

    policy: Resource
    allows: bool
    actions: tuple[str, ...]
    resources: tuple[str, ...]
    conditions: Mapping[str, Mapping[str, Sequence[str]]]
    all_actions_but: bool = False
    all_resources_but: bool = False

    def covers(self, action: str, resource: str) -> bool:
        """Whether the statement is about an action on a resource, whatever its conditions say."""
        of_action = any(fits(pattern, action, ignore_case=True) for pattern in self.actions)
        of_resource = any(fits(pattern, resource) for pattern in self.resources)
        return of_action != self.all_actions_but and of_resource != self.all_resources_but


@dataclass(frozen=True)
class Reason:
    """Why a policy allows what no function asks for."""

    action: str
    resource: str
    why: str


@dataclass(frozen=True)
class Function:
    """A function as it is deployed: the folder of its source, its variables, what its role allows."""

    resource: Resource
    source: str
    variables: Mapping[str, Value]
    statements: tuple[Statement, ...]
    reasons: tuple[Reason, ...]
    managed_policies: tuple[str, ...] = ()
    polls: frozenset[str] = field(default_factory=frozenset)
    log_group: str = ""

    def __str__(self) -> str:
        return f"{self.source} ({self.resource.logical_id})"


class Roles:
    """The functions of an app with their roles. `account` is the one that the templates name, where they name one.

    Resources are written as the record of calls and people read them: `<Jobs3A3E4888>/index/due` is the index of a
    table of the app, by its logical id; `ssm:parameter/offload/dev/jobs/yearly_report` is an ARN without its account.
    """

    def __init__(self, templates: Templates, account: str | None = None) -> None:
        self._templates = templates
        self._account = account
        seen = Counter(resource.logical_id for resource in templates.all())
        self._ambiguous = {logical_id for logical_id, times in seen.items() if times > 1}
        self._policies = list(templates.of_type("AWS::IAM::Policy", "AWS::IAM::ManagedPolicy", "AWS::IAM::RolePolicy"))

    def functions(self) -> Iterator[Function]:
        """Every function that PythonFunction made."""
        polled = self._polled()
        for function in self._templates.of_type(FUNCTION):
            handler = function.properties.get("Handler")
            role = self._templates.target(function, function.properties.get("Role"))
            source = source_of(handler) if isinstance(handler, str) else None
            if source is None or role is None:
                continue
            holders = [role, *(policy for policy in self._policies if self._is_of(policy, role))]
            group = self._templates.target(function, function.properties.get("LoggingConfig", {}).get("LogGroup"))
            yield Function(
                function,
                source,
                function.properties.get("Environment", {}).get("Variables", {}),
                tuple(statement for holder in holders for statement in self._statements(holder)),
                tuple(reason for holder in holders for reason in self._reasons(holder)),
                tuple(str(arn) for arn in listed(role.properties.get("ManagedPolicyArns"))),
                frozenset(polled.get(id(function), ())),
                "" if group is None else self.name(group),
            )

    def written(self, source: Resource, value: Value) -> str:
        """A reference, an ARN or a pattern of one, in `source`'s template, as resources are written."""
        text = self._text(source, value)
        own = _OWN_ARN.sub(r"\1:", text)
        if self._account and own == text:
            own = re.sub(rf"^arn:[a-z-]+:([a-z0-9-]+):[^:]*:{self._account}:", r"\1:", text)
        return own

    def name(self, resource: Resource) -> str:
        """A resource of the app, as resources are written: with its stack where two stacks have its logical id."""
        stack = f"{resource.template.stack}." if resource.logical_id in self._ambiguous else ""
        return f"<{stack}{resource.logical_id}>"

    def resources(self, *types: str) -> Iterator[Resource]:
        """The resources of these types."""
        return self._templates.of_type(*types)

    def target(self, source: Resource, value: Value) -> Resource | None:
        """What a reference leads to."""
        return self._templates.target(source, value)

    def _text(self, source: Resource, value: Value) -> str:
        if isinstance(value, str):
            return value
        match value:
            case {"Ref": str(name)} if name.startswith("AWS::"):
                return "${" + name.removeprefix("AWS::") + "}"
            case {"Fn::Join": [str(separator), list(parts)]}:
                return separator.join(self._text(source, part) for part in parts)
            case {"Fn::Sub": str(pattern)}:
                return _SUBSTITUTED.sub(lambda found: self._substituted(source, found[1]), pattern)
        target = self._templates.target(source, value)
        return self.name(target) if target is not None else "<outside of the app>"

    def _substituted(self, source: Resource, name: str) -> str:
        logical_id, dot, attribute = name.partition(".")
        return self._text(source, {"Fn::GetAtt": [logical_id, attribute]} if dot else {"Ref": logical_id})

    def _is_of(self, policy: Resource, role: Resource) -> bool:
        names = [*listed(policy.properties.get("Roles")), *listed(policy.properties.get("RoleName"))]
        return any(self._templates.target(policy, name) is role for name in names)

    def _statements(self, holder: Resource) -> Iterator[Statement]:
        documents = [holder.properties.get("PolicyDocument")]
        documents += [inline.get("PolicyDocument") for inline in listed(holder.properties.get("Policies"))]
        for document in documents:
            for statement in listed((document or {}).get("Statement")):
                resources = statement.get("Resource", statement.get("NotResource"))
                yield Statement(
                    holder,
                    statement.get("Effect") != "Deny",
                    tuple(str(each) for each in listed(statement.get("Action", statement.get("NotAction")))),
                    tuple(self.written(holder, each) for each in listed(resources)),
                    {
                        operator: {key: [str(each) for each in listed(values)] for key, values in keys.items()}
                        for operator, keys in statement.get("Condition", {}).items()
                    },
                    all_actions_but="NotAction" in statement,
                    all_resources_but="NotResource" in statement,
                )

    def _reasons(self, holder: Resource) -> Iterator[Reason]:
        for entry in listed(holder.metadata.get(UNUSED)):
            yield Reason(entry["action"], self.written(holder, entry["resource"]), entry["reason"])

    def _polled(self) -> dict[int, set[str]]:
        """The queues that Lambda polls for each function, with the function's role."""
        found: dict[int, set[str]] = {}
        for mapping in self._templates.of_type("AWS::Lambda::EventSourceMapping"):
            function = self._templates.target(mapping, mapping.properties.get("FunctionName"))
            if function is not None:
                queue = self.written(mapping, mapping.properties.get("EventSourceArn"))
                found.setdefault(id(function), set()).add(queue)
        return found


def fits(pattern: str, text: str, *, ignore_case: bool = False) -> bool:
    """Whether a text is what a pattern with `*` and `?` stands for, as IAM reads one."""
    written = "".join({"*": ".*", "?": "."}.get(each, re.escape(each)) for each in pattern)
    return re.fullmatch(written, text, re.IGNORECASE | re.DOTALL if ignore_case else re.DOTALL) is not None


def holds(conditions: Mapping[str, Mapping[str, Sequence[str]]], context: Mapping[str, Sequence[str]]) -> bool | str:
    """Whether a request meets a statement's conditions; the key, where a recorded call does not say its value.

    `context` has the request's values by their keys in lower case. Kinds of operators: String, Arn, Bool, Numeric
    equality and Null, with ForAllValues, ForAnyValue and IfExists.
    """
    for operator, keys in conditions.items():
        for key, wanted in keys.items():
            answer = _holds(operator, wanted, context.get(key.lower()))
            if answer is None:
                return key
            if not answer:
                return False
    return True


def _holds(operator: str, wanted: Sequence[str], found: Sequence[str] | None) -> bool | None:
    which, colon, kind = operator.rpartition(":")
    if kind == "Null":
        return None if found is None else (wanted[0].lower() == "true") == (not found)
    if found is None:
        return None
    optional, kind = kind.endswith("IfExists"), kind.removesuffix("IfExists")
    if not found:
        return optional or which == "ForAllValues" or "Not" in kind
    negated, kind = "Not" in kind, kind.replace("Not", "")

    def one(value: str) -> bool | None:
        match kind:
            case "StringEquals" | "NumericEquals":
                return (value in wanted) != negated
            case "StringEqualsIgnoreCase" | "Bool":
                return (value.lower() in [each.lower() for each in wanted]) != negated
            case "StringLike" | "ArnEquals" | "ArnLike":
                return any(fits(each, value) for each in wanted) != negated
        return None

    answers = [one(value) for value in found]
    if None in answers:
        return None
    return any(answers) if colon and which == "ForAnyValue" else all(answers)
