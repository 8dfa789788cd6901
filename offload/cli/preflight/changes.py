"""What a deploy would add, replace and delete, what it would keep, and what names are taken."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from offload.cli.preflight.assembly import Assembly, Kept, NewStack
from offload.cli.preflight.facts import Facts, OldStack
from offload.cli.preflight.item import Item, Untold, not_known, ok, refused, warning

HOLDS_DATA = frozenset(
    {
        "AWS::DynamoDB::GlobalTable",
        "AWS::DynamoDB::Table",
        "AWS::Events::Archive",
        "AWS::Events::EventBus",
        "AWS::KMS::Key",
        "AWS::Logs::LogGroup",
        "AWS::S3::Bucket",
        "AWS::SQS::Queue",
        "AWS::SecretsManager::Secret",
    }
)
"""Types whose deletion loses something that a deploy does not bring back."""

NAMES: Mapping[str, str] = {
    "AWS::DynamoDB::Table": "TableName",
    "AWS::DynamoDB::GlobalTable": "TableName",
    "AWS::Events::Archive": "ArchiveName",
    "AWS::Events::EventBus": "Name",
    "AWS::KMS::Alias": "AliasName",
    "AWS::Lambda::Function": "FunctionName",
    "AWS::Logs::LogGroup": "LogGroupName",
    "AWS::S3::Bucket": "BucketName",
    "AWS::SNS::Topic": "TopicName",
    "AWS::SQS::Queue": "QueueName",
    "AWS::SSM::Parameter": "Name",
    "AWS::Scheduler::Schedule": "Name",
    "AWS::SecretsManager::Secret": "Name",
}
"""The property by which a type gets a name that only one resource of the account and Region can have."""

_VERSION = "AWS::Lambda::Version"
_SUBSTITUTED = re.compile(r"\$\{([^}!]+)\}")


@dataclass(frozen=True)
class Change:
    """One resource that a deploy would add, replace, delete or be refused for (another type under its logical id).

    `policy` is what becomes of the physical resource that is there: Delete, Retain, Snapshot; empty for an addition.
    """

    kind: Literal["added", "replaced", "deleted", "retyped"]
    stack: str
    path: str
    type: str
    policy: str = ""


def compare(new: NewStack, old: OldStack, schemas: Mapping[str, Mapping[str, Any] | Untold | None]) -> list[Change]:
    """The changes of one stack that add or remove a physical resource; properties that change in place are none.

    A replacement is told by the Region's schemas (`createOnlyProperties`), so without them there is none.
    """
    if isinstance(old.template, Untold):
        return []
    before: Mapping[str, Mapping[str, Any]] = old.template.get("Resources", {})
    changes = []
    for logical_id, body in before.items():
        after = new.resources.get(logical_id)
        kind, path = str(body["Type"]), _path(logical_id, body)
        if after is None:
            if kind == _VERSION and _has_version_of(new, body):
                continue  # its successor has a logical id of its own
            changes.append(Change("deleted", new.name, path, kind, str(body.get("DeletionPolicy", "Delete"))))
        elif after["Type"] != kind:
            changes.append(Change("retyped", new.name, path, kind))
        elif _replaced(body, after, schemas.get(kind)):
            policies = {str(each.get("UpdateReplacePolicy", "Delete")) for each in (body, after)}
            changes.append(
                Change("replaced", new.name, path, kind, "Delete" if "Delete" in policies else policies.pop())
            )
    versions = any(body["Type"] == _VERSION for body in before.values())
    changes += [
        Change("added", new.name, _path(logical_id, body), str(body["Type"]))
        for logical_id, body in new.resources.items()
        if logical_id not in before and not (versions and body["Type"] == _VERSION)
    ]
    return changes


def judge(kept: Kept, changes: Iterable[Change], unjudged: Untold | None) -> list[Item]:
    """The report's lines about the changes. `unjudged` is why replacements could not be told, if so."""
    changes = list(changes)
    items = [
        refused(
            "changes",
            f"{each.stack}/{each.path}: CloudFormation does not make a {each.type} into another type",
            "give the construct another id",
        )
        for each in changes
        if each.kind == "retyped"
    ]
    lost = [each for each in changes if each.policy == "Delete"]
    data = [each for each in lost if each.type in HOLDS_DATA]
    for each in data:
        what = "replaces (empty)" if each.kind == "replaced" else "deletes"
        says = f"the deploy {what} {each.type} {each.stack}/{each.path}"
        if kept.keep:
            items.append(refused("data", says, "keep it (removal policy), or accept: --accept data"))
        else:
            items.append(warning("data", says, "copy what is still needed"))
    others = Counter(each.type for each in lost if each.type not in HOLDS_DATA)
    if others:
        items.append(ok("deletes", _counted(others)))
    outlive = Counter(each.type for each in changes if each.kind in ("deleted", "replaced") and each not in lost)
    if outlive:
        says = f"stay outside of any stack: {_counted(outlive)}"
        items.append(warning("keeps", says, "they cost money: delete or import them"))
    added = Counter(each.type for each in changes if each.kind == "added")
    if added:
        items.append(ok("adds", f"{sum(added.values())} resources: {_counted(added, at_most=3)}"))
    if unjudged is not None:
        items.append(
            warning(
                "changes",
                f"replacements not told apart from updates: {unjudged.action} {_why(unjudged)}",
                f"allow {unjudged.action}, or read `make diff`" if unjudged.why == "denied" else "read `make diff`",
            )
        )
    return items or [ok("changes", "adds, replaces and deletes nothing")]


def first_deploy(new: Iterable[NewStack]) -> Item | None:
    """What the stacks that are not there yet bring, and what of it outlives them."""
    kinds: Counter[str] = Counter()
    kept: Counter[str] = Counter()
    for stack in new:
        for body in stack.resources.values():
            kinds[str(body["Type"])] += 1
            if str(body.get("DeletionPolicy", "Delete")).startswith("Retain"):
                kept[str(body["Type"])] += 1
    if not kinds:
        return None
    outlive = f"; {sum(kept.values())} outlive their stack: {_counted(kept, at_most=3)}" if kept else ""
    return ok("adds", f"{sum(kinds.values())} resources{outlive}")


def physical_names(assembly: Assembly, account: str, region: str) -> dict[str, dict[str, tuple[str, str]]]:
    """The physical names that the templates set: by type and name, the stack and logical id.

    A name that only a deployment can tell is left out.
    """
    found: dict[str, dict[str, tuple[str, str]]] = {}
    for stack in assembly.stacks:
        for logical_id, body in stack.resources.items():
            if (name_property := NAMES.get(str(body["Type"]))) is None:
                continue
            value = body.get("Properties", {}).get(name_property)
            name = _text(value, {"AWS::AccountId": account, "AWS::Region": region, "AWS::StackName": stack.name})
            if name:
                found.setdefault(str(body["Type"]), {})[name] = (stack.name, logical_id)
    return found


def taken(names: Mapping[str, Mapping[str, tuple[str, str]]], facts: Facts) -> list[Item]:
    """Names that a deploy would give and something outside of its stacks already has: CloudFormation then fails.

    Such a thing is mostly what an earlier deploy kept.
    """
    there: Mapping[str, Iterable[str] | Untold] = {
        "AWS::SSM::Parameter": facts.parameters,
        "AWS::Logs::LogGroup": facts.log_groups,
        "AWS::Events::EventBus": facts.buses,
    }
    items: list[Item] = []
    checked = 0
    for kind, of_kind in sorted(names.items()):
        exists = there.get(kind)
        if exists is None:
            tagged = facts.tagged
            exists = tagged if isinstance(tagged, Untold) else [_name_in(str(each["ResourceARN"])) for each in tagged]
        if isinstance(exists, Untold):
            items.append(not_known("names", exists))
            continue
        for name in sorted(set(exists) & of_kind.keys()):
            stack, logical_id = of_kind[name]
            owns = _owns(facts.stacks.get(stack), logical_id)
            if isinstance(owns, Untold):
                items.append(not_known("names", owns))
                break
            if owns:
                continue
            says = f"{kind} {name} exists and is not {stack}'s {logical_id}: the deploy would fail"
            items.append(refused("names", says, "delete it, or import it into the stack (cdk import)"))
        checked += len(of_kind)
    return items or [ok("names", f"{checked} names that the templates set are free or their own")]


def orphans(facts: Facts, environment: str) -> Item:
    """What carries the environment's tag and belongs to no stack that is deployed now."""
    if isinstance(facts.tagged, Untold):
        return not_known("orphans", facts.tagged)
    living = {stack.id for stack in facts.stacks.values() if isinstance(stack, OldStack)}
    untold = next((stack for stack in facts.stacks.values() if isinstance(stack, Untold)), None)
    if untold is not None:
        return not_known("orphans", untold)
    found: Counter[str] = Counter()
    for each in facts.tagged:
        tags = {tag["Key"]: tag["Value"] for tag in each.get("Tags", ())}
        stack = tags.get("aws:cloudformation:stack-id")
        ours = str(tags.get("aws:cloudformation:stack-name", "")).startswith(f"offload-{environment}-")
        if stack is not None and ours and stack not in living:
            found[_kind_in(str(each["ResourceARN"]))] += 1
    if not found:
        return ok("orphans", "nothing is left of earlier stacks")
    return warning(
        "orphans",
        f"{sum(found.values())} resources of earlier stacks remain: {_counted(found)}",
        "this deploy makes new, empty ones: bring the old ones back, or delete them",
    )


def _replaced(before: Mapping[str, Any], after: Mapping[str, Any], schema: Mapping[str, Any] | Untold | None) -> bool:
    if not isinstance(schema, Mapping):
        return False
    old, new = before.get("Properties", {}), after.get("Properties", {})
    # `/properties/A/B` is part of A; a list's items are `/properties/A/*/B`.
    fixed = [str(pointer).split("/")[2:] for pointer in schema.get("createOnlyProperties", ())]
    return any(_at(old, path) != _at(new, path) for path in fixed)


def _at(value: Any, path: list[str]) -> Any:
    for number, key in enumerate(path):
        if key == "*" and isinstance(value, list):
            return [_at(each, path[number + 1 :]) for each in value]
        if not isinstance(value, Mapping) or key not in value:
            return None
        value = value[key]
    return value


def _has_version_of(new: NewStack, version: Mapping[str, Any]) -> bool:
    function = version.get("Properties", {}).get("FunctionName")
    return any(
        body["Type"] == _VERSION and body.get("Properties", {}).get("FunctionName") == function
        for body in new.resources.values()
    )


def _owns(stack: OldStack | Untold | None, logical_id: str) -> bool | Untold:
    resources = stack.resources if isinstance(stack, OldStack) else stack
    if isinstance(resources, Untold):
        return resources
    return any(
        each["LogicalResourceId"] == logical_id and each["ResourceStatus"] != "DELETE_COMPLETE"
        for each in resources or ()
    )


def _path(logical_id: str, body: Mapping[str, Any]) -> str:
    path = str(body.get("Metadata", {}).get("aws:cdk:path", ""))
    return path.partition("/")[2].removesuffix("/Resource") or logical_id


def _text(value: Any, known: Mapping[str, str]) -> str | None:
    """A value as text, None where a part of it is known only to a deployment."""
    match value:
        case str():
            return value
        case {"Ref": str(name)}:
            return known.get(name)
        case {"Fn::Join": [str(separator), list(parts)]}:
            texts = [_text(part, known) for part in parts]
            return separator.join(filter(None, texts)) if None not in texts else None
        case {"Fn::Sub": str(pattern)}:
            names = _SUBSTITUTED.findall(pattern)
            if any(name not in known for name in names):
                return None
            return _SUBSTITUTED.sub(lambda found: known[found[1]], pattern)
    return None


def _name_in(arn: str) -> str:
    """The name at the end of an ARN: after the last colon, or after its resource's kind."""
    last = arn.split(":", 5)[-1]
    return last.partition("/")[2] or last.rpartition(":")[2]


def _kind_in(arn: str) -> str:
    """`dynamodb table` of `arn:aws:dynamodb:…:table/x`, `sqs` of `arn:aws:sqs:…:x`."""
    parts = arn.split(":", 5)
    kind = re.split("[/:]", parts[-1])[0] if "/" in parts[-1] or ":" in parts[-1] else ""
    return f"{parts[2]} {kind}".strip()


def _why(untold: Untold) -> str:
    return {"denied": "is denied", "unsupported": "is not there", "failed": "failed"}[untold.why]


def _counted(kinds: Counter[str], at_most: int = 6) -> str:
    """`3 DynamoDB::Table, 2 SQS::Queue and 4 more`."""
    shown = kinds.most_common(at_most)
    rest = sum(kinds.values()) - sum(count for _, count in shown)
    listed = ", ".join(f"{count} {kind.removeprefix('AWS::')}" for kind, count in shown)
    return f"{listed} and {rest} more" if rest else listed
