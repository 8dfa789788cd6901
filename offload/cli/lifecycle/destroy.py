"""The end of an environment: what goes, what stays and how much is in it; then its stacks' deletion.

CloudFormation is asked for the stacks and their templates as they are deployed, so nothing is synthesized, and what the
checkout says meanwhile changes nothing. What stays is what the deployed template retains.
"""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final

from botocore.exceptions import ClientError

from offload.cli.deployment.aws import Aws
from offload.cli.deployment.failure import Failure
from offload.cli.deployment.progress import Steps
from offload.cli.deployment.resources import DeployedStack, Deployment
from offload.cli.deployment.status import depth

if TYPE_CHECKING:
    from mypy_boto3_s3.type_defs import ObjectIdentifierTypeDef

_TABLE, _GLOBAL_TABLE = "AWS::DynamoDB::Table", "AWS::DynamoDB::GlobalTable"
_BUCKET, _QUEUE = "AWS::S3::Bucket", "AWS::SQS::Queue"
_BUS, _ARCHIVE = "AWS::Events::EventBus", "AWS::Events::Archive"
_LOG_GROUP, _SECRET = "AWS::Logs::LogGroup", "AWS::SecretsManager::Secret"

IMPORTED_BY: Final[Mapping[str, str]] = {
    "AWS::Cognito::UserPool": "UserPoolId",
    _GLOBAL_TABLE: "TableName",
    _TABLE: "TableName",
    "AWS::EFS::FileSystem": "FileSystemId",
    _ARCHIVE: "ArchiveName",
    _BUS: "Name",
    "AWS::KMS::Key": "KeyId",
    "AWS::Kinesis::Stream": "Name",
    _LOG_GROUP: "LogGroupName",
    "AWS::RDS::DBCluster": "DBClusterIdentifier",
    "AWS::RDS::DBInstance": "DBInstanceIdentifier",
    _BUCKET: "BucketName",
    _QUEUE: "QueueUrl",
    _SECRET: "Id",
}
"""The types that hold data (offload/cdk/retention.py has the same), and by which property CloudFormation finds what it
imports: the primary identifier of its type, which is what `Ref` gives for each of these (CloudFormation's
resource schemas, read 2026-11-29)."""

COUNTED_OBJECTS: Final = 100_000
"""A bucket's objects and versions are counted up to here: a hundred calls."""
# S3: DeleteObjects takes 1,000 keys a call (API_DeleteObjects, read 2026-11-29).
_OBJECTS_A_CALL: Final = 1_000
DELETE_WITHIN: Final = 3_600.0
"""Seconds for one stack; a function in a VPC can take forty minutes to give its network interfaces back."""
_EMPTIED_AGAIN: Final = 3
"""How often a bucket is emptied: functions may write to it until they are deleted themselves."""
_SAID_EVERY: Final = 10.0


@dataclass(frozen=True)
class Holding:
    """A resource that holds data: where it is, whether it stays, and how much is in it (`amount` of `unit`).

    `stack` is empty for an archive that was made beside the stacks. `about` says that AWS counts late.
    """

    stack: str
    path: str
    logical_id: str
    type: str
    physical_id: str
    stays: bool
    amount: int
    unit: str
    about: bool = False

    @property
    def kind(self) -> str:
        """The type for people: `Table`."""
        return self.type.rpartition("::")[2]

    @property
    def counted(self) -> bool:
        """Whether there is something in it that was counted; a bus and a secret are what they are."""
        return self.amount > 0 and self.type in _COUNTS

    def holds(self) -> str:
        """How much is in it, for people."""
        more = "over " if self.amount > COUNTED_OBJECTS and self.type == _BUCKET else "about " if self.about else ""
        amount = COUNTED_OBJECTS if more == "over " else self.amount
        return f"{more}{amount:,} {self.unit}"


@dataclass(frozen=True)
class Plan:
    """What a destruction will do: the stacks in the order of their deletion, and what of the environment holds data."""

    stacks: tuple[DeployedStack, ...]
    holdings: tuple[Holding, ...]
    others: Mapping[str, int] = field(default_factory=dict)

    @property
    def going(self) -> tuple[Holding, ...]:
        """What holds data and is deleted."""
        return tuple(each for each in self.holdings if not each.stays)

    @property
    def staying(self) -> tuple[Holding, ...]:
        """What holds data and is kept."""
        return tuple(each for each in self.holdings if each.stays)


def plan(deployment: Deployment) -> Plan:
    """What is deployed, looked at and counted; changes nothing. Raises Failure where nothing is deployed."""
    aws = deployment.aws
    found: list[tuple[DeployedStack, str, str]] = []
    others: Counter[str] = Counter()
    for stack in deployment.stacks:
        for logical_id, physical_id in _physical(aws, stack.name).items():
            resource = stack.template.get("Resources", {}).get(logical_id, {})
            if resource.get("Type") in IMPORTED_BY:
                found.append((stack, logical_id, physical_id))
            else:
                others[str(resource.get("Type", "resource")).rpartition("::")[2]] += 1
    for service in ("dynamodb", "events", "logs", "s3", "sqs"):
        getattr(aws, service)  # made once, before the threads
    with ThreadPoolExecutor(8) as pool:
        holdings = list(pool.map(lambda each: _holding(aws, *each), found))
    known = {each.physical_id for each in holdings if each.type == _ARCHIVE}
    for bus in [each for each in holdings if each.type == _BUS]:
        holdings += [each for each in _archives_of(aws, bus) if each.physical_id not in known]
    return Plan(_in_order(deployment.stacks), tuple(sorted(holdings, key=_by_kind)), dict(sorted(others.items())))


def destroy(deployment: Deployment, plan: Plan, steps: Steps, *, poll_seconds: float = 2.0) -> None:
    """Does what a plan says: empties what goes, and deletes the stacks one after the other.

    Termination protection is switched off for each stack right before its deletion, and for no other. Raises Failure
    with the resources that could not be deleted and CloudFormation's reasons; it can be run again then.
    """
    aws = deployment.aws
    for table in [each for each in plan.going if each.type in (_TABLE, _GLOBAL_TABLE)]:
        if aws.dynamodb.describe_table(TableName=table.physical_id)["Table"].get("DeletionProtectionEnabled"):
            aws.dynamodb.update_table(TableName=table.physical_id, DeletionProtectionEnabled=False)
    for archive in [each for each in plan.going if each.type == _ARCHIVE and not each.stack]:
        aws.events.delete_archive(ArchiveName=archive.physical_id)
    for stack in plan.stacks:
        buckets = [each for each in plan.going if each.type == _BUCKET and each.stack == stack.name]
        with steps.step(f"Deleting {stack.name}") as notes:
            _unprotect(aws, stack.name)
            for left in range(_EMPTIED_AGAIN, 0, -1):
                emptied = sum(_empty(aws, bucket.physical_id) for bucket in buckets)
                notes += [f"{emptied:,} objects and versions deleted"] if emptied else []
                failed = _deleted(aws, stack.name, steps, poll_seconds)
                if not failed:
                    break
                if left == 1 or not set(failed) & {bucket.logical_id for bucket in buckets}:
                    said = "\n".join(f"  {logical_id}: {reason}" for logical_id, reason in failed.items())
                    raise Failure(f"{stack.name} is not deleted; see to what is named, and run it again:\n{said}")


def mappings(plan: Plan) -> dict[str, dict[str, dict[str, str]]]:
    """What `cdk import --resource-mapping` takes to bring back what stays: a document a stack, by its name.

    They are in the order in which the stacks come back, the opposite of that in which they went: a stack whose
    resources take values from another one's can be imported only once those are there.
    """
    documents: dict[str, dict[str, dict[str, str]]] = {stack.name: {} for stack in reversed(plan.stacks)}
    for each in plan.staying:
        if each.stack:
            documents[each.stack][each.logical_id] = {IMPORTED_BY[each.type]: each.physical_id}
    return {stack: document for stack, document in documents.items() if document}


def write_mappings(plan: Plan, folder: Path) -> list[Path]:
    """Writes the documents into a folder, `1-STACK.json` and so on in their order; returns their paths.

    Raises Failure where a document of another deployment is there already: it may be all that knows what was kept.
    """
    written = []
    for number, (stack, document) in enumerate(mappings(plan).items(), 1):
        path = folder / f"{number}-{stack}.json"
        text = json.dumps(document, indent=2, sort_keys=True) + "\n"
        if path.exists() and path.read_text(encoding="utf-8") != text:
            raise Failure(f"{path} names what was kept of another deployment: move it away first")
        folder.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        written.append(path)
    return written


def _by_kind(holding: Holding) -> tuple[str, str, str]:
    return holding.kind, holding.stack, holding.path


def _physical(aws: Aws, stack: str) -> dict[str, str]:
    """What the stack still has: physical ids by logical ids."""
    return {
        summary["LogicalResourceId"]: summary.get("PhysicalResourceId", "")
        for page in aws.cloudformation.get_paginator("list_stack_resources").paginate(StackName=stack)
        for summary in page["StackResourceSummaries"]
        if summary["ResourceStatus"] not in ("DELETE_COMPLETE", "DELETE_SKIPPED") and "PhysicalResourceId" in summary
    }


# -- counting


def _holding(aws: Aws, stack: DeployedStack, logical_id: str, physical_id: str) -> Holding:
    resource = stack.template["Resources"][logical_id]
    kind = str(resource["Type"])
    count = _COUNTS.get(kind)
    amount, unit, about = count(aws, physical_id) if count else (1, kind.rpartition("::")[2], False)
    path = str(resource.get("Metadata", {}).get("aws:cdk:path", logical_id)).partition("/")[2]
    return Holding(
        stack=stack.name,
        path=path.removesuffix("/Resource") or logical_id,
        logical_id=logical_id,
        type=kind,
        physical_id=physical_id,
        stays=stack.retains(logical_id),
        amount=amount,
        unit=unit,
        about=about,
    )


_Count = tuple[int, str, bool]


def _items(aws: Aws, name: str) -> _Count:
    # DynamoDB counts about every six hours (API_TableDescription, read 2026-11-29); counting them means reading all.
    return aws.dynamodb.describe_table(TableName=name)["Table"].get("ItemCount", 0), "items", True


def _objects(aws: Aws, name: str) -> _Count:
    amount = 0
    for page in aws.s3.get_paginator("list_object_versions").paginate(Bucket=name):
        amount += len(page.get("Versions", ())) + len(page.get("DeleteMarkers", ()))
        if amount > COUNTED_OBJECTS:
            break
    return amount, "objects and versions", False


def _messages(aws: Aws, url: str) -> _Count:
    return depth(aws, url).all, "messages", False


def _events(aws: Aws, name: str) -> _Count:
    # An archive takes events in late, and its count is later still.
    return aws.events.describe_archive(ArchiveName=name).get("EventCount", 0), "events", True


def _bytes(aws: Aws, name: str) -> _Count:
    for group in aws.logs.describe_log_groups(logGroupNamePrefix=name)["logGroups"]:
        if group.get("logGroupName") == name:
            return group.get("storedBytes", 0), "bytes of log", True
    return 0, "bytes of log", True


_COUNTS: Final[Mapping[str, Callable[[Aws, str], _Count]]] = {
    _TABLE: _items,
    _GLOBAL_TABLE: _items,
    _BUCKET: _objects,
    _QUEUE: _messages,
    _ARCHIVE: _events,
    _LOG_GROUP: _bytes,
}


def _archives_of(aws: Aws, bus: Holding) -> Iterator[Holding]:
    """The archives of a bus that no stack has: whatever else they hold, they can be replayed to it alone."""
    arn = aws.events.describe_event_bus(Name=bus.physical_id)["Arn"]
    for archive in aws.events.list_archives(EventSourceArn=arn)["Archives"]:
        name = archive["ArchiveName"]
        yield Holding("", f"{bus.path} (made beside the stacks)", name, _ARCHIVE, name, bus.stays, *_events(aws, name))


# -- deleting


def _in_order(stacks: Sequence[DeployedStack]) -> tuple[DeployedStack, ...]:
    """The stacks so that each goes before those that it takes values from."""
    exports = {
        output["Export"]["Name"]: stack.name
        for stack in stacks
        for output in stack.template.get("Outputs", {}).values()
        if isinstance(output.get("Export", {}).get("Name"), str)
    }
    needs = {stack.name: set(_taken_from(stack.template, exports)) - {stack.name} for stack in stacks}
    left, ordered = list(stacks), []
    while left:
        needed = {name for stack in left for name in needs[stack.name]}
        free = [stack for stack in left if stack.name not in needed] or left
        ordered += free
        left = [stack for stack in left if stack not in free]
    return tuple(ordered)


def _taken_from(body: object, exports: Mapping[str, str]) -> Iterator[str]:
    """The stacks whose values a part of a template takes."""
    if isinstance(body, list):
        for item in body:
            yield from _taken_from(item, exports)
    elif isinstance(body, Mapping):
        for key, value in body.items():
            if key == "Fn::GetStackOutput" and isinstance(value, Mapping):
                yield str(value.get("StackName"))
            elif key == "Fn::ImportValue" and value in exports:
                yield exports[value]
            else:
                yield from _taken_from(value, exports)


def _unprotect(aws: Aws, stack: str) -> None:
    [found] = aws.cloudformation.describe_stacks(StackName=stack)["Stacks"]
    if found.get("EnableTerminationProtection"):
        aws.cloudformation.update_termination_protection(StackName=stack, EnableTerminationProtection=False)


def _empty(aws: Aws, bucket: str) -> int:
    """Deletes every object, version and delete marker of a bucket; returns how many."""
    count = 0
    try:
        for page in aws.s3.get_paginator("list_object_versions").paginate(
            Bucket=bucket, PaginationConfig={"PageSize": _OBJECTS_A_CALL}
        ):
            keys: list[ObjectIdentifierTypeDef] = [
                {"Key": each["Key"], "VersionId": each["VersionId"]}
                for each in (*page.get("Versions", ()), *page.get("DeleteMarkers", ()))
            ]
            if not keys:
                continue
            refused = aws.s3.delete_objects(Bucket=bucket, Delete={"Objects": keys, "Quiet": True}).get("Errors", [])
            if refused:
                first = refused[0]
                raise Failure(
                    f"bucket {bucket}: {len(refused)} objects cannot be deleted, first {first.get('Key')}:"
                    f" {first.get('Code')} {first.get('Message')}"
                )
            count += len(keys)
    except ClientError as error:
        if error.response.get("Error", {}).get("Code") != "NoSuchBucket":  # gone in an earlier attempt
            raise
    return count


def _deleted(aws: Aws, stack: str, steps: Steps, poll_seconds: float) -> dict[str, str]:
    """Deletes a stack and waits for it; returns what could not be deleted, with CloudFormation's reasons."""
    # By its id a deleted stack can still be asked for; by its name it is not there.
    stack_id = aws.cloudformation.describe_stacks(StackName=stack)["Stacks"][0].get("StackId", stack)
    aws.cloudformation.delete_stack(StackName=stack_id)
    began = said = time.monotonic()
    while True:
        try:
            [found] = aws.cloudformation.describe_stacks(StackName=stack_id)["Stacks"]
            status = found["StackStatus"]
        except ClientError as error:
            if "does not exist" not in str(error):
                raise
            return {}
        if status == "DELETE_COMPLETE":
            return {}
        if status == "DELETE_FAILED":
            return _reasons(aws, stack_id) or {stack: found.get("StackStatusReason", "CloudFormation gives no reason")}
        now = time.monotonic()
        if now - began > DELETE_WITHIN:
            raise Failure(f"{stack} was not deleted after {DELETE_WITHIN:,.0f} s: it is {status}; run it again")
        if now - said > _SAID_EVERY:
            said = now
            steps.say(f"  {stack}: {len(_physical(aws, stack_id))} resources are left")
        time.sleep(poll_seconds)


def _reasons(aws: Aws, stack: str) -> dict[str, str]:
    return {
        summary["LogicalResourceId"]: summary.get("ResourceStatusReason", "CloudFormation gives no reason")
        for page in aws.cloudformation.get_paginator("list_stack_resources").paginate(StackName=stack)
        for summary in page["StackResourceSummaries"]
        if summary["ResourceStatus"] == "DELETE_FAILED"
    }
