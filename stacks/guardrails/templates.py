"""The synthesized templates of one app, and what a reference in them points at, across stacks too."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

# A value of a CloudFormation template: JSON, with intrinsic functions as one-key objects.
Value = Any

_SUBSTITUTED = re.compile(r"\$\{([A-Za-z0-9]+)(?:\.[A-Za-z0-9.]+)?\}")


@dataclass(frozen=True, eq=False)
class Template:
    """One stack's template.

    `path` is the file's absolute path, `stack` the stack's name in CloudFormation, `body` the parsed template.
    """

    path: str
    stack: str
    body: Mapping[str, Value]


@dataclass(frozen=True, eq=False)
class Resource:
    """One resource of a template."""

    template: Template
    logical_id: str
    type: str
    properties: Mapping[str, Value]
    metadata: Mapping[str, Value]

    def __str__(self) -> str:
        return self.logical_id

    def number(self, name: str, default: int) -> int | None:
        """A numeric property, its default where it is absent, None where only a deployment knows it."""
        return number(self.properties.get(name, default))


class Templates:
    """All templates of an app.

    What a reference points at is followed through exports, weak references between stacks, `Fn::Join` and `Fn::Sub`.
    A reference to something outside the app cannot be followed: then the answer is None, and no rule judges it.
    """

    def __init__(self, templates: Sequence[Template]) -> None:
        self._resources: dict[tuple[int, str], Resource] = {}
        self._exports: dict[str, tuple[Template, Value]] = {}
        self._outputs: dict[tuple[str, str], tuple[Template, Value]] = {}
        self._named: dict[tuple[str, str], Resource] = {}
        for template in templates:
            for logical_id, body in template.body.get("Resources", {}).items():
                resource = Resource(
                    template, logical_id, body["Type"], body.get("Properties", {}), body.get("Metadata", {})
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

    def target(self, source: Resource, value: Value) -> Resource | None:
        """The resource that `value`, a property of `source`, refers to; None where it lies outside the app."""
        return self._follow(source.template, value)

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
