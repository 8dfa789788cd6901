"""A customer-managed key encrypts all that holds data, and is used by what may touch that and by nothing else.

The embedded AWS enforces no key, so this is about the templates.
"""

from __future__ import annotations

import copy
import fnmatch
import json
import re
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from aws_cdk import App, Stack
from aws_cdk import Environment as Place
from aws_cdk import aws_apigatewayv2 as api
from aws_cdk import aws_iam as iam
from cfnlint.schema import PROVIDER_SCHEMA_MANAGER  # type: ignore[import-untyped]

from app import compose
from clinic.stack import compose as compose_clinic
from offload.cdk.constructs.encryption import Encryption, encrypt, service_statements
from offload.cdk.constructs.table import Table
from offload.cdk.constructs.work_queue import DeadLetterQueue
from offload.cdk.environment import OWN_KEY, Environment
from offload.cdk.guardrails import encryption as guardrail
from offload.cdk.guardrails.templates import Resource, Template, listed
from offload.project import PROJECT
from tests.clinics import CLINIC
from tests.unit.cdk.keyed import EXISTING, Synthesized, roles_of, synthesized, with_key

pytestmark = pytest.mark.synthesis

REGION = "eu-west-1"
Property = tuple[str, ...]


def _without(configuration: str) -> Callable[[Mapping[str, Any]], bool]:
    return lambda has: configuration not in has


# Properties that name a key, where there is nothing that it would encrypt.
NOTHING_TO_ENCRYPT: dict[tuple[str, Property], Callable[[Mapping[str, Any]], bool]] = {
    # The code: not data, and it comes from the bootstrap's bucket, encrypted.
    ("AWS::Lambda::Function", ("Code", "SourceKMSKeyArn")): lambda _: True,
    ("AWS::Lambda::Function", ("KmsKeyArn",)): lambda has: "Environment" not in has,
    ("AWS::Lambda::Function", ("DurableConfig", "KMSKeyArn")): lambda has: "DurableConfig" not in has,
    ("AWS::Lambda::EventSourceMapping", ("KmsKeyArn",)): lambda has: "FilterCriteria" not in has,
    ("AWS::Scheduler::Schedule", ("KmsKeyArn",)): lambda has: "Input" not in has["Target"],
    ("AWS::SecretsManager::Secret", ("ReplicaRegions", "*", "KmsKeyId")): lambda has: "ReplicaRegions" not in has,
    **{
        ("AWS::S3::Bucket", (configuration, *rest)): _without(configuration)
        for configuration, *rest in (
            ("MetadataConfiguration", "AnnotationTableConfiguration", "EncryptionConfiguration", "KmsKeyArn"),
            ("MetadataConfiguration", "InventoryTableConfiguration", "EncryptionConfiguration", "KmsKeyArn"),
            ("MetadataConfiguration", "JournalTableConfiguration", "EncryptionConfiguration", "KmsKeyArn"),
            (
                "ReplicationConfiguration",
                "Rules",
                "*",
                "Destination",
                "EncryptionConfiguration",
                "ReplicaKmsKeyID",
            ),
        )
    },
}


KEYS = {"own": OWN_KEY, "existing": EXISTING}
APPS = {"clinic": (compose_clinic, CLINIC), "this app": (compose, PROJECT)}

Prod = Callable[[str, str], Synthesized]


@pytest.fixture(scope="module")
def prod(tmp_path_factory: pytest.TempPathFactory) -> Prod:
    """`prod` of an app with a key, each made once."""

    def made(app: str, key: str) -> Synthesized:
        build, root = APPS[app]
        return synthesized(with_key("prod", KEYS[key], root), tmp_path_factory.mktemp("keyed"), build, root)

    return cache(made)


@pytest.fixture(scope="module", params=KEYS)
def clinic(request: pytest.FixtureRequest, prod: Prod) -> Synthesized:
    """The clinic's with a key of its own, and with one that exists."""
    return prod("clinic", request.param)


@pytest.fixture(scope="module", params=[(app, key) for app in APPS for key in KEYS], ids=" ".join)
def templates(request: pytest.FixtureRequest, prod: Prod) -> Synthesized:
    """The same of this project's app too, whichever it is."""
    return prod(*request.param)


def key_properties(schema: Mapping[str, Any], of: Mapping[str, Any], path: Property = ()) -> Iterator[Property]:
    """The paths of a CloudFormation schema's properties that name a KMS key; `*` is each of a list."""
    if len(path) > 8:
        return
    if "$ref" in of:
        of = schema["definitions"][of["$ref"].rpartition("/")[2]]
    if "items" in of:
        yield from key_properties(schema, of["items"], (*path, "*"))
    for name, child in of.get("properties", {}).items():
        if re.search(r"kms.*(id|arn|identifier)$", name, re.IGNORECASE):
            yield (*path, name)
        else:
            yield from key_properties(schema, child, (*path, name))


def known_to_cloudformation(type_: str) -> list[Property]:
    schema = PROVIDER_SCHEMA_MANAGER.get_resource_schema(REGION, type_).schema
    return sorted(set(key_properties(schema, schema)))


def at(value: Any, path: Property) -> list[Any]:
    if not path:
        return [value]
    if path[0] == "*":
        return [found for each in value or [] for found in at(each, path[1:])] or [None]
    return at(value.get(path[0]) if isinstance(value, dict) else None, path[1:])


def is_the_key(templates: Synthesized, resource: Resource, value: Any) -> bool:
    if templates.kms_key == OWN_KEY:
        target = templates.target(resource, value) if isinstance(value, dict) else None
        return target is not None and target.type == "AWS::KMS::Key"
    return bool(value == EXISTING)


def nothing_to_encrypt(resource: Resource, path: Property) -> bool:
    nothing = NOTHING_TO_ENCRYPT.get((resource.type, path))
    return nothing is not None and nothing(resource.properties)


def without_the_key(templates: Synthesized) -> list[tuple[str, str, Property]]:
    """Every place where CloudFormation takes a key, something is encrypted, and it is not by this key."""
    return [
        (resource.type, resource.logical_id, path)
        for resource in templates.of_type(*templates.types)
        if resource.type not in ("AWS::KMS::Key", "AWS::KMS::Alias")
        for path in known_to_cloudformation(resource.type)
        if not nothing_to_encrypt(resource, path)
        if not all(is_the_key(templates, resource, value) for value in at(resource.properties, path))
    ]


def test_all_that_cloudformation_can_encrypt_by_a_key_is_encrypted_by_it(templates: Synthesized) -> None:
    excepted = [(type_, logical_id) for type_, logical_id, _ in without_the_key(templates)]
    [logs] = [
        bucket.logical_id
        for bucket in templates.of_type("AWS::S3::Bucket")
        if "LoggingConfiguration" not in bucket.properties
    ]
    # S3 delivers access logs to no bucket that a KMS key encrypts.
    assert excepted == [("AWS::S3::Bucket", logs)]


def test_a_resource_of_each_type_without_the_key_is_found_by_the_schemas_and_by_the_guardrail(
    clinic: Synthesized,
) -> None:
    planted = set()
    [rule] = guardrail.RULES
    for type_ in sorted(guardrail.ENCRYPTED.keys() & set(clinic.types)):
        for encrypted in guardrail.ENCRYPTED[type_]:
            changed = stripped(clinic, type_, encrypted.path)
            if changed is None:
                continue
            victim, broken = changed
            assert (type_, victim, encrypted.path) in without_the_key(broken)
            assert victim in {finding.resource.logical_id for finding in rule.findings(broken)}
            planted.add(type_)
    assert planted == {
        "AWS::DynamoDB::Table",
        "AWS::Events::Archive",
        "AWS::Events::EventBus",
        "AWS::Lambda::Function",
        "AWS::Logs::LogGroup",
        "AWS::S3::Bucket",
        "AWS::SNS::Topic",
        "AWS::SQS::Queue",
        "AWS::SecretsManager::Secret",
    }


def stripped(templates: Synthesized, type_: str, path: Property) -> tuple[str, Synthesized] | None:
    """The templates with the key taken from the first resource of a type that has it there, and the resource's id."""
    bodies = [copy.deepcopy(template.body) for template in templates.each]
    for body in bodies:
        for logical_id, resource in body["Resources"].items():
            if resource["Type"] == type_ and at(resource.get("Properties"), path) != [None]:
                *way, last = path
                place = resource["Properties"]
                for step in way:
                    place = place[0 if step == "*" else step]
                del place[last]
                again = [
                    Template(template.path, template.stack, changed)
                    for template, changed in zip(templates.each, bodies, strict=True)
                ]
                return logical_id, Synthesized(again, kms_key=templates.kms_key)
    return None


def test_the_guardrail_knows_every_type_of_ours_that_takes_a_key(templates: Synthesized) -> None:
    excepted = {place for place, nothing in NOTHING_TO_ENCRYPT.items() if nothing({"Target": {}})}
    known = {(type_, each.path) for type_, places in guardrail.ENCRYPTED.items() for each in places}
    for type_ in templates.types:
        if type_ not in ("AWS::KMS::Key", "AWS::KMS::Alias"):
            for path in known_to_cloudformation(type_):
                assert (type_, path) in known | excepted, f"{type_} takes a key at {'/'.join(path)}"


# What a caller needs on the key, by AWS's documents of each service (docs/security-defaults.md names them).
READS = (
    "dynamodb:*",
    "s3:GetObject",
    "secretsmanager:GetSecretValue",
    "sqs:ReceiveMessage",
    "lambda:*DurableExecution*",
)
WRITES_AND_VERIFIES = ("sqs:SendMessage",)
WRITES = ("s3:PutObject",)
TOUCHES_NO_DATA = ("lambda:InvokeFunction", "lambda:StopDurableExecution", "lambda:SendDurableExecutionCallback*")


def wanted(action: str) -> set[tuple[str, str]]:
    service = action.partition(":")[0]

    def fits(patterns: tuple[str, ...]) -> bool:
        return any(fnmatch.fnmatchcase(action, pattern) for pattern in patterns)

    if fits(TOUCHES_NO_DATA):
        return set()
    uses = {"kms:Decrypt"} if fits(READS) or fits(WRITES_AND_VERIFIES) else set()
    uses |= {"kms:GenerateDataKey"} if fits(WRITES) or fits(WRITES_AND_VERIFIES) else set()
    return {(service, use) for use in uses}


def services_of(condition: Mapping[str, Any]) -> set[str]:
    assert condition.keys() == {"StringEquals"}
    assert condition["StringEquals"].keys() == {"kms:ViaService"}
    found = set()
    for value in listed(condition["StringEquals"]["kms:ViaService"]):
        parts = [value] if isinstance(value, str) else value["Fn::Join"][1]
        whole = "".join(part if isinstance(part, str) else REGION for part in parts)
        service, _, place = whole.partition(".")
        assert place == f"{REGION}.amazonaws.com"
        found.add(service)
    return found


Uses = Mapping[str, set[tuple[str, str]]]


def uses_of_the_key(templates: Synthesized) -> tuple[Uses, Uses]:
    """By the id of each role: what it may use the key for, and what it needs of it."""
    granted = defaultdict[str, set[tuple[str, str]]](set)
    needed = defaultdict[str, set[tuple[str, str]]](set)
    for policy in templates.of_type("AWS::IAM::Policy"):
        for statement in policy.properties["PolicyDocument"]["Statement"]:
            for action in listed(statement["Action"]):
                for role in roles_of(templates, policy):
                    if not action.startswith("kms:"):
                        needed[str(id(role))] |= wanted(action)
                        continue
                    assert statement["Effect"] == "Allow"
                    assert is_the_key(templates, policy, statement["Resource"])
                    granted[str(id(role))] |= {(service, action) for service in services_of(statement["Condition"])}
    for function in templates.of_type("AWS::Lambda::Function"):
        # Its variables are decrypted as its role.
        needed[str(id(templates.target(function, function.properties["Role"])))].add(("lambda", "kms:Decrypt"))
    return granted, needed


def test_every_role_may_use_the_key_for_what_it_may_do_with_the_data_and_for_nothing_else(
    templates: Synthesized,
) -> None:
    granted, needed = uses_of_the_key(templates)
    named = {str(id(role)): role.logical_id for role in templates.of_type("AWS::IAM::Role")}
    for role_id, name in named.items():
        assert granted[role_id] == needed[role_id], name
    assert any(granted.values())


def test_most_roles_of_the_clinic_use_the_key(clinic: Synthesized) -> None:
    granted, _ = uses_of_the_key(clinic)
    assert sum(bool(uses) for uses in granted.values()) > 20


ACCOUNT, STRANGER = "123456789012", "999999999999"


def of_account(account: str) -> dict[str, tuple[str, str, dict[str, str]]]:
    """A use of the key by each service for resources of an account: service, action, what the request says."""
    here = f"{REGION}:{account}"
    return {
        "lines of a log group": (
            f"logs.{REGION}.amazonaws.com",
            "kms:GenerateDataKey",
            {"kms:EncryptionContext:aws:logs:arn": f"arn:aws:logs:{here}:log-group:Jobs"},
        ),
        "events of a bus": (
            "events.amazonaws.com",
            "kms:GenerateDataKey",
            {"kms:EncryptionContext:aws:events:event-bus:arn": f"arn:aws:events:{here}:event-bus/Bus"},
        ),
        "events of an archive": (
            "events.amazonaws.com",
            "kms:ReEncryptFrom",
            {"kms:EncryptionContext:aws:events:event-bus:arn": f"arn:aws:events:{here}:event-bus/Bus"},
        ),
        "a rule's queue": (
            "events.amazonaws.com",
            "kms:GenerateDataKey",
            {"aws:SourceAccount": account, "aws:SourceArn": f"arn:aws:events:{here}:rule/Bus/Rule"},
        ),
        "an alarm's topic": (
            "cloudwatch.amazonaws.com",
            "kms:GenerateDataKey",
            {"aws:SourceAccount": account, "aws:SourceArn": f"arn:aws:cloudwatch:{here}:alarm:Alarm"},
        ),
        "a durable execution": (
            "lambda.amazonaws.com",
            "kms:Decrypt",
            {
                "aws:SourceAccount": account,
                "aws:SourceArn": f"arn:aws:lambda:{here}:function:Import",
                "kms:EncryptionContext:aws:lambda:FunctionArn": f"arn:aws:lambda:{here}:function:Import",
            },
        ),
    }


def allowed(statements: list[dict[str, Any]], service: str, action: str, said: Mapping[str, str]) -> bool:
    """What IAM decides by these statements, as far as they go: ArnLike and StringEquals."""
    return any(
        statement["Principal"].get("Service") == service
        and any(fnmatch.fnmatchcase(action, pattern) for pattern in listed(statement["Action"]))
        and all(
            said.get(name) is not None and any(fnmatch.fnmatchcase(said[name], pattern) for pattern in listed(patterns))
            for operator in statement.get("Condition", {}).values()
            for name, patterns in operator.items()
        )
        for statement in statements
    )


@pytest.fixture(scope="module")
def statements() -> list[dict[str, Any]]:
    """The statements for a key's policy, of an account and a Region that are known."""
    scope = Stack(App(), "S", env=Place(account=ACCOUNT, region=REGION))
    found = scope.resolve(iam.PolicyDocument(statements=service_statements(scope)))["Statement"]
    return [joined(statement) for statement in found]


def joined(value: Any) -> Any:
    match value:
        case {"Fn::Join": ["", parts]}:
            return "".join("aws" if part == {"Ref": "AWS::Partition"} else part for part in parts)
        case dict():
            return {name: joined(each) for name, each in value.items()}
        case list():
            return [joined(each) for each in value]
    return value


@pytest.mark.parametrize("use", of_account(ACCOUNT))
def test_services_may_use_the_key_for_resources_of_this_account_and_of_no_other(
    statements: list[dict[str, Any]], use: str
) -> None:
    assert allowed(statements, *of_account(ACCOUNT)[use])
    assert not allowed(statements, *of_account(STRANGER)[use])
    service, action, _ = of_account(ACCOUNT)[use]
    assert not allowed(statements, service, action, {}), "a request that does not say what it is for"


def test_the_documents_have_the_policy_of_a_key_that_exists(statements: list[dict[str, Any]]) -> None:
    page = (PROJECT / "docs" / "security-defaults.md").read_text(encoding="utf-8")
    _, _, section = page.partition("## The policy of a key that exists")
    shown = json.loads(section.partition("```json")[2].partition("```")[0])
    account, *services = shown["Statement"]
    assert account["Principal"] == {"AWS": f"arn:aws:iam::{ACCOUNT}:root"}
    assert services == statements


def test_the_apps_own_key_is_rotated_kept_with_the_data_and_has_the_statements_of_the_services(tmp_path: Path) -> None:
    for name, policy in (("prod", "RetainExceptOnCreate"), ("dev", "Delete")):
        templates = synthesized(with_key(name, OWN_KEY), tmp_path / name, keyed_table)
        [key] = templates.of_type("AWS::KMS::Key")
        assert key.properties["EnableKeyRotation"] is True
        assert key.template.body["Resources"][key.logical_id]["DeletionPolicy"] == policy
        root, *services = key.properties["KeyPolicy"]["Statement"]
        assert root["Action"] == "kms:*"
        assert [statement["Sid"] for statement in services] == [
            "LogGroups",
            "BusesAndArchives",
            "BusesAndArchivesFindTheKey",
            "RulesToQueues",
            "AlarmsToTopic",
            "DurableExecutions",
        ]


def keyed_table(app: App, environment: Environment) -> Stack:
    environment.attach(app)
    scope = Stack(app, "S")
    Table(scope, "Table")
    return scope


def test_a_key_that_exists_is_used_and_not_made_and_a_line_says_what_its_policy_needs(tmp_path: Path) -> None:
    templates = synthesized(with_key("dev", EXISTING), tmp_path, keyed_table)
    assert list(templates.of_type("AWS::KMS::Key")) == []
    said = re.findall(r'"type": ?"aws:cdk:info",\s*"data": ?"([^"]*)"', texts(tmp_path))
    assert len(said) == 1
    assert EXISTING in said[0]
    assert "docs/security-defaults.md#the-policy-of-a-key-that-exists" in said[0]
    assert "\n" not in said[0]


def texts(assembly: Path) -> str:
    return "".join(file.read_text(encoding="utf-8") for file in sorted(assembly.glob("*.json")))


def test_two_stacks_share_the_one_key(tmp_path: Path) -> None:
    def build(app: App, environment: Environment) -> None:
        first = keyed_table(app, environment)
        second = Stack(app, "T")
        DeadLetterQueue(second, "Queue")
        assert Encryption.of(first) is Encryption.of(second)

    templates = synthesized(with_key("dev", OWN_KEY), tmp_path, build)
    [key] = templates.of_type("AWS::KMS::Key")
    [queue] = templates.of_type("AWS::SQS::Queue")
    assert templates.target(queue, queue.properties["KmsMasterKeyId"]) is key
    assert "SqsManagedSseEnabled" not in queue.properties


def test_without_a_key_nothing_of_kms_is_in_the_templates(tmp_path: Path) -> None:
    templates = synthesized(with_key("dev", None), tmp_path, keyed_table)
    assert "kms" not in json.dumps([template.body for template in templates.each]).lower()


def test_a_role_that_may_do_everything_with_objects_may_use_the_key_through_s3(tmp_path: Path) -> None:
    def build(app: App, environment: Environment) -> None:
        scope = keyed_table(app, environment)
        role = iam.Role(scope, "Role", assumed_by=iam.ServicePrincipal("lambda.amazonaws.com"))
        role.add_to_policy(iam.PolicyStatement(actions=["s3:GetObject*"], resources=["arn:aws:s3:::b/*"]))

    templates = synthesized(with_key("dev", EXISTING), tmp_path, build)
    [policy] = templates.of_type("AWS::IAM::Policy")
    [_, use] = policy.properties["PolicyDocument"]["Statement"]
    assert use["Action"] == "kms:Decrypt"
    assert use["Resource"] == EXISTING


def test_what_is_not_known_to_hold_data_is_refused(tmp_path: Path) -> None:
    def build(app: App, environment: Environment) -> None:
        encrypt(api.HttpApi(keyed_table(app, environment), "Api"))

    with pytest.raises(ValueError, match="S/Api: what holds data here"):
        synthesized(with_key("dev", EXISTING), tmp_path, build)
