"""Everything in which the embedded AWS differs from AWS and that can be patched: set by API, then read back.

Seen with MiniStack 1.5.33 on 2026-11-23. What is set follows from the synthesized templates alone; constructs and
handlers know nothing of it.
"""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from botocore.exceptions import ClientError

from offload.cli.deployment.aws import Aws
from offload.cli.deployment.failure import Failure
from offload.cli.local.process import ACCOUNT, REGION

# EventBridge CreateArchive, ArchiveName: at most 48 characters (API reference, read 2026-11-23).
ARCHIVE_NAME_LENGTH = 48
EXECUTION_SECONDS_TAG = "offload:durable-execution-seconds"
"""Read by durable_runner.py, which imports nothing of this project."""


@dataclass(frozen=True)
class Target:
    """One resource of a synthesized template and what became of it.

    `physical_id` is None for a resource that was taken out before the deploy; `siblings` are the physical ids of its
    stack's resources by logical id.
    """

    stack: str
    logical_id: str
    type: str
    properties: Mapping[str, Any]
    physical_id: str | None
    siblings: Mapping[str, str]
    account: str = ACCOUNT
    region: str = REGION


@dataclass(frozen=True)
class Patched:
    """One thing that was not as the template has it, and now is."""

    patch: str
    stack: str
    logical_id: str


class Patch(ABC):
    """One difference: which resources it touches, what is wrong with one, and how to put it right."""

    name: str
    types: frozenset[str]

    def applies(self, target: Target) -> bool:
        """Whether the emulator may have got this resource wrong."""
        return target.type in self.types

    @abstractmethod
    def wrong(self, aws: Aws, target: Target) -> str | None:
        """What is not as the template has it, read from the emulator; None when all is well."""

    @abstractmethod
    def set(self, aws: Aws, target: Target) -> None:
        """Sets by API what the template says."""


class TimeToLive(Patch):
    """A table's `TimeToLiveSpecification` is dropped: items would never expire."""

    name = "time to live"
    types = frozenset({"AWS::DynamoDB::Table", "AWS::DynamoDB::GlobalTable"})

    def wrong(self, aws: Aws, target: Target) -> str | None:
        """Compares the attribute that expires items."""
        found = aws.dynamodb.describe_time_to_live(TableName=_physical(target))["TimeToLiveDescription"]
        enabled = found.get("TimeToLiveStatus") in {"ENABLED", "ENABLING"}
        attribute = found.get("AttributeName") if enabled else None
        wanted = self._attribute(target)
        return None if attribute == wanted else f"items expire by {attribute!r} instead of {wanted!r}"

    def set(self, aws: Aws, target: Target) -> None:
        """Sets the attribute, or switches expiry off."""
        wanted = self._attribute(target)
        attribute = wanted or aws.dynamodb.describe_time_to_live(TableName=_physical(target))[
            "TimeToLiveDescription"
        ].get("AttributeName", "")
        aws.dynamodb.update_time_to_live(
            TableName=_physical(target),
            TimeToLiveSpecification={"AttributeName": attribute, "Enabled": wanted is not None},
        )

    @staticmethod
    def _attribute(target: Target) -> str | None:
        wanted = target.properties.get("TimeToLiveSpecification", {})
        return str(wanted["AttributeName"]) if wanted.get("Enabled") else None


class DurableExecutions(Patch):
    """A function's `DurableConfig` is dropped; the runner beside the emulator reads it from a tag."""

    name = "durable executions"
    types = frozenset({"AWS::Lambda::Function"})

    def applies(self, target: Target) -> bool:
        """Durable functions alone."""
        return super().applies(target) and "DurableConfig" in target.properties

    def wrong(self, aws: Aws, target: Target) -> str | None:
        """Compares how long an execution may take."""
        found = aws.lambda_.list_tags(Resource=self._arn(aws, target))["Tags"].get(EXECUTION_SECONDS_TAG)
        wanted = self._seconds(target)
        return None if found == wanted else f"executions may take {found} s instead of {wanted}"

    def set(self, aws: Aws, target: Target) -> None:
        """Sets the tag."""
        aws.lambda_.tag_resource(Resource=self._arn(aws, target), Tags={EXECUTION_SECONDS_TAG: self._seconds(target)})

    @staticmethod
    def _seconds(target: Target) -> str:
        return str(target.properties["DurableConfig"]["ExecutionTimeout"])

    @staticmethod
    def _arn(aws: Aws, target: Target) -> str:
        return aws.lambda_.get_function_configuration(FunctionName=_physical(target))["FunctionArn"]


class ReservedConcurrency(Patch):
    """A function's `ReservedConcurrentExecutions` is dropped; set by API it is enforced."""

    name = "reserved concurrency"
    types = frozenset({"AWS::Lambda::Function"})

    def wrong(self, aws: Aws, target: Target) -> str | None:
        """Compares the number of executions at once."""
        found = aws.lambda_.get_function_concurrency(FunctionName=_physical(target)).get("ReservedConcurrentExecutions")
        wanted = target.properties.get("ReservedConcurrentExecutions")
        return None if found == wanted else f"it may run {found} times at once instead of {wanted}"

    def set(self, aws: Aws, target: Target) -> None:
        """Sets the number, or takes the bound away."""
        wanted = target.properties.get("ReservedConcurrentExecutions")
        if wanted is None:
            aws.lambda_.delete_function_concurrency(FunctionName=_physical(target))
        else:
            aws.lambda_.put_function_concurrency(
                FunctionName=_physical(target), ReservedConcurrentExecutions=int(wanted)
            )


class Archive(Patch):
    """CloudFormation's archive of a bus is refused; it is taken out of the template and made by API."""

    name = "archive of the bus"
    types = frozenset({"AWS::Events::Archive"})

    def wrong(self, aws: Aws, target: Target) -> str | None:
        """Compares bus, pattern and retention."""
        try:
            found = aws.events.describe_archive(ArchiveName=self._archive_name(target))
        except ClientError as error:
            if error.response.get("Error", {}).get("Code") == "ResourceNotFoundException":
                return "there is none"
            raise
        wanted = {"EventPattern": "{}", "EventSourceArn": self._bus_arn(aws, target)} | self._settings(target)
        actual = {
            "EventPattern": json.dumps(json.loads(found.get("EventPattern") or "{}")),
            "RetentionDays": found.get("RetentionDays", 0),
            "EventSourceArn": found.get("EventSourceArn"),
        }
        return None if actual == wanted else f"it is {actual} instead of {wanted}"

    def set(self, aws: Aws, target: Target) -> None:
        """Changes the archive, or makes it: also where it is still that of a bus which has been replaced."""
        name, settings, bus = self._archive_name(target), self._settings(target), self._bus_arn(aws, target)
        try:
            if aws.events.describe_archive(ArchiveName=name)["EventSourceArn"] == bus:
                aws.events.update_archive(ArchiveName=name, **settings)
                return
            aws.events.delete_archive(ArchiveName=name)
        except ClientError as error:
            if error.response.get("Error", {}).get("Code") != "ResourceNotFoundException":
                raise
        aws.events.create_archive(ArchiveName=name, EventSourceArn=bus, **settings)

    @staticmethod
    def _archive_name(target: Target) -> str:
        return archive_name(target.stack, target.logical_id, target.properties)

    @staticmethod
    def _settings(target: Target) -> dict[str, Any]:
        settings: dict[str, Any] = {"RetentionDays": int(target.properties.get("RetentionDays", 0))}
        if pattern := target.properties.get("EventPattern"):
            settings["EventPattern"] = json.dumps(_resolved(pattern, target))
        return settings

    @staticmethod
    def _bus_arn(aws: Aws, target: Target) -> str:
        source = target.properties.get("SourceArn")
        if isinstance(source, Mapping) and "Fn::GetAtt" in source and source["Fn::GetAtt"][0] in target.siblings:
            return aws.events.describe_event_bus(Name=target.siblings[source["Fn::GetAtt"][0]])["Arn"]
        raise Failure(f"{target.stack}: the archive {target.logical_id} must be in the stack of its bus: {source}")


def archive_name(stack: str, logical_id: str, properties: Mapping[str, Any]) -> str:
    """The name of a template's archive here."""
    named = properties.get("ArchiveName")
    return named if isinstance(named, str) else f"{stack}-{logical_id}"[:ARCHIVE_NAME_LENGTH]


class PolicyPatch(Patch):
    """Something in the policies of roles."""

    types = frozenset({"AWS::IAM::Policy"})

    def document(self, aws: Aws, target: Target, role: str) -> dict[str, Any]:
        """A role's policy as it stands."""
        found: Any = aws.iam.get_role_policy(RoleName=role, PolicyName=self._policy(target))["PolicyDocument"]
        return dict(json.loads(found) if isinstance(found, str) else found)

    def put(self, aws: Aws, target: Target, role: str, document: Mapping[str, Any]) -> None:
        """Replaces a role's policy."""
        aws.iam.put_role_policy(RoleName=role, PolicyName=self._policy(target), PolicyDocument=json.dumps(document))

    @staticmethod
    def roles(target: Target) -> list[str]:
        """The roles of the policy's own stack that have it; those of others need no patch so far."""
        found = (_resolved(role, target) for role in target.properties.get("Roles", ()))
        return [role for role in found if isinstance(role, str)]

    @staticmethod
    def _policy(target: Target) -> str:
        return str(target.properties["PolicyName"])


class BatchGrants(PolicyPatch):
    """`sqs:SendMessageBatch` is no action of IAM's: `sqs:SendMessage` allows it on AWS, and does not here.

    So it is with `sqs:DeleteMessage`.
    """

    name = "grants on batches of messages"

    def applies(self, target: Target) -> bool:
        """Policies that allow to send messages, or to delete them."""
        document = json.dumps(target.properties.get("PolicyDocument"))
        return super().applies(target) and any(f'"{action}"' in document for action in _BATCHED)

    def wrong(self, aws: Aws, target: Target) -> str | None:
        """Looks for the one without the other."""
        lacking = [role for role in self.roles(target) if any(_lacks_batches(self.document(aws, target, role)))]
        return f"{', '.join(lacking)} may send or delete messages and no batches of them" if lacking else None

    def set(self, aws: Aws, target: Target) -> None:
        """Allows batches where messages are allowed."""
        for role in self.roles(target):
            document = self.document(aws, target, role)
            for statement in _lacks_batches(document):
                actions = _listed(statement["Action"])
                statement["Action"] = [*actions, *_missing_batches(actions)]
            self.put(aws, target, role, document)


_BATCHED = ("sqs:SendMessage", "sqs:DeleteMessage")


def _lacks_batches(document: Mapping[str, Any]) -> list[dict[str, Any]]:
    """A policy's statements that allow messages and no batches."""
    return [statement for statement in document["Statement"] if _missing_batches(_listed(statement["Action"]))]


def _missing_batches(actions: Sequence[str]) -> list[str]:
    return [batch for action in _BATCHED if action in actions and (batch := f"{action}Batch") not in actions]


class SecretGrants(PolicyPatch):
    """A secret's `Ref` is its name, where AWS gives its ARN: a policy that names it so allows nothing."""

    name = "grants on secrets"

    def applies(self, target: Target) -> bool:
        """Policies that allow something of Secrets Manager."""
        return super().applies(target) and '"secretsmanager:' in json.dumps(target.properties.get("PolicyDocument"))

    def wrong(self, aws: Aws, target: Target) -> str | None:
        """Looks for names in place of ARNs."""
        names = {
            resource
            for role in self.roles(target)
            for statement in _of_secrets(self.document(aws, target, role))
            for resource in _listed(statement["Resource"])
            if not resource.startswith("arn:")
        }
        return f"it names {', '.join(sorted(names))} and no ARN" if names else None

    def set(self, aws: Aws, target: Target) -> None:
        """Puts the secrets' ARNs in the place of their names."""
        for role in self.roles(target):
            document = self.document(aws, target, role)
            for statement in _of_secrets(document):
                statement["Resource"] = [
                    each if each.startswith("arn:") else aws.secrets_manager.describe_secret(SecretId=each)["ARN"]
                    for each in _listed(statement["Resource"])
                ]
            self.put(aws, target, role, document)


def _of_secrets(document: Mapping[str, Any]) -> list[dict[str, Any]]:
    """A policy's statements about Secrets Manager."""
    return [
        statement
        for statement in document["Statement"]
        if all(action.startswith("secretsmanager:") for action in _listed(statement["Action"]))
    ]


def _listed(value: Any) -> list[str]:
    return list(value) if isinstance(value, list) else [value]


EMULATOR_PATCHES: tuple[Patch, ...] = (
    TimeToLive(),
    DurableExecutions(),
    ReservedConcurrency(),
    Archive(),
    SecretGrants(),
    BatchGrants(),
)
"""Every patch, in the order in which they are done."""


def apply_patches(aws: Aws, assembly: Path) -> list[Patched]:
    """Puts right what the emulator dropped of the templates in `assembly` (the synthesized one, not its copy).

    Idempotent: what is as it should be is left alone. Returns what was patched; raises Failure, naming the resource,
    when it still reads back wrong.
    """
    done = []
    for target in _targets(aws, assembly):
        for each in EMULATOR_PATCHES:
            if not each.applies(target):
                continue
            try:
                if each.wrong(aws, target) is None:
                    continue
                each.set(aws, target)
                left = each.wrong(aws, target)
            except ClientError as error:
                left = str(error)
            if left is not None:
                raise Failure(f"{target.stack}: {each.name} of {target.logical_id} cannot be patched: {left}")
            done.append(Patched(each.name, target.stack, target.logical_id))
    return done


def _targets(aws: Aws, assembly: Path) -> Iterator[Target]:
    for path in sorted(assembly.glob("*.template.json")):
        stack = path.name.removesuffix(".template.json")
        physical = {
            summary["LogicalResourceId"]: summary.get("PhysicalResourceId", "")
            for page in aws.cloudformation.get_paginator("list_stack_resources").paginate(StackName=stack)
            for summary in page["StackResourceSummaries"]
        }
        for logical_id, resource in json.loads(path.read_text(encoding="utf-8")).get("Resources", {}).items():
            yield Target(
                stack=stack,
                logical_id=logical_id,
                type=resource["Type"],
                properties=resource.get("Properties", {}),
                physical_id=physical.get(logical_id),
                siblings=physical,
                account=aws.account,
                region=aws.region,
            )


def _physical(target: Target) -> str:
    if not target.physical_id:
        raise Failure(f"{target.stack}: {target.logical_id} ({target.type}) is in the template and was not deployed")
    return target.physical_id


def _resolved(value: Any, target: Target) -> Any:
    """A part of a template with its references put in."""
    if isinstance(value, list):
        return [_resolved(item, target) for item in value]
    if not isinstance(value, Mapping):
        return value
    if "Ref" not in value:
        return {key: _resolved(item, target) for key, item in value.items()}
    known = {
        "AWS::AccountId": target.account,
        "AWS::Region": target.region,
        "AWS::StackName": target.stack,
        **target.siblings,
    }
    if value["Ref"] not in known:
        raise Failure(f"{target.stack}: {target.logical_id} refers to {value['Ref']}, which cannot be resolved here")
    return known[value["Ref"]]
