"""The whole preflight of a complete prod against recorded answers, each valid by the API's own model."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Mapping
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any, cast

import botocore.session
import pytest
from typer.testing import CliRunner

from offload.cli.deployment.aws import Aws
from offload.cli.deployment.failure import Failure
from offload.cli.main import app as command_line
from offload.cli.preflight import assembly as assemblies
from offload.cli.preflight import report
from offload.cli.preflight.assembly import Assembly, Kept, NewStack, of_file, read
from offload.cli.preflight.calls import CALLS, Reader, policy
from offload.cli.preflight.facts import Identity, identity
from offload.cli.preflight.item import Item, Untold
from tests.recorded_aws import Answer, RecordedAws, Refusal

pytestmark = pytest.mark.synthesis

ACCOUNT, REGION, ADDRESS = "123456789012", "eu-west-1", "operators@clinic.example"
KEPT = Kept("prod", ACCOUNT, REGION, ADDRESS, keep=True)
WHO = Identity(ACCOUNT, f"arn:aws:sts::{ACCOUNT}:assumed-role/Deployer/jo")
PLATFORM, CLINIC = "offload-prod-platform", "offload-prod-clinic"
DENIED = Refusal("AccessDenied", "User is not authorized to perform")
NONE_SUCH = Refusal("ValidationError", "Stack with id x does not exist")


@pytest.fixture(scope="module")
def folder(clinic_of: Callable[[str], Path]) -> Path:
    """A complete prod of the clinic, synthesized without bundling."""
    return clinic_of("prod")


@pytest.fixture
def assembly(folder: Path) -> Assembly:
    return read(folder, "prod")


@cache
def schema_of(kind: str) -> dict[str, Any]:
    """The schema of a resource type as AWS publishes it for eu-west-1, of which cfn-lint has a copy."""
    schemas = files("cfnlint") / "data" / "schemas"
    of_region = json.loads((schemas / "providers" / f"{REGION}.json").read_text())
    name = str(of_region[kind]).removesuffix(".json")
    found: dict[str, Any] = json.loads((schemas / "resources" / f"{name}.json").read_text())
    return found


@cache
def recorded() -> RecordedAws:
    return RecordedAws({}, region=REGION)


@cache
def schema_text(kind: str) -> str:
    return json.dumps(schema_of(kind))


def described(params: Mapping[str, Any]) -> Mapping[str, Any]:
    kind = str(params["TypeName"])
    return {"Type": "RESOURCE", "TypeName": kind, "Schema": schema_text(kind)}


def a_new_account() -> dict[str, Answer]:
    """An account with nothing in it but the CDK's bootstrap."""
    return {
        "GetCallerIdentity": {"Account": ACCOUNT, "Arn": WHO.caller, "UserId": "AROA:jo"},
        "DescribeAccountLimits": {"AccountLimits": [{"Name": "StackLimit", "Value": 2000}]},
        "DescribeStacks": NONE_SUCH,
        "DescribeType": described,
        "GetTemplate": NONE_SUCH,
        "ListStackResources": NONE_SUCH,
        "ListStacks": {"StackSummaries": []},
        "ListEventBuses": {"EventBuses": [{"Name": "default"}]},
        "GetAccountSettings": {"AccountLimit": {"ConcurrentExecutions": 1000, "UnreservedConcurrentExecutions": 1000}},
        "ListDurableExecutionsByFunction": Refusal("ResourceNotFoundException", "Function not found", 404),
        "DescribeLogGroups": {"logGroups": []},
        "DescribeResourcePolicies": {"resourcePolicies": []},
        "GetResources": {"ResourceTagMappingList": []},
        "ListSubscriptionsByTopic": {"Subscriptions": []},
        "DescribeParameters": {"Parameters": []},
        "GetParameter": {"Parameter": {"Name": "/cdk-bootstrap/hnb659fds/version", "Value": "33"}},
    }


def a_deployed_account(assembly: Assembly) -> dict[str, Answer]:
    """The same with this assembly deployed, its address confirmed."""
    templates = {stack.name: stack.template for stack in assembly.stacks}

    def stack(params: Mapping[str, Any]) -> Mapping[str, Any]:
        name = str(params["StackName"])
        return {
            "Stacks": [
                {
                    "StackName": name,
                    "StackId": stack_id(name),
                    "StackStatus": "UPDATE_COMPLETE",
                    "CreationTime": "2026-11-29T12:00:00Z",
                    "EnableTerminationProtection": True,
                }
            ]
        }

    def summary(logical_id: str, body: Mapping[str, Any]) -> dict[str, Any]:
        topic = body["Type"] == "AWS::SNS::Topic"
        return {
            "LogicalResourceId": logical_id,
            "PhysicalResourceId": f"arn:aws:sns:{REGION}:{ACCOUNT}:{PLATFORM}-topic" if topic else logical_id,
            "ResourceType": body["Type"],
            "ResourceStatus": "CREATE_COMPLETE",
            "LastUpdatedTimestamp": "2026-11-29T12:00:00Z",
        }

    return a_new_account() | {
        "DescribeStacks": stack,
        "ListStacks": {
            "StackSummaries": [
                {"StackName": name, "StackStatus": "UPDATE_COMPLETE", "CreationTime": "2026-11-29T12:00:00Z"}
                for name in templates
            ]
        },
        "GetTemplate": lambda params: {"TemplateBody": json.dumps(templates[params["StackName"]])},
        "ListStackResources": lambda params: {
            "StackResourceSummaries": [
                summary(logical_id, body) for logical_id, body in templates[params["StackName"]]["Resources"].items()
            ]
        },
        "ListSubscriptionsByTopic": {
            "Subscriptions": [
                {
                    "Endpoint": ADDRESS,
                    "Protocol": "email",
                    "SubscriptionArn": f"arn:aws:sns:{REGION}:{ACCOUNT}:{PLATFORM}-topic:1",
                }
            ]
        },
    }


def stack_id(name: str) -> str:
    return f"arn:aws:cloudformation:{REGION}:{ACCOUNT}:stack/{name}/2"


def examined(assembly: Assembly, answers: Mapping[str, Answer]) -> dict[str, list[Item]]:
    """The report's lines by name."""
    aws = recorded().now(answers)
    found: dict[str, list[Item]] = defaultdict(list)
    for item in report.examine(Reader(cast("Aws", aws)), WHO, assembly, KEPT):
        found[item.name].append(item)
    return found


def with_a_named_group(assembly: Assembly) -> Assembly:
    """The assembly with a log group that has a physical name."""
    first, *others = assembly.stacks
    template = json.loads(json.dumps(first.template))
    template["Resources"]["Named"] = {"Type": "AWS::Logs::LogGroup", "Properties": {"LogGroupName": "/a"}}
    return Assembly((NewStack(first.name, template, first.termination_protection), *others), assembly.bootstrap)


def levels(found: Mapping[str, list[Item]], name: str) -> set[str]:
    return {item.level for item in found[name]}


def refusals(found: Mapping[str, list[Item]]) -> list[str]:
    return [item.says for items in found.values() for item in items if item.level == "refused"]


def test_a_new_account_that_is_bootstrapped_is_ready_and_is_told_what_would_outlive_a_stack(assembly: Assembly) -> None:
    found = examined(assembly, a_new_account())
    assert refusals(found) == []
    assert "outlive their stack" in found["adds"][0].says
    assert found["types"][0].says.startswith(f"{REGION} has all ")
    assert levels(found, "durable") == {"ok"}


def test_a_deploy_of_what_is_deployed_changes_nothing(assembly: Assembly) -> None:
    found = examined(assembly, a_deployed_account(assembly))
    assert refusals(found) == []
    assert found["changes"] == [Item("ok", "changes", "adds, replaces and deletes nothing")]
    assert found["address"] == [Item("ok", "address", f"{ADDRESS} has confirmed")]


def test_an_account_that_is_not_bootstrapped_is_refused(assembly: Assembly) -> None:
    found = examined(assembly, a_new_account() | {"GetParameter": Refusal("ParameterNotFound")})
    (item,) = found["bootstrap"]
    assert (item.level, item.fix) == ("refused", "make bootstrap ENV=prod")


def test_a_region_without_durable_functions_or_a_type_is_refused(assembly: Assembly) -> None:
    def older(params: Mapping[str, Any]) -> Mapping[str, Any] | Refusal:
        kind = str(params["TypeName"])
        if kind == "AWS::Scheduler::Schedule":
            return Refusal("TypeNotFoundException", "not found", 404)
        schema = dict(schema_of(kind))
        if kind == "AWS::Lambda::Function":
            schema["properties"] = {
                name: body for name, body in schema["properties"].items() if name != "DurableConfig"
            }
        return {"Schema": json.dumps(schema)}

    found = examined(assembly, a_new_account() | {"DescribeType": older})
    assert [item.says for item in found["types"]] == [
        f"{REGION} knows no DurableConfig of AWS::Lambda::Function",
        f"{REGION} has no AWS::Scheduler::Schedule",
    ]
    assert found["durable"][0].says == f"{REGION} has no durable functions"


def test_a_new_accounts_ten_concurrent_executions_are_warned_of(assembly: Assembly) -> None:
    limit = {"AccountLimit": {"ConcurrentExecutions": 10, "UnreservedConcurrentExecutions": 10}}
    assert "warning" in levels(examined(assembly, a_new_account() | {"GetAccountSettings": limit}), "concurrency")


def test_an_unconfirmed_address_is_warned_of(assembly: Assembly) -> None:
    answers = a_deployed_account(assembly)
    pending = {"Endpoint": ADDRESS, "SubscriptionArn": "PendingConfirmation"}
    found = examined(assembly, answers | {"ListSubscriptionsByTopic": {"Subscriptions": [pending]}})
    assert "has not confirmed" in found["address"][0].says


def test_a_table_that_would_be_deleted_or_replaced_by_an_empty_one_is_refused(assembly: Assembly) -> None:
    clinic = next(stack for stack in assembly.stacks if stack.name == CLINIC)
    before: dict[str, Any] = json.loads(json.dumps(clinic.template))
    ledger = next(name for name, body in before["Resources"].items() if body["Type"] == "AWS::DynamoDB::Table")
    before["Resources"][ledger] |= {"UpdateReplacePolicy": "Delete"}
    before["Resources"][ledger]["Properties"]["TableName"] = "renamed-by-hand"
    before["Resources"]["Gone"] = {"Type": "AWS::DynamoDB::Table", "Properties": {}}
    answers = a_deployed_account(assembly)
    platform = next(stack.template for stack in assembly.stacks if stack.name == PLATFORM)
    answers["GetTemplate"] = lambda params: {
        "TemplateBody": json.dumps(before if params["StackName"] == CLINIC else platform)
    }
    found = examined(assembly, answers)
    verbs = sorted(item.says.split(" AWS::")[0] for item in found["data"])
    assert verbs == ["the deploy deletes", "the deploy replaces (empty)"]
    assert levels(found, "data") == {"refused"}


def test_what_an_earlier_first_deploy_kept_is_counted_and_a_name_that_it_holds_is_refused(assembly: Assembly) -> None:
    place = "/offload/prod/jobs/ward_report"
    table = f"arn:aws:dynamodb:{REGION}:{ACCOUNT}:table/{CLINIC}-LedgerTable-1"
    tags = {
        "environment": "prod",
        "aws:cloudformation:stack-name": CLINIC,
        "aws:cloudformation:stack-id": stack_id(CLINIC).replace("/2", "/1"),
    }
    found = examined(
        assembly,
        a_new_account()
        | {
            "DescribeParameters": {"Parameters": [{"Name": place}]},
            "GetResources": {
                "ResourceTagMappingList": [
                    {"ResourceARN": table, "Tags": [{"Key": key, "Value": value} for key, value in tags.items()]}
                ]
            },
        },
    )
    (refusal,) = refusals(found)
    assert refusal.startswith(f"AWS::SSM::Parameter {place} exists and is not {CLINIC}'s ")
    assert "1 dynamodb table" in found["orphans"][0].says


@pytest.mark.parametrize(
    "call",
    [call for call in CALLS if call.operation != "GetCallerIdentity"],
    ids=lambda call: call.operation,
)
@pytest.mark.parametrize("code", ["AccessDeniedException", "InvalidAction"])
def test_a_call_that_is_denied_or_unsupported_is_a_warning_that_names_the_permission(
    assembly: Assembly, call: Any, code: str
) -> None:
    deployed = call.operation in {"GetTemplate", "ListStackResources", "ListSubscriptionsByTopic"}
    answers = a_deployed_account(assembly) if deployed else a_new_account()
    found = examined(with_a_named_group(assembly), answers | {call.operation: Refusal(code, "no")})
    warned = [item for items in found.values() for item in items if item.level == "warning"]
    assert any(call.action in item.says for item in warned) or (
        call.operation == "ListDurableExecutionsByFunction" and levels(found, "durable") == {"warning"}
    )
    assert not any("Traceback" in item.says for item in warned)


def test_pages_are_read_to_their_end(assembly: Assembly) -> None:
    def page(params: Mapping[str, Any]) -> Mapping[str, Any]:
        number = int(params.get("NextToken", "0"))
        more = {"NextToken": str(number + 1)} if number < 2 else {}
        return {"EventBuses": [{"Name": f"bus-{number}"}], **more}

    found = examined(assembly, a_new_account() | {"ListEventBuses": page})
    assert found["event buses"][0].says.startswith("3 and 1 new of 100")


def test_every_call_is_in_the_list_and_everything_in_the_list_is_called(assembly: Assembly) -> None:
    made: set[tuple[str, str]] = set()
    for answers in (a_new_account(), a_deployed_account(assembly)):
        aws = recorded().now(answers)
        reader = Reader(cast("Aws", aws))
        who = identity(reader)
        assert isinstance(who, Identity)
        report.examine(reader, who, with_a_named_group(assembly), KEPT)
        made |= set(aws.calls)
    assert made == {(call.service, call.operation) for call in CALLS}


def test_a_call_that_is_not_in_the_list_is_not_made() -> None:
    aws = recorded().now({"DeleteStack": {}})
    with pytest.raises(KeyError):
        Reader(cast("Aws", aws)).ask("cloudformation", "DeleteStack", StackName="x")
    assert aws.calls == []


def test_every_call_in_the_list_is_an_operation_that_reads() -> None:
    session = botocore.session.get_session()
    for call in CALLS:
        assert call.operation in session.get_service_model(call.service).operation_names
        assert call.operation.startswith(("Get", "List", "Describe")), call


def test_the_policy_allows_each_call_in_the_environments_own_place_and_nothing_else() -> None:
    document = policy("prod", account=ACCOUNT, region=REGION)
    allowed = [action for statement in document["Statement"] for action in statement["Action"]]
    assert sorted(allowed) == sorted(call.action for call in CALLS)
    stacks = next(each for each in document["Statement"] if "cloudformation:GetTemplate" in each["Action"])
    assert stacks["Resource"] == f"arn:aws:cloudformation:{REGION}:{ACCOUNT}:stack/offload-prod-*/*"
    anywhere = policy("dev", account=None, region=None)["Statement"]
    assert all("{" not in str(each["Resource"]) for each in anywhere)
    assert "arn:aws-us-gov:" in str(policy("dev", account=None, region="us-gov-west-1"))


def run_on(monkeypatch: pytest.MonkeyPatch, answers: Mapping[str, Answer], *arguments: str) -> Any:
    aws = recorded().now(answers)
    monkeypatch.setattr(report, "_aws", lambda environment: aws)
    return CliRunner().invoke(command_line, ["preflight", *arguments])


def test_an_assembly_of_another_environment_is_refused(folder: Path) -> None:
    with pytest.raises(Failure, match="not an assembly of dev: it has offload-prod-platform, offload-prod-clinic"):
        read(folder, "dev")
    with pytest.raises(Failure, match="no assembly of the CDK"):
        read(folder / "nothing", "dev")


def test_a_synthesis_that_does_not_end_is_a_refusal_of_one_line(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(assemblies, "SYNTH_WITHIN", 0.01)
    with pytest.raises(Failure, match=r"^the synthesis of dev was not done after 0 s$"):
        assemblies.synthesize("dev", tmp_path)


def test_an_environment_without_a_file_is_refused_in_one_line() -> None:
    with pytest.raises(Failure, match=r"no environment 'tset' \(known: dev, local, prod, staging\)"):
        of_file("tset")


def test_the_command_ends_with_1_for_a_refusal_and_prints_json(
    monkeypatch: pytest.MonkeyPatch, folder: Path, tmp_path: Path
) -> None:
    # The shipped prod names no account: it is refused before any stack is looked at.
    result = run_on(monkeypatch, a_new_account(), "prod", "--json", "--assembly", str(folder))
    assert result.exit_code == 1
    document = json.loads(result.stdout)
    assert (document["environment"], document["refused"]) == ("prod", 2)
    assert [item["name"] for item in document["items"]] == ["account", "region"]


def test_the_policy_is_printed_without_credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(report, "_aws", lambda environment: pytest.fail("AWS was asked"))
    result = CliRunner().invoke(command_line, ["preflight", "dev", "--policy"])
    assert result.exit_code == 0
    assert json.loads(result.stdout) == policy("dev", account=None, region=None)


def test_an_environment_knows_those_whose_names_begin_with_its_own(tmp_path: Path) -> None:
    (tmp_path / "environments").mkdir()
    for name in ("dev", "dev-2", "devil"):
        (tmp_path / "environments" / f"{name}.toml").write_text("[data]\nkeep = true\n")
    assert of_file("dev", project=tmp_path) == Kept("dev", keep=True, others=("dev-2",))


def test_credentials_that_have_expired_are_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    expired = a_new_account() | {"GetCallerIdentity": Refusal("ExpiredToken", "expired", 403)}
    result = run_on(monkeypatch, expired, "dev")
    assert isinstance(result.exception, Failure)
    assert "\n" not in str(result.exception)
    assert "ExpiredToken" in str(result.exception)


@pytest.mark.slow
def test_without_an_assembly_the_app_is_synthesized_without_credentials_and_its_refusal_is_a_line(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    complete = run_on(monkeypatch, a_new_account(), "dev")
    assert complete.exit_code == 0, (complete.stdout, complete.exception)
    assert "dev: ready to deploy: 0 refused" in complete.stdout
    assert max(map(len, complete.stdout.splitlines())) <= 80

    def incomplete(environment: str, **_: Any) -> Kept:
        return KEPT

    monkeypatch.setattr(report, "of_file", incomplete)
    result = run_on(monkeypatch, a_new_account(), "prod")
    assert result.exit_code == 1
    assert "refused  templates     environments/prod.toml: aws.account" in result.stdout


def test_an_answer_of_a_made_up_shape_fails_the_test_that_gives_it() -> None:
    aws = recorded().now({"GetAccountSettings": {"Concurrency": 10}})
    with pytest.raises(AssertionError, match="no answer of GetAccountSettings"):
        Reader(cast("Aws", aws)).ask("lambda", "GetAccountSettings")


def test_a_service_that_cannot_be_reached_is_not_known() -> None:
    from botocore.exceptions import EndpointConnectionError

    def unreachable(params: Mapping[str, Any]) -> Mapping[str, Any]:
        raise EndpointConnectionError(endpoint_url="https://lambda.xx-none-1.amazonaws.com")

    found = Reader(cast("Aws", recorded().now({"GetAccountSettings": unreachable}))).ask("lambda", "GetAccountSettings")
    assert isinstance(found, Untold)
    assert found.why == "failed"
