"""Every call is allowed and every permission is used: what the comparison finds, and what it leaves alone."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import pytest
from msgspec.structs import replace

from app import compose
from clinic.stack import compose as compose_clinic
from offload.cdk.app import Compose
from offload.cdk.guardrails.access import UNUSED
from offload.cdk.guardrails.templates import Template, Templates
from offload.cdk.permissions.__main__ import DESTINATIONS, ENVIRONMENT, synthesized, with_destinations
from offload.cdk.permissions.compare import Report, compare
from offload.cdk.permissions.grants import Roles, fits, holds
from offload.cdk.permissions.record import Call, Line, Record, UnusableRecord, _sources, read_lines
from offload.project import PROJECT
from tests.clinics import CLINIC
from tests.patience import PATIENCE
from tests.unit.cdk import keyed

pytestmark = pytest.mark.synthesis

# A function's version is a resource of its own with each change, and an environment's settings are part of it.
_VERSION: Final = re.compile(r"CurrentVersion[0-9A-Fa-f]+")
TABLE: Final = {"Fn::GetAtt": ["Ledger", "Arn"]}
QUERY: Final = Call("dynamodb:Query", "LEDGER_TABLE")


def allow(*actions: str, on: Any = TABLE, **rest: Any) -> dict[str, Any]:
    return {"Effect": "Allow", "Action": list(actions), "Resource": on, **rest}


def an_app(
    *statements: Mapping[str, Any],
    variables: Mapping[str, Any] | None = None,
    reasons: Sequence[Mapping[str, Any]] = (),
    more: Mapping[str, Any] | None = None,
) -> Templates:
    """A function with the folder `ledger`, a table, and a role with these statements."""
    resources = {
        "Ledger": {"Type": "AWS::DynamoDB::Table"},
        "Role": {"Type": "AWS::IAM::Role"},
        "Policy": {
            "Type": "AWS::IAM::Policy",
            "Properties": {"Roles": [{"Ref": "Role"}], "PolicyDocument": {"Statement": list(statements)}},
            "Metadata": {UNUSED: list(reasons)},
        },
        "Function": {
            "Type": "AWS::Lambda::Function",
            "Properties": {
                "Handler": "lambdas.ledger.handler.handler",
                "Role": {"Fn::GetAtt": ["Role", "Arn"]},
                "Environment": {"Variables": {"LEDGER_TABLE": {"Ref": "Ledger"}, **(variables or {})}},
            },
        },
        **(more or {}),
    }
    return Templates([Template("a.json", "app", {"Resources": resources})])


def compared(templates: Templates, *calls: Call, caller: str = "ledger") -> Report:
    return compare(templates, Record({caller: calls}))


# -- both ways


def test_a_call_that_is_allowed_and_nothing_else_is_in_order() -> None:
    assert compared(an_app(allow("dynamodb:Query")), QUERY).faults == ()


def test_a_missing_grant_is_found_with_function_action_resource_and_variable() -> None:
    report = compared(an_app(allow("dynamodb:Query")), QUERY, Call("dynamodb:PutItem", "LEDGER_TABLE"))
    [fault] = report.faults
    assert fault.startswith("ledger (Function): dynamodb:PutItem on <Ledger> (LEDGER_TABLE): its role does not allow")
    assert report.missing == (fault,)


def test_a_superfluous_grant_is_found_with_its_policy() -> None:
    report = compared(an_app(allow("dynamodb:Query", "dynamodb:Scan")), QUERY)
    [fault] = report.faults
    assert fault.startswith("ledger (Function): Policy allows dynamodb:Scan on <Ledger>, and nothing ever asked for it")
    assert report.superfluous == (fault,)


def test_each_resource_of_a_grant_has_to_be_used() -> None:
    both = [TABLE, {"Fn::Join": ["", [TABLE, "/index/days"]]}]
    [fault] = compared(an_app(allow("dynamodb:Query", on=both)), QUERY).faults
    assert "dynamodb:Query on <Ledger>/index/days, and nothing ever asked" in fault


def test_a_query_of_an_index_needs_the_index_and_not_the_table() -> None:
    [missing, superfluous] = compared(
        an_app(allow("dynamodb:Query")), Call("dynamodb:Query", "LEDGER_TABLE/index/days")
    ).faults
    assert "on <Ledger>/index/days (LEDGER_TABLE/index/days): its role does not allow" in missing
    assert "dynamodb:Query on <Ledger>, and nothing ever asked" in superfluous


@pytest.mark.parametrize("action", ["dynamodb:Q*", "DynamoDB:query", "dynamodb:Quer?"])
def test_an_action_is_matched_as_iam_matches_it(action: str) -> None:
    report = compared(an_app(allow(action)), QUERY)
    assert report.missing == report.superfluous == ()


def test_objects_are_allowed_below_a_prefix() -> None:
    files = {"Bucket": {"Type": "AWS::S3::Bucket"}}
    below = {"Fn::Join": ["", [{"Fn::GetAtt": ["Bucket", "Arn"]}, "/results/*"]]}
    app = an_app(allow("s3:GetObject", on=below), variables={"FILES": {"Ref": "Bucket"}}, more=files)
    assert compared(app, Call("s3:GetObject", "FILES/results/*")).faults == ()
    [missing, superfluous] = compared(app, Call("s3:GetObject", "FILES/uploads/*")).faults
    assert "s3:GetObject on <Bucket>/uploads/* (FILES/uploads/*)" in missing
    assert "on <Bucket>/results/*" in superfluous


def test_a_denied_call_is_missing_although_it_is_allowed() -> None:
    deny = {"Effect": "Deny", "Action": "dynamodb:*", "Resource": "*"}
    [fault] = compared(an_app(allow("dynamodb:Query"), deny), QUERY).faults
    assert fault.endswith("(LEDGER_TABLE): Policy denies it")


def test_what_is_denied_to_others_is_not_denied_here() -> None:
    plain = {"Effect": "Deny", "Action": "*", "Resource": "*", "Condition": {"Bool": {"aws:SecureTransport": "false"}}}
    assert compared(an_app(allow("dynamodb:Query"), plain), QUERY).faults == ()


def test_everything_but_some_actions_allows_the_others() -> None:
    all_but = {"Effect": "Allow", "NotAction": ["iam:*"], "Resource": TABLE}
    assert compared(an_app(all_but), QUERY).missing == ()
    but_this = {"Effect": "Allow", "NotAction": ["dynamodb:Query"], "Resource": TABLE}
    assert len(compared(an_app(but_this), QUERY).missing) == 1


def test_a_condition_that_no_recorded_call_says_anything_about_does_not_count_as_met() -> None:
    tagged = allow("dynamodb:Query", Condition={"StringEquals": {"aws:PrincipalTag/team": "clinic"}})
    [fault] = compared(an_app(tagged), QUERY).faults
    assert "the condition on aws:PrincipalTag/team cannot be checked" in fault


def test_an_action_that_iam_does_not_have_is_a_fault() -> None:
    report = compared(an_app(allow("dynamodb:Query", "dynamodb:TransactWriteItems")), QUERY)
    assert report.other == ("ledger (Function): Policy allows dynamodb:TransactWriteItems: IAM has no such action",)


def test_a_managed_policy_of_aws_is_refused_for_nobody_sees_what_it_allows() -> None:
    role = {"Type": "AWS::IAM::Role", "Properties": {"ManagedPolicyArns": ["arn:aws:iam::aws:policy/ReadOnlyAccess"]}}
    [fault] = compared(an_app(allow("dynamodb:Query"), more={"Role": role}), QUERY).faults
    assert "arn:aws:iam::aws:policy/ReadOnlyAccess" in fault


def test_another_function_s_calls_use_up_nothing() -> None:
    report = compared(an_app(allow("dynamodb:Query")), QUERY, caller="other")
    assert len(report.superfluous) == 1
    assert report.other == ("schemas/permissions/calls.json: no stack deploys the function 'other': run `make calls`",)


def test_a_variable_that_the_template_does_not_set_is_a_fault() -> None:
    [fault] = compared(an_app(allow("dynamodb:Query")), QUERY, Call("dynamodb:Query", "SUPPLY_TABLE")).faults
    assert "dynamodb:Query on SUPPLY_TABLE: the template gives the function no such variable" in fault


# -- across stacks, and through JSON


@pytest.mark.parametrize(
    "reference",
    [{"Fn::ImportValue": "table"}, {"Fn::GetStackOutput": {"StackName": "platform", "OutputName": "Table"}}],
    ids=["strong", "weak"],
)
def test_a_resource_of_another_stack_is_followed(reference: dict[str, Any]) -> None:
    platform = {
        "Resources": {"Jobs": {"Type": "AWS::DynamoDB::Table"}},
        "Outputs": {"Table": {"Value": {"Fn::GetAtt": ["Jobs", "Arn"]}, "Export": {"Name": "table"}}},
    }
    app = an_app(allow("dynamodb:Query", on=reference), variables={"LEDGER_TABLE": reference})
    [template] = {id(resource.template): resource.template for resource in app.all()}.values()
    templates = Templates([template, Template("b.json", "platform", platform)])
    assert compared(templates, QUERY).faults == ()


def test_two_stacks_with_one_logical_id_are_two_resources() -> None:
    other = Template("b.json", "other", {"Resources": {"Ledger": {"Type": "AWS::DynamoDB::Table"}}})
    [template] = {
        id(resource.template): resource.template for resource in an_app(allow("dynamodb:Query")).all()
    }.values()
    roles = Roles(Templates([template, other]))
    assert sorted(roles.name(each) for each in roles.resources("AWS::DynamoDB::Table")) == [
        "<app.Ledger>",
        "<other.Ledger>",
    ]


def test_what_a_variable_has_in_json_is_found() -> None:
    value = {"Fn::Join": ["", ['{"per_second":1,"table":"', {"Ref": "Ledger"}, '"}']]}
    app = an_app(allow("dynamodb:UpdateItem"), variables={"OFFLOAD_CALLS_SLACK": value})
    assert compared(app, Call("dynamodb:UpdateItem", "OFFLOAD_CALLS_SLACK.table")).faults == ()
    assert compared(app, Call("dynamodb:UpdateItem", "OFFLOAD_CALLS_*.table"), caller="@integration").faults == ()


def test_the_queues_of_a_job_type_are_those_that_its_parameter_names() -> None:
    more = {
        "High": {"Type": "AWS::SQS::Queue"},
        "Low": {"Type": "AWS::SQS::Queue"},
        "Place": {
            "Type": "AWS::SSM::Parameter",
            "Properties": {
                "Name": "/jobs/report",
                "Value": {
                    "Fn::Join": ["", ['{"queues":{"high":"', {"Ref": "High"}, '","low":"', {"Ref": "Low"}, '"}}']]
                },
            },
        },
    }
    arns = [{"Fn::GetAtt": [name, "Arn"]} for name in ("High", "Low")]
    place = "arn:${AWS::Partition}:ssm:${AWS::Region}:${AWS::AccountId}:parameter/jobs/report"
    variables = {"OFFLOAD_JOBS_PATH": "/jobs", "OFFLOAD_JOB": "report"}
    calls = [
        Call("sqs:SendMessage", "OFFLOAD_JOBS_PATH/{OFFLOAD_JOB} queues"),
        Call("ssm:GetParameter", "OFFLOAD_JOBS_PATH/*"),
    ]
    read = allow("ssm:GetParameter", on={"Fn::Sub": place})
    assert (
        compared(an_app(allow("sqs:SendMessage", on=arns), read, variables=variables, more=more), *calls).faults == ()
    )
    [fault] = compared(
        an_app(allow("sqs:SendMessage", on=arns[0]), read, variables=variables, more=more), *calls
    ).faults
    assert "sqs:SendMessage on <Low>" in fault


# -- patterns


def test_what_a_pattern_does_every_function_of_it_may_do() -> None:
    call = Call("dynamodb:PutItem", "OFFLOAD_MARKS_TABLE")
    is_consumer = {"OFFLOAD_CONSUMER": "Ledger", "OFFLOAD_MARKS_TABLE": {"Ref": "Ledger"}}
    assert compared(an_app(allow("dynamodb:PutItem"), variables=is_consumer), call, caller="@consumer").faults == ()
    assert len(compared(an_app(variables=is_consumer), call, caller="@consumer").missing) == 1
    assert compared(an_app(), call, caller="@consumer").faults == ()


def test_a_resource_that_a_function_of_a_pattern_was_not_given_is_not_asked_for() -> None:
    call = Call("events:PutEvents", "OFFLOAD_BUS")
    assert compared(an_app(variables={"OFFLOAD_CONSUMER": "Ledger"}), call, caller="@consumer").faults == ()


# -- the sources of events


def publishing(*sources: str) -> dict[str, Any]:
    condition = {
        "ForAllValues:StringEquals": {"events:source": list(sources)},
        "Null": {"events:source": "false"},
    }
    return allow("events:PutEvents", on={"Fn::GetAtt": ["Bus", "Arn"]}, Condition=condition)


BUS: Final = {"Bus": {"Type": "AWS::Events::EventBus"}}


def test_events_are_published_from_the_sources_that_are_bound() -> None:
    app = an_app(publishing("a", "b"), variables={"OFFLOAD_BUS": {"Ref": "Bus"}}, more=BUS)
    put = "events:PutEvents"
    assert compared(app, Call(put, "OFFLOAD_BUS from a"), Call(put, "OFFLOAD_BUS from b")).faults == ()
    [missing, superfluous] = compared(app, Call(put, "OFFLOAD_BUS from a"), Call(put, "OFFLOAD_BUS from c")).faults
    assert "events:PutEvents on <Bus> from c" in missing
    assert "publish events from b on <Bus>, and it never did" in superfluous


@pytest.mark.parametrize(
    ("conditions", "sources", "expected"),
    [
        ({"ForAllValues:StringEquals": {"events:source": ["a", "b"]}}, ["a", "b"], True),
        ({"ForAllValues:StringEquals": {"events:source": ["a"]}}, ["a", "b"], False),
        ({"ForAnyValue:StringEquals": {"events:source": ["a"]}}, ["a", "b"], True),
        ({"ForAllValues:StringEquals": {"events:source": ["a"]}}, [], True),
        ({"StringEquals": {"events:source": ["a"]}}, [], False),
        ({"StringEqualsIfExists": {"events:source": ["a"]}}, [], True),
        ({"Null": {"events:source": ["false"]}}, [], False),
        ({"Null": {"events:source": ["false"]}}, ["a"], True),
        ({"StringNotEquals": {"events:source": ["a"]}}, ["a"], False),
        ({"StringLike": {"Events:Source": ["offload.*"]}}, ["offload.clinic"], True),
        ({"DateGreaterThan": {"events:source": ["2026"]}}, ["a"], "events:source"),
        ({"StringEquals": {"aws:PrincipalOrgID": ["o"]}}, ["a"], "aws:PrincipalOrgID"),
    ],
)
def test_conditions_are_evaluated_by_their_kind(conditions: Any, sources: list[str], expected: bool | str) -> None:
    assert holds(conditions, {"events:source": sources}) == expected


@pytest.mark.parametrize(
    ("pattern", "text", "expected"),
    [("a*", "abc", True), ("a?c", "abc", True), ("a", "abc", False), ("<A>/[*", "<A>/[1]", True), ("*", "", True)],
)
def test_a_pattern_of_iam_has_two_wildcards_and_no_others(pattern: str, text: str, expected: bool) -> None:
    assert fits(pattern, text) is expected


# -- reasons, and what AWS itself does with a role


REASON: Final = {"action": "dynamodb:Scan", "resource": TABLE, "reason": "An operator needs it."}


def test_a_grant_that_nothing_uses_stays_with_its_reason() -> None:
    report = compared(an_app(allow("dynamodb:Query", "dynamodb:Scan"), reasons=[REASON]), QUERY)
    assert report.faults == ()
    assert report.reasons == ("ledger (Function): dynamodb:Scan on <Ledger>: An operator needs it.",)


@pytest.mark.parametrize("action", ["dynamodb:Query", "dynamodb:PutItem"], ids=["used", "not granted"])
def test_a_reason_that_is_not_needed_is_refused(action: str) -> None:
    [fault] = compared(an_app(allow("dynamodb:Query"), reasons=[{**REASON, "action": action}]), QUERY).faults
    assert f"{action} on <Ledger> is used, or is not allowed at all: take out its permit_unused" in fault


def test_lambda_may_poll_the_function_s_own_queue_and_no_other() -> None:
    more = {
        "Own": {"Type": "AWS::SQS::Queue"},
        "Other": {"Type": "AWS::SQS::Queue"},
        "Mapping": {
            "Type": "AWS::Lambda::EventSourceMapping",
            "Properties": {"FunctionName": {"Ref": "Function"}, "EventSourceArn": {"Fn::GetAtt": ["Own", "Arn"]}},
        },
    }
    queues = [{"Fn::GetAtt": [name, "Arn"]} for name in ("Own", "Other")]
    [other, url] = compared(
        an_app(
            allow("dynamodb:Query"),
            allow("sqs:ReceiveMessage", on=queues),
            allow("sqs:GetQueueUrl", on=queues[0]),
            more=more,
        ),
        QUERY,
    ).superfluous
    assert "sqs:GetQueueUrl on <Own>" in other
    assert "sqs:ReceiveMessage on <Other>" in url


# -- the clinic, and this app


@pytest.fixture(scope="module")
def clinic(tmp_path_factory: pytest.TempPathFactory) -> Templates:
    return keyed.synthesized(keyed.filled_in(ENVIRONMENT), tmp_path_factory.mktemp("clinic"), validated=False)


def changed(templates: Templates, change: Callable[[str, dict[str, Any]], None]) -> Templates:
    """The templates with their policies changed."""
    originals = {id(resource.template): resource.template for resource in templates.all()}.values()
    copies = [Template(each.path, each.stack, json.loads(json.dumps(each.body))) for each in originals]
    for copy in copies:
        for logical_id, resource in copy.body["Resources"].items():
            if resource["Type"] == "AWS::IAM::Policy":
                change(logical_id, resource)
    return Templates(copies)


def planted(templates: Templates, role: str, action: str, other: str) -> Templates:
    """The templates where a role may do another action on the ledger in place of one."""

    def change(logical_id: str, policy: dict[str, Any]) -> None:
        for statement in policy["Properties"]["PolicyDocument"]["Statement"]:
            on_ledger = "Ledger" in json.dumps(statement["Resource"])
            if logical_id.startswith(role) and on_ledger and action in statement["Action"]:
                statement["Action"] = [other if each == action else each for each in statement["Action"]]

    return changed(templates, change)


def test_a_grant_taken_out_of_an_app_and_one_put_in_are_both_found(clinic: Templates) -> None:
    reads = (QUERY, Call("dynamodb:GetItem", "LEDGER_TABLE"))
    record = Record.read().with_lines(Line("ward_report", call, "here") for call in reads)
    before = set(compare(clinic, record).faults)
    other = planted(clinic, "WardReportFunctionRole", "dynamodb:Query", "dynamodb:Scan")
    [missing, superfluous] = sorted(set(compare(other, record).faults) - before)
    assert missing.startswith("ward_report (")
    assert "WardReportFunctionRole" in missing
    assert "allows dynamodb:Scan on <LedgerSums" in missing
    assert "dynamodb:Query on <LedgerSums" in superfluous
    assert superfluous.endswith("grant it where the function is given the resource")


@pytest.mark.slow
@pytest.mark.parametrize(("build", "root"), [(compose, PROJECT), (compose_clinic, CLINIC)], ids=["this app", "clinic"])
def test_functions_may_do_in_local_and_prod_what_they_may_in_the_environment_that_is_compared(
    tmp_path: Path, build: Compose, root: Path
) -> None:
    def allowed(name: str) -> set[tuple[str, str, str]]:
        environment = keyed.filled_in(name, root)
        environment = replace(environment, sending=replace(environment.sending, destinations=DESTINATIONS))
        roles = Roles(
            keyed.synthesized(environment, tmp_path / name, build, root, validated=False), environment.aws.account
        )
        return {
            (function.source, action, _VERSION.sub("Version", resource.replace(f"/{name}/", "/ENVIRONMENT/")))
            for function in roles.functions()
            for statement in function.statements
            for action in statement.actions
            for resource in statement.resources
        }

    assert allowed("local") == allowed(ENVIRONMENT) == allowed("prod")


@pytest.mark.slow
def test_where_lanes_and_integrations_are_left_out_every_call_is_allowed_all_the_same() -> None:
    report = compare(synthesized(with_destinations("dev")), Record.read(), destinations=DESTINATIONS)
    assert report.missing == ()


# -- the record


def test_the_record_is_written_so_that_a_call_is_a_line_and_read_as_it_was(tmp_path: Path) -> None:
    record = Record({"b": [QUERY, Call("dynamodb:Query", "A_TABLE")], "a": [QUERY], "c": []})
    record.write(tmp_path / "calls.json")
    lines = (tmp_path / "calls.json").read_text().splitlines()
    assert [line.strip(' ,"') for line in lines if "TABLE" in line] == ["LEDGER_TABLE", "A_TABLE", "LEDGER_TABLE"]
    again = Record.read(tmp_path / "calls.json")
    assert (again.of("a"), again.of("b"), again.callers) == (record.of("a"), record.of("b"), ["a", "b"])


def test_a_call_that_the_record_does_not_have_is_new_and_says_where_it_was_seen() -> None:
    known, new = Line("a", QUERY, "test_1"), Line("a", Call("dynamodb:Scan", "LEDGER_TABLE"), "test_2")
    assert Record({"a": [QUERY]}).new([known, new]) == ["a: dynamodb:Scan on LEDGER_TABLE (test_2)"]


def test_a_resource_that_no_variable_holds_is_refused_with_what_to_do() -> None:
    line = Line("a", Call("dynamodb:Query", "? table visits-1"), "test_1")
    with pytest.raises(UnusableRecord, match=r"no variable holds the table 'visits-1': name the one .* tell"):
        Record({}).with_lines([line])
    assert "no variable holds the table" in Record({}).new([line])[0]


def test_an_operation_that_is_no_action_of_iam_is_refused_with_what_to_do() -> None:
    line = Line("a", Call("sqs:PurgeEverything", "X_QUEUE_URL"), "test_1")
    with pytest.raises(UnusableRecord, match=r"IAM has no action sqs:PurgeEverything: say in .*ACTIONS"):
        Record({}).with_lines([line])


@pytest.fixture
def project_is_the_clinic(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr("offload.cdk.permissions.record.PROJECT", CLINIC)
    # What this process knows of its project's events.
    _sources.cache_clear()
    yield
    _sources.cache_clear()


@pytest.mark.usefixtures("project_is_the_clinic")
def test_what_a_test_s_own_handlers_publish_is_not_a_pattern_s(tmp_path: Path) -> None:
    lines = [
        ["@job", "events:PutEvents", "OFFLOAD_BUS from offload.jobs", "t"],
        ["@job", "events:PutEvents", "OFFLOAD_BUS from made.up", "t"],
        ["@consumer", "events:PutEvents", "OFFLOAD_BUS from clinic", "t"],
        ["supply_levels", "events:PutEvents", "OFFLOAD_BUS from made.up", "t"],
        ["a_test_s_own", "events:PutEvents", "OFFLOAD_BUS from clinic", "t"],
    ]
    (tmp_path / "1.jsonl").write_text("\n".join(json.dumps(line) for line in lines))
    assert [(line.caller, line.call.resource) for line in read_lines(tmp_path)] == [
        ("@job", "OFFLOAD_BUS from offload.jobs"),
        ("supply_levels", "OFFLOAD_BUS from made.up"),
    ]


@pytest.mark.slow
@pytest.mark.parametrize("operations", [("query",), ("get_item", "delete_item")])
def test_a_run_says_which_calls_are_new_and_fails_for_one_that_no_role_allows(
    tmp_path: Path, operations: tuple[str, ...]
) -> None:
    Record({"ward_report": [QUERY]}).write(tmp_path / "calls.json")
    (tmp_path / "conftest.py").write_text(
        "from pathlib import Path\n"
        "from tests.calls import plugin\n"
        "from tests.calls.plugin import pytest_configure, pytest_sessionfinish, pytest_terminal_summary\n"
        f"plugin.RECORD = Path({str(tmp_path / 'calls.json')!r})\n"
    )
    (tmp_path / "test_one.py").write_text(
        "import boto3\n"
        "from tests.calls.recording import acting_as\n"
        "def test_one(monkeypatch):\n"
        "    monkeypatch.setenv('LEDGER_TABLE', 'visits')\n"
        "    keys = {'aws_access_key_id': 'a', 'aws_secret_access_key': 'b'}\n"
        "    client = boto3.client('dynamodb', region_name='eu-west-1', **keys)\n"
        f"    for operation in {operations!r}:\n"
        "        params = {'TableName': 'visits'} | ({} if operation == 'query' else {'Key': {}})\n"
        "        with acting_as('ward_report'):\n"
        "            client.generate_presigned_url(operation, Params=params)\n"
    )
    run = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--rootdir", str(tmp_path), str(tmp_path)],
        # The app of this folder is what is compared.
        cwd=CLINIC,
        # Node is beside this Python.
        env={"PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin", "PYTHONPATH": str(PROJECT)},
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE,
    )
    new = re.findall(r"^ward_report: dynamodb:(\w+) on LEDGER_TABLE \(test_one", run.stdout, re.MULTILINE)
    refused = re.findall(r"^ward_report .*: dynamodb:(\w+) on .*its role does not allow", run.stdout, re.MULTILINE)
    # The report may read single items of the ledger too; it may not delete any.
    assert (new, refused) == (([], []) if operations == ("query",) else (["DeleteItem", "GetItem"], ["DeleteItem"]))
    assert run.returncode == int(bool(refused)), run.stdout + run.stderr
    assert ("`make calls` writes them down" in run.stdout) == bool(new)
