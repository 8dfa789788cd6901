"""References between stacks that follow a replacement: docs/adr/0019-references-follow-a-replacement.md.

A stack reads another one's output by `Fn::GetStackOutput`, which CloudFormation resolves when the reading stack is
updated. The CDK's command line skips a stack whose template is unchanged, so after a replacement in the other stack
(same logical id, new physical one) the reader would go on naming a resource that is gone. So each such output's name
ends in a digest of what it refers to: a template that reads it changes exactly when that is defined differently.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from offload.cdk.refusal import Unusable

# A value of a CloudFormation template: JSON, with intrinsic functions as one-key objects.
Value = Any

_DIGITS = 8
# The CDK's own outputs, made for references alone; another one has a name that people and commands know.
_PUBLISHED = "PublishOutput"
_SUBSTITUTED = re.compile(r"\$\{([A-Za-z0-9]+)(?:\.[A-Za-z0-9.]+)?\}")
# Nothing refers to code by a physical id: a new bundle replaces no function.
_CODE = {"AWS::Lambda::Function": ("Code",)}


class UnusableAssembly(Unusable):
    """The cloud assembly is not as the CDK has written it until now; the message is one line for people."""


@dataclass(frozen=True)
class _Stack:
    """A stack of an assembly: its name in CloudFormation, its template's file and the parsed template."""

    name: str
    file: Path
    template: dict[str, Value]


def name_outputs_by_definition(assembly: Path) -> dict[tuple[str, str], str]:
    """Renames, in a synthesized assembly, the outputs that stacks read from one another.

    `assembly` is the folder that the CDK synthesized into; its templates are rewritten where they lie, and the hashes
    of those with them. Returns the new name of each output by its stack's name and its old name. An output that was
    not made for references (a service's URL) keeps its name, and the value is also there under the new one.

    Raises UnusableAssembly when a template's hash is not where the CDK has put it until now.
    """
    renamed: dict[tuple[str, str], str] = {}
    for manifest in sorted(assembly.rglob("manifest.json")):
        stacks = _stacks(manifest)
        names = _names(stacks)
        _rewrite(manifest, stacks, names)
        renamed |= names
    return renamed


def definition(stacks: Mapping[str, Mapping[str, Value]], stack: str, value: Value) -> str:
    """A digest, in hexadecimal digits, of everything in the templates that `value` of a stack's template stands for.

    `stacks` are templates by the stacks' names. Of a resource it is the type and the properties (of a function without
    its code), and what these refer to, also in other stacks: a queue that is replaced replaces the policy made for it.
    """
    found: dict[str, Value] = {}
    _collect(stacks, stack, value, found)
    content = json.dumps([value, found], sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(content.encode()).hexdigest()[:_DIGITS]


def _collect(stacks: Mapping[str, Mapping[str, Value]], stack: str, value: Value, found: dict[str, Value]) -> None:
    """Adds to `found` what `value` refers to, by the stack's and its own name, until nothing new is found."""
    if isinstance(value, list):
        for item in value:
            _collect(stacks, stack, item, found)
        return
    if not isinstance(value, Mapping):
        return
    for key, argument in value.items():
        _collect(stacks, stack, argument, found)
        if key == "Fn::GetStackOutput":
            output = stacks.get(argument["StackName"], {}).get("Outputs", {}).get(argument["OutputName"], {})
            _collect(stacks, argument["StackName"], output.get("Value"), found)
        for section, name in _named(key, argument):
            known = f"{stack}/{section}/{name}"
            body = stacks[stack].get(section, {}).get(name)
            if body is None or known in found:
                continue
            found[known] = _defining(body) if section == "Resources" else body
            _collect(stacks, stack, found[known], found)


def _named(function: str, argument: Value) -> Iterator[tuple[str, str]]:
    """The entries of the same template that an intrinsic function names, each with the section it would stand in."""
    match function, argument:
        case "Ref", str():
            yield "Resources", argument
            yield "Parameters", argument
        case "Fn::GetAtt", [str() as name, *_]:
            yield "Resources", name
        case "Fn::GetAtt", str():
            yield "Resources", argument.partition(".")[0]
        case "Fn::Sub", str() | [str(), *_]:
            pattern = argument if isinstance(argument, str) else argument[0]
            for name in _SUBSTITUTED.findall(pattern):
                yield "Resources", name
                yield "Parameters", name
        case "Fn::FindInMap", [str() as name, *_]:
            yield "Mappings", name
        case "Fn::If", [str() as name, *_]:
            yield "Conditions", name
        case "Condition", str():
            yield "Conditions", argument


def _defining(resource: Mapping[str, Value]) -> dict[str, Value]:
    """What of a resource decides on its replacement, or may."""
    left_out = _CODE.get(resource["Type"], ())
    properties = {name: value for name, value in resource.get("Properties", {}).items() if name not in left_out}
    return {"Type": resource["Type"], "Properties": properties}


def _stacks(manifest: Path) -> list[_Stack]:
    artifacts = json.loads(manifest.read_text(encoding="utf-8")).get("artifacts", {})
    stacks = []
    for artifact_id, artifact in artifacts.items():
        if artifact["type"] != "aws:cloudformation:stack":
            continue
        properties = artifact["properties"]
        file = manifest.parent / properties["templateFile"]
        template = json.loads(file.read_text(encoding="utf-8"))
        stacks.append(_Stack(properties.get("stackName", artifact_id), file, template))
    return stacks


def _names(stacks: list[_Stack]) -> dict[tuple[str, str], str]:
    """The new name of every output that another stack of the assembly reads."""
    templates = {stack.name: stack.template for stack in stacks}
    names: dict[tuple[str, str], str] = {}
    for template in templates.values():
        for producer, name in _read(template):
            output = templates.get(producer, {}).get("Outputs", {}).get(name)
            if output is not None:
                names[producer, name] = name + definition(templates, producer, output["Value"])
    return names


def _read(value: Value) -> Iterator[tuple[str, str]]:
    """The outputs, by stack and name, that a part of a template reads."""
    if isinstance(value, list):
        for item in value:
            yield from _read(item)
    elif isinstance(value, Mapping):
        for key, argument in value.items():
            if key == "Fn::GetStackOutput":
                yield argument["StackName"], argument["OutputName"]
            else:
                yield from _read(argument)


def _rewrite(manifest: Path, stacks: list[_Stack], names: Mapping[tuple[str, str], str]) -> None:
    hashes: dict[str, str] = {}
    for stack in stacks:
        template = _with_names(stack.template, names)
        outputs = template.get("Outputs", {})
        for (producer, old), new in names.items():
            if producer == stack.name:
                outputs[new] = outputs.pop(old) if old.startswith(_PUBLISHED) else {"Value": outputs[old]["Value"]}
        if template == stack.template:
            continue
        content = json.dumps(template, indent=1, ensure_ascii=False)
        stack.file.write_text(content, encoding="utf-8")
        hashes[_hash_of(manifest, stack)] = hashlib.sha256(content.encode()).hexdigest()
    for file in (manifest, *manifest.parent.glob("*.assets.json")):
        text = file.read_text(encoding="utf-8")
        for before, after in hashes.items():
            text = text.replace(before, after)
        for (_, old), new in names.items():
            if old.startswith(_PUBLISHED):
                # The command line names a construct by it when a deployment fails.
                text = text.replace(json.dumps(old), json.dumps(new))
        file.write_text(text, encoding="utf-8")


def _with_names(value: Value, names: Mapping[tuple[str, str], str]) -> Value:
    """A part of a template in which every reference to a renamed output has the new name."""
    if isinstance(value, list):
        return [_with_names(item, names) for item in value]
    if not isinstance(value, Mapping):
        return value
    if isinstance(argument := value.get("Fn::GetStackOutput"), Mapping):
        name = names.get((argument["StackName"], argument["OutputName"]), argument["OutputName"])
        return {"Fn::GetStackOutput": {**argument, "OutputName": name}}
    return {key: _with_names(item, names) for key, item in value.items()}


def _hash_of(manifest: Path, stack: _Stack) -> str:
    """The hash under which a stack's template is uploaded; the manifest must have it too."""
    for file in manifest.parent.glob("*.assets.json"):
        for known, asset in json.loads(file.read_text(encoding="utf-8")).get("files", {}).items():
            if asset["source"].get("path") == stack.file.name and known in manifest.read_text(encoding="utf-8"):
                return str(known)
    raise UnusableAssembly(
        f"{stack.file}: neither {manifest.name} nor the files beside it have this template's hash as the CDK wrote it "
        "until now: pin the version of aws-cdk-lib in requirements/app.in to the last one that worked"
    )
