"""The synthesized templates of one app, and what a reference in them points at, across stacks too."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

# A value of a CloudFormation template: JSON, with intrinsic functions as one-key objects.
Value = Any

_SUBSTITUTED = re.compile(r"\$\{([A-Za-z0-9]+)(?:\.[A-Za-z0-9.]+)?\}")
_WRITTEN = re.compile(r"\$\{!?([A-Za-z0-9:.]+)\}")

UNKNOWN = "\x00"
"""In a value that is written out: what only a deployment knows."""

# The ARNs of resources, after `arn:aws:`, and the property that gives the resource its name.
_ARNS = {
    "AWS::ApiGateway::RestApi": ("execute-api:{region}:{account}:{name}", "RestApiId"),
    "AWS::ApiGatewayV2::Api": ("execute-api:{region}:{account}:{name}", "ApiId"),
    "AWS::CloudWatch::Alarm": ("cloudwatch:{region}:{account}:alarm:{name}", "AlarmName"),
    "AWS::CloudWatch::CompositeAlarm": ("cloudwatch:{region}:{account}:alarm:{name}", "AlarmName"),
    "AWS::DynamoDB::Table": ("dynamodb:{region}:{account}:table/{name}", "TableName"),
    "AWS::Events::EventBus": ("events:{region}:{account}:event-bus/{name}", "Name"),
    "AWS::Events::Rule": ("events:{region}:{account}:rule/{name}", "Name"),
    "AWS::IAM::Role": ("iam::{account}:role/{name}", "RoleName"),
    "AWS::KMS::Key": ("kms:{region}:{account}:key/{name}", "KeyId"),
    "AWS::Kinesis::Stream": ("kinesis:{region}:{account}:stream/{name}", "Name"),
    "AWS::KinesisFirehose::DeliveryStream": ("firehose:{region}:{account}:deliverystream/{name}", "DeliveryStreamName"),
    "AWS::Lambda::Function": ("lambda:{region}:{account}:function:{name}", "FunctionName"),
    "AWS::Logs::LogGroup": ("logs:{region}:{account}:log-group:{name}:*", "LogGroupName"),
    "AWS::S3::Bucket": ("s3:::{name}", "BucketName"),
    "AWS::SNS::Topic": ("sns:{region}:{account}:{name}", "TopicName"),
    "AWS::SQS::Queue": ("sqs:{region}:{account}:{name}", "QueueName"),
    "AWS::Scheduler::ScheduleGroup": ("scheduler:{region}:{account}:schedule-group/{name}", "Name"),
    "AWS::StepFunctions::StateMachine": ("states:{region}:{account}:stateMachine:{name}", "StateMachineName"),
}
# Whose `Ref` is an ARN.
_REFERS_BY_ARN = frozenset({"AWS::SNS::Topic", "AWS::StepFunctions::StateMachine"})
_ARN_ATTRIBUTES = frozenset({"Arn", "TopicArn", "AliasArn", "FunctionArn"})
_NAME_ATTRIBUTES = frozenset({"QueueName", "TopicName", "Name", "ApiId", "KeyId"})


@dataclass(frozen=True, eq=False)
class Template:
    """One stack's template.

    `path` is the file's absolute path, `stack` the stack's name in CloudFormation, `body` the parsed template.
    `account` and `region` are those that the app gives the stack, None where the deployment decides.
    """

    path: str
    stack: str
    body: Mapping[str, Value]
    account: str | None = None
    region: str | None = None


@dataclass(frozen=True, eq=False)
class Resource:
    """One resource of a template."""

    template: Template
    logical_id: str
    type: str
    properties: Mapping[str, Value]
    metadata: Mapping[str, Value]
    attributes: Mapping[str, Value]
    """What stands beside type and properties: `DeletionPolicy`, `UpdateReplacePolicy`, `DependsOn` …"""

    def __str__(self) -> str:
        return self.logical_id

    def number(self, name: str, default: int) -> int | None:
        """A numeric property, its default where it is absent, None where only a deployment knows it."""
        return number(self.properties.get(name, default))


class Templates:
    """All templates of an app.

    What a reference points at is followed through exports, weak references between stacks, `Fn::Join` and `Fn::Sub`.
    A reference to something outside the app cannot be followed: then the answer is None, and no rule judges it.

    `alarmed` is False when the environment has nobody who is told of alarms, and so has none. `kms_key` is what its
    file names, the ARN of a key or "own"; None without a key or an environment. `keep` is whether it keeps its data.
    """

    def __init__(
        self, templates: Sequence[Template], *, alarmed: bool = True, kms_key: str | None = None, keep: bool = False
    ) -> None:
        self.alarmed = alarmed
        self.kms_key = kms_key
        self.keep = keep
        self._resources: dict[tuple[int, str], Resource] = {}
        self._exports: dict[str, tuple[Template, Value]] = {}
        self._outputs: dict[tuple[str, str], tuple[Template, Value]] = {}
        self._named: dict[tuple[str, str], Resource] = {}
        for template in templates:
            for logical_id, body in template.body.get("Resources", {}).items():
                resource = Resource(
                    template,
                    logical_id,
                    body["Type"],
                    body.get("Properties", {}),
                    body.get("Metadata", {}),
                    body,
                )
                self._resources[id(template), logical_id] = resource
                for name in ("QueueName", "FunctionName"):
                    if isinstance(resource.properties.get(name), str):
                        self._named[resource.type, resource.properties[name]] = resource
            for name, output in template.body.get("Outputs", {}).items():
                self._outputs[template.stack, name] = (template, output.get("Value"))
                exported = output.get("Export", {}).get("Name")
                if isinstance(exported, str):
                    self._exports[exported] = (template, output.get("Value"))

    def of_type(self, *types: str) -> Iterator[Resource]:
        """Every resource of these CloudFormation types, in the templates' order."""
        return (resource for resource in self._resources.values() if resource.type in types)

    def by_template(self) -> Iterator[tuple[Template, list[Resource]]]:
        """Every template that has resources, with them in the template's order."""
        found: dict[int, list[Resource]] = {}
        for resource in self._resources.values():
            found.setdefault(id(resource.template), []).append(resource)
        return ((resources[0].template, resources) for resources in found.values())

    def all(self) -> Iterator[Resource]:
        """Every resource."""
        return iter(self._resources.values())

    def target(self, source: Resource, value: Value) -> Resource | None:
        """The resource that `value`, a property of `source`, refers to; None where it lies outside the app."""
        return self._follow(source.template, value)

    def before(self, resource: Resource) -> Iterator[Resource]:
        """What CloudFormation makes before a resource: those of its stack that it depends on or refers to."""
        names = {*listed(resource.attributes.get("DependsOn")), *_mentioned(resource.properties)}
        found = (self._resources.get((id(resource.template), name)) for name in names)
        return (each for each in found if each is not None)

    def written(self, source: Resource, value: Value) -> str:
        """`value`, a property of `source`, written out as one text, so that two of them can be compared.

        A resource without a name of its own stands as `<stack.LogicalId>`, an account and a Region that the app does
        not name as `<account>` and `<region>`, and anything else that only a deployment knows as UNKNOWN.
        """
        return self._written(source.template, value)

    def arn(self, resource: Resource) -> str:
        """The ARN of a resource, written as `written` does; UNKNOWN for types whose ARN is not known here."""
        template = resource.template
        if resource.type in ("AWS::Lambda::Alias", "AWS::Lambda::Version"):
            function = self._written(template, resource.properties.get("FunctionName"))
            if not function.startswith("arn:"):
                function = f"arn:aws:lambda:{_region(template)}:{_account(template)}:function:{function}"
            qualifier = resource.properties.get("Name")
            return f"{function}:{qualifier if isinstance(qualifier, str) else _generated(resource)}"
        pattern, _ = _ARNS.get(resource.type, (None, ""))
        if pattern is None:
            return UNKNOWN
        name = self._name(resource)
        if resource.type == "AWS::Events::Rule" and "EventBusName" in resource.properties:
            name = f"{self._written(template, resource.properties['EventBusName'])}/{name}"
        return "arn:aws:" + pattern.format(region=_region(template), account=_account(template), name=name)

    def _name(self, resource: Resource) -> str:
        _, named_by = _ARNS.get(resource.type, ("", ""))
        name = resource.properties.get(named_by)
        return name if isinstance(name, str) else _generated(resource)

    def _written(self, template: Template, value: Value) -> str:
        if isinstance(value, str):
            return value
        if not isinstance(value, Mapping) or len(value) != 1:
            return str(value) if isinstance(value, int | float) else UNKNOWN
        [(function, argument)] = value.items()
        match function, argument:
            case "Ref", str():
                return self._referred(template, argument, None)
            case "Fn::GetAtt", [str() as logical_id, str() as attribute]:
                return self._referred(template, logical_id, attribute)
            case "Fn::GetAtt", str():
                logical_id, _, attribute = argument.partition(".")
                return self._referred(template, logical_id, attribute)
            case "Fn::ImportValue", str():
                exported = self._exports.get(argument)
                return self._written(*exported) if exported else UNKNOWN
            case "Fn::GetStackOutput", Mapping():
                exported = self._outputs.get((str(argument.get("StackName")), str(argument.get("OutputName"))))
                return self._written(*exported) if exported else UNKNOWN
            case "Fn::Join", [str() as separator, list() as parts]:
                return separator.join(self._written(template, part) for part in parts)
            case "Fn::Sub", _:
                pattern, given = (argument, {}) if isinstance(argument, str) else argument
                return _WRITTEN.sub(lambda found: self._substituted(template, found, given), pattern)
        return UNKNOWN

    def _substituted(self, template: Template, found: re.Match[str], given: Mapping[str, Value]) -> str:
        name = found[1]
        if found[0].startswith("${!"):
            return f"${{{name}}}"
        if name in given:
            return self._written(template, given[name])
        logical_id, _, attribute = name.partition(".")
        return self._referred(template, logical_id, attribute or None)

    def _referred(self, template: Template, name: str, attribute: str | None) -> str:
        """What `Ref`, or `Fn::GetAtt` with an attribute, gives of a resource or a pseudo parameter."""
        resource = self._resources.get((id(template), name))
        if resource is None:
            return _pseudo(template).get(name, UNKNOWN)
        by_arn = resource.type in _REFERS_BY_ARN or resource.type in ("AWS::Lambda::Alias", "AWS::Lambda::Version")
        if attribute in _ARN_ATTRIBUTES or (attribute is None and by_arn):
            return self.arn(resource)
        if attribute is None or attribute in _NAME_ATTRIBUTES:
            return self._name(resource)
        return UNKNOWN

    def named(self, value: Value) -> str | None:
        """A reference to another stack by what it refers to: `<LogicalId.Arn>`, or `<LogicalId>` for a `Ref`.

        Only references that say themselves where they lead, so no template is needed; None for every other value.
        """
        if not isinstance(value, Mapping):
            return None
        exported: tuple[Template, Value] | None = None
        if isinstance(output := value.get("Fn::GetStackOutput"), Mapping):
            exported = self._outputs.get((str(output.get("StackName")), str(output.get("OutputName"))))
        elif isinstance(name := value.get("Fn::ImportValue"), str):
            exported = self._exports.get(name)
        match exported[1] if exported else None:
            case {"Fn::GetAtt": [str() as logical_id, str() as attribute]}:
                return f"<{logical_id}.{attribute}>"
            case {"Ref": str() as logical_id}:
                return f"<{logical_id}>"
        return None

    @property
    def exports(self) -> dict[str, str]:
        """What each export's name refers to, written as `named` does."""
        names = ((name, self.named({"Fn::ImportValue": name})) for name in self._exports)
        return {name: refers for name, refers in names if refers is not None}

    def _follow(self, template: Template, value: Value) -> Resource | None:
        if isinstance(value, str):
            return self._by_name(value)
        if not isinstance(value, Mapping) or len(value) != 1:
            return None
        [(function, argument)] = value.items()
        found: Resource | None = None
        match function:
            case "Ref":
                found = self._resources.get((id(template), argument))
            case "Fn::GetAtt":
                logical_id = argument.partition(".")[0] if isinstance(argument, str) else argument[0]
                found = self._resources.get((id(template), logical_id))
            case "Fn::ImportValue":
                found = self._elsewhere(self._exports.get(argument) if isinstance(argument, str) else None)
            case "Fn::GetStackOutput":
                found = self._elsewhere(self._outputs.get((argument.get("StackName"), argument.get("OutputName"))))
            case "Fn::Join":
                # The first part that is a resource: the others are pseudo parameters and text around it.
                found = next(filter(None, (self._follow(template, part) for part in referring(argument[1]))), None)
                found = found or self._by_name(text(value))
            case "Fn::Sub":
                pattern = argument if isinstance(argument, str) else argument[0]
                named = (self._resources.get((id(template), name)) for name in _SUBSTITUTED.findall(pattern))
                found = next(filter(None, named), None)
        return found

    def _elsewhere(self, exported: tuple[Template, Value] | None) -> Resource | None:
        return None if exported is None else self._follow(*exported)

    def _by_name(self, literal: str) -> Resource | None:
        """A resource by an ARN or a name written out, where the resource has a physical name."""
        kind = "AWS::SQS::Queue" if ":sqs:" in literal else "AWS::Lambda::Function"
        _, function, qualified = literal.partition(":function:")
        name = qualified.partition(":")[0] if function else literal.rpartition(":")[2]
        return self._named.get((kind, name))


def _mentioned(value: Value) -> Iterator[str]:
    """The logical ids that a value refers to."""
    if isinstance(value, list):
        for each in value:
            yield from _mentioned(each)
    elif isinstance(value, Mapping):
        for function, argument in value.items():
            match function, argument:
                case "Ref", str():
                    yield argument
                case "Fn::GetAtt", [str() as logical_id, *_]:
                    yield logical_id
                case "Fn::GetAtt", str():
                    yield argument.partition(".")[0]
                case "Fn::Sub", _:
                    yield from _SUBSTITUTED.findall(argument if isinstance(argument, str) else argument[0])
                    yield from _mentioned(argument)
                case _:
                    yield from _mentioned(argument)


def _region(template: Template) -> str:
    return template.region or "<region>"


def _account(template: Template) -> str:
    return template.account or "<account>"


def _pseudo(template: Template) -> Mapping[str, str]:
    return {
        "AWS::AccountId": _account(template),
        "AWS::Partition": "aws",
        "AWS::Region": _region(template),
        "AWS::StackName": template.stack,
        "AWS::URLSuffix": "amazonaws.com",
    }


def _generated(resource: Resource) -> str:
    """Stands for the name that CloudFormation gives a resource."""
    return f"<{resource.template.stack}.{resource.logical_id}>"


def number(value: Value) -> int | None:
    """A whole number of a template, which may be written as text; None where only a deployment knows it."""
    if isinstance(value, int | float):
        return int(value)
    return int(value) if isinstance(value, str) and value.isdecimal() else None


def text(value: Value) -> str:
    """The literal text of a value: of a `Fn::Join` its parts, without what only a deployment knows."""
    if isinstance(value, str):
        return value
    if isinstance(value, Mapping) and isinstance(value.get("Fn::Join"), list):
        separator, parts = value["Fn::Join"]
        return str(separator).join(text(part) for part in parts) if isinstance(parts, list) else ""
    return ""


def referring(parts: Value) -> list[Value]:
    """The parts of a `Fn::Join` that are not literal text."""
    return [part for part in parts if not isinstance(part, str)] if isinstance(parts, list) else []


def listed(value: Value) -> list[Value]:
    """CloudFormation and IAM take one value where they take a list of values: always the list."""
    if value is None:
        return []
    return value if isinstance(value, list) else [value]
