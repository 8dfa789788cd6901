"""What the preflight decides by what it was answered: no AWS, tables of cases."""

from __future__ import annotations

from typing import Any

import pytest

from offload.cli.preflight import account, changes, quotas, region, stacks
from offload.cli.preflight.assembly import Assembly, Kept, NewStack
from offload.cli.preflight.facts import Facts, OldStack
from offload.cli.preflight.item import Item, Untold, not_known, refused, warning
from offload.cli.preflight.report import accept, lines, summary

DENIED = Untold("denied", "x:Read", "no")
HERE = "123456789012"
CALLER = f"arn:aws:sts::{HERE}:assumed-role/Admin/jo"
TABLE = "AWS::DynamoDB::Table"
TABLE_SCHEMA = {"properties": {"TableName": {}, "Tags": {}}, "createOnlyProperties": ["/properties/TableName"]}
CLINIC = "offload-dev-clinic"


def a_stack(**resources: Any) -> NewStack:
    return NewStack(CLINIC, {"Resources": resources})


def deployed(name: str = CLINIC, status: str = "UPDATE_COMPLETE", **more: Any) -> OldStack:
    return OldStack(name, f"arn:aws:cloudformation:eu-west-1:{HERE}:stack/{name}/1", status, **more)


def a_table(policy: str = "Retain", **properties: Any) -> dict[str, Any]:
    return {"Type": TABLE, "Properties": properties, "DeletionPolicy": policy, "UpdateReplacePolicy": policy}


def function(reserved: int | None = None) -> dict[str, Any]:
    return {
        "Type": "AWS::Lambda::Function",
        "Properties": {} if reserved is None else {"ReservedConcurrentExecutions": reserved},
    }


def mapping(function: str, maximum: int | None) -> dict[str, Any]:
    scaling = {} if maximum is None else {"ScalingConfig": {"MaximumConcurrency": maximum}}
    return {"Type": "AWS::Lambda::EventSourceMapping", "Properties": {"FunctionName": {"Ref": function}, **scaling}}


@pytest.mark.parametrize(
    ("kept", "level", "says"),
    [
        (Kept("dev"), "ok", f"{HERE} as assumed-role/Admin/jo; environments/dev.toml names none"),
        (Kept("dev", account=HERE), "ok", f"{HERE} as assumed-role/Admin/jo, the one in environments/dev.toml"),
        (Kept("prod", keep=True), "refused", "environments/prod.toml keeps data and names no account"),
        (
            Kept("prod", account="210987654321"),
            "refused",
            f"the credentials are of account {HERE} (assumed-role/Admin/jo); "
            "environments/prod.toml belongs to 210987654321",
        ),
    ],
)
def test_an_account_is_the_one_of_the_environments_file_or_is_refused(kept: Kept, level: str, says: str) -> None:
    item = account.account(kept, HERE, CALLER)
    assert (item.level, item.says) == (level, says)


@pytest.mark.parametrize(
    ("kept", "level", "fix"),
    [
        (Kept("dev"), "ok", ""),
        (Kept("dev", region="eu-west-1"), "ok", ""),
        (Kept("dev", region="eu-central-1"), "refused", "export AWS_REGION=eu-central-1"),
        (Kept("prod", keep=True), "refused", '[aws] region = "eu-west-1"'),
    ],
)
def test_a_region_is_the_one_of_the_environments_file_or_is_refused(kept: Kept, level: str, fix: str) -> None:
    item = account.region(kept, "eu-west-1")
    assert item.level == level
    assert fix in item.fix


@pytest.mark.parametrize(
    ("has", "level", "says"),
    [
        ("21", "ok", "version 21, 6 needed"),
        ("6", "ok", "version 6, 6 needed"),
        ("5", "refused", "version 5; the assembly needs 6"),
        ("old", "refused", "version old; the assembly needs 6"),
        (None, "refused", "this account and Region are not bootstrapped: no /cdk-bootstrap/x/version"),
        (DENIED, "warning", "not checked: x:Read is denied"),
    ],
)
def test_a_bootstrap_is_as_new_as_the_assembly_needs(has: str | Untold | None, level: str, says: str) -> None:
    item = account.bootstrap({"/cdk-bootstrap/x/version": 6}, {"/cdk-bootstrap/x/version": has}, "dev")
    assert (item.level, item.says) == (level, says)
    assert item.fix == ("make bootstrap ENV=dev" if level == "refused" else item.fix)


USED = {"AWS::Lambda::Function": frozenset({"Code", "DurableConfig"}), TABLE: frozenset({"Tags"})}
LAMBDA_SCHEMA: dict[str, Any] = {"properties": {"Code": {}, "DurableConfig": {}}}


@pytest.mark.parametrize(
    ("schemas", "found"),
    [
        ({"AWS::Lambda::Function": LAMBDA_SCHEMA, TABLE: TABLE_SCHEMA}, [("ok", "eu-west-1 has all 2 resource types")]),
        ({"AWS::Lambda::Function": LAMBDA_SCHEMA, TABLE: None}, [("refused", f"eu-west-1 has no {TABLE}")]),
        (
            {"AWS::Lambda::Function": {"properties": {"Code": {}}}, TABLE: TABLE_SCHEMA},
            [("refused", "eu-west-1 knows no DurableConfig of AWS::Lambda::Function")],
        ),
        (
            {"AWS::Lambda::Function": DENIED, TABLE: None},
            [("refused", f"eu-west-1 has no {TABLE}"), ("warning", "not checked: x:Read is denied")],
        ),
    ],
)
def test_a_type_or_property_that_the_region_lacks_is_refused_by_name(
    schemas: dict[str, Any], found: list[tuple[str, str]]
) -> None:
    items = region.types(USED, schemas, "eu-west-1")
    assert [item.level for item in items] == [level for level, _ in found]
    for item, (_, says) in zip(items, found, strict=True):
        assert item.says.startswith(says)


@pytest.mark.parametrize(
    ("schema", "asked", "level"),
    [
        (LAMBDA_SCHEMA, None, "ok"),
        ({"properties": {}}, None, "refused"),
        (LAMBDA_SCHEMA, DENIED, "warning"),
        (LAMBDA_SCHEMA, Untold("failed", "x:Read", "403"), "warning"),
        (LAMBDA_SCHEMA, Untold("unsupported", "x:Read"), "warning"),
        (LAMBDA_SCHEMA, {"DurableExecutions": []}, "warning"),
        (DENIED, None, "ok"),
    ],
)
def test_durable_functions_are_there_when_lambda_knows_the_question_about_them(
    schema: Any, asked: Any, level: str
) -> None:
    assert region.durable(USED, {"AWS::Lambda::Function": schema}, asked, "eu-west-1").level == level


def test_durable_functions_are_not_looked_for_where_no_template_has_one() -> None:
    assert region.durable({TABLE: frozenset()}, {}, DENIED, "eu-west-1").level == "ok"


@pytest.mark.parametrize(("count", "level"), [(399, "ok"), (400, "warning"), (500, "warning"), (501, "refused")])
def test_a_stack_over_500_resources_is_refused_and_one_near_it_warned_of(count: int, level: str) -> None:
    stack = a_stack(**{f"T{number}": a_table() for number in range(count)})
    (item,) = quotas.resources(Assembly((stack,)))
    assert item.level == level
    assert str(count) in item.says


@pytest.mark.parametrize(
    ("names", "limits", "level"),
    [
        (("a",) * 10, {"StackLimit": 2000}, "ok"),
        (("a",) * 1999, {"StackLimit": 2000}, "refused"),
        (("a",), {}, "ok"),
        (DENIED, {"StackLimit": 2000}, "warning"),
        (("a",), DENIED, "warning"),
    ],
)
def test_the_accounts_stacks_have_room_for_the_new_ones(names: Any, limits: Any, level: str) -> None:
    assert quotas.stacks(2, names, limits).level == level


@pytest.mark.parametrize(
    ("resources", "limit", "free", "levels"),
    [
        ({"F": function(), "M": mapping("F", 5)}, 1000, 1000, ["ok"]),
        ({"F": function(), "M": mapping("F", 50)}, 10, 10, ["warning"]),  # a new account
        ({"F": function(), "M": mapping("F", None)}, 10, 10, ["ok"]),
        ({"F": function(20), "M": mapping("F", 20)}, 1000, 1000, ["ok"]),
        ({"F": function(20), "M": mapping("F", 20)}, 110, 110, ["refused"]),  # 90 would stay, AWS keeps 100
        ({"F": function(20), "M": mapping("F", 200)}, 1000, 130, ["ok"]),  # the mapping is bounded by its function
        ({"F": function(20), "G": function(), "M": mapping("G", 90)}, 100, 100, ["refused", "warning"]),
    ],
)
def test_concurrency_counts_reserved_and_queues_against_what_the_account_has_left(
    resources: dict[str, Any], limit: int, free: int, levels: list[str]
) -> None:
    settings = {"ConcurrentExecutions": limit, "UnreservedConcurrentExecutions": free}
    items = quotas.concurrency(Assembly((a_stack(**resources),)), {}, settings)
    assert [item.level for item in items] == levels


def test_what_the_deployed_stack_reserves_already_is_not_counted_twice() -> None:
    resources = {"F": function(20)}
    old = deployed(template={"Resources": resources})
    limit = {"ConcurrentExecutions": 120, "UnreservedConcurrentExecutions": 100}
    (item,) = quotas.concurrency(Assembly((a_stack(**resources),)), {old.name: old}, limit)
    assert item.level == "ok"


DELIVERY = quotas.LOG_DELIVERY


@pytest.mark.parametrize(
    ("groups", "policies", "level"),
    [
        (3, [], "ok"),
        (3, [{"policyName": DELIVERY, "policyDocument": "x" * 3000}], "ok"),
        (3, [{"policyName": DELIVERY, "policyDocument": "x" * 3700}], "warning"),
        (0, [{"policyName": DELIVERY, "policyDocument": "x" * 5100}], "ok"),
        (3, [{"policyName": DELIVERY, "policyDocument": "x" * 5000}], "warning"),
        (3, [{"policyName": DELIVERY, "policyDocument": "x" * 51_000}], "refused"),
        (3, [{"policyName": str(number)} for number in range(10)], "refused"),
        (3, [{"policyName": str(number), "resourceArn": "a"} for number in range(10)], "ok"),
        (3, [{"policyName": DELIVERY}, *({"policyName": str(number)} for number in range(9))], "ok"),
    ],
)
def test_the_accounts_log_policies_have_room_for_the_access_logs(
    groups: int, policies: list[dict[str, Any]], level: str
) -> None:
    assert quotas.log_policies(groups, tuple(policies)).level == level


def test_only_new_groups_outside_of_vendedlogs_need_room_in_the_log_policy() -> None:
    def api(name: str, group: dict[str, Any]) -> dict[str, Any]:
        arn = {"Fn::GetAtt": [f"{name}Log", "Arn"]}
        stage = {"Type": "AWS::ApiGatewayV2::Stage", "Properties": {"AccessLogSettings": {"DestinationArn": arn}}}
        return {f"{name}Log": {"Type": "AWS::Logs::LogGroup", "Properties": group}, f"{name}Stage": stage}

    new = a_stack(**api("New", {}), **api("Vended", {"LogGroupName": "/aws/vendedlogs/x"}), **api("Old", {}))
    old = deployed(template={"Resources": api("Old", {})})
    assert quotas.access_log_groups(Assembly((new,)), {new.name: old}) == 1
    assert quotas.access_log_groups(Assembly((new,)), {new.name: None}) == 2


@pytest.mark.parametrize(
    ("status", "protected", "level"),
    [
        ("CREATE_COMPLETE", True, "ok"),
        ("UPDATE_ROLLBACK_COMPLETE", False, "ok"),
        ("REVIEW_IN_PROGRESS", False, "ok"),
        ("UPDATE_IN_PROGRESS", False, "refused"),
        ("UPDATE_COMPLETE_CLEANUP_IN_PROGRESS", False, "refused"),
        ("ROLLBACK_COMPLETE", False, "warning"),
        ("ROLLBACK_COMPLETE", True, "warning"),
        ("ROLLBACK_FAILED", False, "refused"),
        ("CREATE_FAILED", False, "refused"),
        ("UPDATE_ROLLBACK_FAILED", False, "refused"),
        ("DELETE_FAILED", False, "refused"),
    ],
)
def test_a_stack_that_cannot_be_updated_is_refused(status: str, protected: bool, level: str) -> None:
    item = stacks.state(a_stack(), deployed(status=status, protected=protected), "dev")
    assert item.level == level
    assert status in item.says or level == "ok"


def test_a_stack_that_is_not_there_is_a_first_deploy_and_one_that_cannot_be_read_is_a_warning() -> None:
    assert stacks.state(a_stack(), None, "dev").says == "offload-dev-clinic: not deployed yet"
    assert stacks.state(a_stack(), DENIED, "dev").level == "warning"


@pytest.mark.parametrize(
    ("keep", "new", "old", "level", "says"),
    [
        (False, False, False, "ok", "not needed"),
        (True, False, False, "warning", "without termination protection"),
        (True, True, False, "ok", "the deploy switches it on"),
        (True, True, True, "ok", "on"),
    ],
)
def test_kept_data_has_termination_protection(keep: bool, new: bool, old: bool, level: str, says: str) -> None:
    stack = NewStack(CLINIC, {}, termination_protection=new)
    item = stacks.protection(Kept("dev", keep=keep), Assembly((stack,)), {stack.name: deployed(protected=old)})
    assert item.level == level
    assert says in item.says


@pytest.mark.parametrize(
    ("email", "subscriptions", "level", "says"),
    [
        (None, {}, "ok", "none in the environment's file"),
        ("a@b.co", {}, "ok", "after the first deploy"),
        ("a@b.co", {"t": ({"Endpoint": "x@b.co", "SubscriptionArn": "arn"},)}, "ok", "is new"),
        ("a@b.co", {"t": ({"Endpoint": "A@b.co", "SubscriptionArn": "arn:aws:sns:x"},)}, "ok", "has confirmed"),
        ("a@b.co", {"t": ({"Endpoint": "a@b.co", "SubscriptionArn": "PendingConfirmation"},)}, "warning", "no alarm"),
        ("a@b.co", {"t": ({"Endpoint": "a@b.co", "SubscriptionArn": "Deleted"},)}, "warning", "unsubscribed"),
        ("a@b.co", {"t": DENIED}, "warning", "not checked: x:Read is denied"),
        ("a@b.co", {"t": None}, "ok", "is new"),
    ],
)
def test_an_address_that_has_not_confirmed_is_warned_of(
    email: str | None, subscriptions: dict[str, Any], level: str, says: str
) -> None:
    item = stacks.address(Kept("dev", email=email), subscriptions, {})
    assert item.level == level
    assert says in item.says


@pytest.mark.parametrize("stack", [DENIED, deployed(resources=DENIED)])
def test_an_address_is_not_known_where_the_topic_cannot_be_found(stack: Any) -> None:
    item = stacks.address(Kept("dev", email="a@b.co"), {}, {CLINIC: stack})
    assert (item.level, item.says) == ("warning", "not checked: x:Read is denied")


def test_a_stack_of_the_environment_that_the_app_no_longer_has_is_named() -> None:
    names = (CLINIC, "offload-dev-old", "offload-devil", "offload-dev-2-clinic", "other")
    (item,) = stacks.left_over(Assembly((a_stack(),)), names, "dev", ["dev-2"])
    assert "offload-dev-old" in item.says


def changed(before: dict[str, Any], after: dict[str, Any]) -> list[tuple[str, str, str]]:
    found = changes.compare(a_stack(**after), deployed(template={"Resources": before}), {TABLE: TABLE_SCHEMA})
    return [(each.kind, each.path, each.policy) for each in found]


@pytest.mark.parametrize(
    ("before", "after", "found"),
    [
        ({"T": a_table()}, {"T": a_table(Tags=[1])}, []),
        ({}, {"T": a_table()}, [("added", "T", "")]),
        ({"T": a_table("Retain")}, {}, [("deleted", "T", "Retain")]),
        ({"T": {"Type": TABLE}}, {}, [("deleted", "T", "Delete")]),
        ({"T": a_table("Delete")}, {"T": a_table("Delete", TableName="b")}, [("replaced", "T", "Delete")]),
        ({"T": a_table("Retain", TableName="a")}, {"T": a_table("Retain")}, [("replaced", "T", "Retain")]),
        ({"T": a_table("Retain")}, {"T": a_table("Delete", TableName="b")}, [("replaced", "T", "Delete")]),
        ({"T": a_table()}, {"T": {"Type": "AWS::SQS::Queue"}}, [("retyped", "T", "")]),
        (
            {"V1": {"Type": "AWS::Lambda::Version", "Properties": {"FunctionName": {"Ref": "F"}}}},
            {"V2": {"Type": "AWS::Lambda::Version", "Properties": {"FunctionName": {"Ref": "F"}}}},
            [],
        ),
        (
            {"V1": {"Type": "AWS::Lambda::Version", "Properties": {"FunctionName": {"Ref": "F"}}}},
            {},
            [("deleted", "V1", "Delete")],
        ),
    ],
)
def test_a_deploys_changes_are_told_with_what_becomes_of_the_old_resource(
    before: dict[str, Any], after: dict[str, Any], found: list[tuple[str, str, str]]
) -> None:
    assert changed(before, after) == found


def test_a_replacement_is_found_in_a_nested_property_and_in_a_list() -> None:
    schema = {"createOnlyProperties": ["/properties/A/B", "/properties/L/*/C"]}

    def replaced(old: dict[str, Any], new: dict[str, Any]) -> bool:
        resource = {"Type": "AWS::X::Y"}
        before = deployed(template={"Resources": {"R": resource | {"Properties": old}}})
        after = a_stack(R=resource | {"Properties": new})
        return [each.kind for each in changes.compare(after, before, {"AWS::X::Y": schema})] == ["replaced"]

    assert replaced({"A": {"B": 1}}, {"A": {"B": 2}})
    assert replaced({"L": [{"C": 1}]}, {"L": [{"C": 2}]})
    assert not replaced({"A": {"B": 1, "X": 1}, "L": [{"C": 1, "D": 1}]}, {"A": {"B": 1}, "L": [{"C": 1}]})


@pytest.mark.parametrize(("keep", "level"), [(True, "refused"), (False, "warning")])
@pytest.mark.parametrize("kind", ["deleted", "replaced"])
def test_the_loss_of_data_is_refused_where_data_is_kept(keep: bool, level: str, kind: Any) -> None:
    change = changes.Change(kind, "s", "Ledger", TABLE, "Delete")
    (item,) = changes.judge(Kept("prod", keep=keep), [change], None)
    assert (item.level, item.name) == (level, "data")
    assert "s/Ledger" in item.says


def test_what_outlives_its_stack_is_said_and_what_holds_nothing_goes_quietly() -> None:
    items = changes.judge(
        Kept("dev"),
        [
            changes.Change("deleted", "s", "Ledger", TABLE, "Retain"),
            changes.Change("deleted", "s", "Alarm", "AWS::CloudWatch::Alarm", "Delete"),
            changes.Change("added", "s", "Queue", "AWS::SQS::Queue"),
        ],
        None,
    )
    assert [(item.level, item.name) for item in items] == [("ok", "deletes"), ("warning", "keeps"), ("ok", "adds")]
    assert "1 DynamoDB::Table" in items[1].says


def test_without_the_regions_schemas_it_is_said_that_replacements_are_not_known() -> None:
    (item,) = changes.judge(Kept("dev"), [], DENIED)
    assert (item.level, item.name) == ("warning", "changes")
    assert "x:Read is denied" in item.says
    assert changes.judge(Kept("dev"), [], None) == [Item("ok", "changes", "adds, replaces and deletes nothing")]


def facts(**more: Any) -> Facts:
    return Facts(HERE, "eu-west-1", CALLER, **more)


def owned(logical_id: str) -> dict[str, Any]:
    summary = {"LogicalResourceId": logical_id, "ResourceStatus": "CREATE_COMPLETE", "ResourceType": "x"}
    return {CLINIC: deployed(resources=(summary,))}


PLACE = {"Type": "AWS::SSM::Parameter", "Properties": {"Name": "/offload/dev/jobs/x"}}
QUEUE = {"Type": "AWS::SQS::Queue", "Properties": {"QueueName": {"Fn::Sub": "q-${AWS::AccountId}"}}}


@pytest.mark.parametrize(
    ("resources", "found", "level", "says"),
    [
        ({"P": PLACE}, {}, "ok", "1 names"),
        ({"P": PLACE}, {"parameters": frozenset({"/offload/dev/jobs/x"})}, "refused", "/offload/dev/jobs/x exists"),
        ({"P": PLACE}, {"parameters": frozenset({"/offload/dev/jobs/x"}), "stacks": owned("P")}, "ok", "1 names"),
        # A construct with another id: CloudFormation makes the new parameter before it deletes the old one.
        ({"P": PLACE}, {"parameters": frozenset({"/offload/dev/jobs/x"}), "stacks": owned("Old")}, "refused", "'s P:"),
        ({"P": PLACE}, {"parameters": DENIED}, "warning", "x:Read is denied"),
        (
            {"P": PLACE},
            {
                "parameters": frozenset({"/offload/dev/jobs/x"}),
                "stacks": {CLINIC: deployed(resources=DENIED)},
            },
            "warning",
            "x:Read is denied",
        ),
        (
            {"Q": QUEUE},
            {"tagged": ({"ResourceARN": f"arn:aws:sqs:eu-west-1:{HERE}:q-{HERE}"},)},
            "refused",
            f"q-{HERE} exists",
        ),
        ({"Q": {"Type": "AWS::SQS::Queue", "Properties": {"QueueName": {"Ref": "X"}}}}, {}, "ok", "0 names"),
    ],
)
def test_a_name_that_something_outside_of_the_stack_has_is_refused(
    resources: dict[str, Any], found: dict[str, Any], level: str, says: str
) -> None:
    names = changes.physical_names(Assembly((a_stack(**resources),)), HERE, "eu-west-1")
    (item,) = changes.taken(names, facts(**found))
    assert item.level == level
    assert says in item.says


def tagged(arn: str, stack: str) -> dict[str, Any]:
    name = stack.split("/")[1]
    tags = {"environment": "dev", "aws:cloudformation:stack-id": stack, "aws:cloudformation:stack-name": name}
    return {"ResourceARN": arn, "Tags": [{"Key": key, "Value": value} for key, value in tags.items()]}


def test_what_an_earlier_stack_left_is_counted_by_kind() -> None:
    living, gone = deployed(), "arn:aws:cloudformation:eu-west-1:1:stack/offload-dev-clinic/0"
    item = changes.orphans(
        facts(
            stacks={living.name: living},
            tagged=(
                tagged("arn:aws:dynamodb:eu-west-1:1:table/kept", gone),
                tagged("arn:aws:dynamodb:eu-west-1:1:table/own", living.id),
                tagged("arn:aws:s3:::bucket", gone),
                tagged("arn:aws:s3:::else", "arn:aws:cloudformation:eu-west-1:1:stack/another-app/0"),
                {"ResourceARN": "arn:aws:s3:::by-hand", "Tags": [{"Key": "environment", "Value": "dev"}]},
            ),
        ),
        "dev",
    )
    assert item.level == "warning"
    assert item.says == "2 resources of earlier stacks remain: 1 dynamodb table, 1 s3"


def test_what_is_left_is_not_judged_where_tags_or_stacks_cannot_be_read() -> None:
    assert changes.orphans(facts(tagged=DENIED), "dev").level == "warning"
    assert changes.orphans(facts(stacks={CLINIC: DENIED}), "dev").level == "warning"


def test_a_refusal_can_be_accepted_by_its_name_but_not_the_wrong_account() -> None:
    data = refused("data", "the deploy deletes a table", "keep it")
    assert accept(data, ["data"]) == Item("warning", "data", data.says, "accepted by --accept data")
    assert accept(data, ["names"]) == data
    wrong = refused("account", "of another account", "use its credentials")
    assert accept(wrong, ["account"]) == wrong


@pytest.mark.parametrize("why", ["denied", "unsupported", "failed"])
def test_a_question_without_an_answer_is_a_warning_that_names_the_permission(why: Any) -> None:
    item = not_known("types", Untold(why, "cloudformation:DescribeType", "timed out"))
    assert item.level == "warning"
    assert "cloudformation:DescribeType" in item.says


def test_the_report_fits_into_80_columns_and_names_each_fix() -> None:
    items = [
        Item("ok", "account", "short"),
        refused("names", "AWS::SSM::Parameter /offload/prod/jobs/x exists " + "and more words " * 5, "delete " * 20),
        warning("keeps", "something", "a fix"),
    ]
    printed = lines(items)
    assert max(map(len, printed)) <= 80
    assert printed[0] == "ok       account       short"
    assert sum("fix: " in line for line in printed) == 2
    assert summary("prod", items) == "prod: do not deploy: 1 refused, 1 warnings, 1 ok"
