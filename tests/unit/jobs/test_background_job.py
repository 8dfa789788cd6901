"""The job service and BackgroundJob, by what they put into templates and what they refuse."""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Sequence
from datetime import timedelta
from functools import cached_property
from pathlib import Path
from typing import Any

import pytest
from aws_cdk import App, Stack
from msgspec import Struct
from msgspec.structs import replace

from offload.cdk.access import Access
from offload.cdk.constructs.event_bus import EventBus
from offload.cdk.constructs.job_service import JobService
from offload.cdk.constructs.operators import Operators
from offload.cdk.constructs.python_function import ROOT_CONTEXT
from offload.cdk.environment import Queues
from offload.cdk.guardrails import guard
from offload.cdk.patterns.background_job import BackgroundJob, UnusableJobType
from offload.cli.schemas import job_steps
from offload.contracts.catalogue import Catalogue
from offload.contracts.jobs.job_type import JobType, Priority, Retention, Schedule
from offload.project import PROJECT
from tests.environments import with_address

pytestmark = pytest.mark.synthesis

CONTEXT: dict[str, Any] = json.loads((PROJECT / "cdk.json").read_text(encoding="utf-8"))["context"]
BOUNDED = Queues()
FUNCTIONS = ("jobs_api", "job_sweeper", "job_submitter", "job_starter", "mail", "letters")

Template = dict[str, Any]


class Mail(Struct, frozen=True):
    to: str = ""


def mail(**settings: Any) -> JobType[Mail, Mail]:
    return JobType(**{"name": "mail", "input": Mail, "result": Mail, **settings})


class Deployed:
    """A service in one stack and jobs in another, guarded as the app is."""

    def __init__(self, folder: Path, *jobs: JobType[Any, Any], queues: Queues = BOUNDED) -> None:
        for name in FUNCTIONS:
            (folder / "lambdas" / name).mkdir(parents=True)
        self.app = App(
            outdir=str(folder / "out"),
            context=CONTEXT | {"aws:cdk:bundling-stacks": [], ROOT_CONTEXT: str(folder)},
        )
        guard(self.app)
        replace(with_address("dev"), queues=queues).attach(self.app)
        platform = Stack(self.app, "Platform")
        Operators(platform, "Operators")
        self.service = JobService(
            platform, "Jobs", bus=EventBus(platform, "Events", catalogue=Catalogue("app.catalogue", jobs=jobs))
        )
        # A test's types are known when it names them.
        self.types = self.service.types = dict(self.service.types)

    @cached_property
    def clinic(self) -> Stack:
        return Stack(self.app, "Clinic")

    def job(self, job_type: JobType[Any, Any], name: str = "Mail", **settings: Any) -> BackgroundJob:
        self.types[job_type.name] = job_type
        return BackgroundJob(
            self.clinic, name, **{"source": name.lower(), "job": job_type, "service": self.service, **settings}
        )

    def templates(self) -> tuple[Template, Template]:
        """The service's template and the jobs'; raises RuntimeError when the guardrails refuse them."""
        assembly = self.app.synth()
        found = {stack.stack_name: stack.template for stack in assembly.stacks}
        return found["Platform"], found.get("Clinic", {})


@pytest.fixture
def deployed(tmp_path: Path) -> Deployed:
    return Deployed(tmp_path)


def of_type(template: Template, kind: str) -> dict[str, dict[str, Any]]:
    """The properties of the resources of a type, by logical id."""
    return {
        logical_id: resource.get("Properties", {})
        for logical_id, resource in template["Resources"].items()
        if resource["Type"] == kind
    }


def mappings(template: Template) -> list[dict[str, Any]]:
    return list(of_type(template, "AWS::Lambda::EventSourceMapping").values())


def functions(template: Template, name: str) -> dict[str, Any]:
    [found] = [body for key, body in of_type(template, "AWS::Lambda::Function").items() if key.startswith(name)]
    return found


def allowed(template: Template, action: str, *, role: str) -> list[Any]:
    """The resources on which the policies of a template allow a role an action."""
    found: list[Any] = []
    for policy in of_type(template, "AWS::IAM::Policy").values():
        if role in json.dumps(policy["Roles"]):
            for statement in policy["PolicyDocument"]["Statement"]:
                actions, resources = statement["Action"], statement["Resource"]
                if action in (actions if isinstance(actions, list) else [actions]):
                    found += resources if isinstance(resources, list) else [resources]
    return found


def queue_ids(template: Template, *names: str) -> set[str]:
    return {key for key in of_type(template, "AWS::SQS::Queue") if key.startswith(names)}


def named(resources: Sequence[Any]) -> set[str]:
    """The logical ids that a list of resources refers to within its own stack."""
    return {value["Fn::GetAtt"][0] for value in resources if "Fn::GetAtt" in value}


def test_a_type_has_a_queue_for_each_lane_and_one_dead_letter_queue_with_an_alarm(deployed: Deployed) -> None:
    deployed.job(mail(lanes=tuple(Priority), timeout=timedelta(minutes=2)))
    _, clinic = deployed.templates()
    queues = of_type(clinic, "AWS::SQS::Queue")
    [letters] = [name for name, queue in queues.items() if "RedrivePolicy" not in queue]
    lanes = [queue for queue in queues.values() if "RedrivePolicy" in queue]
    assert len(lanes) == 3
    assert {queue["RedrivePolicy"]["deadLetterTargetArn"]["Fn::GetAtt"][0] for queue in lanes} == {letters}
    assert {queue["VisibilityTimeout"] for queue in lanes} == {6 * 120}
    [alarm] = of_type(clinic, "AWS::CloudWatch::Alarm").values()
    assert alarm["Dimensions"] == [{"Name": "QueueName", "Value": {"Fn::GetAtt": [letters, "QueueName"]}}]


def test_the_function_has_the_types_timeout_and_memory_and_finds_its_state(deployed: Deployed) -> None:
    deployed.job(mail(timeout=timedelta(seconds=90.5), memory_mb=1024), variables={"POSTAGE": "85"})
    _, clinic = deployed.templates()
    function = functions(clinic, "MailFunction")
    assert (function["Timeout"], function["MemorySize"]) == (91, 1024)
    variables = function["Environment"]["Variables"]
    assert variables["OFFLOAD_JOB"] == "mail"
    assert variables["OFFLOAD_JOBS_PATH"] == "/offload/dev/jobs"
    assert variables["POSTAGE"] == "85"
    assert {
        "OFFLOAD_JOBS_TABLE",
        "OFFLOAD_JOBS_BUCKET",
        "OFFLOAD_BUS",
        "OFFLOAD_DEAD_LETTER_QUEUE_URL",
    } <= variables.keys()


def test_a_nudge_comes_alone_and_a_bad_one_is_reported(deployed: Deployed) -> None:
    deployed.job(mail())
    [mapping] = mappings(deployed.templates()[1])
    assert mapping["BatchSize"] == 1
    assert mapping["FunctionResponseTypes"] == ["ReportBatchItemFailures"]


@pytest.mark.parametrize(("limit", "bound"), [(1, 2), (2, 2), (7, 7), (1000, 1000), (5000, 1000)])
def test_a_limit_of_the_type_bounds_what_its_queues_start(deployed: Deployed, limit: int, bound: int) -> None:
    deployed.job(mail(concurrency=limit))
    [mapping] = mappings(deployed.templates()[1])
    assert mapping["ScalingConfig"] == {"MaximumConcurrency": bound}


def test_the_parameter_of_a_type_says_where_its_lanes_are(deployed: Deployed) -> None:
    deployed.job(mail(lanes=(Priority.HIGH, Priority.NORMAL)))
    _, clinic = deployed.templates()
    [parameter] = of_type(clinic, "AWS::SSM::Parameter").values()
    assert parameter["Name"] == "/offload/dev/jobs/mail"
    separator, parts = parameter["Value"]["Fn::Join"]
    place = json.loads(separator.join(part if isinstance(part, str) else part["Ref"] for part in parts))
    assert "function" not in place
    assert set(place["queues"]) == {"high", "normal"}
    assert set(place["queues"].values()) == queue_ids(clinic, "MailHigh", "MailNormal")


def test_where_one_queue_is_for_all_lanes_each_lane_is_there(tmp_path: Path) -> None:
    one = Deployed(tmp_path, queues=Queues(concurrency="any", lanes="one"))
    one.job(mail(lanes=tuple(Priority), concurrency=7))
    _, clinic = one.templates()
    [queue] = queue_ids(clinic, "MailNormal", "MailHigh", "MailLow")
    [parameter] = of_type(clinic, "AWS::SSM::Parameter").values()
    separator, parts = parameter["Value"]["Fn::Join"]
    place = json.loads(separator.join(part if isinstance(part, str) else part["Ref"] for part in parts))
    assert place["queues"] == dict.fromkeys(("high", "normal", "low"), queue)
    [mapping] = mappings(clinic)
    assert "ScalingConfig" not in mapping


def test_whoever_submits_or_settles_may_nudge_a_type_by_a_policy_of_the_types_own_stack(deployed: Deployed) -> None:
    deployed.job(mail())
    platform, clinic = deployed.templates()
    for role in ("JobsApiRole", "JobsTimekeeperRole"):
        assert named(allowed(clinic, "sqs:SendMessage", role=role)) == queue_ids(clinic, "MailNormal")
        assert len(allowed(clinic, "ssm:GetParameter", role=role)) == 1
    assert not allowed(platform, "sqs:SendMessage", role="JobsApiRole")
    assert "Clinic" not in json.dumps(platform)


def test_a_function_touches_its_own_state_and_what_it_was_granted(deployed: Deployed) -> None:
    deployed.job(mail(), grants=(Access(lambda _: None, {"LEDGER_TABLE": "ledger"}),))
    _, clinic = deployed.templates()
    assert functions(clinic, "MailFunction")["Environment"]["Variables"]["LEDGER_TABLE"] == "ledger"
    assert named(allowed(clinic, "sqs:SendMessage", role="MailFunctionRole")) == queue_ids(
        clinic, "MailNormal", "MailDeadLetter"
    )
    assert len(allowed(clinic, "ssm:GetParameter", role="MailFunctionRole")) == 1
    put, got = (json.dumps(allowed(clinic, f"s3:{verb}Object", role="MailFunctionRole")) for verb in ("Put", "Get"))
    assert "/results/*" in put
    assert "/uploads/*" not in put
    assert "/results/*" in got
    assert "/uploads/*" not in got
    assert not allowed(clinic, "dynamodb:Scan", role="MailFunctionRole")


def test_only_a_job_whose_input_names_uploads_may_read_them(deployed: Deployed) -> None:
    deployed.job(mail(), grants=(deployed.service.uploads,))
    _, clinic = deployed.templates()
    assert "/uploads/*" in json.dumps(allowed(clinic, "s3:GetObject", role="MailFunctionRole"))


def test_only_a_job_that_writes_in_parts_may_give_up_its_own_results_parts(deployed: Deployed) -> None:
    deployed.job(mail(), grants=(deployed.service.write_in_parts,))
    deployed.job(mail(name="letters"), "Letters")
    _, clinic = deployed.templates()
    [allowed_on] = allowed(clinic, "s3:AbortMultipartUpload", role="MailFunctionRole")
    assert "/results/*" in json.dumps(allowed_on)
    assert allowed(clinic, "s3:AbortMultipartUpload", role="LettersFunctionRole") == []


def test_a_job_may_nudge_those_that_it_starts_and_they_their_parent(deployed: Deployed) -> None:
    letters = deployed.job(mail(name="letters"), "Letters")
    deployed.job(mail(starts=(letters.job,)), starts=(letters,))
    _, clinic = deployed.templates()
    both = queue_ids(clinic, "MailNormal", "LettersNormal")
    assert both <= named(allowed(clinic, "sqs:SendMessage", role="MailFunctionRole"))
    assert both <= named(allowed(clinic, "sqs:SendMessage", role="LettersFunctionRole"))
    for role in ("MailFunctionRole", "LettersFunctionRole"):
        assert len(allowed(clinic, "ssm:GetParameter", role=role)) == 2


def test_a_job_may_nudge_the_children_of_its_children_that_it_cancels(deployed: Deployed) -> None:
    (Path(deployed.app.node.get_context(ROOT_CONTEXT)) / "lambdas" / "stamps").mkdir()
    stamps = deployed.job(mail(name="stamps"), "Stamps")
    letters = deployed.job(mail(name="letters", starts=(stamps.job,)), "Letters", starts=(stamps,))
    deployed.job(mail(starts=(letters.job,)), starts=(letters,))
    _, clinic = deployed.templates()
    may = named(allowed(clinic, "sqs:SendMessage", role="MailFunctionRole"))
    assert queue_ids(clinic, "StampsNormal", "LettersNormal") <= may


@pytest.mark.parametrize(
    ("declared", "given", "says"),
    [(True, False, "it starts 'letters'"), (False, True, "`starts` has 'letters'")],
)
def test_a_type_and_its_construct_start_the_same_jobs(
    deployed: Deployed, declared: bool, given: bool, says: str
) -> None:
    letters = deployed.job(mail(name="letters"), "Letters")
    with pytest.raises(UnusableJobType, match=f"Clinic/Mail: job type 'mail': {says}"):
        deployed.job(mail(starts=(letters.job,) if declared else ()), starts=(letters,) if given else ())


def test_every_route_of_the_api_asks_for_a_signature(deployed: Deployed) -> None:
    platform, _ = deployed.templates()
    routes = of_type(platform, "AWS::ApiGatewayV2::Route").values()
    assert {"POST /jobs", "GET /jobs/{id}", "POST /jobs/bulk", "GET /job-types"} <= {
        each["RouteKey"] for each in routes
    }
    assert {each["AuthorizationType"] for each in routes} == {"AWS_IAM"}


def test_the_api_logs_its_calls_and_never_outlives_its_caller(deployed: Deployed) -> None:
    platform, _ = deployed.templates()
    [stage] = of_type(platform, "AWS::ApiGatewayV2::Stage").values()
    assert {"status", "routeKey"} <= json.loads(stage["AccessLogSettings"]["Format"]).keys()
    assert functions(platform, "JobsApi")["Timeout"] < 30


def test_the_table_finds_jobs_by_due_time_and_by_type_and_forgets_ended_ones(deployed: Deployed) -> None:
    platform, _ = deployed.templates()
    [table] = of_type(platform, "AWS::DynamoDB::Table").values()
    keys = {
        index["IndexName"]: [key["AttributeName"] for key in index["KeySchema"]]
        for index in table["GlobalSecondaryIndexes"]
    }
    assert keys == {"due": ["due_shard", "due_at"], "types": ["type_shard", "listed"]}
    kinds = {each["AttributeName"]: each["AttributeType"] for each in table["AttributeDefinitions"]}
    assert kinds["due_at"] == "N"
    assert table["TimeToLiveSpecification"] == {"AttributeName": "expires", "Enabled": True}


def test_the_sweeper_is_called_each_minute_and_never_twice_at_once(deployed: Deployed) -> None:
    platform, _ = deployed.templates()
    [schedule] = of_type(platform, "AWS::Scheduler::Schedule").values()
    assert schedule["ScheduleExpression"] == "rate(1 minute)"
    assert functions(platform, "JobsTimekeeper")["Timeout"] == 50


def test_a_sweeper_that_does_not_run_fails_or_misses_jobs_sets_off_an_alarm(deployed: Deployed) -> None:
    platform, _ = deployed.templates()
    alarms = {each["MetricName"]: each for each in of_type(platform, "AWS::CloudWatch::Alarm").values()}
    assert alarms["Invocations"]["ComparisonOperator"] == "LessThanThreshold"
    assert alarms["Invocations"]["InsufficientDataActions"] == alarms["Errors"]["AlarmActions"]
    assert alarms["Errors"]["TreatMissingData"] == "notBreaching"
    [unaccounted] = of_type(platform, "AWS::Logs::MetricFilter").values()
    [transformation] = unaccounted["MetricTransformations"]
    # A moment's difference is the index that follows the table; only one that stays is an alarm.
    assert alarms[transformation["MetricName"]]["Statistic"] == "Minimum"
    assert alarms[transformation["MetricName"]]["Namespace"] == transformation["MetricNamespace"]


def test_files_are_kept_as_long_as_the_longest_retention_of_a_type(tmp_path: Path) -> None:
    archive = mail(name="archive", retention=Retention(failed=timedelta(days=400)))
    platform, _ = Deployed(tmp_path, archive).templates()
    [bucket] = [body for name, body in of_type(platform, "AWS::S3::Bucket").items() if name.startswith("JobsFiles")]
    rules = bucket["LifecycleConfiguration"]["Rules"]
    kept = {rule["Prefix"]: rule["ExpirationInDays"] for rule in rules if "ExpirationInDays" in rule}
    assert kept["results/"] >= 400
    assert kept["uploads/"] >= 400


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"timeout": timedelta(minutes=40)}, "timeout of 40 minutes: Lambda runs for 15 at the most: make it durable"),
        ({"timeout": timedelta(0)}, "timeout of 0 s: Lambda runs for 1 s at the least"),
        ({"memory_mb": 64}, "memory_mb of 64: Lambda has 128 to 10240"),
        ({"memory_mb": 10_241}, "memory_mb of 10241: Lambda has 128 to 10240"),
        (
            {"schedule": Schedule(cron="0 2 * * *", timezone="Europe/Londn", input=Mail())},
            "schedule: there is no time zone 'Europe/Londn': use an IANA name, such as Europe/London",
        ),
        (
            {"schedule": Schedule(cron="0 25 * * *", timezone="Europe/London", input=Mail())},
            "schedule: cron '0 25 * * *': Bad hour: the fields are minute, hour, day of month, month, day of week",
        ),
        (
            {"schedule": Schedule(cron="0 0 30 2 *", timezone="Europe/London", input=Mail())},
            "schedule: cron '0 0 30 2 *': Bad day-of-month: the fields are",
        ),
        (
            {"schedule": Schedule(cron="0 2 * *", timezone="Europe/London", input=Mail())},
            "schedule: cron '0 2 * *': it has five fields: minute, hour, day of month, month, day of week",
        ),
    ],
)
def test_what_lambda_or_the_calendar_cannot_hold_is_refused_in_one_line_with_the_fix(
    deployed: Deployed, settings: dict[str, Any], says: str
) -> None:
    with pytest.raises(UnusableJobType) as refused:
        deployed.job(mail(**settings))
    message = str(refused.value)
    assert message.startswith("Clinic/Mail: job type 'mail': ")
    assert says in message
    assert "\n" not in message


def test_a_type_that_the_service_would_not_know_is_refused(deployed: Deployed) -> None:
    unknown = dataclasses.replace(mail(), name="postcards")
    with pytest.raises(UnusableJobType, match=r"is not in the catalogue.*the jobs of app\.catalogue"):
        BackgroundJob(deployed.clinic, "Mail", source="mail", job=unknown, service=deployed.service)


@pytest.fixture
def released(tmp_path: Path) -> Path:
    """What is written down of released versions' steps."""
    file = tmp_path / "schemas/jobs/steps.json"
    file.parent.mkdir(parents=True)
    file.write_text('{"mail": {"1": ["write", "send-*"]}}')
    return file


def test_a_second_function_for_a_type_is_refused_with_the_one_that_runs_it(deployed: Deployed) -> None:
    deployed.job(mail())
    with pytest.raises(UnusableJobType, match=r"^Clinic/Letters: job type 'mail': Clinic/Mail runs it already"):
        deployed.job(mail(), "Letters")


def test_an_app_without_job_types_keeps_files_as_long_as_a_type_that_says_nothing(tmp_path: Path) -> None:
    def days(*jobs: JobType[Any, Any]) -> list[int]:
        platform, _ = Deployed(tmp_path / str(len(jobs)), *jobs).templates()
        rules = [
            rule
            for bucket in of_type(platform, "AWS::S3::Bucket").values()
            for rule in bucket["LifecycleConfiguration"]["Rules"]
        ]
        return [rule["ExpirationInDays"] for rule in rules if rule.get("Prefix") == "results/"]

    assert days() == days(mail()) == [97]


@pytest.mark.usefixtures("released")
def test_a_durable_types_queues_begin_executions_of_a_version_of_its_function(deployed: Deployed) -> None:
    deployed.job(mail(durable=True, timeout=timedelta(hours=3), steps=("write", "send-*")))
    _, clinic = deployed.templates()
    function = functions(clinic, "MailFunction")
    assert function["DurableConfig"] == {"ExecutionTimeout": 3 * 3600}
    assert function["Timeout"] == 15 * 60
    [version] = of_type(clinic, "AWS::Lambda::Version")
    assert clinic["Resources"][version]["DeletionPolicy"] == "Retain"
    starter = functions(clinic, "MailStarter")
    assert starter["Environment"]["Variables"]["OFFLOAD_FUNCTION"] == {"Ref": version}
    [mapping] = mappings(clinic)
    assert "MailStarter" in json.dumps(mapping["FunctionName"])
    assert allowed(clinic, "lambda:InvokeFunction", role="MailStarterRole") == [{"Ref": version}]
    assert allowed(clinic, "lambda:CheckpointDurableExecution", role="MailFunctionRole")
    # An answer comes by the API; the sweeper asks after executions, and stops them.
    assert allowed(clinic, "lambda:SendDurableExecutionCallbackSuccess", role="JobsApiRole")
    assert not allowed(clinic, "lambda:SendDurableExecutionCallbackSuccess", role="JobsTimekeeperRole")
    assert allowed(clinic, "lambda:StopDurableExecution", role="JobsTimekeeperRole")
    assert not allowed(clinic, "lambda:StopDurableExecution", role="JobsApiRole")
    for role in ("JobsApiRole", "JobsTimekeeperRole"):
        assert not allowed(clinic, "lambda:InvokeFunction", role=role)


@pytest.mark.parametrize(
    ("version", "steps", "says"),
    [
        (1, ("write", "post-*"), "step 2, 'send-*' is now 'post-*', and version 1 is released"),
        (1, ("send-*", "write"), "step 1, 'write' is now 'send-*', and version 1 is released"),
        (1, ("write",), "step 2, 'send-*' is gone, and version 1 is released"),
        (1, ("write", "send-*", "count"), "step 3, 'count' is new, and version 1 is released"),
        (2, ("write", "post-*"), "steps: version 2 is not in schemas/jobs/steps.json: run `make schemas`"),
    ],
)
@pytest.mark.usefixtures("released")
def test_a_change_of_released_steps_is_refused_with_the_step_and_the_way_out(
    deployed: Deployed, version: int, steps: tuple[str, ...], says: str
) -> None:
    with pytest.raises(UnusableJobType, match=re.escape(says)) as refused:
        deployed.job(mail(durable=True, version=version, steps=steps))
    assert "\n" not in str(refused.value)
    if version == 1:
        assert "give the type version=2 and run `make schemas`" in str(refused.value)


def test_released_steps_are_added_to_and_never_changed(released: Path) -> None:
    changed = mail(durable=True, steps=("write", "post-*"))
    newer = mail(durable=True, steps=("write", "post-*"), version=2)
    assert job_steps.write([changed], released) == []
    assert job_steps.write([changed, newer], released) == ["mail version 2"]
    assert json.loads(released.read_text()) == {"mail": {"1": ["write", "send-*"], "2": ["write", "post-*"]}}
